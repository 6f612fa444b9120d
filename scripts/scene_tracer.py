"""Light and distance of rendered training pictures, traced with Embree: numpy arrays of rays, one bounce."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scene_shapes import Part
from scene_textures import Bank
from scene_views import Light, Place, View

GRID = (480, 360)  # rays across and down: more than pixels, for their edges' sake
NOWHERE = 1e4  # metres
LIFT = 2e-3  # metres: a ray starts so far above the surface that it leaves
Floats = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """What n rays met: where, the normal towards the ray's start, and the paint there."""

    met: Floats
    at: Floats
    normal: Floats
    colour: Floats
    rough: Floats
    metal: Floats
    glow: Floats

    def __getitem__(self, which: Floats) -> "Surface":
        return Surface(**{name: getattr(self, name)[which] for name in self.__slots__})


class World:
    """Parts as one mesh of triangles under a sky, with lamps."""

    def __init__(self, place: Place, parts: Sequence[Part], bank: Bank, rng: np.random.Generator) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.bank, self.place, self.rng = bank, place, rng
        paints = list(dict.fromkeys(part.paint for part in parts))
        index = {paint: i for i, paint in enumerate(paints)}
        starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
        faces = np.concatenate([np.where(p.faces >= 0, p.faces + s, -1) for p, s in zip(parts, starts, strict=False)])
        uv = np.concatenate([part.uv for part in parts])
        paint = np.concatenate([np.full(len(p.faces), index[p.paint], np.int32) for p in parts])
        smooth = np.concatenate([np.full(len(p.faces), p.smooth) for p in parts])
        four = faces[:, 3] >= 0
        self.vertices = np.concatenate([p.vertices for p in parts]).astype(np.float32)
        self.triangles = np.concatenate([faces[:, :3], faces[four][:, [0, 2, 3]]]).astype(np.int32)
        self.uv = np.concatenate([uv[:, :3], uv[four][:, [0, 2, 3]]]).astype(np.float32)
        self.paint, self.smooth = (np.concatenate([each, each[four]]) for each in (paint, smooth))
        self._normals()
        self._paints(paints)
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, self.vertices, self.triangles)

    def _normals(self) -> None:
        a, b, c = (self.vertices[self.triangles[:, i]] for i in range(3))
        flat = np.cross(b - a, c - a)
        corner = np.zeros_like(self.vertices)
        for i in range(3):
            np.add.at(corner, self.triangles[:, i], flat)
        self.flat, self.corner = unit(flat), unit(corner)

    def _paints(self, paints: Sequence[Any]) -> None:
        """Lay the paints out as tables; each has its own tile, offset and turn."""
        count, table = len(paints), self.bank.kinds
        tiles = [table[paint.pattern][self.rng.integers(len(table[paint.pattern]))] for paint in paints]
        self.tile = np.array(tiles, np.int32)
        scale = np.array([paint.scale for paint in paints], np.float32) / self.bank.features[self.tile]
        angle = np.array([paint.turn for paint in paints], np.float32)
        self.turn = scale[:, None, None] * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32
        ).transpose(2, 0, 1)
        self.offset = self.rng.random((count, 2), dtype=np.float32)
        four = [(paint.colours * 4)[:4] if len(paint.colours) < 4 else paint.colours[:4] for paint in paints]
        self.colours = np.array(four, np.float32)
        self.rough, self.metal, self.glow = (
            np.array([getattr(paint, name) for paint in paints], np.float32) for name in ("rough", "metal", "glow")
        )

    def cast(self, start: Floats, way: Floats, spread: float) -> tuple[Floats, Surface]:
        """Return the distance along each ray in lengths of `way`, NOWHERE for the sky, and the surface met.

        `spread` is a ray's width per metre, for the pattern's blur.
        """
        found = self.scene.run(start, way, output=1)
        met = found["primID"] >= 0
        which = np.where(met, found["primID"], 0)
        far = np.where(met, found["tfar"], NOWHERE).astype(np.float32)
        u, v = found["u"][:, None], found["v"][:, None]
        share = (1 - u - v, u, v)
        normal = self.flat[which]
        curved = np.flatnonzero(self.smooth[which])
        corners = self.triangles[which[curved]]
        normal[curved] = unit(sum(self.corner[corners[:, i]] * share[i][curved] for i in range(3)))
        facing = dot(normal, way)
        normal *= -np.sign(facing + 1e-9)[:, None]
        at = start + way * np.where(met, far, 1)[:, None]
        paint = self.paint[which]
        uv = sum(self.uv[which, i] * share[i] for i in range(3))
        (a, b), (c, d) = self.turn[paint].transpose(1, 2, 0)
        uv = np.stack([a * uv[:, 0] + b * uv[:, 1], c * uv[:, 0] + d * uv[:, 1]], axis=1) + self.offset[paint]
        length = np.sqrt(dot(way, way))
        blur = far * length * spread / np.maximum(np.abs(facing) / length, 0.2) * np.hypot(a, b)
        value = self.bank.look_up(self.tile[paint], uv, blur) * 3
        low = np.clip(value.astype(np.int32), 0, 2)
        part = (value - low)[:, None]
        colour = self.colours[paint, low] * (1 - part) + self.colours[paint, low + 1] * part
        names = ("rough", "metal", "glow")
        return far, Surface(
            met=met, at=at + LIFT * normal, normal=normal, colour=colour, **{k: getattr(self, k)[paint] for k in names}
        )

    def lit(self, surface: Surface, light: Light, way: Floats | None = None) -> tuple[Floats, Floats | float]:
        """Return the light that arrives, (n, 3), divided by pi, and how strongly it is mirrored along -`way`."""
        count = len(surface.at)
        if light.towards is not None and not light.size:
            to = np.tile(-unit(np.array(light.towards, np.float32)[None]), (count, 1))
            strength, reach = np.float32(light.watts), np.full(count, NOWHERE, np.float32)
            ray = to + 0.02 * self.rng.standard_normal((count, 3), dtype=np.float32)
        else:
            to = np.array(light.at, np.float32) - surface.at
            reach = np.sqrt(dot(to, to))
            ray = to + light.size * self._across(light) * (self.rng.random((count, 3), dtype=np.float32) - 0.5)
            to = to / (reach[:, None] + 1e-6)
            strength = light.watts / (4 * math.pi * np.maximum(reach, 0.15 + light.size / 3) ** 2)
            if light.towards is not None:
                strength = strength * 4 * np.maximum(-(to @ unit(np.array(light.towards, np.float32)[None])[0]), 0)
            ray, reach = ray / (reach[:, None] + 1e-6), reach - 0.02
        facing = np.maximum(dot(to, surface.normal), 0)
        seen = self.scene.run(surface.at, ray.astype(np.float32), dists=reach.astype(np.float32), query="OCCLUDED") < 0
        arrives = (strength * facing * seen / math.pi).astype(np.float32)[:, None] * np.array(light.colour, np.float32)
        if way is None:
            return arrives, 0.0
        half = unit(to - unit(way))
        sharp = 2 / np.maximum(surface.rough, 0.08) ** 4
        gleam = np.maximum(dot(half, surface.normal), 0) ** sharp * np.minimum((sharp + 2) / 8, 60)
        return arrives, arrives * gleam[:, None]

    def _across(self, light: Light) -> Floats:
        """Return the axes along which a lamp is wide."""
        if light.towards is None:
            return np.ones(3, np.float32)
        flat: Floats = 1 - np.abs(unit(np.array(light.towards, np.float32)[None])[0])
        return flat

    def seen_by(self, start: Floats, way: Floats, ambient: Floats) -> Floats:
        """Return the light that comes back along rays, (n, 3), by one lamp picked by chance for all of them."""
        _, surface = self.cast(start, way, 0.02)
        light = surface.colour * ambient
        if self.place.lights:
            lamp = self.place.lights[self.rng.integers(len(self.place.lights))]
            light = surface.colour * (ambient + self.lit(surface, lamp)[0] * len(self.place.lights))
        light = np.minimum(light + surface.colour * surface.glow[:, None], 60)
        light[~surface.met] = self.sky(way[~surface.met])
        return light

    def sky(self, way: Floats) -> Floats:
        """Return the sky's light: the horizon's colour below, the zenith's above, clouds in between."""
        up = way[:, 2] / np.sqrt(dot(way, way))
        horizon, zenith = (np.array(colour, np.float32) for colour in self.place.sky)
        share = np.clip(up / 0.6, 0, 1)[:, None]
        clear = horizon * (1 - share) + zenith * share
        flat = way[:, :2] / np.maximum(way[:, 2:], 0.08 * np.abs(way[:, :1]) + 1e-3)
        tile = np.full(len(way), self.bank.kinds["noise"][0], np.int32)
        veil = self.bank.look_up(tile, 0.06 * flat, np.full(len(way), 0.01, np.float32))
        cloud = self.place.clouds * np.clip(2 * veil - 0.8, 0, 1) * np.clip(up * 8, 0, 1)
        return clear + cloud[:, None] * (1.3 * horizon.max() - clear)


