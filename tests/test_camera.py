"""Every kind of camera against one contract, and what each has of its own."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.camera import Camera, EndOfCamera, files, live, open_camera, picamera
from edge.camera.files import RecordedSource
from edge.camera.mounted import private_area
from edge.camera.picamera import widest_mode
from edge.camera.source import Call, Throttle
from edge.config import CameraSection
from edge.errors import CameraError, CameraStalled, ConfigError, PictureError
from edge.pictures import read_picture
from edge.records import Frame
from tests import fake_picamera2
from tests.camera_rigs import (
    DEVICE,
    HEIGHT,
    INTERRUPTIBLE,
    LIVE,
    RIGS,
    SIZE,
    WIDTH,
    Device,
    MjpegServer,
    Rig,
    jpeg,
    picture,
    plug_in,
    quarters,
    write_video,
)
from tests.file_server import served

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path, monkeypatch) as running:
        yield running


live_only = pytest.mark.parametrize("rig", LIVE, indirect=True)
interruptible_only = pytest.mark.parametrize("rig", INTERRUPTIBLE, indirect=True)


def section(source: str, **keys: Any) -> CameraSection:
    return CameraSection(**{"source": source, "size": SIZE, "fps": 100.0, "timeout": 5.0} | keys)


def camera_of(source: str, **keys: Any) -> Camera:
    return open_camera(section(source, **keys))


@pytest.fixture
def opened(rig: Rig) -> Iterator[Camera]:
    camera = camera_of(rig.source)
    camera.open()
    yield camera
    camera.close()


# The contract


def test_frames_are_red_green_blue_in_memory(opened: Camera):
    """A red quarter is red: R, G, B in memory, whatever the library's own order."""
    frame = opened.read()
    assert ["red", "green", "blue", "white"] == quarters(frame.pixels)
    assert (HEIGHT, WIDTH, 3) == frame.pixels.shape


def test_frames_own_their_memory(opened: Camera):
    """No frame lies in a buffer that the camera uses again, and none can be changed."""
    first = opened.read()
    before = first.pixels.copy()
    second = opened.read()
    opened.read()
    assert first.pixels.flags.owndata
    assert not first.pixels.flags.writeable
    assert not np.shares_memory(first.pixels, second.pixels)
    np.testing.assert_array_equal(before, first.pixels)


def test_frames_are_numbered_and_dated(opened: Camera):
    """The sequence and the monotonic time grow from frame to frame; the wall time is now, in UTC."""
    frames = [opened.read() for _ in range(4)]
    assert [1, 2, 3, 4] == [frame.sequence for frame in frames]
    times = [frame.captured_at for frame in frames]
    assert sorted(set(times)) == times
    assert 0 <= time.monotonic() - times[-1] < 5
    assert abs((datetime.now(UTC) - frames[-1].wall_time).total_seconds()) < 5


def test_a_camera_opens_again_and_counts_on(rig: Rig, opened: Camera):
    """After close() the camera opens again, as often as one likes, and the sequence goes on."""
    for expected in range(1, 12):
        assert expected == opened.read().sequence
        opened.close()
        opened.open()


def test_close_is_idempotent(rig: Rig):
    """close() may be called before open(), and twice."""
    camera = camera_of(rig.source)
    camera.close()
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="is not open"):
        camera.read()


@pytest.mark.parametrize(
    ("rotate", "flip", "expected"),
    [
        (90, "none", ["blue", "red", "white", "green"]),
        (180, "none", ["white", "blue", "green", "red"]),
        (270, "none", ["green", "white", "red", "blue"]),
        (0, "horizontal", ["green", "red", "white", "blue"]),
        (0, "vertical", ["blue", "white", "red", "green"]),
        (0, "both", ["white", "blue", "green", "red"]),
        (90, "horizontal", ["red", "blue", "green", "white"]),
    ],
)
def test_pictures_are_turned_clockwise_then_mirrored(rig: Rig, rotate: int, flip: str, expected: list[str]):
    """Every camera is turned, then mirrored; a quarter turn changes the sides."""
    camera = camera_of(rig.source, rotate=rotate, flip=flip)
    camera.open()
    pixels = camera.read().pixels
    camera.close()
    assert expected == quarters(pixels)
    assert ((WIDTH, HEIGHT, 3) if rotate % 180 else (HEIGHT, WIDTH, 3)) == pixels.shape


