"""The composition root: builds the parts in order, tells systemd, and stops them in reverse order."""

import hashlib
import logging
import math
import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from edge import __version__, health, heatmap, homeassistant, messages
from edge.camera import open_camera
from edge.config import Config, dump, state_directory
from edge.depth import DepthModel, load_model
from edge.errors import ThreadStuck
from edge.mqtt import Publisher, client_id_for
from edge.pipeline import CaptureLoop, DepthLoop, Mailbox, Worker
from edge.records import CameraStatus, EventType, Frame, Message, Reading
from edge.scene import StillScene, make_scene
from edge.state import AnnouncedStore, ReferenceStore, TriggerStore
from edge.topics import Topics, machine_id
from edge.triggers import Triggers
from edge.web import WebServer

logger = logging.getLogger(__name__)

Consumer = Callable[[Reading], None]

_STOP_SECONDS = 10.0
_TICK_SECONDS = 0.5
_SAVE_SECONDS = 30.0
_SNAPSHOT_SECONDS = 5.0  # between two snapshots at the least
_FIRST_HEALTH_SECONDS = 5.0


class Board:
    """The newest results, for whoever wants to look: the page, the demo's table."""

    def __init__(self, info: dict[str, Any], health: Callable[[], dict[str, Any]]) -> None:
        self.health = health
        # Guards the three that follow: written by the depth thread, read by the web server's.
        self._lock = threading.Lock()
        self._state: dict[str, Any] | None = None
        self._heatmap: tuple[int, bytes] | None = None
        self._info = info

    def put(
        self,
        *,
        state: dict[str, Any] | None = None,
        heatmap: tuple[int, bytes] | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        """Replace what is given."""
        with self._lock:
            self._state = state or self._state
            self._heatmap = heatmap or self._heatmap
            self._info = info or self._info

    def state(self) -> dict[str, Any] | None:
        """Return the newest reading as the topic `state` has it, or null before the first."""
        with self._lock:
            return self._state

    def heatmap(self) -> tuple[int, bytes] | None:
        """Return the newest heatmap's sequence number and JPEG, or null before the first."""
        with self._lock:
            return self._heatmap

    def info(self) -> dict[str, Any]:
        """Return what the daemon is, as the topic `info` has it."""
        with self._lock:
            return self._info


class Daemon:
    """One camera, one network, one broker.

    `consumers` are called with every reading, in the depth thread. What has to survive a restart is kept in the folder
    `state`, by default the configured one.

    Raises:
        ConfigError, CameraError: something that the configuration names is not there.
    """

    def __init__(self, config: Config, consumers: tuple[Consumer, ...] = (), state: Path | None = None) -> None:
        self._config = config
        self._started = datetime.now(UTC)
        self._health_due = 0.0
        self.topics = Topics(config.mqtt.base_topic, config.id or machine_id())
        self.board = Board(self._info(None), self._health)
        self.statistics = health.Statistics()
        self.publisher: Publisher | None = None
        if config.mqtt.enabled:
            client_id = client_id_for(config.mqtt, self.topics)
            self.publisher = Publisher(config.mqtt, self.topics, client_id)
        self.web: WebServer | None = WebServer(config.web.listen, self.board) if config.web.listen else None
        self._readings = messages.ReadingPublisher(config.publish, self.topics)
        self._heatmap_due = 0.0
        self._stop = threading.Event()
        mailbox: Mailbox[Frame] = Mailbox()
        consumers = (self._publish_reading, self._publish_events, self._keep, *consumers)
        state = state or state_directory()
        self._reference_store = ReferenceStore(state, self.topics.id)
        self._trigger_store = TriggerStore(state, self.topics.id)
        self._announced_store = AnnouncedStore(state, self.topics.id)
        self._announced: dict[str, list[str]] = {}
        saved = self._reference_store.load(time.monotonic())
        self._scene = make_scene(config.scene, config.zones, config.calibration, saved)
        self._triggers = Triggers(config.triggers, self._trigger_store.load())
        self._save_due = 0.0
        self._events = messages.Events(name for name, on in self._triggers.states().items() if on)
        self._snapshot_due = 0.0
        self._throttled = False
        self._depth = DepthLoop(self._load, self._scene, self._triggers, mailbox, self._stop, consumers)
        self._capture = CaptureLoop(
            open_camera(config.camera),
            mailbox,
            self._stop,
            timeout=config.camera.timeout,
            on_status=self._camera_changed,
        )

    def run(self, seconds: float | None = None) -> None:
        """Work until a signal comes, a finite source ends or `seconds` are over since READY; then stop in order.

        Raises:
            EdgeError: what made a part fail.
            ThreadStuck: a part hangs.
        """
        for warning in self._config.warnings:
            logger.warning("configuration: %s", warning)
        with ExitStack() as stack:
            stack.enter_context(_signals_set(self._stop))
            stack.callback(_notify, "STOPPING=1")
            if self.publisher:
                self.publisher.start()
                stack.callback(self.publisher.stop)
                self._announce()
            if self.web:
                self.web.start()
                stack.callback(self.web.stop)
                logger.info("page at %s", self.web.url)
            # The last states are written whenever that is; while running, writes are bounded.
            stack.callback(lambda: self._trigger_store.save(self._triggers.states(), math.inf))
            for worker in (self._depth, self._capture):
                worker.start()
                stack.callback(worker.finish, _STOP_SECONDS)
            stack.callback(self._stop.set)
            self._supervise(seconds)

    def stop(self) -> None:
        """Ask the daemon to end; returns at once."""
        self._stop.set()

    def _supervise(self, seconds: float | None) -> None:
        """Watch over the workers, tell systemd, and publish health, until it is time to stop."""
        ends_at = float("inf")
        ready = False
        while not self._stop.wait(_TICK_SECONDS):
            now = time.monotonic()
            _check_alive(self._depth, self._capture)
            if not ready and self._depth.ready.is_set() and self._capture.tried.is_set():
                ready = True
                ends_at = float("inf") if seconds is None else now + seconds
                # the report before had nothing to tell yet
                self._health_due = now + min(_FIRST_HEALTH_SECONDS, self._config.publish.health_interval)
                _notify("READY=1")
                logger.info("ready: readings go to %s/#", self.topics.root)
            _notify("WATCHDOG=1")
            if now >= self._health_due:
                self._publish_health()
                self._health_due = now + self._config.publish.health_interval
            if now >= ends_at:
                self._stop.set()

    def _announce(self) -> None:
        """Tell Home Assistant of this camera; the publisher says it again with every connection."""
        found = homeassistant.discovery(
            self._config,
            self.topics,
            calibrated=self._config.calibration.given,
            machine=health.machine_name(),
            commands=False,
            before=self._announced_store.load(),
        )
        self._announced = homeassistant.announced(found)
        for message in found:
            self._publish(message)

    def _load(self) -> DepthModel:
        model = load_model(self._config.model)
        width, height = self._config.camera.size
        seconds = model.warm_up(width, height)
        logger.info(
            "engine %s with %d threads: %.0f ms a frame", model.engine.name, model.engine.threads, seconds * 1000
        )
        info = self._info(model)
        self.board.put(info=info)
        self._publish(messages.info_message(self.topics, info))
        return model

    def _info(self, model: DepthModel | None) -> dict[str, Any]:
        config = self._config
        info: dict[str, Any] = {
            "version": __version__,
            "name": config.name or config.id or machine_id(),
            "camera": config.camera.safe_source,
            "machine": health.machine_name(),
            "python": platform.python_version(),
            "config_hash": hashlib.sha256(dump(config).encode()).hexdigest()[:12],
            "started": messages.utc(self._started),
            "cpus": config.model.cpus,
        }
        if model:
            weights = model.weights
            info["weights"] = {
                "name": weights.name,
                "sha256": weights.sha256,
                "original_sha256": weights.original_sha256,
                "licence": weights.licence,
                "note": weights.note,
            }
            info |= {"engine": model.engine.name, "threads": model.engine.threads}
        return info

    def _publish(self, message: Message) -> None:
        if self.publisher:
            self.publisher.publish(message)

    def _keep(self, reading: Reading) -> None:
        """Keep what has to survive a restart; the stores bound how often anything is written."""
        now = time.monotonic()
        self._trigger_store.save(self._triggers.states(), now)
        if now < self._save_due or reading.scene.state != "tracking":
            return
        self._save_due = now + _SAVE_SECONDS
        saved = self._scene.saved() if isinstance(self._scene, StillScene) else None
        if saved is not None:
            self._reference_store.save(saved, now)

    def _publish_reading(self, reading: Reading) -> None:
        self.statistics.add(reading)
        self.board.put(state=messages.state_json(reading))
        now = time.monotonic()
        for message in self._readings.messages(reading, now):
            self._publish(message)
        if self._config.heatmap.enabled and now >= self._heatmap_due:
            self._heatmap_due = now + self._config.heatmap.interval
            picture = heatmap.render(reading.scene, self._config.heatmap)
            jpeg = heatmap.encode_jpeg(picture, self._config.heatmap.quality)
            self.board.put(heatmap=(reading.frame.sequence, jpeg))
            self._publish(messages.heatmap_message(self.topics, jpeg))

    def _health(self) -> dict[str, Any]:
        """Return how the daemon fares now, as the topic `health` has it."""
        values = self.statistics.snapshot() | health.machine_health()
        values |= {"camera": self._capture.status, "camera_reconnects": self._capture.reconnects}
        if self.publisher:
            values |= {"mqtt_connected": self.publisher.connected, "mqtt_dropped": self.publisher.drops}
        return values

    def _publish_health(self) -> None:
        if self.publisher and self.publisher.connected:  # only now does the broker have what was announced
            self._announced_store.save(self._announced, time.monotonic())
        values = self._health()
        self._publish(messages.health_message(self.topics, values))
        throttled = bool(values["throttled"])
        if throttled and not self._throttled:
            self._publish_event("throttled", datetime.now(UTC), {"temperature_c": values["temperature_c"]})
        self._throttled = throttled

    def _publish_events(self, reading: Reading) -> None:
        events = self._events.of(reading)
        for event_type, details in events:
            self._publish_event(event_type, reading.frame.wall_time, details)
        now = time.monotonic()
        if now >= self._snapshot_due and any(event_type == "near" for event_type, _ in events):
            self._snapshot_due = now + _SNAPSHOT_SECONDS
            zones = {zone.name: zone.polygon for zone in self._config.zones}
            picture = heatmap.render_snapshot(reading.scene, self._config.heatmap, zones)
            jpeg = heatmap.encode_jpeg(picture, self._config.heatmap.quality)
            self._publish(messages.snapshot_message(self.topics, jpeg))

    def _publish_event(self, event_type: EventType, moment: datetime, details: dict[str, Any]) -> None:
        self._publish(messages.event_message(self.topics, event_type, moment, details))

    def _camera_changed(self, status: CameraStatus, reason: str) -> None:
        self._publish(messages.camera_message(self.topics, status))
        if status == "reconnecting":
            self._publish_event("camera_lost", datetime.now(UTC), {"reason": reason})
        elif status == "online" and self._capture.reconnects:
            self._publish_event("camera_back", datetime.now(UTC), {})
        self._health_due = 0.0  # a change is worth a report at once


def _check_alive(*workers: Worker) -> None:
    """Raise for a worker that broke its promise of a sign of life.

    Raises:
        ThreadStuck: naming the thread.
    """
    for worker in workers:
        if worker.overdue:
            raise ThreadStuck(f"the {worker.name} thread has shown no sign of life in time; restart the daemon")


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop` and nothing else; the handlers before are restored."""

    def handle(number: int, _: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _notify(state: str) -> None:
    """Tell systemd; nothing where it does not listen (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
