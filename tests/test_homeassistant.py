"""What Home Assistant is told, held against the rules of its MQTT integration, and how it is taken back.

The rules were read in its source (homeassistant/components/mqtt, 2026.2), and are written down here a second time.
"""

import json
import re
import socket
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined
from paho.mqtt import publish

from edge.cli import main
from edge.commands import discovery as command
from edge.config import Config, HeatmapSection, WebSection, load, options
from edge.daemon.control import Request, parse
from edge.daemon.overlay import in_force
from edge.publish.homeassistant import EVENT_TYPES, announced, discovery, removal
from edge.publish.messages import health_message
from edge.records import Message
from edge.topics import Topics
from tests.broker import HOST, Mosquitto, Subscriber, free_port

TOPICS = Topics("edge-depth", "front-door")
DEVICE_TOPIC = "homeassistant/device/edge-depth_front-door/config"
TRIANGLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
POINTS = {"points": ({"x": 0.2, "y": 0.2, "metres": 1.0}, {"x": 0.6, "y": 0.6, "metres": 3.0})}
STATUS = {"topic": "edge-depth/front-door/status"}

# Per platform the keys that must and that may stand beside those which every entity may have.
EVERY = {"platform", "name", "unique_id", "default_entity_id", "qos", "availability", "entity_category"}
PLATFORMS = {
    "binary_sensor": ({"state_topic"}, {"device_class", "value_template"}),
    "button": ({"command_topic"}, {"device_class", "payload_press"}),
    "camera": ({"topic"}, set()),
    "event": ({"state_topic", "event_types"}, set()),
    "image": ({"image_topic"}, set()),
    "number": (
        {"command_topic"},
        {"state_topic", "min", "max", "step", "mode", "device_class", "unit_of_measurement"},
    ),
    "select": ({"command_topic", "options"}, {"state_topic"}),
    "sensor": (
        {"state_topic"},
        {"device_class", "unit_of_measurement", "state_class", "expire_after", "suggested_display_precision"}
        | {"value_template"},
    ),
    "switch": ({"command_topic"}, {"state_topic"}),
}
UNITS = {"distance": {"m"}, "duration": {"s", "ms"}, "temperature": {"°C"}, "data_size": {"MB"}}
BINARY_CLASSES = {"occupancy", "connectivity", "problem"}


def make_config(zones: tuple[str, ...] = ("door",), triggers: tuple[str, ...] = ("near",), **values: Any) -> Config:
    """Return a calibrated camera's configuration; the level of each trigger is in metres."""
    sections = {
        "id": "front-door",
        "zones": tuple({"name": name, "polygon": TRIANGLE} for name in zones),
        "triggers": tuple({"name": name, "near": 1.5, "clear": 1.8} for name in triggers),
        "calibration": POINTS,
    }
    return Config.model_validate(sections | values)


def tell(config: Config, **options: Any) -> list[Message]:
    return discovery(config, TOPICS, **{"calibrated": True, "machine": "Raspberry Pi 5", **options})


def entities(messages: list[Message]) -> dict[str, dict[str, Any]]:
    """Return what each entity is made of, as `platform/key`; what went is left out."""
    found = {}
    for message in messages:
        payload = json.loads(message.payload or "{}")
        for key, component in payload.get("components", {}).items():
            if component.keys() > {"platform"}:
                found[f"{component['platform']}/{key}"] = component
        if message.topic != DEVICE_TOPIC and payload:
            _, platform, node, key, _ = message.topic.split("/")
            assert "edge-depth_front-door" == node
            found[f"{platform}/{key}"] = payload
    return found


def device(messages: list[Message]) -> dict[str, Any]:
    (message,) = messages
    return json.loads(message.payload)


ALL = entities(tell(make_config()))


# --- the form ---------------------------------------------------------------------------------------------------------


def test_the_device_is_one_retained_message():
    """Retained and acknowledged, on the topic of a device whose object id Home Assistant takes."""
    (message,) = tell(make_config())
    assert (DEVICE_TOPIC, 1, True) == (message.topic, message.qos, message.retain)
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", message.topic)


