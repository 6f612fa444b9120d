"""The whole daemon: a folder of real photographs becomes depth on a real broker."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path

import cv2
import numpy as np
import pytest
from paho.mqtt import publish

from edge.config import Config, changed, load
from edge.daemon import Daemon
from edge.daemon.announcer import Announcer
from edge.daemon.output import Keeper
from edge.daemon.process import notify, status_text
from edge.errors import ConfigError, EngineError, MemoryFull, WeightsError
from edge.state.place import Place
from edge.topics import Topics
from tests.broker import Subscriber, eventually, free_port

PATIENCE_SECONDS = 90.0


def configuration(mosquitto, source, **sections):
    return Config.model_validate(
        {
            "id": "test",
            "camera": {"source": str(source), "fps": 20.0, "timeout": 2.0, **sections.pop("camera", {})},
            "model": {"weights": "starter-v2"},
            "heatmap": {"interval": 0.1},
            "publish": {"min_interval": 0.0, "health_interval": 1.0},
            "zones": ({"name": "left", "polygon": ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))},),
            "mqtt": {"host": "127.0.0.1", "port": mosquitto.port if mosquitto else free_port()},
            "power": {"max_rss": None, **sections.pop("power", {})},  # this process holds all the tests
            **sections,
        }
    )


def run_until(daemon, condition):
    """Run the daemon in this, the main thread, until `condition()` holds; fail when it never does."""
    met = threading.Event()

    def watch():
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and not met.is_set():
            if condition():
                met.set()
            time.sleep(0.02)
        daemon.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        daemon.run()
    finally:
        watcher.join()
    assert met.is_set()


def topics_of(subscriber):
    return {message.topic.removeprefix("edge-depth/test/") for message in subscriber.heard}


def test_photographs_become_depth_on_a_real_broker(mosquitto, photos):
    """With a moving camera every topic is published: readings, zone, heatmap, info, health, both states."""
    expected = {
        *("status", "camera/status", "info", "health", "state", "nearest", "nearest_m", "heatmap"),
        *("zone/left/occupancy", "zone/left/state", "enabled/state", "interval/state", "colormap/state"),
    }
    with Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
        daemon = Daemon(configuration(mosquitto, photos, scene={"mode": "moving"}))

        def enough():
            health = subscriber.payloads("edge-depth/test/health")
            measured = health and json.loads(health[-1])["inference_ms"]
            return measured and topics_of(subscriber) >= expected and len(subscriber.payloads(STATE)) > 12

        run_until(daemon, enough)
        subscriber.wait_for("edge-depth/test/status", b"offline")
        subscriber.wait_for("edge-depth/test/camera/status", b"offline")
    assert expected == topics_of(subscriber)
    states = [json.loads(payload) for payload in subscriber.payloads(STATE)]
    assert {"starter-v2"} == {state["weights"] for state in states}
    assert {"moving"} == {state["mode"] for state in states}
    assert {("left",)} == {tuple(state["zone_order"]) for state in states}
    assert len({state["zones"]["left"]["prominence"] for state in states}) > 5
    info = json.loads(subscriber.payloads("edge-depth/test/info")[-1])
    assert info["weights"]["name"] == "starter-v2"
    assert "starter" in info["weights"]["note"]
    assert (info["engine"], len(info["weights"]["sha256"])) == ("torch", 64)
    picture = cv2.imdecode(np.frombuffer(subscriber.payloads("edge-depth/test/heatmap")[0], np.uint8), 1)
    assert picture.shape[1] == 512
    assert picture.std() > 30
    health = json.loads(subscriber.payloads("edge-depth/test/health")[-1])
    assert health["inference_ms"]["p50"] > 0
    assert health["rss_mb"] > 50


def test_home_assistant_is_told_of_the_camera(mosquitto, photos):
    """One retained device payload, whose topics are those that the daemon publishes; none with discovery off."""
    topic = "homeassistant/device/edge-depth_test/config"
    with Subscriber(mosquitto.port, "#") as subscriber:
        daemon = Daemon(configuration(mosquitto, photos))
        run_until(daemon, lambda: subscriber.payloads(topic) and len(subscriber.payloads(STATE)) > 1)
        device = json.loads(subscriber.payloads(topic)[-1])
        served = {message.topic for message in subscriber.heard}
    wanted = {component["state_topic"] for component in device["components"].values() if "state_topic" in component}
    assert "edge-depth/test/nearest" in wanted
    assert wanted - {"edge-depth/test/event"} <= served  # nothing has happened yet
    commands = {
        component["command_topic"] for component in device["components"].values() if "command_topic" in component
    }
    assert {"enabled/set", "interval/set", "colormap/set", "request/restart"} <= {
        topic.removeprefix("edge-depth/test/") for topic in commands
    }
    with Subscriber(mosquitto.port, "#") as subscriber:
        silent = configuration(mosquitto, photos)
        mqtt = silent.mqtt.model_copy(update={"discovery": "off", "discovery_prefix": "none"})
        run_until(Daemon(silent.model_copy(update={"mqtt": mqtt})), lambda: subscriber.payloads(STATE))
        assert not [message for message in subscriber.heard if message.topic.startswith("none/")]


def test_an_entity_that_went_is_taken_back(mosquitto, photos, state_directory):
    """A zone that is no longer configured is taken out of the device at the next start, as Home Assistant asks for.

    The broker forgets its occupancy too.
    """
    kept = state_directory / "announced.json"
    topic = "homeassistant/device/edge-depth_test/config"

    def components(config):
        with Subscriber(mosquitto.port, "#") as subscriber:
            run_until(Daemon(config), lambda: subscriber.live(topic) and kept.exists())
            return json.loads(subscriber.payloads(topic)[-1])["components"]

    zone = {key: part for key, part in components(configuration(mosquitto, photos)).items() if "left" in key}
    assert zone
    after = components(configuration(mosquitto, photos, zones=()))
    assert {key: {"platform": part["platform"]} for key, part in zone.items()} == {key: after[key] for key in zone}
    with Subscriber(mosquitto.port, "#") as late:
        late.wait_for("edge-depth/test/status", b"offline")
        assert [] == late.payloads("edge-depth/test/zone/left/occupancy")


STATE = "edge-depth/test/state"


def test_a_still_camera_learns_and_then_reads_against_its_background(mosquitto, photos, tmp_path):
    """One photograph again and again is learned; then the zone is free and something near in it occupies it."""
    empty = cv2.imread(str(photos / "corridor.jpg"))
    folder = tmp_path / "view"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.jpg"), empty)
    scene = {"mode": "still", "learn_seconds": 1.0}
    with Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
        daemon = Daemon(configuration(mosquitto, folder, scene=scene))
        occupancy = "edge-depth/test/zone/left/occupancy"
        run_until(daemon, lambda: b"OFF" in subscriber.payloads(occupancy))
        assert [b"None", b"OFF"] == subscriber.payloads(occupancy)
        states = [json.loads(payload)["scene"]["state"] for payload in subscriber.payloads(STATE)]
    assert states == sorted(states)  # learning, then tracking
    assert states[0] == "learning"
    assert states[-1] == "tracking"
    assert subscriber.payloads("edge-depth/test/nearest")[-1] == b"None"


def test_who_comes_near_switches_a_trigger_with_event_and_snapshot(mosquitto, state_directory):
    """On the rendered clip, calibrated: the trigger is OFF, then ON, with an event and a snapshot; then it is kept."""
    from edge.commands.demo import Clip

    facts = Clip().facts
    config = configuration(
        mosquitto,
        Clip().path,
        camera={"fps": float(facts["fps"])},
        scene={"learn_seconds": float(facts["learn_seconds"]), "min_step": 0.05},
        calibration={"points": tuple(facts["points"])},
        triggers=({"name": "visitor", "near": 4.0, "on_delay": 0.0, "min_frames": 1},),
    )
    root = "edge-depth/test"
    with Subscriber(mosquitto.port, f"{root}/#") as subscriber:
        daemon = Daemon(config)
        run_until(daemon, lambda: subscriber.payloads(f"{root}/snapshot"))
        events = [json.loads(payload) for payload in subscriber.payloads(f"{root}/event")]
        switched = subscriber.payloads(f"{root}/trigger/visitor")
    near = next(event for event in events if event["event_type"] == "near")
    assert near["details"]["trigger"] == "visitor"
    assert 0 < near["details"]["level"] < 4.0
    assert b"ON" in switched
    snapshot = cv2.imdecode(np.frombuffer(subscriber.payloads(f"{root}/snapshot")[0], np.uint8), 1)
    assert snapshot.shape[1] == 512
    assert (np.abs(snapshot.astype(int) - (80, 255, 80)).sum(axis=-1) < 90).sum() > 100  # the box
    background, states = Keeper(Place(state_directory, "test")).load(())
    assert {"visitor": True} == states
    assert "starter-v2" == background["weights"]


def test_the_page_shows_the_running_daemon(photos):
    """With web.listen set, the page's state and heatmap are those of the daemon; it needs no broker."""
    config = configuration(
        None, photos, scene={"mode": "moving"}, web={"listen": "127.0.0.1:0"}, mqtt={"enabled": False}
    )
    daemon, seen = Daemon(config), {}

    def fetched():
        if daemon.board.heatmap() is None:
            return False
        for name in ("api/state", "heatmap.jpg", "api/health", "api/info"):
            with urllib.request.urlopen(daemon.web.url + name) as response:
                seen[name] = response.read()
        return True

    run_until(daemon, fetched)
    assert json.loads(seen["api/state"])["weights"] == "starter-v2"
    assert seen["heatmap.jpg"].startswith(b"\xff\xd8")
    assert "camera" in json.loads(seen["api/health"])


