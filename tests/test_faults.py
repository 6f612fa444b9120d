"""What years bring: every fault ends in a stated result, nothing is lost, and no interval rests on the clock."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from paho.mqtt import publish

from edge.cli import main
from edge.commands.demo import Clip
from edge.config import Config, SceneSection
from edge.config import load as load_configuration
from edge.daemon import Daemon, pipeline
from edge.daemon.control import Refused
from edge.daemon.control import parse as parse_command
from edge.depth.model import DepthModel
from edge.depth.weights import read
from edge.depth.weights.checkpoint import read_checkpoint
from edge.doctor import apart
from edge.errors import ConfigError, PictureError, ThreadStuck, WeightsError
from edge.pictures import read_picture
from edge.records import DepthMap
from edge.scene import StillScene
from edge.state.stores import OverlayStore, ReferenceStore, TriggerStore
from edge.topics import Topics
from tests.broker import HOST, Mosquitto, Subscriber, eventually, free_port
from tests.camera_rigs import MjpegServer, jpeg
from tests.scenes import Camera, room, with_figure

ROOT = Path(__file__).parents[1]
STATE = "edge-depth/hall/state"
PATIENCE_SECONDS = 90.0
TOPICS = Topics("edge-depth", "hall")


def settings(port: int, source: str | Path, **sections) -> dict:
    return {
        "id": "hall",
        "camera": {"source": str(source), "fps": 10.0, "timeout": 2.0},
        "model": {"weights": "starter-v2"},
        "scene": {"learn_seconds": 1.0},
        "publish": {"min_interval": 0.0, "health_interval": 1.0},
        "mqtt": {"host": HOST, "port": port},
        **sections,
    }


@contextmanager
def running(folder: Path, values: dict, **more: str) -> Iterator[subprocess.Popen]:
    """Run the command in a process of its own; its log is `log` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    environment = os.environ | {"STATE_DIRECTORY": str(folder / "state"), **more}
    command = [sys.executable, "-m", "edge", "run", "--config", str(folder / "c.yaml")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# --- whatever the bytes are -------------------------------------------------------------------------------------------


def a_state(store: type) -> Callable[[Path, bytes], object]:
    def load(folder: Path, data: bytes) -> object:
        kind = {ReferenceStore: "reference.safetensors", TriggerStore: "triggers.json"}
        (folder / kind.get(store, "overlay.json")).write_bytes(data)
        loaded = store(folder / kind.get(store, "overlay.json"))
        return loaded.load(0.0) if store is ReferenceStore else loaded.load()

    return load


def from_file(name: str, load: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def call(folder: Path, data: bytes) -> object:
        (folder / name).write_bytes(data)
        return load(folder / name)

    return call


INPUTS = {
    "configuration": (from_file("c.yaml", load_configuration), ConfigError),
    "request": (lambda _, data: parse_command(TOPICS, TOPICS.request("calibrate"), data), Refused),
    "setting": (lambda _, data: parse_command(TOPICS, TOPICS.setting("interval"), data), Refused),
    "reference": (a_state(ReferenceStore), ()),
    "triggers": (a_state(TriggerStore), ()),
    "overlay": (a_state(OverlayStore), ()),
    "weights": (from_file("w.safetensors", read), WeightsError),
    "checkpoint": (from_file("w.pt", read_checkpoint), WeightsError),
    "picture": (lambda _, data: read_picture(data), PictureError),
}
# What makes a reader go on past the first bytes.
BEGINNINGS = (b"", b"{", b"PK\x03\x04", b"\x80\x02", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x40" + 7 * b"\0" + b"{")


@pytest.mark.parametrize("name", INPUTS)
def test_a_thousand_random_byte_strings_do_no_harm(tmp_path, name):
    """Each is taken or refused with our own error; no other exception, no hang, no crash."""
    load, refusal = INPUTS[name]
    random = np.random.default_rng(8)
    refused = 0
    for number in range(1000):
        data = BEGINNINGS[number % len(BEGINNINGS)] + random.bytes(int(random.integers(0, 400)))
        try:
            load(tmp_path, data)
        except refusal:
            refused += 1
    assert refused > 500 or refusal == ()


# --- the clock --------------------------------------------------------------------------------------------------------


def test_no_interval_rests_on_the_clock():
    """A Pi's clock jumps once it has a network. What reads it is about dates, or corrected by the next reading.

    Doctor judges the clock, a log-in ends at a date, and a page is told the daemon's time with every reading.
    """
    readers = set()
    for path in (ROOT / "edge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.today"):
                readers.add(path.relative_to(ROOT).as_posix())
    assert {"edge/doctor/__init__.py", "edge/web/access.py", "edge/web/streams.py"} == readers


def test_a_clock_that_jumps_changes_no_reading():
    """With the wall time thrown by hours, forwards and back, every reading is the same but for its time."""
    jumps = [timedelta(hours=hours) for hours in (0, 30, -50, 700000, 3)]

    def readings(jump: bool):
        scene, camera = StillScene(SceneSection(learn_seconds=2.0), ()), Camera(seed=3)
        for number in range(40):
            depth = camera.shoot(with_figure(room(), 0.5, 1.5) if number > 25 else room())
            by = jumps[number // 4 % len(jumps)] if jump else timedelta()
            frame = replace(depth.frame, wall_time=depth.frame.wall_time + by)
            found = scene.update(replace(depth, frame=frame))
            yield found.state, found.quality, found.nearest, found.surface

    expected = list(readings(jump=False))
    assert expected == list(readings(jump=True))
    assert expected[-1][2] is not None


# --- the camera -------------------------------------------------------------------------------------------------------


def test_a_camera_may_deliver_anything(mosquitto, photos, tmp_path):
    """Black, half, garbage, empty and small frames: readings come again as soon as pictures do."""
    good = cv2.cvtColor(cv2.imread(str(photos / "corridor.jpg")), cv2.COLOR_BGR2RGB)
    server = MjpegServer(rate=20)
    server.frame = jpeg(good)
    faults = {
        "black": jpeg(np.zeros_like(good)),
        "half": server.frame[: len(server.frame) // 2],
        "garbage": np.random.default_rng(1).bytes(5000),
        "empty": b"",
        "small": jpeg(good[:64, :96]),
    }
    values = settings(mosquitto.port, server.url)
    try:
        with running(tmp_path, values) as daemon, Subscriber(mosquitto.port, "edge-depth/hall/#") as subscriber:
            for name, frame in faults.items():
                wait_for_tracking(subscriber, f"tracking before {name}")
                server.frame = frame
                time.sleep(1.0)
                server.frame = jpeg(good)
            wait_for_tracking(subscriber, "tracking after all")
            assert None is daemon.poll()
            numbers = [json.loads(payload)["sequence"] for payload in subscriber.payloads(STATE)]
        assert numbers == sorted(numbers)
    finally:
        server.close()


def wait_for_tracking(subscriber: Subscriber, what: str) -> None:
    """Wait for a reading, of those yet to come, of a scene that is seen."""
    heard = len(subscriber.payloads(STATE))
    eventually(
        lambda: any(json.loads(p)["scene"]["state"] == "tracking" for p in subscriber.payloads(STATE)[heard:]),
        what,
        PATIENCE_SECONDS,
    )


# --- the process ------------------------------------------------------------------------------------------------------


def test_a_killed_daemon_goes_on_with_what_it_knew(mosquitto, tmp_path):
    """SIGKILL while it tracks: the broker says `offline`; the next start has the background and does not learn."""
    clip = Clip().path
    with Subscriber(mosquitto.port, "edge-depth/hall/#") as subscriber:
        with running(tmp_path, settings(mosquitto.port, clip)) as daemon:
            wait_for_tracking(subscriber, "tracking")
            eventually(
                lambda: list((tmp_path / "state").glob("reference.safetensors")),
                "the saved background",
                PATIENCE_SECONDS,
            )
            daemon.send_signal(signal.SIGKILL)
            subscriber.wait_for("edge-depth/hall/status", b"offline")
        heard = len(subscriber.payloads(STATE))
        with running(tmp_path, settings(mosquitto.port, clip)):
            wait_for_tracking(subscriber, "tracking again")
            again = [json.loads(payload) for payload in subscriber.payloads(STATE)[heard:]]
    assert "learning" not in {state["scene"]["state"] for state in again}


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0, 3.0])
def test_sigterm_while_starting_is_an_orderly_end(mosquitto, photos, tmp_path, seconds):
    """Before the signal is known of, as the signal's own end, which systemd takes for a clean one; later with 0."""
    with running(tmp_path, settings(mosquitto.port, photos)) as daemon:
        time.sleep(seconds)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_SECONDS) in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")


def test_sigterm_while_learning_is_an_orderly_end(mosquitto, photos, tmp_path):
    """The broker hears `offline` and the exit status is 0."""
    values = settings(mosquitto.port, photos, scene={"learn_seconds": 600})
    with running(tmp_path, values) as daemon, Subscriber(mosquitto.port, "edge-depth/hall/#") as subscriber:
        eventually(lambda: subscriber.payloads(STATE), "a reading", PATIENCE_SECONDS)
        daemon.send_signal(signal.SIGTERM)
        assert 0 == daemon.wait(PATIENCE_SECONDS)
        subscriber.wait_for("edge-depth/hall/status", b"offline")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_sigterm_while_a_silent_camera_is_waited_for_is_an_orderly_end(mosquitto, tmp_path, scheme):
    """A host that takes the connection and says nothing: neither the stop nor Python's own end waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as host, Subscriber(mosquitto.port, "edge-depth/hall/#") as subscriber:
        values = settings(mosquitto.port, f"{scheme}://127.0.0.1:{host.getsockname()[1]}/x")
        values["camera"]["timeout"] = 100.0
        with running(tmp_path, values) as daemon:
            host.settimeout(PATIENCE_SECONDS)
            connection, _ = host.accept()
            daemon.send_signal(signal.SIGTERM)
            assert 0 == daemon.wait(PATIENCE_SECONDS)
            connection.close()
        subscriber.wait_for("edge-depth/hall/status", b"offline")


def test_a_model_that_is_being_loaded_does_not_hold_up_the_stop(photos, monkeypatch):
    """A cold SD card takes half a minute to load: the stop does not wait for it."""
    release = pipeline.threading.Event()
    monkeypatch.setattr("edge.daemon.load_model", lambda _: release.wait(PATIENCE_SECONDS))
    daemon = Daemon(Config.model_validate(settings_for_model(photos)))
    daemon.stop()
    daemon.run()
    assert daemon.lingers
    release.set()


def settings_for_model(source: Path) -> dict:
    """Return the settings of a daemon without a broker, as the model takes them, within this process."""
    values = settings(1, source, mqtt={"enabled": False}, power={"max_rss": None})
    return {**values, "camera": {**values["camera"], "source": str(source)}}


def test_an_engine_that_hangs_ends_the_daemon(photos, monkeypatch):
    """The frame that never ends is noticed by the pace of those before it; systemd restarts at this exit status."""
    monkeypatch.setattr(pipeline, "_FRAME_SECONDS", (0.5, 60.0))
    monkeypatch.setattr(pipeline, "_HANGS_AFTER", 0)
    monkeypatch.setattr("edge.daemon._STOP_SECONDS", 0.1)
    release, seen = pipeline.threading.Event(), []

    def hang(model, frame):
        seen.append(frame.sequence)
        if len(seen) > 3:
            release.wait(PATIENCE_SECONDS)
        noise = np.random.default_rng(0).random((64, 64), np.float32)
        return DepthMap(frame=frame, inverse_depth=noise, inference_seconds=0.01, weights="starter-v2")

    monkeypatch.setattr(DepthModel, "estimate", hang)
    with pytest.raises(ThreadStuck, match="the depth thread") as stuck:
        Daemon(Config.model_validate(settings_for_model(photos))).run(PATIENCE_SECONDS)
    release.set()
    assert (70, 4) == (stuck.value.exit_code, len(seen))


def test_a_read_only_state_directory_is_a_warning(mosquitto, photos, tmp_path):
    """Readings come even so, one warning tells of each file, and the end is an orderly one."""
    tmp_path.joinpath("state").symlink_to("/proc/self/task")  # where nobody may make a file, not even root
    with running(tmp_path, settings(mosquitto.port, photos.parent / "clip" / "clip.mp4")) as daemon:
        with Subscriber(mosquitto.port, "edge-depth/hall/#") as subscriber:
            wait_for_tracking(subscriber, "tracking")
        daemon.send_signal(signal.SIGTERM)
        assert 0 == daemon.wait(PATIENCE_SECONDS)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    warnings = [line for line in log.splitlines() if "can't be written" in line]
    assert 0 < len(warnings) == len(set(warnings)) <= 4


# --- more than one ----------------------------------------------------------------------------------------------------


def test_two_daemons_side_by_side_do_not_meet(mosquitto, photos, tmp_path):
    """Two instances of one machine without an id: topics, client ids, discovery and state are each one's own."""
    values = {key: value for key, value in settings(mosquitto.port, photos).items() if key != "id"}
    daemons = []
    for name in ("front", "back"):
        path = tmp_path / f"edge-depth@{name}.yaml"
        path.write_text(yaml.safe_dump(values | {"web": {"listen": f"127.0.0.1:{free_port()}"}}), encoding="utf-8")
        environment = os.environ | {"STATE_DIRECTORY": str(tmp_path / name)}
        command = [sys.executable, "-m", "edge", "run", "--config", str(path)]
        with (tmp_path / f"{name}.log").open("wb") as log:
            daemons.append(subprocess.Popen(command, env=environment, stderr=log, cwd=ROOT))
    try:
        with Subscriber(mosquitto.port, "#") as subscriber:
            eventually(lambda: 2 == len(spoken(subscriber, "state")), "readings of both", PATIENCE_SECONDS)
            eventually(lambda: 2 == len(configs(subscriber)), "discovery of both", PATIENCE_SECONDS)
            ids = spoken(subscriber, "state")
            assert {"front", "back"} == {name.rpartition("-")[2] for name in ids}
            said = [m for m in subscriber.heard if m.topic.split("/")[2:] == ["status"]]
            assert {b"online"} == {m.payload for m in said}
            uniques = [set(json.loads(payload)["components"]) for payload in configs(subscriber).values()]
            assert all(uniques)
            assert len(set(configs(subscriber))) == 2
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
    logs = [(tmp_path / f"{name}.log").read_text(encoding="utf-8") for name in ("front", "back")]
    clients = {log.split(" as edge-depth-")[1].split()[0] for log in logs}
    assert 2 == len(clients)


def spoken(subscriber: Subscriber, ending: str) -> set[str]:
    """Return the ids of the cameras that were heard on a topic."""
    parts = [message.topic.split("/") for message in subscriber.heard]
    return {part[1] for part in parts if part[0] == "edge-depth" and part[2:] == [ending]}


def configs(subscriber: Subscriber) -> dict[str, bytes]:
    return {m.topic: m.payload for m in subscriber.heard if m.topic.startswith("homeassistant/device/") and m.payload}


# --- what leaves the process ------------------------------------------------------------------------------------------


def test_secrets_are_told_to_nobody(tmp_path, photos, capsys):
    """User, password and token of stream and broker, and whatever else stands in the stream's address.

    Not in the log, at its most talkative, on any topic, in any answer, on the page, to systemd, as the name of a thread
    or an argument, nor by `check` and `doctor`.
    """
    secrets = {"hush-user", "hush-password", "hush-path", "hush-token", "hush-broker"}
    server = MjpegServer()
    host = server.url.partition("@")[2].partition("/")[0]
    source = f"http://hush-user:hush-password@{host}/user=a_password=hush-path_1/?key=hush-token#hush-token"
    acl = "user camera\ntopic readwrite #\nuser listener\ntopic read #\ntopic readwrite edge-depth/hall/request/#\n"
    passwords = {"camera": "hush-broker", "listener": "listener"}
    with (
        Mosquitto(tmp_path / "broker", passwords=passwords, acl=acl, extra="allow_anonymous true") as broker,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(str(tmp_path / "notify"))
        notified: list[str] = []
        threading.Thread(target=overhear, args=(systemd, notified), daemon=True).start()
        login = {"host": HOST, "port": broker.port, "username": "camera", "password": "hush-broker"}
        page = f"{HOST}:{free_port()}"
        values = settings(broker.port, source, mqtt=login, log={"level": "debug"}, web={"listen": page})
        with running(tmp_path, values, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            told = listen(broker, lambda topics: STATE in topics)
            told += listen(broker, lambda topics: "edge-depth/hall/response/get_config" in topics, ask="get_config")
            told += listen(broker, lambda topics: "edge-depth/hall/response/reload" in topics, ask="reload")
            for path in ("", "api/info", "api/health", "api/state", "metrics"):
                with urllib.request.urlopen(f"http://{page}/{path}") as answer:
                    told.append(answer.read().decode())
            of_process = [Path(f"/proc/{process.pid}/cmdline"), *Path(f"/proc/{process.pid}/task").glob("*/comm")]
            told += [path.read_text() for path in of_process]
            threading.Timer(2.0, server.lose).start()  # an event is not retained: the listener has to be there
            told += listen(broker, lambda topics: "edge-depth/hall/event" in topics, retained=False)
        assert 0 == main(["check", "--print", str(tmp_path / "c.yaml")])
        told += [apart.try_apart("camera", tmp_path / "c.yaml").words, *capsys.readouterr()]
        with running(tmp_path, changed_password(values)):
            eventually(lambda: "refuses" in (tmp_path / "log").read_text(), "the refusal", PATIENCE_SECONDS)
    server.close()
    told += [text for text in notified if text.startswith("STATUS=")]
    assert "STATUS=" in told[-1]
    told.append((tmp_path / "log").read_text(encoding="utf-8"))
    assert "reconnecting" in told[-1]
    assert [] == [(secret, text) for secret in secrets for text in told if secret in text]
    assert 8 < sum(f"http://{host}" in text for text in told)  # it is named where the secrets are looked for


def overhear(systemd: socket.socket, heard: list[str]) -> None:
    while True:
        heard.append(systemd.recv(10000).decode())


def changed_password(values: dict) -> dict:
    return values | {"mqtt": values["mqtt"] | {"password": "hush-broker-2"}}


def listen(
    broker: Mosquitto, enough: Callable[[set[str]], bool], *, retained: bool = True, ask: str | None = None
) -> list[str]:
    """Return topics and payloads that a listener gets, who may ask for something, until it is enough."""
    command = ["mosquitto_sub", "-p", str(broker.port), "-u", "listener", "-P", "listener", "-v", "-t", "edge-depth/#"]
    with subprocess.Popen(command if retained else [*command, "-R"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        lines: list[str] = []
        for line in process.stdout:
            if ask and not lines:
                topic, auth = f"edge-depth/hall/request/{ask}", {"username": "listener", "password": "listener"}
                publish.single(topic, "{}", hostname=HOST, port=broker.port, auth=auth)
            lines.append(line.decode("utf-8", "replace"))
            if enough({each.split(" ")[0] for each in lines}):
                break
        process.kill()
    return lines
