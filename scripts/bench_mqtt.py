#!/usr/bin/env python3
"""Measure the way from a reading to a subscriber, and what an absent broker leaves behind; against a real mosquitto.

usage: scripts/bench_mqtt.py [--seconds S] [--outage S] [--json]

Latency: the whole daemon plays the bundled clip with the heatmap on; mosquitto_sub, in a process of its own, notes when
each state arrives. From the end of inference to there; in that time lie the scene, JSON and the broker.
Outage: readings, pictures and events go to the publisher at 10 a second while the broker is away; then it comes back.
"""

import argparse
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import edge.daemon
from edge.commands.demo import Clip
from edge.config import Config, MqttSection
from edge.depth.model import DepthModel
from edge.publish.mqtt import Publisher
from edge.records import DepthMap, Frame, Message
from edge.state.place import Place
from edge.system.machine import machine_health, machine_name
from edge.topics import Topics

HOST = "127.0.0.1"
FPS = 10.0
STALE_SECONDS = 0.2  # publish.min_interval
PICTURE = "x" * 40_000
TOPICS = Topics("edge-depth", "bench")
WAIT_SECONDS = 30.0


def main() -> int:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the daemon runs (%(default)s)")
    parser.add_argument("--outage", type=float, default=60.0, help="how long the broker is away (%(default)s)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if not (shutil.which("mosquitto", path=_path()) and shutil.which("mosquitto_sub")):
        sys.exit("needs mosquitto and mosquitto_sub: apt install mosquitto mosquitto-clients")
    result = {"machine": machine_name(), "outage": outage(args.outage), "latency_ms": latency(args.seconds)}
    print(json.dumps(result) if args.json else "\n".join(_lines(result)))
    return 0


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"


def _lines(values: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{before}{key}.")
        else:
            yield f"{before}{key:<28} {value}"


class Broker:
    """A mosquitto on a free port that can go away and come back with nothing kept."""

    def __init__(self) -> None:
        with socket.create_server((HOST, 0)) as server:
            self.port = int(server.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=_path()) or "mosquitto"
        self._process = subprocess.Popen([program, "-p", str(self.port)], stderr=subprocess.DEVNULL)  # noqa: S603 - no input
        _wait_for(lambda: socket.socket().connect_ex((HOST, self.port)) == 0)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


def _wait_for(condition: Callable[[], object]) -> float:
    """Return how long it took until it held; end the program where it never does."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > WAIT_SECONDS:
            sys.exit("waited in vain")
        time.sleep(0.01)
    return time.monotonic() - begun


@contextmanager
def listening(broker: Broker, form: str, *topics: str) -> Iterator[list[str]]:
    """Have mosquitto_sub print what arrives, a line each; yields the lines so far."""
    command = [
        "mosquitto_sub",
        "-p",
        str(broker.port),
        "-F",
        form,
        *(part for topic in topics for part in ("-t", topic)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")  # noqa: S603
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        yield lines
    finally:
        process.terminate()
        reader.join()


def _read(stream: Any, lines: list[str]) -> None:
    lines.extend(iter(stream.readline, ""))


class Timed:
    """A depth model that notes when it has spoken of each frame."""

    def __init__(self, model: DepthModel, done: dict[int, float]) -> None:
        self._model = model
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def estimate(self, frame: Frame) -> DepthMap:
        depth = self._model.estimate(frame)
        self._done[frame.sequence] = time.time()
        return depth


def latency(seconds: float) -> dict[str, Any]:
    """Return the time from the end of inference to a subscriber, in ms, and how much of it is the scene's."""
    done: dict[int, float] = {}
    scene: dict[int, float] = {}
    load = edge.daemon.load_model
    edge.daemon.load_model = lambda section: Timed(load(section), done)  # type: ignore[assignment,return-value]
    broker = Broker()
    broker.start()
    facts = Clip().facts
    config = Config.model_validate(
        {
            "id": "bench",
            "camera": {"source": str(Clip().path), "fps": float(facts["fps"])},
            "scene": {"learn_seconds": 3.0, "horizontal_fov_deg": facts["horizontal_fov_deg"]},
            "calibration": {"points": tuple(facts["points"])},
            "heatmap": {"interval": 0.0},
            "gate": {"max_skip_seconds": 0.0},
            "publish": {"min_interval": 0.0, "deadband": 0.0},
            "mqtt": {"host": HOST, "port": broker.port},
        }
    )

    def note(reading: Any) -> None:  # after the messages were handed over
        scene[reading.frame.sequence] = reading.frame.captured_at + reading.latency_seconds

    offset = time.time() - time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory() as state,
            listening(broker, "%U %p", TOPICS.named("state")) as lines,
        ):
            edge.daemon.Daemon(config, (note,), Place(Path(state), TOPICS.id)).run(seconds)
    finally:
        broker.stop()
        edge.daemon.load_model = load
    arrived = {json.loads(line.split(" ", 1)[1])["sequence"]: float(line.split(" ", 1)[0]) for line in lines}
    whole = [(arrived[number] - done[number]) * 1000 for number in arrived if number in done]
    scenes = [(scene[number] + offset - done[number]) * 1000 for number in arrived if number in scene]
    return {"readings": len(whole), **_percentiles(whole), "of which scene": _percentiles(scenes)}


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99)).tolist()
    return {"p50": round(p50, 2), "p99": round(p99, 2)}


