"""Patterns of rendered training pictures: grey tiles that repeat without a seam, made once by chance."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

SIDE = 256  # texels
LEVELS = 7  # each half as large as the one before
Grey = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """All tiles at all levels in one row of float32, 0..1.

    `kinds` maps a pattern to its tiles, `features` tells how many of a tile's features lie side by side.
    """

    texels: np.ndarray
    kinds: dict[str, list[int]]
    features: np.ndarray

    def look_up(self, tile: np.ndarray, uv: np.ndarray, blur: np.ndarray) -> np.ndarray:
        """Return the values at `uv`, (n, 2) in tiles, where a pixel covers `blur` (n,) of a tile's side."""
        level = np.clip(np.log2(np.maximum(blur * SIDE, 1)), 0, LEVELS - 1).astype(np.int32)
        side = SIDE >> level
        start = _starts(len(self.features))[level] + tile * side * side
        at = (uv - np.floor(uv)) * side[:, None] - 0.5
        low = np.floor(at).astype(np.int32)
        x, y = (at - low).T.astype(np.float32)
        left, top = (low % side[:, None]).T
        right, bottom = (left + 1) % side, (top + 1) % side
        upper = self.texels[start + top * side + left] * (1 - x) + self.texels[start + top * side + right] * x
        lower = self.texels[start + bottom * side + left] * (1 - x) + self.texels[start + bottom * side + right] * x
        mixed: np.ndarray = upper * (1 - y) + lower * y
        return mixed


@cache
def _starts(tiles: int) -> np.ndarray:
    sizes = [tiles * (SIDE >> level) ** 2 for level in range(LEVELS)]
    return np.cumsum([0, *sizes[:-1]])


def bank(seed: int, each: int = 4) -> Bank:
    """Return tiles of every pattern, `each` of them different."""
    rng = np.random.default_rng(seed)
    tiles: list[Grey] = []
    features: list[float] = []
    kinds: dict[str, list[int]] = {}
    for name, make in MAKERS.items():
        for _ in range(each):
            tile, across = make(rng)
            kinds.setdefault(name, []).append(len(tiles))
            tiles.append(tile.astype(np.float32))
            features.append(across)
    levels = [np.stack([cv2.resize(tile, (SIDE >> k,) * 2, interpolation=cv2.INTER_AREA) for tile in tiles])
              for k in range(LEVELS)]  # fmt: skip
    return Bank(
        texels=np.concatenate([level.ravel() for level in levels]), kinds=kinds, features=np.array(features, np.float32)
    )


def noise(rng: np.random.Generator, lowest: float = 3, fall: float | None = None) -> Grey:
    """Return noise whose amplitude falls with a power of the frequency, evenly spread over 0..1."""
    fall = rng.uniform(1.0, 2.2) if fall is None else fall
    f = np.fft.fftfreq(SIDE, 1 / SIDE)
    radius = np.hypot(*np.meshgrid(f, f))
    amplitude = np.where(radius >= lowest, np.maximum(radius, 1) ** -fall, 0)
    phase = np.exp(2j * np.pi * rng.random((SIDE, SIDE)))
    values = np.fft.ifft2(amplitude * phase).real
    ranks = values.ravel().argsort().argsort().reshape(SIDE, SIDE)
    return ranks / ranks.size


def _noise(rng: np.random.Generator) -> tuple[Grey, float]:
    return noise(rng, lowest=rng.integers(2, 9)), 6


def _cells(rng: np.random.Generator) -> tuple[Grey, float]:
    seeds, tone = rng.random((60, 2)), rng.random(60)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    apart = np.stack([np.hypot((x - a + 0.5) % 1 - 0.5, (y - b + 0.5) % 1 - 0.5) for a, b in seeds])
    nearest = np.sort(apart, axis=0)
    if rng.random() < 0.5:
        joint = np.clip((nearest[1] - nearest[0]) * 60, 0, 1)
        return (0.3 + 0.7 * tone[apart.argmin(axis=0)]) * joint, 8
    return np.clip(nearest[0] * 8, 0, 1), 8


def _stripes(rng: np.random.Generator) -> tuple[Grey, float]:
    edges = np.sort(rng.random(rng.choice((8, 16)) - 1))
    tones = rng.random(len(edges) + 1)
    across = tones[np.searchsorted(edges, np.arange(SIDE) / SIDE)]
    if rng.random() < 0.4:
        across = 0.5 + 0.5 * np.sin(np.arange(SIDE) / SIDE * 16 * np.pi)
    return np.tile(across, (SIDE, 1)) * 0.9 + 0.1 * noise(rng), 8


def _grain(rng: np.random.Generator) -> tuple[Grey, float]:
    slow = cv2.resize(noise(rng, 2, 2.0)[: SIDE // 4], (SIDE, SIDE))
    slow = (slow + slow[::-1]) / 2
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * np.arange(SIDE)[:, None] / SIDE + rng.uniform(0.5, 2) * slow))
    fibre = np.tile(noise(rng, 4, 1.0)[:, :1], (1, SIDE))
    return 0.45 * rings + 0.35 * fibre + 0.2 * noise(rng), 6


