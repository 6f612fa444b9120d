"""Picamera2 without a camera: the part of its interface that the program uses, with what it is known to do wrong.

Each behaviour was read in picamera2 0.3.38: a job that timed out stays in the queue, swallows the next frame and blocks
stop() until it is flushed; a request that is not released keeps its buffer, and with all buffers kept no frame comes;
controls are used up by a start; configuring asks for a stopped camera and may adjust what was asked for; after about
seven objects in a process there is no memory left (#887).
"""

import sys
import threading
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

MAX_OBJECTS = 7


def mode(size: tuple[int, int], bits: int, fps: float, crop: tuple[int, int, int, int]) -> dict[str, Any]:
    return {"size": size, "bit_depth": bits, "fps": fps, "crop_limits": crop}


# `rpicam-hello --list-cameras` of a Camera Module 2.
IMX219 = [
    mode((640, 480), 10, 206.65, (1000, 752, 1280, 960)),
    mode((1640, 1232), 10, 41.85, (0, 0, 3280, 2464)),
    mode((1920, 1080), 10, 47.57, (680, 692, 1920, 1080)),
    mode((3280, 2464), 10, 21.19, (0, 0, 3280, 2464)),
    mode((640, 480), 8, 206.65, (1000, 752, 1280, 960)),
    mode((1640, 1232), 8, 83.70, (0, 0, 3280, 2464)),
    mode((1920, 1080), 8, 47.57, (680, 692, 1920, 1080)),
    mode((3280, 2464), 8, 21.19, (0, 0, 3280, 2464)),
]


@dataclass(kw_only=True)
class Hardware:
    """What is plugged in, and what a test does to it."""

    picture: np.ndarray
    cameras: int = 1
    created: int = 0
    requests_out: int = 0
    stalled: bool = False
    broken: bool = False
    delivered_format: str | None = None
    delivered_size: tuple[int, int] | None = None
    properties: dict[str, Any] = field(default_factory=lambda: {"ColorFilterArrangement": 2})
    configurations: list[dict[str, Any]] = field(default_factory=list)
    started_with: list[dict[str, Any]] = field(default_factory=list)
    hang: threading.Event | None = None

    def mend(self) -> None:
        self.stalled = self.broken = False


def install(monkeypatch: pytest.MonkeyPatch, hardware: Hardware) -> None:
    """Let `from picamera2 import Picamera2` give the fake on this hardware."""
    module = ModuleType("picamera2")
    module.Picamera2 = type("Picamera2", (FakePicamera2,), {"hardware": hardware})
    monkeypatch.setitem(sys.modules, "picamera2", module)


class FakeRequest:
    def __init__(self, camera: "FakePicamera2") -> None:
        self._camera = camera
        self._buffer = camera.hardware.picture.copy()
        camera.hardware.requests_out += 1
        self._released = False

    def make_array(self, name: str) -> np.ndarray:
        if self._released:
            raise RuntimeError("the request has been released")
        if self._camera.hardware.broken:
            raise RuntimeError("failed to find buffer")
        assert name == "main"
        return self._buffer.copy()

    def release(self) -> None:
        if self._released:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        self._released = True
        self._buffer[:] = 77  # the camera writes its next picture there
        self._camera.hardware.requests_out -= 1


class FakePicamera2:
    hardware: Hardware

    def __init__(self, camera_num: int = 0) -> None:
        self.hardware.created += 1
        if self.hardware.created > MAX_OBJECTS:
            raise OSError(12, "Cannot allocate memory")
        if camera_num >= self.hardware.cameras:
            raise RuntimeError(f'No camera number {camera_num} found - use "rpicam-hello --list-cameras" to check')
        self.camera_properties = self.hardware.properties
        self.camera_controls = {"FrameDurationLimits": (33333, 120_000_000, 33333)}
        self._configuration: dict[str, Any] = {}
        self._controls: dict[str, Any] = {}
        self._stale_jobs = 0
        self._started = False

    @property
    def sensor_modes(self) -> list[dict[str, Any]]:
        self.configure({"main": {"size": (640, 480), "format": "XBGR8888"}, "buffer_count": 4, "controls": {}})
        return IMX219

    def create_video_configuration(self, *, main, sensor, buffer_count, queue) -> dict[str, Any]:
        width, height = main["size"]
        return {
            "main": {"format": main["format"], "size": (width - width % 2, height - height % 2)},
            "sensor": sensor,
            "buffer_count": buffer_count,
            "queue": queue,
            "controls": {"FrameDurationLimits": (33333, 33333)},
        }

    def configure(self, configuration: dict[str, Any]) -> None:
        if self._started:
            raise RuntimeError("Camera must be stopped before configuring")
        main = dict(configuration["main"])
        main["format"] = self.hardware.delivered_format or main["format"]
        main["size"] = self.hardware.delivered_size or main["size"]
        self._configuration = configuration | {"main": main}
        self._controls = dict(configuration["controls"])
        self.hardware.configurations.append(self._configuration)

    def camera_configuration(self) -> dict[str, Any]:
        return self._configuration

    def set_controls(self, controls: dict[str, Any]) -> None:
        self._controls |= controls

    def start(self) -> None:
        if self.hardware.hang:
            self.hardware.hang.wait()
        self.hardware.started_with.append(self._controls)
        self._controls = {}
        self._started = True

    def stop(self) -> None:
        if self.hardware.hang:
            self.hardware.hang.wait()
        if self._stale_jobs:
            threading.Event().wait()  # it queues behind a job that never ends
        self._started = False
        self.hardware.requests_out = 0

    def cancel_all_and_flush(self) -> None:
        self._stale_jobs = 0

    def capture_request(self, wait: float) -> FakeRequest:
        hardware = self.hardware
        starved = hardware.requests_out >= self._configuration["buffer_count"]
        if not self._started or hardware.stalled or starved or self._stale_jobs:
            if not hardware.stalled and self._stale_jobs:
                self._stale_jobs -= 1
                hardware.requests_out += 1
            time.sleep(wait)
            self._stale_jobs += 1
            raise TimeoutError
        time.sleep(0.005)
        return FakeRequest(self)
