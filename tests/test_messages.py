"""What each topic says, and when."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import PublishSection
from edge.publish.messages import (
    Events,
    ReadingPublisher,
    camera_message,
    event_message,
    health_message,
    heatmap_message,
    info_message,
    nearest_messages,
    response_message,
    setting_message,
    state_json,
    state_message,
    trigger_message,
    utc,
)
from edge.records import DepthMap, Frame, Message, Reading, Region, Scene, TriggerState, ZoneScene
from edge.topics import Topics

TOPICS = Topics("edge-depth", "hall")
ROOT = "edge-depth/hall/"
NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, UTC)
PERSON = Region(nearness=0.81234, box=(0.25, 0.1, 0.5, 1.0), centroid=(0.4, 0.6), area=0.21, zones=("door",))
EMPTY_DOOR = ZoneScene(name="door", occupied=False, coverage=0.0, surface=0.4)
TAKEN_DOOR = ZoneScene(name="door", occupied=True, nearness=0.81234, coverage=0.6, surface=0.9)


def make_reading(at: datetime = NOON, triggers: tuple[TriggerState, ...] = (), **scene: Any) -> Reading:
    frame = Frame(sequence=7, captured_at=1.0, wall_time=at, pixels=np.zeros((4, 4, 3), np.uint8))
    depth = DepthMap(frame=frame, inverse_depth=np.ones((2, 2), np.float32), inference_seconds=0.2, weights="starter")
    values = {"state": "tracking", "quality": 0.9, "zones": (EMPTY_DOOR,)} | scene
    return Reading(scene=Scene(depth=depth, **values), latency_seconds=0.28764, dropped=3, triggers=triggers)


def make_publisher(**section: float) -> ReadingPublisher:
    values = {"min_interval": 1.0, "heartbeat": 10.0, "deadband": 0.05} | section
    return ReadingPublisher(PublishSection(**values), TOPICS)


def names(messages: list[Message]) -> list[str]:
    return [message.topic.removeprefix(ROOT) for message in messages]


def payload_of(messages: list[Message], topic: str) -> bytes:
    return next(message.payload for message in messages if message.topic == ROOT + topic)


# --- what -------------------------------------------------------------------------------------------------------------


def test_a_tracked_person_in_full():
    """The state of a calibrated camera that sees somebody is this document."""
    motion = {"extrapolated": True, "speed_mps": 0.8767, "contact_s": 2.66, "track": 12}
    person = replace(PERSON, distance_m=2.34567, uncertainty_m=0.12345, bearing_deg=-12.34, **motion)
    triggers = (TriggerState(name="visitor", on=True, level=2.34567, changed=True),)
    reading = make_reading(
        regions=(person,), zones=(TAKEN_DOOR,), surface=0.95, background_age_seconds=61.26, triggers=triggers
    )
    assert state_json(reading) == {
        "schema": 1,
        "sequence": 7,
        "time": "2026-11-23T12:00:00.250Z",
        "weights": "starter",
        "mode": "still",
        "quality": 0.9,
        "scene": {"state": "tracking", "reason": None, "progress": None, "background_age_s": 61.3},
        "nearest": {
            "nearness": 0.8123,
            "distance_m": 2.346,
            "uncertainty_m": 0.123,
            "far": False,
            "extrapolated": True,
            "speed_mps": 0.877,
            "contact_s": 2.7,
            "track": 12,
            "box": [0.25, 0.1, 0.5, 1.0],
            "centroid": [0.4, 0.6],
            "area": 0.21,
            "bearing_deg": -12.3,
            "zones": ["door"],
        },
        "surface": 0.95,
        "zone_order": [],
        "zones": {
            "door": {
                "occupied": True,
                "nearness": 0.8123,
                "distance_m": None,
                "coverage": 0.6,
                "surface": 0.9,
                "prominence": None,
            },
        },
        "triggers": {"visitor": {"on": True, "level": 2.346, "reason": None}},
        "latency_ms": 287.6,
        "dropped": 3,
        "depth_age_s": 0.0,
    }


def test_a_learning_camera_knows_nothing_and_says_why():
    """While learning, nearest is null and the reason and the progress are there."""
    reading = make_reading(state="learning", quality=0.0, reason="the background is being learned", progress=0.5)
    state = state_json(reading)
    assert state["nearest"] is None
    assert state["scene"] == {
        "state": "learning",
        "reason": "the background is being learned",
        "progress": 0.5,
        "background_age_s": None,
    }


def test_a_moving_camera_orders_its_zones():
    """With a moving camera the mode says so, and zones are ordered by prominence."""
    zones = (ZoneScene(name="left", prominence=0.2), ZoneScene(name="right", prominence=1.4))
    state = state_json(make_reading(state="moving", zones=zones))
    assert state["mode"] == "moving"
    assert state["zone_order"] == ["right", "left"]
    assert state["zones"]["right"]["prominence"] == 1.4


def test_a_frozen_trigger_says_why():
    """A trigger that nothing is known of is null, and the reason is in words."""
    state = TriggerState(name="visitor", on=None, reason="the background is being learned")
    expected = {"visitor": {"on": None, "level": None, "reason": "the background is being learned"}}
    assert expected == state_json(make_reading(triggers=(state,)))["triggers"]


@pytest.mark.parametrize(("on", "payload"), [(True, b"ON"), (False, b"OFF"), (None, b"None")])
def test_a_trigger_is_a_retained_word(on: bool | None, payload: bytes):
    """ON, OFF or, while nothing is known, None."""
    expected = Message(topic=ROOT + "trigger/visitor", payload=payload, qos=1, retain=True)
    assert expected == trigger_message(TOPICS, TriggerState(name="visitor", on=on))


def test_the_nearest_region_as_plain_numbers():
    """`nearest` and `nearest_m` are a number each, and the text None where there is none."""
    nobody = nearest_messages(TOPICS, make_reading())
    assert [b"None", b"None"] == [message.payload for message in nobody]
    uncalibrated = nearest_messages(TOPICS, make_reading(regions=(PERSON,)))
    assert [b"0.8123", b"None"] == [message.payload for message in uncalibrated]
    calibrated = nearest_messages(TOPICS, make_reading(regions=(replace(PERSON, distance_m=2.0),)))
    assert [b"0.8123", b"2.0"] == [message.payload for message in calibrated]
    assert names(calibrated) == ["nearest", "nearest_m"]


def test_info_and_health_are_retained_documents_with_a_schema():
    """Both hold what they are given and the schema; the numbers of health have two decimals."""
    info = info_message(TOPICS, {"version": "0.1.0", "weights": {"name": "starter"}})
    assert (info.topic, info.qos, info.retain) == (ROOT + "info", 1, True)
    assert json.loads(info.payload) == {"schema": 1, "version": "0.1.0", "weights": {"name": "starter"}}
    health = health_message(TOPICS, {"fps": 4.98765, "inference_ms": {"p50": 91.234, "p95": 99.0}, "throttled": None})
    assert (health.topic, health.qos, health.retain) == (ROOT + "health", 1, True)
    expected = {"schema": 1, "fps": 4.99, "inference_ms": {"p50": 91.23, "p95": 99.0}, "throttled": None}
    assert json.loads(health.payload) == expected


def test_the_cameras_state_is_retained_and_the_heatmap_is_not():
    """The camera's state is a retained word; a picture never stays in the broker."""
    expected = Message(topic=ROOT + "camera/status", payload=b"reconnecting", qos=1, retain=True)
    assert camera_message(TOPICS, "reconnecting") == expected
    expected = Message(topic=ROOT + "heatmap", payload=b"\xff\xd8", expires_seconds=4)
    assert expected == heatmap_message(TOPICS, b"\xff\xd8", 1.6)


