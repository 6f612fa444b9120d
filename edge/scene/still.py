"""A camera that stands still: its background is the yardstick."""

import logging
import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import SceneSection, ZoneSection
from edge.records import DepthMap, Floats, Mask, Region, Scene, ZoneScene
from edge.scene.alignment import Alignment, Doubles, align, spread
from edge.scene.reference import LEARN_FRAMES, Reference, learn
from edge.scene.regions import Zones, bearing, zone_scene

logger = logging.getLogger(__name__)

_HOLD_SECONDS = 3.0  # a passing disturbance (a flash, a bus) is not yet a lost scene


class StillScene:
    """A camera that stands still: learns its background, then reads every frame against it."""

    def __init__(self, section: SceneSection, zones: tuple[ZoneSection, ...]) -> None:
        self._section = section
        self._zones = Zones(zones)
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
        if progress < 1 or len(self._frames) < LEARN_FRAMES[0]:
            if len(self._frames) > LEARN_FRAMES[1]:  # keep both ends and thin what lies between
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
        zones = tuple(zone_scene(name, mask, q, labels > 0, regions) for name, mask in masks.items())
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
            bearing_deg=bearing(x, self._section.horizontal_fov_deg),
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