def unit(vectors: Floats) -> Floats:
    """Return vectors (n, 3) of length 1."""
    scaled: Floats = vectors / (np.sqrt(dot(vectors, vectors)) + 1e-9)[:, None]
    return scaled.astype(np.float32)


def dot(one: Floats, two: Floats) -> Floats:
    """Return the products of two times n vectors, (n,)."""
    products: Floats = np.einsum("ij,ij->i", one, two)
    return products


def rays(view: View) -> Floats:
    """Return a direction for each place of the grid, (n, 3), float32; one along the axis has the length 1."""
    reach, (across, down) = math.tan(view.fov / 2), GRID
    x, y = np.meshgrid((np.arange(across) + 0.5) / across * 2 - 1, 1 - (np.arange(down) + 0.5) / down * 2)
    y = y * down / across
    wider = 1 + view.barrel * (x * x + y * y)
    x, y = x * wider * reach, y * wider * reach
    c, s = math.cos(view.roll), math.sin(view.roll)
    x, y = x * c - y * s, x * s + y * c
    forward, up = np.array([0, math.cos(view.tilt), -math.sin(view.tilt)]), np.array(
        [0, math.sin(view.tilt), math.cos(view.tilt)]
    )  # fmt: skip
    way = x[..., None] * np.array([1.0, 0, 0]) + y[..., None] * up + forward
    c, s = math.cos(view.yaw), math.sin(view.yaw)
    return (way @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])).reshape(-1, 3).astype(np.float32)


