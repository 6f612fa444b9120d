"""Shapes and paints for rendered training pictures, in plain numpy: metres, z up, nothing of Blender.

A thing is a list of parts. It stands on z = 0 at the origin with its front towards -y until `put` places it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Colour = tuple[float, float, float]
Point = Sequence[float]


class Dice:
    """A seeded source of chance; the same seeds give the same throws."""

    def __init__(self, *seeds: int) -> None:
        self.rng = np.random.default_rng(seeds)

    def between(self, low: float, high: float) -> float:
        """Return a number between two."""
        return float(low + (high - low) * self.rng.random())

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        """Return true in that share of the throws."""
        return bool(self.rng.random() < share)

    def pick(self, items: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
        """Return one of the items."""
        share = None if weights is None else np.array(weights) / sum(weights)
        return items[int(self.rng.choice(len(items), p=share))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """A surface: a pattern of linear RGB colours, `scale` features a metre; `glow` is its emission's strength."""

    colours: tuple[Colour, ...]
    pattern: str = "plain"
    scale: float = 5.0
    rough: float = 0.8
    metal: float = 0.0
    glow: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One surface: `vertices` (n, 3), `faces` (m, 4; the last index of a triangle is -1), `uv` (m, 4, 2) in metres."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    paint: Paint
    smooth: bool = False


Thing = list[Part]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return linear RGB; the value is sRGB's, as people judge brightness."""
    channels = [value * (1 - saturation * max(0, min(1, abs((hue * 6 + k) % 6 - 3) - 1))) for k in (3, 1, 5)]
    red, green, blue = (max(channel, 0.0) ** 2.2 for channel in channels)
    return red, green, blue


# family: (hues, saturation, value, patterns, features a metre, roughness)
_FAMILIES: dict[str, tuple[Any, ...]] = {
    "wall": ((0, 1), (0, 0.35), (0.5, 0.97), ("plain",) * 6 + ("noise", "stripes", "brick", "tiles"), (1, 6), 0.9),
    "floor": ((0.02, 0.14), (0.05, 0.6), (0.15, 0.8), ("planks", "planks", "tiles", "weave", "plain"), (1.5, 8), 0.45),
    "wood": ((0.03, 0.11), (0.2, 0.7), (0.15, 0.85), ("grain", "grain", "grain", "plain"), (4, 24), 0.5),
    "cloth": (
        (0, 1),
        (0, 0.8),
        (0.08, 0.9),
        ("weave", "weave", "plain", "stripes", "checker", "collage"),
        (8, 60),
        0.95,
    ),
    "gloss": ((0, 1), (0, 0.9), (0.05, 0.95), ("plain", "plain", "noise"), (3, 30), 0.25),
    "metal": ((0.5, 0.65), (0, 0.1), (0.3, 0.9), ("plain", "noise"), (3, 30), 0.3),
    "skin": ((0.02, 0.09), (0.25, 0.6), (0.25, 0.95), ("plain",), (8, 20), 0.6),
    "leaf": ((0.18, 0.42), (0.3, 0.85), (0.15, 0.7), ("foliage", "foliage", "noise"), (8, 40), 0.7),
    "stone": ((0, 1), (0, 0.25), (0.2, 0.85), ("brick", "brick", "noise", "cells", "plain", "tiles"), (1.5, 14), 0.9),
    "ground": ((0.05, 0.35), (0.05, 0.6), (0.15, 0.6), ("noise", "noise", "foliage", "cells", "brick"), (2, 30), 0.95),
    "print": ((0, 1), (0, 1), (0.05, 1), ("collage", "collage", "collage", "text", "text", "magic"), (2, 20), 0.6),
}


_CONTRAST = {"print": 2.5, "leaf": 1.5, "wall": 0.5, "floor": 0.6, "stone": 0.7, "ground": 0.7}


def paint(dice: Dice, family: str) -> Paint:
    """Return a random paint of a family."""
    hues, saturations, values, patterns, scales, rough = _FAMILIES[family]
    hue, value = dice.between(*hues), dice.between(*values)
    saturation = saturations[0] + (saturations[1] - saturations[0]) * dice.between(0, 1) ** 2
    pattern = dice.pick(patterns)
    contrast = (
        dice.pick((0.04, 0.12, 0.35), (4, 4, 2)) * _CONTRAST.get(family, 1.0) * (0.3 if pattern == "plain" else 1)
    )
    colours = [hsv(hue, saturation, value)]
    for _ in range(3):
        other = (hue + dice.between(-0.5, 0.5) * contrast) % 1
        colours.append(hsv(other, saturation, float(np.clip(value + dice.between(-1, 1) * contrast, 0.02, 1))))
    low, high = scales
    return Paint(
        colours=tuple(colours),
        pattern=pattern,
        scale=math.exp(dice.between(math.log(low), math.log(high))),
        rough=float(np.clip(rough + dice.between(-0.2, 0.2), 0.08, 1)),
        metal=0.8 if family == "metal" and dice.chance(0.6) else 0.0,
        turn=dice.pick((0.0, math.pi / 2)),
    )


def glowing(colour: Colour, strength: float) -> Paint:
    """Return a surface that shines."""
    return Paint(colours=(colour,), glow=strength)


def box(size: Point, color: Paint, at: Point = (0, 0, 0), bevel: float = 0.0) -> Part:
    """Return a box of that size whose bottom's middle is at `at`; `bevel` cuts its edges off."""
    half = np.array(size, float) / 2
    cut = min(bevel, 0.45 * float(half.min()) * 2)
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    vertices = (signs[:, None, :] * (half - cut + cut * np.eye(3))[None]).reshape(-1, 3)
    faces = _BOX_FACES if cut > 0 else _BOX_FACES[:6]
    return _flat(vertices + np.array(at) + (0, 0, half[2]), faces, color)


