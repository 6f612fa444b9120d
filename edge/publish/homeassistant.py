"""What Home Assistant is told of this camera, so that its entities appear by themselves; pure.

The rules are those of its MQTT integration (home-assistant.io/integrations/mqtt, "MQTT Discovery"; read and run with
2026.2 and 2026.11). With a key at the root of a device payload that it does not know, it drops the whole of it. A
component takes over `availability` from the root unless it has its own; 2026.2 does not hand down `qos`.
"""

import ipaddress
import json
import math
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from edge import __version__
from edge.config import Config, HeatmapSection, TriggerSection, near_option, options, split_address
from edge.records import EventType, Message
from edge.topics import Topics

EVENT_TYPES = get_args(EventType)

# What was announced: each retained topic and, where it is a device's, the components in it as `platform/key`.
Announced = Mapping[str, Collection[str]]

_EXPIRES_AFTER = 3  # times the longest wait between two readings: one that is late, or lost (QoS 0), is no failure
_EXPIRES_SECONDS = 30  # at the least: a slow network takes seconds for a frame, whatever the heartbeat
_PRESSED = '{"transaction":"home-assistant"}'
_NUMBER = {"mode": "box", "entity_category": "config"}


@dataclass(frozen=True, slots=True)
class _Entity:
    """One row: `platform` and `key`, unique within the camera, are what the entity is known by for good.

    `options` are those of its platform. `needs_camera` says that it has nothing to say while the camera is away.
    """

    platform: str
    key: str
    name: str
    options: Mapping[str, Any]
    needs_camera: bool = False


def discovery(
    config: Config,
    topics: Topics,
    *,
    calibrated: bool,
    machine: str,
    before: Announced | None = None,
) -> list[Message]:
    """Return the retained messages that make the camera's entities, in the form that `mqtt.discovery` asks for.

    `calibrated` says whether there are metres, `machine` what it runs on. `before` is what `announced` said of the call
    before, in an earlier run too: what of it is no longer there is taken back. The order of the messages counts.
    """
    before = before or {}
    entities = _entities(config, topics, calibrated=calibrated)
    shared = _shared(config, topics, machine)
    found: dict[str, dict[str, Any]] = {}
    if config.mqtt.discovery == "device":
        topic = _device_topic(config, topics)
        found[topic] = shared | {"components": _components(entities, topics, before.get(topic, ()))}
    elif config.mqtt.discovery == "single":
        for entity in entities:
            found[_single_topic(config, topics, entity)] = shared | _component(entity, topics)
    gone = [taken_back(topic) for topic in before if topic not in found]
    return gone + [_retained(topic, json.dumps(values, separators=(",", ":"))) for topic, values in found.items()]


def announced(messages: Iterable[Message]) -> dict[str, list[str]]:
    """Return what messages of `discovery` announce, as JSON values; for its next call, once a broker has them.

    A component that went stays: Home Assistant may have been away when it was taken back.
    """
    found = {message.topic: json.loads(message.payload) for message in messages if message.payload}
    return {
        topic: sorted(f"{component['platform']}/{key}" for key, component in values.get("components", {}).items())
        for topic, values in found.items()
    }


def entity_names(config: Config, topics: Topics) -> list[str]:
    """Return the names of the entities that a configuration makes."""
    if config.mqtt.discovery == "off":
        return []
    return [entity.name for entity in _entities(config, topics, calibrated=config.calibration.given)]


def removal(config: Config, topics: Topics) -> list[Message]:
    """Return the empty retained messages that take back whatever this configuration may have announced.

    With `mqtt.discovery: off` the form is not known, so both forms are taken back.
    """
    entities = _entities(config, topics, calibrated=True)
    device = [_device_topic(config, topics)]
    single = [_single_topic(config, topics, entity) for entity in entities]
    forms = {"device": device, "single": single, "off": device + single}
    return [taken_back(topic) for topic in forms[config.mqtt.discovery]]


def retained_topics(config: Config, topics: Topics) -> list[str]:
    """Return the retained topics that come and go with the configuration: of zones, triggers and options."""
    return [
        *(topics.zone_occupancy(zone.name) for zone in config.zones),
        *(topics.trigger(trigger.name) for trigger in config.triggers),
        *(topics.setting_state(option) for option in options(config)),
    ]


def _retained(topic: str, payload: str) -> Message:
    return Message(topic=topic, payload=payload.encode(), qos=1, retain=True)


