"""Sequences with true depth: a camera that stands still, and figures that come and go; made, or read from a folder."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.config import PointSection
from edge.errors import PictureError
from edge.pictures import pictures_in, read_deep, read_picture
from edge.records import Bytes, Floats
from edge.scene.alignment import Doubles
from edge.scene.metres import Lens


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A camera that stands still, with the truth.

    `room` and the items of `figures` are float32 (h, w): metres along the optical axis; figures are 0 where none is
    seen, null where none is in the picture at all. `pictures` are uint8 (H, W, 3) RGB.
    """

    name: str
    fps: float
    lens: Lens
    learn_seconds: float
    points: tuple[PointSection, ...]
    room: Floats
    figures: tuple[Floats | None, ...]
    pictures: tuple[Bytes, ...]

    def depth(self, number: int) -> Floats:
        """Return what is to be seen in one frame, float32 (h, w): metres along the axis."""
        figures = self.figures[number]
        return self.room if figures is None else np.where(figures > 0, figures, self.room)


# A made camera and the room before it, in metres: x right, y away from the camera, z up.
_SIZE = (256, 192)  # the network's size for a picture of 4:3
_LENS = Lens(fov_deg=66.0, aspect=_SIZE[1] / _SIZE[0])
_EYE = (0.0, 0.0, 1.6)
_TILT = math.radians(8)
_FPS = 5.0
_SHIRT = np.array((200, 30, 60), np.uint8)
_FURNITURE = (
    ((-1.15, 1.3, 0.0), (-0.62, 1.7, 1.15)),
    ((0.75, 2.2, 0.0), (1.5, 2.7, 0.95)),
    ((-2.1, 3.4, 0.0), (-1.1, 5.4, 0.75)),
    ((0.9, 5.6, 0.0), (2.1, 6.2, 1.9)),
    ((-0.8, 4.6, 0.0), (0.1, 5.3, 0.45)),
)
_PLACES = ((0.12, 0.78), (0.74, 0.68), (0.45, 0.30))  # on the cupboard, on the sideboard, on the far wall
Keys = tuple[tuple[float, float, float], ...]  # seconds, x, y


def _directions() -> Doubles:
    """Return the ray through each pixel of the made camera, float64 (h, w, 3), one metre along the axis each."""
    width, height = _SIZE
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    right, down = _LENS.slopes(x, y)
    ahead = math.cos(_TILT) - down * math.sin(_TILT)
    up = -math.sin(_TILT) - down * math.cos(_TILT)
    return np.stack([right, ahead, up], axis=-1)


def _room(rays: Doubles) -> Floats:
    """Return the empty room: 4.4 x 7 x 2.6 m with furniture."""
    walls = np.where(rays > 0, (2.2, 7.0, 2.6), (-2.2, -1.0, 0.0)) - _EYE
    depth = (walls / rays).min(axis=-1)
    for low, high in _FURNITURE:
        ends = np.sort([(np.array(low) - _EYE) / rays, (np.array(high) - _EYE) / rays], axis=0)
        enter, leave = ends[0].max(axis=-1), ends[1].min(axis=-1)
        depth = np.where((enter < leave) & (enter > 0), np.minimum(depth, enter), depth)
    return np.asarray(depth, np.float32)


def _figure(rays: Doubles, x: float, y: float) -> Doubles:
    """Return a figure of ellipsoids, 1.75 m tall, standing there; infinite where it is not."""
    bob = 0.02 * abs(math.sin(4 * (x + y)))
    parts = [((0.0, 1.62), (0.10, 0.11, 0.13)), ((0.0, 1.17), (0.24, 0.15, 0.37))]
    parts += [((side, 0.45), (0.11, 0.13, 0.47)) for side in (-0.11, 0.11)]
    nearest = np.full(rays.shape[:2], np.inf)
    for (aside, height), radii in parts:
        offset = (np.array(_EYE) - (x + aside, y, height + bob)) / radii
        scaled = rays / radii
        a, b, c = (scaled**2).sum(-1), 2 * (scaled @ offset), offset @ offset - 1
        root = b**2 - 4 * a * c
        hit = (-b - np.sqrt(np.maximum(root, 0))) / (2 * a)
        nearest = np.where((root > 0) & (hit > 0), np.minimum(nearest, hit), nearest)
    return nearest