def picture(world: World, view: View) -> tuple[Floats, Floats]:
    """Return linear light (h, w, 3) and distance along the optical axis (h, w), metres, of the grid."""
    across, down = GRID
    way, spread = rays(view), 2 * math.tan(view.fov / 2) / across
    start = np.tile(np.array(view.eye, np.float32), (len(way), 1))
    metres, surface = world.cast(start, way, spread)
    direct, gleam = np.zeros_like(way), np.zeros_like(way)
    for lamp in world.place.lights:
        arrives, mirrored = world.lit(surface, lamp, way)
        direct, gleam = direct + arrives, gleam + mirrored
    mean = (direct * surface.colour)[surface.met].mean(axis=0) if surface.met.any() else np.zeros(3)
    ambient = (0.35 * mean + 0.1 * np.mean(world.place.sky, axis=0) + 1e-4).astype(np.float32)
    quarter = np.arange(len(way)).reshape(down, across)[::2, ::2].ravel()
    indirect = bounced(world, surface[quarter], metres[quarter], ambient)
    facing = np.clip(1 - np.abs(dot(surface.normal, unit(way))), 0, 1)
    mirror = np.where(surface.metal > 0.5, 0.7, 0.04 + 0.6 * facing**5) * np.clip(1.2 - 1.4 * surface.rough, 0, 1)
    light = surface.colour * (direct + indirect + surface.glow[:, None]) * (1 - 0.7 * surface.metal)[:, None]
    light += 0.04 * np.minimum(gleam, 40)
    shiny = np.flatnonzero(surface.met & (mirror > 0.02))
    if len(shiny):
        one, came = surface[shiny], unit(way[shiny])
        leaves = came - 2 * dot(came, one.normal)[:, None] * one.normal
        leaves += (one.rough**2)[:, None] * world.rng.standard_normal(leaves.shape, dtype=np.float32) * 0.5
        tint = np.where(one.metal[:, None] > 0.5, one.colour, 1)
        light[shiny] += mirror[shiny, None] * tint * world.seen_by(one.at, leaves, ambient)
    light[~surface.met] = world.sky(way[~surface.met])
    if world.place.haze:
        clear = np.exp(-np.minimum(metres, 2000) / world.place.haze)[:, None]
        light = light * clear + (1 - clear) * np.array(world.place.sky[0], np.float32)
    return light.reshape(down, across, 3), metres.reshape(down, across)


def bounced(world: World, surface: Surface, metres: Floats, ambient: Floats) -> Floats:
    """Return the light that other surfaces and the sky throw on each place of the grid, from a quarter of them.

    One ray each goes out at random, more of them upright than slanting; where distance and normal are alike,
    neighbours share what they found.
    """
    across, down = GRID[0] // 2, GRID[1] // 2
    way = unit(surface.normal * 1.001 + unit(world.rng.standard_normal(surface.at.shape, dtype=np.float32)))
    light = np.minimum(world.seen_by(surface.at, way, ambient), 8).reshape(down, across, 3)
    inverse = (1 / np.maximum(metres, 1e-3)).reshape(down, across)
    normal = surface.normal.reshape(down, across, 3)
    for step in (1, 2, 4, 8):
        total, weight = light.copy(), np.ones((down, across, 1), np.float32)
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1)):
            shift = (dy * step, dx * step)
            alike = np.maximum((normal * np.roll(normal, shift, (0, 1))).sum(axis=2), 0) ** 8
            alike *= np.exp(-np.abs(inverse / np.roll(inverse, shift, (0, 1)) - 1) * 20)
            total += alike[..., None] * np.roll(light, shift, (0, 1))
            weight += alike[..., None]
        light = total / weight
    return cv2.resize(light, GRID, interpolation=cv2.INTER_LINEAR).reshape(-1, 3)
