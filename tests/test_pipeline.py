"""Mailbox and loops: the newest frame wins, a lost camera is a state, a failure is never silent."""

import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge.camera import EndOfCamera, live, open_camera
from edge.camera.mounted import MountedCamera
from edge.config import CameraSection
from edge.daemon.health import StageTimes
from edge.daemon.pipeline import CaptureLoop, DepthLoop, Mailbox, Worker
from edge.errors import CameraError, CameraStalled, ThreadStuck
from edge.records import DepthMap, Frame, Scene
from tests.broker import eventually
from tests.camera_rigs import jpeg, picture

WAIT = 10.0


def frame(sequence):
    pixels = np.zeros((4, 4, 3), np.uint8)
    return Frame(sequence=sequence, captured_at=time.monotonic(), wall_time=datetime.now(UTC), pixels=pixels)


class FakeCamera:
    """Plays a script: a number is that many frames, an error is raised by open (before frames) or read (after)."""

    name = "fake"

    def __init__(self, *script, max_failed_opens=None):
        self.script = list(script)
        self.max_failed_opens = max_failed_opens
        self.opened = self.closed = self.sequence = 0

    def open(self):
        self.opened += 1
        if isinstance(self.script[0], Exception):
            raise self.script.pop(0)

    def read(self):
        step = self.script[0]
        if isinstance(step, Exception):
            raise self.script.pop(0)
        if step == 1:
            self.script.pop(0)
        else:
            self.script[0] -= 1
        self.sequence += 1
        return frame(self.sequence)

    def interrupt(self):
        pass

    def close(self):
        self.closed += 1


def started(camera, stop=None):
    """Start a capture loop; return it and the list of the changes of status that it tells."""
    told = []
    loop = CaptureLoop(
        camera,
        Mailbox(),
        stop or threading.Event(),
        timeout=1.0,
        on_status=lambda status, reason: told.append((status, reason)),
        backoff_seconds=(0.01, 0.02),
    )
    loop.start()
    return loop, told


def capture(camera):
    """Run a capture loop to its end; return it and the changes of status that it told."""
    loop, told = started(camera)
    loop.join(WAIT)
    assert not loop.is_alive()
    return loop, told


def test_the_newest_item_wins_and_drops_are_counted():
    """Of three items put before one is taken, the last is had and two are counted."""
    mailbox = Mailbox()
    for item in "abc":
        mailbox.put(item)
    assert ("c", 2) == (mailbox.take(0), mailbox.dropped)
    assert mailbox.take(0) is None


def test_take_waits_for_an_item():
    """An item that is put later wakes who waits."""
    mailbox = Mailbox()
    threading.Timer(0.05, mailbox.put, ["late"]).start()
    assert mailbox.take(WAIT) == "late"


def test_closing_wakes_who_waits_and_keeps_the_last_item():
    """After close the item that lies there can be had; then the mailbox is finished and never waits."""
    mailbox = Mailbox()
    mailbox.put("last")
    mailbox.close()
    assert not mailbox.finished
    assert mailbox.take(WAIT) == "last"
    assert mailbox.finished
    assert mailbox.take(WAIT) is None


def test_a_finite_source_ends_the_loop():
    """The end of a file is no failure: status offline, camera closed, mailbox closed, no error."""
    camera = FakeCamera(3, EndOfCamera("the file has ended"))
    loop, told = capture(camera)
    loop.finish(WAIT)
    assert [status for status, _ in told] == ["online", "offline"]
    assert camera.opened == camera.closed == 1


def test_a_lost_camera_is_opened_again_and_told_once_per_change():
    """Failing to open, frames, a stall, failing again and frames: four changes, each once, with the reason."""
    camera = FakeCamera(
        CameraError("not there"), CameraError("still not there"), 2, CameraStalled("no frame"), CameraError("gone"), 1,
        EndOfCamera("end"),
    )  # fmt: skip
    loop, told = capture(camera)
    loop.finish(WAIT)
    assert told == [
        ("reconnecting", "not there"),
        ("online", "fake: frames arrive"),
        ("reconnecting", "no frame"),
        ("online", "fake: frames arrive"),
        ("offline", "fake: stopped"),
    ]
    assert loop.reconnects == 4
    assert camera.opened == camera.closed == 5


