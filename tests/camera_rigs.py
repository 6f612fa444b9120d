"""Every kind of camera in front of the same picture, with the means to stall it and to take it away."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests import fake_picamera2

WIDTH, HEIGHT = SIZE = (96, 64)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
DEVICE = "/dev/video0"


def picture() -> np.ndarray:
    """Return red, green over blue, white: R, G, B in memory."""
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2] = COLOURS["red"]
    pixels[: HEIGHT // 2, WIDTH // 2 :] = COLOURS["green"]
    pixels[HEIGHT // 2 :, : WIDTH // 2] = COLOURS["blue"]
    pixels[HEIGHT // 2 :, WIDTH // 2 :] = COLOURS["white"]
    return pixels


def quarters(pixels: np.ndarray) -> list[str]:
    """Return the colours of the four quarters, row by row; a lossy codec may blur them a little."""
    height, width = pixels.shape[:2]
    points = [pixels[y * height // 4, x * width // 4].astype(int) for y in (1, 3) for x in (1, 3)]
    known = COLOURS | {"black": (0, 0, 0)}
    return [min(known, key=lambda name: abs(point - known[name]).sum()) for point in points]


@dataclass(kw_only=True)
class Rig:
    """A camera's source, and how to take it away; of a live one also how to stall it and how to bring it back."""

    source: str
    lose: Callable[[], object]
    stall: Callable[[], object] = lambda: None
    restore: Callable[[], object] = lambda: None


@contextmanager
def picamera2_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    hardware = fake_picamera2.Hardware(picture=picture())
    fake_picamera2.install(monkeypatch, hardware)
    yield Rig(
        source="picamera2",
        stall=lambda: setattr(hardware, "stalled", True),
        lose=lambda: setattr(hardware, "broken", True),
        restore=hardware.mend,
    )
    assert hardware.requests_out == 0, "a request was not released"


@dataclass(kw_only=True)
class Device:
    """A V4L2 device: one program at a time, a driver that may not take every size, a cable that may be pulled."""

    present: bool = True
    opened: int = 0
    in_use: bool = False
    size: tuple[int, int] | None = None
    rate: float = 200.0
    damaged: frozenset[int] = frozenset()
    grabbed_at: list[float] = field(default_factory=list)
    asked: dict[int, float] = field(default_factory=dict)
    flowing: threading.Event = field(default_factory=threading.Event)

    def mend(self) -> None:
        self.present = True
        self.flowing.set()


class FakeVideoCapture:
    """cv2.VideoCapture on a Device."""

    device: Device

    def __init__(self, source: str, backend: int) -> None:
        assert (DEVICE, cv2.CAP_V4L2) == (source, backend)
        device = self.device
        self._open = device.present and not device.in_use
        if self._open:
            device.in_use = True
            device.opened += 1
        self._count = 0
        self.properties = {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}

    def isOpened(self) -> bool:  # noqa: N802
        return self._open

    def set(self, name: int, value: float) -> bool:
        self.properties[name] = float(value)
        self.device.asked[name] = value
        if self.device.size:
            width, height = map(float, self.device.size)
            self.properties |= {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height}
        return True

    def get(self, name: int) -> float:
        return self.properties[name]

    def grab(self) -> bool:
        self.device.flowing.wait()
        time.sleep(1 / self.device.rate)
        self._count += 1
        self.device.grabbed_at.append(time.monotonic())
        return self.device.present

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        if self._count in self.device.damaged:
            return False, None
        return True, cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR)

    def release(self) -> None:
        if self._open:
            self._open = self.device.in_use = False


def plug_in(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """Let cv2.VideoCapture open the device."""
    device.flowing.set()
    monkeypatch.setattr(cv2, "VideoCapture", type("Capture", (FakeVideoCapture,), {"device": device}))


@contextmanager
def v4l2_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    device = Device()
    plug_in(monkeypatch, device)
    yield Rig(
        source=DEVICE, stall=device.flowing.clear, lose=lambda: setattr(device, "present", False), restore=device.mend
    )
    device.flowing.set()


def jpeg(pixels: np.ndarray) -> bytes:
    """Return a picture, uint8 (H, W, 3) as R, G, B, as a JPEG."""
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


class MjpegServer:
    """Motion JPEG over HTTP on a port of its own; can freeze, and can drop its clients and serve no more.

    `frame` is what it sends again and again, a JPEG at first.
    """

    def __init__(self, rate: float = 100.0) -> None:
        self.frame = jpeg(picture())
        self._rate = rate
        self.flowing = threading.Event()
        self.flowing.set()
        self.serving = True
        self._clients: list[socket.socket] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.serve(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://user:secret@127.0.0.1:{self._http.server_port}/stream.mjpg?token=secret"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        if not self.serving:
            handler.send_error(503)
            return
        self._clients.append(handler.connection)
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        head = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
        try:
            while self.serving:
                self.flowing.wait()
                frame = self.frame
                handler.wfile.write(head.format(len(frame)).encode() + frame + b"\r\n")
                time.sleep(1 / self._rate)
        except OSError:
            handler.close_connection = True

    def lose(self) -> None:
        """Drop every client and serve no other."""
        self.serving = False
        self.flowing.set()
        for client in self._clients:
            client.close()

    def mend(self) -> None:
        """Serve again."""
        self.serving = True
        self.flowing.set()

    def close(self) -> None:
        self.lose()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def stream_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    server = MjpegServer()
    yield Rig(source=server.url, stall=server.flowing.clear, lose=server.lose, restore=server.mend)
    server.close()


def write_video(path: Path, frames: int, fps: float) -> None:
    """Write a video whose first quarter loses four steps of its red from frame to frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, SIZE)
    for number in range(frames):
        pixels = picture()
        pixels[: HEIGHT // 2, : WIDTH // 2, 0] -= 4 * number
        writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    writer.release()


@contextmanager
def video_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    path = tmp_path / "clip.avi"
    write_video(path, frames=10, fps=100)
    yield Rig(source=str(path), lose=path.unlink)


@contextmanager
def folder_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("1.png", "2.JPG", "3.bmp", "4.webp", "5.jpeg"):
        assert cv2.imwrite(str(folder / name), cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))
    (folder / "notes.txt").write_text("not a picture")
    yield Rig(source=str(folder), lose=lambda: shutil.rmtree(folder))


RIGS = {
    "picamera2": picamera2_rig,
    "v4l2": v4l2_rig,
    "stream": stream_rig,
    "video": video_rig,
    "folder": folder_rig,
}
LIVE = ("picamera2", "v4l2", "stream")
# libcamera's calls are waited for, whatever happens.
INTERRUPTIBLE = ("v4l2", "stream", "video", "folder")
