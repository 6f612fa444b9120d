"""What stands out in front of the background, and the zones that it stands in."""

import math

import cv2
import numpy as np

from edge.config import ZoneSection
from edge.records import Mask, Region, ZoneScene
from edge.scene.alignment import Doubles


class Zones:
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


def zone_scene(name: str, mask: Mask, q: Doubles, foreground: Mask, regions: tuple[Region, ...]) -> ZoneScene:
    """Return the readings of a zone, `mask` bool (h, w), from q and the foreground of the same shape."""
    touching = [region.nearness for region in regions if name in region.zones]
    return ZoneScene(
        name=name,
        occupied=bool(touching),
        nearness=max(touching, default=None),
        coverage=float(foreground[mask].mean()),
        surface=float(np.percentile(q[mask], 99)),
    )


def bearing(x: float, fov_deg: float | None) -> float | None:
    """Return degrees right of the optical axis of a pinhole camera at `x`, a fraction of the frame's width."""
    if fov_deg is None:
        return None
    return math.degrees(math.atan((2 * x - 1) * math.tan(math.radians(fov_deg / 2))))
