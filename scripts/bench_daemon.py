#!/usr/bin/env python3
"""Measure what the whole daemon costs: runs it as its own process against a real mosquitto, and prints JSON.

usage: scripts/bench_daemon.py [--weights FILE] [--engine NAME] [--no-gate] [--seconds S] [--static] [--frames N]

Without more it plays the bundled clip, in real time, and measures from the first reading behind the learning on.
--static shows one picture of it as a camera would, with noise of its own in every frame, 640x480 at 5 fps: once with
the gate and once without, and the ratio of the processor time for each reading.
--frames N lets so many frames of that through, 100 a second, with the gate on and the network at work four times a
second; it is about memory. 50,000 take 9 minutes.

What was learned before is not used; weights and engine files of $STATE_DIRECTORY are.

start_up_s       from the start of the process to the first reading at a subscriber
cpu_ms           processor time, all threads, for each reading and for each second
latency_ms       from a frame's capture to its reading at the subscriber, in the frames that the network saw
rss_mb           resident memory at the end, the most of it, and what it grew by from a third of the time on
stages_ms        the daemon's own times, of the last minute; everything but `inference` and `capture` is `overhead`
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from bench_mqtt import HOST, TOPICS, Broker, listening

from edge.commands.demo import Clip
from edge.config import GateSection, state_directory
from edge.system.machine import machine_name

PATIENCE_SECONDS = 300.0
NOISE = 4.0  # grey levels; a small sensor in the evening
STATIC_FPS, FAST_FPS = 5.0, 100.0
STATIC_FRAMES = 50
TICK_SECONDS = 0.2
MOST_STATES = 1000  # that latencies are taken from: the last ones
HERTZ = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print what was measured."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = {"machine": machine_name(), "weights": args.weights, "engine": args.engine}
        video = Path(folder) / "static.avi"
        if args.static:
            _write_static(video, STATIC_FPS)
            runs = {
                name: _measure(args, _static_sections(video, STATIC_FPS, seconds), folder)
                for name, seconds in _GATES.items()
            }
            per_reading = [run["cpu_ms"]["per_reading"] for run in runs.values()]
            results |= {"static": runs, "cpu_ratio": round(per_reading[0] / per_reading[1], 3)}
        elif args.frames:
            _write_static(video, FAST_FPS)
            results["frames"] = _measure(args, _static_sections(video, FAST_FPS, 0.25), folder)
        else:
            results["clip"] = _measure(args, _clip_sections(gate=not args.no_gate), folder)
    print(json.dumps(results, indent=1))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter-v2", metavar="FILE", help="as model.weights (%(default)s)")
    parser.add_argument("--engine", default="torch", metavar="NAME", help="as model.engine (%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="as model.threads")
    parser.add_argument("--no-gate", action="store_true", help="let the network see every frame")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="how long is measured (%(default)s)")
    parser.add_argument(
        "--static", action="store_true", help="a view in which nothing moves, with the gate and without"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="so many frames of it, fast; for the memory")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------- what the daemon sees

_GATES = {"gated": GateSection().max_skip_seconds, "ungated": 0.0}


def _write_static(path: Path, fps: float) -> None:
    """Write a video of one picture of the clip, 640x480, with noise of its own in every frame."""
    video = cv2.VideoCapture(str(Clip().path))
    room = cv2.resize(video.read()[1], (640, 480)).astype(np.float32)
    random = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (640, 480))
    for _ in range(STATIC_FRAMES):
        noisy = room + random.normal(0, NOISE, room.shape)
        writer.write(np.clip(noisy, 0, 255).astype(np.uint8))
    writer.release()


def _clip_sections(*, gate: bool) -> dict[str, Any]:
    facts = Clip().facts
    return {
        "camera": {"source": str(Clip().path), "fps": float(facts["fps"])},
        "scene": {"learn_seconds": facts["learn_seconds"], "horizontal_fov_deg": facts["horizontal_fov_deg"]},
        "calibration": {"points": facts["points"]},
        "triggers": [{"name": "someone-near", "near": 2.0}],
        "gate": {} if gate else {"max_skip_seconds": 0.0},
    }


def _static_sections(source: Path, fps: float, max_skip_seconds: float) -> dict[str, Any]:
    return {
        "camera": {"source": str(source), "fps": fps},
        "scene": {"learn_seconds": 3.0},
        "gate": {"max_skip_seconds": max_skip_seconds},
    }


# ------------------------------------------------------------------------------------------------------------ measuring


@dataclass
class Daemon:
    """The daemon as a process, from outside."""

    process: subprocess.Popen[bytes]
    begun: float
    lines: list[str]  # what mosquitto_sub printed: time, topic, payload
    taken: int = 0
    states: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)

    def hear(self) -> None:
        """Take what has arrived since the last time."""
        if self.process.poll() is not None:
            sys.exit(f"the daemon has ended with {self.process.returncode}")
        lines, self.taken = self.lines[self.taken :], len(self.lines)
        for line in lines:
            at, topic, payload = line.split(" ", 2)
            if topic == TOPICS.named("state"):
                self.states.append((float(at), json.loads(payload)))
            elif topic == TOPICS.named("health"):
                self.health = json.loads(payload)

    def wait_for(self, condition: Any) -> float:
        """Return the time at which the first reading arrived of which `condition(reading)` holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.hear()
            if found := next((at for at, state in self.states if condition(state)), None):
                return found
            time.sleep(0.01)
        sys.exit("waited in vain for a reading")

    def cpu_seconds(self) -> float:
        """Return the processor time so far, of all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ

    def memory_mb(self, name: str) -> float:
        """Return a figure of /proc/PID/status, such as VmRSS."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1]) * 1024 / 1e6


