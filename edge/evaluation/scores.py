"""The scores by which depth is judged: pictures against true distance, and the scene's readings against a sequence's.

A network's output has an unknown scale and shift, so each picture is fitted first: least squares in inverse depth over
the pixels with a known truth (Ranftl et al., arXiv 1907.01341, section 5).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import TriggerSection
from edge.records import Box, Floats
from edge.scene.metres import Lens

_DELTA1 = 1.25
_LEAST_DELTA1 = 0.99
_MOST_RESIDUAL = 0.02
_FLAT = 1e-6  # a range that is a smaller part of the level is none in float32
_RANGE_METRES = (0.5, 4.0)  # where distance errors count
_SLACK_FRAMES = 2  # a trigger may come so many frames after its delay


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
    scale, shift = fit(inverse_depth, truth)
    target = truth[known].astype(np.float64)
    fitted = np.clip(scale * inverse_depth[known].astype(np.float64) + shift, target.min(), target.max())
    ratio = np.maximum(target / fitted, fitted / target)
    return Score(
        delta1=float(np.mean(ratio < _DELTA1)) if scale > 0 else 0.0,
        abs_rel=float(np.mean(np.abs(target / fitted - 1))),
        failed=bool(scale <= 0),
    )


def fit(inverse_depth: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the scale and the shift that take a map nearest to the truth: least squares where the truth is known.

    Raises:
        ValueError: no pixel has a known truth.
    """
    known = truth > 0
    if not known.any():
        raise ValueError("no pixel has a known truth")
    target = truth[known].astype(np.float64)
    columns = np.stack([inverse_depth[known].astype(np.float64), np.ones(target.size)], axis=1)
    (scale, shift), *_ = np.linalg.lstsq(columns, target, rcond=None)
    return float(scale), float(shift)


def vertical_ramp(shape: tuple[int, int]) -> Floats:
    """Return what a guesser without eyes would say, float32 (h, w): the lower, the nearer."""
    height, width = shape
    return np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an engine says the same as the plain network in float32, where there is no truth.

    `residual` is the 95th percentile of the difference, in parts of each picture's range; `delta1` the share of pixels
    whose distance would be the same to 25 %.
    """

    delta1: float
    residual: float

    @property
    def accepted(self) -> bool:
        """Whether it is good enough to be used: delta1 at least 0.99, the residual 2 % at most."""
        return self.delta1 >= _LEAST_DELTA1 and self.residual <= _MOST_RESIDUAL


def agreement(outputs: Sequence[Floats], references: Sequence[Floats]) -> Agreement:
    """Compare an engine's outputs, (h, w) each, with what the plain network says of the same pictures.

    Each is fitted to its reference by scale and shift first. Distances need a gauge that relative depth does not have:
    the reference's 2nd percentile counts as ten times as far as its 98th, and everything farther as just as far.

    Raises:
        ValueError: there is no picture.
    """
    ratios, residuals = [], []
    for output, reference in zip(outputs, references, strict=True):
        columns = np.stack([output.ravel().astype(np.float64), np.ones(output.size)], axis=1)
        target = reference.ravel().astype(np.float64)
        coefficients, *_ = np.linalg.lstsq(columns, target, rcond=None)
        fitted = columns @ coefficients
        far, near = np.percentile(target, (2, 98))
        least = _FLAT * float(np.abs(target).max()) + float(np.finfo(np.float32).tiny)
        span = max(near - far, least)
        residuals.append(np.abs(fitted - target) / max(np.ptp(target), least))
        a, b = (np.maximum((each - far) / span, 0) + 1 / 9 for each in (fitted, target))
        ratios.append(np.maximum(a / b, b / a))
    return Agreement(
        delta1=float(np.mean(np.concatenate(ratios) < _DELTA1)),
        residual=float(np.percentile(np.concatenate(residuals), 95)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueRegion:
    """The figure that is truly nearest in one frame.

    `metres` is the median distance along the ray over what is seen of it, `nearest_m` its 5th percentile; `box` is
    left, top, right, bottom and `area` a share, both in fractions of the frame.
    """

    metres: float
    nearest_m: float
    box: Box
    area: float


def true_nearest(figures: Floats, lens: Lens, min_area: float) -> TrueRegion | None:
    """Return the nearest of the connected figures, or null where none covers `min_area` of the frame.

    `figures` is (h, w): metres along the optical axis where a figure is seen, 0 elsewhere. As with the scene's regions,
    figures that touch in the picture are one, and the nearest is the one with the nearest 5th percentile.
    """
    height, width = figures.shape
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    metres = figures * lens.stretch(x, y)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((figures > 0).astype(np.uint8), connectivity=8)
    found = []
    for label in range(1, count):
        left, top, across, down, area = (int(value) for value in stats[label])
        if area < min_area * figures.size:
            continue
        nearest, middle = np.percentile(metres[labels == label], (5, 50)).tolist()
        box = (left / width, top / height, (left + across) / width, (top + down) / height)
        found.append(TrueRegion(metres=middle, nearest_m=nearest, box=box, area=area / figures.size))
    return min(found, key=lambda region: region.nearest_m, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One frame of a sequence: what was read of it, and what is true.

    `read_m` and `true_m` are the distance of the nearest region and of the nearest figure along the ray, null where
    there is none; `empty` says that no part of any figure is in the picture (a figure may be too small to count).
    `surface` is the nearest surface in the reading's own gauge and `on` the trigger's state. `error_m` is the standard
    deviation that `read_m` was told with, null where none was.
    """

    read_m: float | None
    true_m: float | None
    empty: bool
    surface: float | None
    on: bool | None = None
    error_m: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceScore:
    """How well distances are read: relative errors over the frames whose true distance is 0.5..4 m.

    `unread` counts those of these frames that had no reading, `phantoms` the empty frames that had one. `within` is the
    share of readings that are off by no more than they were told to be. Null where nothing was read, or told.
    """

    frames: int
    unread: int
    phantoms: int
    median: float | None
    p95: float | None
    within: float | None