def test_the_root_of_a_device_has_no_key_of_its_own():
    """Home Assistant drops the whole device for one key at its root that it does not know."""
    payload = device(tell(make_config(name="Front door")))
    assert {"device", "origin", "components", "availability", "availability_mode"} == payload.keys()
    assert {"name": "Front door", "identifiers": ["edge-depth_front-door"], "hw_version": "Raspberry Pi 5"}.items() <= (
        payload["device"].items()
    )
    assert {"identifiers", "name", "manufacturer", "model", "hw_version", "sw_version"} == payload["device"].keys()
    assert {"name", "sw_version"} == payload["origin"].keys()


@pytest.mark.parametrize("entity", ALL)
def test_every_entity_has_what_its_platform_wants(entity):
    """The required keys are there, and none that the platform would drop in silence."""
    platform = entity.split("/")[0]
    required, optional = PLATFORMS[platform]
    keys = ALL[entity].keys()
    assert set() == required - keys
    assert set() == keys - required - optional - EVERY
    assert {"unique_id", "default_entity_id", "name"} <= keys


@pytest.mark.parametrize("entity", ALL)
def test_units_fit_the_device_class(entity):
    """Home Assistant refuses a unit that its class does not have; `safety` is never claimed."""
    values = ALL[entity]
    device_class = values.get("device_class")
    if entity.startswith("binary_sensor/"):
        assert device_class in BINARY_CLASSES
    elif entity.startswith("button/"):
        assert device_class in {None, "restart"}
    elif device_class is not None:
        assert values["unit_of_measurement"] in UNITS[device_class]


def test_ids_are_stable():
    """An entity keeps its name, its room and its history only as long as these stay the same: never change them."""
    ids = sorted((values["unique_id"], values["default_entity_id"]) for values in ALL.values())
    assert [
        ("edge-depth_front-door_camera", "binary_sensor.front_door_camera"),
        ("edge-depth_front-door_colormap", "select.front_door_colormap"),
        ("edge-depth_front-door_enabled", "switch.front_door_enabled"),
        ("edge-depth_front-door_event", "event.front_door_event"),
        ("edge-depth_front-door_fps", "sensor.front_door_fps"),
        ("edge-depth_front-door_heatmap", "camera.front_door_heatmap"),
        ("edge-depth_front-door_interval", "number.front_door_interval"),
        ("edge-depth_front-door_latency", "sensor.front_door_latency"),
        ("edge-depth_front-door_memory", "sensor.front_door_memory"),
        ("edge-depth_front-door_nearest", "sensor.front_door_nearest"),
        ("edge-depth_front-door_nearest_m", "sensor.front_door_nearest_m"),
        ("edge-depth_front-door_request_relearn", "button.front_door_request_relearn"),
        ("edge-depth_front-door_request_restart", "button.front_door_request_restart"),
        ("edge-depth_front-door_request_snapshot", "button.front_door_request_snapshot"),
        ("edge-depth_front-door_snapshot", "image.front_door_snapshot"),
        ("edge-depth_front-door_temperature", "sensor.front_door_temperature"),
        ("edge-depth_front-door_throttled", "binary_sensor.front_door_throttled"),
        ("edge-depth_front-door_trigger_near", "binary_sensor.front_door_trigger_near"),
        ("edge-depth_front-door_trigger_near_near", "number.front_door_trigger_near_near"),
        ("edge-depth_front-door_zone_door", "binary_sensor.front_door_zone_door"),
    ] == ids


def test_names_never_collide():
    """Zones and triggers may have one name, and that of another entity; no two entities are one because of it."""
    names = ("near", "near-near", "camera", "nearest", "event")
    messages = tell(make_config(zones=names, triggers=names))
    ids = [values["unique_id"] for values in entities(messages).values()]
    assert len(ids) == len(set(ids)) == len(ALL) + 3 * (len(names) - 1)


