"""Commands to a real daemon in a process of its own, over a real mosquitto."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests.broker import HOST, Mosquitto, Subscriber, eventually

ROOT = "edge-depth/hall"
DEVICE = "homeassistant/device/edge-depth_hall/config"
HALF = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
POINTS = [
    {"x": 0.5, "y": 0.95, "metres": 1.0},
    {"x": 0.5, "y": 0.75, "metres": 2.0},
    {"x": 0.5, "y": 0.4, "metres": 6.0},
]

# The command, but that a file which takes something away has to stand for a second only.
RUN = """
import sys
from edge.cli import main
from edge.daemon import reloading
reloading.HOLD_SECONDS = 1.0
sys.exit(main(["run", "--config", sys.argv[1]]))
"""


@dataclass
class Rig:
    """A daemon that shows one photograph of a corridor again and again, and who listens to it."""

    broker: Mosquitto
    subscriber: Subscriber
    file: Path
    state: Path

    def __post_init__(self) -> None:
        self._transactions = count(1)
        self.process: subprocess.Popen[str] | None = None

    def write(self, **sections: Any) -> None:
        """Write the configuration, its usual sections replaced by those given."""
        values = {
            "id": "hall",
            "camera": {"source": str(self.file.parent / "view"), "fps": 10, "timeout": 5},
            "model": {"weights": "starter-v2"},
            "scene": {"learn_seconds": 1},
            "zones": [{"name": "left", "polygon": HALF}],
            "triggers": [{"name": "door", "measure": "nearness", "near": 0.8}],
            "publish": {"heartbeat": 1, "health_interval": 1},
            "mqtt": {"host": HOST, "port": self.broker.port},
        }
        self.file.write_text(yaml.safe_dump(values | sections))

    def start(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Start the daemon and wait until it tracks; `meanwhile` is done again and again."""
        begun = len(self.subscriber.heard)
        command = [sys.executable, "-c", RUN, str(self.file)]
        environment = os.environ | {"STATE_DIRECTORY": str(self.state)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        eventually(lambda: meanwhile() or self.scene(begun) == "tracking", "the background to be learned", 120)

    def stop(self) -> str:
        """End the daemon and return what it told."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        told = self.process.communicate(timeout=60)[1]
        assert 0 == self.process.returncode, told
        return told

    def restart(self, meanwhile: Callable[[], object] = lambda: None) -> list[bytes]:
        """Ask for a restart, doing `meanwhile` again and again; return the statuses until it tracks again."""
        begun = len(self.subscriber.heard)
        assert self.ask("restart")["ok"]
        eventually(
            lambda: meanwhile() or b"online" in self.heard(f"{ROOT}/status", begun), "the daemon to be back", 120
        )
        back = len(self.subscriber.heard)
        eventually(lambda: self.scene(back) == "tracking", "readings", 120)
        return self.heard(f"{ROOT}/status", begun)

    def heard(self, topic: str, since: int) -> list[bytes]:
        found = (message for message in self.subscriber.heard[since:] if not message.retain)
        return [message.payload for message in found if message.topic == topic]

    def scene(self, since: int) -> str | None:
        states = self.heard(f"{ROOT}/state", since)
        return json.loads(states[-1])["scene"]["state"] if states else None

    def set(self, option: str, value: str) -> None:
        """Set an option and wait until its state says so."""
        begun = len(self.subscriber.heard)
        self.subscriber.publish(f"{ROOT}/{option}/set", value)
        eventually(lambda: value.encode() in self.heard(f"{ROOT}/{option}/state", begun), f"{option} to be {value}")

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer."""
        transaction = f"t{next(self._transactions)}"
        topic = f"{ROOT}/response/{command}"
        self.subscriber.publish(f"{ROOT}/request/{command}", json.dumps({"transaction": transaction, **arguments}))

        def answers() -> list[dict[str, Any]]:
            return [a for a in map(json.loads, self.subscriber.payloads(topic)) if a["transaction"] == transaction]

        eventually(answers, f"an answer to {command}")
        return answers()[0]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "view").mkdir()
    photo = Path(__file__).parents[1] / "edge" / "data" / "photos" / "corridor.jpg"
    (folder / "view" / "corridor.jpg").write_bytes(photo.read_bytes())
    with Mosquitto(folder / "broker") as broker, Subscriber(broker.port) as subscriber:
        made = Rig(broker, subscriber, folder / "c.yaml", folder / "state")
        made.write()
        made.start()
        yield made
        made.stop()


def test_options_take_effect_and_say_so(rig):
    """The heatmap takes the colours that were asked for, and comes as often; the state topic is retained."""
    rig.set("colormap", "grey")
    rig.set("interval", "0.2")
    begun = len(rig.subscriber.heard)
    eventually(lambda: len(rig.heard(f"{ROOT}/heatmap", begun)) > 4, "more heatmaps")
    picture = cv2.imdecode(np.frombuffer(rig.heard(f"{ROOT}/heatmap", begun)[-1], np.uint8), 1).astype(int)
    assert np.abs(picture - picture.mean(axis=2, keepdims=True)).mean() < 3
    with Subscriber(rig.broker.port, f"{ROOT}/+/state") as late:
        assert late.wait_for(f"{ROOT}/colormap/state", b"grey").retain


