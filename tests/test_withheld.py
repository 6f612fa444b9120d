"""Nothing that is made of pixels leaves while privacy masks may be lost or lie elsewhere, and what goes with a view."""

import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest

from edge.camera import view
from edge.camera.view import device_identity, path_identity, stream_identity, view_of
from edge.cli import main
from edge.config import CameraSection, Config
from edge.daemon import Daemon
from edge.daemon.overlay import Overlay
from edge.errors import ConfigError, Stale
from edge.records import DepthMap, Frame
from edge.state.place import OVERLAY, Place
from edge.state.stores import OverlayStore
from tests.broker import Subscriber
from tests.page_rig import DOOR, room
from tests.test_daemon import configuration, run_until, still_view

MASK = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
POINTS = [{"x": 0.9, "y": 0.95, "metres": 1.0}, {"x": 0.9, "y": 0.75, "metres": 1.6}, {"x": 0.9, "y": 0.5, "metres": 4}]
VIEW = {"camera": "usb one", "size": [640, 480], "rotate": 0, "flip": "none"}
SMALL = {"weights": "starter-v2", "engine": "torch", "threads": 1, "input_size": 64}
LOST = "overlay.json.damaged can't be used, and privacy masks may be lost"


def drawn(folder, view=VIEW, **values):
    """Leave what somebody has set, drawn in a view."""
    made = Overlay(Config(), OverlayStore(Place(folder, "test").file(OVERLAY)))
    made.look(view)
    assert made.replace(values or {"camera.privacy_masks": [MASK]})


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_lost_masks_keep_all_that_is_made_of_pixels_here(mosquitto, photos, state_directory, caplog):
    """Heatmaps, snapshots and every view, on page and broker, until it is confirmed; numbers go on all the while."""
    state_directory.mkdir()
    (state_directory / "overlay.json").write_bytes(b"{")
    settings = {"scene": {"mode": "moving"}, "web": {"listen": "127.0.0.1:0"}, "model": SMALL}
    daemon = Daemon(configuration(mosquitto, photos, **settings))
    assert LOST in caplog.text  # whether the camera's picture may leave or not
    root, found, asked = "edge-depth/test", {}, []

    def withheld():
        if len(heard.payloads(f"{root}/state")) < 10:
            return False
        if not asked:
            asked.append(heard.publish(f"{root}/request/snapshot"))
        if not heard.payloads(f"{root}/response/snapshot"):
            return False
        for path in ("heatmap.jpg", "stream.mjpg?view=depth"):
            found[path] = get(daemon.web.url + path)
        found["topics"] = {message.topic.removeprefix(f"{root}/") for message in heard.heard}
        found["views"] = daemon.board._views
        doubts = daemon.board.info()["doubts"]
        assert daemon._desk.ask("confirm", {"doubts": doubts})["written"]
        return True

    def shown():
        return (found or withheld()) and heard.payloads(f"{root}/heatmap") and daemon.board.heatmap()

    with Subscriber(mosquitto.port, f"{root}/#") as heard:
        run_until(daemon, shown)
        answer = json.loads(heard.payloads(f"{root}/response/snapshot")[0])
        told = [json.loads(payload)["withheld"] for payload in heard.payloads(f"{root}/info")]
    assert {503} == {found[path][0] for path in ("heatmap.jpg", "stream.mjpg?view=depth")}
    assert all(LOST.encode() in found[path][1] for path in ("heatmap.jpg", "stream.mjpg?view=depth"))
    assert {"state", "nearest"} <= found["topics"]
    assert not {"heatmap", "snapshot"} & found["topics"]
    assert ({}, False) == (found["views"], answer["ok"])
    assert LOST in answer["error"]
    assert LOST in told[0]
    assert told[-1] is None
    assert not (state_directory / "overlay.json.damaged").exists()


def test_no_background_is_kept_while_pixels_are_withheld(photos, tmp_path, state_directory):
    """It would show what must be hidden."""
    state_directory.mkdir()
    (state_directory / "overlay.json").write_bytes(b"{")
    sections = {"scene": {"learn_seconds": 1.0}, "mqtt": {"enabled": False}, "model": SMALL}
    config = configuration(None, still_view(photos, tmp_path), **sections)
    daemon = Daemon(config)
    run_until(daemon, lambda: daemon.scene.reference)
    assert not (state_directory / "reference.safetensors").exists()