@pytest.mark.parametrize(
    ("web", "url"),
    [
        ({}, None),
        ({"listen": "127.0.0.1:8080"}, None),
        ({"listen": "192.168.1.5:8080"}, "http://192.168.1.5:8080/"),
        ({"listen": "[fd00::5]:8080"}, "http://[fd00::5]:8080/"),
        ({"listen": "0.0.0.0:8080", "names": ("pi.lan",)}, "http://pi.lan:8080/"),
        ({"listen": "0.0.0.0:8080"}, f"http://{socket.gethostname().split('.')[0]}.local:8080/"),
        ({"listen": "0.0.0.0:0"}, None),
    ],
)
def test_the_page_is_told_where_others_can_reach_it(web, url):
    """The device's page opens it; a loopback address would mean another machine in every browser."""
    web = WebSection.model_validate({"token": "0123456789abcdef", **web})
    config = make_config().model_copy(update={"web": web})
    (message,) = discovery(config, TOPICS, calibrated=False, machine="x")
    assert url == json.loads(message.payload)["device"].get("configuration_url")


@pytest.mark.parametrize("form", ["device", "single"])
def test_object_id_is_not_used(form):
    """`object_id` stopped working in 2026.4; `default_entity_id` has the platform in front."""
    for entity, values in entities(tell(make_config(mqtt={"discovery": form}))).items():
        assert "object_id" not in values
        assert re.fullmatch(entity.split("/")[0] + r"\.[a-z0-9_]+", values["default_entity_id"])


def test_single_messages_say_the_same_each_for_itself():
    """The other form has the same entities with the same options, and in each what the device has at its root."""
    singles = entities(tell(make_config(mqtt={"discovery": "single"})))
    assert ALL.keys() == singles.keys()
    root = device(tell(make_config()))
    shared = {key: root[key] for key in ("device", "origin", "availability", "availability_mode")}
    for entity, values in singles.items():
        expected = {**shared, **ALL[entity]}
        del expected["platform"]
        assert expected == values


def test_off_tells_nothing():
    """With `mqtt.discovery: off` no message is sent."""
    assert [] == tell(make_config(mqtt={"discovery": "off"}))


def test_the_prefix_is_the_configured_one():
    """A Home Assistant that listens elsewhere is told there, in either form, and the topics of readings stay."""
    for form in ("device", "single"):
        config = make_config(mqtt={"discovery": form, "discovery_prefix": "home/ha"})
        assert all(message.topic.startswith("home/ha/") for message in tell(config) + removal(config, TOPICS))


def test_two_hundred_zones_and_triggers_fit():
    """The largest house stays far below the 1 MB that a packet may have."""
    names = tuple(f"a-zone-with-quite-a-long-name-{number}" for number in range(200))
    (message,) = tell(make_config(zones=names, triggers=names))
    assert len(ALL) + 3 * 199 == len(entities([message]))
    assert len(message.payload) < 500_000


# --- what each entity is ----------------------------------------------------------------------------------------------


def test_entities_that_need_the_camera():
    """Readings and pictures need daemon and camera; whatever helps to bring the camera back needs the daemon alone."""
    root = device(tell(make_config()))
    assert "all" == root["availability_mode"]
    assert [STATUS["topic"], "edge-depth/front-door/camera/status"] == [each["topic"] for each in root["availability"]]
    assert all(values.get("availability", [STATUS]) == [STATUS] for values in ALL.values())
    assert {
        "sensor/nearest",
        "sensor/nearest_m",
        "binary_sensor/zone_door",
        "binary_sensor/trigger_near",
        "camera/heatmap",
        "image/snapshot",
    } == {entity for entity, values in ALL.items() if "availability" not in values}


@pytest.mark.parametrize(
    ("status", "available"),
    [("online", "online"), ("offline", "offline"), ("reconnecting", "offline"), ("disabled", "offline")],
)
def test_every_word_of_the_camera_is_understood(status, available):
    """Home Assistant knows online and offline; the camera has more words."""
    template = device(tell(make_config()))["availability"][1]["value_template"]
    assert available == render(template, status.encode())
    connected = {"online": "ON", "offline": "OFF"}[available]
    assert connected == render(ALL["binary_sensor/camera"]["value_template"], status.encode())


