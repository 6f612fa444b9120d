"""The values that flow from the camera to the broker: frozen, checked once, at creation.

Data goes one way: Frame -> DepthMap -> Scene -> Reading -> Message.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Polygon = tuple[tuple[float, float], ...]
Box = tuple[float, float, float, float]

SceneState = Literal["learning", "tracking", "lost", "moving"]
CameraStatus = Literal["online", "reconnecting", "offline", "disabled"]
EventType = Literal["near", "clear", "camera_lost", "camera_back", "scene_lost", "throttled"]


def _own(array: npt.NDArray[Any], name: str, dtype: type, ndim: int) -> npt.NDArray[Any]:
    """Return `array` as read-only memory of its own.

    Raises:
        TypeError: the dtype is not `dtype`.
        ValueError: the array has not `ndim` dimensions, or is empty.
    """
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype)}, not {array.dtype}")
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} dimensions and hold something, not shape {array.shape}")
    if not array.flags.owndata:
        array = array.copy()
    array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What distinguishes one network of the MiDaS small family from another.

    `encoder` is timm's name, `features` the decoder's width, `expand` whether that width doubles from level to level.
    """

    encoder: str
    features: int
    expand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture from a camera.

    `pixels` is uint8 (H, W, 3), R, G, B in memory, never a camera's buffer. `captured_at` is in monotonic seconds (for
    every interval), `wall_time` in UTC (for people).

    Raises:
        TypeError, ValueError: `pixels` has another dtype or shape.
    """

    sequence: int
    captured_at: float
    wall_time: datetime
    pixels: Bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _own(self.pixels, "Frame.pixels", np.uint8, 3))
        if self.pixels.shape[2] != 3:
            raise ValueError(f"Frame.pixels must have 3 channels, not {self.pixels.shape[2]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthMap:
    """What the network said of one frame.

    `inverse_depth` is float32 (h, w) at network size: relative inverse depth, larger = nearer, with a scale and a shift
    that are unknown and change from frame to frame. `weights` names the weights that said it; `depth_error` is the
    standard deviation, as a share, of the 1/Z that they give to something in front of a calibrated background, beside
    all else that is uncertain. The network took `inference_seconds`, and what brings a frame into its form
    `preprocess_seconds`. `picture`, float32 (h, w, 3) in 0..255, is the frame as the network saw it; null where none
    looked.

    Raises:
        TypeError, ValueError: an array has another dtype or shape, or holds a value that is not finite.
    """

    frame: Frame
    inverse_depth: Floats
    inference_seconds: float
    weights: str
    depth_error: float = 0.0
    preprocess_seconds: float = 0.0
    picture: Floats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inverse_depth", _own(self.inverse_depth, "DepthMap.inverse_depth", np.float32, 2))
        if self.picture is not None:
            object.__setattr__(self, "picture", _own(self.picture, "DepthMap.picture", np.float32, 3))
        if not np.isfinite(self.inverse_depth).all():
            raise ValueError("DepthMap.inverse_depth holds values that are not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Something that stands nearer than the learned background; not a recognised object.

    `nearness` is in the gauge of the reference (0 = its 2nd, 1 = its 98th percentile; may exceed 1). `box` is left,
    top, right, bottom and `centroid` x, y, in fractions of the frame; `area` is a fraction of the frame. `bearing_deg`
    is right of the optical axis, null without a known field of view. `distance_m` and `uncertainty_m` are null until
    the camera is calibrated; `far` says that the distance is beyond what the calibration may tell, `extrapolated` that
    it is nearer than every calibration point. `track` is the same number for the same region from frame to frame;
    `speed_mps` is the speed of approach and `contact_s` the time to contact, null below their own error.
    """

    nearness: float
    box: Box
    centroid: tuple[float, float]
    area: float
    zones: tuple[str, ...] = ()
    bearing_deg: float | None = None
    distance_m: float | None = None
    uncertainty_m: float | None = None
    far: bool = False
    extrapolated: bool = False
    track: int = 0
    speed_mps: float | None = None
    contact_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneScene:
    """One zone of one frame; what does not apply in the scene's state or mode is null.

    `nearness` and `distance_m` are those of the nearest region that touches the zone, `coverage` the share of the
    zone's pixels that are foreground, `surface` the nearest surface of all (99th percentile, static ones included, in
    the reference's gauge), `prominence` the moving camera's measure: (p95 of the zone - median of the frame) /
    (p90 - p10 of the frame).
    """

    name: str
    occupied: bool | None = None
    nearness: float | None = None
    distance_m: float | None = None
    coverage: float | None = None
    surface: float | None = None
    prominence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One frame against the learned background (or, with a moving camera, against itself).

    `aligned` is float32 (h, w): the inverse depth in the reference's gauge, q = (d - shift) / scale; null while there
    is no reference, or none that the frame fits. `quality` is 0..1. Every number here is invariant under
    d -> a*d + b with a > 0, except `scale` and `shift` themselves. `reason` says in words why something is null.
    """

    depth: DepthMap
    state: SceneState
    quality: float
    reason: str | None = None
    aligned: Floats | None = None
    scale: float | None = None
    shift: float | None = None
    residual: float | None = None
    background_age_seconds: float | None = None
    progress: float | None = None
    surface: float | None = None
    regions: tuple[Region, ...] = ()
    zones: tuple[ZoneScene, ...] = ()

    def __post_init__(self) -> None:
        if self.aligned is not None:
            object.__setattr__(self, "aligned", _own(self.aligned, "Scene.aligned", np.float32, 2))

    @property
    def nearest(self) -> Region | None:
        """The region with the greatest nearness."""
        return max(self.regions, key=lambda region: region.nearness, default=None)

    @property
    def zone_order(self) -> tuple[str, ...]:
        """The moving camera's zones, the most prominent first."""
        known = [zone for zone in self.zones if zone.prominence is not None]
        return tuple(zone.name for zone in sorted(known, key=lambda zone: -(zone.prominence or 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """One trigger after one frame.

    `on` is null while nothing was ever known of it. `level` is what was compared, in the trigger's measure (metres or
    nearness); null where nothing stands in its zone. `changed` says whether this very frame changed `on`. `reason` says
    in words why the trigger is frozen, and is null while it is not.
    """

    name: str
    on: bool | None
    level: float | None = None
    changed: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is published of one frame: the scene, the triggers, and how it came about.

    `latency_seconds` runs from capture to the end of the scene; `dropped` counts the frames that a newer one replaced
    before the network could see them. `depth_age_seconds` is 0 where the network saw this very frame; else nothing had
    changed since it last saw one, and that was so long before.
    """

    scene: Scene
    latency_seconds: float
    dropped: int
    triggers: tuple[TriggerState, ...] = ()
    depth_age_seconds: float = 0.0

    @property
    def frame(self) -> Frame:
        """The frame that was read."""
        return self.scene.depth.frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One MQTT message: the only thing that the publisher accepts.

    After `expires_seconds` in a broker it is of no use to anybody; null: it is as long as it lies there.

    Raises:
        ValueError: `qos` is not 0 or 1, or the topic is empty or holds a wildcard.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expires_seconds: int | None = None

    def __post_init__(self) -> None:
        if self.qos not in (0, 1):
            raise ValueError(f"Message.qos must be 0 or 1, not {self.qos}")
        if not self.topic or "+" in self.topic or "#" in self.topic:
            raise ValueError(f"Message.topic must be a plain topic, not {self.topic!r}")
