#!/usr/bin/env python3
"""Render pictures with true depth to train the starter weights on: rooms, desks, streets, porches, all made here.

usage: scripts/render_scenes.py [--count N] [--first N] [--folder DIR]
       scripts/render_scenes.py --sheet FILE [--folder DIR]     a contact sheet of what is there, to look at

Every number is a scene of its own seed: NNNNNN.png, 320x240; NNNNNN.depth.png, 16 bits, inverse depth along the optical
axis, value = 65535 * NEAREST / metres (0 = sky); and NNNNNN.json, the camera (`View`). What is there is left alone,
and the picture is written last, so any number of processes may share a folder, be killed and started again: each claims
a number before it renders. A picture takes 0.4 to 0.8 s of one core.

Needs embreex (Embree as a Python module, for x86-64: the extra `train`).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
from scene_entrances import close_by, infrared, through_lens
from scene_places import PLACES, foreground
from scene_shapes import Dice
from scene_textures import Bank, bank
from scene_tracer import GRID, NOWHERE, World, picture, rays
from scene_views import Place, View

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "edge-depth" / "scenes"
SIZE = (320, 240)
NEAREST = 0.15  # metres: what is nearer counts as so near
SEED = 20261
CLAIM_SECONDS = 300  # a claim older than that belongs to a process that is gone
Floats = np.ndarray


def render(folder: Path, numbers: range) -> None:
    """Render the scenes of those numbers that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)  # processes share the work, not threads
    tiles = bank(SEED)
    for number in missing(folder, numbers):
        start = time.process_time()
        try:
            seen, inverse, view = one_scene(number, tiles)
        except RuntimeError as error:
            print(f"{number:06d}: left out: {error}", flush=True)
            (folder / f"{number:06d}.none").touch()
            continue
        write(folder, number, seen, inverse, view)
        print(f"{number:06d} {time.process_time() - start:.2f} s of CPU", flush=True)


def missing(folder: Path, numbers: range) -> Iterator[int]:
    """Claim and yield the numbers that nobody has rendered or is rendering."""
    for number in numbers:
        stem, claim = folder / f"{number:06d}", folder / f"{number:06d}.claim"
        if stem.with_suffix(".png").exists() or stem.with_suffix(".none").exists():
            continue
        if claim.exists() and time.time() - claim.stat().st_mtime > CLAIM_SECONDS:
            claim.unlink(missing_ok=True)
        try:
            claim.open("x").close()
        except FileExistsError:
            continue
        yield number
        claim.unlink(missing_ok=True)


def write(folder: Path, number: int, picture: np.ndarray, inverse: Floats, view: View) -> None:
    """Write the files, each by rename, the picture last: where it is, the others are complete."""
    (folder / f"{number:06d}.json").write_text(json.dumps(asdict(view)))
    scaled = np.round(65535 * np.clip(inverse * NEAREST, 0, 1)).astype(np.uint16)
    for name, array in ((f"{number:06d}.depth.png", scaled), (f"{number:06d}.png", picture[..., ::-1])):
        part = folder / f".{os.getpid()}.{name}"
        if not cv2.imwrite(str(part), array):
            raise OSError(f"{part}: can't be written")
        part.rename(folder / name)