@pytest.mark.parametrize("waits_for", ["a command's turn", "an upload's turn"])
def test_whoever_waits_on_the_page_is_let_go_by_the_stop(photos, monkeypatch, waits_for):
    """A command waits for the network to be loaded, an upload for hours behind another one: the stop ends both."""
    monkeypatch.setattr("edge.daemon.uploads.SHARE", 1e-6)
    release, answers = threading.Event(), []
    if waits_for == "a command's turn":
        monkeypatch.setattr("edge.daemon.load_model", lambda _: release.wait(PATIENCE_SECONDS))
    daemon = Daemon(configuration(None, photos, web={"listen": "127.0.0.1:0"}, mqtt={"enabled": False}))

    def ask():
        if waits_for == "a command's turn":
            return requested(daemon.web.url + "api/setup")
        pictures = [(photos / name).read_bytes() for name in ("corridor.jpg", "desk.jpg")]
        return [requested(daemon.web.url + "predict", picture) for picture in pictures][-1]

    def watch():
        eventually(lambda: daemon.web.url and daemon._capture.tried.is_set(), "the page", PATIENCE_SECONDS)
        if waits_for == "an upload's turn":
            eventually(lambda: daemon.board.state(), "a reading", PATIENCE_SECONDS)
        asking = threading.Thread(target=lambda: answers.append(ask()))
        asking.start()
        eventually(lambda: waits(daemon), "somebody to wait", PATIENCE_SECONDS)
        daemon.stop()
        asking.join(PATIENCE_SECONDS)

    def waits(daemon):
        return daemon._depth._to_do.qsize() or daemon.web._uploads._jobs.unfinished_tasks > 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    daemon.run()
    release.set()
    watcher.join(PATIENCE_SECONDS)
    (status, reason) = answers[0]
    assert (503, True) == (status, "the daemon is ending" in reason)


