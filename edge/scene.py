"""From relative inverse depth to a stable scene: alignment, background, regions.

The network's inverse depth d has a scale and a shift that change from frame to frame (Ranftl et al., arXiv 1907.01341).
A camera that stands still has a yardstick: its background. Every frame is regressed on the learned reference r,
d = scale * r + shift, over what was background before, and q = (d - shift) / scale is comparable from frame to frame.
Every result is therefore invariant under d -> a*d + b with a > 0.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import SceneSection, ZoneSection
from edge.records import DepthMap, Floats, Mask, Region, Scene, ZoneScene

logger = logging.getLogger(__name__)

Doubles = npt.NDArray[np.float64]

_SAMPLES = 1000  # pixels that vote on the alignment
_START_SAMPLES = 300  # of these, how many judge a robust start
_START_PAIRS = 200  # candidate lines; with half the pixels outliers, 1 - 0.75**200 of the starts hold a clean pair
_START_KEEP = 0.5  # least trimmed squares: the half that fits best decides
_TUKEY = 4.685  # 95 % efficiency at the normal distribution (Huber, Robust Statistics, 1981)
_ITERATIONS = 8
_MAD = 1.4826  # from the median absolute deviation to a standard deviation of the normal distribution
_SIGMA_FLOOR = 0.005  # of the gauge: no pixel is trusted to be quieter
_LEARN_FRAMES = (8, 60)  # fewest to learn from; most to keep in memory
_HOLD_SECONDS = 3.0  # a passing disturbance (a flash, a bus) is not yet a lost scene
_GOOD_RESIDUAL = 0.25  # of the gauge: an alignment that misses by this much is worth nothing
_GOOD_SUPPORT = 0.5  # the share of the background that has to agree for full quality


class SceneModel(Protocol):
    """What turns depth maps into scenes: with a still camera by its background, with a moving one frame by frame."""

    def update(self, depth: DepthMap) -> Scene:
        """Return the scene of the next frame."""


def make_scene(section: SceneSection, zones: tuple[ZoneSection, ...]) -> SceneModel:
    """Return the scene model that the configuration asks for."""
    return MovingScene(zones) if section.mode == "moving" else StillScene(section, zones)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A frame on the reference: d = scale * r + shift; `residual` in the reference's gauge, `quality` 0..1."""

    scale: float
    shift: float
    residual: float
    quality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The learned background: `median` and `sigma`, float64 (h, w), in a gauge whose p2 is 0 and p98 is 1."""

    median: Doubles
    sigma: Doubles
    learned_at: float


def spread(inverse_depth: npt.NDArray[Any], low: float = 2.0, high: float = 98.0) -> tuple[float, float] | None:
    """Return two percentiles of a map, or null where they are one within float precision: the map is flat."""
    bottom, top = np.percentile(inverse_depth, (low, high)).tolist()
    level = float(np.abs(inverse_depth).max())
    return (bottom, top) if top - bottom > 1e-5 * level else None


def align(depth: npt.NDArray[Any], reference: Doubles, background: Mask) -> Alignment | None:
    """Regress a frame on the reference over the background, robustly; null where no line with a scale > 0 fits.

    `depth` is (h, w), `reference` float64 (h, w), `background` bool (h, w). This way round because the frame is the
    noisy one: regressing the reference on the frame would shrink the scale. A robust start (least trimmed squares over
    pairs of pixels) and then Tukey's biweight leave out what came nearer as well as what went away.
    """
    chosen = np.flatnonzero(background)
    if chosen.size < _START_SAMPLES:
        return None
    generator = np.random.default_rng(0)  # the same pixels for every frame of one background: repeatable
    chosen = generator.choice(chosen, min(_SAMPLES, chosen.size), replace=False)
    r = reference.ravel()[chosen]
    d = depth.ravel()[chosen].astype(np.float64)
    line = _start(r[:_START_SAMPLES], d[:_START_SAMPLES], generator)
    if line is None:
        return None
    scale, shift, weights = _refine(r, d, *line)
    if scale <= 0:
        return None
    kept = weights > 0
    errors = np.abs((d - shift) / scale - r)
    residual = float(_MAD * np.median(errors[kept]))
    support = float(np.mean(errors < max(3 * residual, 3 * _SIGMA_FLOOR)))
    quality = max(0.0, 1 - residual / _GOOD_RESIDUAL) * min(1.0, support / _GOOD_SUPPORT)
    return Alignment(scale=scale, shift=shift, residual=residual, quality=quality)


def _start(r: Doubles, d: Doubles, generator: np.random.Generator) -> tuple[float, float] | None:
    """Return the line through two of the points that fits the best half of all, or null."""
    first, second = generator.integers(0, r.size, (2, _START_PAIRS))
    apart = np.abs(r[first] - r[second]) > 0.1
    first, second = first[apart], second[apart]
    if not first.size:
        return None
    scales = (d[first] - d[second]) / (r[first] - r[second])
    shifts = d[first] - scales * r[first]
    scales, shifts = scales[scales > 0], shifts[scales > 0]
    if not scales.size:
        return None
    squares = (d[None, :] - scales[:, None] * r[None, :] - shifts[:, None]) ** 2
    keep = int(_START_KEEP * r.size)
    best = int(np.argmin(np.partition(squares, keep, axis=1)[:, :keep].sum(axis=1)))
    return float(scales[best]), float(shifts[best])


def _refine(r: Doubles, d: Doubles, scale: float, shift: float) -> tuple[float, float, Doubles]:
    """Return scale, shift and weights after iteratively reweighted least squares with Tukey's biweight."""
    weights = np.ones_like(r)
    for _ in range(_ITERATIONS):
        errors = d - scale * r - shift
        deviation = max(_MAD * float(np.median(np.abs(errors))), _SIGMA_FLOOR * scale)
        weights = np.clip(1 - (errors / (_TUKEY * deviation)) ** 2, 0, None) ** 2
        total = weights.sum()
        r_mean, d_mean = (weights @ r) / total, (weights @ d) / total
        variance = weights @ (r - r_mean) ** 2
        if variance <= 1e-6 * total:  # what is left has no depth of its own: the line is not determined
            return 0.0, shift, weights
        scale = float(weights @ ((r - r_mean) * (d - d_mean)) / variance)
        shift = float(d_mean - scale * r_mean)
        if scale <= 0:
            break
    return scale, shift, weights


