"""The two loops between camera and readings, and the mailbox between them. Knows Protocols, not classes.

The newest frame always wins: a frame that the network could not see in time is replaced and counted, never queued.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from edge.camera import Camera, EndOfCamera
from edge.daemon.pipeline.mailbox import Mailbox
from edge.errors import CameraError, ThreadStuck
from edge.records import CameraStatus, DepthMap, Frame, Reading, Scene, TriggerState
from edge.scene import SceneModel

__all__ = ["CaptureLoop", "DepthLoop", "Mailbox", "Worker"]

logger = logging.getLogger(__name__)

# What each step may take before its thread counts as hung; systemd's watchdog then restarts the daemon.
_OPEN_SECONDS = 60.0  # and camera.timeout
_READ_MARGIN_SECONDS = 15.0
_LOAD_SECONDS = 300.0
_FRAME_SECONDS = (20.0, 120.0)  # at the least, and while it is not known how long one takes
_HANGS_AFTER = 30  # times the longest frame so far
_TAKE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_MOST_COMMANDS = 32  # that wait for the frame in work
_BACKOFF_SECONDS = (1.0, 30.0)


class Estimator(Protocol):
    """The depth model as the depth loop sees it."""

    def estimate(self, frame: Frame) -> DepthMap: ...


class TriggerModel(Protocol):
    """The triggers as the depth loop sees them."""

    @property
    def waiting(self) -> bool:
        """Whether a delay runs, so that no reading may rest on an older one."""

    def update(self, scene: Scene) -> tuple[TriggerState, ...]: ...


class FrameGate(Protocol):
    """What tells frames that show nothing new, as the depth loop sees it."""

    def is_still(self, frame: Frame) -> bool:
        """Return whether the network need not see a frame."""

    def saw(self) -> None:
        """Note that the network sees the frame that was asked about last."""

    def forget(self) -> None:
        """Let the network see the next frame, whatever it shows."""


class Pace(Protocol):
    """What limits the network's work, as the depth loop sees it."""

    def rest_seconds(self) -> float:
        """Return how long the network has to rest before its next frame."""

    def worked(self, seconds: float) -> None:
        """Note that the network has worked for so long, until now."""


class Times(Protocol):
    """Where the loop notes how long each stage took."""

    def took(self, stage: str, seconds: float) -> None: ...

    def timed(self, stage: str) -> AbstractContextManager[None]: ...


