#!/usr/bin/env python3
"""Score the scene on sequences with true depth: distances, triggers, jitter, drift and cost.

usage: scripts/evaluate_scene.py [--folder DIR … [--weights FILE]] [--long] [--cost] [--json]

Without a folder the sequences are made: a room and figures with exact depth. Each is read through "truth": its true
inverse depth, blurred by 1 px, with 2 % of noise and a scale and shift of its own in every frame, so that what is left
is the scene's own error. A folder's pictures are read through the weights too, and once more by their depth alone,
without what the scene learns of the pictures; several folders are also taken together. Distances count between 0.5 and
4 m, and are calibrated at the sequence's static points by an exact tape; `within` is the share that is off by no more
than the uncertainty that is told. Right of the bar stands the plain reading of each frame by itself: its min-max,
calibrated once on the empty room, read where the nearest figure truly is.

--long adds 20,000 noisy frames of the empty room; --cost the scene's time against that of MiDaS small (torch float32,
made-up weights, 256x192).

DIR holds
    sequence.json   {"fps": 2, "horizontal_fov_deg": 66, "learn_seconds": 6,
                     "points": [{"x": 0.5, "y": 0.9, "metres": 2.0}, ...]}
    room.png        16 bits: millimetres along the optical axis to the empty room
    pictures/N.jpg  what the camera saw, in the order of their names (or .png)
    figures/N.png   16 bits: millimetres to the figures where one is seen, 0 elsewhere; none for a picture without
Points are static, at fractions of the frame, with metres along the ray.
"""

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.config import CalibrationSection, ModelSection, SceneSection, TriggerSection
from edge.depth.engines.pytorch import TorchEngine
from edge.depth.model import load_model, network_pixels
from edge.depth.weights import OFFICIAL
from edge.errors import EdgeError
from edge.evaluation import (
    MADE,
    Compared,
    Sequence,
    TrueRegion,
    jitter,
    made,
    read_sequence,
    score_distances,
    score_trigger,
    true_nearest,
)
from edge.records import Box, DepthMap, Floats, Frame
from edge.scene import StillScene
from edge.scene.metres import nearness_at
from edge.scene.triggers import Triggers

ROOT = Path(__file__).resolve().parents[1]
TRIGGER = TriggerSection(name="near", near=1.5)
NOISE = 0.02  # of the inverse depth
LONG_FRAMES = 20_000

# ------------------------------------------------------------------------------------------------------------- reading


def lines(seed: int) -> Iterator[tuple[float, float]]:
    """Yield a scale and a shift for each frame, as a network chooses them."""
    random = np.random.default_rng(seed)
    while True:
        yield float(10 ** random.uniform(1, 3)), float(random.uniform(-100, 400))


def noisy(depth: Floats, random: np.random.Generator) -> Any:
    """Return inverse depth in 1/m of metres, float32 (h, w), blurred by 1 px, with noise."""
    blurred = cv2.GaussianBlur(1 / depth, (0, 0), 1.0)
    return blurred * (1 + NOISE * random.standard_normal(depth.shape, np.float32))


def frames_of(sequence: Sequence) -> Iterator[Frame]:
    """Yield the frames."""
    for number, picture in enumerate(sequence.pictures):
        yield Frame(sequence=number, captured_at=number / sequence.fps, wall_time=datetime.now(UTC), pixels=picture)


def true_maps(sequence: Sequence) -> list[DepthMap]:
    """Return the sequence as a perfect network would show it, but for noise, scale and shift."""
    random = np.random.default_rng(1)
    return [
        depth_map(frame, scale * noisy(sequence.depth(frame.sequence), random) + shift)
        for frame, (scale, shift) in zip(frames_of(sequence), lines(2), strict=False)
    ]


def depth_map(frame: Frame, values: Any) -> DepthMap:
    """Return a depth map of float32."""
    return DepthMap(
        frame=frame,
        inverse_depth=values.astype(np.float32),
        inference_seconds=0.0,
        weights="truth",
        picture=network_pixels(frame.pixels),
    )


def make_scene(sequence: Sequence) -> StillScene:
    """Return a scene, calibrated at the sequence's points."""
    section = SceneSection(learn_seconds=sequence.learn_seconds, horizontal_fov_deg=sequence.lens.fov_deg)
    return StillScene(section, (), CalibrationSection(points=sequence.points))


