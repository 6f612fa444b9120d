"""See it work: the whole daemon with a broker of its own and the page; nothing to configure.

Without --camera it plays a rendered clip of a camera that stands still, whose true distances are known and shown beside
what is read. --photos shows real photographs, one after another, each read by itself as with a moving camera.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands import thirds

if TYPE_CHECKING:
    from edge.config import Config
    from edge.daemon import Daemon
    from edge.records import Reading

_REDRAW_SECONDS = 0.25
_SWITCHED = {True: "ON", False: "off", None: "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--camera",
        metavar="SOURCE",
        help="picamera2, /dev/videoN, rtsp://…, http://…, a video file or a folder; it must stand still",
    )
    source.add_argument("--photos", action="store_true", help="show real photographs instead of the rendered clip")
    parser.add_argument("--moving", action="store_true", help="with --camera: the camera does not stand still")
    parser.add_argument("--weights", default="auto", metavar="FILE", help="a weights file, or a known name")
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself after N seconds")


def main(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or for the time asked for; return 0."""
    from edge.config import state_directory
    from edge.system.owner import become_owner

    become_owner(state_directory())
    print("starting: loading the network …", flush=True)
    from edge.daemon import Daemon
    from edge.publish.embedded_broker import EmbeddedBroker
    from edge.state.place import Place

    logging.getLogger().setLevel(logging.WARNING)  # the table says the rest
    clip = None if args.camera or args.photos else Clip()
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as state:
        table = _Table(broker.port, clip)
        place = Place(Path(state), "demo")
        daemon = Daemon(_configuration(args, clip, broker.port), consumers=(table.show,), place=place)
        table.daemon = daemon
        daemon.run(args.seconds)
    table.sum_up()
    return 0


class Clip:
    """The rendered clip and what is true in it."""

    def __init__(self) -> None:
        folder = Path(str(resources.files("edge"))) / "data" / "clip"
        self.path = folder / "clip.mp4"
        self.facts: dict[str, Any] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))

    def true_metres(self, sequence: int) -> float | None:
        """Return the true distance of the nearest figure in the frame with that sequence number, or null."""
        frames = self.facts["frames"]
        figure = frames[(sequence - 1) % len(frames)]
        return float(figure["metres"]) if figure else None


def _configuration(args: argparse.Namespace, clip: Clip | None, port: int) -> "Config":
    from edge.config import Config

    values: dict[str, Any] = {
        "id": "demo",
        "name": "edge-depth demo",
        "model": {"weights": args.weights},
        "zones": tuple(zone.model_dump() for zone in thirds()),
        "heatmap": {"interval": 0.25},
        "publish": {"health_interval": 5.0},
        "mqtt": {"host": "127.0.0.1", "port": port, "protocol": "3.1.1"},
        "power": {"max_rss": None},  # nobody would start it again
        "web": {"listen": "127.0.0.1:0"},
    }
    if clip:
        values |= _clip_sections(clip)
    elif args.photos:
        photos = Path(str(resources.files("edge"))) / "data" / "photos"
        values |= {"camera": {"source": str(photos), "fps": 1.0}, "scene": {"mode": "moving"}}
    else:
        values |= {"camera": {"source": args.camera}, "scene": {"mode": "moving" if args.moving else "still"}}
    return Config.model_validate(values)


def _clip_sections(clip: Clip) -> dict[str, Any]:
    facts = clip.facts
    return {
        "camera": {"source": str(clip.path), "fps": float(facts["fps"])},
        "scene": {"learn_seconds": float(facts["learn_seconds"]), "horizontal_fov_deg": facts["horizontal_fov_deg"]},
        "calibration": {"points": tuple(facts["points"])},
        "triggers": ({"name": "someone-near", "near": 2.0},),
    }


