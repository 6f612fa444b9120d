"""The figures of the rendered clip: where they walk, how they are dressed, and their bodies."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from clip_room import Builder, tube


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where a figure is when: (seconds, x, y, heading in degrees, 0 = away from the camera), and how it is dressed."""

    keys: tuple[tuple[float, float, float, float], ...]
    top: tuple[str, str, str]  # colour, second colour, pattern
    trousers: str
    hair: str
    height: float

    @property
    def seconds(self) -> tuple[float, float]:
        """From when until when it is in the building."""
        return self.keys[0][0], self.keys[-1][0]


WALKS = (
    Walk(
        keys=(
            (8.2, 1.00, 8.3, 180),
            (9.6, 0.98, 6.9, 176),
            (11.2, 0.62, 5.0, 184),
            (14.6, 0.20, 1.02, 181),
            (17.0, 0.20, 1.00, 179),
            (17.8, 0.24, 1.10, 20),
            (18.6, 0.34, 1.75, -2),
            (21.4, 0.66, 5.0, -10),
            (23.4, 1.02, 7.4, -4),
            (24.4, 1.02, 8.4, 0),
        ),
        top=("#a8321f", "#d8c9a6", "stripes"),
        trousers="#26344f",
        hair="#2b1a10",
        height=1.0,
    ),
    Walk(
        keys=((24.0, -3.0, 3.9, -96), (25.0, -1.75, 3.75, -96), (28.0, 1.9, 3.05, -100), (29.2, 3.1, 3.0, -90)),
        top=("#2f6b58", "#e0b13a", "noise"),
        trousers="#6b5b49",
        hair="#8a7a68",
        height=0.95,
    ),
)

Limb = tuple[tuple[float, float, float], tuple[float, float, float], float, float]  # from, to, radius at each end


def walk_state(walk: Walk, seconds: float) -> tuple[float, float, float, float, float]:
    """Return x, y, heading in radians, the phase of the stride and its strength 0..1; corners are rounded."""
    times = np.arange(walk.seconds[0], walk.seconds[1] + 0.02, 0.02)
    keys = np.array(walk.keys)
    kernel = np.hanning(27)[1:-1]
    columns = []
    for column in (1, 2, 3):
        line = np.interp(times, keys[:, 0], keys[:, column])
        columns.append(np.convolve(np.pad(line, 12, mode="edge"), kernel / kernel.sum(), "valid"))
    step = np.hypot(np.gradient(columns[0]), np.gradient(columns[1]))
    now = int(np.argmin(np.abs(times - seconds)))
    x, y, heading = (float(column[now]) for column in columns)
    phase = 2 * math.pi * float(step[:now].sum()) / 1.35  # metres a stride, two steps
    return x, y, math.radians(heading), phase, min(1.0, float(step[now]) / 0.02 / 0.8)


def at(x: float, y: float, z: float) -> np.ndarray:
    """Return a place or an offset."""
    return np.array([x, y, z])


