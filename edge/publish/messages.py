"""From a reading to MQTT messages: what each topic says, and when; pure.

The status topic is the publisher's own (edge/publish/mqtt/), since the broker sends half of it.
"""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from edge.config import PublishSection
from edge.records import CameraStatus, EventType, Message, Reading, Region, TriggerState, ZoneScene
from edge.topics import Topics

SCHEMA = 1

_PICTURE_SECONDS = 2  # at the least; MQTT counts in whole ones
_SNAPSHOT_SECONDS = 60  # who asks for it, or is told of it, may be a minute late
_SWITCHED = {True: b"ON", False: b"OFF", None: b"None"}


def state_json(reading: Reading) -> dict[str, Any]:
    """Return the whole reading as JSON values; what is not known is null.

    Fractions and nearness have 4 decimals, metres 3, degrees and milliseconds 1. `time` is when the frame was captured.
    `zone_order` names the zones of a moving camera, the most prominent first, and is empty with a still one. The level
    of a trigger is in its own measure, with 3 decimals. `depth_age_s` is how long before this frame the network saw its
    last; 0 where it saw this one.
    """
    scene = reading.scene
    return {
        "schema": SCHEMA,
        "sequence": reading.frame.sequence,
        "time": utc(reading.frame.wall_time),
        "weights": scene.depth.weights,
        "mode": "moving" if scene.state == "moving" else "still",
        "quality": _rounded(scene.quality),
        "scene": {
            "state": scene.state,
            "reason": scene.reason,
            "progress": _rounded(scene.progress),
            "background_age_s": _rounded(scene.background_age_seconds, 1),
        },
        "nearest": None if scene.nearest is None else _region_json(scene.nearest),
        "surface": _rounded(scene.surface),
        "zone_order": list(scene.zone_order),
        "zones": {zone.name: _zone_json(zone) for zone in scene.zones},
        "triggers": {trigger.name: _trigger_json(trigger) for trigger in reading.triggers},
        "latency_ms": _rounded(reading.latency_seconds * 1000, 1),
        "dropped": reading.dropped,
        "depth_age_s": _rounded(reading.depth_age_seconds, 3),
    }


def _region_json(region: Region) -> dict[str, Any]:
    """Return a region as JSON values; `box` is left, top, right, bottom, like `centroid` in fractions of the frame."""
    return {
        "nearness": _rounded(region.nearness),
        "distance_m": _rounded(region.distance_m, 3),
        "uncertainty_m": _rounded(region.uncertainty_m, 3),
        "far": region.far,
        "extrapolated": region.extrapolated,
        "speed_mps": _rounded(region.speed_mps, 3),
        "contact_s": _rounded(region.contact_s, 1),
        "track": region.track,
        "box": [_rounded(side) for side in region.box],
        "centroid": [_rounded(part) for part in region.centroid],
        "area": _rounded(region.area),
        "bearing_deg": _rounded(region.bearing_deg, 1),
        "zones": list(region.zones),
    }


def _zone_json(zone: ZoneScene) -> dict[str, Any]:
    return {
        "occupied": zone.occupied,
        "nearness": _rounded(zone.nearness),
        "distance_m": _rounded(zone.distance_m, 3),
        "coverage": _rounded(zone.coverage),
        "surface": _rounded(zone.surface),
        "prominence": _rounded(zone.prominence),
    }


def _trigger_json(trigger: TriggerState) -> dict[str, Any]:
    return {"on": trigger.on, "level": _rounded(trigger.level, 3), "reason": trigger.reason}


def state_message(topics: Topics, reading: Reading) -> Message:
    """Return the whole reading for its topic."""
    return Message(topic=topics.named("state"), payload=encode(state_json(reading)))


def nearest_messages(topics: Topics, reading: Reading) -> list[Message]:
    """Return nearness and metres of the nearest region as plain numbers, each the text `None` where there is none.

    Home Assistant ignores an empty payload and would keep the last value; `None` it takes as unknown.
    """
    nearest = reading.scene.nearest
    nearness = None if nearest is None else _rounded(nearest.nearness)
    metres = None if nearest is None else _rounded(nearest.distance_m, 3)
    return [
        Message(topic=topics.named("nearest"), payload=str(nearness).encode()),
        Message(topic=topics.named("nearest_m"), payload=str(metres).encode()),
    ]


def occupancy_message(topics: Topics, zone: ZoneScene) -> Message:
    """Return whether something stands in the zone: `ON`, `OFF` or, while nobody can know, `None`."""
    return Message(topic=topics.zone_occupancy(zone.name), payload=_SWITCHED[zone.occupied], qos=1, retain=True)


