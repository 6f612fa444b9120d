"""What the soak is made of: a camera that can be spoiled, a broker, the daemon as systemd runs it, and a listener."""

import contextlib
import itertools
import json
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from edge.commands.demo import Clip

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
FPS = 5.0
LATE_SECONDS = 2.5  # beyond its own latency: the broker's stall that is allowed, 2 s, and the way
GIVE_UP_SECONDS = 180.0
SLOPE_SPAN_SECONDS = 30.0
WARM_UP_SECONDS = 180.0  # the first fault of each kind makes threads and what they need, once


class Camera:
    """Streams the clip as motion JPEG; `spoil` makes something else of each picture, null sends nothing."""

    def __init__(self) -> None:
        self.spoil: Callable[[bytes], bytes | None] = lambda picture: picture
        self.gone = False
        self._pictures = list(_pictures())
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                camera._serve(self)

        self._http = ThreadingHTTPServer((HOST, 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://{HOST}:{self._http.server_port}/stream.mjpg"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        if self.gone:
            handler.send_error(503)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        try:
            while not self.gone:
                picture = self.spoil(self._pictures[int(time.monotonic() * FPS) % len(self._pictures)])
                if picture is not None:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    handler.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(1 / FPS)
        except OSError:
            pass
        handler.close_connection = True


def _pictures() -> Iterator[bytes]:
    capture = cv2.VideoCapture(str(Clip().path))
    while (got := capture.read())[0]:
        yield cv2.imencode(".jpg", got[1])[1].tobytes()


class Broker:
    """A mosquitto on a port of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server((HOST, 0)) as free:
            self.port = int(free.getsockname()[1])
        self._file = folder / "mosquitto.conf"
        self._file.write_text(f"listener {self.port} {HOST}\nallow_anonymous true\npersistence false\nuser root\n")
        self.start()

    def start(self) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin"
        command = ["mosquitto", "-c", str(self._file)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, env=os.environ | {"PATH": path}, stdout=quiet, stderr=quiet)  # noqa: S603

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Service:
    """The daemon as its unit has it: started again after a failure, killed when its watchdog is not fed."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        unit = (ROOT / "systemd" / "edge-depth.service").read_text(encoding="utf-8")
        times = dict(line.split("=", 1) for line in unit.splitlines() if line.startswith(("WatchdogSec", "RestartSec")))
        self._watchdog_seconds, self._restart_seconds = float(times["WatchdogSec"]), float(times["RestartSec"])
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(0.2)
        self._command, self._environment = command, environment | {"NOTIFY_SOCKET": str(folder / "notify")}
        self._log = (folder / "log").open("ab")
        self.restarts = self.watchdog_kills = 0
        self.ended_at = self.started_at = self.ready_at = time.monotonic()
        self.statuses: list[int] = []
        self._wanted = threading.Event()
        self._start()
        threading.Thread(target=self._supervise, daemon=True).start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self._command, env=self._environment, stderr=self._log, cwd=ROOT)  # noqa: S603
        self.started_at, self._fed_at, self.ready = time.monotonic(), None, False
        self._wanted.set()

    def start(self) -> None:
        """Start it, or start it again after `stop`."""
        self._start()

    def stop(self) -> tuple[int, float]:
        """End it by SIGTERM; return its exit status and the seconds that it took."""
        self._wanted.clear()
        begun = time.monotonic()
        self.process.terminate()
        status = self.process.wait(GIVE_UP_SECONDS)
        return status, time.monotonic() - begun

    def _supervise(self) -> None:
        while True:
            self._listen()
            if not self._wanted.is_set():
                continue
            status = self.process.poll()
            if status is not None:
                self.ended_at = time.monotonic()
                self.statuses.append(status)
                time.sleep(self._restart_seconds)
                self.restarts += 1
                self._start()
            elif self._fed_at and time.monotonic() - self._fed_at > self._watchdog_seconds:
                self.watchdog_kills += 1
                self.process.kill()
                self.process.wait()

    def _listen(self) -> None:
        try:
            told = self._notify.recv(4096)
        except TimeoutError:
            return
        if told == b"READY=1":
            self.ready, self.ready_at = True, time.monotonic()
        if self.ready and told == b"WATCHDOG=1":
            self._fed_at = time.monotonic()


@dataclass
class Listener:
    """Hears every reading, and counts those that come late or out of order.

    `excused` late ones are yet to come: those that a frozen broker had taken before; `held` counts them.
    """

    port: int
    readings: int = 0
    late: int = 0
    out_of_order: int = 0
    excused: int = 0
    held: int = 0
    good_at: float = 0.0
    heard_at: list[float] = field(default_factory=list)
    clock_jumps: bool = False
    off_by: float = 0.0

    def __post_init__(self) -> None:
        self._last = 0.0  # when the last reading was taken
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._client.on_connect = lambda client, *_: client.subscribe(
            [("edge-depth/soak/state", 0), ("edge-depth/soak/response/+", 1)]
        )
        self._client.on_message = self._hear
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async(HOST, self.port, keepalive=5)
        self._client.loop_start()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return the answer, empty where none comes."""
        while not self._answers.empty():
            self._answers.get()
        self._client.publish(f"edge-depth/soak/request/{command}", json.dumps(arguments), 1)
        with contextlib.suppress(queue.Empty):
            return self._answers.get(timeout=GIVE_UP_SECONDS)
        return {}

    def _hear(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if "/response/" in message.topic:
            self._answers.put(json.loads(message.payload))
            return
        now, state = time.monotonic(), json.loads(message.payload)
        taken = datetime.fromisoformat(state["time"]).timestamp()
        self.readings += 1
        self.heard_at.append(now)
        self.off_by = max(self.off_by, abs(time.time() - taken))
        late = not self.clock_jumps and time.time() - taken - state["latency_ms"] / 1000 > LATE_SECONDS
        if late and self.excused:
            self.excused -= 1
            self.held += 1
        elif not self.clock_jumps:
            self.late += late
            self.out_of_order += taken < self._last
            self._last = taken
        if state["scene"]["state"] == "tracking" and not late:
            self.good_at = now


@dataclass
class Sample:
    """What the process needs at one moment; `life` numbers the process."""

    life: int
    age: float
    rss_mb: float
    files: int
    threads: int


def memory_slope(samples: list[Sample]) -> tuple[float, float, float]:
    """Return the slope of resident memory in MB an hour, its standard error, and the hours that it was taken from.

    A straight line for each process after its warm-up, all with one slope: what a restart frees is no slope. Through
    the least of each half minute, since the network's own memory comes and goes with every frame.
    """
    x_parts, y_parts = [], []
    for life in {sample.life for sample in samples}:
        own = [sample for sample in samples if sample.life == life and sample.age > WARM_UP_SECONDS]
        spans = itertools.groupby(own, lambda sample: sample.age // SLOPE_SPAN_SECONDS)
        least = [min(span, key=lambda sample: sample.rss_mb) for _, span in spans]
        if len(least) > 2:
            x = np.array([sample.age / 3600 for sample in least])
            y = np.array([sample.rss_mb for sample in least])
            x_parts.append(x - x.mean())
            y_parts.append(y - y.mean())
    if not x_parts:
        return float("nan"), float("nan"), 0.0
    x, y = np.concatenate(x_parts), np.concatenate(y_parts)
    slope = float(x @ y / (x @ x))
    freedom = len(x) - len(x_parts) - 1
    error = float(np.sqrt(((y - slope * x) ** 2).sum() / freedom / (x @ x)))
    return slope, error, len(x) * SLOPE_SPAN_SECONDS / 3600
