"""How often something may happen that somebody outside can cause: commands, and lines in the log."""

import logging
import threading
import time
from collections import Counter

_BURST_LINES, _LINES_PER_SECOND = 20, 1 / 60


class RateLimit:
    """So many at once, and so many a second in the long run (a token bucket)."""

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._at: float | None = None

    def takes(self, now: float) -> bool:
        """Return whether one more is allowed `now`, in monotonic seconds; if so it counts."""
        elapsed = 0.0 if self._at is None else now - self._at
        self._at = now
        self._left = min(self._burst, self._left + elapsed * self._per_second)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def exhausted(self) -> bool:
        """Whether one more at the moment of the last one would be too many."""
        return self._left < 1


class LineLimit(logging.Filter):
    """Lets twenty lines of a kind through at once and then one a minute, which says how many were left out.

    To be added to a handler. A kind is a place in the code: whoever causes lines can't cause kinds. So no message,
    stream or visitor fills a disk with the log, not by a line that nobody thought of either.
    """

    def __init__(self, burst: int = _BURST_LINES, per_second: float = _LINES_PER_SECOND) -> None:
        super().__init__()
        self._burst = burst
        self._per_second = per_second
        # Guards the two that follow: every thread logs.
        self._lock = threading.Lock()
        self._limits: dict[tuple[str, int], RateLimit] = {}
        self._left_out: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written, with a word on those that are not."""
        kind = record.pathname, record.lineno
        with self._lock:
            limit = self._limits.setdefault(kind, RateLimit(self._burst, self._per_second))
            if not limit.takes(time.monotonic()):
                self._left_out[kind] += 1
                return False
            left_out = self._left_out.pop(kind, 0)
            words = [f"{left_out} more like it were left out"] if left_out else []
            if limit.exhausted:
                words.append(f"of more like it one in {1 / self._per_second:.0f} s is told")
        if words:
            record.msg, record.args = f"{record.getMessage()} [{'; '.join(words)}]", None
        return True