def test_times_are_in_utc():
    """A moment of any time zone is told in UTC, with milliseconds and a Z."""
    moment = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert utc(moment) == "2025-12-31T23:30:00.000Z"


def test_a_number_that_json_does_not_have_is_refused():
    """NaN never leaves as the word NaN, which other programs can't read."""
    with pytest.raises(ValueError, match="JSON"):
        state_message(TOPICS, make_reading(surface=float("nan")))


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(quality=numbers, nearness=numbers, surface=st.none() | numbers, reason=st.none() | st.text())
def test_state_is_json_for_every_program(quality: float, nearness: float, surface: float | None, reason: str | None):
    """Whatever the numbers and words, the payload is strict JSON that reads back as what was written."""
    region = replace(PERSON, nearness=nearness)
    reading = make_reading(quality=quality, regions=(region,), surface=surface, reason=reason)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    payload = state_message(TOPICS, reading).payload
    assert json.loads(payload.decode("utf-8"), parse_constant=refuse) == state_json(reading)
    assert b"-0.0," not in payload


# --- when -------------------------------------------------------------------------------------------------------------


def test_the_first_reading_sends_everything():
    """Every topic of a reading comes once at the start, with the retain flag and the QoS that it is known for."""
    messages = make_publisher().messages(make_reading(), 0.0)
    assert names(messages) == ["zone/door/occupancy", "zone/door/state", "state", "nearest", "nearest_m"]
    assert [message.qos for message in messages] == [1, 0, 0, 0, 0]
    assert [message.retain for message in messages] == [True, False, False, False, False]


