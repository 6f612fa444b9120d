"""What the page's tests have in common: a board with invented readings, and a set-up without camera and network.

Board, scene, overlay and set-up are the real ones; only what the network would say is made up.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge.config import Config, HeatmapSection, WebSection
from edge.daemon.overlay import Overlay
from edge.daemon.setup import Setup
from edge.publish import heatmap
from edge.publish.messages import state_json
from edge.records import DepthMap, Frame, Reading, Region, Scene, ZoneScene
from edge.results import Board
from edge.scene import StillScene, make_scene
from edge.scene.triggers import Triggers
from edge.state.stores import OverlayStore
from edge.web import WebServer

NEAR = Region(
    nearness=0.82, box=(0.3, 0.2, 0.6, 0.9), centroid=(0.45, 0.6), area=0.12, zones=("door",), bearing_deg=-12
)
ZONES = (
    ZoneScene(name="door", occupied=True, nearness=0.82, coverage=0.41, surface=0.9),
    ZoneScene(name="window", occupied=False, coverage=0.0, surface=0.3),
)
STARTER = {"name": "starter-v2", "note": "starter weights: a small network; small things are blurred"}
INFO = {
    "name": "Front door",
    "version": "0.1.0",
    "weights": {"name": "midas_v21_small_256", "note": ""},
    "engine": "torch",
    "threads": 4,
    "config_hash": "1",
}
HEALTH = {
    "fps": 4.6,
    "inference_ms": {"p50": 112.3, "p95": 120.0},
    "latency_ms": {"p50": 131.0, "p95": 140.0},
    "temperature_c": 61.2,
    "throttled": False,
    "rss_mb": 512.0,
    "dropped": 2,
    "mqtt_connected": True,
    "mqtt_problem": None,
    "camera": "online",
}
DOOR = ((0.2, 0.2), (0.6, 0.2), (0.6, 0.95), (0.2, 0.95))
WINDOW = ((0.7, 0.1), (0.95, 0.1), (0.95, 0.4), (0.7, 0.4))


def room(sequence: int, *, visitor: bool = True) -> DepthMap:
    """Return an invented room: a floor that comes nearer downwards, and a visitor in front of it."""
    y, x = np.mgrid[0:1:192j, 0:1:256j]
    noise = np.random.default_rng(sequence).normal(0, 0.004, (192, 256))
    depth = 0.15 + 0.75 * np.clip(y - 0.35, 0, 1) + 0.1 * np.abs(x - 0.5) + noise
    pixels = np.repeat((255 * np.stack([0.25 + 0.5 * y, 0.3 + 0.3 * x, 0.5 - 0.3 * y], -1)).astype(np.uint8), 2, 0)
    pixels = np.repeat(pixels, 2, 1)
    if visitor:
        figure = ((x - 0.45) * 1.9) ** 2 + (y - 0.58) ** 2 < 0.09
        depth[figure] = 0.64
        pixels[np.repeat(np.repeat(figure, 2, 0), 2, 1)] = (228, 190, 150)
    frame = Frame(
        sequence=sequence,
        captured_at=time.monotonic(),
        wall_time=datetime.now(UTC),
        pixels=np.ascontiguousarray(pixels),
    )
    return DepthMap(frame=frame, inverse_depth=depth.astype(np.float32), inference_seconds=0.11, weights="made-up")


class MadeBoard(Board):
    """A board that shows what a test writes on it; begins with a live reading."""

    def __init__(self) -> None:
        self.values = dict(HEALTH)
        self.drawn: tuple[int, bytes] | None = None
        super().__init__(dict(INFO), lambda: self.values, lambda: self.drawn)
        self.sequence = 0
        self.on_watch = self.show_all
        self._scene: Scene | None = None
        self.write(regions=(NEAR,), zones=ZONES)

    def write(self, state="tracking", quality=0.93, triggers=(), **scene) -> None:
        """Show a new reading of an invented scene, and its pictures."""
        self.sequence += 1
        depth = room(self.sequence)
        aligned = depth.inverse_depth if state == "tracking" else None
        self.put_scene(
            Scene(depth=depth, state=state, quality=quality, aligned=aligned, surface=0.9, **scene), triggers
        )

    def put_scene(self, scene: Scene, triggers=()) -> None:
        self._scene = scene
        self.put(state=state_json(Reading(scene=scene, latency_seconds=0.131, dropped=2, triggers=tuple(triggers))))
        picture = heatmap.render(scene, HeatmapSection(width=768))
        self.drawn = scene.depth.frame.sequence, heatmap.encode_jpeg(picture, 80)
        self.show_all()

    def show_all(self) -> None:
        section = HeatmapSection(width=640, legend=False)
        for view in self.wanted():
            if view == "picture":
                picture = heatmap.render_picture(self._scene.depth.frame, section)
            else:
                picture = heatmap.render(self._scene, section.model_copy(update={"overlay": view == "blend"}))
            self.show(view, heatmap.encode_jpeg(picture, 80))

    def age(self, seconds: float) -> None:
        """Let the newest reading be that old."""
        state = dict(self.state())
        state["time"] = datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()
        self.put(state=state)


class MadeEstimator:
    """Says that what is bright is near; counts how often it was asked, and can be held up."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = threading.Event()
        self.go.set()

    def estimate(self, frame: Frame, until: float) -> DepthMap:
        self.asked += 1
        self.go.wait(max(0.0, until - time.monotonic()))
        grey = frame.pixels.mean(axis=2).astype(np.float32)
        step = max(1, max(grey.shape) // 128)
        depth = np.ascontiguousarray(grey[::step, ::step])
        return DepthMap(frame=frame, inverse_depth=depth, inference_seconds=0.05, weights="made-up")


class Works:
    """As much of the daemon as the set-up needs: an overlay, a learned scene and triggers."""

    def __init__(self, state: Path, **sections) -> None:
        values = {
            "scene": {"learn_seconds": 1.0, "horizontal_fov_deg": 60.0},
            "zones": ({"name": "door", "polygon": DOOR}, {"name": "window", "polygon": WINDOW}),
            "triggers": ({"name": "visitor", "zone": "door", "measure": "nearness", "near": 0.9, "clear": 0.8},),
        }
        self.overlay = Overlay(Config.model_validate(values | sections), OverlayStore(state / "overlay.json"))
        self.applied = 0
        self._lock = threading.Lock()
        self._setup = Setup(self)
        self.scene: StillScene
        self.apply()

    def apply(self) -> None:
        """Take what the overlay says: learn the empty room in no time, and see the visitor."""
        self.applied += 1
        config = self.overlay.config
        self.scene = make_scene(config.scene, config.zones, config.calibration)
        self.triggers = Triggers(config.triggers)
        begun = time.monotonic()
        for i in range(30):
            depth = room(i, visitor=False)
            frame = Frame(
                sequence=i, captured_at=begun + i / 10, wall_time=depth.frame.wall_time, pixels=depth.frame.pixels
            )
            self.scene.update(
                DepthMap(frame=frame, inverse_depth=depth.inverse_depth, inference_seconds=0.1, weights="made-up")
            )
        self._at = begun + 4

    def see(self, *, visitor: bool = True) -> tuple[Scene, tuple]:
        """Return the scene and the triggers with or without a visitor."""
        self._at += 1
        depth = room(1000, visitor=visitor)
        frame = Frame(sequence=1000, captured_at=self._at, wall_time=datetime.now(UTC), pixels=depth.frame.pixels)
        scene = self.scene.update(
            DepthMap(frame=frame, inverse_depth=depth.inverse_depth, inference_seconds=0.1, weights="made-up")
        )
        return scene, self.triggers.update(scene)

    def ask(self, command, arguments):
        """Obey a command of the page, as the desk does between two frames."""
        obey = {"setup": self._setup.current, "propose": self._setup.propose, "apply": self._setup.apply}
        obey["confirm"] = self._setup.confirm
        with self._lock:
            answer = (obey | {"undo": self._setup.undo, "relearn": lambda _: {}})[command](arguments)
            self.see()
        return answer


@contextmanager
def serving(board: Board, estimator=None, counter=None, **web) -> Iterator[WebServer]:
    """Serve the page of a board on a free port of this machine."""
    section = WebSection(**({"listen": "127.0.0.1:0"} | web))
    server = WebServer(section, board, estimator=estimator or MadeEstimator(), counter=counter)
    server.start()
    try:
        yield server
    finally:
        server.stop()
