"""A camera that stands still: its background is the yardstick."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from edge.config import CalibrationSection, SceneSection, ZoneSection
from edge.errors import ConfigError
from edge.records import DepthMap, Floats, Frame, Mask, Region, Scene, SceneState, ZoneScene
from edge.scene.alignment import Alignment, Doubles, align, can_see, gauge, spread
from edge.scene.metres import Calibration, Metres, calibrate
from edge.scene.order import median, percentile
from edge.scene.reference import LEARN_FRAMES, Background, Reference, learn
from edge.scene.regions import Blob, Tracker, Zones, bearing, polygon_mask, surface, zone_scene

logger = logging.getLogger(__name__)

_HOLD_SECONDS = 3.0  # a passing disturbance (a flash, a bus) is not yet a lost scene
_MOST_FOREGROUND = 0.75  # of the frame: with more in front of it, the background that is left can't be trusted
_SAME_VIEW_QUALITY = 0.5  # of a new background on the old one, for a calibration to hold for both
_CORRELATED_PIXELS = 25  # neighbours err together, over about 5 x 5 pixels: so many count as one

_BLIND = "nothing can be seen in the picture: is the lens covered, or is it dark?"
_HELD = "this frame does not fit the background; the last occupancy is held"
_LOST = "the background is not to be seen: has the camera been moved, covered, or the light gone out?"
_STALE = "the view has changed since the camera was calibrated: calibrate it again to have metres"


class StillScene:
    """A camera that stands still: learns its background, then reads every frame against it.

    `saved` is what `saved()` returned in an earlier run; where it fits picture and weights, nothing is learned anew.
    """

    def __init__(
        self,
        section: SceneSection,
        zones: tuple[ZoneSection, ...],
        calibration: CalibrationSection | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self._section = section
        self._calibration_section = calibration or CalibrationSection()
        self._saved = saved
        self._zones = Zones(zones)
        self._tracker = Tracker(section.min_area)
        self._occupied: dict[str, bool | None] = {zone.name: None for zone in zones}
        self._background: Background | None = None
        self._calibration: Calibration | None = None
        self._stale = False
        self._before: Reference | None = None
        self._aspect, self._depth_error = 1.0, 0.0
        self._frames: list[Floats] = []
        self._learning_since = 0.0
        self._steady: tuple[Doubles, float] | None = None
        self._good_at = 0.0
        self._last_at: float | None = None
        self._state: SceneState | None = None
        self._seen: tuple[Scene, Alignment, list[Blob]] | None = None
        self._settled: Scene | None = None

    @property
    def reference(self) -> Reference | None:
        """The background as it was learned, or null while there is none."""
        return self._background.reference if self._background else None

    def saved(self) -> dict[str, Any] | None:
        """Return what has to be kept for the next start, as plain values and arrays; null while nothing is learned."""
        if self._background is None:
            return None
        return {**self._background.saved(), "stale": self._stale, "calibration": self._calibration_key()}

    def fit(self, calibration: CalibrationSection) -> Calibration | None:
        """Return what a calibration would make of the background as it was learned; null for one that gives nothing.

        Raises:
            ConfigError: no line can be had from it, or there is no background yet.
        """
        if self._background is None:
            raise ConfigError("calibration: there is no background to fit to yet; wait until it is learned")
        reference, fov_deg = self._background.reference, self._section.horizontal_fov_deg
        return calibrate(calibration, reference.median, reference.sigma, fov_deg, self._aspect, self._depth_error)

    def calibrate(self, calibration: CalibrationSection, fit: Calibration | None = None) -> None:
        """Use a calibration from now on, made for the view as it is; one that can't be used is logged.

        `fit` is what `fit` has made of it. Without one, the calibration that is in use is left as it is.
        """
        if fit is None and calibration == self._calibration_section:
            return
        self._calibration_section = calibration
        self._stale = False
        self._settled = None
        if fit is not None:
            self._calibration = fit
        elif self._background is not None:
            self._use(self._background)

    def as_if(self, zones: tuple[ZoneSection, ...], calibration: CalibrationSection) -> Scene | None:
        """Return the newest scene as it would be with other zones and another calibration; nothing is changed.

        Null while nothing is read against the background. A calibration that can't be used gives no metres.
        """
        if self._seen is None or self._background is None:
            return None
        scene, fit, blobs = self._seen
        try:
            line = self.fit(calibration)
        except ConfigError:
            line = None
        q = np.asarray(scene.aligned, np.float64)
        masks = Zones(zones).masks(q.shape)
        regions = []
        for region, blob in zip(scene.regions, blobs, strict=True):
            middle, error, x, y = self._middle(fit, self._background, blob, q)
            metres = line.measure(middle, error, x, y) if line else Metres()
            regions.append(
                replace(region, zones=_touched(blob, masks), **asdict(metres), speed_mps=None, contact_s=None)
            )
        found = tuple(zone_scene(name, mask, q, _covered(blobs, q), tuple(regions)) for name, mask in masks.items())
        return replace(scene, regions=tuple(regions), zones=found)

    def relearn(self) -> None:
        """Forget the background and learn it anew; where the new one shows another view, there are no metres."""
        self._before = self.reference or self._before
        self._background = self._calibration = self._steady = self._settled = None
        self._frames = []
        self._occupied = dict.fromkeys(self._occupied)
        self._tracker.forget()

    def update(self, depth: DepthMap) -> Scene:
        """Return the scene of the next frame: learning, tracking or lost."""
        height, width = depth.frame.pixels.shape[:2]
        self._aspect, self._depth_error = height / width, depth.depth_error
        self._seen = None
        if self._last_at is None:
            self._good_at = depth.frame.captured_at
            self._restore(depth)
        reference = self.reference
        if reference and (reference.median.shape, reference.weights) != (depth.inverse_depth.shape, depth.weights):
            logger.info("scene: the picture's shape or the weights have changed; learning anew")
            self.relearn()
            self._before = None  # it can't be compared with, and nobody has moved the camera
        scene = self._learn(depth) if self._background is None else self._track(depth, self._background)
        self._last_at = depth.frame.captured_at
        self._settled = scene if self._is_settled(scene) else None
        if scene.state != self._state:
            self._state = scene.state
            level = logging.WARNING if scene.state == "lost" else logging.INFO
            logger.log(level, "scene: %s%s", scene.state, f": {scene.reason}" if scene.reason else "")
        return scene

    def rest(self, frame: Frame) -> Scene | None:
        """Return the last scene again, for a next frame that shows the same; null where that one must be looked at.

        For the background and the regions time goes on as if the frame had been seen.
        """
        scene, background = self._settled, self._background
        if scene is None or self._last_at is None:
            return None
        seconds, self._last_at = frame.captured_at - self._last_at, frame.captured_at
        depth = replace(scene.depth, frame=frame)
        if background is None:
            return replace(scene, depth=depth)
        if scene.state == "tracking":
            self._good_at = frame.captured_at
            background.rest(seconds)
            self._tracker.rest(frame.captured_at)
        return replace(scene, depth=depth, background_age_seconds=self._age(depth, background))

    def _is_settled(self, scene: Scene) -> bool:
        """Return whether the same picture would say nothing else: nothing is being learned, held, new or in motion.

        In the dark, nothing at all is read, and the light that ends it changes the picture.
        """
        tracking = scene.state == "tracking" and scene.aligned is not None
        return (tracking and self._tracker.steady) or scene.reason == _BLIND

    def _restore(self, depth: DepthMap) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            return
        background = Background.restore(saved, self._section, self._counted(depth.inverse_depth.shape))
        if background is None or background.reference.weights != depth.weights:
            logger.info("scene: the saved background is of another picture or other weights; learning anew")
            return
        self._stale = bool(saved.get("stale")) and saved.get("calibration") == self._calibration_key()
        self._use(background)
        logger.info("scene: goes on with the background learned at %s", background.reference.learned_at)

    def _calibration_key(self) -> str:
        return self._calibration_section.model_dump_json()

    def _counted(self, shape: tuple[int, ...]) -> Mask:
        """Return the pixels, bool (h, w), that are not ignored."""
        counted = np.ones(shape, bool)
        for polygon in self._section.ignore_masks:
            counted &= ~polygon_mask(polygon, shape)
        return counted

    def _use(self, background: Background) -> None:
        self._background = background
        self._calibration = None
        if self._stale:
            logger.warning("scene: %s", _STALE)
            return
        try:
            self._calibration = self.fit(self._calibration_section)
        except ConfigError as error:
            logger.error("no metres: %s", error)

    def _learn(self, depth: DepthMap) -> Scene:
        d, now = depth.inverse_depth, depth.frame.captured_at
        if spread(d) is None or not can_see(depth.frame.pixels):
            return self._unknown(depth, "learning", _BLIND)
        if not self._frames or self._frames[0].shape != d.shape:
            self._frames, self._learning_since = [], now
        self._frames.append(d)
        progress = min(1.0, (now - self._learning_since) / self._section.learn_seconds)
        if progress < 1 or len(self._frames) < LEARN_FRAMES[0]:
            if len(self._frames) > LEARN_FRAMES[1]:  # keep both ends and thin what lies between
                self._frames = self._frames[::2]
            return self._unknown(depth, "learning", "the background is being learned", progress=progress)
        reference = learn(self._frames, depth.frame.wall_time, depth.weights)
        self._frames = []
        if reference is None:
            return self._unknown(depth, "learning", "the frames have no common background; learning again")
        background = Background(reference, self._section, self._counted(d.shape))
        self._check_view(reference)
        self._use(background)
        self._good_at = now
        return self._track(depth, background)

    def _track(self, depth: DepthMap, background: Background) -> Scene:
        now = depth.frame.captured_at
        background.catch_up()
        visible = can_see(depth.frame.pixels)
        fit = background.fit(depth.inverse_depth) if visible else None
        if fit is None or fit.quality < self._section.min_quality:
            return self._disturbed(depth, fit, background, visible=visible)
        q = depth.inverse_depth.astype(np.float64)
        q -= fit.shift
        q /= fit.scale
        near = background.stands_out(q, depth.picture)
        if np.count_nonzero(near) > _MOST_FOREGROUND * near.size:
            return self._disturbed(depth, fit, background, visible=visible)
        self._steady = None
        self._good_at = now
        blobs = self._tracker.find(near)
        foreground = _covered(blobs, q)
        scene = self._scene(depth, fit, background, q, blobs, foreground)
        self._seen = scene, fit, blobs
        background.follow(q, foreground, depth.picture, now - (now if self._last_at is None else self._last_at))
        return scene

    def _scene(
        self, depth: DepthMap, fit: Alignment, background: Background, q: Doubles, blobs: list[Blob], foreground: Mask
    ) -> Scene:
        masks = self._zones.masks(q.shape)
        regions = tuple(self._region(depth, fit, background, blob, q, masks) for blob in blobs)
        zones = tuple(zone_scene(name, mask, q, foreground, regions) for name, mask in masks.items())
        self._occupied = {zone.name: zone.occupied for zone in zones}
        return Scene(
            depth=depth,
            state="tracking",
            quality=fit.quality,
            reason=_STALE if self._stale else None,
            aligned=q.astype(np.float32),
            scale=fit.scale,
            shift=fit.shift,
            residual=fit.residual,
            background_age_seconds=self._age(depth, background),
            surface=surface(q.ravel()),
            regions=regions,
            zones=zones,
        )

    def _region(
        self, depth: DepthMap, fit: Alignment, background: Background, blob: Blob, q: Doubles, masks: dict[str, Mask]
    ) -> Region:
        """Return the reading of one blob.

        Nearness is a high percentile, since it asks for the nearest part; distance is the median without the rim:
        percentiles of noise are biased.
        """
        middle, error, x, y = self._middle(fit, background, blob, q)
        centroid = float(x.mean()), float(y.mean())
        metres = self._calibration.measure(middle, error, x, y) if self._calibration else Metres()
        track = self._tracker.track(blob)
        track.seen.append((depth.frame.captured_at, middle))
        speed, contact = self._motion(middle, metres, track.motion(depth.frame.captured_at))
        return Region(
            nearness=percentile(blob.of(q), 95),
            box=blob.box(q.shape),
            centroid=centroid,
            area=blob.area / q.size,
            zones=_touched(blob, masks),
            bearing_deg=bearing(centroid[0], self._section.horizontal_fov_deg),
            distance_m=metres.distance_m,
            uncertainty_m=metres.uncertainty_m,
            far=metres.far,
            extrapolated=metres.extrapolated,
            track=blob.track,
            speed_mps=speed,
            contact_s=contact,
        )

    def _middle(
        self, fit: Alignment, background: Background, blob: Blob, q: Doubles
    ) -> tuple[float, float, Doubles, Doubles]:
        """Return the q of a blob's middle and its standard deviation, and places x, y, (n,), that it was taken from."""
        inner = blob.inner()
        inside = inner.of(q)
        middle = median(inside)
        noise = max(median(background.sigma_of(blob.of)), fit.residual)
        error = 1.2533 * noise / max(1.0, inside.size / _CORRELATED_PIXELS) ** 0.5  # sqrt(pi/2): of a median
        return middle, error, *inner.places(q.shape)

    def _motion(self, q: float, metres: Metres, slope: tuple[float, float] | None) -> tuple[float | None, float | None]:
        """Return the speed of approach in m/s and the time to contact in s, from u = 1/Z: -dZ/dt = du/dt / u^2."""
        line = self._calibration
        if line is None or metres.distance_m is None or slope is None:
            return None, None
        now, then = line.a * q + line.b, line.a * slope[1] + line.b
        if then <= 0:
            return None, None
        speed = metres.distance_m * now * line.a * slope[0] / then**2  # distance * u is the ray's length per depth
        return speed, metres.distance_m / speed if speed > 0 else None

    def _disturbed(self, depth: DepthMap, fit: Alignment | None, background: Background, *, visible: bool) -> Scene:
        """Return the scene of a frame that does not fit: held for a moment, then lost, learned anew when it stays."""
        now = depth.frame.captured_at
        quality = min(fit.quality, self._section.min_quality) if fit else 0.0
        age = self._age(depth, background)
        if now - self._good_at < _HOLD_SECONDS:
            return self._unknown(depth, "tracking", _HELD, quality=quality, age=age)
        self._tracker.forget()
        self._occupied = dict.fromkeys(self._occupied)
        if self._is_steady(depth, visible=visible):
            logger.info("scene: the view has changed and stays so; learning it anew")
            self.relearn()
            return self._learn(depth)
        reason = _LOST if visible else _BLIND
        return self._unknown(depth, "lost", reason, quality=quality, age=age)

    def _is_steady(self, depth: DepthMap, *, visible: bool) -> bool:
        """Return whether the lost scene has shown the same view for `relearn_seconds`."""
        d, now = depth.inverse_depth, depth.frame.captured_at
        view = gauge(d) if visible else None
        if view is None:
            self._steady = None
            return False
        if self._steady is not None and self._steady[0].shape == d.shape:
            fit = align(d, self._steady[0], np.ones(d.shape, bool))
            if fit is not None and fit.quality >= _SAME_VIEW_QUALITY:
                return now - self._steady[1] >= self._section.relearn_seconds
        self._steady = view, now
        return False

    def _check_view(self, learned: Reference) -> None:
        """Note that a calibration no longer holds when the new view is another one than that which it was made for."""
        before, self._before = self._before, None
        if before is None or not self._calibration_section.given:
            return
        view = learned.median.astype(np.float32)
        fit = align(view, before.median, np.ones(view.shape, bool)) if view.shape == before.median.shape else None
        if fit is None or fit.quality < _SAME_VIEW_QUALITY:
            self._stale = True

    def _age(self, depth: DepthMap, background: Background) -> float:
        return (depth.frame.wall_time - background.reference.learned_at).total_seconds()

    def _unknown(
        self,
        depth: DepthMap,
        state: SceneState,
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


def _covered(blobs: list[Blob], q: Doubles) -> Mask:
    """Return the pixels, bool (h, w) as q, that the blobs cover."""
    foreground = np.zeros(q.shape, bool)
    for blob in blobs:
        foreground[blob.window] |= blob.mask
    return foreground


def _touched(blob: Blob, masks: dict[str, Mask]) -> tuple[str, ...]:
    """Return the names of the zones, masks bool (h, w), that a blob lies in or touches."""
    return tuple(name for name, mask in masks.items() if bool((mask[blob.window] & blob.mask).any()))