def test_a_still_scene_is_repeated_with_the_heartbeat():
    """What does not change is silent until the heartbeat; occupancy is not repeated even then."""
    publisher = make_publisher()
    publisher.messages(make_reading(), 0.0)
    assert [] == publisher.messages(make_reading(), 9.9)
    assert names(publisher.messages(make_reading(), 10.0)) == ["zone/door/state", "state", "nearest", "nearest_m"]
    assert [] == publisher.messages(make_reading(), 19.9)


@pytest.mark.parametrize(
    ("change", "topics"),
    [
        ({"regions": (PERSON,)}, ["state", "nearest", "nearest_m"]),
        ({"quality": 0.84}, ["state", "nearest", "nearest_m"]),
        ({"state": "lost"}, ["state", "nearest", "nearest_m"]),
        ({"triggers": (TriggerState(name="t", on=True),)}, ["trigger/t", "state", "nearest", "nearest_m"]),
        ({"zones": (replace(EMPTY_DOOR, surface=0.46),)}, ["zone/door/state"]),
        ({"zones": (replace(EMPTY_DOOR, prominence=1.0),)}, ["zone/door/state", "state", "nearest", "nearest_m"]),
        ({"quality": 0.86}, []),
        ({"zones": (replace(EMPTY_DOOR, surface=0.44),)}, []),
        ({"surface": 0.9}, []),
    ],
)
def test_a_change_that_matters_is_sent_before_the_heartbeat(change: dict[str, Any], topics: list[str]):
    """A region that appears, another scene state and a level beyond the deadband are sent; smaller moves are not."""
    publisher = make_publisher()
    publisher.messages(make_reading(), 0.0)
    assert names(publisher.messages(make_reading(**change), 2.0)) == topics


def test_a_slow_drift_is_measured_from_what_was_sent():
    """Small steps add up: the deadband lies around the last value sent, not around the last value seen."""
    publisher = make_publisher(heartbeat=100.0)
    sent = [bool(publisher.messages(make_reading(quality=0.9 - 0.02 * step), 2.0 * step)) for step in range(6)]
    assert sent == [True, False, False, True, False, False]


def test_a_region_that_vanishes_is_sent():
    """When the nearest region goes, `None` is sent before the heartbeat."""
    publisher = make_publisher()
    publisher.messages(make_reading(regions=(PERSON,)), 0.0)
    assert payload_of(publisher.messages(make_reading(), 2.0), "nearest") == b"None"


def test_a_change_within_the_least_interval_comes_after_it():
    """Readings never come closer than `min_interval`; a change in between is not forgotten."""
    publisher = make_publisher()
    publisher.messages(make_reading(), 0.0)
    assert [] == publisher.messages(make_reading(regions=(PERSON,)), 0.9)
    assert "state" in names(publisher.messages(make_reading(regions=(PERSON,)), 1.0))


def test_occupancy_is_sent_at_once_on_every_change():
    """ON, OFF and None follow the zone's occupancy, without waiting for `min_interval`."""
    publisher = make_publisher()
    zones = [TAKEN_DOOR, TAKEN_DOOR, EMPTY_DOOR, ZoneScene(name="door"), ZoneScene(name="door"), TAKEN_DOOR]
    sent = []
    for step, zone in enumerate(zones):
        messages = publisher.messages(make_reading(zones=(zone,)), 0.1 * step)
        sent += [message.payload for message in messages if message.topic.endswith("occupancy")]
    assert sent == [b"ON", b"OFF", b"None", b"ON"]


def test_triggers_are_sent_at_once_on_every_change():
    """The first state, unknown included, and each change come without waiting; a new level alone is no change."""
    publisher, sent = make_publisher(min_interval=5.0), []
    for step, (on, level) in enumerate([(None, None), (False, 3.0), (False, 1.0), (True, 1.0), (True, 0.8), (True, 3)]):
        states = (TriggerState(name="visitor", on=on, level=level), TriggerState(name="other", on=False))
        sent.append(publisher.messages(make_reading(triggers=states), 0.1 * step))
    firsts = [(message.topic.removeprefix(ROOT), message.payload) for message in sent[0][:2]]
    assert [("trigger/visitor", b"None"), ("trigger/other", b"OFF")] == firsts
    assert [[b"OFF"], [], [b"ON"], [], []] == [[message.payload for message in each] for each in sent[1:]]


