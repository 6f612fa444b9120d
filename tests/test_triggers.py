"""Triggers: they fire when their condition was seen to hold for long enough, and forget nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import SceneSection, TriggerSection, ZoneSection
from edge.records import DepthMap, Frame, Region, Scene, TriggerState
from edge.scene import StillScene
from edge.scene.triggers import Triggers
from tests.scenes import Camera, room, with_figure

PIXELS = np.zeros((2, 2, 3), np.uint8)
MAP = np.ones((2, 2), np.float32)
INSTANT: dict[str, Any] = {"on_delay": 0.0, "off_delay": 0.0, "min_frames": 1}
NEAR, BETWEEN, CLEAR, FROZEN = "near", "between", "clear", "frozen"


def make_section(**values: Any) -> TriggerSection:
    return TriggerSection(**{"name": "t", "near": 1.5, "clear": 2.0} | values)


def make_region(metres: float | None = None, **values: Any) -> Region:
    defaults = {"nearness": 0.7, "box": (0.0, 0.0, 1.0, 1.0), "centroid": (0.5, 0.5), "area": 0.2}
    return Region(**defaults | {"distance_m": metres} | values)


def make_scene(*regions: Region, at: float = 0.0, **values: Any) -> Scene:
    frame = Frame(sequence=0, captured_at=at, wall_time=datetime(2026, 11, 23, tzinfo=UTC), pixels=PIXELS)
    depth = DepthMap(frame=frame, inverse_depth=MAP, inference_seconds=0.1, weights="made")
    defaults = {"state": "tracking", "quality": 0.9, "aligned": MAP}
    return Scene(depth=depth, regions=regions, **defaults | values)


def scene_of(kind: str, at: float) -> Scene:
    """Return a scene that is `kind` for a trigger with near 1.5 m and clear 2 m."""
    if kind == FROZEN:
        return make_scene(at=at, state="lost", aligned=None)
    return make_scene(*{NEAR: [make_region(1.0)], BETWEEN: [make_region(1.7)], CLEAR: []}[kind], at=at)


def verdict(section: TriggerSection, scene: Scene) -> tuple[str, float | None]:
    """Return what a scene says to a trigger without delays, and the level; seen from outside."""
    fast = section.model_copy(update=INSTANT)
    off, on = (Triggers([fast], {"t": before}).update(scene)[0] for before in (False, True))
    kind = {(True, True): NEAR, (False, True): BETWEEN, (False, False): CLEAR}[bool(off.on), bool(on.on)]
    return (FROZEN if kind == BETWEEN and on.reason else kind), on.level


def play(triggers: Triggers, *steps: tuple[float, str]) -> list[bool | None]:
    """Return whether the trigger is on after each (time, kind)."""
    return [triggers.update(scene_of(kind, at))[0].on for at, kind in steps]


# --- what is near -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metres", "kind"), [(0.3, NEAR), (1.499, NEAR), (1.5, BETWEEN), (1.999, BETWEEN), (2.0, CLEAR), (9.0, CLEAR)]
)
def test_metres_are_near_below_near_and_clear_from_clear_on(metres: float, kind: str):
    """Something nearer than `near` is near, nothing nearer than `clear` is clear, and between them nothing changes."""
    assert (kind, metres) == verdict(make_section(), make_scene(make_region(metres)))


@pytest.mark.parametrize(
    ("nearness", "kind"), [(1.3, NEAR), (0.81, NEAR), (0.8, BETWEEN), (0.61, BETWEEN), (0.6, CLEAR), (-0.1, CLEAR)]
)
def test_nearness_is_near_above_near_and_clear_from_clear_down(nearness: float, kind: str):
    """Nearness grows the other way round: above `near` is near, and `clear` or less is clear."""
    section = make_section(measure="nearness", near=0.8, clear=0.6)
    assert (kind, nearness) == verdict(section, make_scene(make_region(nearness=nearness)))


@pytest.mark.parametrize(
    ("measure", "values"), [("metres", (0.99, 1.05, 1.2)), ("nearness", (1.01, 0.95, 0.8))], ids=["metres", "nearness"]
)
def test_clear_is_a_tenth_beyond_near(measure: str, values: tuple[float, ...]):
    """Where `clear` is not configured it lies a tenth beyond `near`, in the direction away from the camera."""
    section = make_section(measure=measure, near=1.0, clear=None)
    scenes = [make_scene(make_region(value, nearness=value)) for value in values]
    assert [NEAR, BETWEEN, CLEAR] == [verdict(section, scene)[0] for scene in scenes]


@pytest.mark.parametrize("measure", ["metres", "nearness"])
@pytest.mark.parametrize("zone", [None, "door"])
def test_an_empty_place_is_clear(measure: str, zone: str | None):
    """Where nothing stands the trigger is clear in both measures, calibrated or not."""
    assert (CLEAR, None) == verdict(make_section(measure=measure, zone=zone, clear=1.5), make_scene())


def test_only_what_touches_the_zone_counts():
    """A trigger with a zone is blind for regions elsewhere; one without sees them all."""
    scene = make_scene(make_region(1.0, zones=("window",)), make_region(1.7, zones=("door", "window")))
    assert (BETWEEN, 1.7) == verdict(make_section(zone="door"), scene)
    assert (NEAR, 1.0) == verdict(make_section(zone="window"), scene)
    assert (NEAR, 1.0) == verdict(make_section(), scene)


def test_the_least_distance_counts():
    """With several regions metres are those of the nearest in metres, whatever their nearness says."""
    scene = make_scene(make_region(2.5, nearness=0.9), make_region(1.2, nearness=0.8))
    assert (NEAR, 1.2) == verdict(make_section(), scene)
    assert (NEAR, 0.9) == verdict(make_section(measure="nearness", near=0.85, clear=0.8), scene)


def test_too_far_to_be_told_is_clear():
    """A region beyond the distances that are told has none, and is not near."""
    assert (CLEAR, None) == verdict(make_section(), make_scene(make_region(far=True)))
    assert (BETWEEN, 1.7) == verdict(make_section(), make_scene(make_region(far=True), make_region(1.7)))


def test_a_region_without_a_distance_freezes_metres():
    """Uncalibrated, nobody knows whether what stands there is near: the trigger waits and says what is missing."""
    section, scene = make_section(), make_scene(make_region())
    assert (FROZEN, None) == verdict(section, scene)
    assert "a region has no distance: metres need a calibration" == Triggers([section]).update(scene)[0].reason
    assert (FROZEN, 1.7) == verdict(section, make_scene(make_region(), make_region(1.7)))
    assert (NEAR, 1.2) == verdict(section, make_scene(make_region(), make_region(1.2)))


# --- frozen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["metres", "nearness"])
@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ({"state": "learning", "aligned": None, "reason": "the background is being learned"}, "is being learned"),
        ({"state": "lost", "aligned": None, "reason": "has the camera been moved?"}, "been moved"),
        ({"state": "lost"}, "the scene is lost"),
        ({"state": "tracking", "aligned": None, "reason": "this frame does not fit"}, "does not fit"),
        ({"state": "moving", "aligned": None}, "the scene is moving: there is no reading"),
        ({"quality": 0.4949}, "the quality, 0.49, is below min_quality, 0.5"),
    ],
)
def test_without_a_good_reading_a_trigger_is_frozen(measure: str, scene: dict[str, Any], reason: str):
    """Neither an empty nor a full picture switches a trigger while the scene can't be trusted; the reason is told."""
    section = make_section(measure=measure, near=0.5, clear=0.5)
    for regions in [(), (make_region(0.5, nearness=0.5),)]:
        frozen = make_scene(*regions, **scene)
        assert (FROZEN, None) == verdict(section, frozen)
        assert reason in (Triggers([section]).update(frozen)[0].reason or "")