def test_a_camera_that_only_a_new_process_can_help_ends_the_daemon():
    """After three failed re-opens the error is raised, with its exit code for a clean start."""
    camera = FakeCamera(1, *[CameraError(f"failure {n}") for n in range(1, 9)], max_failed_opens=3)
    loop, _ = capture(camera)
    with pytest.raises(CameraError, match="failure 4") as caught:
        loop.finish(WAIT)
    assert caught.value.exit_code == 69


def test_reads_that_never_return_end_the_daemon(monkeypatch):
    """With too many of them left behind none is begun any more: the error is raised, for a clean start."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(live, "OPEN_SECONDS", 0.01)
    section = CameraSection(source="rtsp://cam/live", timeout=0.1, fps=100.0)
    answered = threading.Event()

    def connect():
        answered.wait()
        raise CameraError("too late")

    loop, _ = capture(MountedCamera(section, live.LiveSource(section, connect), lambda: "made-up"))
    with pytest.raises(CameraError, match="3 earlier reads have not returned") as caught:
        loop.finish(WAIT)
    answered.set()
    assert caught.value.exit_code == 69


def test_losses_that_are_followed_by_frames_do_not_add_up():
    """A camera that is lost again and again, but comes back each time, is opened for ever."""
    script = [step for n in range(8) for step in (1, CameraError(f"loss {n}"))]
    camera = FakeCamera(*script, 1, EndOfCamera("end"), max_failed_opens=3)
    loop, _ = capture(camera)
    loop.finish(WAIT)
    assert camera.opened == 9


def test_the_loop_ends_while_the_next_picture_of_a_folder_is_waited_for(tmp_path):
    """Twenty seconds lie between two pictures: `finish` breaks the wait off, and the camera is offline."""
    (tmp_path / "1.jpg").write_bytes(jpeg(picture()))
    stop = threading.Event()
    loop, told = started(open_camera(CameraSection(source=str(tmp_path), fps=0.05, timeout=100.0)), stop)
    assert loop.tried.wait(WAIT)
    stop.set()
    loop.finish(WAIT)
    assert [status for status, _ in told] == ["online", "offline"]


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_the_loop_ends_while_a_silent_host_is_waited_for(scheme):
    """A host that accepts and says nothing is left at once: no loss is told, and the camera is offline."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as host:
        source = f"{scheme}://127.0.0.1:{host.getsockname()[1]}/live"
        loop, told = started(open_camera(CameraSection(source=source, timeout=100.0)), stop)
        connection, _ = host.accept()
        stop.set()
        loop.finish(WAIT)
        connection.close()
    assert loop.status == "offline"
    assert told == []
    for thread in threading.enumerate():
        if thread.name == "camera-reader":
            thread.join(WAIT)


def test_a_camera_that_fails_while_the_daemon_stops_is_not_lost():
    """What a camera raises because everything ends, or only then, is neither told as a loss nor raised."""
    stop = threading.Event()

    class Failing(FakeCamera):
        def read(self):
            if self.sequence == 1:
                stop.set()
                raise CameraStalled("no frame")
            return super().read()

    loop, told = started(Failing(9, max_failed_opens=0), stop)
    loop.finish(WAIT)
    assert [status for status, _ in told] == ["online", "offline"]


def test_the_first_attempt_is_told_even_when_it_fails():
    """`tried` is set after the first attempt, whatever its result, so that the daemon can be ready without a camera."""
    loop, _ = capture(FakeCamera(CameraError("no"), EndOfCamera("end")))
    assert loop.tried.is_set()


class Model:
    def __init__(self, fail_at=None):
        self.fail_at = fail_at

    def estimate(self, frame):
        if frame.sequence == self.fail_at:
            raise RuntimeError("the network broke")
        return DepthMap(frame=frame, inverse_depth=np.ones((2, 2), np.float32), inference_seconds=0.01, weights="made")