def outage(seconds: float) -> dict[str, Any]:
    """Return what an absence of the broker does to memory, and how fast and how clean the return is."""
    broker = Broker()
    broker.start()
    publisher = Publisher(MqttSection(host=HOST, port=broker.port), TOPICS, "bench", stale_seconds=STALE_SECONDS)
    publisher.start()
    _wait_for(lambda: publisher.connected)
    _feed(publisher, 5.0)
    broker.stop()
    _wait_for(lambda: not publisher.connected)
    before, drops, sent = machine_health()["rss_mb"], publisher.drops, _feed(publisher, seconds)
    grown, dropped = machine_health()["rss_mb"] - before, publisher.drops - drops
    broker.start()
    with listening(broker, "%U %t %p", f"{TOPICS.root}/#") as lines:
        feeding = threading.Thread(target=_feed, args=(publisher, 10.0))
        feeding.start()
        status = _wait_for(lambda: any(f"{TOPICS.named('status')} " in line for line in lines))
        occupancy = _wait_for(lambda: any("/occupancy " in line for line in lines))
        feeding.join()
    publisher.stop()
    broker.stop()
    return {
        "seconds": seconds,
        "messages": sent,
        "dropped": dropped,
        "rss_growth_mb": round(grown, 2),
        "status_back_s": round(status, 2),
        "states_back_s": round(status + occupancy, 2),
        "old_readings_delivered": sum(_is_old(line) for line in lines),
        "readings_delivered": sum("/state " in line for line in lines),
    }


def _is_old(line: str) -> bool:
    """Whether a line is a QoS 0 message that was made more than `STALE_SECONDS` before it arrived."""
    arrived, topic, payload = line.split(" ", 2)
    if topic.endswith("/heatmap"):
        return float(arrived) - float(payload.split()[0]) > STALE_SECONDS
    return topic.endswith("/state") and float(arrived) - float(json.loads(payload)["made"]) > STALE_SECONDS


def _feed(publisher: Publisher, seconds: float) -> int:
    """Publish what a camera with 10 frames a second might; return how many messages that were."""
    ends_at, number = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        number += 1
        state = json.dumps({"made": time.time(), "filling": "x" * 1500}).encode()
        publisher.publish(Message(topic=TOPICS.named("state"), payload=state))
        publisher.publish(Message(topic=TOPICS.named("nearest"), payload=b"%d" % number))
        publisher.publish(Message(topic=TOPICS.named("heatmap"), payload=f"{time.time()} {PICTURE}".encode()))
        on = b"ON" if number % 20 < 10 else b"OFF"
        publisher.publish(Message(topic=TOPICS.zone_occupancy("door"), payload=on, qos=1, retain=True))
        publisher.publish(Message(topic=TOPICS.named("event"), payload=b"{}", qos=1))
        time.sleep(1 / FPS)
    return number * 5


if __name__ == "__main__":
    sys.exit(main())