def test_private_areas_are_black_in_the_turned_picture(rig: Rig):
    """A mask is drawn on the picture as it is delivered; where two overlap, both hold."""
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    left_top = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    camera = camera_of(rig.source, rotate=90, privacy_masks=(left_half, left_top))
    camera.open()
    pixels = camera.read().pixels
    camera.close()
    assert ["black", "red", "black", "green"] == quarters(pixels)
    assert 0 == pixels[:, : HEIGHT // 2].max()
    assert 0 < pixels[:, HEIGHT // 2 + 2 :].max(axis=2).min(), "the other half is seen"


def test_a_lost_camera_is_an_error(rig: Rig, opened: Camera):
    """When the device, the server or the file goes, read() raises CameraError, and so does open() while it is gone."""
    opened.read()
    rig.lose()
    with pytest.raises(CameraError) as caught:
        read_on(opened)
    assert not isinstance(caught.value, EndOfCamera)
    opened.close()
    with pytest.raises(CameraError):
        opened.open()


@live_only
def test_a_stalled_camera_meets_its_deadline_and_recovers(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Without a frame for `timeout` seconds read() raises CameraStalled; closed and opened, it delivers again."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 0.1)
    camera = camera_of(rig.source, timeout=0.8)
    camera.open()
    camera.read()
    rig.stall()
    begun = time.monotonic()
    with pytest.raises(CameraStalled, match=r"no frame for 0\.8 s"):
        read_on(camera)  # a frame may be on its way
    camera.close()
    assert time.monotonic() - begun < 10
    rig.restore()
    eventually_open(camera)
    assert ["red", "green", "blue", "white"] == quarters(camera.read().pixels)
    camera.close()


@live_only
def test_a_camera_that_comes_back_is_read_again(rig: Rig, opened: Camera):
    """After a loss, close() and open() are all that it takes."""
    rig.lose()
    with pytest.raises(CameraError):
        read_on(opened)
    opened.close()
    rig.restore()
    eventually_open(opened)
    assert ["red", "green", "blue", "white"] == quarters(opened.read().pixels)


def interrupted(camera: Camera | live.LiveSource | RecordedSource, work: Callable[[], object]) -> Exception | None:
    """Interrupt a camera while `work` waits for it; return what `work` raised."""
    call = Call(lambda: work() and None, name="waits")
    call.start()
    call.join(0.3)
    assert call.is_alive(), "it waits"
    camera.interrupt()
    call.join(10)
    assert not call.is_alive()
    return call.error


@interruptible_only
def test_an_interrupted_camera_waits_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """interrupt() ends a read() that waits, open() and read() from then on, and what close() would wait for."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 60.0)
    camera = camera_of(rig.source, fps=0.05, timeout=100.0)
    camera.open()
    camera.read()
    rig.stall()
    assert isinstance(interrupted(camera, lambda: read_on(camera)), EndOfCamera)
    begun = time.monotonic()
    with pytest.raises(EndOfCamera):
        camera.read()
    camera.close()
    with pytest.raises(EndOfCamera):
        camera.open()
    assert time.monotonic() - begun < 10


def test_every_camera_can_be_told_to_wait_no_more(rig: Rig):
    """interrupt() is there for each, may come before open(), and twice; then the camera closes as ever."""
    camera = camera_of(rig.source)
    camera.interrupt()
    camera.interrupt()
    camera.close()


def read_on(camera: Camera, frames: list[Frame] | None = None) -> None:
    """Read for as long as there are frames, but not for ever."""
    frames = [] if frames is None else frames
    while len(frames) < 100:
        frames.append(camera.read())


def eventually_open(camera: Camera | live.LiveSource) -> None:
    """Open the camera as the program does: again and again, for a bounded time."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return camera.open()
        except CameraError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize(("kind", "attempts"), [("picamera2", 3), ("v4l2", None), ("stream", None), ("video", None)])
def test_only_picamera2_always_gives_up(
    kind: str, attempts: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Three failed attempts end the process for Picamera2; any other camera is tried for ever, unless reads hang."""
    with RIGS[kind](tmp_path, monkeypatch) as rig:
        assert attempts == camera_of(rig.source).max_failed_opens


# Choosing


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        *((each, each) for each in ("picamera", "/dev/vide0", "/dev/null", "no/such/file.mp4", "0")),
        ("picamera2:", "********"),
        ("picamera2:front", "********"),
        ("ftp://host/x", "ftp://host"),
    ],
)
def test_an_unknown_source_is_a_configuration_error(source: str, shown: str):
    """The message gives as much of the value as can't be a secret, and what is allowed."""
    with pytest.raises(ConfigError, match=r"camera\.source: must be picamera2, .*/dev/video0.*rtsp://") as caught:
        camera_of(source)
    assert repr(shown) in str(caught.value)


@pytest.mark.parametrize("source", ["/no/such/disk/pictures", "/no/such/clip.mp4", "/dev/shm/no-such-folder"])
def test_a_path_that_may_come_is_a_lost_camera(source: str):
    """A disk may be mounted late: whatever has a whole path is tried again, for ever, and is no configuration error."""
    camera = camera_of(source)
    with pytest.raises(CameraError, match=rf"{source}: is not there, .*check that its disk is mounted"):
        camera.open()
    assert camera.max_failed_opens is None


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_recording_that_comes_late_is_shown(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is not there at the start is opened once it is, be it a file or a folder."""
    with RIGS[kind](tmp_path, monkeypatch) as rig:
        path = Path(rig.source)
        path.rename(tmp_path / "elsewhere")
        camera = camera_of(rig.source)
        with pytest.raises(CameraError, match="is not there"):
            camera.open()
        (tmp_path / "elsewhere").rename(path)
        camera.open()
        assert ["red", "green", "blue", "white"] == quarters(camera.read().pixels)
        camera.close()


def test_an_unknown_address_is_told_without_its_password():
    """A typing error in the scheme must not put the password into a log."""
    with pytest.raises(ConfigError) as caught:
        camera_of("rstp://user:secret@camera/stream")
    assert "secret" not in str(caught.value)


def test_choosing_opens_nothing():
    """open_camera() only says what will be opened: a device that is not there is no error yet."""
    assert "/dev/video99" == camera_of("/dev/video99").name
    assert "/dev/v4l/by-id/usb-cam-index0" == camera_of("/dev/v4l/by-id/usb-cam-index0").name


def test_names_and_errors_hold_no_credentials(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]):
    """Neither the name nor an error nor anything on standard error shows the user, the password or the query."""
    server = MjpegServer()
    camera = camera_of(server.url)
    server.close()
    with pytest.raises(CameraError) as caught:
        camera.open()
    told = camera.name + str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert "127.0.0.1" in camera.name
    assert "secret" not in told


def test_importing_the_cameras_is_light():
    """`import edge.camera` loads neither OpenCV nor Picamera2."""
    script = "import sys, edge.camera; sys.exit('cv2' in sys.modules or 'picamera2' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False).returncode


# Privacy


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return whether points (n, 2) lie in a polygon (m, 2), by the even-odd rule."""
    result = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return result


corner = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(st.lists(corner, min_size=3, max_size=6))
def test_every_pixel_that_a_private_area_touches_is_black(corners: list[tuple[float, float]]):
    """No pixel shows a part of a private area, not even at its edge."""
    height, width, samples = 12, 20, 4
    y, x = np.mgrid[0 : height * samples, 0 : width * samples]
    points = np.stack([(x + 0.5) / (width * samples), (y + 0.5) / (height * samples)], -1).reshape(-1, 2)
    touched = inside(np.array(corners), points).reshape(height, samples, width, samples).any(axis=(1, 3))
    assert not (touched & ~private_area((tuple(corners),), height, width)).any()


def test_a_private_area_spares_the_rest():
    """A mask blackens what it covers and two pixels around it at most."""
    area = private_area((((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)),), 40, 80)
    assert area[10:30, 20:60].all()
    area[8:32, 18:62] = False
    assert not area.any()


# Picamera2


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> fake_picamera2.Hardware:
    made = fake_picamera2.Hardware(picture=picture())
    fake_picamera2.install(monkeypatch, made)
    return made


def test_picamera2_is_told_how_to_be_installed(monkeypatch: pytest.MonkeyPatch):
    """Without Picamera2 the error names the package and the kind of virtual environment, as soon as it is chosen."""
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match=r"apt install python3-picamera2.*--system-site-packages"):
        camera_of("picamera2")


def test_picamera2_is_asked_for_rgb_and_the_whole_view(hardware: fake_picamera2.Hardware):
    """The stream is R, G, B in the size asked for, without a queue of old frames, from a mode with the full view."""
    camera = camera_of("picamera2", size=(640, 480), fps=5.0)
    camera.open()
    camera.close()
    camera.open()
    camera.close()
    asked = hardware.configurations[-1]
    assert {"format": "BGR888", "size": (640, 480)} == asked["main"]
    assert {"output_size": (1640, 1232), "bit_depth": 10} == asked["sensor"]
    assert asked["queue"] is False
    assert [5.0, 5.0] == [controls["FrameRate"] for controls in hardware.started_with], "on every start"
    assert 1 == hardware.created, "one object for all that is opened"
    assert 1 == sum("queue" in each for each in hardware.configurations), "configured once"


def test_a_camera_that_is_no_bare_sensor_has_no_modes_to_choose(hardware: fake_picamera2.Hardware):
    """A USB or virtual camera under libcamera is asked for no sensor mode."""
    hardware.properties = {}
    camera = camera_of("picamera2")
    camera.open()
    camera.close()
    assert {} == hardware.configurations[-1]["sensor"]


@pytest.mark.parametrize(
    ("size", "fps", "expected"),
    [
        ((640, 480), 5.0, ((1640, 1232), 10)),
        ((640, 480), 60.0, ((1640, 1232), 8)),
        ((1920, 1080), 5.0, ((3280, 2464), 10)),
        ((1920, 1080), 30.0, ((1640, 1232), 10)),
        ((640, 480), 120.0, ((1640, 1232), 10)),
    ],
)
def test_the_widest_mode_wins(size: tuple[int, int], fps: float, expected: tuple[tuple[int, int], int]):
    """The field of view comes first, then the frame rate, then the size, then the fewest pixels, then their depth."""
    mode = widest_mode(fake_picamera2.IMX219, size, fps)
    assert expected == (mode["size"], mode["bit_depth"])


def test_a_wrong_format_is_refused_each_time(hardware: fake_picamera2.Hardware):
    """Pixels in another order would be garbage with no sign of it; the second attempt does not let them pass either."""
    hardware.delivered_format = "YUYV"
    camera = camera_of("picamera2")
    for _ in range(2):
        with pytest.raises(CameraError, match=r"delivers YUYV, not BGR888; .*/dev/video0"):
            camera.open()


def test_an_adjusted_size_is_told_once(hardware: fake_picamera2.Hardware, caplog: pytest.LogCaptureFixture):
    """The size may be adjusted by libcamera: it is accepted, with one line."""
    caplog.set_level(logging.INFO)
    hardware.delivered_size = (64, 48)
    camera = camera_of("picamera2")
    for _ in range(2):
        camera.open()
        camera.close()
    assert ["picamera2: delivers 64x48; camera.size asks for 96x64"] == caplog.messages


def test_a_missing_camera_says_where_to_look(hardware: fake_picamera2.Hardware):
    """What libcamera says is passed on, together with what can be done."""
    with pytest.raises(CameraError, match=r"picamera2:1: can't be opened: No camera number 1 found.*ribbon cable"):
        camera_of("picamera2:1").open()


def test_a_camera_that_starts_but_delivers_nothing_is_not_open(hardware: fake_picamera2.Hardware):
    """open() vouches for a frame: else three stalls in a row would count as three successes."""
    hardware.stalled = True
    camera = camera_of("picamera2", timeout=0.2)
    for _ in range(3):
        with pytest.raises(CameraStalled):
            camera.open()
    hardware.stalled = False
    camera.open()
    assert 1 == camera.read().sequence
    assert 0 == hardware.requests_out
    camera.close()


def test_a_call_that_never_returns_is_left_behind(
    hardware: fake_picamera2.Hardware, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """When stop() hangs, close() returns and says so, and open() fails for as long as the call does not return."""
    monkeypatch.setattr(picamera, "CLOSE_SECONDS", 0.1)
    camera = camera_of("picamera2")
    camera.open()
    hardware.hang = threading.Event()
    camera.close()
    assert ["picamera2: can't be closed: libcamera has not answered for 0.1 s"] == caplog.messages
    with pytest.raises(CameraError, match="only a restart"):
        camera.open()
    hardware.hang.set()
    eventually_open(camera)
    camera.close()


def test_an_opening_that_never_ends_is_bounded(hardware: fake_picamera2.Hardware, monkeypatch: pytest.MonkeyPatch):
    """A start that hangs fails the attempt in bounded time, and the next attempts at once."""
    monkeypatch.setattr(picamera, "OPEN_SECONDS", 0.1)
    hardware.hang = threading.Event()
    camera = camera_of("picamera2")
    with pytest.raises(CameraStalled, match=r"libcamera has not answered for 0\.1 s"):
        camera.open()
    with pytest.raises(CameraError, match="only a restart"):
        camera.open()
    hardware.hang.set()


# Live cameras through OpenCV


def test_a_v4l2_device_is_asked_for_size_and_rate(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Size and rate are asked for; a size that the driver gives instead is accepted, and told once."""
    caplog.set_level(logging.INFO)
    device = Device(size=(640, 360))
    plug_in(monkeypatch, device)
    camera = camera_of(DEVICE, size=(640, 480), fps=0.4)
    for _ in range(2):
        camera.open()
        camera.close()
    asked = {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480, cv2.CAP_PROP_FPS: 1}
    assert asked == device.asked
    assert ["/dev/video0: delivers 640x360; camera.size asks for 640x480"] == caplog.messages


def test_the_newest_frame_wins(monkeypatch: pytest.MonkeyPatch):
    """Whoever reads late gets the frame of now, not those that have piled up."""
    device = Device(rate=50.0)
    plug_in(monkeypatch, device)
    camera = camera_of(DEVICE)
    camera.open()
    time.sleep(0.3)
    device.flowing.clear()
    time.sleep(0.1)
    assert camera.read().captured_at >= device.grabbed_at[-2] > device.grabbed_at[0]
    device.flowing.set()
    camera.close()


def test_a_frame_is_never_given_twice(monkeypatch: pytest.MonkeyPatch):
    """Whoever reads early waits for the next frame."""
    plug_in(monkeypatch, Device(rate=50.0))
    camera = camera_of(DEVICE)
    camera.open()
    times = [camera.read().captured_at for _ in range(5)]
    camera.close()
    assert 5 == len(set(times))
    assert times[-1] - times[0] > 0.04


def test_damaged_frames_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A frame that can't be decoded does not end the connection; how many there were is told at its end."""
    plug_in(monkeypatch, Device(damaged=frozenset({2, 3, 5}), rate=50.0))
    camera = camera_of(DEVICE)
    camera.open()
    frames = [camera.read() for _ in range(4)]
    camera.close()
    assert all(["red", "green", "blue", "white"] == quarters(frame.pixels) for frame in frames)
    assert ["/dev/video0: left out 3 frames that could not be decoded"] == caplog.messages


def test_a_reader_left_behind_gives_its_device_back(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A read that hangs is left behind with one warning; when it returns at last, the device is free again."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 0.1)
    device = Device()
    plug_in(monkeypatch, device)
    camera = camera_of(DEVICE, timeout=0.2)
    camera.open()
    device.flowing.clear()
    with pytest.raises(CameraStalled):
        read_on(camera)
    camera.close()
    assert ["/dev/video0: a read has not returned for 0.1 s and is left behind"] == caplog.messages
    with pytest.raises(CameraError, match=r"can't be opened.*fuser /dev/video0"):
        camera.open()
    device.flowing.set()
    eventually_open(camera)
    assert 2 == device.opened
    camera.close()
    assert not device.in_use


def test_readers_left_behind_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Three connections that hang are enough: no fourth is begun until one of them has returned."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(live, "OPEN_SECONDS", 0.01)
    plug_in(monkeypatch, Device())
    answered = threading.Event()
    begun = []

    asked = section(DEVICE, timeout=0.1)

    def connect() -> cv2.VideoCapture:
        begun.append(asked)
        answered.wait()
        return live.V4l2(asked).connect()

    source = live.LiveSource(asked, connect)
    for _ in range(3):
        assert source.max_failed_opens is None
        with pytest.raises(CameraStalled):
            source.open()
    with pytest.raises(CameraError, match="3 earlier reads have not returned"):
        source.open()
    assert 3 == len(begun)
    assert 3 == source.max_failed_opens, "only a new process helps, unless one returns soon"
    answered.set()
    eventually_open(source)
    assert source.max_failed_opens is None
    source.close()


def test_an_opening_is_interrupted(monkeypatch: pytest.MonkeyPatch):
    """A host that accepts and stays silent is waited for no more; what OpenCV does meanwhile is left behind."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as host:
        camera = camera_of(f"rtsp://127.0.0.1:{host.getsockname()[1]}/live", timeout=100.0)
        assert isinstance(interrupted(camera, camera.open), EndOfCamera)
    for thread in threading.enumerate():
        if thread.name == "camera-reader":
            thread.join(10)


def test_a_closing_is_interrupted(monkeypatch: pytest.MonkeyPatch):
    """close() waits for a read that hangs, but no longer once it is interrupted."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 60.0)
    device = Device()
    plug_in(monkeypatch, device)
    camera = camera_of(DEVICE, timeout=0.2)
    camera.open()
    device.flowing.clear()
    with pytest.raises(CameraStalled):
        read_on(camera)
    assert interrupted(camera, camera.close) is None
    device.flowing.set()


def test_a_camera_that_is_well_is_given_back_when_interrupted(monkeypatch: pytest.MonkeyPatch):
    """An interruption leaves time enough to release a device whose reads return."""
    device = Device()
    plug_in(monkeypatch, device)
    camera = camera_of(DEVICE)
    camera.open()
    camera.interrupt()
    camera.close()
    assert not device.in_use


def test_a_fast_camera_is_read_at_the_rate(monkeypatch: pytest.MonkeyPatch):
    """Frames that are not due are passed over: the network would only drop them."""
    plug_in(monkeypatch, Device(rate=200.0))
    camera = camera_of(DEVICE, fps=10.0)
    camera.open()
    times = [camera.read().captured_at for _ in range(5)]
    camera.close()
    assert times[-1] - times[0] > 0.25, "4 / 10 s, less one interval for jitter"


def test_frames_are_thinned_on_average():
    """Of 60 frames a second 10 are taken, and of 10 with jitter all but one."""
    throttle = Throttle(10)
    assert 20 == sum(throttle.due(count / 60) for count in range(120))
    throttle = Throttle(10)
    assert 99 <= sum(throttle.due(count / 10 + 0.02 * (count % 2)) for count in range(100))


# Recordings


def frame_number(frame_pixels: np.ndarray) -> int:
    """Return which frame of write_video() this is, more or less: the codec changes colours by two or three steps."""
    return round((255 - frame_pixels[4 : HEIGHT // 2 - 4, 4 : WIDTH // 2 - 4, 0].mean()) / 4)


def test_a_video_is_thinned_by_its_own_time_stamps(tmp_path: Path):
    """Of a film of 100 frames a second, seen at 20, every fifth is taken, in real time."""
    write_video(tmp_path / "film.avi", frames=51, fps=100)
    camera = camera_of(str(tmp_path / "film.avi"), fps=20.0, loop=False)
    camera.open()
    frames: list[Frame] = []
    with pytest.raises(EndOfCamera):
        read_on(camera, frames)
    camera.close()
    numbers = [frame_number(frame.pixels) for frame in frames]
    assert 11 == len(numbers)
    np.testing.assert_allclose(numbers, np.arange(0, 51, 5), atol=1)
    assert frames[-1].captured_at - frames[0].captured_at > 0.4


def test_a_slow_video_is_played_in_real_time(tmp_path: Path):
    """A film of 20 frames a second is not played faster because 100 are allowed."""
    write_video(tmp_path / "film.avi", frames=5, fps=20)
    camera = camera_of(str(tmp_path / "film.avi"), loop=False)
    camera.open()
    times = [camera.read().captured_at for _ in range(5)]
    camera.close()
    assert times[-1] - times[0] > 0.14, "4 / 20 s, less some delay of the first"


class WithoutTimeStamps:
    def __init__(self, *source: Any, real: type = cv2.VideoCapture) -> None:
        self._real = real(*source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get(self, name: int) -> float:
        return 0.0


def test_a_video_without_time_stamps_is_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where time stamps stand still, every frame is shown, 1 / fps after the last."""
    write_video(tmp_path / "film.avi", frames=6, fps=100)
    monkeypatch.setattr(cv2, "VideoCapture", WithoutTimeStamps)
    camera = camera_of(str(tmp_path / "film.avi"), fps=50.0, loop=False)
    camera.open()
    frames: list[Frame] = []
    with pytest.raises(EndOfCamera):
        read_on(camera, frames)
    camera.close()
    assert 6 == len(frames)
    assert frames[-1].captured_at - frames[0].captured_at > 0.06


def test_a_long_pause_is_cut_short():
    """No read of a recording takes longer than `timeout`, however far apart its time stamps are."""
    picture = np.zeros((4, 4, 3), np.uint8)

    def play():
        yield picture, 0.0
        yield picture, 3600.0

    source = RecordedSource(section("clip.mp4", timeout=0.2), play)
    source.open()
    source.grab()
    begun = time.monotonic()
    source.grab()
    source.close()
    assert time.monotonic() - begun < 10


def test_passing_over_pictures_is_interrupted():
    """A search for the next picture that is due, or that can be read, takes as long as it likes, but not at the end."""

    def play():
        while True:
            yield None

    source = RecordedSource(section("clip.mp4"), play)
    assert isinstance(interrupted(source, source.open), EndOfCamera)


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_recording_ends_or_begins_again(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With `loop` it goes on for ever; without, EndOfCamera tells its end from a loss, and it can be opened again."""
    with RIGS[kind](tmp_path, monkeypatch) as rig:
        endless, once = camera_of(rig.source), camera_of(rig.source, loop=False)
        endless.open()
        assert 25 == [endless.read() for _ in range(25)][-1].sequence
        endless.close()
        for _ in range(2):
            once.open()
            with pytest.raises(EndOfCamera, match="has come to its end"):
                read_on(once)
            once.close()


def test_what_is_no_video_is_told(tmp_path: Path):
    """A file that OpenCV can't read fails when it is opened."""
    path = tmp_path / "notes.mp4"
    path.write_text("no film")
    with pytest.raises(CameraError, match=r"notes\.mp4: is not a video file that OpenCV can read"):
        camera_of(str(path)).open()


def test_an_unreadable_picture_is_left_out_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A truncated picture is read and named once, however often the folder is shown; the others follow by name."""
    asked: list[str] = []
    monkeypatch.setattr(files, "read_picture", lambda path: asked.append(path.name) or read_picture(path))
    good = jpeg(picture())
    (tmp_path / "b.jpg").write_bytes(good)
    (tmp_path / "c.jpg").write_bytes(good[:-40])
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes())
    camera = camera_of(str(tmp_path))
    camera.open()
    first = [quarters(camera.read().pixels)[0] for _ in range(5)]
    camera.close()
    assert ["black", "red", "black", "red", "black"] == first
    assert 1 == len(caplog.messages)
    assert "c.jpg: is cut short" in caplog.messages[0]
    assert "1 left out so far" in caplog.messages[0]
    assert 1 == asked.count("c.jpg")


def test_a_picture_met_half_written_is_shown_once_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """What can't be read is tried again when its file has changed; however often that is, it is named once."""
    path, good = tmp_path / "latest.jpg", jpeg(picture())
    camera = camera_of(str(tmp_path))
    for size in (300, 310, 320):
        path.write_bytes(good[:size])
        with pytest.raises(CameraError, match="holds no picture that can be decoded"):
            camera.open()
    path.write_bytes(good)
    camera.open()
    assert ["red", "green", "blue", "white"] == quarters(camera.read().pixels)
    camera.close()
    assert 1 == len(caplog.messages)


def test_a_picture_with_other_rights_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who may read it now could not before: new rights, with the same content and age, are a change too."""
    path = tmp_path / "latest.jpg"
    path.write_bytes(jpeg(picture()))
    camera = camera_of(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(files, "read_picture", forbidden)
        with pytest.raises(CameraError):
            camera.open()
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:  # the file system's clock may be coarse
        path.chmod(0o644)
    camera.open()
    camera.close()


def forbidden(path: Path) -> None:
    raise PictureError(f"{path}: can't be read: Permission denied")


@pytest.mark.parametrize("content", [{}, {"a.jpg": b"\xff\xd8 no picture"}, {"a.txt": b"text"}])
def test_a_folder_without_a_readable_picture_is_an_error(content: dict[str, bytes], tmp_path: Path):
    """An empty folder, or one with nothing but rubbish, fails when it is opened and says what may be in it."""
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CameraError, match="holds no picture that can be decoded"):
        camera_of(str(tmp_path)).open()


def test_a_folder_is_shown_at_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One picture every 1 / fps seconds; a late reader does not make the next ones hurry."""
    with RIGS["folder"](tmp_path, monkeypatch) as rig:
        camera = camera_of(rig.source, fps=25.0)
        camera.open()
        camera.read()
        time.sleep(0.2)
        times = [camera.read().captured_at for _ in range(4)]
        camera.close()
    assert times[-1] - times[0] > 0.08


def test_ffmpeg_does_not_quote_addresses(tmp_path):
    """Run by hand too it says nothing by itself: of a playlist that can't be played it quotes a part's address."""
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:1/hush.ts\n"
    path = tmp_path / "c.yaml"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV")}
    with served(playlist) as server:
        source = server.url.replace("w.pt", "hush.m3u8")
        path.write_text(f"camera: {{source: '{source}', timeout: 1.0}}\n", encoding="utf-8")
        command = [sys.executable, "-m", "edge.doctor", "camera", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ["/hush.m3u8"] == [path for path, _ in server.requests][:1]
    assert "can't be opened" in done.stderr
    assert "hush" not in done.stdout + done.stderr