def swing(start: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Return the end of a limb that hangs from `start`, swung forwards by an angle."""
    return start + length * np.array([0, math.sin(angle), -math.cos(angle)])


def pose(phase: float, strength: float, seconds: float) -> dict[str, list[Limb]]:
    """Return the limbs of a figure, its feet at height 0, facing +y."""
    parts: dict[str, list[Limb]] = {"top": [], "trousers": [], "shoes": [], "skin": [], "hair": [], "eyes": []}

    def add(group: str, start: Any, end: Any, r0: float, r1: float) -> None:
        parts[group].append((tuple(start), tuple(end), r0, r1))

    sway = 0.015 * math.sin(1.7 * seconds)
    lean = np.array([sway, 0.03 * strength, 0])
    for side in (-1, 1):
        cycle = phase + (math.pi if side > 0 else 0)
        thigh = 0.44 * strength * math.sin(cycle)
        bend = 0.06 + strength * (0.10 + 0.62 * max(0.0, math.cos(cycle)))
        hip = np.array([side * 0.095, 0, 0.0])
        knee = swing(hip, 0.43, thigh)
        ankle = swing(knee, 0.41, thigh - bend)
        add("trousers", hip, knee, 0.100, 0.070)
        add("trousers", knee, ankle, 0.070, 0.050)
        add("shoes", ankle + at(0, -0.03, -0.045), ankle + at(0, 0.15, -0.055), 0.046, 0.038)
        shoulder = np.array([side * 0.195, 0, 0.47]) + lean
        arm = -0.42 * strength * math.sin(cycle) + 0.04
        elbow = swing(shoulder, 0.28, arm) + at(side * 0.045, 0, 0)
        hand = swing(elbow, 0.25, arm + 0.25 + 0.3 * strength)
        add("top", shoulder, elbow, 0.062, 0.05)
        add("top", elbow, hand, 0.05, 0.036)
        add("skin", hand, swing(hand, 0.09, arm + 0.3), 0.036, 0.03)
    add("trousers", (-0.075, 0, 0.03), (0.075, 0, 0.03), 0.115, 0.115)
    for z, half, radius in ((0.13, 0.07, 0.11), (0.26, 0.085, 0.115), (0.38, 0.115, 0.12), (0.465, 0.155, 0.075)):
        add("top", np.array([-half, 0, z]) + lean * z * 2, np.array([half, 0, z]) + lean * z * 2, radius, radius)
    head = lean + at(0, 0.01, 0.69)
    add("skin", lean + at(0, 0, 0.48), head + at(0, 0, -0.06), 0.064, 0.058)
    add("skin", head + at(0, 0.01, -0.03), head + at(0, 0, 0.05), 0.079, 0.097)
    add("skin", head + at(0, 0.092, 0.005), head + at(0, 0.103, -0.012), 0.015, 0.019)
    add("hair", head + at(0, -0.035, 0.01), head + at(0, -0.018, 0.075), 0.088, 0.097)
    for side in (-1, 1):
        add("top", (side * 0.04, lean[1], 0.525), (side * 0.16, lean[1], 0.48), 0.05, 0.06)
        add("skin", head + at(side * 0.093, -0.005, -0.005), head + at(side * 0.097, -0.005, 0.025), 0.018, 0.02)
        add("eyes", head + at(side * 0.032, 0.086, 0.028), head + at(side * 0.036, 0.086, 0.028), 0.010, 0.010)
        add("eyes", head + at(side * 0.020, 0.092, 0.052), head + at(side * 0.046, 0.086, 0.054), 0.005, 0.005)
    lowest = min(min(a[2], b[2]) - 0.04 for a, b, _, _ in parts["shoes"])
    lift = np.array([0, 0, -lowest])
    return {g: [(tuple(a + lift), tuple(b + lift), r, s) for a, b, r, s in limbs] for g, limbs in parts.items()}


def capsule(limb: Limb, steps: int = 14) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Return the vertices, (n, 3), and faces of a limb: a tapering tube with round ends."""
    start, end = np.array(limb[0]), np.array(limb[1])
    axis = end - start
    axis = axis / np.linalg.norm(axis)
    side = np.cross(axis, (1, 0, 0) if abs(axis[0]) < 0.9 else (0, 1, 0))
    side = side / np.linalg.norm(side)
    other = np.cross(axis, side)
    turns = 2 * np.pi * np.arange(steps) / steps
    circle = np.outer(np.cos(turns), side) + np.outer(np.sin(turns), other)
    bows = np.radians((-85, -60, -30, 0))
    rings = [start + axis * limb[2] * math.sin(b) + circle * limb[2] * math.cos(b) for b in bows]
    rings += [end - axis * limb[3] * math.sin(b) + circle * limb[3] * math.cos(b) for b in bows[::-1]]
    return np.concatenate(rings), tube(len(rings), steps)


def join(limbs: list[Limb]) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Return the vertices and faces of several limbs."""
    vertices, faces, count = [], [], 0
    for limb in limbs:
        points, sides = capsule(limb)
        vertices.append(points)
        faces += [tuple(i + count for i in face) for face in sides]
        count += len(points)
    return np.concatenate(vertices), faces


def melt(thing: Any) -> None:
    """Turn limbs that overlap into one smooth body."""
    remesh = thing.modifiers.new("melt", "REMESH")
    remesh.mode, remesh.voxel_size, remesh.use_smooth_shade = "VOXEL", 0.014, True
    smooth = thing.modifiers.new("smooth", "SMOOTH")
    smooth.factor, smooth.iterations = 0.5, 5


def place_figure(make: Builder, walk: Walk, seconds: float) -> list[Any]:
    """Make the figure as it is at that time and return its objects; none while it is away."""
    if not walk.seconds[0] <= seconds < walk.seconds[1]:
        return []
    x, y, heading, phase, strength = walk_state(walk, seconds)
    materials = {
        "top": make.paint(walk.top[0], walk.top[1], walk.top[2], 3.2, 0.9),
        "trousers": make.paint(walk.trousers, "#1a2030", "noise", 25.0, 0.9),
        "shoes": make.paint("#1b1714", rough=0.4),
        "skin": make.paint("#c78f6c", "#b77d5c", "noise", 9.0, 0.55),
        "eyes": make.paint("#15100d", rough=0.2),
        "hair": make.paint(walk.hair, "#100a06", "noise", 30.0, 0.6),
    }
    things = []
    for group, limbs in pose(phase, strength, seconds).items():
        thing = make.mesh(*join(limbs), materials[group])
        if group != "eyes":  # finer than a voxel
            melt(thing)
        thing.location, thing.rotation_euler = (x, y, 0), (0, 0, heading)
        thing.scale = (walk.height,) * 3
        things.append(thing)
    return things
