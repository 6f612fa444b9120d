"""From relative inverse depth to a stable scene: alignment, background, regions, metres.

The network's inverse depth d has a scale and a shift that change from frame to frame (Ranftl et al., arXiv 1907.01341).
A camera that stands still has a yardstick: its background. Every frame is regressed on the learned reference r,
d = scale * r + shift, over what was background before, and q = (d - shift) / scale is comparable from frame to frame.
Every result is therefore invariant under d -> a*d + b with a > 0. What is nearer in q counts where the picture has
changed too.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from edge.config import CalibrationSection, SceneSection, ZoneSection
from edge.records import DepthMap, Frame, Scene
from edge.scene.moving import MovingScene
from edge.scene.still import StillScene

__all__ = ["MovingScene", "SceneModel", "StillScene", "make_scene"]


class SceneModel(Protocol):
    """What turns depth maps into scenes: with a still camera by its background, with a moving one frame by frame."""

    def update(self, depth: DepthMap) -> Scene:
        """Return the scene of the next frame."""

    def rest(self, frame: Frame) -> Scene | None:
        """Return the last scene again, for a next frame that shows the same; null where that one must be looked at."""


def make_scene(
    section: SceneSection,
    zones: tuple[ZoneSection, ...],
    calibration: CalibrationSection | None = None,
    saved: Mapping[str, Any] | None = None,
) -> SceneModel:
    """Return the scene model that the configuration asks for."""
    return MovingScene(zones) if section.mode == "moving" else StillScene(section, zones, calibration, saved)
