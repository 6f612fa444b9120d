"""Fill a state directory with this version: `.venv/bin/python tests/data/upgrade/make.py FOLDER`, from the root.

It was run once, with the last version that named its files by the id (8831725); `state/` and `expected.json` are what
it left. Made anew with a later version it would prove nothing.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

from edge.config import load
from edge.daemon import Daemon
from edge.daemon.overlay import in_force
from edge.depth.weights import STARTER
from edge.publish.homeassistant import discovery
from edge.scene.metres import calibrate, read_points
from edge.state.stores import ReferenceStore
from edge.system.machine import machine_name
from tests.broker import Mosquitto, Subscriber, eventually

HERE = Path(__file__).parent
ROOT = "edge-depth/hall"
MASK = [[0.0, 0.0], [0.3, 0.0], [0.3, 0.4], [0.0, 0.4]]
ZONES = [
    {"name": "left", "polygon": [[0.0, 0.4], [0.4, 0.4], [0.4, 1.0], [0.0, 1.0]]},
    {"name": "door", "polygon": [[0.5, 0.1], [0.9, 0.1], [0.9, 1.0], [0.5, 1.0]]},
]
TRIGGERS = [
    {"name": "visitor", "zone": "door", "measure": "metres", "near": 2.0},
    {"name": "anything", "measure": "nearness", "near": 0.9, "clear": 0.7, "on_delay": 0.0, "min_frames": 1},
]


def fill(folder: Path) -> None:
    """Write `state/` and `expected.json` into a folder."""
    truth = json.loads(Path("edge/data/clip/truth.json").read_text())
    with Mosquitto(folder / "mosquitto") as broker, Subscriber(broker.port, "#") as heard:
        file = folder / "config.yaml"
        text = (HERE / "config.yaml").read_text()
        file.write_text(text.replace("0.0.0.0:8080", "127.0.0.1:0").replace("1883", str(broker.port)))
        daemon = Daemon(load(file), state=folder / "state")
        expected = {}
        work = threading.Thread(target=lambda: expected.update(set_up(daemon, heard, truth)))
        work.start()
        daemon.run()
        work.join()
    os.environ["STATE_DIRECTORY"] = str(folder / "state")
    config = in_force(HERE / "config.yaml").config
    (device,) = discovery(config, daemon.topics, calibrated=config.calibration.given, machine=machine_name())
    expected["device"] = {"topic": device.topic, "payload": json.loads(device.payload)}
    saved = ReferenceStore(folder / "state", "hall").load(0.0)
    median, sigma, points = saved["median"], saved["sigma"], config.calibration.points
    fit = calibrate(config.calibration, median, sigma, config.scene.horizontal_fov_deg, 288 / 384, STARTER.depth_error)
    expected["read_m"] = [round(read.distance_m, 4) for read in read_points(fit, points, median, sigma)]
    expected["learned_at"] = saved["learned_at"]
    expected["states"] = json.loads((folder / "state" / "triggers-hall.json").read_text())["triggers"]
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def set_up(daemon: Daemon, heard: Subscriber, truth: dict) -> dict:
    """Set everything that can be set, as an owner does, and return what then holds."""
    try:
        eventually(lambda: daemon.web.url and daemon.scene.reference, "a background", 90)
        ask(daemon, "apply", {"privacy_masks": [MASK], "zones": ZONES[:1], "triggers": TRIGGERS[1:]})
        ask(daemon, "apply", {"zones": ZONES, "triggers": TRIGGERS})  # so that there is something to undo
        heard.publish(f"{ROOT}/trigger/visitor/near/set", "1.7")
        heard.publish(f"{ROOT}/interval/set", "2.5")
        eventually(lambda: daemon.scene.reference, "a background behind the mask", 90)
        heard.publish(f"{ROOT}/request/calibrate", json.dumps({"points": truth["points"]}))
        eventually(lambda: heard.payloads(f"{ROOT}/response/calibrate"), "an answer", 30)
        answer = json.loads(heard.payloads(f"{ROOT}/response/calibrate")[0])
        assert answer["ok"], answer
        time.sleep(20)  # until all of it is written, and somebody was seen
        return {
            "set": daemon.overlay.values,
            "topics": sorted({message.topic for message in heard.heard if message.topic.startswith(ROOT)}),
        }
    finally:
        daemon.stop()


def ask(daemon: Daemon, command: str, values: dict) -> None:
    """Have the page change something."""
    key = {"Authorization": "Bearer 0123456789abcdef"}
    with urllib.request.urlopen(urllib.request.Request(f"{daemon.web.url}api/setup", headers=key)) as answer:
        state = json.load(answer)
    body = json.dumps(values | {"revision": state["revision"]}).encode()
    headers = key | {"X-CSRF-Token": state["proof"]}
    with urllib.request.urlopen(
        urllib.request.Request(f"{daemon.web.url}api/setup/{command}", body, headers)
    ) as answer:
        assert json.load(answer)["written"]


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