@contextmanager
def _running(args: argparse.Namespace, sections: dict[str, Any], folder: str) -> Iterator[Daemon]:
    broker = Broker()
    broker.start()
    model = {"weights": args.weights, "engine": args.engine, "threads": args.threads}
    config = sections | {
        "id": TOPICS.id,
        "model": model,
        "publish": {"deadband": 0.0, "min_interval": 0.0, "health_interval": 2.0},
        "mqtt": {"host": HOST, "port": broker.port, "discovery": "off"},
    }
    path = Path(folder) / "bench.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "edge", "run", "--config", str(path)]
    topics = (TOPICS.named("state"), TOPICS.named("health"))
    with tempfile.TemporaryDirectory(dir=folder) as state, listening(broker, "%U %t %p", *topics) as lines:
        for name in ("weights", "engines"):
            if (kept := state_directory() / name).is_dir():
                (Path(state) / name).symlink_to(kept.resolve())
        begun = time.time()
        process = subprocess.Popen(command, env=os.environ | {"STATE_DIRECTORY": state})  # noqa: S603 - no input
        try:
            yield Daemon(process, begun, lines)
        finally:
            process.terminate()
            process.wait(60)
            broker.stop()


def _measure(args: argparse.Namespace, sections: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run the daemon and return what it did from the end of its learning on."""
    with _running(args, sections, folder) as daemon:
        first = daemon.wait_for(lambda state: True) - daemon.begun
        daemon.wait_for(lambda state: state["scene"]["state"] == "tracking")
        begun, cpu = time.time(), daemon.cpu_seconds()
        before, health = daemon.states[-1][1], daemon.health
        daemon.states = daemon.states[-1:]
        memory = _watch(daemon, args, begun, before["sequence"])
        seconds, cpu = time.time() - begun, daemon.cpu_seconds() - cpu
        states, last, after = daemon.states[1:], daemon.states[-1][1], daemon.health
        readings = after["readings"] - health["readings"]
        rate = readings / (after["uptime_s"] - health["uptime_s"])
        return {
            "start_up_s": round(first, 2),
            "readings": readings,
            "skipped": after["skipped"] - health["skipped"],
            "dropped": last["dropped"] - before["dropped"],
            "cpu_ms": {
                "per_reading": round(1000 * cpu / seconds / rate, 2),
                "per_second": round(1000 * cpu / seconds, 1),
            },
            "latency_ms": _latencies(states),
            "rss_mb": {"end": memory[-1], "most": round(daemon.memory_mb("VmHWM"), 1), "growth": _growth(memory)},
            "stages_ms": after["stages_ms"],
            "overhead": _overhead(after["stages_ms"]),
        }


def _watch(daemon: Daemon, args: argparse.Namespace, begun: float, sequence: int) -> list[float]:
    """Let the daemon work; return its memory every second."""
    memory: list[float] = []
    while _goes_on(daemon, args, begun, sequence):
        time.sleep(TICK_SECONDS)
        daemon.hear()
        del daemon.states[:-MOST_STATES]
        if time.time() - begun >= len(memory):
            memory.append(round(daemon.memory_mb("VmRSS"), 2))
    return memory


def _goes_on(daemon: Daemon, args: argparse.Namespace, begun: float, sequence: int) -> bool:
    if args.frames:
        return int(daemon.states[-1][1]["sequence"]) - sequence < args.frames
    return time.time() - begun < args.seconds


def _latencies(states: list[tuple[float, dict[str, Any]]]) -> dict[str, float] | None:
    wall = [(at, np.datetime64(state["time"].rstrip("Z")).astype(float) / 1000, state) for at, state in states]
    found = [1000 * (at - captured) for at, captured, state in wall if not state["depth_age_s"]]
    if not found:
        return None
    p50, p95 = np.percentile(found, (50, 95)).tolist()
    return {"p50": round(p50, 1), "p95": round(p95, 1)}


def _growth(memory: list[float]) -> float:
    """Return the difference of the medians of the last third and of the third before."""
    third = max(1, len(memory) // 3)
    return round(float(np.median(memory[-third:]) - np.median(memory[-2 * third : -third] or memory[:1])), 2)


def _overhead(stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the medians of everything that a frame goes through but the network, together, in ms and as its share."""
    ours = sum(times["p50"] for stage, times in stages.items() if stage not in ("inference", "capture", "heatmap"))
    return {"ms": round(ours, 2), "share_of_inference": round(ours / stages["inference"]["p50"], 3)}


if __name__ == "__main__":
    sys.exit(main())
