"""What the page may change: zones, privacy masks, triggers with their levels, and the calibration. Nothing else.

Everything here runs in the depth thread, between two frames.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import yaml

from edge.config import CalibrationSection, Config, TriggerSection, value_at
from edge.daemon.overlay import CALIBRATION, MASKS, Overlay
from edge.errors import ConfigError, Stale
from edge.records import Scene
from edge.scene import SceneModel, StillScene, triggers
from edge.scene.metres import Calibration, read_points

# What the page calls it, and the key of the configuration.
KEYS = {
    "zones": "zones",
    "privacy_masks": "camera.privacy_masks",
    "triggers": "triggers",
    "calibration": "calibration",
}
_NO_READING = "nothing is read against the background now"


class Works(Protocol):
    """The daemon as the set-up sees it."""

    overlay: Overlay

    @property
    def scene(self) -> SceneModel:
        """The scene model in use."""

    def apply(self) -> None:
        """Go by what the overlay says now."""


class Setup:
    """Tells what may be changed as it stands, what a change would do, and makes it."""

    def __init__(self, works: Works) -> None:
        self._works = works

    def current(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Return what may be changed, as it stands in force and in the file."""
        overlay = self._works.overlay
        return {
            "revision": _revision(overlay.config),
            "values": _values(overlay.config),
            "file": _values(overlay.file),
            "can_undo": overlay.can_undo,
            "mode": overlay.config.scene.mode,
            "horizontal_fov_deg": overlay.config.scene.horizontal_fov_deg,
            "colormap": overlay.config.heatmap.colormap,
            "doubts": doubts(overlay),
        }

    def propose(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a change would do now: problems, the difference, the fit, what zones and triggers would say."""
        overlay = self._works.overlay
        try:
            wanted = overlay.with_values(_changes(arguments))
        except ConfigError as error:
            return {"problems": list(error.problems)}
        answer = {"problems": [], "difference": difference(overlay.config, wanted)}
        return answer | {"fit": self._fit(wanted.calibration)} | self._would(wanted)

    def apply(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Make a change and write it, with a backup of what was set before.

        Raises:
            Stale: it was made for another state than the one in force.
            ConfigError: it does not fit; nothing is changed.
        """
        overlay = self._works.overlay
        if arguments.get("revision") != _revision(overlay.config):
            raise Stale("the settings were changed by somebody else in the meantime; load them again")
        _, written = self.change(_changes({key: value for key, value in arguments.items() if key != "revision"}))
        return self.current({}) | {"written": written}

    def change(self, changes: Mapping[str, Any]) -> tuple[Calibration | None, bool]:
        """Set some keys, write them, then go by them; what was set before is the backup.

        A calibration is set anew for the view as it is, also one with the same points: metres come back where that
        view is another one than before. Return its fit, None without one, and whether all is written.

        Raises:
            ConfigError: something does not fit, or gives no metres; nothing is changed.
        """
        overlay, scene = self._works.overlay, self._works.scene
        wanted = overlay.with_values(changes).calibration
        fit = None
        if CALIBRATION in changes and isinstance(scene, StillScene):  # while there is no background, nothing is anew
            fit = None if scene.reference is None and wanted == overlay.config.calibration else scene.fit(wanted)
        written = overlay.replace(changes)
        if fit is not None and isinstance(scene, StillScene):
            scene.calibrate(wanted, fit)
        self._works.apply()
        if MASKS in changes and overlay.withheld:
            written = overlay.settle() and written  # not before they are in force
            self._works.apply()
        return fit, written

    def undo(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Go back to what was set before the last change; once more comes back to it."""
        written = self._works.overlay.undo()
        self._works.apply()
        return self.current({}) | {"written": written}

    def confirm(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Take masks, zones and places as they are for the view as it is.

        Raises:
            Stale: what was confirmed is not what is in doubt now.
        """
        overlay = self._works.overlay
        if arguments.get("doubts") != doubts(overlay):
            raise Stale("something else is in doubt by now; look again")
        written = overlay.confirm()
        self._works.apply()
        return self.current({}) | {"written": written}

    def _fit(self, calibration: CalibrationSection) -> dict[str, Any] | None:
        """Return what the calibration gives on the background as it was learned, null for none at all."""
        scene = self._works.scene
        if not calibration.given or not isinstance(scene, StillScene):
            return None
        try:
            fit = scene.fit(calibration)
        except ConfigError as error:
            return {"problem": str(error)}
        reference = scene.reference
        if fit is None or reference is None:
            return None
        reads = read_points(fit, calibration.points, reference.median, reference.sigma)
        points = [{"read_m": _r(read.distance_m), "uncertainty_m": _r(read.uncertainty_m)} for read in reads]
        return {"residual": _r(fit.residual, 5), "points": points, "expected": _expected(fit)}

    def _would(self, wanted: Config) -> dict[str, Any]:
        scene = self._works.scene
        seen = scene.as_if(wanted.zones, wanted.calibration) if isinstance(scene, StillScene) else None
        if seen is None:
            frozen = {"event": "frozen", "level": None, "reason": _NO_READING}
            return {"zones": {}, "triggers": {trigger.name: frozen for trigger in wanted.triggers}}
        return {
            "zones": {zone.name: {"occupied": zone.occupied, "nearness": _r(zone.nearness)} for zone in seen.zones},
            "triggers": {section.name: _event(section, seen) for section in wanted.triggers},
        }


def doubts(overlay: Overlay) -> list[str]:
    """Return what has to be confirmed, in words: what is withheld comes first."""
    return [*([overlay.withheld] if overlay.withheld else []), *overlay.doubts]


def difference(before: Config, after: Config) -> list[str]:
    """Return the lines that differ, each with + or - before it, and a line around them."""
    lines = difflib.unified_diff(_lines(before), _lines(after), n=1, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _lines(config: Config) -> list[str]:
    return yaml.safe_dump(_values(config), sort_keys=False, width=100, default_flow_style=None).splitlines()


def _changes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be changed, by the keys of the configuration.

    Raises:
        ConfigError: it is something that the page may not change.
    """
    if others := arguments.keys() - KEYS.keys():
        raise ConfigError(f"can't be changed here: {', '.join(sorted(others))[:200]!a}; what can: {', '.join(KEYS)}")
    return {KEYS[name]: value for name, value in arguments.items()}


def _values(config: Config) -> dict[str, Any]:
    return {name: value_at(config, key) for name, key in KEYS.items()}


def _revision(config: Config) -> str:
    return hashlib.sha256(json.dumps(_values(config)).encode()).hexdigest()[:12]


def _event(section: TriggerSection, seen: Scene) -> dict[str, Any]:
    event, level, reason = triggers.compare(section, seen)
    return {"event": event, "level": _r(level), "reason": reason}


def _expected(fit: Calibration) -> list[dict[str, float | None]]:
    """Return the standard deviations to be expected at some distances, straight ahead; null where nobody knows."""
    rows = []
    for metres in (1.0, 2.0, 4.0):
        found = fit.measure((1 / metres - fit.b) / fit.a, 0.0, 0.5, 0.5)
        rows.append({"metres": metres, "uncertainty_m": _r(found.uncertainty_m)})
    return rows


def _r(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