def requested(url, picture=None):
    """Return status and text of an answer; with a picture it is sent there."""
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
    data = picture and head + picture + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"} if picture else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE_SECONDS) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_picture_of_any_shape_is_shown(tmp_path):
    """One of 32 x 1100 pixels in a folder: its heatmap is made, narrower than others, and readings go on."""
    noise = np.random.default_rng(0).integers(0, 255, (1100, 32, 3), np.uint8)
    (tmp_path / "view").mkdir()
    cv2.imwrite(str(tmp_path / "view" / "tall.png"), noise)
    readings = []
    wide = {"width": 1920, "legend": False}
    quick = {"model": {"weights": "starter-v2", "input_size": 128}, "mqtt": {"enabled": False}}
    config = configuration(None, tmp_path / "view", heatmap=wide, scene={"mode": "moving"}, **quick)
    daemon = Daemon(config, consumers=(readings.append,))
    run_until(daemon, lambda: daemon.board.heatmap() and len(readings) > 1)
    assert (7666, 223, 3) == cv2.imdecode(np.frombuffer(daemon.board.heatmap()[1], np.uint8), 1).shape


OUTPUTS = {
    "heatmap": "edge.daemon.drawing.heatmap.render",
    "snapshot": "edge.daemon.output.heatmap.render_snapshot",
    "view picture": "edge.daemon.output.heatmap.render_picture",
    "messages": "edge.daemon.output.messages.state_json",
    "event": "edge.daemon.output.messages.event_message",
    "saved state": "edge.daemon.output.Keeper.keep",
    "health": "edge.daemon.messages.health_message",
    "status for systemd": "edge.daemon.status_text",
    "announcement": "edge.daemon.announcer.Announcer.work",
    "file of what was set": "edge.daemon.overlay.Overlay.save",
    "message from the broker": "edge.daemon.control.parse",
}


