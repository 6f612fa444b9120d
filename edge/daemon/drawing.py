"""The heatmap of the newest reading, drawn when somebody gets it and not before; once for all who do."""

import math
import threading
import time

from edge.config import HeatmapSection
from edge.daemon.health import StageTimes
from edge.daemon.skips import Skips
from edge.publish import heatmap
from edge.records import Reading, Scene


class Drawing:
    """Draws in whatever thread asks for it, the newest reading that was left here."""

    def __init__(self, section: HeatmapSection, times: StageTimes) -> None:
        self._times = times
        self._skips = Skips()
        self._section = section
        self._reading: Reading | None = None
        # Guards the two that follow, and is held while drawing: who asks meanwhile gets the same picture.
        self._lock = threading.Lock()
        self._drawn: tuple[Scene, HeatmapSection, int, bytes | None] | None = None  # None: it can't be drawn
        self._drawn_at = -math.inf

    def configure(self, section: HeatmapSection) -> None:
        """Draw from now on as this section says."""
        self._section = section

    def offer(self, reading: Reading | None) -> None:
        """Leave the newest reading; null: what there was is not to be drawn any more."""
        self._reading = reading

    def forget(self) -> None:
        """Keep nothing of what was left or drawn here so far."""
        with self._lock:
            self._reading = self._drawn = None

    def newest(self) -> tuple[int, bytes] | None:
        """Return the heatmap's sequence number and JPEG, not older than `heatmap.interval`; null before the first."""
        with self._lock:
            if self._drawn is None or self._drawn[1] != self._section or self._is_due():
                self._draw()
            return self._picture()

    def draw(self) -> tuple[int, bytes] | None:
        """Return the heatmap of the newest reading itself; null before the first."""
        with self._lock:
            self._draw()
            return self._picture()

    def _picture(self) -> tuple[int, bytes] | None:
        if self._drawn is None or not self._section.enabled:
            return None
        _, _, sequence, jpeg = self._drawn
        return None if jpeg is None else (sequence, jpeg)

    def _is_due(self) -> bool:
        return time.monotonic() >= self._drawn_at + self._section.interval

    def _draw(self) -> None:
        reading, section = self._reading, self._section
        if reading is None or not section.enabled:
            return
        self._drawn_at = time.monotonic()
        if self._drawn and self._drawn[1] == section and _look_alike(self._drawn[0], reading.scene, section):
            return
        jpeg = None
        with self._skips.attempt("heatmap"), self._times.timed("heatmap"):
            picture = heatmap.render(reading.scene, heatmap.fitted(section, reading.frame))
            jpeg = heatmap.encode_jpeg(picture, section.quality)
        self._drawn = reading.scene, section, reading.frame.sequence, jpeg


def _look_alike(drawn: Scene, scene: Scene, section: HeatmapSection) -> bool:
    """Return whether two scenes have one heatmap: the same depth, and no camera's picture under it."""
    return (
        not section.overlay
        and scene.aligned is drawn.aligned
        and scene.depth.inverse_depth is drawn.depth.inverse_depth
    )