def truth(sequence: Sequence, number: int) -> TrueRegion | None:
    """Return the nearest figure of a frame, if one is large enough to count."""
    figures = sequence.figures[number]
    return None if figures is None else true_nearest(figures, sequence.lens, SceneSection().min_area)


def read_scene(sequence: Sequence, maps: Iterable[DepthMap]) -> list[Compared]:
    """Return what the scene reads of each frame once it has learned."""
    scene, triggers, frames = make_scene(sequence), Triggers((TRIGGER,)), []
    for depth in maps:
        result = scene.update(depth)
        (trigger,) = triggers.update(result)
        if result.state == "learning":
            continue
        number, nearest = depth.frame.sequence, result.nearest
        true = truth(sequence, number)
        frames.append(
            Compared(
                read_m=nearest.distance_m if nearest else None,
                error_m=nearest.uncertainty_m if nearest else None,
                true_m=true.metres if true else None,
                empty=sequence.figures[number] is None,
                surface=result.surface,
                on=trigger.on,
            )
        )
    return frames


def read_plainly(sequence: Sequence, maps: Iterable[DepthMap]) -> list[Compared]:
    """Return what each frame's min-max reads, calibrated on the first empty frame after the time for learning."""
    frames: list[Compared] = []
    line = None
    for depth in maps:
        number, d = depth.frame.sequence, depth.inverse_depth
        empty, true = sequence.figures[number] is None, truth(sequence, number)
        plain = cv2.resize((d - d.min()) / np.ptp(d), sequence.room.shape[::-1], interpolation=cv2.INTER_LINEAR)
        if line is None and empty and number >= sequence.learn_seconds * sequence.fps:
            line = _plain_line(sequence, plain)
        if line is None:
            continue
        read = None if true is None else _plain_metres(sequence, number, true.box, plain, line)
        surface = float(np.percentile(plain, 99))
        frames.append(Compared(read_m=read, true_m=true.metres if true else None, empty=empty, surface=surface))
    return frames


def _plain_line(sequence: Sequence, plain: Any) -> Any:
    """Return slope and offset of 1/Z over the map's values at the static points."""
    values = [nearness_at(plain, np.zeros_like(plain), point.x, point.y)[0] for point in sequence.points]
    inverse = [sequence.lens.stretch(point.x, point.y) / point.metres for point in sequence.points]
    return np.polyfit(values, inverse, 1)


def _plain_metres(sequence: Sequence, number: int, box: Box, plain: Any, line: Any) -> float:
    """Return the median distance along the ray over the figure in the box."""
    figures = sequence.figures[number]
    assert figures is not None  # there is a box
    rows, columns = np.nonzero(figures)
    height, width = figures.shape
    x, y = (columns + 0.5) / width, (rows + 0.5) / height
    inside = (box[0] < x) & (x < box[2]) & (box[1] < y) & (y < box[3])
    inverse = np.maximum(np.polyval(line, plain[rows, columns]), 1e-3)  # 1 km where it says behind the camera
    return float(np.median((sequence.lens.stretch(x, y) / inverse)[inside]))


# ------------------------------------------------------------------------------------------------------------- results


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A sequence, or several, as read through something: by the scene, by it after a*d + b, and plainly."""

    through: str
    parts: list[tuple[Sequence, list[Compared], list[Compared], list[Compared]]]

    def row(self) -> dict[str, Any]:
        """Return the scores; jitter is the median of the sequences'."""
        sequences, reads, moved, plain = zip(*self.parts, strict=True)
        figures = [each for sequence in sequences for each in sequence.figures if each is not None]
        triggers = [score_trigger(read, TRIGGER, one.fps) for one, read in zip(sequences, reads, strict=True)]
        changes = [largest_change(*pair) for pair in zip(reads, moved, strict=True)]
        return {
            "sequence": sequences[0].name if len(sequences) == 1 else f"all {len(sequences)}",
            "through": self.through,
            "largest_figure": max(float((each > 0).mean()) for each in figures),
            "trigger": {key: sum(getattr(each, key) for each in triggers) for key in ("due", "missed", "false")},
            "change_under_affine": max((each for each in changes if each is not None), default=None),
            **readings(reads),
            "plain": readings(plain),
        }