def test_no_output_that_fails_ends_the_readings(mosquitto, photos, monkeypatch, caplog):
    """Whatever can't be made is left out, and told once with its traceback."""
    readings, events = [], iter([[("near", {})]] * 3)
    config = configuration(
        mosquitto, photos, scene={"mode": "moving"}, publish={"health_interval": 1.0, "picture": True}
    )
    daemon = Daemon(config, consumers=(readings.append,))
    monkeypatch.setattr(daemon._output._events, "of", lambda _: next(events, []))
    for what, place in OUTPUTS.items():
        monkeypatch.setattr(place, failing(what))
    topic = daemon.topics.request("snapshot")

    def told():
        publish.single(topic, b"", hostname="127.0.0.1", port=mosquitto.port)
        return len(readings) > 9 and all(f"{what}: can't be had" in caplog.text for what in OUTPUTS)

    with daemon.board.watching("picture"), pytest.raises(ZeroDivisionError, match="file of what was set"):
        run_until(daemon, told)  # at its end what was set is written once more, and then a failure is one
    monkeypatch.setattr("edge.publish.messages.camera_message", failing("camera"))
    daemon._camera_changed("online", "frames arrive")
    for what in (*OUTPUTS, "camera's status"):
        assert (what, 1) == (what, caplog.text.count(f" {what}: can't be had"))


def failing(what):
    def fail(*_, **__):
        raise ZeroDivisionError(what)

    return fail


def still_view(photos, tmp_path):
    """Return a folder with one photograph: a view in which nothing ever moves."""
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "a.jpg").symlink_to(photos / "corridor.jpg")
    return tmp_path / "view"


def test_what_is_taken_back_is_kept_until_the_broker_has_it(state_directory):
    """Announcements are made anew after every gap; what went is known this once."""
    config = Config.model_validate({"mqtt": {"discovery": "single"}, "triggers": ({"name": "door", "near": 1.0},)})
    sent = []
    announcer = Announcer(
        config,
        Topics("edge-depth", "test"),
        Place(state_directory, "test"),
        lambda message, keep=True: sent.append((message, keep)),
    )
    announcer.work(time.monotonic())
    assert {(True, False)} == {(bool(message.payload), keep) for message, keep in sent}
    sent.clear()
    announcer.configure(config.model_copy(update={"triggers": ()}))
    announcer.work(time.monotonic())
    assert {"trigger_door" in message.topic for message, _ in sent if not message.payload} == {True}
    assert all(keep == (not message.payload) for message, keep in sent)


def test_a_background_goes_with_its_privacy_masks(photos, tmp_path, state_directory):
    """What was learned is kept when the daemon ends, and not used under another mask: not kept either."""
    view, readings = still_view(photos, tmp_path), []
    settings = {"scene": {"learn_seconds": 1.0}, "mqtt": {"enabled": False}}
    run = lambda camera: run_until(  # noqa: E731
        Daemon(configuration(None, view, camera=camera, **settings), consumers=(readings.append,)),
        lambda: readings and readings[-1].scene.state == "tracking",
    )
    run({})
    learned = Keeper(Place(state_directory, "test")).load(())[0]["learned_at"]
    readings.clear()
    run({})
    assert "tracking" == readings[0].scene.state
    readings.clear()
    masks = (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),)
    run({"privacy_masks": masks})
    assert "learning" == readings[0].scene.state
    assert [] == [reading for reading in readings if reading.scene.regions]
    assert learned != Keeper(Place(state_directory, "test")).load(masks)[0]["learned_at"]
    assert Keeper(Place(state_directory, "test")).load(()) == (None, {})
    assert not (state_directory / "reference.safetensors").exists()


