"""What a source of pictures offers, and what the sources share."""

import threading
from collections.abc import Callable
from typing import Protocol

from edge.errors import CameraError
from edge.records import Bytes

# For what has no time-out of its own: bringing up libcamera and its sensor modes takes several seconds on a Zero 2 W.
OPEN_SECONDS = 30.0
CLOSE_SECONDS = 5.0


# Of attempts in a row, where only a new process can help: enough for what frees itself after all.
MAX_FAILED_OPENS = 3


class EndOfCamera(CameraError):
    """No frame will come any more, and that is no loss: a recording is at its end, or the camera was interrupted."""


class Source(Protocol):
    """Pictures as they come, before they are turned, masked and numbered.

    A seam: it exists so that all of them are mounted in one place. `grab` is called only between a successful `open`
    and the `close` that follows it; a failed `open` cleans up after itself.
    """

    @property
    def max_failed_opens(self) -> int | None:
        """After how many failed attempts to open it only a new process can help; None: it can be tried for ever."""

    def open(self) -> None:
        """Open the device and wait, for a bounded time, until it delivers; raise CameraError when it does not."""

    def grab(self) -> tuple[Bytes, float]:
        """Return the next picture, uint8 (H, W, 3) as R, G, B in writable memory of its own, and its monotonic time.

        Raises:
            CameraStalled: there was none in time.
            EndOfCamera: there will be none any more.
            CameraError: there will be none until the source is opened again.
        """

    def interrupt(self) -> None:
        """End whatever `open` and `grab` wait for, now and from now on; they raise EndOfCamera. From any thread."""

    def close(self) -> None:
        """Give the device back within a bounded time; never raise."""


class Call(threading.Thread):
    """A call into foreign code, on a daemon thread of its own, since it may never return."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - the top of a thread; whoever started it raises the error
            self.error = error


class Throttle:
    """Picks the frames of a faster stream that are due, `fps` a second on average.

    It allows for one interval of jitter, so that a stream of just `fps` frames a second passes whole.
    """

    _TOLERANCE_SECONDS = 0.001  # time stamps are rounded: 199.9 ms is due at 200 ms

    def __init__(self, fps: float) -> None:
        self._interval = 1 / fps
        self._next: float | None = None

    def due(self, now: float) -> bool:
        """Return whether a frame of time `now`, in seconds, is due; the times that are asked for must not decrease."""
        if self._next is None:
            self._next = now
        if now < self._next - self._TOLERANCE_SECONDS:
            return False
        self._next = max(self._next, now - self._interval) + self._interval
        return True