def _magic(rng: np.random.Generator) -> tuple[Grey, float]:
    return 0.5 + 0.5 * np.sin(rng.uniform(10, 30) * noise(rng, 2, 2.2)), 8


def _checker(rng: np.random.Generator) -> tuple[Grey, float]:
    y, x = np.mgrid[:8, :8]
    squares = ((x + y) % 2) * 0.8 + 0.1 if rng.random() < 0.7 else rng.random((8, 8))
    large = np.kron(squares, np.ones((SIDE // 8, SIDE // 8)))
    return large * 0.9 + 0.1 * noise(rng), 8


def _laid(rng: np.random.Generator, rows: int, long: int, joint: int, across: float) -> tuple[Grey, float]:
    """Return bricks, tiles or planks of differing tones in rows, each row shifted."""
    y, x = np.mgrid[:SIDE, :SIDE]
    high, wide = SIDE // rows, SIDE // long
    line = y // high
    x = (x + rng.integers(0, SIDE, rows)[line] * (rng.random() < 0.7)) % SIDE
    tones = 0.35 + 0.6 * rng.random((rows, long))
    tile = tones[line, x // wide] + 0.25 * (noise(rng) - 0.5)
    gap = (y % high < joint) | (x % wide < joint)
    return np.clip(np.where(gap, rng.choice((0.05, 0.95)), tile), 0, 1), across


def _brick(rng: np.random.Generator) -> tuple[Grey, float]:
    return _laid(rng, 8, 4, 2 + int(rng.integers(3)), 8)


def _planks(rng: np.random.Generator) -> tuple[Grey, float]:
    planks, across = _laid(rng, 8, 1, 1, 4)
    return 0.7 * planks + 0.3 * _grain(rng)[0], across


def _tiles(rng: np.random.Generator) -> tuple[Grey, float]:
    return _laid(rng, 4, 4, 2, 4)


def _collage(rng: np.random.Generator) -> tuple[Grey, float]:
    """Return shapes over shapes of all sizes: what posters, prints and photographs are to a depth network."""
    tile = np.full((SIDE, SIDE), rng.random(), np.float32)
    slope = noise(rng, 1, 2.2)
    for size in np.sort(6 + 90 * rng.random(70) ** 3)[::-1]:
        x, y, tone = [*rng.integers(0, SIDE, 2).tolist(), float(rng.random())]
        long, angle, round_one = size * rng.uniform(0.2, 1), rng.uniform(0, 180), rng.random() < 0.5
        for dx in (-SIDE, 0, SIDE):
            for dy in (-SIDE, 0, SIDE):
                where = ((x + dx, y + dy), (float(size), float(long)), angle)
                if round_one:
                    cv2.ellipse(tile, where, tone, -1)
                else:
                    cv2.fillPoly(tile, [cv2.boxPoints(where).astype(np.int32)], tone)
    return np.clip(tile + 0.3 * (slope - 0.5), 0, 1), 4


def _text(rng: np.random.Generator) -> tuple[Grey, float]:
    """Return lines of dark blocks on light ground, a headline or a picture among them."""
    tile = np.full((SIDE, SIDE), 0.95, np.float32)
    y, high = 8, int(rng.integers(5, 12))
    while y + high < SIDE - 4:
        x = 10
        while x < SIDE - 20:
            wide = int(rng.integers(high, 5 * high))
            if rng.random() < 0.85:
                tile[y : y + high, x : min(x + wide, SIDE - 10)] = rng.uniform(0.05, 0.4)
            x += wide + high // 2
        y += int(high * rng.uniform(1.5, 2.5))
        high = int(rng.integers(14, 40)) if rng.random() < 0.1 else high
    return tile, 2


def _weave(rng: np.random.Generator) -> tuple[Grey, float]:
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi * 24 / SIDE)
    return 0.5 + 0.25 * np.sin(x) * np.sin(y) + 0.5 * (noise(rng, 2, 1.4) - 0.5), 12


def _foliage(rng: np.random.Generator) -> tuple[Grey, float]:
    """Return leaves over leaves, the upper ones brighter."""
    tile = np.zeros((SIDE, SIDE), np.float32)
    long = rng.uniform(10, 24)
    for step in np.linspace(0.1, 1, 900):
        x, y = rng.integers(0, SIDE, 2).tolist()
        angle, tone = rng.uniform(0, 180), float(np.clip(step * rng.uniform(0.6, 1.1), 0, 1))
        for dx in (-SIDE, 0, SIDE) if not 30 < x < SIDE - 30 else (0,):
            for dy in (-SIDE, 0, SIDE) if not 30 < y < SIDE - 30 else (0,):
                cv2.ellipse(tile, ((x + dx, y + dy), (long, long * 0.4), angle), tone, -1)
    return tile, 16


MAKERS = {
    "plain": _noise,
    "noise": _noise,
    "cells": _cells,
    "stripes": _stripes,
    "grain": _grain,
    "magic": _magic,
    "checker": _checker,
    "brick": _brick,
    "planks": _planks,
    "tiles": _tiles,
    "collage": _collage,
    "text": _text,
    "weave": _weave,
    "foliage": _foliage,
}