class Worker(threading.Thread):
    """A named thread with a deadline for its next sign of life; its failure stops the daemon and is kept."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: Exception | None = None
        self._stopping = stop
        self._due = float("inf")

    def run(self) -> None:
        """Work until the work is done, the daemon stops, or something fails."""
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - the top of a thread; `finish` raises it again
            self.failure = error
            self._stopping.set()
        finally:
            self._due = float("inf")

    def work(self) -> None:
        """Do the work of the thread."""
        raise NotImplementedError

    def expect(self, seconds: float) -> None:
        """Promise a sign of life within `seconds`."""
        self._due = time.monotonic() + seconds

    @property
    def overdue(self) -> bool:
        """Whether the promise was broken: the thread hangs."""
        return time.monotonic() > self._due

    def finish(self, timeout: float) -> None:
        """Wait for the thread's end and raise what it failed of.

        Raises:
            ThreadStuck: it has not ended after `timeout` seconds.
            Exception: what the thread failed of.
        """
        self.join(timeout)
        if self.is_alive():
            raise ThreadStuck(f"the {self.name} thread did not end within {timeout:g} s")
        if self.failure is not None:
            raise self.failure


class CaptureLoop(Worker):
    """Reads frames into the mailbox; a lost camera is a state with capped, jittered back-off, not a crash.

    `on_status(status, reason)` is told of every change. While it is disabled the camera is closed.
    """

    def __init__(
        self,
        camera: Camera,
        mailbox: Mailbox[Frame],
        stop: threading.Event,
        *,
        timeout: float,
        on_status: Callable[[CameraStatus, str], None],
        enabled: bool = True,
        backoff_seconds: tuple[float, float] = _BACKOFF_SECONDS,
    ) -> None:
        super().__init__("capture", stop)
        self._camera = camera
        self._mailbox = mailbox
        self._timeout = timeout
        self._on_status = on_status
        self._backoff = backoff_seconds
        self.status: CameraStatus = "offline"
        self.tried = threading.Event()
        self.reconnects = 0
        self._failures = 0  # since the last frame
        self._enabled = enabled
        # Ends a pause. It does not say what for: after every pause switch and stop are looked at anew.
        self._changed = threading.Event()
        mailbox.shut(not enabled)

    def enable(self, enabled: bool) -> None:
        """Let frames come, or close the camera; once it is switched off no frame is handed on."""
        self._mailbox.shut(not enabled)
        self._enabled = enabled
        self._changed.set()

    def work(self) -> None:
        """Open, read, and after a loss open again, until the daemon stops or there are no more frames."""
        try:
            while not self._stopping.is_set():
                try:
                    if self._enabled:
                        self._read_until_lost()
                    else:
                        self._stay_closed()
                except EndOfCamera as end:
                    logger.info("camera: %s", end)
                    return
                except CameraError as error:
                    self._failures += 1
                    self._lost(error)
        finally:
            self._mailbox.close()
            self.tried.set()
            self._set_status("offline", f"{self._camera.name}: stopped")

    def finish(self, timeout: float) -> None:
        """Wait for the end as any worker, but not for a frame: what the camera waits for is broken off."""
        self._camera.interrupt()
        self._changed.set()
        super().finish(timeout)

    def _stay_closed(self) -> None:
        self._set_status("disabled", f"{self._camera.name}: closed, as was asked for")
        self.tried.set()
        self._pause(_PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        """Wait so long; less where the camera is switched on or off meanwhile, or the daemon stops."""
        self.expect(seconds + _READ_MARGIN_SECONDS)
        self._changed.wait(seconds)
        self._changed.clear()

    def _read_until_lost(self) -> None:
        """Open and read, until the camera is lost or disabled or the daemon stops."""
        try:
            self.expect(_OPEN_SECONDS + self._timeout)
            self._camera.open()
            while self._enabled and not self._stopping.is_set():
                self.expect(self._timeout + _READ_MARGIN_SECONDS)
                self._mailbox.put(self._camera.read())
                self._failures = 0
                if self._enabled:
                    self._set_status("online", f"{self._camera.name}: frames arrive")
                self.tried.set()
        finally:
            self.expect(_OPEN_SECONDS)
            self._camera.close()

    def _lost(self, error: CameraError) -> None:
        if self._stopping.is_set() or not self._enabled:
            return  # it is closed anyway, and tried anew once it is wanted
        self._set_status("reconnecting", str(error))
        self.tried.set()
        most = self._camera.max_failed_opens
        if most is not None and self._failures > most:
            raise error
        low, high = self._backoff
        seconds = min(high, low * 2.0 ** min(self._failures - 1, 16)) * random.uniform(0.75, 1.0)  # noqa: S311 - no secret
        self.reconnects += 1
        self._pause(seconds)

    def _set_status(self, status: CameraStatus, reason: str) -> None:
        if status == self.status:
            return
        self.status = status
        level = logging.WARNING if status == "reconnecting" else logging.INFO
        logger.log(level, "camera %s: %s", status, reason)
        self._on_status(status, reason)


class DepthLoop(Worker):
    """Runs the network on the newest frame and hands every reading to its consumers.

    A frame in which `gate` sees nothing new has a reading too, at once: the scene rests on what the network last saw,
    unless there is something to wait for. `prepare` is called before each frame. `load` makes the model in this very
    thread, since an engine belongs to the thread that makes it. `scene`, `triggers` and `gate` may be replaced by what
    is done between two frames.
    """

    def __init__(
        self,
        load: Callable[[], Estimator],
        scene: SceneModel,
        triggers: TriggerModel,
        mailbox: Mailbox[Frame],
        stop: threading.Event,
        consumers: Iterable[Callable[[Reading], None]],
        *,
        prepare: Callable[[], None] = lambda: None,
        gate: FrameGate,
        pace: Pace,
        times: Times,
    ) -> None:
        super().__init__("depth", stop)
        self.gate = gate
        self.skipped = 0  # frames that the network was spared
        self._pace = pace
        self._times = times
        self._seen_at = 0.0
        self.scene = scene
        self.triggers = triggers
        self._load = load
        self._mailbox = mailbox
        self._to_do: queue.Queue[tuple[Callable[[], None], Callable[[], object]]] = queue.Queue(_MOST_COMMANDS)
        self._ends = False
        self._consumers = tuple(consumers)
        self._prepare = prepare
        self._longest_seconds = 0.0
        self._frame_seconds = _FRAME_SECONDS[1]
        self.ready = threading.Event()

    def between_frames(self, action: Callable[[], None], dropped: Callable[[], object] = lambda: None) -> bool:
        """Have something done by this thread between two frames; false where too much waits already.

        What the thread does not come to before it ends is `dropped`, so that nobody waits for it any more.
        """
        try:
            self._to_do.put_nowait((action, dropped))
        except queue.Full:
            return False
        self._mailbox.nudge()
        if self._ends:
            self._drop_what_waits()
        return True

    def _drop_what_waits(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._to_do.get_nowait()[1]()

    def _do_what_waits(self) -> None:
        for _ in range(_MOST_COMMANDS):  # not for ever: new ones may come as fast as they are done
            try:
                action, _ = self._to_do.get_nowait()
            except queue.Empty:
                return
            try:
                action()
            except Exception:  # whoever asked for it: readings go on
                logger.exception("what was to be done between two frames has failed")
            self.gate.forget()  # whatever it was, its effect is to be seen

    def work(self) -> None:
        """Load and warm up the model, then read frames until there are no more."""
        self.expect(_LOAD_SECONDS)
        try:
            model = self._load()
        finally:
            self.ready.set()
        while not self._stopping.is_set() and not self._mailbox.finished:
            self.expect(_TAKE_SECONDS + _READ_MARGIN_SECONDS)
            self._do_what_waits()
            if (rest := self._pace.rest_seconds()) > 0:
                self._stopping.wait(min(rest, _TAKE_SECONDS))  # and then take the newest frame, not this one
                continue
            frame = self._mailbox.take(_TAKE_SECONDS)
            if frame is not None:
                self.expect(self._frame_seconds)
                started = time.monotonic()
                self._read(model, frame)
                self._learn_pace(time.monotonic() - started)
        self._stopping.set()  # the source has ended and its last frame was read

    def _learn_pace(self, seconds: float) -> None:
        least, most = _FRAME_SECONDS
        self._longest_seconds = max(self._longest_seconds, seconds)
        self._frame_seconds = min(most, max(least, _HANGS_AFTER * self._longest_seconds))

    def finish(self, timeout: float) -> None:
        """Wait for the end as any worker, but not for a model that is being loaded: that has nothing to lose."""
        self._ends = True
        self._drop_what_waits()
        if self.ready.is_set():
            super().finish(timeout)

    def _read(self, model: Estimator, frame: Frame) -> None:
        self._times.took("capture", time.monotonic() - frame.captured_at)
        self._prepare()
        scene = self._rest(frame) or self._look(model, frame)
        with self._times.timed("triggers"):
            triggers = self.triggers.update(scene)
        reading = Reading(
            scene=scene,
            triggers=triggers,
            latency_seconds=time.monotonic() - frame.captured_at,
            dropped=self._mailbox.dropped,
            depth_age_seconds=frame.captured_at - self._seen_at,
        )
        for consume in self._consumers:
            consume(reading)

    def _rest(self, frame: Frame) -> Scene | None:
        """Return the scene of a frame that the network need not see, or null."""
        with self._times.timed("gate"):
            still = self.gate.is_still(frame)
        scene = self.scene.rest(frame) if still and not self.triggers.waiting else None
        self.skipped += scene is not None
        return scene

    def _look(self, model: Estimator, frame: Frame) -> Scene:
        depth = model.estimate(frame)
        self._pace.worked(depth.inference_seconds)
        self.gate.saw()
        self._seen_at = frame.captured_at
        self._times.took("preprocess", depth.preprocess_seconds)
        self._times.took("inference", depth.inference_seconds)
        with self._times.timed("scene"):
            return self.scene.update(depth)