def test_what_was_learned_anew_is_kept_by_an_orderly_end(photos, tmp_path, state_directory):
    """However short a time ago the file was written."""
    view, readings = still_view(photos, tmp_path), []
    daemon = Daemon(
        configuration(None, view, scene={"learn_seconds": 1.0}, mqtt={"enabled": False}), consumers=(readings.append,)
    )
    moments = set()

    def learned_twice():
        if daemon.scene.reference and daemon.scene.reference.learned_at not in moments:
            moments.add(daemon.scene.reference.learned_at)
            if len(moments) == 1:
                daemon._depth.between_frames(daemon.scene.relearn)
        return len(moments) == 2

    run_until(daemon, learned_twice)
    saved, _ = Keeper(Place(state_directory, "test")).load(())
    assert max(moments).isoformat() == saved["learned_at"]


def test_a_camera_that_was_lost_is_back_whatever_came_between(photos, monkeypatch):
    """Also where somebody has switched it off and on meanwhile; switching alone is no event."""
    daemon, told = Daemon(configuration(None, photos, mqtt={"enabled": False})), []
    monkeypatch.setattr(daemon._output, "tell", lambda event_type, *_: told.append(event_type))
    for status in ("online", "disabled", "online", "reconnecting", "disabled", "online", "offline"):
        daemon._camera_changed(status, "a reason")
    assert ["camera_lost", "camera_back"] == told


