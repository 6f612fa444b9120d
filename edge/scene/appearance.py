"""How the background looks: where the picture is as it was, nothing has come nearer, whatever the network says.

The network judges a picture as a whole: somebody who comes in moves its depth of walls that are as they were. A change
of the picture alone means little (light, a shadow, a leaf), so this never says that something is there; it only takes
back what depth says of places that look as ever. Where the picture can't tell, since the light jumped or the place was
never seen empty, depth alone decides.
"""

import cv2
import numpy as np

from edge.records import Floats, Mask
from edge.scene.alignment import MAD

_CELL = 4  # network pixels: noise and compression average out, an arm still fills some
_LEAST_STEP = 6.0  # grey levels of 255, in the light that the background was learned in
_NOISE_FACTOR = 4.0
_MOST_NOISE = 4.0  # grey levels; more than that is no noise but another light
_JUMP_SECONDS = 2.0  # of another light, until the view is learned anew in it
_DARK = 4.0  # grey levels; what is darker, as under a privacy mask, says nothing of the light
_BLACK = 1.0  # grey level that is added to all: the ratio of two that are nearly black says little
_FEWEST = 0.2  # of the cells: fewer say nothing of gain and noise
_SAMPLES = 500  # cells that vote on gain and noise
_FORGET_SECONDS = 600.0  # of a cell that looks otherwise with nothing in front of it: a lamp, a chair that was moved


class Appearance:
    """The mean colour of each cell of the empty view, as far as it has been seen; kept in memory only.

    A picture is freed of exposure and white balance before it is compared, by one gain a channel. What depth calls near
    is never taken over, however long it stays.
    """

    def __init__(self) -> None:
        self._mean = np.zeros((0, 0, 3), np.float32)
        self._count = np.zeros((0, 0), np.float32)
        self._changed_seconds = np.zeros((0, 0), np.float32)
        self._jumped_seconds = 0.0

    def changed(self, picture: Floats, near: Mask) -> Mask:
        """Return where a picture, float32 (h, w, 3) in 0..255, differs from the empty view, bool (h, w).

        `near`, bool (h, w), is what depth says has come nearer: light and noise are measured on the rest.
        """
        cells = _cells(picture)
        compared = self._compare(cells, ~_touched(near, cells))
        if compared is None:
            return np.ones(near.shape, bool)
        # one cell alone is an edge that trembles, and a shirt that looks like the wall behind it makes no holes
        differs = cv2.morphologyEx(compared[1].view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        differs = cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        return np.asarray(cv2.resize(differs, near.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0)

    def follow(self, picture: Floats, near: Mask, seconds: float, adapt_seconds: float) -> None:
        """Take over the cells with nothing near in them, `seconds` after the last time."""
        cells = _cells(picture)
        if self._mean.shape != cells.shape:
            self._mean = cells
            self._count, self._changed_seconds = np.zeros((2, *cells.shape[:2]), np.float32)
        free = ~_touched(near, cells)
        compared = self._compare(cells, free)
        if compared is None and self._knows_enough():
            return  # too little is free to tell the light by
        seen, differs = compared or (cells, np.zeros(free.shape, bool))
        self._jumped_seconds = self._jumped_seconds + seconds if differs.all() else 0.0
        if self._jumped_seconds > _JUMP_SECONDS:
            self._count[:] = 0
        stays = free & differs & (self._count > 0)
        self._changed_seconds = np.where(stays, self._changed_seconds + np.float32(seconds), 0)
        forgotten = self._changed_seconds > _FORGET_SECONDS
        self._count[forgotten] = 0
        follows = free & (~stays | forgotten)
        self._count[follows] += 1
        share = np.maximum(1 / np.maximum(self._count, 1), np.float32(min(1.0, seconds / adapt_seconds)))
        self._mean += np.where(follows, share, 0)[..., None] * (seen - self._mean)

    def _knows_enough(self) -> bool:
        return bool(np.count_nonzero(self._count) >= _FEWEST * self._count.size)

    def _compare(self, cells: Floats, free: Mask) -> tuple[Floats, Mask] | None:
        """Return the cells in the light of the empty view, and which differ or were never seen; null if it can't tell.

        The gain is the median over the free cells that are known and not black.
        """
        known = self._count > 0
        if self._mean.shape != cells.shape:
            return None
        some = np.flatnonzero(known & free & (self._mean.max(axis=-1) > _DARK))
        if some.size < _FEWEST * known.size:
            return None
        some = some[:: max(1, some.size // _SAMPLES)]
        now, before = (each.reshape(-1, 3)[some] for each in (cells, self._mean))
        gain = np.median(now / before, axis=0)
        noise = MAD * np.median(np.abs(now / gain - before), axis=0)
        seen = cells / gain
        if noise.max() > _MOST_NOISE:
            return seen, np.ones(known.shape, bool)
        differs = np.abs(seen - self._mean) > np.maximum(_LEAST_STEP, _NOISE_FACTOR * noise)
        return seen, differs[..., 0] | differs[..., 1] | differs[..., 2] | ~known


def _cells(picture: Floats) -> Floats:
    height, width = picture.shape[:2]
    size = max(1, width // _CELL), max(1, height // _CELL)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA) + np.float32(_BLACK))


def _touched(near: Mask, cells: Floats) -> Mask:
    """Return the cells, bool, that hold any pixel of a mask."""
    size = cells.shape[1], cells.shape[0]
    return np.asarray(cv2.resize(near.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0)