def score_distances(frames: Sequence[Compared]) -> DistanceScore:
    """Score the distances that were read of a sequence."""
    low, high = _RANGE_METRES
    due = [(each, each.true_m) for each in frames if each.true_m is not None and low <= each.true_m <= high]
    read = [(abs(each.read_m - true), true, each.error_m) for each, true in due if each.read_m is not None]
    errors = [off / true for off, true, _ in read]
    told = [off <= error for off, _, error in read if error is not None]
    median, p95 = np.percentile(errors, (50, 95)).tolist() if errors else (None, None)
    return DistanceScore(
        frames=len(due),
        unread=len(due) - len(errors),
        phantoms=sum(each.empty and each.read_m is not None for each in frames),
        median=median,
        p95=p95,
        within=float(np.mean(told)) if told else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerScore:
    """How a trigger did: `due` times it had to come on, of which it `missed` so many; `false` times it came unasked."""

    due: int
    missed: int
    false: int


def score_trigger(frames: Sequence[Compared], section: TriggerSection, fps: float) -> TriggerScore:
    """Score a trigger in metres.

    It is due when the true distance is below `near` for `on_delay` and two frames more, and has to be on by then; an
    approach that is shorter may go either way. It is false when it comes on with nothing nearer than `clear`, then and
    in the two frames before.
    """
    near = [each.true_m is not None and each.true_m < section.near for each in frames]
    away = [each.true_m is None or each.true_m >= section.clear_level for each in frames]
    wait = math.ceil(section.on_delay * fps) + _SLACK_FRAMES
    begins = [i for i in range(len(near)) if near[i] and not (i and near[i - 1])]
    due = [i + wait for i in begins if i + wait < len(near) and all(near[i : i + wait])]
    comes = [i for i in range(len(near)) if frames[i].on and not (i and frames[i - 1].on)]
    return TriggerScore(
        due=len(due),
        missed=sum(not any(each.on for each in frames[i - wait : i + 1]) for i in due),
        false=sum(all(away[max(0, i - _SLACK_FRAMES) : i + 1]) for i in comes),
    )


def jitter(frames: Sequence[Compared]) -> float | None:
    """Return standard deviation / mean of `surface` over the empty frames; null for fewer than two."""
    surfaces = [each.surface for each in frames if each.empty and each.surface is not None]
    return float(np.std(surfaces) / np.mean(surfaces)) if len(surfaces) > 1 else None