def learn(frames: list[Floats], now: float) -> Reference | None:
    """Return the reference of frames, float32 (h, w) each, or null where they show nothing to learn.

    The frames are aligned to the first, then to the median of all, twice; the median forgets who walks through.
    """
    stack = np.stack(frames).astype(np.float64)
    target = stack[0]
    for _ in range(3):
        target = _gauge(target)
        if target is None:
            return None
        fits = [align(frame, target, np.ones(target.shape, bool)) for frame in stack]
        aligned = [(frame - fit.shift) / fit.scale for frame, fit in zip(stack, fits, strict=True) if fit]
        if len(aligned) < max(_LEARN_FRAMES[0], len(frames) // 2):
            return None
        target = np.median(aligned, axis=0)
    bottom, top = np.percentile(target, (2, 98))
    if top - bottom < 0.5:  # started as 1: what the frames have in common is no scene
        return None
    sigma = _MAD * np.median(np.abs(np.asarray(aligned) - target), axis=0) / (top - bottom)
    if float(np.median(sigma)) > _GOOD_RESIDUAL:
        return None
    return Reference(median=(target - bottom) / (top - bottom), sigma=np.maximum(sigma, _SIGMA_FLOOR), learned_at=now)


def _gauge(values: Doubles) -> Doubles | None:
    """Return the map rescaled so that its 2nd and 98th percentiles are 0 and 1, or null where it is flat."""
    ends = spread(values)
    return None if ends is None else (values - ends[0]) / (ends[1] - ends[0])


class _Zones:
    """The zones as masks at network size, made once for each size."""

    def __init__(self, zones: tuple[ZoneSection, ...]) -> None:
        self._zones = zones
        self._masks: dict[tuple[int, ...], dict[str, Mask]] = {}

    def masks(self, shape: tuple[int, ...]) -> dict[str, Mask]:
        """Return {name: bool (h, w)}; a zone smaller than a pixel keeps the pixel that it lies in."""
        if shape not in self._masks:
            self._masks = {shape: {zone.name: _polygon_mask(zone.polygon, shape) for zone in self._zones}}
        return self._masks[shape]


def _polygon_mask(polygon: tuple[tuple[float, float], ...], shape: tuple[int, ...]) -> Mask:
    height, width = shape
    corners = np.array(polygon) * (width, height) - 0.5
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)


