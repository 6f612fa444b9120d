"""The learned background."""

from dataclasses import dataclass

import numpy as np

from edge.records import Floats
from edge.scene.alignment import GOOD_RESIDUAL, MAD, SIGMA_FLOOR, Doubles, align, spread

LEARN_FRAMES = (8, 60)  # fewest to learn from; most to keep in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The learned background: `median` and `sigma`, float64 (h, w), in a gauge whose p2 is 0 and p98 is 1."""

    median: Doubles
    sigma: Doubles
    learned_at: float


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
        if len(aligned) < max(LEARN_FRAMES[0], len(frames) // 2):
            return None
        target = np.median(aligned, axis=0)
    bottom, top = np.percentile(target, (2, 98))
    if top - bottom < 0.5:  # started as 1: what the frames have in common is no scene
        return None
    sigma = MAD * np.median(np.abs(np.asarray(aligned) - target), axis=0) / (top - bottom)
    if float(np.median(sigma)) > GOOD_RESIDUAL:
        return None
    return Reference(median=(target - bottom) / (top - bottom), sigma=np.maximum(sigma, SIGMA_FLOOR), learned_at=now)


def _gauge(values: Doubles) -> Doubles | None:
    """Return the map rescaled so that its 2nd and 98th percentiles are 0 and 1, or null where it is flat."""
    ends = spread(values)
    return None if ends is None else (values - ends[0]) / (ends[1] - ends[0])
