"""The composition root: builds the parts in order, tells systemd, and stops them in reverse order."""

import hashlib
import logging
import math
import platform
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.camera import READER, open_camera
from edge.config import CalibrationSection, CameraSection, Config, dump, state_directory
from edge.daemon import health
from edge.daemon.announcer import Announcer
from edge.daemon.desk import Desk
from edge.daemon.drawing import Drawing
from edge.daemon.gate import ChangeGate
from edge.daemon.output import Keeper, Output
from edge.daemon.overlay import CALIBRATION, ZONES, Overlay
from edge.daemon.pipeline import CaptureLoop, DepthLoop, Mailbox
from edge.daemon.power import Governor
from edge.daemon.process import notify, signals_handled, status_text
from edge.daemon.reloading import Answer, Reloading
from edge.daemon.setup import doubts
from edge.daemon.skips import Skips
from edge.daemon.uploads import SpareTime
from edge.daemon.watch import check_alive, check_memory
from edge.depth.export import settled
from edge.depth.model import DepthModel, load_model, network_size
from edge.errors import ConfigError
from edge.publish import messages
from edge.publish.mqtt import Publisher, client_id_for
from edge.records import CameraStatus, Frame, Message, Reading
from edge.results import Board
from edge.scene import SceneModel, StillScene, make_scene
from edge.scene.triggers import Triggers
from edge.state.place import OVERLAY, Place
from edge.state.stores import OverlayStore
from edge.system import machine
from edge.topics import Topics, machine_id

if TYPE_CHECKING:
    from edge.web import WebServer

__all__ = ["Daemon"]

logger = logging.getLogger(__name__)

Consumer = Callable[[Reading], None]

_STOP_SECONDS = 10.0
_TICK_SECONDS = 0.5
_STATUS_SECONDS = 5.0
_FIRST_HEALTH_SECONDS = 5.0
_LOADING_SECONDS = 300.0
_ENDS = (signal.SIGTERM, signal.SIGINT)
_FOREIGN = (READER, "uploads")  # threads in which foreign code may be for long
_FIXED = ("id", "name", "camera", "model", "mqtt", "web")  # what is built once; a change of it needs a restart
_DRAWN = ("scene", "zones", "calibration", "triggers")  # what, with the privacy masks, goes with the camera's view