def test_since_is_when_the_occupancy_changed():
    """`since` stays while the occupancy does, and is the time of the frame that changed it."""
    publisher = make_publisher()
    publisher.messages(make_reading(NOON), 0.0)
    later = NOON + timedelta(seconds=30)
    taken = publisher.messages(make_reading(later, zones=(TAKEN_DOOR,)), 30.0)
    assert json.loads(payload_of(taken, "zone/door/state")) == {
        "schema": 1,
        "nearest": 0.8123,
        "coverage": 0.6,
        "surface": 0.9,
        "prominence": None,
        "occupied": True,
        "since": "2026-11-23T12:00:30.250Z",
    }
    still = publisher.messages(make_reading(later + timedelta(seconds=30), zones=(TAKEN_DOOR,)), 60.0)
    assert json.loads(payload_of(still, "zone/door/state"))["since"] == "2026-11-23T12:00:30.250Z"
    publisher.configure(PublishSection(min_interval=1.0))
    anew = publisher.messages(make_reading(later + timedelta(seconds=31), zones=(TAKEN_DOOR,)), 60.1)
    assert json.loads(payload_of(anew, "zone/door/state"))["since"] == "2026-11-23T12:00:30.250Z"
    assert b"ON" == payload_of(anew, "zone/door/occupancy")


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0, 1), st.booleans()), max_size=60))
def test_readings_come_neither_too_often_nor_too_seldom(steps: list[tuple[float, float, bool]]):
    """Whatever happens, states are `min_interval` apart at least, and `heartbeat` plus one frame at most."""
    publisher, now, sent_at = make_publisher(), 0.0, []
    for wait, quality, present in steps:
        reading = make_reading(quality=quality, regions=(PERSON,) if present else ())
        if "state" in names(publisher.messages(reading, now)):
            sent_at.append(now)
        now += wait
    gaps = np.diff([*sent_at, now])
    assert np.all(gaps[:-1] >= 1.0 - 1e-9)
    assert np.all(gaps <= 10.0 + 3.0)


def _trigger(on: bool | None, level: float | None = None) -> tuple[TriggerState, ...]:
    return (TriggerState(name="visitor", on=on, level=level),)


def test_events_are_what_changed():
    """A trigger that goes on is `near`, one that goes off `clear`, each once; staying so is nothing."""
    events = Events(on=())
    found = [events.of(make_reading(triggers=_trigger(on, 1.2))) for on in (None, False, True, True, False, False)]
    near, clear = [("near", {"trigger": "visitor", "level": 1.2})], [("clear", {"trigger": "visitor", "level": 1.2})]
    assert found == [[], [], near, [], clear, []]


def test_going_on_after_a_restart_is_no_event():
    """A trigger that was on when the daemon stopped, and still is, has not happened again; its end is told."""
    events = Events(on=["visitor"])
    assert events.of(make_reading(triggers=_trigger(True))) == []
    assert [kind for kind, _ in events.of(make_reading(triggers=_trigger(False)))] == ["clear"]


def test_a_lost_scene_is_told_once():
    """However long the scene is lost, it is one event, with the reason; the next loss is another."""
    events = Events(on=())
    lost = make_reading(state="lost", reason="moved")
    found = [events.of(reading) for reading in (lost, lost, make_reading(), lost)]
    told = [("scene_lost", {"reason": "moved"})]
    assert found == [told, [], [], told]


def test_an_event_is_never_retained():
    """Retained, it would happen again with every connection; acknowledged, it is not lost on the way."""
    message = event_message(TOPICS, "near", NOON, {"trigger": "visitor"})
    assert (message.qos, message.retain) == (1, False)
    assert json.loads(message.payload) == {
        "schema": 1,
        "event_type": "near",
        "time": utc(NOON),
        "details": {"trigger": "visitor"},
    }


def test_a_setting_and_a_response_are_told():
    """A setting is retained, in its plain form; a response never is, and says whether it went well."""
    for value, payload in ((True, b"ON"), (False, b"OFF"), (1.5, b"1.5"), ("magma", b"magma")):
        expected = Message(topic=ROOT + "interval/state", payload=payload, qos=1, retain=True)
        assert expected == setting_message(TOPICS, "interval", value)
    answer = response_message(TOPICS, "snapshot", "t1", {"sequence": 4})
    assert (ROOT + "response/snapshot", 1, False) == (answer.topic, answer.qos, answer.retain)
    assert {"schema": 1, "transaction": "t1", "ok": True, "sequence": 4} == json.loads(answer.payload)
    assert not json.loads(response_message(TOPICS, "relearn", None, {"error": "no"}).payload)["ok"]


def test_after_a_gap_the_next_reading_is_due():
    """Whatever was sent shortly before: somebody may have missed it. Retained states are the publisher's business."""
    publisher = make_publisher()
    first = publisher.messages(make_reading(), 0.0)
    assert [] == publisher.messages(make_reading(), 0.05)
    publisher.begin_anew()
    again = publisher.messages(make_reading(), 0.06)
    assert [message.topic for message in first if not message.retain] == [message.topic for message in again]
