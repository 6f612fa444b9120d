"""The learned background, and how it follows slow changes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import cv2
import numpy as np

from edge.config import SceneSection
from edge.records import Floats, Mask
from edge.scene.alignment import GOOD_RESIDUAL, MAD, SIGMA_FLOOR, Alignment, Doubles, align, gauge
from edge.scene.appearance import Appearance

LEARN_FRAMES = (8, 60)  # fewest to learn from; most to keep in memory
_LEAST_QUALITY = 0.3  # of a frame that is learned from
_ANCHOR_SECONDS = 30.0
_FOLLOW_SECONDS = 0.4  # slow things need not be followed with every frame of a fast camera
_LONGEST_STEP_SECONDS = 2.0  # a gap between frames is not time that the view was seen for


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A background as it was learned: it sets the gauge, p2 = 0 and p98 = 1, and metres are fitted to it.

    `median` and `sigma` are float64 (h, w); `weights` names the weights that saw it.
    """

    median: Doubles
    sigma: Doubles
    learned_at: datetime
    weights: str


def learn(frames: list[Floats], learned_at: datetime, weights: str) -> Reference | None:
    """Return the reference of frames, float32 (h, w) each, or null where they show nothing to learn.

    The frames are aligned to the first, then to the median of all, twice; the median forgets who walks through.
    """
    target: Doubles | None = frames[0].astype(np.float64)
    for _ in range(3):
        target = None if target is None else gauge(target)
        if target is None:
            return None
        aligned = _aligned(frames, target)
        if len(aligned) < max(LEARN_FRAMES[0], len(frames) // 2):
            return None
        target = np.median(aligned, axis=0)
    assert target is not None
    bottom, top = np.percentile(target, (2, 98))
    if top - bottom < 0.5:  # started as 1: what the frames have in common is no scene
        return None
    sigma = MAD * np.median(np.abs(np.asarray(aligned) - target), axis=0) / (top - bottom)
    if float(np.median(sigma)) > GOOD_RESIDUAL:
        return None
    return Reference(
        median=(target - bottom) / (top - bottom),
        sigma=np.maximum(sigma, SIGMA_FLOOR),
        learned_at=learned_at,
        weights=weights,
    )


def _aligned(frames: list[Floats], target: Doubles) -> list[Doubles]:
    everywhere = np.ones(target.shape, bool)
    fits = [(frame, align(frame, target, everywhere)) for frame in frames]
    return [
        (frame.astype(np.float64) - fit.shift) / fit.scale
        for frame, fit in fits
        if fit and fit.quality >= _LEAST_QUALITY
    ]


class Background:
    """A reference in use: frames are aligned with it, and it follows what changes slowly or stays.

    The gauge stays that of the reference as it was learned: what follows is put back on it again and again, by the
    same robust regression, so that neither noise nor an absorbed object moves the metres.
    """

    def __init__(self, reference: Reference, section: SceneSection, counted: Mask) -> None:
        self.reference = reference
        self._section = section
        self._counted = counted
        self._median = reference.median.copy()
        self._variance = reference.sigma**2
        self._step = self._noise_step()
        self._unchanged = counted
        self._changed_seconds = np.zeros(counted.shape, np.float32)
        self._candidate = reference.median.copy()
        self._anchor_seconds = 0.0
        self._unfollowed_seconds = self._rested_seconds = 0.0
        self._followed: tuple[Doubles, Mask, Floats | None] | None = None
        self._appearance = Appearance()

    @property
    def sigma(self) -> Doubles:
        """The noise of each pixel now, float64 (h, w), in the gauge."""
        return np.sqrt(self._variance)

    def sigma_of(self, part: Callable[[Doubles], Doubles]) -> Doubles:
        """Return the noise of a part of the pixels, (n,), in the gauge."""
        return np.sqrt(part(self._variance))

    def fit(self, depth: Floats) -> Alignment | None:
        """Return the frame's line on what was background before, or null; on everything where too little was."""
        enough = np.count_nonzero(self._unchanged) >= 0.1 * self._unchanged.size
        return align(depth, self._median, self._unchanged if enough else self._counted)

    def stands_out(self, q: Doubles, picture: Floats | None) -> Mask:
        """Return where q, float64 (h, w), is nearer than the background by more than noise and the smallest step.

        Where the picture, float32 (h, w, 3), is as it was, nothing is, whatever q says.
        """
        near = (q - self._median > self._step) & self._counted
        if picture is not None and near.any():
            near &= self._appearance.changed(picture, near)
        return near

    def rest(self, seconds: float) -> None:
        """Count the `seconds` since the frame before: the next one shows what that did, and need not be seen."""
        self._rested_seconds += min(seconds, _LONGEST_STEP_SECONDS)

    def catch_up(self) -> None:
        """Take over the frame that was rested on for all of that time, as if it had been seen again and again."""
        if self._rested_seconds and self._followed:
            seconds, self._rested_seconds = self._rested_seconds, 0.0
            self._unfollowed_seconds += seconds
            self._take_over(*self._followed)

    def follow(self, q: Doubles, foreground: Mask, picture: Floats | None, seconds: float) -> None:
        """Take over a frame, `seconds` after the one before: follow the background, absorb what has stayed.

        Neither the foreground and its blurred edges nor what lies farther than before (an opened door) is followed.
        """
        self._followed = q, foreground, picture
        self._unfollowed_seconds += min(seconds, _LONGEST_STEP_SECONDS)
        self._take_over(*self._followed)

    def _take_over(self, q: Doubles, foreground: Mask, picture: Floats | None) -> None:
        near = cv2.dilate(foreground.view(np.uint8), np.ones((7, 7), np.uint8)) > 0
        self._unchanged = ~near & self._counted
        seconds = self._unfollowed_seconds
        if seconds < _FOLLOW_SECONDS:
            return
        self._unfollowed_seconds = 0.0
        if picture is not None:
            self._appearance.follow(picture, near, seconds, self._section.adapt_seconds)
        error = q - self._median
        changed = near | (np.abs(error) > self._step)
        rate = min(1.0, seconds / self._section.adapt_seconds)
        error[changed] = 0
        self._median += rate * error
        self._variance += rate * np.where(changed, 0, error**2 - self._variance)
        self._absorb(q, changed, seconds)
        self._anchor(seconds)

    def _absorb(self, q: Doubles, changed: Mask, seconds: float) -> None:
        """Make background of what has been changed for `absorb_seconds`; a flicker only delays it."""
        after = self._section.absorb_seconds
        if not after:
            return
        fresh = changed & (self._changed_seconds == 0)
        self._candidate[fresh] = q[fresh]
        self._candidate += min(1.0, 5 * seconds / after) * np.where(changed, q - self._candidate, 0)
        self._changed_seconds += np.where(changed, np.float32(seconds), np.float32(-3 * seconds))
        np.maximum(self._changed_seconds, 0, out=self._changed_seconds)
        due = self._changed_seconds >= after
        if due.any():
            self._median[due] = self._candidate[due]
            self._changed_seconds[due] = 0

    def _anchor(self, seconds: float) -> None:
        self._anchor_seconds += seconds
        if self._anchor_seconds < _ANCHOR_SECONDS:
            return
        self._anchor_seconds = 0.0
        self._variance = np.maximum(self._variance, SIGMA_FLOOR**2)
        self._step = self._noise_step()
        fit = align(self._median, self.reference.median, self._unchanged)
        if fit is not None and fit.quality >= _LEAST_QUALITY:
            self._median = (self._median - fit.shift) / fit.scale

    def _noise_step(self) -> Doubles:
        return np.maximum(self._section.noise_factor * np.sqrt(self._variance), self._section.min_step)

    def saved(self) -> dict[str, Any]:
        """Return what has to be kept for the next start, as plain values and arrays."""
        return {
            "learned": self.reference.median.astype(np.float32),
            "sigma": self.sigma.astype(np.float32),
            "median": self._median.astype(np.float32),
            "learned_at": self.reference.learned_at.isoformat(),
            "weights": self.reference.weights,
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any], section: SceneSection, counted: Mask) -> "Background | None":
        """Return the background that `saved` holds, or null where that is not one of this picture's shape."""
        try:
            arrays = [np.asarray(saved[name], np.float64) for name in ("learned", "sigma", "median")]
            learned_at = datetime.fromisoformat(str(saved["learned_at"]))
            weights = str(saved["weights"])
        except (KeyError, ValueError, TypeError):
            return None
        if any(array.shape != counted.shape or not np.isfinite(array).all() for array in arrays):
            return None
        if (
            learned_at.tzinfo is None
            or float(arrays[1].min()) <= 0
            or not math.isclose(_p98(arrays[0]), 1, abs_tol=0.01)
        ):
            return None
        reference = Reference(median=arrays[0], sigma=arrays[1], learned_at=learned_at, weights=weights)
        background = cls(reference, section, counted)
        background._median = arrays[2]
        return background


def _p98(values: Doubles) -> float:
    return float(np.percentile(values, 98))
