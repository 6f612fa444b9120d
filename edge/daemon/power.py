"""How much the network may work: a share of the time, less of it as the machine gets hot; pure.

Time is monotonic seconds.
"""

import logging
import time
from collections.abc import Callable

from edge.config import PowerSection

logger = logging.getLogger(__name__)

_MARGIN_C = 10.0  # below power.max_temperature: from here on the network slows down, in proportion
_LEAST_SHARE = 0.05  # of what is allowed when it is cool: a daemon that stops altogether would look broken
_READ_SECONDS = 2.0  # a processor's temperature does not change faster by much
_THROTTLED, _RECOVERED = 0.5, 0.75  # of what is allowed when it is cool


class Governor:
    """Says how long the network has to rest between two frames. Belongs to the depth thread; others may read.

    `temperature` returns degrees Celsius, or null where the machine does not tell.
    """

    def __init__(
        self,
        section: PowerSection,
        temperature: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._section = section
        self._temperature = temperature
        self._clock = clock
        self._read_at = float("-inf")
        self._share = 1.0
        self._may_work_at = float("-inf")
        self.throttled = False

    @property
    def allowed_duty(self) -> float:
        """The share of the time, 0..1, that the network may work now."""
        return self._section.max_duty * self._share

    def configure(self, section: PowerSection) -> None:
        """Go by other limits from now on."""
        self._section = section
        self._read_at = float("-inf")

    def worked(self, seconds: float) -> None:
        """Note that the network has worked for so long, until now."""
        now = self._clock()
        if now >= self._read_at + _READ_SECONDS:
            self._read_at = now
            self._heed(self._temperature())
        self._may_work_at = now - seconds + seconds / self.allowed_duty

    def rest_seconds(self) -> float:
        """Return how long the network has to rest before its next frame; 0 where it may work at once."""
        return max(0.0, self._may_work_at - self._clock())

    def _heed(self, temperature: float | None) -> None:
        most = self._section.max_temperature
        share = 1.0 if most is None or temperature is None else (most - temperature) / _MARGIN_C
        self._share = min(1.0, max(_LEAST_SHARE, share))
        throttled = self._share < (_RECOVERED if self.throttled else _THROTTLED)
        if throttled and not self.throttled:
            logger.warning(
                "slowed down: %.0f degrees Celsius, and power.max_temperature is %g; give it more air, or a heat sink",
                temperature,
                most,
            )
        elif self.throttled and not throttled:
            logger.info("at full speed again")
        self.throttled = throttled