def test_systemd_that_has_gone_is_no_matter(tmp_path, monkeypatch):
    """Its socket may be gone for a moment: a daemon does not end for that."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("WATCHDOG=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "there"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "there"))
        notify("WATCHDOG=1")
        assert b"WATCHDOG=1" == there.recv(100)


def test_an_older_word_of_the_camera_is_taken_back(mosquitto):
    """After a power cut the broker still has `online`: with `status` that would be the truth again."""
    topic = "edge-depth/test/camera/status"
    publish.single(topic, b"online", qos=1, retain=True, hostname="127.0.0.1", port=mosquitto.port)
    with Subscriber(mosquitto.port, topic) as subscriber, socket.create_server(("127.0.0.1", 0)) as silent:
        subscriber.wait_for(topic, b"online")
        config = configuration(mosquitto, f"http://127.0.0.1:{silent.getsockname()[1]}/", camera={"timeout": 100.0})
        run_until(Daemon(config), lambda: len(subscriber.payloads(topic)) > 1)
    assert [b"online", b"offline"] == subscriber.payloads(topic)[:2]


def test_frames_that_show_nothing_new_are_skipped_and_have_readings_all_the_same(mosquitto, photos, tmp_path):
    """Once the view is learned the network sees few; readings go on with their own frames, and say how old depth is."""
    health = "edge-depth/test/health"
    config = configuration(
        mosquitto, still_view(photos, tmp_path), scene={"learn_seconds": 1.0}, heatmap={"interval": 0.0}
    )
    readings = []
    with Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
        daemon = Daemon(config, consumers=(readings.append,))
        skipped = lambda: subscriber.payloads(health) and json.loads(subscriber.payloads(health)[-1])["skipped"] > 20  # noqa: E731
        run_until(daemon, lambda: skipped() and len([r for r in readings if r.depth_age_seconds]) > 30)
        last = json.loads(subscriber.payloads(health)[-1])
        pictures = subscriber.payloads("edge-depth/test/heatmap")
    rested = [reading for reading in readings if reading.depth_age_seconds]
    assert {"tracking"} == {reading.scene.state for reading in rested}
    assert 5.0 >= max(reading.depth_age_seconds for reading in rested)
    sequences = [reading.frame.sequence for reading in readings]
    assert sequences == sorted(set(sequences))
    assert {"capture", "gate", "preprocess", "inference", "scene", "triggers", "messages", "publish", "heatmap"} == set(
        last["stages_ms"]
    )
    assert all(times["p50"] <= times["p95"] for times in last["stages_ms"].values())
    assert last["readings"] > last["skipped"]
    assert 0 < last["duty"] <= 1
    assert len(pictures) > len(set(pictures))  # sent at every interval, drawn once


@pytest.mark.parametrize("off", ["camera.enabled", "heatmap.enabled"])
def test_what_is_switched_off_is_not_shown_any_more(photos, off):
    """Neither the last photograph nor the last heatmap, to whoever watches or asks."""
    config = configuration(
        None, photos, scene={"mode": "moving"}, mqtt={"enabled": False}, publish={"min_interval": 0.0, "picture": True}
    )
    daemon = Daemon(config)
    board = daemon.board
    with board.watching("picture"):
        run_until(daemon, lambda: board.heatmap() and board.next_view("picture", 0, 0.0))
        assert board.next_view("picture", 0, 0.0)
        daemon._output.configure(changed(config, {off: False}), None)
        assert (None, None) == (board.heatmap(), board.next_view("picture", 0, 0.0))


def test_no_heatmap_is_drawn_for_nobody(photos):
    """Without a broker, and while no page is looked at, there is none; who asks gets one."""
    readings = []
    daemon = Daemon(
        configuration(None, photos, scene={"mode": "moving"}, mqtt={"enabled": False}), consumers=(readings.append,)
    )
    run_until(daemon, lambda: len(readings) > 3)
    assert "heatmap" not in daemon.board.health()["stages_ms"]
    assert daemon.board.heatmap()[1].startswith(b"\xff\xd8")
    assert "heatmap" in daemon.board.health()["stages_ms"]


def test_too_much_memory_ends_the_daemon_in_order(mosquitto, photos):
    """Above power.max_rss: an error that says so with both figures, after the farewell to the broker."""
    with Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
        daemon = Daemon(configuration(mosquitto, photos, power={"max_rss": 100.0}))
        with pytest.raises(MemoryFull, match=r"power\.max_rss: \d+ MB are held, 100 MB are allowed") as caught:
            daemon.run(PATIENCE_SECONDS)
        assert 70 == caught.value.exit_code
        subscriber.wait_for("edge-depth/test/status", b"offline")


def test_heat_slows_the_network_down_and_is_told(mosquitto, photos, monkeypatch):
    """Near power.max_temperature there are fewer frames, health says throttled, and there is one event."""
    monkeypatch.setattr("edge.system.machine.temperature", lambda: 78.0)
    config = configuration(mosquitto, photos, scene={"mode": "moving"}, power={"max_temperature": 80.0})
    health, event = "edge-depth/test/health", "edge-depth/test/event"
    with Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
        run_until(Daemon(config), lambda: subscriber.payloads(event) and len(subscriber.payloads(health)) > 2)
        events = [json.loads(payload) for payload in subscriber.payloads(event)]
        last = json.loads(subscriber.payloads(health)[-1])
    assert [("throttled", {"temperature_c": 78.0, "by": "power.max_temperature"})] == [
        (each["event_type"], each["details"]) for each in events
    ]
    assert (True, 0.2) == (last["throttled"], last["allowed_duty"])
    assert last["duty"] < 0.5


def test_a_finite_source_ends_the_daemon_cleanly(mosquitto, photos, tmp_path):
    """With camera.loop false the daemon ends by itself after the last picture, without an error."""
    (tmp_path / "few").mkdir()
    for name in ("desk.jpg", "stairs.jpg"):
        (tmp_path / "few" / name).symlink_to(photos / name)
    readings = []
    config = configuration(mosquitto, tmp_path / "few", camera={"loop": False, "fps": 1.0}, scene={"mode": "moving"})
    Daemon(config, consumers=(readings.append,)).run(PATIENCE_SECONDS)
    assert readings


def test_readings_go_on_without_a_broker(photos):
    """An unreachable broker is a state: readings continue, nothing piles up, the problem is told in words."""
    readings = []
    daemon = Daemon(configuration(None, photos, scene={"mode": "moving"}), consumers=(readings.append,))
    run_until(daemon, lambda: len(readings) > 5)
    assert daemon.publisher.published == 0


def test_a_broker_that_comes_later_learns_everything(mosquitto, photos):
    """Started with the broker down, the daemon brings status, info and camera state as soon as it is there."""
    mosquitto.stop()
    daemon, readings = Daemon(configuration(mosquitto, photos, scene={"mode": "moving"})), []

    def late():
        time.sleep(1)
        mosquitto.start()
        with Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
            eventually(lambda: {"status", "info", "camera/status", "state"} <= topics_of(subscriber), "all topics")
            readings.extend(subscriber.payloads("edge-depth/test/status"))
        daemon.stop()

    thread = threading.Thread(target=late)
    thread.start()
    daemon.run(PATIENCE_SECONDS)
    thread.join()
    assert readings[0] == b"online"


def test_a_camera_that_never_answers_is_a_state(mosquitto):
    """A server that accepts and says nothing: camera/status is `reconnecting`, and the daemon stops when asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent, Subscriber(mosquitto.port, "edge-depth/#") as subscriber:
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/stream.mjpg"
        daemon = Daemon(configuration(mosquitto, source))
        run_until(daemon, lambda: b"reconnecting" in subscriber.payloads("edge-depth/test/camera/status"))
        subscriber.wait_for("edge-depth/test/status", b"online")
    assert not subscriber.payloads(STATE)