def readings(reads: Iterable[list[Compared]]) -> dict[str, Any]:
    """Return the scores of the distances, and the jitter, of one or several sequences."""
    jitters = [each for each in map(jitter, reads) if each is not None]
    return {
        "distance": dataclasses.asdict(score_distances(list(itertools.chain(*reads)))),
        "jitter": statistics.median(jitters) if jitters else None,
    }


def evaluate(sequence: Sequence, through: str, maps: list[DepthMap]) -> Seen:
    """Read a sequence by the scene, again with every d replaced by a*d + b, and plainly."""
    read, moved = read_scene(sequence, maps), read_scene(sequence, affine(maps))
    return Seen(through=through, parts=[(sequence, read, moved, read_plainly(sequence, maps))])


def affine(maps: list[DepthMap]) -> Iterator[DepthMap]:
    """Yield the maps again, each with another scale and shift."""
    for depth, (scale, shift) in zip(maps, lines(3), strict=False):
        moved = scale * depth.inverse_depth.astype(np.float64) + shift
        yield dataclasses.replace(depth, inverse_depth=moved.astype(np.float32))


def largest_change(first: list[Compared], second: list[Compared]) -> float | None:
    """Return the largest relative difference of a distance between two readings; infinite where only one has one."""
    pairs = [(a.read_m, b.read_m) for a, b in zip(first, second, strict=True) if (a.read_m, b.read_m) != (None, None)]
    return max((abs(a / b - 1) if a and b else math.inf for a, b in pairs), default=None)


def drift(frames: int) -> dict[str, Any]:
    """Return what becomes of the metres, and of the trigger, over noisy frames of the empty room.

    Each figure is shown for two seconds at the beginning and at the end, and its distance averaged.
    """
    empty = made("empty", frames / 5)
    seconds, metres = 2.0, (0.8, 1.4, 2.0, 3.5)
    visits = [made("visit", seconds, (((0, 0.1, y), (seconds, 0.1, y)),)) for y in metres]
    scene, triggers, random, line = make_scene(empty), Triggers((TRIGGER,)), np.random.default_rng(4), lines(5)
    clock = itertools.count()

    def show(frame: Frame, depth: Floats) -> Any:
        number = next(clock)
        scale, shift = next(line)
        now = dataclasses.replace(frame, sequence=number, captured_at=number / empty.fps)
        return scene.update(depth_map(now, scale * noisy(depth, random) + shift))

    def visit(sequence: Sequence) -> float:
        shown = [show(frame, sequence.depth(frame.sequence)) for frame in frames_of(sequence)]
        return statistics.fmean(result.nearest.distance_m for result in shown)

    nobody = next(frames_of(empty))
    for _ in range(round(empty.fps * (empty.learn_seconds + 1))):
        show(nobody, empty.room)
    before = [visit(each) for each in visits]
    fired = regions = 0
    for _ in range(frames):
        result = show(nobody, empty.room)
        fired += triggers.update(result)[0].on is True
        regions += bool(result.regions)
    changes = [visit(each) / was - 1 for each, was in zip(visits, before, strict=True)]
    return {"frames": frames, "largest_change": max(map(abs, changes)), "fired": fired, "frames_with_regions": regions}


def cost(repeats: int = 40) -> dict[str, float]:
    """Return the milliseconds of a scene's frame and of the network's, and their ratio.

    The two run in turn, and the fastest of each counts: what else the machine does can only add.
    """
    sys.path.insert(0, str(ROOT))
    from tests.parity import checkpoint, picture

    engine = TorchEngine(ModelSection(), OFFICIAL.architecture, checkpoint())
    sequence = made("comes, stays", *MADE["comes, stays"])
    x = network_pixels(picture(*sequence.room.shape))
    scene, maps = make_scene(sequence), true_maps(sequence)
    learned = round(sequence.fps * 12)  # somebody is in the picture by then
    for depth in maps[:learned]:
        scene.update(depth)
    times = [(_milliseconds(engine.run, x), _milliseconds(scene.update, m)) for m in maps[learned : learned + repeats]]
    network, ours = (min(column) for column in zip(*times, strict=True))
    return {"network_ms": network, "scene_ms": ours, "ratio": ours / network, "threads": engine.threads}


