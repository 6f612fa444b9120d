"""Pictures with true inverse depth, and what a network, a constant and a ramp make of them."""

import csv
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from edge.errors import PictureError
from edge.evaluation.scores import Score, score, vertical_ramp
from edge.pictures import read_deep, read_picture
from edge.records import Bytes, DepthMap, Floats, Frame

_COLUMNS = ("split", "source", "name", "rgb", "inverse_depth_png", "scale", "domain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a manifest: a picture, and a 16-bit PNG whose values times `scale` are true inverse depth."""

    source: str
    domain: str
    name: str
    picture: Path
    inverse_depth: Path
    scale: float

    def truth(self) -> Floats:
        """Return the true inverse depth, float32 (h, w), in the source's own unit; 0 is unknown.

        Raises:
            PictureError: it can't be read, is no 16-bit grey picture, or is unknown everywhere.
        """
        values = read_deep(self.inverse_depth)
        if not values.any():
            raise PictureError(f"{self.inverse_depth}: no pixel has a known truth (0 is unknown)")
        return np.asarray(values * self.scale, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One picture's scores: the network's own, and those of two guessers without eyes.

    `inverse_depth` is the network's, float32 (h, w), at the size of `truth`.
    """

    example: Example
    own: Score
    constant: Score
    ramp: Score
    pixels: Bytes
    truth: Floats
    inverse_depth: Floats


def read_manifest(folder: Path, split: str = "validation") -> tuple[Example, ...]:
    """Return the rows of `folder/manifest.csv` that belong to a split.

    Raises:
        PictureError: it can't be read, lacks a column, has no such row, or a scale that is not positive.
    """
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise PictureError(f"{path}: lacks the columns {', '.join(missing)}; needed are {', '.join(_COLUMNS)}")
            rows = [_example(folder, row, f"{path}:{reader.line_num}") for row in reader if row["split"] == split]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PictureError(f"{path}: can't be read: {error}") from error
    if not rows:
        raise PictureError(f"{path}: has no row whose split is {split}")
    return tuple(rows)


def _example(folder: Path, row: dict[str, str], where: str) -> Example:
    try:
        scale = float(row["scale"])
    except (TypeError, ValueError):
        scale = math.nan
    if not 0 < scale < math.inf:
        raise PictureError(f"{where}: scale: must be a positive number, not {row['scale']!r}")
    return Example(
        source=row["source"],
        domain=row["domain"],
        name=row["name"],
        picture=folder / row["rgb"],
        inverse_depth=folder / row["inverse_depth_png"],
        scale=scale,
    )


def judge(examples: Iterable[Example], estimate: Callable[[Frame], DepthMap]) -> Iterator[Judged]:
    """Yield the scores of what `estimate` says of each picture, stretched to the size of its truth.

    Raises:
        PictureError: a picture or its truth can't be read.
    """
    for number, example in enumerate(examples):
        pixels, truth = read_picture(example.picture), example.truth()
        frame = Frame(sequence=number, captured_at=time.monotonic(), wall_time=datetime.now(UTC), pixels=pixels)
        size = truth.shape[1], truth.shape[0]
        depth = cv2.resize(estimate(frame).inverse_depth, size, interpolation=cv2.INTER_LINEAR)
        yield Judged(
            example=example,
            own=score(depth, truth),
            constant=score(np.ones_like(truth), truth),
            ramp=score(vertical_ramp((size[1], size[0])), truth),
            pixels=frame.pixels,
            truth=truth,
            inverse_depth=np.asarray(depth, np.float32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Medians:
    """The medians over some pictures: (network, constant, ramp) each; `failed` counts the network's failures."""

    pictures: int
    failed: int
    delta1: tuple[float, float, float]
    abs_rel: tuple[float, float, float]


def medians(judged: Iterable[Judged], by: Callable[[Example], str]) -> dict[str, Medians]:
    """Return the medians of each group, the groups by name."""
    groups: dict[str, list[Judged]] = {}
    for each in judged:
        groups.setdefault(by(each.example), []).append(each)
    return {name: _medians(groups[name]) for name in sorted(groups)}


def _medians(group: list[Judged]) -> Medians:
    sides = [[each.own for each in group], [each.constant for each in group], [each.ramp for each in group]]
    delta1 = [statistics.median(score.delta1 for score in side) for side in sides]
    abs_rel = [statistics.median(score.abs_rel for score in side) for side in sides]
    return Medians(
        pictures=len(group),
        failed=sum(each.own.failed for each in group),
        delta1=(delta1[0], delta1[1], delta1[2]),
        abs_rel=(abs_rel[0], abs_rel[1], abs_rel[2]),
    )


def mean(groups: Iterable[Medians]) -> Medians:
    """Return the mean of medians: each source counts the same, however many pictures it has."""
    rows = list(groups)
    delta1 = np.mean([row.delta1 for row in rows], axis=0).tolist()
    abs_rel = np.mean([row.abs_rel for row in rows], axis=0).tolist()
    return Medians(
        pictures=sum(row.pictures for row in rows),
        failed=sum(row.failed for row in rows),
        delta1=(delta1[0], delta1[1], delta1[2]),
        abs_rel=(abs_rel[0], abs_rel[1], abs_rel[2]),
    )