def render(template: str, payload: bytes) -> str:
    """Return what Home Assistant makes of a payload; a variable that is missing fails, since it logs a warning."""
    text = payload.decode()
    values = {"value": text, "value_json": json.loads(text) if text.startswith("{") else None}
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(template).render(values)


HEALTH = {"fps": 4.83, "latency_ms": {"p50": 210.5, "p95": 333.0}, "temperature_c": 61.2, "throttled": True}
UNKNOWN = {"fps": 0.0, "latency_ms": None, "temperature_c": None, "throttled": None}


@pytest.mark.parametrize(
    ("entity", "known", "unknown"),
    [
        ("sensor/temperature", "61.2", "None"),
        ("sensor/fps", "4.83", "0.0"),
        ("sensor/latency", "210.5", "None"),
        ("sensor/memory", "512.3", "512.3"),
        ("binary_sensor/throttled", "ON", "None"),
    ],
)
def test_diagnostics_are_read_from_health(entity, known, unknown):
    """Each reads its value; where there is none it is the text None, which Home Assistant shows as unknown."""
    template = ALL[entity]["value_template"]
    assert known == render(template, health_message(TOPICS, HEALTH | {"rss_mb": 512.3}).payload)
    assert unknown == render(template, health_message(TOPICS, UNKNOWN | {"rss_mb": 512.3}).payload)
    assert ("diagnostic", health_message(TOPICS, {}).topic) == (
        ALL[entity]["entity_category"],
        ALL[entity]["state_topic"],
    )


def test_throttled_ends():
    """A processor that is no longer throttled switches the entity off."""
    template = ALL["binary_sensor/throttled"]["value_template"]
    assert "OFF" == render(template, health_message(TOPICS, {"throttled": False}).payload)


def test_nearness_is_no_distance():
    """The relative value claims no physical quantity; metres do, and exist only with a calibration."""
    assert set() == {"device_class", "unit_of_measurement"} & ALL["sensor/nearest"].keys()
    assert ("distance", "m") == (
        ALL["sensor/nearest_m"]["device_class"],
        ALL["sensor/nearest_m"]["unit_of_measurement"],
    )
    assert {"sensor/nearest_m"} == ALL.keys() - entities(tell(make_config(), calibrated=False)).keys()


@pytest.mark.parametrize(
    ("sections", "seconds"),
    [
        ({}, 30),
        ({"publish": {"heartbeat": 1.0}}, 30),
        ({"publish": {"heartbeat": 60.5}}, 182),
        ({"publish": {"min_interval": 120.0}}, 360),
        ({"camera": {"fps": 0.05, "timeout": 60.0}}, 60),
    ],
)
def test_only_fast_values_expire(sections, seconds):
    """What comes with every heartbeat is unavailable after three without; what is retained never expires."""
    found = entities(tell(make_config(**sections)))
    expiring = {entity: values["expire_after"] for entity, values in found.items() if "expire_after" in values}
    assert {"sensor/nearest": seconds, "sensor/nearest_m": seconds} == expiring


def test_settings_and_buttons_use_the_topics_of_commands():
    """A setting has its set and its state topic; a button sends a request with a transaction, as JSON."""
    commands = {entity: values["command_topic"] for entity, values in ALL.items() if "command_topic" in values}
    root = "edge-depth/front-door/"
    assert {
        "switch/enabled": root + "enabled/set",
        "number/interval": root + "interval/set",
        "select/colormap": root + "colormap/set",
        "number/trigger_near_near": root + "trigger/near/near/set",
        "button/request_snapshot": root + "request/snapshot",
        "button/request_relearn": root + "request/relearn",
        "button/request_restart": root + "request/restart",
    } == commands
    for entity, topic in commands.items():
        if entity.startswith("button/"):
            assert {"transaction": "home-assistant"} == json.loads(ALL[entity]["payload_press"])
        else:
            assert topic.removesuffix("set") + "state" == ALL[entity]["state_topic"]


