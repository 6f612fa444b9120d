#!/usr/bin/env python3
"""Run the real daemon under one fault after the other, as systemd would run it, and count what is lost.

usage: scripts/soak.py [--minutes 10] [--faults NAME,…] [--seed N] [--log FILE]     for a day: --minutes 1440

A real mosquitto, a camera that streams the bundled clip over HTTP, and a supervisor with the unit's own times
(WatchdogSec=, RestartSec=). One fault at a time; the next comes when the one before is over and readings are good.
Ends with 1 where a fault was not recovered from within 15 s, or a reading came late or out of order.

As root the state lies in a small tmpfs, which is filled and made read-only; else those two faults are left out. The
clock that jumps is the daemon's own: it is started with one that reads an offset from a file.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from soak_parts import (
    FPS,
    GIVE_UP_SECONDS,
    HOST,
    ROOT,
    WARM_UP_SECONDS,
    Broker,
    Camera,
    Listener,
    Sample,
    Service,
    memory_slope,
)

HEARTBEAT_SECONDS = 2.0
HEARTBEAT_SLACK_SECONDS = 0.5  # by which it may come late
RECOVERY_SECONDS = 15.0
STOP_SECONDS = 5.0
REST_SECONDS = 6.0
FAULT_SECONDS = 5.0
WITH_A_CLOCK = """
import datetime, pathlib, runpy, sys, time
file, real = pathlib.Path(sys.argv.pop(1)), time.time
def offset(): return float(file.read_text() or 0)
class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return super().now(tz) + datetime.timedelta(seconds=offset())
datetime.datetime, time.time = Datetime, lambda: real() + offset()
runpy.run_module("edge", run_name="__main__", alter_sys=True)
"""


class Soak:
    """The parts, and what is done to them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.is_root = os.geteuid() == 0
        if self.is_root:
            self._mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
            stack.callback(subprocess.run, ["/bin/umount", "-l", self.state], check=False)
        self.camera, self.broker = Camera(), Broker(folder)
        stack.callback(self.broker.stop)
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self.config = folder / "soak.yaml"
        self.config.write_text(yaml.safe_dump(self._settings()), encoding="utf-8")
        command = [sys.executable, "-c", WITH_A_CLOCK, str(self.clock), "run", "--config", str(self.config)]
        self.service = Service(folder, command, self._environment())
        stack.callback(self.service.stop)
        self.listener = Listener(self.broker.port)
        self.samples: list[Sample] = []
        self.healthy: list[tuple[float, float]] = []  # from when to when nothing was done to it
        threading.Thread(target=self._sample, daemon=True).start()

    def _mount(self, *options: str) -> None:
        subprocess.run(["/bin/mount", *options, self.state], check=True)  # noqa: S603 - our own options

    def _settings(self) -> dict[str, Any]:
        return {
            "id": "soak",
            "camera": {"source": self.camera.url, "fps": FPS, "timeout": 2.0},
            "model": {"weights": "starter-v2"},
            "scene": {"learn_seconds": 2.0},
            "publish": {"min_interval": 0.0, "deadband": 0.0, "heartbeat": HEARTBEAT_SECONDS},
            "triggers": [{"name": "near", "measure": "nearness", "near": 0.8}],
            "mqtt": {"host": HOST, "port": self.broker.port, "keepalive": 5},
        }

    def _environment(self) -> dict[str, str]:
        environment = os.environ | {"STATE_DIRECTORY": str(self.state), "PYTHONPATH": str(ROOT)}
        return environment | {"OPENCV_LOG_LEVEL": "ERROR", "OPENCV_FFMPEG_LOGLEVEL": "-8"}

    def _sample(self) -> None:
        while True:
            time.sleep(1.0)
            process, age = self.service.process, time.monotonic() - self.service.ready_at
            folder = Path("/proc") / str(process.pid)
            try:
                rss = int((folder / "statm").read_text().split()[1]) * resource.getpagesize() / 1e6
                files, threads = (len(list((folder / name).iterdir())) for name in ("fd", "task"))
            except OSError:
                continue
            if self.service.ready:
                self.samples.append(Sample(process.pid, age, rss, files, threads))

    # --- faults: each returns when the cause is gone, with the moment from which recovery counts ----------------------

    def kill(self) -> float:
        self.service.process.kill()
        return time.monotonic()

    def kill_behind_a_change(self) -> float:
        """Kill it the moment after it has acknowledged other metres; they must be there when it is back."""
        metres = round(random.uniform(1.5, 2.5), 3)  # noqa: S311 - no secret
        points = [{"x": 0.5, "y": y, "metres": far} for y, far in ((0.95, metres), (0.6, 2 * metres))]
        if not self.listener.ask("calibrate", points=points).get("ok"):
            raise Failed("the calibration was refused")
        self.service.process.kill()
        killed_at = time.monotonic()
        _wait(lambda: self.service.ready_at > killed_at, "a start")
        if yaml.safe_load(self.listener.ask("get_config")["config"])["calibration"]["points"] != points:
            raise Failed("an acknowledged change was lost")
        return killed_at

    def hang(self) -> float:
        before = self.service.watchdog_kills
        self.service.process.send_signal(signal.SIGSTOP)
        _wait(lambda: self.service.watchdog_kills > before, "the watchdog")
        return time.monotonic()

    def camera_gone(self) -> float:
        self.camera.gone = True
        time.sleep(FAULT_SECONDS)
        self.camera.gone = False
        return time.monotonic()

    def _spoiled(self, spoil: Callable[[bytes], bytes | None]) -> float:
        before, self.camera.spoil = self.camera.spoil, spoil
        time.sleep(FAULT_SECONDS)
        self.camera.spoil = before
        return time.monotonic()

    def camera_frozen(self) -> float:
        return self._spoiled(lambda _: None)

    def camera_black(self) -> float:
        black = cv2.imencode(".jpg", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
        return self._spoiled(lambda _: black)

    def camera_half(self) -> float:
        return self._spoiled(lambda picture: picture[: len(picture) // 2])

    def camera_garbage(self) -> float:
        return self._spoiled(lambda picture: os.urandom(len(picture)))

    def camera_size(self) -> float:
        def other(picture: bytes) -> bytes:
            pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
            return cv2.imencode(".jpg", cv2.resize(pixels, (320, 320)))[1].tobytes()

        return self._spoiled(other)

    def broker_gone(self) -> float:
        self.broker.stop()
        time.sleep(FAULT_SECONDS)
        self.broker.start()
        return time.monotonic()

    def broker_frozen(self) -> float:
        """Freeze the broker; what it had taken by then it delivers afterwards, and nobody can call that back."""
        self.broker.process.send_signal(signal.SIGSTOP)
        time.sleep(FAULT_SECONDS)
        self.listener.excused = 1
        self.broker.process.send_signal(signal.SIGCONT)
        return time.monotonic()

    def broker_flaps(self) -> float:
        for _ in range(5):
            self.broker.stop()
            self.broker.start()
            time.sleep(1.0)
        return time.monotonic()

    def disk_full(self) -> float:
        """Fill the disk, and have the daemon end and start on it."""
        ballast = self.state / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)) == 4096:
                    pass
        except OSError:
            pass
        self._stop_in_order()
        self.service.start()
        _wait(lambda: self.service.ready, "a start on a full disk")
        ballast.unlink()
        return self.service.started_at

    def read_only(self) -> float:
        self._mount("-o", "remount,ro")
        self._stop_in_order()
        self.service.start()
        _wait(lambda: self.service.ready, "a start on a read-only disk")
        self._mount("-o", "remount,rw")
        return self.service.started_at

    def clock_jumps(self) -> float:
        """Throw the clock by hours, forwards, back and home; latency is judged by the clock, and not meanwhile."""
        self.listener.clock_jumps = True
        for hours in (30, -50, 0):
            self.clock.write_text(str(hours * 3600))
            time.sleep(FAULT_SECONDS)
        self.listener.clock_jumps = False
        if self.listener.off_by < 3600:
            raise Failed("the clock did not jump")
        return time.monotonic()

    def bad_file(self) -> float:
        good = self.config.read_text(encoding="utf-8")
        self.config.write_text(good + "\nmqtt: {port: 99999}\n", encoding="utf-8")
        self.service.process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        self.config.write_text(good, encoding="utf-8")
        self.service.process.send_signal(signal.SIGHUP)
        return time.monotonic()

    def stop_while_learning(self) -> float:
        self.listener.ask("relearn")
        time.sleep(0.5)
        self._stop_in_order()
        self.service.start()
        return self.service.started_at

    def stop_while_starting(self) -> float:
        self._stop_in_order()
        for seconds in (0.5, 1.5, 2.5):
            self.service.start()
            time.sleep(seconds)
            self._stop_in_order()
        self.service.start()
        return self.service.started_at

    def memory(self) -> float:
        """Set the limit below what the daemon needs: it ends, to be started afresh; then set it as it was."""
        before = self.service.restarts
        good = self.config.read_text(encoding="utf-8")
        self.config.write_text(yaml.safe_dump(yaml.safe_load(good) | {"power": {"max_rss": 100}}), encoding="utf-8")
        self.service.process.send_signal(signal.SIGHUP)
        _wait(lambda: self.service.process.poll() is not None or self.service.restarts > before, "the guard")
        self.config.write_text(good, encoding="utf-8")
        return time.monotonic()

    def _stop_in_order(self) -> None:
        status, seconds = self.service.stop()
        if status not in (0, -signal.SIGTERM) or seconds > STOP_SECONDS:
            raise Failed(f"SIGTERM: exit status {status} after {seconds:.1f} s")


class Failed(Exception):
    """A fault was not answered as it should be."""


def faults(soak: Soak) -> dict[str, Callable[[], float]]:
    """Return the faults that can be had here, by name."""
    every = {
        **{
            "kill": soak.kill,
            "kill-change": soak.kill_behind_a_change,
            "hang": soak.hang,
            "bad-file": soak.bad_file,
            "stop-learning": soak.stop_while_learning,
        },
        **{"stop-starting": soak.stop_while_starting, "camera-gone": soak.camera_gone},
        **{"camera-frozen": soak.camera_frozen, "camera-black": soak.camera_black, "camera-half": soak.camera_half},
        **{"camera-garbage": soak.camera_garbage, "camera-size": soak.camera_size, "broker-gone": soak.broker_gone},
        **{"broker-frozen": soak.broker_frozen, "broker-flaps": soak.broker_flaps, "clock": soak.clock_jumps},
        "memory": soak.memory,
    }
    if soak.is_root:
        every |= {"disk-full": soak.disk_full, "read-only": soak.read_only}
    return every


def _wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {GIVE_UP_SECONDS:g} s in vain for {what}")
        time.sleep(0.02)


def main() -> int:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (%(default)s)")
    parser.add_argument("--faults", default="", metavar="NAME,...", help="only these; none: no fault at all")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order (%(default)s)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the daemon's log here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-depth-soak-") as name, ExitStack() as stack:
        soak = Soak(Path(name), stack)
        known = faults(soak)
        wanted = args.faults.split(",") if args.faults else list(known)
        unknown = set(wanted) - known.keys() - {"none"}
        if unknown:
            parser.error(f"unknown: {', '.join(sorted(unknown))}; here are {', '.join(known)}, none")
        try:
            done = run(soak, {each: known[each] for each in wanted if each != "none"}, args.minutes * 60, args.seed)
        finally:
            if args.log:
                shutil.copy(Path(name) / "log", args.log)
        return report(soak, done, args.minutes)


@dataclass
class Outcome:
    """What came of one fault: the seconds until readings were good again, or why it failed."""

    name: str
    seconds: float
    problem: str = ""

    @property
    def recovered(self) -> bool:
        """Whether it was recovered from in time."""
        return not self.problem and self.seconds <= RECOVERY_SECONDS


def run(soak: Soak, chosen: dict[str, Callable[[], float]], seconds: float, seed: int) -> list[Outcome]:
    """Do the faults in an order by chance, again and again, until the time is over."""
    _wait(lambda: soak.listener.good_at, "the first good reading")
    order, waiting, done = random.Random(seed), [], []  # noqa: S311 - no secret
    ends_at = time.monotonic() + seconds
    while (begun := time.monotonic()) < ends_at:
        if not chosen:
            time.sleep(1.0)
            soak.healthy.append((begun, time.monotonic()))
            continue
        waiting = waiting or order.sample(list(chosen), len(chosen))
        time.sleep(REST_SECONDS)
        soak.healthy.append((begun, time.monotonic()))
        done.append(suffer(soak, name := waiting.pop(), chosen[name]))
        print(_line(done[-1], soak.samples), flush=True)
        if done[-1].problem and soak.listener.good_at < begun:
            break  # nothing works any more
    return done


def suffer(soak: Soak, name: str, fault: Callable[[], float]) -> Outcome:
    """Do one fault and wait until readings are good again."""
    try:
        over_at = fault()
        _wait(lambda: soak.listener.good_at > over_at, "good readings")
    except Failed as error:
        return Outcome(name, float("nan"), str(error))
    return Outcome(name, soak.listener.good_at - over_at)


def _line(outcome: Outcome, samples: list[Sample]) -> str:
    words = outcome.problem or f"{outcome.seconds:5.1f} s"
    memory = f"{samples[-1].rss_mb:8.1f} MB" if samples else ""
    return f"{'ok ' if outcome.recovered else 'BAD'}  {outcome.name:<15} {words}{memory}"


def report(soak: Soak, done: list[Outcome], minutes: float) -> int:
    """Print the figures; return 0 when nothing was lost."""
    listener, service = soak.listener, soak.service
    expected, got = _heartbeats(soak)
    slope, error, hours = memory_slope(soak.samples)
    recovered = [outcome for outcome in done if outcome.recovered]
    worst = max((outcome.seconds for outcome in recovered), default=0.0)
    files, threads = ([getattr(sample, name) for sample in soak.samples] for name in ("files", "threads"))
    print(
        f"\n{minutes:g} minutes, {len(done)} faults, {len(recovered)} recovered from, the slowest in {worst:.1f} s\n"
        f"restarts after a failure {service.restarts}, by the watchdog {service.watchdog_kills}\n"
        f"{listener.readings} readings; of {expected} heartbeats expected outside of faults {got} came\n"
        f"late {listener.late}, out of order {listener.out_of_order}; held by a frozen broker {listener.held}\n"
        f"memory {f'{slope:+.1f} MB an hour (+- {error:.1f})' if hours else 'not known'}: from {hours:.2f} h after"
        f" {WARM_UP_SECONDS:g} s of warm-up each, {len({sample.life for sample in soak.samples})} processes\n"
        f"files open {min(files)}..{max(files)}, threads {min(threads)}..{max(threads)}"
    )
    lost = listener.late + listener.out_of_order + (expected - got)
    return 1 if lost or len(recovered) < len(done) else 0


def _heartbeats(soak: Soak) -> tuple[int, int]:
    """Return how many spans of a heartbeat lie outside of faults, and in how many of them there was a reading."""
    long = HEARTBEAT_SECONDS + HEARTBEAT_SLACK_SECONDS
    spans = [
        (begin + number * long, begin + (number + 1) * long)
        for begin, end in soak.healthy
        for number in range(int((end - begin) / long))
    ]
    heard = np.array(soak.listener.heard_at)
    return len(spans), sum(bool(((heard >= low) & (heard < high)).any()) for low, high in spans)


if __name__ == "__main__":
    sys.exit(main())
