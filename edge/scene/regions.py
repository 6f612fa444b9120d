"""What stands out in front of the background: regions, their zones, their motion."""

import math
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import ZoneSection
from edge.records import Box, Mask, Polygon, Region, ZoneScene
from edge.scene.alignment import MAD, Doubles
from edge.scene.order import median, percentile

Labels = npt.NDArray[np.int32]

_KEEP_AREA = 0.5  # a region that is being followed may shrink to this share of the smallest area before it is gone
_SLOPE_SECONDS, _SLOPE_FRAMES = 1.0, 5  # a motion is measured over one second or five frames, whichever is longer
_HISTORY = 64
_SURFACE_SAMPLES = 8000  # more than that make a percentile slower, not steadier
_PLACES = 300
_SURE = 2.0  # standard errors that a slope must differ from 0


class Zones:
    """The zones as masks at network size, made once for each size."""

    def __init__(self, zones: tuple[ZoneSection, ...]) -> None:
        self._zones = zones
        self._masks: dict[tuple[int, ...], dict[str, Mask]] = {}

    def masks(self, shape: tuple[int, ...]) -> dict[str, Mask]:
        """Return {name: bool (h, w)}; a zone smaller than a pixel keeps the pixel that it lies in."""
        if shape not in self._masks:
            self._masks = {shape: {zone.name: polygon_mask(zone.polygon, shape) for zone in self._zones}}
        return self._masks[shape]


def polygon_mask(polygon: Polygon, shape: tuple[int, ...]) -> Mask:
    """Return the pixels, bool (h, w), that a polygon in fractions of the frame covers or touches."""
    height, width = shape
    corners = np.clip(np.array(polygon) * (width, height) - 0.5, 0, (width - 1, height - 1))
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)


@dataclass(slots=True, kw_only=True)
class Blob:
    """A connected piece of foreground: `mask` bool (bottom - top, right - left) within `window`, in pixels."""

    mask: Mask
    window: tuple[slice, slice]
    area: int
    track: int = 0

    def box(self, shape: tuple[int, ...]) -> Box:
        """Return left, top, right, bottom in fractions of the frame."""
        rows, columns = self.window
        height, width = shape
        return columns.start / width, rows.start / height, columns.stop / width, rows.stop / height

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the values, (n,), of a map under the blob."""
        found: npt.NDArray[Any] = values[self.window][self.mask]
        return found

    def inner(self) -> "Blob":
        """Return the blob without its rim, where depths are blurred; itself where it is all rim."""
        padded = np.zeros((self.mask.shape[0] + 2, self.mask.shape[1] + 2), np.uint8)
        padded[1:-1, 1:-1] = self.mask
        inner = cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
        area = int(np.count_nonzero(inner))
        return Blob(mask=inner, window=self.window, area=area, track=self.track) if area else self

    def places(self, shape: tuple[int, ...]) -> tuple[Doubles, Doubles]:
        """Return x and y, (n,), in fractions of the frame, of up to some hundred pixels spread over the blob."""
        rows, columns = np.nonzero(self.mask)
        step = max(1, rows.size // _PLACES)
        x = (columns[::step] + self.window[1].start + 0.5) / shape[1]
        y = (rows[::step] + self.window[0].start + 0.5) / shape[0]
        return x, y


class Tracker:
    """Finds the pieces of foreground and keeps their identity from frame to frame, by overlap."""

    def __init__(self, min_area: float) -> None:
        self._min_area = min_area
        self._labels: Labels | None = None
        self._next = 1
        self._tracks: dict[int, Track] = {}

    def find(self, near: Mask) -> list[Blob]:
        """Return the pieces of `near`, bool (h, w), that are large enough, with the tracks that they belong to."""
        left, top, width, height = cv2.boundingRect(near.view(np.uint8))
        # with a rim where there is one, and from an even pixel on: labels are given by blocks of 2 x 2
        left, top, right, bottom = max(0, left - 2) & ~1, max(0, top - 2) & ~1, left + width + 1, top + height + 1
        part = near[top:bottom, left:right].view(np.uint8)
        opened = cv2.morphologyEx(part, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
        least = self._min_area * near.size
        blobs = [
            _blob(np.asarray(labels, np.int32), stats[label], label, (left, top))
            for label in range(1, count)
            if stats[label, cv2.CC_STAT_AREA] >= _KEEP_AREA * least
        ]
        self._follow(blobs)
        blobs = [blob for blob in blobs if blob.track or blob.area >= least]
        for blob in blobs:
            if not blob.track:
                blob.track, self._next = self._next, self._next + 1
        self._remember(blobs, near.shape)
        return blobs

    def forget(self) -> None:
        """Let every region begin anew."""
        self._labels, self._tracks = None, {}

    def track(self, blob: Blob) -> "Track":
        """Return the past of a blob that was found in this frame."""
        return self._tracks[blob.track]

    @property
    def steady(self) -> bool:
        """Whether every region has been there for a while and neither comes nor goes."""
        return all(track.steady for track in self._tracks.values())

    def rest(self, now: float) -> None:
        """Let time go on until `now`: this frame shows what the one before did."""
        for track in self._tracks.values():
            track.seen.append((now, track.seen[-1][1]))

    def _follow(self, blobs: list[Blob]) -> None:
        """Give each blob the track with which it shares most pixels, the largest shares first."""
        if self._labels is None:
            return
        shares = [
            (int(share), int(track), i)
            for i, blob in enumerate(blobs)
            for track, share in zip(*np.unique(blob.of(self._labels), return_counts=True), strict=True)
            if track
        ]
        taken: set[int] = set()
        for _, track, i in sorted(shares, reverse=True):
            if track not in taken and not blobs[i].track:
                blobs[i].track = track
                taken.add(track)

    def _remember(self, blobs: list[Blob], shape: tuple[int, ...]) -> None:
        self._tracks = {blob.track: self._tracks.get(blob.track) or Track() for blob in blobs}
        self._labels = np.zeros(shape, np.int32)
        for blob in blobs:
            self._labels[blob.window][blob.mask] = blob.track


def _blob(labels: Labels, stats: npt.NDArray[np.int32], label: int, corner: tuple[int, int]) -> Blob:
    """Return a piece of a part of the map, `labels`, whose left top is at `corner`, x and y."""
    x, y, width, height, area = stats.tolist()
    left, top = corner[0] + x, corner[1] + y
    window = slice(top, top + height), slice(left, left + width)
    return Blob(mask=labels[y : y + height, x : x + width] == label, window=window, area=area)


@lru_cache(maxsize=_HISTORY)
def _pairs(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first and the second of all pairs of so many."""
    first, second = np.triu_indices(count, 1)
    return first, second