def test_every_command_that_is_announced_is_understood():
    """Whatever Home Assistant sends on a command topic of ours is taken, and every option and its state is known."""
    sent = {"switch": b"OFF", "number": b"1.5", "select": b"magma", "button": None}
    for entity, values in ALL.items():
        if "command_topic" in values:
            payload = sent[entity.split("/")[0]] or values["payload_press"].encode()
            command = parse(TOPICS, values["command_topic"], payload)
            assert isinstance(command, Request) == entity.startswith("button/")
    states = {TOPICS.setting_state(option) for option in options(make_config())}
    assert states == {each["state_topic"] for each in ALL.values() if {"command_topic", "state_topic"} <= each.keys()}


def test_colours_are_those_of_the_configuration():
    """Home Assistant offers every colour map that the configuration takes, and no other."""
    assert list(get_args(HeatmapSection.model_fields["colormap"].annotation)) == ALL["select/colormap"]["options"]


@pytest.mark.parametrize(
    ("trigger", "low", "high"),
    [
        ({"near": 1.5, "clear": 1.8}, 0.01, 1.8),
        ({"near": 1.5}, 0.01, 200),
        ({"near": 0.9, "clear": 0.7, "measure": "nearness"}, 0.7, 200),
        ({"near": 0.9, "measure": "nearness"}, 0.01, 200),
    ],
)
def test_a_level_stays_within_what_its_trigger_takes(trigger, low, high):
    """Whatever Home Assistant lets a person choose makes a valid trigger; only metres are a distance."""
    config = make_config(triggers=())
    config = Config.model_validate(config.model_dump() | {"triggers": ({"name": "near", **trigger},)})
    number = entities(tell(config))["number/trigger_near_near"]
    assert (low, high) == (number["min"], number["max"])
    assert ("distance" if "measure" not in trigger else None) == number.get("device_class")
    for near in (low, high):
        Config.model_validate(config.model_dump() | {"triggers": ({"name": "near", **trigger, "near": float(near)},)})


def test_events_are_named_and_do_not_need_the_camera():
    """Home Assistant ignores an event type that it was not told of; the loss of the camera is an event too."""
    assert {"near", "clear", "camera_lost", "camera_back", "scene_lost", "throttled"} == set(EVENT_TYPES)
    assert list(EVENT_TYPES) == ALL["event/event"]["event_types"]
    assert [STATUS] == ALL["event/event"]["availability"]


def test_a_moving_camera_has_no_background():
    """Without one nothing is nearest and nothing occupied: entities that could never know anything are left out."""
    found = entities(tell(make_config(triggers=(), scene={"mode": "moving"})))
    assert {"sensor/nearest", "sensor/nearest_m", "binary_sensor/zone_door", "button/request_relearn"} == {
        entity for entity in ALL if "trigger" not in entity
    } - found.keys()


def test_no_heatmap_no_entity_of_it():
    """With `heatmap.enabled: false` there is no picture, and nothing to set about it."""
    found = entities(tell(make_config(heatmap={"enabled": False})))
    assert {"camera/heatmap", "number/interval", "select/colormap"} == ALL.keys() - found.keys()


# --- taking back ------------------------------------------------------------------------------------------------------


class HomeAssistant:
    """What of Home Assistant's discovery matters here: which entities there are, after message upon message.

    As in its source, an entity is known by platform, node and key, whichever form it came in; a message about it from
    another topic than its own is refused with a warning.
    """

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.warnings: list[str] = []

    def receive(self, message: Message) -> None:
        payload = json.loads(message.payload or "{}")
        _, platform, _, *key, _ = message.topic.split("/")
        if platform != "device":
            self._update(f"{platform}/{key[0]}", message.topic, payload)
            return
        if not payload and not self.owners:
            self.warnings.append("No device components to cleanup")
        components: Mapping[str, Any] = payload.get("components", {})
        found = {f"{values['platform']}/{key}": values.keys() - {"platform"} for key, values in components.items()}
        for entity, keys in (found if payload else dict.fromkeys(list(self.owners))).items():
            self._update(entity, message.topic, keys)

    def _update(self, entity: str, topic: str, options: object) -> None:
        if self.owners.get(entity, topic) != topic:
            self.warnings.append(f"conflicting message for {entity} on {topic}")
        elif options:
            self.owners[entity] = topic
        else:
            self.owners.pop(entity, None)