def test_what_can_not_start_ends_with_its_error(mosquitto, photos, tmp_path):
    """Missing weights and a processor that is not there are raised by run, after an orderly stop."""
    with pytest.raises(WeightsError, match=r"no file nowhere\.safetensors"):
        Daemon(configuration(mosquitto, photos, model={"weights": "nowhere.safetensors"})).run(PATIENCE_SECONDS)
    with pytest.raises(EngineError, match=r"model\.cpus"):
        Daemon(configuration(mosquitto, photos, model={"cpus": (1023,)})).run(PATIENCE_SECONDS)
    with pytest.raises(ConfigError, match="nowhere"):
        Daemon(configuration(mosquitto, "nowhere"))


def write(path: Path, mosquitto, photos) -> Path:
    path.write_text(
        f"id: test\ncamera: {{source: {photos}, fps: 20}}\nscene: {{mode: moving}}\n"
        f"mqtt: {{host: 127.0.0.1, port: {mosquitto.port}}}\n"
    )
    return path


def test_the_command_tells_systemd_and_ends_with_0_on_sigterm(mosquitto, photos, tmp_path):
    """READY=1 when readings can come, WATCHDOG=1 and a STATUS= while they do, STOPPING=1 and status 0 at SIGTERM.

    Between SIGHUP and what comes of it the service reloads; a bad file is told in the status. Nothing is torn down in
    the end: that takes longer than the stop itself.
    """
    run = (
        "import sys; from edge.cli import main\n"
        "class Torn:\n    def __del__(self, tell=print):\n        tell('torn', flush=True)\n"
        "torn = Torn()\nsys.exit(main(sys.argv[1:]))"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_SECONDS)
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        path = write(tmp_path / "c.yaml", mosquitto, photos)
        command = [sys.executable, "-c", run, "run", "--config", str(path)]
        daemon = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            told = [systemd.recv(1000)]
            while b"READY=1" not in told:
                told.append(systemd.recv(1000))
            while not told[-1].endswith(b" fps, scene moving, broker connected"):
                told.append(systemd.recv(1000))
            while told[-1] != b"WATCHDOG=1":
                told.append(systemd.recv(1000))
            path.write_text("zones: 7\n")
            daemon.send_signal(signal.SIGHUP)
            while b" broker connected, configuration refused: " not in told[-1]:
                told.append(systemd.recv(1000))
            daemon.send_signal(signal.SIGTERM)
            printed, log = daemon.communicate(timeout=PATIENCE_SECONDS)
        finally:
            daemon.kill()
        systemd.settimeout(1)
        while told[-1] != b"STOPPING=1":
            told.append(systemd.recv(1000))
    assert (0, "") == (daemon.returncode, printed), log
    assert "weights starter-v2: starter weights" in log
    assert [b"READY=1", b"RELOADING=1", b"READY=1"] == [each for each in told if each in (b"READY=1", b"RELOADING=1")]
    assert b"c.yaml:1: zones, see the log" in b"".join(told)