@dataclass(slots=True)
class Track:
    """The past of one region: when it was seen and at which q.

    `steady` says whether there is enough of it to see a motion in, and none is.
    """

    seen: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    steady: bool = False

    def motion(self, now: float) -> tuple[float, float] | None:
        """Return `slope` of what has been seen until `now`, and note whether the region is steady."""
        slope = self.slope(now)
        self.steady = slope is None and len(self.seen) >= _SLOPE_FRAMES
        return slope

    def slope(self, now: float) -> tuple[float, float] | None:
        """Return dq/dt in 1/s over the last second or five frames, and the q that it holds for: that of their middle.

        The slope is the median of all pairs' (Theil, 1950; Sen, 1968); null below its own error.
        """
        recent = [entry for entry in self.seen if entry[0] >= now - _SLOPE_SECONDS]
        if len(recent) < _SLOPE_FRAMES:
            recent = list(self.seen)[-_SLOPE_FRAMES:]
        if len(recent) < _SLOPE_FRAMES:
            return None
        t, q = np.array(recent).T
        i, j = _pairs(t.size)
        slope = median((q[j] - q[i]) / np.maximum(t[j] - t[i], 1e-6))
        errors = q - slope * t
        deviation = MAD * median(np.abs(errors - median(errors)))
        standard_error = deviation / max(1e-9, float(np.sqrt(((t - t.mean()) ** 2).sum())))
        return (slope, median(q)) if abs(slope) > _SURE * standard_error else None


def zone_scene(name: str, mask: Mask, q: Doubles, foreground: Mask, regions: tuple[Region, ...]) -> ZoneScene:
    """Return the readings of a zone, `mask` bool (h, w), from q and the foreground of the same shape."""
    nearest = max((region for region in regions if name in region.zones), key=lambda r: r.nearness, default=None)
    return ZoneScene(
        name=name,
        occupied=nearest is not None,
        nearness=nearest.nearness if nearest else None,
        distance_m=nearest.distance_m if nearest else None,
        coverage=float(np.count_nonzero(foreground[mask]) / np.count_nonzero(mask)),
        surface=surface(q[mask]),
    )


def surface(values: Doubles) -> float:
    """Return the 99th percentile of values, (n,): the nearest surface, whatever single pixels say."""
    thinned = values[:: max(1, values.size // _SURFACE_SAMPLES)]
    return percentile(thinned, 99)


def bearing(x: float, fov_deg: float | None) -> float | None:
    """Return degrees right of the optical axis of a pinhole camera at `x`, a fraction of the frame's width."""
    if fov_deg is None:
        return None
    return math.degrees(math.atan((2 * x - 1) * math.tan(math.radians(fov_deg / 2))))