def zone_message(topics: Topics, zone: ZoneScene, since: datetime) -> Message:
    """Return the zone's readings for its topic; `since` is when its occupancy changed."""
    values = {
        "schema": SCHEMA,
        "nearest": _rounded(zone.nearness),
        "coverage": _rounded(zone.coverage),
        "surface": _rounded(zone.surface),
        "prominence": _rounded(zone.prominence),
        "occupied": zone.occupied,
        "since": utc(since),
    }
    return Message(topic=topics.zone_state(zone.name), payload=encode(values))


def trigger_message(topics: Topics, state: TriggerState) -> Message:
    """Return whether the trigger is on: `ON`, `OFF` or, while nothing was ever known of it, `None`."""
    return Message(topic=topics.trigger(state.name), payload=_SWITCHED[state.on], qos=1, retain=True)


def camera_message(topics: Topics, status: CameraStatus) -> Message:
    """Return the camera's own state for its topic."""
    return Message(topic=topics.camera_status, payload=status.encode(), qos=1, retain=True)


def info_message(topics: Topics, info: Mapping[str, Any]) -> Message:
    """Return what this daemon is and runs on for its topic."""
    return Message(topic=topics.named("info"), payload=encode({"schema": SCHEMA, **info}), qos=1, retain=True)


def health_message(topics: Topics, health: Mapping[str, Any]) -> Message:
    """Return how this daemon fares for its topic; numbers with 2 decimals."""
    payload = encode({"schema": SCHEMA, **_tidy(health)})
    return Message(topic=topics.named("health"), payload=payload, qos=1, retain=True)


def heatmap_message(topics: Topics, jpeg: bytes, interval_seconds: float) -> Message:
    """Return a JPEG for the heatmap's topic; never retained, so that the broker keeps no picture.

    It is of use until the next one, which comes after `interval_seconds`, and a little longer.
    """
    expires = max(_PICTURE_SECONDS, math.ceil(2 * interval_seconds))
    return Message(topic=topics.named("heatmap"), payload=jpeg, expires_seconds=expires)


def snapshot_message(topics: Topics, jpeg: bytes) -> Message:
    """Return a JPEG for the snapshot's topic; never retained."""
    return Message(topic=topics.named("snapshot"), payload=jpeg, expires_seconds=_SNAPSHOT_SECONDS)


def event_message(topics: Topics, event_type: EventType, time: datetime, details: Mapping[str, Any]) -> Message:
    """Return something that happened; never retained, or it would happen again with every connection."""
    values = {"schema": SCHEMA, "event_type": event_type, "time": utc(time), "details": details}
    return Message(topic=topics.named("event"), payload=encode(values), qos=1)


def setting_message(topics: Topics, option: str, value: bool | float | str) -> Message:
    """Return what an option is set to: `ON` or `OFF`, a plain number, or its text."""
    text = _SWITCHED[value] if isinstance(value, bool) else str(value).encode()
    return Message(topic=topics.setting_state(option), payload=text, qos=1, retain=True)


def response_message(topics: Topics, command: str, transaction: str | int | None, values: Mapping[str, Any]) -> Message:
    """Return the answer to a request, with `ok` and, where that is false, the `error`; never retained."""
    answer = {"schema": SCHEMA, "transaction": transaction, "ok": "error" not in values, **values}
    return Message(topic=topics.response(command), payload=encode(answer), qos=1)


def encode(values: Mapping[str, Any]) -> bytes:
    """Return compact JSON.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    return json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def utc(moment: datetime) -> str:
    """Return an aware moment as ISO-8601 in UTC with milliseconds, such as 2026-11-23T14:05:09.250Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits) + 0.0  # + 0.0 makes -0.0 plain


def _tidy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _tidy(value) if isinstance(value, Mapping) else _rounded(value, 2) if isinstance(value, float) else value
        for key, value in values.items()
    }


