#!/usr/bin/env python3
"""Score weights on pictures with measured depth, beside a vertical ramp.

usage: scripts/evaluate_network.py FOLDER [--weights FILE] [--size PX]

FOLDER holds `manifest.csv` with the columns split, source, rgb (a picture), inverse_depth_png (16 bits, inverse depth =
value * scale, 0 = unknown) and scale; only rows whose split is `validation` count. Prints the median delta1 and AbsRel
a source (larger and smaller is better) and their mean over the sources.
"""

import argparse
import csv
import statistics
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from edge.config import ModelSection
from edge.depth import load_model
from edge.evaluation import Score, score, vertical_ramp
from edge.pictures import read_picture
from edge.records import Frame


def main() -> int:
    """Print one row a source and the mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    model = load_model(ModelSection(weights=args.weights, input_size=args.size))
    scores: dict[str, list[tuple[Score, Score]]] = defaultdict(list)
    for row in read_manifest(args.folder):
        pixels = read_picture(args.folder / row["rgb"])
        frame = Frame(sequence=0, captured_at=time.monotonic(), wall_time=datetime.now(UTC), pixels=pixels)
        truth = cv2.imread(str(args.folder / row["inverse_depth_png"]), cv2.IMREAD_UNCHANGED) * float(row["scale"])
        size = truth.shape[1], truth.shape[0]
        depth = cv2.resize(model.estimate(frame).inverse_depth, size, interpolation=cv2.INTER_LINEAR)
        scores[row["source"]].append((score(depth, truth), score(vertical_ramp(truth.shape), truth)))
    report(model.weights.name, scores)
    return 0


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """Return the rows to score."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    if not rows:
        sys.exit(f"{folder}/manifest.csv: has no row whose split is validation")
    return rows


def report(name: str, scores: dict[str, list[tuple[Score, Score]]]) -> None:
    """Print the table."""
    print(
        f"{'source':<14}{'pictures':>9}{'failed':>8}{'delta1':>9}{'ramp':>7}{'AbsRel':>9}{'ramp':>7}   weights {name}"
    )
    means = []
    for source, pairs in sorted(scores.items()):
        ours, ramp = zip(*pairs, strict=True)
        values = [
            statistics.median(getattr(s, field) for s in side)
            for field in ("delta1", "abs_rel")
            for side in (ours, ramp)
        ]
        means.append(values)
        failed = sum(s.failed for s in ours)
        print(
            f"{source:<14}{len(pairs):>9}{failed:>8}{values[0]:>9.3f}{values[1]:>7.3f}{values[2]:>9.3f}{values[3]:>7.3f}"
        )
    mean = np.mean(means, axis=0)
    print(f"{'mean':<14}{'':>17}{mean[0]:>9.3f}{mean[1]:>7.3f}{mean[2]:>9.3f}{mean[3]:>7.3f}")


if __name__ == "__main__":
    sys.exit(main())