def taken_back(topic: str) -> Message:
    """Return the empty retained message that makes a broker forget what it keeps of a topic."""
    return _retained(topic, "")


def _node(topics: Topics) -> str:
    return f"edge-depth_{topics.id}"


def _device_topic(config: Config, topics: Topics) -> str:
    return f"{config.mqtt.discovery_prefix}/device/{_node(topics)}/config"


def _single_topic(config: Config, topics: Topics, entity: _Entity) -> str:
    """Return the entity's own topic.

    Its node and object are those that Home Assistant gives to the component of a device: so it takes the two forms for
    one entity, and does what it is told of them in order.
    """
    return f"{config.mqtt.discovery_prefix}/{entity.platform}/{_node(topics)}/{entity.key}/config"


def _shared(config: Config, topics: Topics, machine: str) -> dict[str, Any]:
    """Return what all entities have in common."""
    return {
        "device": {
            "identifiers": [_node(topics)],
            "name": config.name or topics.id,
            "manufacturer": "edge-depth",
            "model": "Depth camera",
            "hw_version": machine,
            "sw_version": __version__,
            **_page(config),
        },
        "origin": {"name": "edge-depth", "sw_version": __version__},
        "availability": [
            {"topic": topics.named("status")},
            # `reconnecting` and `disabled` are no words of Home Assistant's
            {"topic": topics.camera_status, "value_template": "{{ 'online' if value == 'online' else 'offline' }}"},
        ],
        "availability_mode": "all",
    }