class Daemon:
    """One camera, one network, one broker.

    `consumers` are called with every reading, in the depth thread. What has to survive a restart is kept in `place`, by
    default the state directory. `read_file` reads the configuration's file again: by a command, or since something lies
    in `hung_up`, where whoever runs the daemon puts every SIGHUP.

    Raises:
        ConfigError, CameraError: something that the configuration names is not there.
    """

    def __init__(
        self,
        config: Config,
        consumers: tuple[Consumer, ...] = (),
        place: Place | None = None,
        read_file: Callable[[], Config] | None = None,
        hung_up: deque[int] | None = None,
    ) -> None:
        self._started = datetime.now(UTC)
        self.topics = Topics(config.mqtt.base_topic, config.id or machine_id())
        place = place or Place(state_directory(), self.topics.id)
        place.settle()
        self.overlay = Overlay(config, OverlayStore(place.file(OVERLAY)), place)
        self._config = config = self.overlay.config
        self._frozen: dict[str, str] = {}  # triggers whose zones may lie elsewhere, with the reason
        self._doubts: tuple[str | None, ...] = (self.overlay.withheld,)  # as they were told last
        self._waiting: list[str] = []  # of the file, for the restart that the camera's view waits for
        self._restart_required: list[str] = []
        self._reloading = Reloading(self.overlay, self.topics, read_file, self._go_by) if read_file else None
        self._hung_up: deque[int] = deque() if hung_up is None else hung_up
        self._reloaded: Answer | None = None
        self._restarts = self._ends = False
        self._health_due = self._status_due = 0.0
        self._throttled = False
        self._camera_lost = False
        self._stop = threading.Event()
        self._skips = Skips()

        self._model: DepthModel | None = None
        self.statistics, self._times = health.Statistics(), health.StageTimes()
        self._governor = Governor(config.power, machine.temperature)
        self._keeper = Keeper(place)
        saved, states = self._keeper.load(config.camera.privacy_masks)
        self.scene: SceneModel = make_scene(config.scene, config.zones, config.calibration, saved)
        self._triggers = Triggers(config.triggers, states)
        on = [name for name, on in states.items() if on]
        drawing = Drawing(config.heatmap, self._times)
        self.board = Board(self._info(), self._health, drawing.newest)
        self._output = Output(
            config, self.topics, self.board, drawing, self._publish, self._is_connected, on, self._times
        )
        self._output.configure(config, self.overlay.withheld)
        self._announcer = Announcer(config, self.topics, place, self._publish)

        mailbox: Mailbox[Frame] = Mailbox()
        consumers = (self.statistics.add, self._output.show, self._keep, *consumers)
        self._depth = DepthLoop(
            self._load,
            self.scene,
            self._triggers,
            mailbox,
            self._stop,
            consumers,
            prepare=self._look,
            gate=ChangeGate(config.gate),
            pace=self._governor,
            times=self._times,
        )
        self._camera = open_camera(config.camera)
        self._capture = CaptureLoop(
            self._camera,
            mailbox,
            self._stop,
            timeout=config.camera.timeout,
            on_status=self._camera_changed,
            enabled=config.camera.enabled,
        )
        self._desk = Desk(self, self.topics, self._publish, self._depth.between_frames)
        self.publisher = self._make_publisher() if config.mqtt.enabled else None
        self.web = self._make_page() if config.web.listen else None

    def _make_publisher(self) -> Publisher:
        section = self._config.mqtt
        return Publisher(
            section,
            self.topics,
            client_id_for(section, self.topics),
            filters=(*self.topics.filters, *self._announcer.filters),
            on_message=self._heard,
            on_gap=self._missed,
            stale_seconds=self._config.publish.min_interval,
        )

    def _make_page(self) -> "WebServer":
        from edge.web import WebServer  # here: Flask is a sixth of what is waited for, and of no use without a page

        soon = self._depth.between_frames
        self.board.on_watch = lambda: soon(self._output.show_views)
        estimator = SpareTime(lambda: self._model, soon, self._stop.wait)
        return WebServer(self._config.web, self.board, estimator=estimator, counter=self._desk)

    def run(self, seconds: float | None = None) -> None:
        """Work until a signal comes, a finite source ends or `seconds` are over since READY; then stop in order.

        Raises:
            EdgeError: what made a part fail.
            ThreadStuck: a part hangs.
        """
        for warning in self._config.warnings:
            logger.warning("configuration: %s", warning)
        with ExitStack() as stack:
            stack.enter_context(signals_handled(_ENDS, self.stop))
            # a service that says STOPPING is expected to end, and this one may go on in the same process
            stack.callback(lambda: notify("RELOADING=1" if self.restart_wanted else "STOPPING=1"))
            if self.publisher:
                # a broker may have an older word of it, from before a power cut
                self._publish(messages.camera_message(self.topics, "offline"))
                self.publisher.start()
                stack.callback(self.publisher.stop)
                self._desk.tell_settings()
                self._announcer.configure(self._config)
            if self.web:
                self.web.start()
                stack.callback(self.web.stop)
                logger.info("page at %s", self.web.url)
            # The last states are written whenever that is; while running, writes are bounded.
            stack.callback(lambda: self._keeper.stop(self.scene, self._triggers, withheld=bool(self.overlay.withheld)))
            stack.callback(self.overlay.save, math.inf)
            for worker in (self._depth, self._capture):
                worker.start()
                stack.callback(worker.finish, _STOP_SECONDS)
            stack.callback(self._stop.set)
            self._supervise(seconds)

    def stop(self) -> None:
        """Ask the daemon to end, whatever else is asked for; returns at once."""
        self._ends = True
        self._stop.set()

    @property
    def restart_wanted(self) -> bool:
        """Whether the daemon has stopped to be started anew."""
        return self._restarts and not self._ends

    @property
    def lingers(self) -> bool:
        """Whether foreign code still runs that can't be broken off: it loads, waits for a camera, or decodes."""
        return not self._depth.ready.is_set() or any(thread.name in _FOREIGN for thread in threading.enumerate())

    def _supervise(self, seconds: float | None) -> None:
        """Watch over the workers, tell systemd, and publish health, until it is time to stop."""
        ends_at = float("inf")
        ready = asked = False
        while not self._stop.wait(_TICK_SECONDS):
            now = time.monotonic()
            check_alive(self._depth, self._capture)
            check_memory(self._config.power.max_rss)
            if not ready and self._depth.ready.is_set() and self._capture.tried.is_set():
                ready = True
                ends_at = float("inf") if seconds is None else now + seconds
                # the report before had nothing to tell yet
                self._health_due = now + min(_FIRST_HEALTH_SECONDS, self._config.publish.health_interval)
                notify("READY=1")
                logger.info("ready: readings go to %s/#", self.topics.root)
            notify("WATCHDOG=1")
            if ready and self._reloading:
                asked = asked or self._has_hung_up() or self._reloading.is_due(now)
                asked = asked and not self._depth.between_frames(self._reload_by_signal)  # too much waits: next time
            self._tell_what_is_due(now)
            if now >= ends_at:
                self._stop.set()

    def _tell_what_is_due(self, now: float) -> None:
        if now >= self._status_due:
            self._status_due = now + _STATUS_SECONDS
            with self._skips.attempt("status for systemd"):
                text = status_text(self._health(), self.board.state(), self._reloaded, self._restart_required)
                notify(f"STATUS={text}")
        with self._skips.attempt("announcement"):
            if self.publisher and self.publisher.connected and self._announcer.work(now):
                self.publisher.resend()
                self._output.begin_anew()
        with self._skips.attempt("file of what was set"):
            self.overlay.save(now)
        if now >= self._health_due:
            self._health_due = now + self._config.publish.health_interval
            with self._skips.attempt("health"):
                self._publish_health()

    def _missed(self, *, connection_is_new: bool) -> None:
        """Have subscribers told anew what they may have missed; in the network thread."""
        if connection_is_new:
            self._announcer.soon()
        self._output.begin_anew()

    def _heard(self, topic: str, payload: bytes) -> None:
        """Take a message from the broker; in the network thread."""
        with self._skips.attempt("message from the broker"):
            if not self._announcer.hear(topic, payload):
                self._desk.hear(topic, payload)

    # --- what commands do, in the depth thread ------------------------------------------------------------------------

    def apply(self) -> None:
        """Go by what the overlay says now; of the camera only `enabled` and `privacy_masks` change while it runs."""
        wanted, before = self.overlay.config, self._config
        while_running = {name: getattr(wanted.camera, name) for name in ("enabled", "privacy_masks")}
        camera = before.camera.model_copy(update=while_running)
        fixed = {name: getattr(before, name) for name in _FIXED} | {"camera": camera}
        self._config = config = wanted.model_copy(update=fixed)
        self._restart_required = [name for name in _FIXED if getattr(wanted, name) != fixed[name]] + self._waiting
        masked = camera.privacy_masks != before.camera.privacy_masks
        if masked:
            self._camera.mask(camera.privacy_masks)
            self._output.forget_pictures()
            self._keeper.forget(camera.privacy_masks)
        calibration = config.calibration if self.overlay.fits(CALIBRATION) else CalibrationSection()
        if masked or (config.scene, config.zones) != (before.scene, before.zones):
            saved = self.scene.saved() if isinstance(self.scene, StillScene) and not masked else None
            self.scene = self._depth.scene = make_scene(config.scene, config.zones, calibration, saved)
        elif isinstance(self.scene, StillScene):
            self.scene.calibrate(calibration)
        frozen = self._frozen_triggers(config)
        if (config.triggers, frozen) != (before.triggers, self._frozen):
            self._frozen = frozen
            self._triggers = self._depth.triggers = Triggers(config.triggers, self._triggers.states(), frozen)
        if camera.enabled != before.camera.enabled:
            self._capture.enable(camera.enabled)
        if config.gate != before.gate:
            self._depth.gate = ChangeGate(config.gate)
        self._governor.configure(config.power)
        if config.log != before.log:
            logging.getLogger().setLevel(config.log.level.upper())
        self._tell_doubts()
        self._output.configure(config, self.overlay.withheld)
        self._desk.tell_settings()
        self._announcer.configure(config)
        self._publish_info()

    def _frozen_triggers(self, config: Config) -> dict[str, str]:
        """Return the triggers whose zones are not where they were drawn, each with the reason."""
        if self.overlay.fits(ZONES):
            return {}
        reason = "its zone was drawn for another view: confirm it in Set up, or draw it anew"
        return {trigger.name: reason for trigger in config.triggers if trigger.zone is not None}

    def _look(self) -> None:
        """Go by what the camera shows now, before a frame of it is read: it may be another one than before."""
        view, before = self._camera.view, self.overlay.view
        if view == before:
            return
        self.overlay.look(view)
        if before is not None:
            self._output.forget_pictures()
        if self._doubts != (self.overlay.withheld, *self.overlay.doubts):
            self.apply()

    def _tell_doubts(self) -> None:
        """Log once what is not certain to fit the camera's view any more, and when it does again."""
        withheld, doubts = self.overlay.withheld, self.overlay.doubts
        if self._doubts == (withheld, *doubts):
            return
        if withheld and withheld != self._doubts[0]:
            logger.error("%s; %s", withheld, self.overlay.help_by_hand)
        elif self._doubts[0] and not withheld:
            logger.info("privacy masks are confirmed: pictures and heatmaps leave again as configured")
        for doubt in doubts:
            logger.warning("%s", doubt)
        self._doubts = (withheld, *doubts)

    def reload(self) -> Answer:
        """Read the configuration's file again and go by it; the answer is what of it needs a restart.

        It comes ten seconds later where the file takes something away, see `Reloading`. It is a ConfigError, with every
        problem of the file, where that can't be used; then nothing is changed.
        """
        if self._reloading:
            self._reloaded = self._reloading.read(time.monotonic())
            return self._reloaded
        answer: Answer = Future()
        answer.set_exception(ConfigError("there is no configuration file"))
        return answer

    def _go_by(self, file: Config, gone: list[str]) -> dict[str, Any]:
        with self.overlay.kept_on_failure(self.apply):
            self.overlay.reload(self._together(file))
            self.apply()
        for warning in self._config.warnings:
            logger.warning("configuration: %s", warning)
        went = f"; taken away: {', '.join(gone)}" if gone else ""
        waiting = ", ".join(self._restart_required)
        logger.info("configuration: read again%s%s", went, f"; needs a restart: {waiting}" if waiting else "")
        return {"restart_required": self._restart_required}

    def _together(self, file: Config) -> Config:
        """Return a file's configuration as far as it fits the camera's view that is in force.

        What is drawn in the picture goes with the view: where the file has another one, both wait for the restart.
        """
        before = self.overlay.file
        self._waiting = []
        if _view(file.camera) == _view(self._config.camera):
            return file
        masks = {"privacy_masks": before.camera.privacy_masks}
        self._waiting = [name for name in _DRAWN if getattr(file, name) != getattr(before, name)]
        drawn = {name: getattr(before, name) for name in self._waiting}
        return file.model_copy(update=drawn | {"camera": file.camera.model_copy(update=masks)})

    def _has_hung_up(self) -> bool:
        """Return whether SIGHUP has come since this was asked last."""
        if not self._hung_up:
            return False
        self._hung_up.clear()
        notify("RELOADING=1")  # so that `systemctl reload` waits for what comes of it
        return True

    def _reload_by_signal(self) -> None:
        self.reload().add_done_callback(self._tell_outcome)

    def _tell_outcome(self, answer: Answer) -> None:
        error = answer.exception()
        if isinstance(error, ConfigError):
            logger.error("configuration: not read again, nothing is changed: %s", "; ".join(error.problems))
        elif error:
            logger.error("configuration: could not be gone by", exc_info=error)
        self._status_due = 0.0
        notify("READY=1")

    def restart(self) -> None:
        """Stop in order; whoever runs the daemon then starts it anew, see `restart_wanted`."""
        self._restarts = True
        self._stop.set()

    def take_snapshot(self) -> dict[str, Any]:
        """Publish a snapshot now; return which one."""
        return self._output.take_snapshot()

    # --- what is told -------------------------------------------------------------------------------------------------

    def _load(self) -> DepthModel:
        section, (width, height) = self._config.model, self._config.camera.size
        section = settled(section, network_size(width, height, section.input_size), self._still_loading)
        model = load_model(section)
        seconds = model.warm_up(width, height)
        logger.info(
            "engine %s with %d threads: %.0f ms a frame", model.engine.name, model.engine.threads, seconds * 1000
        )
        self._model = model
        self._publish_info()
        return model

    def _still_loading(self) -> bool:
        """Promise a sign of life while engines are measured; say whether to go on."""
        self._depth.expect(_LOADING_SECONDS)
        notify(f"EXTEND_TIMEOUT_USEC={int(_LOADING_SECONDS * 1e6)}")
        return not self._stop.is_set()

    def _publish_info(self) -> None:
        info = self._info()
        self.board.put(info=info)
        if self._model:
            self._publish(messages.info_message(self.topics, info))

    def _info(self) -> dict[str, Any]:
        config, model = self._config, self._model
        info: dict[str, Any] = {
            "version": __version__,
            "name": config.name or config.id or machine_id(),
            "camera": config.camera.safe_source,
            "machine": machine.machine_name(),
            "python": platform.python_version(),
            "config_hash": hashlib.sha256(dump(config).encode()).hexdigest()[:12],
            "restart_required": self._restart_required,
            "started": messages.utc(self._started),
            "cpus": config.model.cpus,
            "heatmap": config.heatmap.enabled,
            "withheld": self.overlay.withheld,
            "doubts": doubts(self.overlay),
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

    def _publish(self, message: Message, *, keep: bool = True) -> None:
        if self.publisher:
            self.publisher.publish(message, keep=keep)

    def _is_connected(self) -> bool:
        return self.publisher is not None and self.publisher.connected

    def _keep(self, reading: Reading) -> None:
        with self._skips.attempt("saved state"):
            self._keeper.keep(reading, self.scene, self._triggers, withheld=bool(self.overlay.withheld))

    def _health(self) -> dict[str, Any]:
        """Return how the daemon fares now, as the topic `health` has it."""
        values = self.statistics.snapshot() | machine.machine_health()
        values |= {"camera": self._capture.status, "camera_reconnects": self._capture.reconnects}
        values |= {"skipped": self._depth.skipped, "allowed_duty": round(self._governor.allowed_duty, 3)}
        values |= {"stages_ms": self._times.snapshot()}
        if self._governor.throttled:
            values["throttled"] = True
        if self.publisher:
            publisher = self.publisher
            values |= {"mqtt_connected": publisher.connected, "mqtt_problem": publisher.problem}
            values |= {"mqtt_dropped": publisher.drops, "commands_refused": self._desk.refused}
        return values

    def _publish_health(self) -> None:
        values = self._health()
        self._publish(messages.health_message(self.topics, values))
        throttled = bool(values["throttled"])
        if throttled and not self._throttled:
            by = "power.max_temperature" if self._governor.throttled else "firmware"
            details = {"temperature_c": values["temperature_c"], "by": by}
            self._output.tell("throttled", datetime.now(UTC), details)
        self._throttled = throttled

    def _camera_changed(self, status: CameraStatus, reason: str) -> None:
        self._health_due = 0.0  # a change is worth a report at once
        with self._skips.attempt("camera's status"):
            self._publish(messages.camera_message(self.topics, status))
            if status == "reconnecting":
                self._output.tell("camera_lost", datetime.now(UTC), {"reason": reason})
                self._camera_lost = True
            elif status == "online" and self._camera_lost:
                self._output.tell("camera_back", datetime.now(UTC), {})
                self._camera_lost = False


def _view(section: CameraSection) -> tuple[object, ...]:
    """Return what decides where in the picture something is to be seen."""
    return section.source, section.size, section.rotate, section.flip
