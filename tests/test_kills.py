"""The daemon is killed the moment after it has acknowledged a change, ten times: every change is still there."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.broker import HOST, Mosquitto, Subscriber, eventually, free_port

ROOT = "edge-depth/hall"
SECONDS = 120.0
KILLS = 10

# Every line read starts the daemon in a process of its own, and its end is told. What takes long is imported once.
LIVES = """
import os, sys
from edge.cli import main
import edge.daemon, edge.depth.midas
for _ in sys.stdin:
    if life := os.fork():
        print(life, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(life, 0)[1]), flush=True)
    else:
        os._exit(main(["run", "--config", sys.argv[1]]))
"""


class Lives:
    """A daemon that is killed and started again and again, over one state; its broker and its page."""

    def __init__(self, folder: Path, broker: Mosquitto, subscriber: Subscriber, photos: Path) -> None:
        self._subscriber = subscriber
        port = free_port()
        self._page = f"http://{HOST}:{port}/api/setup"
        (folder / "view").mkdir()
        (folder / "view" / "corridor.jpg").symlink_to(photos / "corridor.jpg")
        values = {
            "id": "hall",
            "camera": {"source": str(folder / "view")},
            "model": {"weights": "starter-v2", "threads": 1},
            "scene": {"learn_seconds": 1},
            "mqtt": {"host": HOST, "port": broker.port},
            "web": {"listen": f"{HOST}:{port}"},
        }
        (folder / "c.yaml").write_text(yaml.safe_dump(values))
        command = [sys.executable, "-c", LIVES, str(folder / "c.yaml")]
        environment = os.environ | {"STATE_DIRECTORY": str(folder / "state")}
        pipe = subprocess.PIPE
        self._parent = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def start(self) -> None:
        """Start the daemon and wait until it takes commands, from the broker and from the page."""
        begun = len(self._subscriber.heard)
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        self._life = int(self._parent.stdout.readline())
        online = (f"{ROOT}/status", b"online")
        eventually(lambda: online in [(m.topic, m.payload) for m in self._subscriber.heard[begun:]], "it", SECONDS)
        eventually(self._is_ready, "the network to be loaded", SECONDS)

    def _is_ready(self) -> bool:
        try:
            return bool(self.values())
        except urllib.error.URLError:  # not listening yet, or still loading
            return False

    def kill(self) -> None:
        os.kill(self._life, signal.SIGKILL)
        assert -signal.SIGKILL == int(self._parent.stdout.readline())

    def end(self) -> None:
        self._parent.kill()
        self._parent.wait()

    def calibrate(self, points: list[dict[str, float]]) -> None:
        """Set points over the broker, and wait until that is done; before the background is learned it is refused."""
        topic, done = f"{ROOT}/response/calibrate", False
        while not done:
            asked = len(self._subscriber.payloads(topic))
            self._subscriber.publish(f"{ROOT}/request/calibrate", json.dumps({"points": points}))
            eventually(lambda seen=asked: len(self._subscriber.payloads(topic)) > seen, "the answer", SECONDS)
            answer = json.loads(self._subscriber.payloads(topic)[-1])
            done = answer["ok"]
            assert done or "no background" in answer["error"]

    def apply(self, changes: dict[str, Any]) -> None:
        """Set something on the page, and wait until it says that it is written."""
        state = self._ask("")
        answer = self._ask("/apply", {"revision": state["revision"], **changes}, {"X-CSRF-Token": state["proof"]})
        assert answer["written"]

    def values(self) -> dict[str, Any]:
        """Return what is set, as the page shows it."""
        return self._ask("")["values"]

    def _ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._page + path, data, headers or {})
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return json.loads(response.read())


def test_no_acknowledged_change_is_lost_when_the_daemon_is_killed(tmp_path, mosquitto, photos):
    """Metres set over the broker, zones and masks drawn on the page: SIGKILL right behind the answer undoes nothing."""
    with Subscriber(mosquitto.port, f"{ROOT}/#") as subscriber:
        lives = Lives(tmp_path, mosquitto, subscriber, photos)
        try:
            lives.start()
            for number in range(KILLS):
                share = 0.3 + number / 100
                shape = [[0.0, 0.0], [share, 0.0], [share, 0.5]]
                places = {0.95: 1.0, 0.75: 2.0, 0.4: 6.0}
                points = [{"x": 0.5, "y": y, "metres": metres + number / 100} for y, metres in places.items()]
                zone = {"name": f"zone-{number}", "polygon": shape}
                lives.apply({"zones": [zone], "privacy_masks": [shape]} if number % 2 else {"zones": [zone]})
                if not number % 5:
                    lives.calibrate(points)
                    calibrated = points
                if number % 2:
                    masks = [shape]
                lives.kill()
                lives.start()
                values = lives.values()
                assert [zone] == values["zones"]
                assert calibrated == values["calibration"]["points"]
                assert (masks if number else []) == values["privacy_masks"]
        finally:
            lives.end()