class _Gate:
    """Decides when the values of one topic are due: never within `min_interval` seconds, always after `heartbeat`.

    Between the two when a fact changed, or a level moved by more than `deadband`, appeared or vanished since last sent.
    """

    def __init__(self, section: PublishSection) -> None:
        self._section = section
        self._sent_at: float | None = None
        self._facts: tuple[object, ...] = ()
        self._levels: tuple[float | None, ...] = ()

    def is_due(self, now: float, facts: tuple[object, ...], levels: tuple[float | None, ...]) -> bool:
        """Return whether the values are due `now`, in monotonic seconds; if so they count as sent."""
        if self._sent_at is not None:
            elapsed = now - self._sent_at
            if elapsed < self._section.min_interval:
                return False
            if elapsed < self._section.heartbeat and facts == self._facts and not self._moved(levels):
                return False
        self._sent_at, self._facts, self._levels = now, facts, levels
        return True

    def _moved(self, levels: tuple[float | None, ...]) -> bool:
        pairs = zip(self._levels, levels, strict=True)
        return any(
            (before is None) != (level is None)
            or (before is not None and level is not None and abs(level - before) > self._section.deadband)
            for before, level in pairs
        )


class Events:
    """Finds what happened between one reading and the next.

    `on` names the triggers that were on when the daemon last stopped: going on so is no event.
    """

    def __init__(self, on: Iterable[str]) -> None:
        self._on = set(on)
        self._lost = False

    def of(self, reading: Reading) -> list[tuple[EventType, dict[str, Any]]]:
        """Return the events of a reading, each with its details."""
        found: list[tuple[EventType, dict[str, Any]]] = []
        for trigger in reading.triggers:
            details = {"trigger": trigger.name, "level": _rounded(trigger.level, 3)}
            if trigger.on and trigger.name not in self._on:
                self._on.add(trigger.name)
                found.append(("near", details))
            elif trigger.on is False and trigger.name in self._on:
                self._on.discard(trigger.name)
                found.append(("clear", details))
        lost = reading.scene.state == "lost"
        if lost and not self._lost:
            found.append(("scene_lost", {"reason": reading.scene.reason}))
        self._lost = lost
        return found


class ReadingPublisher:
    """Decides which messages of a reading are due.

    The reading's topics come together and each zone's alone, as `publish` in the configuration says: at most every
    `min_interval` seconds, at least every `heartbeat` seconds, in between on a change. Occupancy and triggers come on a
    change only, and at once.
    """

    def __init__(self, section: PublishSection, topics: Topics) -> None:
        self._topics = topics
        self._occupancy: dict[str, tuple[bool | None, datetime]] = {}
        self.configure(section)

    def configure(self, section: PublishSection) -> None:
        """Go by another section from now on; all is sent anew, but an occupancy is as old as it was."""
        self._section = section
        self._triggers: dict[str, Message] = {}
        self._zones_sent: set[str] = set()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Count nothing as sent that a broker does not keep: the next reading is due at once."""
        self._gate = _Gate(self._section)
        self._zone_gates: dict[str, _Gate] = {}

    def messages(self, reading: Reading, now: float) -> list[Message]:
        """Return the messages that are due `now`, in monotonic seconds."""
        found = [message for state in reading.triggers for message in self._trigger(state)]
        found += [message for zone in reading.scene.zones for message in self._zone(zone, reading, now)]
        if self._gate.is_due(now, *_what_matters(reading)):
            found += [state_message(self._topics, reading), *nearest_messages(self._topics, reading)]
        return found

    def _trigger(self, state: TriggerState) -> list[Message]:
        message = trigger_message(self._topics, state)
        if message == self._triggers.get(state.name):
            return []
        self._triggers[state.name] = message
        return [message]

    def _zone(self, zone: ZoneScene, reading: Reading, now: float) -> list[Message]:
        found = []
        known = self._occupancy.get(zone.name)
        if known is None or known[0] != zone.occupied:
            self._occupancy[zone.name] = zone.occupied, reading.frame.wall_time
            self._zones_sent.discard(zone.name)
        if zone.name not in self._zones_sent:
            self._zones_sent.add(zone.name)
            found.append(occupancy_message(self._topics, zone))
        gate = self._zone_gates.setdefault(zone.name, _Gate(self._section))
        if gate.is_due(now, (zone.occupied,), (zone.nearness, zone.coverage, zone.surface, zone.prominence)):
            found.append(zone_message(self._topics, zone, self._occupancy[zone.name][1]))
        return found


def _what_matters(reading: Reading) -> tuple[tuple[object, ...], tuple[float | None, ...]]:
    """Return the facts and the levels whose change makes a reading worth sending before its heartbeat."""
    scene = reading.scene
    nearness = scene.nearest.nearness if scene.nearest else None
    facts = (
        scene.state,
        tuple((zone.name, zone.occupied) for zone in scene.zones),
        tuple((trigger.name, trigger.on) for trigger in reading.triggers),
    )
    return facts, (scene.quality, nearness, *(zone.prominence for zone in scene.zones))
