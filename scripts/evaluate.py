#!/usr/bin/env python3
"""Score weights on pictures with true inverse depth, beside a constant and a vertical ramp.

usage: scripts/evaluate.py DIR [--weights FILE] [--engine NAME] [--size PX] [--split NAME] [--sheet FILE.jpg]

DIR holds `manifest.csv` with the columns split, source, domain, name, rgb (a picture), inverse_depth_png (16 bits,
inverse depth = value * scale, 0 = unknown) and scale; only rows of the split (validation) count.

Per picture, scale and shift are fitted by least squares in inverse depth, and the result is clipped to the truth's
range. Printed are the medians of delta1 (share of pixels within a factor of 1.25; larger is better) and AbsRel (smaller
is better) over the pictures of a source and of a domain, and the mean over the sources. `failed` counts pictures in
which near and far are exchanged. The sheet shows each picture, its truth, what the network says, fitted, in the truth's
colours, and the error: green within a factor of 1.25, red beyond, the brighter the worse; grey is unknown.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from edge.config import ModelSection
from edge.depth.engines import NAMES
from edge.depth.model import load_model
from edge.errors import ConfigError, EdgeError, PictureError
from edge.evaluation import Example, Judged, Medians, fit, judge, mean, medians, read_manifest
from edge.publish.heatmap import colour, normalise

TILE = (192, 144)  # width and height, px
CAPTION = 18
ACROSS = 2  # pictures side by side
UNKNOWN = (70, 70, 70)
FACTOR = 1.25


def main(argv: list[str] | None = None) -> int:
    """Print the tables and write the sheet; return 0, or the exit code of an error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--weights", default="auto", metavar="FILE", help="as model.weights (auto)")
    parser.add_argument("--engine", default="torch", choices=NAMES, help="as model.engine (torch)")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="the network's longer side (256)")
    parser.add_argument("--split", default="validation", help="which rows (validation)")
    parser.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="write a contact sheet")
    args = parser.parse_args(argv)
    try:
        if args.sheet and args.sheet.suffix not in (".jpg", ".png"):
            raise PictureError(f"--sheet: must end in .jpg or .png, not {args.sheet}")
        evaluate(args)
    except EdgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def evaluate(args: argparse.Namespace) -> None:
    """Judge every picture; print and draw."""
    examples = read_manifest(args.folder, args.split)
    try:
        section = ModelSection(weights=args.weights, engine=args.engine, input_size=args.size)
    except ValueError as error:
        raise ConfigError(f"--size: must be 64..512 and a multiple of 32, not {args.size}") from error
    model = load_model(section)
    judged, rows = [], []
    for each in judge(examples, model.estimate):
        judged.append(each)
        if args.sheet:
            rows.append(strip(each))
    print(f"weights {model.weights.name} ({model.weights.sha256[:8]}), engine {model.engine.name}, {args.size} px\n")
    by_source = medians(judged, source)
    print_table("source", by_source | {"mean": mean(by_source.values())})
    print()
    print_table("domain", medians(judged, domain))
    if args.sheet:
        write(sheet(rows), args.sheet)


def source(example: Example) -> str:
    """Return what the first table groups by."""
    return example.source


def domain(example: Example) -> str:
    """Return what the second table groups by."""
    return example.domain


def print_table(title: str, groups: dict[str, Medians]) -> None:
    """Print one row a group."""
    width = max(map(len, (title, *groups))) + 2
    print(f"{'':<{width + 16}}{'delta1':>10}{'':>18}{'AbsRel':>10}")
    names = f"{'network':>10}{'constant':>10}{'ramp':>8}"
    print(f"{title:<{width}}{'pictures':>8}{'failed':>8}{names}{names}")
    for name, row in groups.items():
        scores = "".join(f"{a:>10.3f}{b:>10.3f}{c:>8.3f}" for a, b, c in (row.delta1, row.abs_rel))
        print(f"{name:<{width}}{row.pictures:>8}{row.failed:>8}{scores}")


def strip(judged: Judged) -> np.ndarray:
    """Return one picture's four tiles with a caption above, BGR."""
    truth = judged.truth
    known = truth > 0
    scale, shift = fit(judged.inverse_depth, truth)
    fitted = np.clip(scale * judged.inverse_depth + shift, truth[known].min(), truth[known].max())
    low, high = np.percentile(truth[known], (2, 98)).tolist()
    tiles = [
        cv2.cvtColor(judged.pixels, cv2.COLOR_RGB2BGR),
        np.where(known[..., None], colours(truth, low, high), UNKNOWN).astype(np.uint8),
        colours(fitted, low, high),
        np.where(known[..., None], error_colours(fitted, np.where(known, truth, 1)), UNKNOWN).astype(np.uint8),
    ]
    example, own = judged.example, judged.own
    words = f"{example.source}/{example.name}   delta1 {own.delta1:.2f} (ramp {judged.ramp.delta1:.2f})"
    words += f"   AbsRel {own.abs_rel:.2f}" + ("   FAILED" if own.failed else "")
    return np.vstack([caption(words, TILE[0] * len(tiles)), np.hstack([fitting(tile) for tile in tiles])])


def colours(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return inverse depth in the heatmap's colours, BGR; warm = near."""
    return cv2.cvtColor(colour(normalise(np.asarray(values, np.float32), low, high), "inferno"), cv2.COLOR_RGB2BGR)


def error_colours(fitted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return green where the distance is within a factor of 1.25, red beyond; the brighter the worse, up to 3."""
    error = np.abs(np.log(np.maximum(fitted, 1e-9) / truth))
    good = error < np.log(FACTOR)
    inside = 40 + 120 * error / np.log(FACTOR)
    outside = 110 + 145 * np.clip((error - np.log(FACTOR)) / np.log(3 / FACTOR), 0, 1)
    result = np.zeros((*error.shape, 3))
    result[..., 1] = np.where(good, inside, 0)
    result[..., 2] = np.where(good, 0, outside)
    return result.astype(np.uint8)


def fitting(picture: np.ndarray) -> np.ndarray:
    """Return a picture inside a tile, its aspect kept."""
    width, height = TILE
    scale = min((width - 4) / picture.shape[1], (height - 4) / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    tile = np.full((height, width, 3), 255, np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    tile[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return tile


def caption(words: str, width: int) -> np.ndarray:
    """Return one line of text, black on white."""
    line = np.full((CAPTION, width, 3), 255, np.uint8)
    return cv2.putText(line, words, (4, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)


def sheet(strips: list[np.ndarray]) -> np.ndarray:
    """Return all strips, ACROSS beside each other, under what the columns are."""
    empty = np.full_like(strips[0], 255)
    heads = np.hstack([caption(name, TILE[0]) for name in ("picture", "truth", "network, fitted", "error")])
    padded = strips + [empty] * (-len(strips) % ACROSS)
    rows = [np.hstack(padded[i : i + ACROSS]) for i in range(0, len(padded), ACROSS)]
    return np.vstack([np.hstack([heads] * ACROSS), *rows])


def write(picture: np.ndarray, path: Path) -> None:
    """Write the sheet as its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix, picture)
    path.write_bytes(data.tobytes())
    print(f"\n{path}: {picture.shape[1]} x {picture.shape[0]} px")


if __name__ == "__main__":
    sys.exit(main())