names = st.lists(st.sampled_from(["door", "near", "near-near", "way"]), unique=True, max_size=3).map(tuple)
cameras = st.builds(
    lambda zones, triggers, form, heatmap: make_config(
        zones, triggers, mqtt={"discovery": form}, heatmap={"enabled": heatmap}
    ),
    names,
    names,
    st.sampled_from(["device", "single", "off"]),
    st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(cameras, st.booleans()), min_size=1, max_size=5))
def test_whatever_went_is_taken_back(history):
    """After any changes of zones, triggers, calibration and form Home Assistant has the entities of now, no others."""
    there, before = HomeAssistant(), {}
    for config, calibrated in history:
        messages = tell(config, calibrated=calibrated, before=before)
        before = json.loads(json.dumps(announced(messages)))
        for message in [
            *messages,
            *(message for message in messages if message.payload),
        ]:  # these with every connection
            there.receive(message)
        assert entities(tell(config, calibrated=calibrated)).keys() == there.owners.keys()
    assert [] == there.warnings


def test_a_component_that_went_stays_taken_back():
    """In the device's message it keeps nothing but its platform, call after call: Home Assistant may have been away."""
    before = announced(tell(make_config(("door", "way"))))
    for _ in range(2):
        messages = tell(make_config(("door",)), before=before)
        assert {"platform": "binary_sensor"} == device(messages)["components"]["zone_way"]
        before = announced(messages)
    assert "zone_way" not in device(tell(make_config(("door",))))["components"]


def test_what_is_taken_back_leaves_the_broker():
    """A topic that is no longer used gets an empty retained message, before the others; nothing else is sent twice."""
    before = announced(tell(make_config(mqtt={"discovery": "single"})))
    first, *others = tell(make_config((), mqtt={"discovery": "single"}), before=before)
    topic = "homeassistant/binary_sensor/edge-depth_front-door/zone_door/config"
    assert Message(topic=topic, payload=b"", qos=1, retain=True) == first
    assert all(message.payload for message in others)
    assert topic not in announced([first, *others])


@pytest.mark.parametrize("form", ["device", "single"])
def test_removal_takes_back_everything(form):
    """Every topic that the form may have used is emptied, and nothing is left in Home Assistant."""
    config = make_config(mqtt={"discovery": form})
    there = HomeAssistant()
    for message in tell(config) + removal(config, TOPICS):
        there.receive(message)
    assert {} == there.owners
    assert [] == there.warnings
    assert {message.topic for message in tell(config)} == {message.topic for message in removal(config, TOPICS)}
    assert all(message.retain and message.payload == b"" for message in removal(config, TOPICS))


@pytest.mark.parametrize("form", ["device", "single"])
def test_removal_with_off_takes_back_either_form(form):
    """Whoever has switched discovery off already can still take back what was told before."""
    there = HomeAssistant()
    for message in tell(make_config(mqtt={"discovery": form})):
        there.receive(message)
    for message in removal(make_config(mqtt={"discovery": "off"}), TOPICS):
        there.receive(message)
    assert {} == there.owners


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "form"), [("off", "off"), ("false", "off"), ('"off"', "off"), ("single", "single")])
def test_off_without_quotes(tmp_path, text, form):
    """YAML reads the word off as false; it means off here."""
    (tmp_path / "c.yaml").write_text(f"mqtt: {{discovery: {text}}}\n")
    assert form == load(tmp_path / "c.yaml").mqtt.discovery


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("discovery", "true", "must be 'device', 'single' or 'off', not true"),
        ("discovery", "both", "must be 'device', 'single' or 'off', not 'both'"),
        ("discovery_prefix", "home/", "must be topic levels joined by single slashes"),
        ("discovery_prefix", '"home/#"', "must be topic levels joined by single slashes"),
    ],
)
def test_configuration_refused(tmp_path, capsys, key, value, words):
    """A wrong value is told with what is allowed."""
    (tmp_path / "c.yaml").write_text(f"mqtt: {{{key}: {value}}}\n")
    assert 78 == main(["check", str(tmp_path / "c.yaml")])
    assert f"c.yaml:1: mqtt.{key}: {words}" in capsys.readouterr().err


