"""The scores by which depth is judged: relative inverse depth against true distance.

A network's output has an unknown scale and shift, so each picture is fitted first: least squares in inverse depth over
the pixels with a known truth (Ranftl et al., arXiv 1907.01341, section 5).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.records import Floats

_DELTA1 = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One picture's score: `delta1` is the share of pixels with max(Z/Zgt, Zgt/Z) < 1.25, `abs_rel` mean |Z-Zgt|/Zgt.

    `failed` says that near and far are exchanged, the fitted scale not being positive; its delta1 is 0.
    """

    delta1: float
    abs_rel: float
    failed: bool


def score(inverse_depth: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Score:
    """Return the score of a map, (h, w), against true inverse depth of the same shape; 0 in `truth` is unknown.

    Raises:
        ValueError: the shapes differ, or no pixel has a known truth.
    """
    if inverse_depth.shape != truth.shape:
        raise ValueError(f"shapes differ: {inverse_depth.shape} and {truth.shape}")
    known = truth > 0
    if not known.any():
        raise ValueError("no pixel has a known truth")
    target = truth[known].astype(np.float64)
    columns = np.stack([inverse_depth[known].astype(np.float64), np.ones(target.size)], axis=1)
    (scale, shift), *_ = np.linalg.lstsq(columns, target, rcond=None)
    fitted = np.clip(columns @ (scale, shift), target.min(), target.max())
    ratio = np.maximum(target / fitted, fitted / target)
    return Score(
        delta1=float(np.mean(ratio < _DELTA1)) if scale > 0 else 0.0,
        abs_rel=float(np.mean(np.abs(target / fitted - 1))),
        failed=bool(scale <= 0),
    )


def vertical_ramp(shape: tuple[int, int]) -> Floats:
    """Return what a guesser without eyes would say, float32 (h, w): the lower, the nearer."""
    height, width = shape
    return np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, axis=1)