def _box_faces() -> np.ndarray:
    """Return the faces of a box whose corner c has the vertices 3c..3c+2, one on each face that meets there."""
    sides, edges = [], []
    for axis, (step, one, two) in enumerate(((4, 2, 1), (2, 4, 1), (1, 4, 2))):
        for sign in (0, step):
            sides.append([3 * (sign + corner) + axis for corner in (0, one, one + two, two)])
        b, c = (other for other in range(3) if other != axis)
        for low in (0, one, two, one + two):
            high = low + step
            edges.append([3 * low + b, 3 * low + c, 3 * high + c, 3 * high + b])
    corners = [[3 * c, 3 * c + 1, 3 * c + 2, -1] for c in range(8)]
    return np.array(sides + edges + corners)


_BOX_FACES = _box_faces()


def _flat(vertices: np.ndarray, faces: np.ndarray, color: Paint, smooth: bool = False) -> Part:
    """Return a part whose texture is laid on from the side that each face looks to."""
    corners = vertices[faces]
    normal = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    axis = normal.argmax(axis=1)
    pairs = np.array([(1, 2), (0, 2), (0, 1)])[axis]
    uv = np.take_along_axis(corners, np.repeat(pairs[:, None, :], 4, axis=1), axis=2)
    return Part(vertices=vertices, faces=faces, uv=uv, paint=color, smooth=smooth)


def grid(points: np.ndarray, color: Paint, smooth: bool = True) -> Part:
    """Return a sheet through points of shape (n, m, 3), its texture laid along it."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    faces = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1, 4)
    along = np.zeros((rows, columns, 2))
    along[1:, :, 1] = np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(axis=1))[:, None]
    along[:, 1:, 0] = np.cumsum(np.linalg.norm(np.diff(points, axis=1), axis=-1).max(axis=0))[None, :]
    return Part(vertices=points.reshape(-1, 3), faces=faces, uv=along.reshape(-1, 2)[faces], paint=color, smooth=smooth)


def lathe(profile: Iterable[Point], color: Paint, at: Point = (0, 0, 0), steps: int = 14, oval: float = 1.0) -> Part:
    """Return what a lathe makes of (radius, height) pairs; `oval` stretches it along y."""
    turn = np.linspace(0, 2 * np.pi, steps + 1)
    points = [[(r * math.cos(a), r * math.sin(a) * oval, z) for a in turn] for r, z in profile]
    return grid(np.array(points) + np.array(at), color)


def post(radius: float, height: float, color: Paint, at: Point = (0, 0, 0), steps: int = 12) -> Part:
    """Return an upright cylinder with lids."""
    return replace(lathe([(1e-4, 0), (radius, 0), (radius, height), (1e-4, height)], color, at, steps), smooth=False)


def ball(radii: Point, color: Paint, at: Point = (0, 0, 0), steps: int = 12) -> Part:
    """Return an ellipsoid around `at`."""
    angles = np.linspace(-np.pi / 2 + 0.02, np.pi / 2 - 0.02, steps // 2 + 2)
    part = lathe([(math.cos(a), math.sin(a)) for a in angles], color, steps=steps)
    size = np.array(radii, float)
    return replace(part, vertices=part.vertices * size + np.array(at), uv=part.uv * float(size.mean()))


def limb(start: Point, end: Point, radii: tuple[float, float], color: Paint, steps: int = 10) -> Part:
    """Return a round bar from point to point with rounded ends."""
    first, last = np.array(start, float), np.array(end, float)
    length = float(np.linalg.norm(last - first)) or 1e-3
    bend = np.linspace(0.1, np.pi / 2, 4)
    below = [(radii[0] * math.sin(a), -radii[0] * math.cos(a)) for a in bend]
    above = [(radii[1] * math.sin(a), length + radii[1] * math.cos(a)) for a in bend[::-1]]
    part = lathe([*below, *above], color, steps=steps)
    axis = (last - first) / length
    side = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    return replace(part, vertices=part.vertices @ np.stack([side, np.cross(axis, side), axis]) + first)


def ring(radius: float, thick: float, color: Paint, at: Point = (0, 0, 0), steps: int = 20) -> Part:
    """Return an upright ring (a tyre) in the plane of y and z."""
    around, across = np.linspace(0, 2 * np.pi, steps + 1), np.linspace(0, 2 * np.pi, 9)
    out = radius + thick * np.cos(across)[None, :]
    points = np.stack(
        [
            np.broadcast_to(thick * np.sin(across)[None, :], (steps + 1, 9)),
            out * np.cos(around)[:, None],
            out * np.sin(around)[:, None],
        ],
        axis=-1,
    )
    return grid(points + np.array(at), color)


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the matrix that rolls about y, then pitches about x, then turns about z, radians."""
    (cz, sz), (cx, sx), (cy, sy) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    turn = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    nod = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    lean = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return turn @ nod @ lean


def put(thing: Thing, at: Point, turn: np.ndarray | float = 0.0, scale: float = 1.0) -> Thing:
    """Return a thing turned (a yaw or a matrix), scaled, then moved."""
    matrix = rotation(turn) if isinstance(turn, float | int) else turn
    return [replace(part, vertices=part.vertices * scale @ matrix.T + np.array(at)) for part in thing]


def row(count: int, make: Callable[[int], Thing]) -> Thing:
    """Return the parts of several things."""
    return [part for i in range(count) for part in make(i)]