def test_quality_as_low_as_allowed_is_enough():
    """`min_quality` itself is not below it, and the reason goes with the trouble."""
    triggers = Triggers([make_section()])
    assert triggers.update(make_scene(quality=0.49))[0].reason is not None
    assert TriggerState(name="t", on=False, changed=True) == triggers.update(make_scene(quality=0.5))[0]


def test_what_is_frozen_from_the_start_is_unknown():
    """Until the first good reading nothing is known of a trigger, and nothing is kept for the next run."""
    triggers = Triggers([make_section(**INSTANT), make_section(**INSTANT, name="later", min_quality=0.95)])
    assert [None, None] == play(triggers, (0.0, FROZEN), (0.2, FROZEN))
    assert {} == triggers.states()
    assert [True, None] == [state.on for state in triggers.update(scene_of(NEAR, 0.4))]
    assert {"t": True} == triggers.states()


# --- delays -----------------------------------------------------------------------------------------------------------


def test_somebody_comes_and_goes():
    """A trigger switches on after on_delay, stays on between near and clear, and off after off_delay."""
    triggers = Triggers([make_section(on_delay=0.5, off_delay=1.0)])
    assert [False, False, False, True] == play(triggers, (0, CLEAR), (0.25, NEAR), (0.5, NEAR), (0.75, NEAR))
    assert [True, True, True] == play(triggers, (1.0, BETWEEN), (9.0, BETWEEN), (9.5, CLEAR))
    assert [True, False] == play(triggers, (10.25, CLEAR), (10.5, CLEAR))


