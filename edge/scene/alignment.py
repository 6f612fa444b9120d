"""Putting a frame on the reference: robust regression, invariant under the scale and shift that the network chose."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.records import Bytes, Mask
from edge.scene.order import byte_percentiles, median, percentile

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

SIGMA_FLOOR = 0.005  # of the gauge: no pixel is trusted to be quieter
MAD = 1.4826  # from the median absolute deviation to a standard deviation of the normal distribution
GOOD_RESIDUAL = 0.25  # of the gauge: an alignment that misses by this much is worth nothing
_GOOD_SUPPORT = 0.5  # the share of the background that has to agree for full quality
_SAMPLES = 1000  # pixels that vote on the alignment
_START_SAMPLES = 300  # of these, how many judge a robust start
_START_PAIRS = 150  # candidate lines; with 60 % of the pixels outliers, 1 - 0.84**150 of the starts hold a clean pair
_START_KEEP = 0.4  # least trimmed squares: so many, those that fit best, decide; the rest may be people
_TUKEY = 4.685  # 95 % efficiency at the normal distribution (Huber, Robust Statistics, 1981)
_ITERATIONS = 8
_QUARTER = 0.3186  # a quarter of a normal distribution lies within so many standard deviations
_LEAST_CONTRAST = 8  # grey levels of 255 between the darkest and the brightest hundredth: below it nothing is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A frame on the reference: d = scale * r + shift; `residual` in the reference's gauge, `quality` 0..1."""

    scale: float
    shift: float
    residual: float
    quality: float


def can_see(pixels: Bytes) -> bool:
    """Return whether a picture, uint8 (H, W, 3), holds anything: a dark, covered or blinded camera's does not.

    The network answers such a picture with a depth map all the same, always the same one.
    """
    height, width = pixels.shape[:2]
    low, high = byte_percentiles(pixels[:: max(1, height // 48), :: max(1, width // 64)], 1, 99)
    return high - low >= _LEAST_CONTRAST


def spread(inverse_depth: npt.NDArray[Any], low: float = 2.0, high: float = 98.0) -> tuple[float, float] | None:
    """Return two percentiles of a map, or null where they are one within float precision: the map is flat."""
    bottom, top = np.percentile(inverse_depth, (low, high)).tolist()
    level = float(np.abs(inverse_depth).max())
    return (bottom, top) if top - bottom > 1e-5 * level else None


def gauge(values: npt.NDArray[Any]) -> Doubles | None:
    """Return the map rescaled so that its 2nd and 98th percentiles are 0 and 1, float64, or null where it is flat."""
    ends = spread(values)
    return None if ends is None else (values.astype(np.float64) - ends[0]) / (ends[1] - ends[0])


def align(depth: npt.NDArray[Any], reference: npt.NDArray[Any], background: Mask) -> Alignment | None:
    """Regress a frame on the reference over the background, robustly; null where no line with a scale > 0 fits.

    `depth` and `reference` are (h, w), `background` bool (h, w). This way round because the frame is the noisy one:
    regressing the reference on the frame would shrink the scale. A robust start (least trimmed squares over pairs of
    pixels) and then Tukey's biweight leave out what came nearer as well as what went away.
    """
    chosen = _chosen(background)
    if chosen.size < _START_SAMPLES:
        return None
    r = reference.ravel()[chosen].astype(np.float64)
    d = depth.ravel()[chosen].astype(np.float64)
    line = _start(r[:_START_SAMPLES], d[:_START_SAMPLES])
    if line is None:
        return None
    scale, shift, weights = _refine(r, d, *line)
    if scale <= 0:
        return None
    errors = np.abs((d - shift) / scale - r)
    residual = MAD * median(errors[weights > 0])
    support = float(np.mean(errors < max(3 * residual, 3 * SIGMA_FLOOR)))
    quality = max(0.0, 1 - residual / GOOD_RESIDUAL) * min(1.0, support / _GOOD_SUPPORT)
    return Alignment(scale=scale, shift=shift, residual=residual, quality=quality)


@lru_cache(maxsize=2)
def _shuffled(size: int) -> Integers:
    """Return the pixels of a map in an order that is random, and the same for every frame."""
    return np.random.default_rng(0).permutation(size)


@lru_cache(maxsize=1)
def _pairs() -> tuple[Integers, Integers]:
    first, second = np.random.default_rng(1).integers(0, _START_SAMPLES, (2, _START_PAIRS))
    return first, second


def _chosen(background: Mask) -> Integers:
    """Return up to 1000 pixels of the background, spread over all of it."""
    flat, order = background.ravel(), _shuffled(background.size)
    few = order[: 4 * _SAMPLES]
    chosen = few[flat[few]][:_SAMPLES]
    return chosen if chosen.size == _SAMPLES else order[flat[order]][:_SAMPLES]


def _start(r: Doubles, d: Doubles) -> tuple[float, float] | None:
    """Return the line through two of the points that fits the best half of all, or null."""
    first, second = _pairs()
    apart = np.abs(r[first] - r[second]) > 0.1
    first, second = first[apart], second[apart]
    scales = (d[first] - d[second]) / (r[first] - r[second])
    shifts = d[first] - scales * r[first]
    scales, shifts = scales[scales > 0], shifts[scales > 0]
    if not scales.size:
        return None
    # Measured in the gauge: in d, a flat line through someone who stands in front of most of the view would win.
    squares = d[None, :] - shifts[:, None]
    squares /= scales[:, None]
    squares -= r[None, :]
    squares *= squares
    keep = int(_START_KEEP * r.size)
    squares.partition(keep, axis=1)
    best = int(np.argmin(squares[:, :keep].sum(axis=1)))
    return float(scales[best]), float(shifts[best])


def _deviation(errors: Doubles, weights: Doubles, scale: float) -> float:
    """Return the standard deviation of the errors of what is background: at first of the best quarter, then of all."""
    trusted = np.abs(errors[weights > 0])
    found = MAD * median(trusted) if trusted.size else percentile(np.abs(errors), 25) / _QUARTER
    return max(found, SIGMA_FLOOR * scale)


def _refine(r: Doubles, d: Doubles, scale: float, shift: float) -> tuple[float, float, Doubles]:
    """Return scale, shift and weights after iteratively reweighted least squares with Tukey's biweight."""
    weights = np.zeros_like(r)
    for _ in range(_ITERATIONS):
        errors = d - scale * r - shift
        errors /= _TUKEY * _deviation(errors, weights, scale)
        weights = np.maximum(1 - errors * errors, 0)
        weights *= weights
        total = weights.sum()
        r_mean, d_mean = (weights @ r) / total, (weights @ d) / total
        variance = weights @ (r - r_mean) ** 2
        if variance <= 1e-6 * total:  # what is left has no depth of its own: the line is not determined
            return 0.0, shift, weights
        before = scale
        scale = float(weights @ ((r - r_mean) * (d - d_mean)) / variance)
        shift = float(d_mean - scale * r_mean)
        if scale <= 0 or abs(scale - before) < 1e-4 * before:
            break
    return scale, shift, weights