class _Table:
    """What the terminal shows: redrawn in place on a terminal, a line for each reading elsewhere."""

    daemon: "Daemon"

    def __init__(self, port: int, clip: Clip | None) -> None:
        self._port = port
        self._clip = clip
        self._live = sys.stdout.isatty()
        self._due = 0.0
        self._lines = 0
        self._readings = 0

    def show(self, reading: "Reading") -> None:
        """Show a reading; called with each of them."""
        self._readings += 1
        now = time.monotonic()
        if self._readings == 1:
            self._introduce()
        if now < self._due:
            return
        self._due = now + _REDRAW_SECONDS
        if self._live:
            lines = self._rows(reading)
            print(
                (f"\x1b[{self._lines}A" if self._lines else "") + "".join(f"\x1b[2K{line}\n" for line in lines), end=""
            )
            self._lines = len(lines)
        else:
            print(self._line(reading))
        sys.stdout.flush()

    def sum_up(self) -> None:
        """Say what there was, at the end."""
        publisher = self.daemon.publisher
        sent = publisher.published if publisher else 0
        print(f"{self._readings} readings, {sent} messages published under {self.daemon.topics.root}/#")

    def _introduce(self) -> None:
        web = self.daemon.web
        print(f"page      {web.url if web else ''}")
        print(f"topics    mosquitto_sub -h 127.0.0.1 -p {self._port} -t '{self.daemon.topics.root}/#' -v")
        print(f"weights   {self.daemon.board.info()['weights']['name']}")
        if self._clip:
            print(f"picture   {self._clip.facts['note']}")
        print("no object is recognised, only what is near; without a calibration readings are relative\n")

    def _rows(self, reading: "Reading") -> list[str]:
        scene, numbers = reading.scene, self.daemon.statistics.snapshot()
        publisher = self.daemon.publisher
        rows = [
            f"scene     {scene.state}  {_progress(scene.progress)}{scene.reason or ''}",
            f"nearest   {_nearest(reading)}{self._truth(reading)}",
            *(f"  {zone.name:<8}{_zone(zone)}" for zone in scene.zones),
            *(f"trigger   {trigger.name} {_SWITCHED[trigger.on]}" for trigger in reading.triggers),
            f"speed     {numbers['fps']:.1f} fps, {scene.depth.inference_seconds * 1000:.0f} ms network, "
            f"{reading.latency_seconds * 1000:.0f} ms camera to reading",
            f"sent      {publisher.published if publisher else 0} messages, frame {reading.frame.sequence}",
        ]
        return [row[:110] for row in rows]

    def _line(self, reading: "Reading") -> str:
        zones = "  ".join(f"{zone.name} {_zone(zone).strip()}" for zone in reading.scene.zones)
        milliseconds = reading.scene.depth.inference_seconds * 1000
        triggers = "".join(f"  |  {trigger.name} {_SWITCHED[trigger.on]}" for trigger in reading.triggers)
        nearest = f"{_nearest(reading)}{self._truth(reading)}"
        return f"{reading.scene.state:<9} nearest {nearest}  |  {zones}{triggers}  |  {milliseconds:.0f} ms"

    def _truth(self, reading: "Reading") -> str:
        """Return the true distance beside the one that was read, where the clip knows it."""
        if self._clip is None or reading.scene.state != "tracking":
            return ""
        metres = self._clip.true_metres(reading.frame.sequence)
        return "  (truly nobody)" if metres is None else f"  (truly {metres:.2f} m)"


def _nearest(reading: "Reading") -> str:
    scene = reading.scene
    if scene.zone_order:
        return f"{scene.zone_order[0]:<8}"
    if scene.nearest is None:
        return "nothing"
    region = scene.nearest
    if region.distance_m is None:
        return f"nearness {region.nearness:.2f}"
    error = "" if region.uncertainty_m is None else f" +- {region.uncertainty_m:.2f}"
    return f"{region.distance_m:.2f}{error} m"


def _zone(zone: Any) -> str:
    level = zone.prominence if zone.prominence is not None else zone.surface
    if level is None:
        return "    -"
    bar = "█" * max(0, min(30, round(10 * (level + 0.5))))
    return f"{level:5.2f} {bar}{'  occupied' if zone.occupied else ''}"


def _progress(progress: float | None) -> str:
    return "" if progress is None else f"{progress:.0%}  "