def one_scene(number: int, bank: Bank) -> tuple[np.ndarray, Floats, View]:
    """Return the picture, uint8 (h, w, 3) RGB, inverse depth, float32 (h, w), 1/m, and the camera of a scene.

    Raises:
        RuntimeError: no camera of this scene sees enough.
    """
    dice = Dice(SEED, number)
    place = dice.pick(list(PLACES), list(PLACES.values()))(dice)
    place = replace(place, view=through_lens(place.view))
    parts = list(place.parts)
    view = choose_view(World(place, parts, bank, dice.rng), place, dice)
    if dice.chance(0.3):
        parts += foreground(dice, view)
    elif dice.chance(0.12):
        parts += close_by(dice, view)
    night = dice.chance(0.08)
    if night:
        place = infrared(dice, place, view)
    light, metres = picture(World(place, parts, bank, dice.rng), view)
    sharp = cv2.resize(light, SIZE, interpolation=cv2.INTER_AREA)
    metres = cv2.resize(metres, SIZE, interpolation=cv2.INTER_NEAREST)
    inverse = np.where(metres < NOWHERE, 1 / np.maximum(metres, 1e-3), 0).astype(np.float32)
    low, high = np.percentile(inverse, (5, 95))
    if high < 1.15 * low or high > 1 / 0.12:
        raise RuntimeError(f"the view is flat or blocked: {low:.2f} to {high:.2f} 1/m")
    seen = develop(sharp, dice)
    return cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) if night else seen, inverse, view


def choose_view(world: World, place: Place, dice: Dice) -> View:
    """Return the first camera of the place that nothing blocks; some rays tell.

    Raises:
        RuntimeError: there is none.
    """
    best: tuple[float, View | None] = (0.0, None)
    some = np.arange(GRID[0] * GRID[1]).reshape(GRID[::-1])[24::48, 24::48].ravel()
    for _ in range(12):
        view = place.view(dice)
        way = rays(view)[some]
        metres, _ = world.cast(np.tile(np.array(view.eye, np.float32), (len(way), 1)), way, 0)
        near, low, high = np.percentile(np.minimum(metres, 60), (0, 20, 95))
        if near > place.closest and high > 1.7 * low:
            return view
        if near > 0.5 * place.closest and high > 1.3 * low and high / low > best[0]:
            best = (high / low, view)
    if best[1] is None:
        raise RuntimeError("every camera tried is blocked")
    return best[1]


def develop(linear: Floats, dice: Dice) -> np.ndarray:
    """Return what a camera makes of linear light, uint8: automatic exposure that errs, white balance, tone curve."""
    light = np.nan_to_num(np.maximum(linear, 0), posinf=0.0)
    target = 0.16 * 2 ** float(np.clip(dice.rng.normal(0, 0.7), -2, 1.5))
    gain = min(target / middle(light), 400) * (1 + 0.07 * dice.rng.standard_normal(3))
    exposed = light * np.clip(gain, 0, None)
    if dice.chance(0.6):
        exposed = shouldered(exposed)
    return np.round(255 * np.clip(exposed, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def middle(light: Floats) -> float:
    """Return the middle brightness of linear light, (h, w, 3)."""
    return float(np.exp(np.log(light.mean(axis=-1) + 1e-4).mean()))


def shouldered(exposed: Floats) -> Floats:
    """Return exposed light under a tone curve with a soft shoulder, Reinhard's."""
    return exposed * (1 + exposed / 9) / (1 + exposed) * 1.35


def sheet(folder: Path, target: Path, most: int = 40) -> None:
    """Write a contact sheet of scenes from all over the folder: picture beside inverse depth, near = bright."""
    found = sorted(path for path in folder.glob("*.png") if not path.name.endswith(".depth.png"))
    if not found:
        sys.exit(f"{folder}: holds no scene")
    tiles = []
    for path in found[:: max(1, len(found) // most)][:most]:
        inverse = cv2.imread(str(path.with_suffix(".depth.png")), cv2.IMREAD_UNCHANGED).astype(np.float32)
        bright = np.clip(255 * inverse / max(float(np.percentile(inverse, 98)), 1), 0, 255).astype(np.uint8)
        tiles.append(np.hstack([cv2.imread(str(path)), cv2.applyColorMap(bright, cv2.COLORMAP_INFERNO)]))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 4)
    rows = [np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]
    cv2.imwrite(str(target), np.vstack(rows))


def main() -> int:
    """Render, or make a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where the scenes go (default {FOLDER})")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="the first number")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet there and render nothing")
    args = parser.parse_args()
    if args.sheet:
        sheet(args.folder, args.sheet)
    else:
        render(args.folder, range(args.first, args.first + args.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