@pytest.mark.parametrize("command", ["export", "calibrate"])
def test_commands_make_nothing_of_pixels_that_are_withheld(command, photos, tmp_path, state_directory, capsys):
    """Lost masks, or masks of another camera: refused with the reason, and no picture is written."""
    file = tmp_path / "c.yaml"
    file.write_text(f"camera: {{source: {photos}, fps: 30}}\nmodel: {{input_size: 64}}\nmqtt: {{enabled: false}}\n")
    call = {
        "export": ["export", "--weights", "starter-v2", "--seconds", "0.2", "--from-camera", str(file)],
        "calibrate": ["calibrate", "--snapshot", str(tmp_path / "shot.jpg"), "--config", str(file)],
    }[command]
    drawn(state_directory)
    assert 78 == main(call)
    assert "the privacy masks were drawn for another view (the camera is another one" in capsys.readouterr().err
    (state_directory / "overlay.json").write_bytes(b"{")
    assert 78 == main(call)
    assert LOST in capsys.readouterr().err
    assert not (tmp_path / "shot.jpg").exists()


# --- what belongs together --------------------------------------------------------------------------------------------


def made(photos, read_file=None, **sections):
    """Return a daemon that is not started, as it is between two frames."""
    settings = {"mqtt": {"enabled": False}, "scene": {"learn_seconds": 1.0, "horizontal_fov_deg": 60.0}, "zones": ()}
    return Daemon(configuration(None, photos, **settings | sections), read_file=read_file)


def test_masks_wait_for_the_restart_with_the_view_that_they_belong_to(photos):
    """The file has another rotation, and masks, zones and triggers for it: none is in force until all are."""
    file = {"now": None}
    masks = {"privacy_masks": (tuple(map(tuple, MASK)),)}
    others = {"privacy_masks": (((0.5, 0.0), (1.0, 0.0), (1.0, 1.0)),)}
    daemon = made(photos, lambda: file["now"], camera=masks)
    before = daemon.overlay.config
    zones = ({"name": "door", "polygon": tuple(map(tuple, DOOR))},)
    triggers = ({"name": "door", "zone": "door", "measure": "nearness", "near": 0.5},)
    wanted = {"zones": zones, "triggers": triggers, "heatmap": {"interval": 7.0}}
    file["now"] = made(photos, camera=others | {"rotate": 180}, **wanted).overlay.file
    assert ["camera", "zones", "triggers"] == daemon.reload().result(0)["restart_required"]
    after = daemon._config
    assert (before.camera, before.zones, ()) == (after.camera, after.zones, after.triggers)
    assert before.camera.privacy_masks == daemon._camera._private_areas
    assert 7.0 == after.heatmap.interval
    mask = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0]]  # drawn on the page, on the view as it still is
    daemon.overlay.replace({"camera.privacy_masks": [mask]})
    daemon.apply()
    assert (tuple(map(tuple, mask)),) == daemon._camera._private_areas
    file["now"] = made(photos, camera=others, **wanted).overlay.file
    assert [] == daemon.reload().result(0)["restart_required"]
    assert ["door"] == [zone.name for zone in daemon._config.zones]


def look(daemon, view):
    daemon._camera.view = view
    daemon._look()


def test_another_camera_in_its_place_is_noticed(photos, state_directory, caplog):
    """Pixels are withheld, triggers of zones frozen, and there are no metres; confirmed, all of it is back."""
    zones, triggers = [{"name": "door", "polygon": DOOR}], [{"name": "a", "zone": "door", "near": 1.0}]
    calibration = {"points": POINTS}
    values = {"camera.privacy_masks": [MASK], "zones": zones, "triggers": triggers, "calibration": calibration}
    drawn(state_directory, **values)
    daemon = made(photos)
    learn(daemon)
    look(daemon, VIEW)
    assert (None, []) == (daemon.board.info()["withheld"], daemon.board.info()["doubts"])
    assert (1, 3) == (len(daemon._config.triggers), len(daemon.scene._calibration_section.points))
    assert daemon.scene._calibration is not None
    look(daemon, VIEW | {"camera": "usb two"})
    info = daemon.board.info()
    assert ["the camera is another one" in words for words in info["doubts"]] == [True] * 3
    assert info["withheld"] == info["doubts"][0] == daemon._output._withheld
    assert daemon.scene._calibration is None
    (state,) = daemon._triggers.update(see(daemon))
    assert (None, "its zone was drawn for another view: confirm it in Set up, or draw it anew") == (
        state.on,
        state.reason,
    )
    for words in info["doubts"]:
        assert words in caplog.text
    with pytest.raises(Stale, match="something else is in doubt"):
        daemon._desk._of_page["confirm"]({"doubts": info["doubts"][1:]})
    daemon._desk._of_page["confirm"]({"doubts": info["doubts"]})
    assert (None, []) == (daemon.board.info()["withheld"], daemon.board.info()["doubts"])
    assert daemon.scene._calibration is not None
    assert "its zone" not in str(daemon._triggers.update(see(daemon))[0].reason)