def test_a_condition_that_breaks_starts_anew():
    """A reading in between, or of the other kind, sets a running delay back to its start."""
    triggers = Triggers([make_section(on_delay=0.5, off_delay=0.5)])
    assert [False] * 5 == play(triggers, (0, NEAR), (0.25, NEAR), (0.5, BETWEEN), (0.75, NEAR), (1.0, NEAR))
    assert [True, True, True, True] == play(triggers, (1.25, NEAR), (1.5, CLEAR), (1.75, NEAR), (2.0, CLEAR))
    assert [True, False] == play(triggers, (2.25, CLEAR), (2.5, CLEAR))


def test_a_change_is_told_once():
    """`changed` is true with the very reading that switches, the first known one included."""
    triggers = Triggers([make_section(**INSTANT)])
    kinds = [FROZEN, CLEAR, CLEAR, NEAR, NEAR, FROZEN, CLEAR]
    changes = [triggers.update(scene_of(kind, at))[0].changed for at, kind in enumerate(kinds)]
    assert [False, True, False, True, False, False, True] == changes


def test_min_frames_counts_readings_of_one_moment_too():
    """Readings with the same time count as readings, but no time passes between them."""
    triggers = Triggers([make_section(on_delay=0.0, min_frames=3)])
    assert [False, False, True] == play(triggers, (5, NEAR), (5, NEAR), (5, NEAR))
    triggers = Triggers([make_section(on_delay=0.25, min_frames=1)])
    assert [False, False, False, True] == play(triggers, (5, NEAR), (5, NEAR), (5, NEAR), (5.25, NEAR))


def test_frozen_readings_neither_break_nor_advance_a_delay():
    """A delay goes on after a disturbance where it stopped; what lies around frozen readings is not counted."""
    triggers = Triggers([make_section(on_delay=1.0)])
    assert [False, False] == play(triggers, (0, NEAR), (0.5, NEAR))
    assert [False, False, False] == play(triggers, (1.0, FROZEN), (2.0, FROZEN), (3.0, NEAR))
    assert [False, True] == play(triggers, (3.25, NEAR), (3.5, NEAR))


def test_a_lost_camera_does_not_advance_a_delay():
    """A minute without frames is not a minute in which the condition held, neither on the way on nor off."""
    triggers = Triggers([make_section(on_delay=10, off_delay=10)])
    before = [(0.25 * step, NEAR) for step in range(10)]
    assert [False] * 12 == play(triggers, *before, (60, NEAR), (120, NEAR))
    assert True is play(triggers, *((120 + 0.25 * step, NEAR) for step in range(1, 40)))[-1]
    assert [True, True, True] == play(triggers, (130, CLEAR), (190, CLEAR), (190.25, CLEAR))


def test_a_slow_camera_has_a_pace_of_its_own():
    """Frames that come every 20 seconds are no gaps once that has become usual: the delays run."""
    triggers = Triggers([make_section(on_delay=60, off_delay=60)])
    states = play(triggers, *((20.0 * step, NEAR) for step in range(8)))
    assert (False, True) == (states[3], states[-1])
    assert [True, True, False] == play(triggers, (160, CLEAR), (200, CLEAR), (220, CLEAR))


def test_a_former_state_is_kept_until_the_condition_says_otherwise():
    """After a restart a trigger is what it was, through learning and between near and clear; others are forgotten."""
    states = {"t": True, "gone": True}
    triggers = Triggers([make_section(off_delay=0.5)], states)
    assert {"t": True} == triggers.states()
    learning = triggers.update(make_scene(state="learning", aligned=None, reason="learning"))
    assert (TriggerState(name="t", on=True, reason="learning"),) == learning
    assert [True, True, True] == play(triggers, (1, BETWEEN), (1.5, CLEAR), (1.75, CLEAR))
    assert [False] == play(triggers, (2.0, CLEAR))
    assert {"t": False} == triggers.states()


# --- laws -------------------------------------------------------------------------------------------------------------

Step = tuple[float, str]  # seconds since the step before, and what is seen

kinds = st.sampled_from([NEAR, BETWEEN, CLEAR, FROZEN])
gaps = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])  # sums of these are exact
# In any five gaps two at most are long, so that a long one never becomes usual.
histories = st.lists(st.tuples(gaps, gaps, gaps | st.just(60.0), kinds, kinds, kinds), max_size=20).map(
    lambda triples: [step for triple in triples for step in zip(triple[:3], triple[3:], strict=True)]
)
sections = st.builds(
    make_section,
    on_delay=st.sampled_from([0.0, 0.25, 1.0]),
    off_delay=st.sampled_from([0.0, 0.5, 2.0]),
    min_frames=st.integers(1, 4),
)


