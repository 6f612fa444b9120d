"""Whether a frame shows anything that the network has not seen: a small grey picture against the last one it saw."""

import cv2
import numpy as np

from edge.config import GateSection
from edge.records import Bytes, Frame

_SIZE = (32, 24)  # cells of 20 x 20 px in 640 x 480: a figure at 8 m covers some, noise averages out in each


class ChangeGate:
    """Compares frames with the last one that the network saw, cell by cell, so that what changes slowly adds up.

    The largest change of any cell decides, not the mean: somebody far away changes few. One cell alone has to stay
    changed for a second frame, since an error of a camera's compression looks like that and is gone with the next.
    """

    def __init__(self, section: GateSection) -> None:
        self._section = section
        self._seen: tuple[Frame, Bytes] | None = None
        self._asked: tuple[Frame, Bytes] | None = None
        self._alone: int | None = None

    def is_still(self, frame: Frame) -> bool:
        """Return whether a frame shows what the network last saw, and that was no longer ago than it may be."""
        if not self._section.max_skip_seconds:
            return False
        thumbnail = _thumbnail(frame.pixels)
        self._asked = frame, thumbnail
        if self._seen is None or self._seen[0].pixels.shape != frame.pixels.shape:
            return False
        if frame.captured_at - self._seen[0].captured_at > self._section.max_skip_seconds:
            return False
        return not self._changed(thumbnail, self._seen[1])

    def saw(self) -> None:
        """Note that the network sees the frame that was asked about last."""
        self._seen, self._alone = self._asked, None

    def forget(self) -> None:
        """Let the network see the next frame, whatever it shows."""
        self._seen = None

    def _changed(self, thumbnail: Bytes, seen: Bytes) -> bool:
        cells = np.flatnonzero(cv2.absdiff(thumbnail, seen) > self._section.threshold)
        before, self._alone = self._alone, int(cells[0]) if cells.size == 1 else None
        return cells.size > 1 or (cells.size == 1 and self._alone == before)


def _thumbnail(pixels: Bytes) -> Bytes:
    """Return a picture, uint8 (H, W, 3), as the mean luma of each cell, uint8 (24, 32)."""
    return np.asarray(cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _SIZE, interpolation=cv2.INTER_AREA))