@pytest.mark.parametrize(
    ("nearest", "scene", "words"),
    [
        ({"nearness": 0.934, "distance_m": 1.525}, "tracking", "nearest 1.52 m"),
        ({"nearness": 0.934, "distance_m": None}, "tracking", "nearest 0.93"),
        (None, "tracking", "nothing near"),
        (None, "lost", "scene lost"),
    ],
)
def test_the_status_says_what_is_nearest(nearest, scene, words):
    """In metres where they are known, else as nearness; a scene that can't be read is told as such."""
    health = {"fps": 4.9, "camera": "online", "mqtt_connected": True, "mqtt_problem": None}
    text = status_text(health, {"nearest": nearest, "scene": {"state": scene}})
    assert f"4.9 fps, {words}, broker connected" == text


def test_the_status_says_what_needs_somebody(tmp_path):
    """A file that was refused: where, not what stands there, since everybody may read it; one that waits; a restart.

    What is wrong with the file as a whole has no place, and is one sentence.
    """
    health, wait = {"fps": 1.0, "camera": "online"}, Future()
    refused, done = Future(), Future()
    refused.set_exception(ConfigError("/etc/c.yaml:3: mqtt.username: must be text, not 7", "/etc/c.yaml:9: more"))
    done.set_result({})
    assert "1 fps, configuration refused: /etc/c.yaml:3: mqtt.username, see the log" == status_text(
        health, None, refused
    )
    (tmp_path / "c.yaml").touch()
    empty = Future()
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "c.yaml")
    empty.set_exception(error.value)
    words = "c.yaml: must have one section at least, or it may be cut off, see the log"
    assert status_text(health, None, empty).endswith(words)
    assert "1 fps, configuration: takes something away, and waits for it to stay so" == status_text(health, None, wait)
    assert "1 fps, restart needed for: camera, web" == status_text(health, None, done, ["camera", "web"])
    assert "1 fps" == status_text(health, None, done)


def test_an_end_goes_before_a_restart(photos):
    """Asked for both, in whatever order, the daemon ends: systemd waits for that."""
    asked = []
    for steps in (("restart",), ("restart", "stop"), ("stop", "restart")):
        daemon = Daemon(configuration(None, photos, mqtt={"enabled": False}))
        for step in steps:
            getattr(daemon, step)()
        asked.append(daemon.restart_wanted)
    assert [True, False, False] == asked


def test_the_status_says_what_is_missing():
    """A camera that is away, and why there is no broker; without a broker configured not a word of it."""
    away = {"fps": 0.0, "camera": "reconnecting", "mqtt_connected": False, "mqtt_problem": "the name is not known"}
    assert "camera reconnecting, broker: the name is not known" == status_text(away, None)
    assert "0 fps" == status_text({"fps": 0.0, "camera": "online"}, None)


def test_the_demo_runs_by_itself_and_ends_by_itself(capsys):
    """`demo --seconds` needs nothing: it names its page and its topics, shows readings and ends with 0."""
    from edge.cli import main

    assert main(["demo", "--seconds", "6"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "http://127.0.0.1:",
        "mosquitto_sub -h 127.0.0.1",
        "starter-v2",
        "rendered, not filmed",
        "nearest",
        "left",
        "centre",
        "right",
    ):
        assert text in printed
    assert " 0 readings" not in printed
    assert " 0 messages" not in printed


def test_the_clip_knows_what_is_true_in_every_frame():
    """Frame numbers count from 1 and go on over the clip's end; every frame of the video has its truth."""
    from edge.commands.demo import Clip

    clip = Clip()
    frames = clip.facts["frames"]
    capture = cv2.VideoCapture(str(clip.path))
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == len(frames)
    seen = next(number for number, figure in enumerate(frames, 1) if figure)
    assert clip.true_metres(seen - 1) is None
    assert clip.true_metres(seen) == clip.true_metres(seen + count) == frames[seen - 1]["metres"]
