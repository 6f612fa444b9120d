"""Putting a frame on the reference: robust regression, invariant under the scale and shift that the network chose."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.records import Mask

Doubles = npt.NDArray[np.float64]

SIGMA_FLOOR = 0.005  # of the gauge: no pixel is trusted to be quieter
MAD = 1.4826  # from the median absolute deviation to a standard deviation of the normal distribution
GOOD_RESIDUAL = 0.25  # of the gauge: an alignment that misses by this much is worth nothing
_GOOD_SUPPORT = 0.5  # the share of the background that has to agree for full quality
_SAMPLES = 1000  # pixels that vote on the alignment
_START_SAMPLES = 300  # of these, how many judge a robust start
_START_PAIRS = 200  # candidate lines; with half the pixels outliers, 1 - 0.75**200 of the starts hold a clean pair
_START_KEEP = 0.5  # least trimmed squares: the half that fits best decides
_TUKEY = 4.685  # 95 % efficiency at the normal distribution (Huber, Robust Statistics, 1981)
_ITERATIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A frame on the reference: d = scale * r + shift; `residual` in the reference's gauge, `quality` 0..1."""

    scale: float
    shift: float
    residual: float
    quality: float


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
    residual = float(MAD * np.median(errors[kept]))
    support = float(np.mean(errors < max(3 * residual, 3 * SIGMA_FLOOR)))
    quality = max(0.0, 1 - residual / GOOD_RESIDUAL) * min(1.0, support / _GOOD_SUPPORT)
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
        deviation = max(MAD * float(np.median(np.abs(errors))), SIGMA_FLOOR * scale)
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