class PlainScene:
    """A scene that rests when it is told to, and says which frames it was asked to rest on."""

    def __init__(self, rests=False):
        self.rests = rests
        self.last = None

    def update(self, depth):
        self.last = Scene(depth=depth, state="moving", quality=1.0)
        return self.last

    def rest(self, frame):
        return replace(self.last, depth=replace(self.last.depth, frame=frame)) if self.rests else None


class NoTriggers:
    waiting = False

    def update(self, scene):
        return ()


class Still:
    """A gate that sees something new in the first frame only, and after it was told to forget."""

    def __init__(self):
        self.seen = 0

    def is_still(self, frame):
        return self.seen > 0

    def saw(self):
        self.seen += 1

    def forget(self):
        self.seen = 0


class Restless:
    def __init__(self):
        self.pauses = []

    def worked(self, seconds):
        self.pauses.append(seconds)

    def rest_seconds(self):
        return 0.0


def depth_loop(load, mailbox, consumers=(), scene=None, triggers=None, pace=None):
    loop = DepthLoop(
        load,
        scene or PlainScene(),
        triggers or NoTriggers(),
        mailbox,
        threading.Event(),
        consumers,
        gate=Still(),
        pace=pace or Restless(),
        times=StageTimes(),
    )
    loop.start()
    return loop


def test_every_reading_reaches_every_consumer_in_order():
    """Readings carry their frame, its latency and the drops so far; the end of the frames ends the loop."""
    mailbox, first, second = Mailbox(), [], []
    got = threading.Event()
    loop = depth_loop(Model, mailbox, (first.append, second.append, lambda _: got.set()))
    for sequence in (1, 2):
        got.clear()
        mailbox.put(frame(sequence))
        assert got.wait(WAIT)
    mailbox.close()
    loop.finish(WAIT)
    assert [1, 2] == [reading.frame.sequence for reading in first]
    assert first == second
    assert all(reading.latency_seconds >= 0 for reading in first)


def test_the_model_is_made_in_the_thread_that_runs_it():
    """An engine belongs to the thread that makes it: loading happens on the depth thread."""
    mailbox, names = Mailbox(), []

    def load():
        names.append(threading.current_thread().name)
        return Model()

    mailbox.close()
    depth_loop(load, mailbox).finish(WAIT)
    assert names == ["depth"]


def test_a_failure_in_the_network_stops_the_daemon_and_is_kept():
    """The error of a worker sets stop and is raised by whoever finishes the worker."""
    mailbox = Mailbox()
    loop = depth_loop(lambda: Model(fail_at=1), mailbox)
    mailbox.put(frame(1))
    loop.join(WAIT)
    assert loop._stopping.is_set()
    with pytest.raises(RuntimeError, match="the network broke"):
        loop.finish(WAIT)


def test_a_model_that_does_not_load_is_ready_with_its_error():
    """`ready` is set even so, or the daemon would wait for ever; the error is kept."""

    def load():
        raise RuntimeError("no weights")

    loop = depth_loop(load, Mailbox())
    assert loop.ready.wait(WAIT)
    with pytest.raises(RuntimeError, match="no weights"):
        loop.finish(WAIT)


class Sleeper(Worker):
    def __init__(self):
        super().__init__("sleeper", threading.Event())
        self.go_on = threading.Event()

    def work(self):
        self.expect(0.01)
        self.go_on.wait(WAIT)


def test_a_worker_that_breaks_its_promise_is_overdue_until_it_ends():
    """A hang is seen by the broken promise of a sign of life; a thread that has ended is not overdue."""
    worker = Sleeper()
    assert not worker.overdue
    worker.start()
    deadline = time.monotonic() + WAIT
    while not worker.overdue and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.overdue
    with pytest.raises(ThreadStuck, match="sleeper thread did not end"):
        worker.finish(0.01)
    worker.go_on.set()
    worker.finish(WAIT)
    assert not worker.overdue


# --- changed while it runs --------------------------------------------------------------------------------------------


