"""Triggers: levels that switch when something comes near, with hysteresis, delays and a memory; pure.

Time is when the frames were captured, in monotonic seconds; there is no clock in here.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal

from edge.config import TriggerSection
from edge.records import Region, Scene, TriggerState

Event = Literal["near", "between", "clear", "frozen"]
_State = Literal["unknown", "off", "rising", "on", "falling"]

_GAP_SECONDS = 2.0  # a gap no longer than this is always counted
_GAP_FACTOR = 3.0  # nor is one that is no more than so many times as long as usual, however slow the camera
_GAPS = 5  # what is usual: the median of so many gaps, which two losses of the camera in a row do not move

# Delays apart: `rising` and `falling` end when they have been held for long enough. "frozen" stays where it is.
_NEXT: Mapping[_State, Mapping[Event, _State]] = {
    "unknown": {"near": "rising", "between": "off", "clear": "off"},
    "off": {"near": "rising", "between": "off", "clear": "off"},
    "rising": {"near": "rising", "between": "off", "clear": "off"},
    "on": {"near": "on", "between": "on", "clear": "falling"},
    "falling": {"near": "on", "between": "on", "clear": "falling"},
}


class Triggers:
    """All triggers of one camera.

    `states` is what a former run knew, {name: on}: each is kept until the condition says otherwise, and names that are
    not configured any more are forgotten. `frozen` names those that nothing switches, each with the reason.
    """

    def __init__(
        self,
        sections: Iterable[TriggerSection],
        states: Mapping[str, bool] | None = None,
        frozen: Mapping[str, str] | None = None,
    ) -> None:
        self._machines = tuple(
            _Machine(section, (states or {}).get(section.name), (frozen or {}).get(section.name))
            for section in sections
        )
        self._pace = _Pace()

    def update(self, scene: Scene) -> tuple[TriggerState, ...]:
        """Return each trigger's state after the next scene; scenes come in the order in which they were captured."""
        elapsed = self._pace.counted(scene.depth.frame.captured_at)
        return tuple(machine.update(scene, elapsed) for machine in self._machines)

    @property
    def waiting(self) -> bool:
        """Whether a trigger is about to switch and counts the time and the readings until then."""
        return any(machine.waiting for machine in self._machines)

    def states(self) -> dict[str, bool]:
        """Return what is worth keeping for the next run: {name: on} of the triggers that are known."""
        return {machine.name: machine.on for machine in self._machines if machine.on is not None}


class _Pace:
    """Tells the time between frames from the time without any.

    Nobody saw what happened while the camera was away, so a delay must not count it.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._gaps = deque([0.0] * _GAPS, maxlen=_GAPS)

    def counted(self, now: float) -> float:
        """Return the seconds since the last frame, or 0 where they are too many for that camera."""
        gap = 0.0 if self._last is None else now - self._last
        longest = max(_GAP_SECONDS, _GAP_FACTOR * statistics.median(self._gaps))
        self._last = now
        self._gaps.append(gap)
        return gap if gap <= longest else 0.0


class _Machine:
    """One trigger.

    | state        | near                 | between | clear                  | frozen  |
    |--------------|----------------------|---------|------------------------|---------|
    | unknown      | rising               | off     | off                    | unknown |
    | off          | rising               | off     | off                    | off     |
    | rising (off) | rising, on when held | off     | off                    | rising  |
    | on           | on                   | on      | falling                | on      |
    | falling (on) | on                   | on      | falling, off when held | falling |

    Held: `min_frames` readings in a row and `on_delay` (`off_delay`) seconds between them; where those are 1 and 0 the
    first reading holds. Frozen readings do not break the row, and the time before and after each is not counted.
    """

    def __init__(self, section: TriggerSection, on: bool | None, frozen: str | None) -> None:
        self.name = section.name
        self._section = section
        self._frozen = frozen
        self._state: _State = "unknown" if on is None else "on" if on else "off"
        self._frames = 0
        self._seconds = 0.0
        self._was_frozen = True

    @property
    def on(self) -> bool | None:
        """Whether the trigger is on; null while nothing is known of it."""
        return None if self._state == "unknown" else self._state in ("on", "falling")

    @property
    def waiting(self) -> bool:
        """Whether a delay runs, at whose end the trigger switches."""
        return self._state in ("rising", "falling")

    def update(self, scene: Scene, elapsed: float) -> TriggerState:
        """Return the state after a scene; `elapsed` is what counts of the seconds since the scene before."""
        before = self.on
        event, level, reason = ("frozen", None, self._frozen) if self._frozen else compare(self._section, scene)
        if event != "frozen":
            self._step(event, 0.0 if self._was_frozen else elapsed)
        self._was_frozen = event == "frozen"
        return TriggerState(name=self.name, on=self.on, level=level, changed=self.on != before, reason=reason)

    def _step(self, event: Event, elapsed: float) -> None:
        state = _NEXT[self._state][event]
        if state == self._state:
            self._frames += 1
            self._seconds += elapsed
        else:
            self._state, self._frames, self._seconds = state, 1, 0.0
        if self._frames < self._section.min_frames:
            return
        if self._state == "rising" and self._seconds >= self._section.on_delay:
            self._state = "on"
        elif self._state == "falling" and self._seconds >= self._section.off_delay:
            self._state = "off"


def compare(section: TriggerSection, scene: Scene) -> tuple[Event, float | None, str | None]:
    """Return what a scene says to a trigger, the level that was compared, and why it is frozen."""
    if scene.state != "tracking" or scene.aligned is None:  # a frame that is held for a moment has no aligned map
        return "frozen", None, scene.reason or f"the scene is {scene.state}: there is no reading"
    if scene.quality < section.min_quality:
        return "frozen", None, f"the quality, {scene.quality:.2f}, is below min_quality, {section.min_quality:g}"
    regions = [region for region in scene.regions if section.zone is None or section.zone in region.zones]
    return _compare_metres(section, regions) if section.measure == "metres" else _compare_nearness(section, regions)


def _compare_metres(section: TriggerSection, regions: list[Region]) -> tuple[Event, float | None, str | None]:
    """Compare the least distance; what is too far to be told is clear, and so is an empty zone.

    A region without a distance leaves open whether it is near: frozen, unless another is near without doubt.
    """
    told = [region.distance_m for region in regions if region.distance_m is not None]
    least = min(told, default=None)
    if least is not None and least < section.near:
        return "near", least, None
    if any(region.distance_m is None and not region.far for region in regions):
        return "frozen", least, "a region has no distance: metres need a calibration"
    return "between" if least is not None and least < section.clear_level else "clear", least, None


def _compare_nearness(section: TriggerSection, regions: list[Region]) -> tuple[Event, float | None, str | None]:
    """Compare the greatest nearness; an empty zone is clear."""
    most = max((region.nearness for region in regions), default=-math.inf)
    level = None if most == -math.inf else most
    if most > section.near:
        return "near", level, None
    return "between" if most > section.clear_level else "clear", level, None
