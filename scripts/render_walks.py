#!/usr/bin/env python3
"""Render sequences of a camera that stands still while people walk through its view, with true depth.

usage: scripts/render_walks.py FOLDER [--count 20] [--first N]
       scripts/evaluate_scene.py --folder FOLDER/*          scores the scene on them

Every number is a place, a camera and two people of its own seed, none of which the starter weights were trained on
(scripts/render_scenes.py makes those, with the same shapes). 62 pictures at 2 a second: nine seconds of the empty view,
somebody who comes as near as 0.9 to 1.6 m and leaves, nobody, somebody else. The camera follows the light by itself,
with noise and JPEG. A folder each, in the layout that scripts/evaluate_scene.py describes; one that is complete is left
alone. About ten seconds of one core a sequence.

Needs embreex, as scripts/render_scenes.py does.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from render_scenes import choose_view, middle, shouldered
from scene_outdoors import porch
from scene_people import person
from scene_rooms import corridor, room
from scene_shapes import Dice, Thing, put
from scene_textures import Bank, bank
from scene_tracer import World, picture
from scene_views import Place, View

from edge.scene.metres import Lens

SEED = 30301
FPS = 2.0
FRAMES = 62
VISITS = ((18, 34), (42, 56))  # the first frame with each person, and the first without
PLACES = (room, corridor, porch)
PICTURE, TRUTH = (320, 240), (256, 192)
HIGHEST_TILT = 0.5  # radians: a camera that watches a room looks ahead
LOWEST_EYE = 0.9  # metres
FARTHEST = 60.0  # metres: the sky is no farther
MIDDLE = 0.16  # of full scale: what the camera's automatic exposure makes of the middle brightness
SENSOR_NOISE = 1.5  # grey levels, standard deviation
AWAY = (0.0, 0.0, -300.0)  # out of sight: the world keeps its textures only with all of its parts
Spot = tuple[float, float, float]  # x, y on the floor, and where one looks
Floats = np.ndarray


class Stage:
    """A place with a camera, and two people who can be put into it."""

    def __init__(self, number: int, tiles: Bank) -> None:
        dice = Dice(SEED, number)
        self._place: Place = PLACES[number % len(PLACES)](dice)
        self._tiles, self._seed = tiles, int(dice.rng.integers(2**30))
        self._people = [person(dice, False) for _ in VISITS]
        self.view = self._choose(dice)

    def _choose(self, dice: Dice) -> View:
        empty = self._world(list(self._place.parts))
        for _ in range(20):
            view = choose_view(empty, self._place, dice)
            if view.eye[2] > LOWEST_EYE and abs(view.tilt) < HIGHEST_TILT:
                return replace(view, barrel=0.0, roll=0.0)
        raise RuntimeError("no camera of this place looks ahead")

    def _world(self, parts: Thing) -> World:
        return World(self._place, parts, self._tiles, np.random.default_rng(self._seed))

    def shoot(self, spots: list[Spot | None]) -> tuple[Floats, Floats]:
        """Return linear light, (h, w, 3), and metres along the axis, (h, w), with each person at a spot or nowhere."""
        parts = list(self._place.parts)
        for who, spot in zip(self._people, spots, strict=True):
            parts += put(who, AWAY) if spot is None else put(who, (spot[0], spot[1], 0.0), spot[2])
        light, metres = picture(self._world(parts), self.view)
        light = np.nan_to_num(cv2.resize(light, PICTURE, interpolation=cv2.INTER_AREA))
        return light, np.minimum(cv2.resize(metres, TRUTH, interpolation=cv2.INTER_NEAREST), FARTHEST)


def walk(view: View, farthest: float, rng: np.random.Generator) -> Callable[[float], Spot]:
    """Return where somebody is at a share of the visit: from far on one side to near and away on the other."""
    start, end = rng.uniform(-0.45, 0.45, 2) * view.fov
    near = rng.uniform(0.9, 1.6)

    def spot(share: float) -> Spot:
        forward = farthest + (near - farthest) * math.sin(math.pi * share)
        x, y = view.ahead(forward * math.tan(start + (end - start) * share), forward)
        return x, y, view.yaw + (0.0 if share < 0.5 else math.pi)

    return spot


def developed(light: Floats, exposure: float, rng: np.random.Generator) -> Floats:
    """Return what a camera makes of linear light, uint8 (h, w, 3) RGB: tone curve, noise."""
    toned = np.clip(shouldered(np.maximum(light * exposure, 0)), 0, 1) ** (1 / 2.2)
    return np.clip(255 * toned + rng.normal(0, SENSOR_NOISE, light.shape), 0, 255).astype(np.uint8)


def points(metres: Floats, view: View) -> list[dict[str, float]]:
    """Return three places of the empty view that are even enough to be measured: near, middle and far in 1/m.

    Raises:
        RuntimeError: there are none.
    """
    uneven = cv2.morphologyEx(metres.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((15, 15))) > 0.08 * metres
    uneven |= metres > 15
    uneven[:10] = uneven[-10:] = uneven[:, :10] = uneven[:, -10:] = True
    rows, columns = np.nonzero(~uneven)
    if rows.size < 50:
        raise RuntimeError("no place of this view is even enough to be measured")
    inverse = 1 / metres[rows, columns]
    low, high = np.percentile(inverse, (3, 97))
    if high < 1.5 * low:
        raise RuntimeError("what could be measured of this view is all equally far")
    lens, found = Lens(fov_deg=math.degrees(view.fov), aspect=TRUTH[1] / TRUTH[0]), []
    for wanted in (high, (low + high) / 2, low):
        chosen = int(np.argmin(np.abs(inverse - wanted)))
        x, y = (columns[chosen] + 0.5) / TRUTH[0], (rows[chosen] + 0.5) / TRUTH[1]
        along_ray = lens.stretch(x, y) / inverse[chosen]
        found.append({"x": round(float(x), 3), "y": round(float(y), 3), "metres": round(float(along_ray), 3)})
    return found


def write(path: Path, image: Floats, *options: Any) -> None:
    """Write a picture, BGR or 16 bits."""
    if not cv2.imwrite(str(path), image, *options):
        raise OSError(f"{path}: can't be written")


def render(folder: Path, number: int, tiles: Bank) -> None:
    """Render one sequence.

    Raises:
        RuntimeError: the place offers no view to watch.
    """
    stage, rng = Stage(number, tiles), np.random.default_rng((SEED, number))
    empty, room_metres = stage.shoot([None, None])
    facts = {
        "fps": FPS,
        "horizontal_fov_deg": round(math.degrees(stage.view.fov), 2),
        "learn_seconds": 6.0,
        "points": points(room_metres, stage.view),
    }
    farthest = min(5.5, 1.1 * float(np.median(room_metres)))
    walks = [walk(stage.view, farthest, rng) for _ in VISITS]
    for name in ("pictures", "figures"):
        (folder / name).mkdir(parents=True)
    write(folder / "room.png", np.round(1000 * room_metres).astype(np.uint16))
    exposure = MIDDLE / middle(empty)
    for frame in range(FRAMES):
        spots = [
            path((frame - first) / (last - first)) if first <= frame < last else None
            for path, (first, last) in zip(walks, VISITS, strict=True)
        ]
        light, metres = (empty, room_metres) if spots == [None, None] else stage.shoot(spots)
        exposure += 0.6 * (MIDDLE / middle(light) - exposure)
        seen = developed(light, exposure, rng)[..., ::-1]
        write(folder / "pictures" / f"{frame:03d}.jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, 88])
        if spots != [None, None]:
            figures = np.where(metres < 0.97 * room_metres, metres, 0)
            write(folder / "figures" / f"{frame:03d}.png", np.round(1000 * figures).astype(np.uint16))
    (folder / "sequence.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> int:
    """Render the sequences that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first number")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    tiles = bank(SEED)
    for number in range(args.first, args.first + args.count):
        name = f"{number:02d}-{PLACES[number % len(PLACES)].__name__}"
        folder = args.folder / name
        if (folder / "sequence.json").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        try:
            render(folder, number, tiles)
        except RuntimeError as error:
            print(f"{name}: left out: {error}", flush=True)
            continue
        print(name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