def test_limits_hold_from_a_reload_on(rig):
    """Neither `gate` nor `power` needs a restart: nothing is skipped any more, and health tells the other share."""
    topic = f"{ROOT}/health"

    def reports(since):
        return [json.loads(payload) for payload in rig.heard(topic, since)]

    eventually(lambda: [report for report in reports(0) if report["skipped"]], "frames to be skipped", 60)
    rig.write(gate={"max_skip_seconds": 0}, power={"max_duty": 0.5})
    assert [] == rig.ask("reload")["restart_required"]
    begun = len(rig.subscriber.heard)
    eventually(
        lambda: (r := reports(begun)) and r[-1]["readings"] > r[0]["readings"] + 3, "readings that are counted", 60
    )
    first, *_, last = reports(begun)
    rig.write()
    rig.ask("reload")
    assert first["allowed_duty"] == last["allowed_duty"] == 0.5
    assert first["skipped"] == last["skipped"]


@pytest.mark.parametrize(("option", "value"), [("colormap", "pink"), ("interval", "-1"), ("trigger/garden/near", "1")])
def test_what_does_not_fit_is_not_set(rig, option, value):
    """The states are told again, as they were, and health counts the refusal."""
    rig.set("interval", "0.5")
    begun = len(rig.subscriber.heard)
    rig.subscriber.publish(f"{ROOT}/{option}/set", value)
    eventually(lambda: rig.heard(f"{ROOT}/interval/state", begun), "the states")
    assert [b"0.5"] == rig.heard(f"{ROOT}/interval/state", begun)
    assert value.encode() not in rig.heard(f"{ROOT}/{option}/state", begun)
    eventually(lambda: json.loads(rig.subscriber.payloads(f"{ROOT}/health")[-1])["commands_refused"], "the count")


def test_a_triggers_level_is_set(rig):
    """A level below what stands there switches the trigger; Home Assistant's number has the same topics."""
    rig.set("trigger/door/near", "0.75")
    assert 0.75 == yaml.safe_load(rig.ask("get_config")["config"])["triggers"][0]["near"]


def test_a_retained_command_is_ignored(rig):
    """What the broker keeps would be obeyed with every connection; six hundred of them are some lines in the log."""
    rig.set("colormap", "turbo")
    rig.stop()
    topics = [f"{ROOT}/{option}/set" for option in ("colormap", *range(600))]
    for topic in topics:
        rig.subscriber.publish(topic, "viridis", retain=True)
    rig.start()
    rig.ask("get_config")
    assert "inferno" == yaml.safe_load(rig.ask("get_config")["config"])["heatmap"]["colormap"]
    for topic in topics:
        rig.subscriber.publish(topic, "", retain=True)
    lines = [line for line in rig.stop().splitlines() if "a retained message is ignored" in line]
    assert 0 < len(lines) < 30
    assert "of more like it one in 60 s is told" in lines[-1]
    rig.start()


def test_the_camera_is_switched_off_and_on(rig):
    """Disabled is a state of the camera; no reading comes meanwhile, and the background is still known afterwards."""
    begun = len(rig.subscriber.heard)
    rig.set("enabled", "OFF")
    eventually(lambda: b"disabled" in rig.heard(f"{ROOT}/camera/status", begun), "the camera to be disabled")
    begun = len(rig.subscriber.heard)
    time.sleep(1.5)
    assert [] == rig.heard(f"{ROOT}/state", begun)
    assert "there is no reading yet" == rig.ask("snapshot")["error"]
    rig.set("enabled", "ON")
    eventually(lambda: rig.scene(begun), "a reading")
    assert "tracking" == rig.scene(begun)
    assert b"online" in rig.heard(f"{ROOT}/camera/status", begun)
    assert [] == rig.heard(f"{ROOT}/event", begun)


def test_a_snapshot_is_taken_on_request(rig):
    """It shows the newest reading, with the zones; the next one within five seconds is refused."""
    begun = len(rig.subscriber.heard)
    answer = rig.ask("snapshot")
    assert answer["ok"]
    assert answer["sequence"] > 0
    eventually(lambda: rig.heard(f"{ROOT}/snapshot", begun), "the snapshot")
    assert 512 == cv2.imdecode(np.frombuffer(rig.heard(f"{ROOT}/snapshot", begun)[0], np.uint8), 1).shape[1]
    refused = rig.ask("snapshot")
    assert (False, True) == (refused["ok"], "just been taken" in refused["error"])


def test_the_background_is_learned_anew_on_request(rig):
    """The scene learns, and then tracks again."""
    begun = len(rig.subscriber.heard)
    assert rig.ask("relearn")["ok"]
    eventually(lambda: "learning" in (rig.scene(begun) or ""), "the scene to learn")
    eventually(lambda: rig.scene(begun) == "tracking", "the scene to track")