# --- the command ------------------------------------------------------------------------------------------------------


def write_config(folder, **mqtt: object) -> str:
    path = folder / "c.yaml"
    path.write_text(json.dumps({"id": "front-door", "mqtt": {"host": HOST, **mqtt}}) + "\n")
    return str(path)


def test_print_needs_no_broker(tmp_path, capsys):
    """Topic and payload stand on one line for each message, as mosquitto_sub -v shows them."""
    assert 0 == main(["discovery", "--print", "--config", write_config(tmp_path, port=free_port())])
    topic, _, payload = capsys.readouterr().out.strip().partition(" ")
    assert DEVICE_TOPIC == topic
    assert "sensor/nearest_m" not in {
        f"{each['platform']}/{key}" for key, each in json.loads(payload)["components"].items()
    }
    overlay = in_force(write_config(tmp_path))
    overlay.replace({"zones": [{"name": "door", "polygon": [[0, 0], [1, 0], [1, 1]]}]})
    assert 0 == main(["discovery", "--print", "--config", write_config(tmp_path, port=free_port())])
    assert "zone_door" in capsys.readouterr().out  # drawn on the page, not written into the file
    assert 0 == main(["discovery", "--print", "--config", write_config(tmp_path, discovery="off")])
    assert "" == capsys.readouterr().out


def test_remove_clears_the_broker_and_leaves_the_daemon_alone(tmp_path, mosquitto, capsys):
    """The retained messages go; the status of a daemon that runs stays what it is, and nothing new is retained."""
    path = write_config(tmp_path, port=mosquitto.port, discovery="single", client_id="camera")
    config = load(path)
    retain = {"qos": 1, "retain": True}
    told = [{"topic": message.topic, "payload": message.payload, **retain} for message in tell(config)]
    publish.multiple([*told, {"topic": STATUS["topic"], "payload": "online", **retain}], HOST, mosquitto.port)
    with Subscriber(mosquitto.port) as subscriber:
        subscriber.wait_for(STATUS["topic"], b"online")
        assert 0 == main(["discovery", "--remove", "--config", path])
        for message in removal(config, TOPICS):
            subscriber.wait_for(message.topic, b"")
        assert [b"online"] == subscriber.payloads(STATUS["topic"])
    assert f"{HOST}:{mosquitto.port} has taken back the entities of edge-depth/front-door" in capsys.readouterr().out
    with Subscriber(mosquitto.port) as late:
        late.wait_for(STATUS["topic"], b"online")
        assert [STATUS["topic"]] == [message.topic for message in late.heard]
    assert "as camera-discovery (" in mosquitto.log()


def test_remove_tells_that_no_broker_is_there(tmp_path, capsys, monkeypatch):
    """The exit status is 69 and the words say why and what to look at."""
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", 1.5)
    port = free_port()
    assert 69 == main(["discovery", "--remove", "--config", write_config(tmp_path, port=port)])
    told = capsys.readouterr().err
    assert f"edge-depth: the entities are not taken back by {HOST}:{port}: " in told
    assert "nothing listens there; check that the broker runs, and mqtt.port" in told


def test_remove_tells_that_the_broker_refuses(tmp_path, capsys, monkeypatch):
    """A broker that does not let this user write there is no success (it says so in MQTT 5 alone)."""
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", 10.0)
    with Mosquitto(tmp_path / "broker", acl="topic read #\ntopic write edge-depth/#\n") as broker:
        assert 69 == main(["discovery", "--remove", "--config", write_config(tmp_path, port=broker.port, protocol="5")])
    assert "let this client write there" in capsys.readouterr().err
