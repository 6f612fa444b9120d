"""A camera that moves: no background to hold on to."""

import numpy as np

from edge.config import ZoneSection
from edge.records import DepthMap, Frame, Scene, ZoneScene
from edge.scene.alignment import can_see, spread
from edge.scene.regions import Zones

_BLIND = "the picture shows no depth: is the lens covered, or is it dark?"


class MovingScene:
    """A camera that moves: only what one frame says of itself."""

    def __init__(self, zones: tuple[ZoneSection, ...]) -> None:
        self._zones = Zones(zones)

    def update(self, depth: DepthMap) -> Scene:
        """Return how far each zone stands out: (p95(zone) - median(frame)) / (p90(frame) - p10(frame))."""
        d = depth.inverse_depth.astype(np.float64)
        masks = self._zones.masks(d.shape)
        ends = spread(d, 10, 90) if can_see(depth.frame.pixels) else None
        if ends is None:
            nothing = tuple(ZoneScene(name=name) for name in masks)
            return Scene(depth=depth, state="moving", quality=0.0, reason=_BLIND, zones=nothing)
        middle = float(np.median(d))
        zones = tuple(
            ZoneScene(name=name, prominence=(float(np.percentile(d[mask], 95)) - middle) / (ends[1] - ends[0]))
            for name, mask in masks.items()
        )
        return Scene(depth=depth, state="moving", quality=1.0, zones=zones)

    def rest(self, frame: Frame) -> Scene | None:
        """Return null: on what moves, nothing may rest that was true before."""
        return None