def test_metres_come_with_a_calibration_by_request_and_stay(rig):
    """The answer tells what is read at each point; Home Assistant gets the entity; a restart knows of it."""
    refused = rig.ask("calibrate", points=[POINTS[0], POINTS[0]])
    assert (False, True) == (refused["ok"], "calibration.points" in refused["error"])
    assert not yaml.safe_load(rig.ask("get_config")["config"])["calibration"]["points"]
    answer = rig.ask("calibrate", points=POINTS)
    assert answer["ok"], answer
    assert [point["metres"] for point in POINTS] == [point["metres"] for point in answer["points"]]
    assert all(0.3 < point["read_m"] / point["metres"] < 3 for point in answer["points"])
    eventually(lambda: b'"nearest_m"' in rig.subscriber.payloads(DEVICE)[-1], "the entity")
    rig.stop()
    rig.start()
    assert {"calibration"} == rig.ask("get_config")["set"].keys()
    assert rig.ask("calibrate", points=None)["ok"]
    assert {} == rig.ask("get_config")["set"]


def test_a_reload_takes_zones_and_triggers_and_says_what_needs_a_restart(rig):
    """What went is taken back from the broker; a bad or an empty file changes nothing; SIGHUP does the same."""
    try:
        zones = [{"name": "right", "polygon": [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0]]}]
        rig.write(zones=zones, web={"listen": "127.0.0.1:0"})
        begun = len(rig.subscriber.heard)
        assert ["web"] == rig.ask("reload")["restart_required"]
        assert ["web"] == json.loads(rig.heard(f"{ROOT}/info", begun)[-1])["restart_required"]
        eventually(lambda: rig.heard(f"{ROOT}/zone/right/occupancy", begun), "the new zone")
        eventually(lambda: b"" in rig.heard(f"{ROOT}/zone/left/occupancy", begun), "the old zone to go")
        for text, words in (("zones: 7\n", "zones: must be a list"), ("", "must have one section at least")):
            rig.file.write_text(text)
            refused = rig.ask("reload")
            assert (False, True) == (refused["ok"], words in refused["error"])
        assert "right" in rig.ask("get_config")["config"]
    finally:
        rig.write()
    rig.process.send_signal(signal.SIGHUP)
    eventually(lambda: "left" in rig.ask("get_config")["config"], "the file to be read again")
    assert [] == json.loads(rig.subscriber.payloads(f"{ROOT}/info")[-1])["restart_required"]


def test_a_hangup_is_never_deadly(rig):
    """Not while the daemon loads nor after a restart was promised: it is carried out once it can be.

    Before the command runs the unit's launcher ignores it.
    """

    def hang_up():
        rig.process.send_signal(signal.SIGHUP)

    def hang_up_if_known():
        status = Path(f"/proc/{rig.process.pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) & 1 << (signal.SIGHUP - 1):
            hang_up()

    rig.stop()
    begun = len(rig.subscriber.heard)
    rig.start(hang_up_if_known)
    # what is in force is told at the start, and again with the file; a restart reads the file by itself
    eventually(lambda: len(rig.heard(f"{ROOT}/info", begun)) > 1, "the file to be read again")
    rig.restart(hang_up)
    assert "configuration: read again" in rig.stop()
    rig.start()


def test_settings_survive_a_restart_only_where_the_file_says_so(rig):
    """`restart` ends and begins the daemon in the same process; with persist_settings it comes back as it was set."""
    for persist, expected in ((False, "inferno"), (True, "viridis")):
        rig.write(publish={"heartbeat": 1, "health_interval": 1, "persist_settings": persist})
        assert rig.ask("reload")["ok"]
        rig.set("colormap", "viridis")
        assert [b"offline", b"online"] == rig.restart()
        assert rig.process.poll() is None
        assert expected == yaml.safe_load(rig.ask("get_config")["config"])["heatmap"]["colormap"]


def test_home_assistants_birth_brings_everything_again(rig):
    """When it starts, the device and every retained state are sent anew, and the next reading in full."""
    begun = len(rig.subscriber.heard)
    rig.subscriber.publish("homeassistant/status", "online")
    eventually(lambda: rig.heard(DEVICE, begun), "the device")
    for topic in ("status", "camera/status", "info", "zone/left/occupancy", "trigger/door", "enabled/state", "state"):
        eventually(lambda name=topic: rig.heard(f"{ROOT}/{name}", begun), topic)


def test_a_flood_is_bounded_and_counted(rig):
    """Of five hundred requests at once only some are obeyed; the rest is counted, and the daemon goes on."""
    begun = len(rig.subscriber.heard)
    before = json.loads(rig.subscriber.payloads(f"{ROOT}/health")[-1])["commands_refused"]
    for _ in range(500):
        rig.subscriber.publish(f"{ROOT}/request/relearn", b"\x00 not JSON")
    eventually(
        lambda: json.loads(rig.subscriber.payloads(f"{ROOT}/health")[-1])["commands_refused"] >= before + 500, "count"
    )
    assert len(rig.heard(f"{ROOT}/response/relearn", begun)) < 250
    time.sleep(1)
    assert rig.ask("get_config")["ok"]