def test_a_shut_mailbox_takes_nothing_and_forgets():
    """What lay in it is gone, what is put is not taken in, and nothing of that counts as dropped."""
    mailbox = Mailbox()
    mailbox.put(1)
    mailbox.shut(True)
    mailbox.put(2)
    assert mailbox.take(0) is None
    mailbox.shut(False)
    mailbox.put(3)
    assert (3, 0) == (mailbox.take(0), mailbox.dropped)


def test_a_nudge_wakes_who_waits_once():
    """Whoever waits comes back with nothing; the next one waits again."""
    mailbox, taken = Mailbox(), []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take(WAIT)))
    thread.start()
    mailbox.nudge()
    thread.join(WAIT)
    assert [None] == taken
    mailbox.put(1)
    assert 1 == mailbox.take(0)


def test_a_disabled_camera_is_closed_until_it_is_wanted():
    """It is a state that is told; what fails meanwhile is no loss; enabled again it is opened again."""
    camera, told, stop = FakeCamera(10**6), [], threading.Event()
    loop = CaptureLoop(
        camera, Mailbox(), stop, timeout=1.0, on_status=lambda status, _: told.append(status), enabled=False
    )
    loop.start()
    assert loop.tried.wait(WAIT)
    assert (0, ["disabled"]) == (camera.opened, told)
    loop.enable(True)
    while told[-1] != "online":
        time.sleep(0.01)
    loop.enable(False)
    while told[-1] != "disabled":
        time.sleep(0.01)
    assert (1, 1) == (camera.opened, camera.closed)
    stop.set()
    loop.finish(WAIT)
    assert ["disabled", "online", "disabled", "offline"] == told


def test_a_camera_that_is_switched_off_is_not_opened_by_the_stop():
    """The wait for its being wanted ends by the stop too: then it is left alone."""
    camera, stop = FakeCamera(10**6), threading.Event()
    loop = CaptureLoop(camera, Mailbox(), stop, timeout=1.0, on_status=lambda *_: None, enabled=False)
    loop.start()
    assert loop.tried.wait(WAIT)
    stop.set()
    loop.finish(WAIT)
    assert (0, "offline") == (camera.opened, loop.status)


def test_a_lost_camera_that_is_switched_off_and_on_is_not_waited_for():
    """Off is told and on is tried at once, however long the pause between two attempts is."""
    camera, told, stop = FakeCamera(CameraError("not there"), 10**6), [], threading.Event()
    loop = CaptureLoop(
        camera,
        Mailbox(),
        stop,
        timeout=1.0,
        on_status=lambda status, _: told.append(status),
        backoff_seconds=(3600, 1e4),
    )
    loop.start()
    for on, status in ((None, "reconnecting"), (False, "disabled"), (True, "online")):
        if on is not None:
            loop.enable(on)
        eventually(lambda expected=status: expected in told, status, WAIT)
    stop.set()
    loop.finish(WAIT)
    assert ["reconnecting", "disabled", "online", "offline"] == told


def test_what_has_to_be_done_is_done_between_frames_in_the_depth_thread():
    """In order, without a frame to wait for; more than can wait is refused."""
    mailbox, done, hold = Mailbox(), [], threading.Event()
    loop = depth_loop(Model, mailbox)
    assert loop.between_frames(lambda: hold.wait(WAIT))
    while loop._to_do.qsize():
        time.sleep(0.01)
    taken = [loop.between_frames(lambda n=n: done.append((n, threading.current_thread().name))) for n in range(40)]
    assert [True] * 32 + [False] * 8 == taken
    hold.set()
    while len(done) < 32:
        time.sleep(0.01)
    mailbox.close()
    loop.finish(WAIT)
    assert [(n, "depth") for n in range(32)] == done


@pytest.mark.parametrize("loads", [True, False])
def test_nobody_waits_for_a_thread_that_ends(loads):
    """What waits when the loop is to end is dropped, be the model loaded by then or not; so is what comes later."""
    hold, working, dropped = threading.Event(), threading.Event(), []

    def load():
        working.set()
        hold.wait(WAIT if loads else 0)
        return Model()

    def first():
        working.set()
        hold.wait(WAIT)

    loop = depth_loop(load, Mailbox())
    if not loads:
        assert loop.ready.wait(WAIT)
        working.clear()
        loop.between_frames(first)
    assert working.wait(WAIT)
    loop.between_frames(lambda: pytest.fail("it is too late"), lambda: dropped.append("waited"))
    threading.Timer(0.1, hold.set).start()
    loop._stopping.set()
    loop.finish(WAIT)
    assert loop.between_frames(lambda: None, lambda: dropped.append("came later"))
    loop.join(WAIT)
    assert ["waited", "came later"] == dropped