def _milliseconds(function: Callable[[Any], Any], argument: Any) -> float:
    started = time.perf_counter()
    function(argument)
    return 1000 * (time.perf_counter() - started)


# ------------------------------------------------------------------------------------------------------------ the table


def percent(value: float | None) -> str:
    """Return a share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f}%"


COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "figure": lambda row: percent(row["largest_figure"]),
    "frames": lambda row: row["distance"]["frames"],
    "unread": lambda row: row["distance"]["unread"],
    "phantom": lambda row: row["distance"]["phantoms"],
    "median": lambda row: percent(row["distance"]["median"]),
    "p95": lambda row: percent(row["distance"]["p95"]),
    "within": lambda row: percent(row["distance"]["within"]),
    "due": lambda row: row["trigger"]["due"],
    "missed": lambda row: row["trigger"]["missed"],
    "false": lambda row: row["trigger"]["false"],
    "jitter": lambda row: percent(row["jitter"]),
    "|": lambda _: "|",
    "median ": lambda row: percent(row["plain"]["distance"]["median"]),
    "p95 ": lambda row: percent(row["plain"]["distance"]["p95"]),
    "jitter ": lambda row: percent(row["plain"]["jitter"]),
}


def report(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'sequence':<16}{'through':<16}" + "".join(f"{name.strip():>8}" for name in COLUMNS))
    for row in results["sequences"]:
        cells = "".join(f"{cell(row):>8}" for cell in COLUMNS.values())
        print(f"{row['sequence']:<16}{row['through']:<16}{cells}")
    print("\nwanted through truth: median <= 3 %, p95 <= 8 %, jitter <= 1 %, nothing missed, nothing false")
    change = max(row["change_under_affine"] or 0.0 for row in results["sequences"])
    print(f"every d replaced by a*d + b: distances change by {change:.1e} at the most")
    if "drift" in results:
        print(
            "{frames} noisy frames: distances change by {largest_change:.2%} (wanted < 1 %),".format(**results["drift"])
        )
        print(
            "    the trigger is on in {fired} of them, regions are seen in {frames_with_regions}".format(
                **results["drift"]
            )
        )
    if "cost" in results:
        line = (
            "scene {scene_ms:.1f} ms, network {network_ms:.1f} ms with {threads} threads: {ratio:.1%} (wanted <= 6 %)"
        )
        print(line.format(**results["cost"]))


def made_rows() -> list[dict[str, Any]]:
    """Return the scores of the made sequences."""
    sequences = (made(name, *MADE[name]) for name in MADE)
    return [evaluate(sequence, "truth", true_maps(sequence)).row() for sequence in sequences]


def folder_rows(folders: list[Path], weights: str) -> list[dict[str, Any]]:
    """Return the scores of each folder's sequence and of all: through truth, network, and the network's depth alone."""
    model = load_model(ModelSection(weights=weights))
    seen = []
    for folder in folders:
        sequence = read_sequence(folder)
        maps = [model.estimate(frame) for frame in frames_of(sequence)]
        alone = [dataclasses.replace(depth, picture=None) for depth in maps]
        name = model.weights.name
        for through, shown in (("truth", true_maps(sequence)), (name, maps), ("by depth alone", alone)):
            seen.append(evaluate(sequence, through, shown))
    if len(folders) > 1:
        for through in dict.fromkeys(each.through for each in seen):
            parts = [part for each in seen if each.through == through for part in each.parts]
            seen.append(Seen(through=through, parts=parts))
    return [each.row() for each in seen]


def main() -> int:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, metavar="DIR", nargs="+", help="sequences of pictures with true depth")
    parser.add_argument("--weights", default="auto", metavar="FILE", help="what to read the pictures with")
    parser.add_argument("--long", action="store_true", help="20,000 noisy frames, some minutes")
    parser.add_argument("--cost", action="store_true", help="the scene's time against the network's")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    args = parser.parse_args()
    try:
        rows = folder_rows(args.folder, args.weights) if args.folder else made_rows()
    except EdgeError as error:
        sys.exit(str(error))
    results: dict[str, Any] = {"sequences": rows}
    if args.long:
        results["drift"] = drift(LONG_FRAMES)
    if args.cost:
        results["cost"] = cost()
    if args.json:
        print(json.dumps(results, indent=1))
    else:
        report(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