def _page(config: Config) -> dict[str, str]:
    """Return where the page is, if others can reach it: a loopback address means another machine in every browser."""
    if config.web.listen is None or config.web.is_loopback:
        return {}
    host, port = split_address(config.web.listen)
    if ipaddress.ip_address(host).is_unspecified:
        host = config.web.names[0] if config.web.names else f"{socket.gethostname().split('.')[0]}.local"
    return (
        {"configuration_url": f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"} if port else {}
    )


def _components(entities: Iterable[_Entity], topics: Topics, before: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the components of a device; those that went have nothing but their platform, which removes them."""
    gone = (entry.split("/") for entry in before)
    here = {entity.key: {"platform": entity.platform} | _component(entity, topics) for entity in entities}
    return {key: {"platform": platform} for platform, key in gone} | here


def _component(entity: _Entity, topics: Topics) -> dict[str, Any]:
    object_id = f"{topics.id}_{entity.key}".replace("-", "_")
    daemon_alone = {} if entity.needs_camera else {"availability": [{"topic": topics.named("status")}]}
    return {
        "unique_id": f"{_node(topics)}_{entity.key}",
        "default_entity_id": f"{entity.platform}.{object_id}",
        "name": entity.name,
        "qos": 1,
        **daemon_alone,
        **entity.options,
    }


# --- the entities, a row each -----------------------------------------------------------------------------------------


def _entities(config: Config, topics: Topics, *, calibrated: bool) -> list[_Entity]:
    entities = []
    if config.scene.mode == "still":  # a moving camera has no background: nothing is nearest, nothing is occupied
        entities += [*_nearest(config, topics, calibrated), *_places(config, topics)]
    if config.heatmap.enabled:
        entities.append(_Entity("camera", "heatmap", "Heatmap", {"topic": topics.named("heatmap")}, needs_camera=True))
    return [*entities, *_events(topics), *_settings(config, topics), *_buttons(config, topics), *_diagnostics(topics)]


def _nearest(config: Config, topics: Topics, calibrated: bool) -> list[_Entity]:
    longest = max(config.publish.heartbeat, config.publish.min_interval, 1 / config.camera.fps)
    relative = {
        "state_topic": topics.named("nearest"),
        "expire_after": max(_EXPIRES_SECONDS, math.ceil(_EXPIRES_AFTER * longest)),
        "state_class": "measurement",
        "suggested_display_precision": 2,
    }
    metres = {"state_topic": topics.named("nearest_m"), "device_class": "distance", "unit_of_measurement": "m"}
    rows = [
        _Entity("sensor", "nearest", "Nearness", relative, needs_camera=True),
        _Entity("sensor", "nearest_m", "Nearest distance", relative | metres, needs_camera=True),
    ]
    return rows if calibrated else rows[:1]


def _places(config: Config, topics: Topics) -> list[_Entity]:
    found = [(f"zone_{zone.name}", topics.zone_occupancy(zone.name)) for zone in config.zones]
    found += [(f"trigger_{trigger.name}", topics.trigger(trigger.name)) for trigger in config.triggers]
    return [
        _Entity(
            "binary_sensor", key, _words(key), {"state_topic": topic, "device_class": "occupancy"}, needs_camera=True
        )
        for key, topic in found
    ]


def _words(key: str) -> str:
    return key.replace("_", " ").replace("-", " ").capitalize()


def _events(topics: Topics) -> list[_Entity]:
    """Return events and what comes with them; events don't need the camera, since one of them tells of its loss."""
    event = {"state_topic": topics.named("event"), "event_types": EVENT_TYPES}
    return [
        _Entity("event", "event", "Event", event),
        _Entity("image", "snapshot", "Snapshot", {"image_topic": topics.named("snapshot")}, needs_camera=True),
    ]


def _settings(config: Config, topics: Topics) -> list[_Entity]:
    rows = [_Entity("switch", "enabled", "Enabled", _setting(topics, "enabled"))]
    if config.heatmap.enabled:
        interval = {"device_class": "duration", "unit_of_measurement": "s", "min": 0, "max": 86400, "step": 0.1}
        colours = {"options": get_args(HeatmapSection.model_fields["colormap"].annotation), "entity_category": "config"}
        rows += [
            _Entity("number", "interval", "Heatmap interval", interval | _NUMBER | _setting(topics, "interval")),
            _Entity("select", "colormap", "Heatmap colours", colours | _setting(topics, "colormap")),
        ]
    return rows + [_near(topics, trigger) for trigger in config.triggers]


def _near(topics: Topics, trigger: TriggerSection) -> _Entity:
    """Return a trigger's level, within what the configuration allows for its `near` beside its `clear`."""
    key = f"trigger_{trigger.name}_near"
    near = _setting(topics, near_option(trigger.name)[0]) | _NUMBER | {"step": 0.01}
    if trigger.measure == "metres":
        near |= {"min": 0.01, "max": trigger.clear or 200, "device_class": "distance", "unit_of_measurement": "m"}
    else:
        near |= {"min": trigger.clear or 0.01, "max": 200}
    return _Entity("number", key, _words(f"trigger_{trigger.name}_level"), near)


def _setting(topics: Topics, option: str) -> dict[str, Any]:
    return {"state_topic": topics.setting_state(option), "command_topic": topics.setting(option)}


def _buttons(config: Config, topics: Topics) -> list[_Entity]:
    rows = [
        ("snapshot", "Take a snapshot", {}),
        ("relearn", "Learn the background again", {"entity_category": "config"}),
        ("restart", "Restart", {"entity_category": "config", "device_class": "restart"}),
    ]
    return [
        _Entity(
            "button",
            f"request_{command}",
            name,
            {"command_topic": topics.request(command), "payload_press": _PRESSED, **options},
        )
        for command, name, options in rows
        if command != "relearn" or config.scene.mode == "still"
    ]


def _diagnostics(topics: Topics) -> list[_Entity]:
    """Return how the daemon fares; a null becomes the text `None`, which Home Assistant takes as unknown."""
    camera = {"value_template": "{{ 'ON' if value == 'online' else 'OFF' }}", "device_class": "connectivity"}
    throttled = {
        "value_template": "{{ {true: 'ON', false: 'OFF'}.get(value_json.throttled) }}",
        "device_class": "problem",
    }
    levels = [
        ("temperature", "Temperature", "value_json.temperature_c", _unit("°C", device_class="temperature")),
        ("fps", "Frame rate", "value_json.fps", _unit("fps")),
        ("latency", "Latency", "(value_json.latency_ms or {}).get('p50')", _unit("ms", device_class="duration")),
        ("memory", "Memory", "value_json.rss_mb", _unit("MB", device_class="data_size")),
    ]
    health = _diagnostic(topics.named("health"))
    return [
        _Entity("binary_sensor", "camera", "Camera", camera | _diagnostic(topics.camera_status)),
        _Entity("binary_sensor", "throttled", "Throttled", throttled | health),
        *(
            _Entity("sensor", key, name, {"value_template": f"{{{{ {value} }}}}", **unit, **health})
            for key, name, value, unit in levels
        ),
    ]


def _diagnostic(topic: str) -> dict[str, Any]:
    return {"state_topic": topic, "entity_category": "diagnostic"}


def _unit(unit: str, **options: str) -> dict[str, Any]:
    return {"unit_of_measurement": unit, "state_class": "measurement", **options}