def test_what_fails_between_frames_ends_nothing(caplog):
    """It is told with its traceback; what waits behind it is done, and readings go on."""
    mailbox, done = Mailbox(), threading.Event()
    loop = depth_loop(Model, mailbox)
    loop.between_frames(lambda: 1 // 0)
    loop.between_frames(done.set)
    assert done.wait(WAIT)
    mailbox.close()
    loop.finish(WAIT)
    assert [ZeroDivisionError] == [record.exc_info[0] for record in caplog.records if record.exc_info]


# --- what the network is spared ---------------------------------------------------------------------------------------


def play(count, **parts):
    """Let a depth loop read so many frames, one by one; return it and its readings."""
    mailbox, readings, got = Mailbox(), [], threading.Event()
    loop = depth_loop(Model, mailbox, (readings.append, lambda _: got.set()), **parts)
    for sequence in range(1, count + 1):
        got.clear()
        mailbox.put(frame(sequence))
        assert got.wait(WAIT)
    return loop, mailbox, readings


def test_a_frame_that_shows_nothing_new_has_a_reading_of_its_own():
    """The network sees the first; the readings behind it have their own frames and say how old its depth is."""
    loop, mailbox, readings = play(3, scene=PlainScene(rests=True))
    mailbox.close()
    loop.finish(WAIT)
    assert [1, 2, 3] == [reading.frame.sequence for reading in readings]
    assert 1 == len({id(reading.scene.depth.inverse_depth) for reading in readings})
    first, *others = readings
    assert 0 == first.depth_age_seconds
    assert [reading.frame.captured_at - first.frame.captured_at for reading in others] == [
        reading.depth_age_seconds for reading in others
    ]
    assert 2 == loop.skipped


class Counting(NoTriggers):
    waiting = True


@pytest.mark.parametrize("parts", [{"scene": PlainScene()}, {"scene": PlainScene(True), "triggers": Counting()}])
def test_nothing_rests_while_there_is_something_to_wait_for(parts):
    """A scene that is not at rest, and a trigger whose delay runs, are shown every frame."""
    loop, mailbox, readings = play(3, **parts)
    mailbox.close()
    loop.finish(WAIT)
    assert [0, 0, 0] == [reading.depth_age_seconds for reading in readings]
    assert 0 == loop.skipped


def test_after_a_command_the_network_sees_the_next_frame():
    """What was changed shows at once: whatever is done between frames makes the gate forget."""
    loop, mailbox, readings = play(2, scene=PlainScene(rests=True))
    done = threading.Event()
    loop.between_frames(done.set)
    assert done.wait(WAIT)
    mailbox.put(frame(3))
    mailbox.close()
    loop.finish(WAIT)
    assert [True, False, True] == [reading.depth_age_seconds == 0 for reading in readings]


class Tired(Restless):
    """Lets nothing be done until it is told so."""

    def __init__(self):
        super().__init__()
        self.rested = threading.Event()

    def rest_seconds(self):
        return 0.0 if self.rested.is_set() or not self.pauses else 0.01


def test_a_rest_ends_with_the_newest_frame():
    """While the network has to rest nothing is taken: then the newest frame is, and the others count as dropped."""
    pace = Tired()
    loop, mailbox, readings = play(1, pace=pace)
    for sequence in (2, 3, 4):
        mailbox.put(frame(sequence))
    mailbox.close()
    time.sleep(0.1)
    assert not mailbox.finished
    pace.rested.set()
    loop.finish(WAIT)
    assert ([1, 4], 2) == ([reading.frame.sequence for reading in readings], readings[-1].dropped)
    assert [0.01, 0.01] == pace.pauses