def held(history: list[Step], kind: str) -> tuple[int, float]:
    """Return how many readings at the end of a history are `kind`, frozen ones aside, and the time seen between."""
    frames, seconds, following = 0, 0.0, None
    for gap, seen in reversed(history):
        if seen not in (kind, FROZEN):
            break
        if seen == kind:
            frames += 1
            seconds += following if following is not None and following <= 1.0 else 0.0
        following = gap if seen == kind else None
    return frames, seconds


def by_definition(section: TriggerSection, history: list[Step], on: bool | None) -> Iterator[bool | None]:
    """Yield what a trigger must be after each step, told from the whole history rather than step by step."""
    for end, (_, kind) in enumerate(history, 1):
        delay = section.on_delay if kind == NEAR else section.off_delay
        frames, seconds = held(history[:end], kind)
        if kind in (NEAR, CLEAR) and frames >= section.min_frames and seconds >= delay:
            on = kind == NEAR
        elif kind != FROZEN:
            on = bool(on)
        yield on


def replay(section: TriggerSection, history: list[Step], on: bool | None) -> list[bool | None]:
    triggers = Triggers([section], {} if on is None else {"t": on})
    times = np.cumsum([0.0, *(gap for gap, _ in history)])[1:]
    return play(triggers, *((float(at), kind) for at, (_, kind) in zip(times, history, strict=True)))


@given(sections, histories, st.sampled_from([None, False, True]))
def test_a_trigger_is_what_its_history_says(section: TriggerSection, history: list[Step], before: bool | None):
    """It fires with the first reading after which the condition held for long enough, never earlier, never without."""
    assert list(by_definition(section, history, before)) == replay(section, history, before)


@given(sections, histories)
def test_a_trigger_never_flaps_faster_than_its_delays(section: TriggerSection, history: list[Step]):
    """From one change to the next at least min_frames readings and the delay of the second pass."""
    before, changed_at, time = False, None, 0.0
    for end, ((gap, _), on) in enumerate(zip(history, replay(section, history, False), strict=True)):
        time += gap
        if on == before:
            continue
        if changed_at is not None:
            assert time - changed_at[1] >= (section.on_delay if on else section.off_delay)
            assert end - changed_at[0] >= section.min_frames
        before, changed_at = on, (end, time)


@given(sections, histories, st.sampled_from([None, False, True]), st.data())
def test_frozen_readings_change_nothing(section: TriggerSection, history: list[Step], before: bool | None, data: Any):
    """However many frozen readings come at one moment, with them and after them all is as if it had been one."""
    at = data.draw(st.integers(0, len(history)))
    once = [*history[:at], (0.25, FROZEN), *history[at:]]
    often = [*history[:at], (0.25, FROZEN), *[(0.0, FROZEN)] * 3, *history[at:]]
    expected = replay(section, once, before)
    assert [*expected[: at + 1], *[expected[at]] * 3, *expected[at + 1 :]] == replay(section, often, before)
    assert expected[at] == (expected[at - 1] if at else before)


@given(sections, st.lists(st.tuples(gaps, st.sampled_from([BETWEEN, FROZEN]))), st.booleans())
def test_a_restored_state_outlives_all_that_decides_nothing(section: TriggerSection, history: list[Step], on: bool):
    """Neither frozen readings nor those between near and clear ever undo what was known before the restart."""
    assert {on} >= set(replay(section, history, on))


# --- with a real scene ------------------------------------------------------------------------------------------------


def test_a_figure_that_walks_through_a_zone_switches_once():
    """Whatever scale and shift each frame has, a trigger on nearness is on while somebody stands in its zone."""
    left = ZoneSection(name="left", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    right = ZoneSection(name="right", polygon=((0.5, 0), (1, 0), (1, 1), (0.5, 1)))
    camera, scene = Camera(seed=3), StillScene(SceneSection(learn_seconds=2), (left, right))
    section = make_section(measure="nearness", near=0.6, clear=0.5, on_delay=0.4, off_delay=1.0)
    triggers = Triggers([section.model_copy(update={"name": name, "zone": name}) for name in ("left", "right")])
    places = [None] * 20 + [0.75] * 20 + [None] * 20
    changes = []
    for place in places:
        depth = room() if place is None else with_figure(room(), place, 1.2)
        states = triggers.update(scene.update(camera.shoot(depth)))
        changes += [(state.name, state.on) for state in states if state.changed]
    assert [("left", False), ("right", False), ("right", True), ("right", False)] == changes