def made(name: str, seconds: float, walks: tuple[Keys, ...] = ()) -> Sequence:
    """Return a made sequence, 5 frames a second, in which figures walk from key to key.

    A figure is there from its first key to its last. `MADE` holds some by name: `made(name, *MADE[name])`. The pictures
    show walls of many colours, and figures in one.
    """
    rays = _directions()
    room = _room(rays)
    figures = tuple(_figures(rays, room, walks, number / _FPS) for number in range(round(seconds * _FPS)))
    walls = np.random.default_rng(0).integers(40, 160, (room.shape[0] // 8, room.shape[1] // 8, 3), np.uint8)
    walls = walls.repeat(8, 0).repeat(8, 1)
    return Sequence(
        name=name,
        fps=_FPS,
        lens=_LENS,
        learn_seconds=6.0,
        points=tuple(_measured(x, y, room) for x, y in _PLACES),
        room=room,
        figures=figures,
        pictures=tuple(walls if seen is None else np.where(seen[..., None] > 0, _SHIRT, walls) for seen in figures),
    )


def _figures(rays: Doubles, room: Floats, walks: tuple[Keys, ...], now: float) -> Floats | None:
    """Return what is seen of all figures, float32 (h, w); null where nothing is."""
    seen = np.full_like(room, np.inf)
    for walk in walks:
        times, xs, ys = zip(*walk, strict=True)
        if times[0] <= now <= times[-1]:
            seen = np.minimum(seen, _figure(rays, float(np.interp(now, times, xs)), float(np.interp(now, times, ys))))
    seen = np.where(seen < room, seen, 0).astype(np.float32)
    return seen if seen.any() else None


def _measured(x: float, y: float, room: Floats) -> PointSection:
    height, width = room.shape
    return PointSection(x=x, y=y, metres=float(room[int(y * height), int(x * width)] * _LENS.stretch(x, y)))


# What happens before a camera: seconds, and who walks, from one who comes and stays to two who cover most of the view.
MADE: Mapping[str, tuple[float, tuple[Keys, ...]]] = {
    "comes, stays": (26, (((8, 0.5, 6.8), (13, 0.1, 1.1), (19, 0.1, 1.05), (24, 0.5, 6.8)),)),
    "two cross": (
        24,
        (
            ((8, -3.0, 2.6), (13, 3.0, 2.6)),
            ((9, 2.2, 1.25), (12, -2.0, 1.25)),
            ((15, 3.0, 3.4), (22, -3.0, 3.0)),
        ),
    ),
    "fill 40 %": (
        22,
        (
            ((8, 1.5, 1.0), (8.8, 0.25, 1.02), (15, 0.24, 1.0), (16, 1.6, 0.9)),
            ((8, -1.5, 1.0), (8.8, -0.19, 1.04), (15, -0.2, 1.02), (16, -1.6, 0.9)),
        ),
    ),
    "fill 60 %": (
        22,
        (
            ((8, 1.5, 1.0), (8.8, 0.27, 0.72), (15, 0.24, 0.70), (16, 1.6, 0.9)),
            ((8, -1.5, 1.0), (8.8, -0.19, 0.74), (15, -0.2, 0.72), (16, -1.6, 0.9)),
        ),
    ),
    "while learning": (
        22,
        (((1, -2.2, 2.0), (5, 2.4, 1.8)), ((9, 0.4, 6.5), (14, 0.2, 1.3), (19, -2.0, 1.2))),
    ),
}


class _Facts(BaseModel):
    """What `sequence.json` holds."""

    model_config = ConfigDict(extra="forbid")

    fps: Annotated[float, Field(gt=0)]
    horizontal_fov_deg: Annotated[float, Field(gt=0, lt=180)]
    learn_seconds: Annotated[float, Field(gt=0)]
    points: tuple[PointSection, ...]


def read_sequence(folder: Path) -> Sequence:
    """Read a sequence from a folder, laid out as scripts/evaluate_scene.py describes.

    Raises:
        PictureError: something is missing or is not what it should be.
    """
    facts = _read_facts(folder / "sequence.json")
    shots = folder / "pictures"
    paths = pictures_in(shots) if shots.is_dir() else []
    if not paths:
        raise PictureError(f"{shots}: must hold the pictures; there is none")
    pictures = tuple(read_picture(path) for path in paths)
    depths = [folder / "figures" / f"{path.stem}.png" for path in paths]
    height, width = pictures[0].shape[:2]
    return Sequence(
        name=folder.resolve().name,
        fps=facts.fps,
        lens=Lens(fov_deg=facts.horizontal_fov_deg, aspect=height / width),
        learn_seconds=facts.learn_seconds,
        points=facts.points,
        room=_read_metres(folder / "room.png"),
        figures=tuple(_read_metres(path) if path.exists() else None for path in depths),
        pictures=pictures,
    )


def _read_facts(path: Path) -> _Facts:
    try:
        return _Facts.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PictureError(f"{path}: can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PictureError(f"{path}: {where}: {first['msg']}") from error


def _read_metres(path: Path) -> Floats:
    try:
        return np.asarray(read_deep(path) / 1000, np.float32)
    except PictureError as error:
        raise PictureError(f"{error}; it holds millimetres along the optical axis") from error