# --- what a view is known by ------------------------------------------------------------------------------------------


def test_a_usb_camera_is_known_by_its_name_wherever_it_is_plugged_in(tmp_path, monkeypatch):
    """By whatever path it is configured; one that has no name is known by its path."""
    monkeypatch.setattr(view, "BY_ID", tmp_path / "by-id")
    assert "device /dev/null" == device_identity("/dev/null")
    (tmp_path / "by-id").mkdir()
    (tmp_path / "video0").touch()
    (tmp_path / "by-id" / "usb-One-video-index0").symlink_to(tmp_path / "video0")
    names = {device_identity(str(path)) for path in (tmp_path / "video0", tmp_path / "by-id" / "usb-One-video-index0")}
    assert {"usb usb-One-video-index0"} == names


def test_a_stream_is_known_by_where_it_comes_from_alone():
    """Another user, password or query is the same view, another host or path not; what is kept tells none of it."""
    known = stream_identity("rtsp://user:SECRET@host:554/one?key=SECRET")
    assert known == stream_identity("rtsp://other@host:554/one")
    assert "SECRET" not in known
    others = [
        "rtsp://host2:554/one",
        "rtsp://host:555/one",
        "rtsp://host:554/two",
        "http://host:554/one",
        "rtsp://host:x/",
    ]
    assert len(others) == len({stream_identity(other) for other in others} - {known})


def test_a_view_is_camera_size_rotation_and_flip(tmp_path):
    """As JSON has it: what was kept compares with what is there."""
    section = CameraSection(source=str(tmp_path), size=(320, 240), rotate=90, flip="both")
    found = view_of(section, path_identity(f"{tmp_path}/."))
    assert {"camera": f"path {tmp_path}", "size": [320, 240], "rotate": 90, "flip": "both"} == found
    assert json.loads(json.dumps(found)) == found


# --- one way to calibrate ---------------------------------------------------------------------------------------------


def see(daemon, *, visitor=False, at=None):
    """Let the daemon's scene see the made room; return the scene."""
    depth = room(1, visitor=visitor)
    moment = time.monotonic() if at is None else at
    frame = Frame(sequence=1, captured_at=moment, wall_time=datetime.now(UTC), pixels=depth.frame.pixels)
    return daemon.scene.update(
        DepthMap(frame=frame, inverse_depth=depth.inverse_depth, inference_seconds=0.1, weights="made-up")
    )


def learn(daemon):
    """Let the daemon's scene learn the made room."""
    begun = time.monotonic()
    for i in range(30):
        see(daemon, at=begun + i / 10)
    assert daemon.scene.reference is not None


def by_page(daemon, points):
    revision = daemon._desk._of_page["setup"]({})["revision"]
    return daemon._desk._of_page["apply"]({"calibration": {"points": points}, "revision": revision})


def by_mqtt(daemon, points):
    return daemon._desk._commands["calibrate"]({"points": points})


@pytest.mark.parametrize("calibrate", [by_page, by_mqtt])
def test_both_ways_to_calibrate_do_the_same(calibrate, photos, state_directory, monkeypatch):
    """Written before it is answered, fitted once; the same places set anew hold for the view as it is by now."""
    daemon, fits = made(photos), []
    learn(daemon)
    from edge.scene import still

    monkeypatch.setattr(still, "calibrate", lambda *args, fit=still.calibrate: fits.append(1) or fit(*args))
    assert calibrate(daemon, POINTS)["written"]
    kept = json.loads((state_directory / "overlay.json").read_text())["overlay"]
    assert 3 == len(kept["calibration"]["value"]["points"])
    assert (1, True) == (len(fits), daemon.scene._calibration is not None)
    daemon.scene._stale, daemon.scene._calibration = True, None  # as when the camera was moved, and put back
    fits.clear()
    calibrate(daemon, POINTS)
    assert (1, True, False) == (len(fits), daemon.scene._calibration is not None, daemon.scene._stale)
    with pytest.raises(ConfigError):
        calibrate(daemon, POINTS[:1])
    assert 3 == len(daemon._config.calibration.points)
    daemon._desk._of_page["undo"]({})
    daemon._desk._of_page["undo"]({})
    assert 3 == len(daemon._config.calibration.points)


def test_a_calibration_that_can_not_be_written_says_so(photos, state_directory):
    """It is in force all the same."""
    daemon = made(photos)
    learn(daemon)
    for name in ("overlay.json.new", "overlay.json.backup.new"):
        (state_directory / name).mkdir(parents=True)
    assert by_mqtt(daemon, POINTS)["written"] is False
    assert 3 == len(daemon._config.calibration.points)