class StillScene:
    """A camera that stands still: learns its background, then reads every frame against it."""

    def __init__(self, section: SceneSection, zones: tuple[ZoneSection, ...]) -> None:
        self._section = section
        self._zones = _Zones(zones)
        self._occupied: dict[str, bool | None] = {zone.name: None for zone in zones}
        self._frames: list[Floats] = []
        self._started_at = 0.0
        self._reference: Reference | None = None
        self._background: Mask | None = None
        self._good_at = -math.inf

    def update(self, depth: DepthMap) -> Scene:
        """Return the scene of the next frame: learning, tracking or lost."""
        d = depth.inverse_depth
        if self._reference is not None and self._reference.median.shape != d.shape:
            logger.info("scene: the picture's shape changed to %dx%d; learning anew", d.shape[1], d.shape[0])
            self.relearn()
        if self._reference is None:
            return self._learn(depth)
        return self._track(depth, self._reference)

    def relearn(self) -> None:
        """Forget the background and learn it anew."""
        self._reference = self._background = None
        self._frames = []
        self._occupied = dict.fromkeys(self._occupied)

    def _learn(self, depth: DepthMap) -> Scene:
        d, now = depth.inverse_depth, depth.frame.captured_at
        if spread(d) is None:
            return self._unknown(depth, "learning", "the picture shows no depth: is the lens covered, or is it dark?")
        if not self._frames or self._frames[0].shape != d.shape:
            self._frames, self._started_at = [], now
        self._frames.append(d)
        progress = min(1.0, (now - self._started_at) / self._section.learn_seconds)
        if progress < 1 or len(self._frames) < _LEARN_FRAMES[0]:
            if len(self._frames) > _LEARN_FRAMES[1]:  # keep both ends and thin what lies between
                self._frames = self._frames[::2]
            return self._unknown(depth, "learning", "the background is being learned", progress=progress)
        self._reference = learn(self._frames, now)
        self._frames = []
        if self._reference is None:
            return self._unknown(depth, "learning", "the frames have no common background; learning again")
        logger.info("scene: background learned")
        self._background = np.ones(d.shape, bool)
        self._good_at = now
        return self._track(depth, self._reference)

    def _track(self, depth: DepthMap, reference: Reference) -> Scene:
        now = depth.frame.captured_at
        fit = align(depth.inverse_depth, reference.median, self._trusted(depth.inverse_depth.shape))
        if fit is None or fit.quality < self._section.min_quality:
            return self._disturbed(depth, fit, reference)
        if now - self._good_at >= _HOLD_SECONDS:
            logger.info("scene: background found again")
        self._good_at = now
        q = (depth.inverse_depth.astype(np.float64) - fit.shift) / fit.scale
        labels, count = self._foreground(q, reference)
        masks = self._zones.masks(q.shape)
        regions = tuple(self._region(q, labels == label, masks) for label in range(1, count + 1))
        self._background = cv2.dilate((labels > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        zones = tuple(_zone(name, mask, q, labels > 0, regions) for name, mask in masks.items())
        self._occupied = {zone.name: zone.occupied for zone in zones}
        return Scene(
            depth=depth,
            state="tracking",
            quality=fit.quality,
            aligned=q.astype(np.float32),
            scale=fit.scale,
            shift=fit.shift,
            residual=fit.residual,
            background_age_seconds=now - reference.learned_at,
            surface=float(np.percentile(q, 99)),
            regions=regions,
            zones=zones,
        )

    def _trusted(self, shape: tuple[int, ...]) -> Mask:
        """Return the pixels that were background before; all of them when too few were."""
        if self._background is None or self._background.mean() < 0.1:
            return np.ones(shape, bool)
        return self._background

    def _foreground(self, q: Doubles, reference: Reference) -> tuple[npt.NDArray[np.int32], int]:
        """Return labels, int32 (h, w), 1..n for what stands out in front of the reference, and n."""
        step = np.maximum(self._section.noise_factor * reference.sigma, self._section.min_step)
        near = (q - reference.median > step).astype(np.uint8)
        opened = cv2.morphologyEx(near, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
        large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= self._section.min_area * q.size) + 1
        renumber = np.zeros(count, np.int32)
        renumber[large] = np.arange(1, large.size + 1)
        return renumber[labels], int(large.size)

    def _region(self, q: Doubles, mask: Mask, zones: dict[str, Mask]) -> Region:
        height, width = q.shape
        rows, columns = np.nonzero(mask)
        x, y = (float(columns.mean()) + 0.5) / width, (float(rows.mean()) + 0.5) / height
        return Region(
            nearness=float(np.percentile(q[mask], 95)),
            box=(
                float(columns.min()) / width,
                float(rows.min()) / height,
                float(columns.max() + 1) / width,
                float(rows.max() + 1) / height,
            ),
            centroid=(x, y),
            area=float(mask.mean()),
            zones=tuple(name for name, zone in zones.items() if bool((mask & zone).any())),
            bearing_deg=_bearing(x, self._section.horizontal_fov_deg),
        )

    def _disturbed(self, depth: DepthMap, fit: Alignment | None, reference: Reference) -> Scene:
        """Return the scene of a frame that does not fit: held for a moment, then lost."""
        now = depth.frame.captured_at
        before = now - self._good_at
        quality = fit.quality if fit else 0.0
        age = now - reference.learned_at
        if before < _HOLD_SECONDS:
            reason = "this frame does not fit the background; the last occupancy is held"
            return self._unknown(depth, "tracking", reason, quality=quality, age=age)
        if any(occupied is not None for occupied in self._occupied.values()):
            self._occupied = dict.fromkeys(self._occupied)
        reason = "the background is not to be seen: has the camera been moved, covered, or the light gone out?"
        return self._unknown(depth, "lost", reason, quality=quality, age=age)

    def _unknown(
        self,
        depth: DepthMap,
        state: Any,
        reason: str,
        *,
        quality: float = 0.0,
        progress: float | None = None,
        age: float | None = None,
    ) -> Scene:
        return Scene(
            depth=depth,
            state=state,
            quality=quality,
            reason=reason,
            progress=progress,
            background_age_seconds=age,
            zones=tuple(ZoneScene(name=name, occupied=value) for name, value in self._occupied.items()),
        )


def _zone(name: str, mask: Mask, q: Doubles, foreground: Mask, regions: tuple[Region, ...]) -> ZoneScene:
    touching = [region.nearness for region in regions if name in region.zones]
    return ZoneScene(
        name=name,
        occupied=bool(touching),
        nearness=max(touching, default=None),
        coverage=float(foreground[mask].mean()),
        surface=float(np.percentile(q[mask], 99)),
    )


def _bearing(x: float, fov_deg: float | None) -> float | None:
    """Return degrees right of the optical axis of a pinhole camera at `x`, a fraction of the frame's width."""
    if fov_deg is None:
        return None
    return math.degrees(math.atan((2 * x - 1) * math.tan(math.radians(fov_deg / 2))))


class MovingScene:
    """A camera that moves: no background to hold on to, so only what one frame says of itself."""

    def __init__(self, zones: tuple[ZoneSection, ...]) -> None:
        self._zones = _Zones(zones)

    def update(self, depth: DepthMap) -> Scene:
        """Return how far each zone stands out: (p95(zone) - median(frame)) / (p90(frame) - p10(frame))."""
        d = depth.inverse_depth.astype(np.float64)
        masks = self._zones.masks(d.shape)
        ends = spread(d, 10, 90)
        if ends is None:
            zones = tuple(ZoneScene(name=name) for name in masks)
            reason = "the picture shows no depth: is the lens covered, or is it dark?"
            return Scene(depth=depth, state="moving", quality=0.0, reason=reason, zones=zones)
        middle = float(np.median(d))
        prominences = {
            name: (float(np.percentile(d[mask], 95)) - middle) / (ends[1] - ends[0]) for name, mask in masks.items()
        }
        zones = tuple(ZoneScene(name=name, prominence=value) for name, value in prominences.items())
        return Scene(depth=depth, state="moving", quality=1.0, zones=zones)
