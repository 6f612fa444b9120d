"""The room of the rendered clip: shapes, materials, furniture and light, for Blender; all of it made here."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

SEED = 7


PATTERNS = {"noise": "ShaderNodeTexNoise", "stripes": "ShaderNodeTexWave", "cells": "ShaderNodeTexVoronoi"}


def rgb(colour: str) -> tuple[float, float, float, float]:
    """Return linear RGBA of `#rrggbb`."""
    srgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in srgb]
    return linear[0], linear[1], linear[2], 1.0


class Builder:
    """Makes the objects of a scene; all lengths in metres."""

    def __init__(self, bpy: Any) -> None:
        self.bpy = bpy
        self._paints: dict[tuple[Any, ...], Any] = {}

    def paint(
        self, base: str, other: str | None = None, pattern: str = "noise", scale: float = 6.0, rough: float = 0.75
    ) -> Any:
        """Return a material of two colours in a pattern of that scale (per metre)."""
        key = (base, other, pattern, scale, rough)
        if key not in self._paints:
            self._paints[key] = self._paint(*key)
        return self._paints[key]

    def _paint(self, base: str, other: str | None, pattern: str, scale: float, rough: float) -> Any:
        material = self.bpy.data.materials.new(base)
        nodes, links = material.node_tree.nodes, material.node_tree.links
        surface = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
        surface.inputs["Roughness"].default_value = rough
        ramp = nodes.new("ShaderNodeValToRGB")
        ramp.color_ramp.elements[0].color = rgb(base)
        ramp.color_ramp.elements[1].color = rgb(other or base)
        if pattern == "stripes":
            ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.45, 0.55
        texture = nodes.new(PATTERNS[pattern])
        texture.inputs["Scale"].default_value = scale
        if pattern == "stripes":
            texture.bands_direction = "Z"
        where = nodes.new("ShaderNodeTexCoord")
        links.new(where.outputs["Object"], texture.inputs["Vector"])
        links.new(texture.outputs[0], ramp.inputs[0])
        links.new(ramp.outputs[0], surface.inputs["Base Color"])
        return material

    def planks(self) -> Any:
        """Return a floor of wooden planks that run away from the camera."""
        material = self.paint("#8a5a33", "#6d4424", "noise", 2.0, 0.42)
        nodes, links = material.node_tree.nodes, material.node_tree.links
        surface = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
        ramp = next(node for node in nodes if node.type == "VALTORGB")
        where = next(node for node in nodes if node.type == "TEX_COORD")
        turn, brick = nodes.new("ShaderNodeMapping"), nodes.new("ShaderNodeTexBrick")
        turn.inputs["Rotation"].default_value = (0, 0, math.pi / 2)
        values = {"Scale": 1.0, "Brick Width": 1.3, "Row Height": 0.16, "Mortar Size": 0.004, "Color2": rgb("#a9764a")}
        for name, value in values.items():
            brick.inputs[name].default_value = value
        brick.inputs["Mortar"].default_value = rgb("#2c1a0e")
        links.new(where.outputs["Object"], turn.inputs[0])
        links.new(turn.outputs[0], brick.inputs["Vector"])
        links.new(ramp.outputs[0], brick.inputs["Color1"])
        links.new(brick.outputs[0], surface.inputs["Base Color"])
        return material

    def glow(self, colour: str, strength: float) -> Any:
        """Return a material that shines."""
        material = self.bpy.data.materials.new(f"glow {colour}")
        surface = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        surface.inputs["Emission Color"].default_value = rgb(colour)
        surface.inputs["Emission Strength"].default_value = strength
        return material

    def mesh(self, vertices: Any, faces: Any, material: Any, smooth: bool = False) -> Any:
        """Return an object of that shape at the origin."""
        data = self.bpy.data.meshes.new("mesh")
        data.from_pydata(vertices, [], faces)
        data.materials.append(material)
        if smooth:
            data.shade_smooth()
        thing = self.bpy.data.objects.new("thing", data)
        self.bpy.context.collection.objects.link(thing)
        return thing

    def box(self, low: tuple[float, ...], high: tuple[float, ...], material: Any, round_by: float = 0.008) -> Any:
        """Return a box from corner to corner, its edges rounded."""
        half = (np.array(high) - low) / 2
        corners = [(x * half[0], y * half[1], z * half[2]) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
        faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        thing = self.mesh(corners, faces, material)
        thing.location = [float(v) for v in (np.array(high) + low) / 2]
        if round_by:
            bevel = thing.modifiers.new("bevel", "BEVEL")
            bevel.width, bevel.segments = round_by, 3
        return thing

    def turned(self, x: float, y: float, profile: list[tuple[float, float]], material: Any) -> Any:
        """Return what a lathe makes of (radius, height) pairs."""
        steps = 24
        angles = 2 * np.pi * np.arange(steps) / steps
        vertices = [(r * np.cos(a), r * np.sin(a), z) for r, z in profile for a in angles]
        thing = self.mesh(vertices, tube(len(profile), steps), material, smooth=True)
        thing.location = (x, y, 0)
        return thing


def tube(rings: int, steps: int) -> list[tuple[int, ...]]:
    """Return the faces between rings of points, and two lids."""
    sides = [
        (i * steps + j, i * steps + (j + 1) % steps, (i + 1) * steps + (j + 1) % steps, (i + 1) * steps + j)
        for i in range(rings - 1)
        for j in range(steps)
    ]
    return [*sides, tuple(range(steps))[::-1], tuple(range((rings - 1) * steps, rings * steps))]


def build_room(make: Builder) -> None:
    """Make all that stands still: 4.2 m wide, 6.8 m long, three openings into a passage around it."""
    build_walls(make)
    build_seats(make)
    build_cupboards(make)
    build_window(make)
    build_small_things(make)


def build_walls(make: Builder) -> None:
    """Make floor, ceiling, walls with three openings, and a door."""
    plaster = make.paint("#cfc4ae", "#bfb298", "noise", 3.0, 0.9)
    passage = make.paint("#a9b3b0", "#8f9a98", "noise", 2.0, 0.9)
    wood = make.paint("#efe9dc", "#e2d9c6", "noise", 9.0, 0.5)
    make.box((-3.6, -0.6, -0.1), (3.6, 9.0, 0), make.planks(), 0)
    make.box((-3.6, -0.6, 2.6), (3.6, 9.0, 2.7), make.paint("#e9e5db", "#dcd6c8", "noise", 4.0, 0.9), 0)
    outside = (((-3.6, -0.6), (-3.5, 9)), ((3.5, -0.6), (3.6, 9)), ((-3.6, 8.9), (3.6, 9)), ((-3.6, -0.6), (3.6, -0.5)))
    for low, high in outside:
        make.box((*low, 0), (*high, 2.6), passage, 0)
    walls = [  # x, y of two corners, from height
        ((-2.2, -0.5), (-2.1, 3.3), 0),
        ((-2.2, 4.3), (-2.1, 6.9), 0),
        ((-2.2, 3.3), (-2.1, 4.3), 2.1),
        ((2.1, -0.5), (2.2, 2.55), 0),
        ((2.1, 3.5), (2.2, 6.9), 0),
        ((2.1, 2.55), (2.2, 3.5), 2.1),
        ((-2.2, 6.8), (0.55, 6.9), 0),
        ((1.45, 6.8), (2.2, 6.9), 0),
        ((0.55, 6.8), (1.45, 6.9), 2.1),
    ]
    for low, high, bottom in walls:
        make.box((*low, bottom), (*high, 2.6), plaster, 0)
        if not bottom:
            make.box((low[0] - 0.015, low[1] - 0.015, 0), (high[0] + 0.015, high[1] + 0.015, 0.11), wood)
    for x in (0.5, 1.45):
        make.box((x, 6.76, 0), (x + 0.06, 6.94, 2.15), wood)
    make.box((0.5, 6.76, 2.1), (1.51, 6.94, 2.17), wood)
    for x, ys in ((-2.23, (3.25, 4.3)), (2.07, (2.5, 3.5))):
        for y in ys:
            make.box((x, y, 0), (x + 0.16, y + 0.05, 2.12), wood)
    door = make.box((-0.43, -0.02, 0), (0.43, 0.02, 2.08), make.paint("#7a4a2a", "#5e371d", "stripes", 0.6, 0.45))
    door.location, door.rotation_euler = (1.50, 7.32, 1.04), (0, 0, math.radians(84))


def build_seats(make: Builder) -> None:
    """Make the sofa with its cushions and the armchair."""
    sofa = make.paint("#4d6470", "#3d525d", "noise", 60.0, 0.95)
    cushion = make.paint("#c98f3c", "#8f5f22", "cells", 14.0)
    make.box((-2.05, 4.75, 0.08), (-1.15, 6.55, 0.43), sofa, 0.06)
    make.box((-2.08, 4.75, 0.30), (-1.78, 6.55, 0.86), sofa, 0.09)
    for y in (4.62, 6.38):
        make.box((-2.05, y, 0.08), (-1.15, y + 0.2, 0.62), sofa, 0.08)
    for y in (4.95, 5.95):
        pillow = make.box((-0.21, -0.07, -0.21), (0.21, 0.07, 0.21), cushion, 0.06)
        pillow.location, pillow.rotation_euler = (-1.66, y, 0.64), (0.15, -0.25, 1.45)
    chair = make.paint("#7d2f3a", "#64222c", "noise", 40.0, 0.95)
    parts = [((-0.38, -0.36, 0.12), (0.38, 0.40, 0.45)), ((-0.40, 0.22, 0.12), (0.40, 0.46, 0.92))]
    parts += [((x, -0.38, 0.12), (x + 0.16, 0.40, 0.64)) for x in (-0.46, 0.30)]
    for low, high in parts:
        part = make.box(low, high, chair, 0.07)
        middle, turn = (np.array(low) + high) / 2, math.radians(205)
        part.location = (
            -0.98 + middle[0] * math.cos(turn) - middle[1] * math.sin(turn),
            2.72 + middle[0] * math.sin(turn) + middle[1] * math.cos(turn),
            middle[2],
        )
        part.rotation_euler = (0, 0, turn)


BINDINGS = ("#7c2d26", "#2a4a6b", "#d7c48c", "#3c5a3a", "#c7742e", "#56405f", "#e6e0d2", "#22262c")


def build_cupboards(make: Builder) -> None:
    """Make the sideboard with a television, the pedestal with a vase, and the bookcase."""
    oak = make.paint("#b58a55", "#8f683a", "noise", 5.0, 0.5)
    white = make.paint("#dcd7cc", "#cfc9bb", "noise", 9.0, 0.5)
    dice = random.Random(SEED)  # noqa: S311 - books, not secrets
    make.box((1.62, 4.15, 0.12), (2.08, 6.2, 0.62), oak)
    for y in (4.17, 4.86, 5.54):
        make.box((1.60, y, 0.15), (1.63, y + 0.64, 0.59), white)
    make.box((1.82, 4.55, 0.68), (1.87, 5.75, 1.36), make.paint("#101216", rough=0.2))
    stone = make.paint("#8d8a84", "#75726c", "noise", 30.0)
    glaze = make.paint("#b9c7c2", "#4c7d86", "stripes", 2.2, 0.3)
    make.box((0.76, 1.18, 0.0), (0.98, 1.40, 1.02), stone)  # close to the camera: a pedestal with a vase
    make.turned(0.87, 1.29, [(0.05, 1.02), (0.085, 1.12), (0.08, 1.2), (0.04, 1.28), (0.055, 1.32)], glaze)
    make.box((0.98, 2.05, 0.0), (1.03, 2.40, 1.30), oak)  # a bookcase, its open side towards the camera
    make.box((0.98, 2.38, 0.0), (1.75, 2.42, 1.30), oak)
    make.box((1.72, 2.05, 0.0), (1.77, 2.42, 1.30), oak)
    for z in (0.04, 0.45, 0.86, 1.27):
        make.box((0.98, 2.05, z), (1.77, 2.42, z + 0.03), oak)
    for z in (0.07, 0.48, 0.89):
        x = 1.05
        while x < 1.66:
            width, height = dice.uniform(0.025, 0.055), dice.uniform(0.22, 0.34)
            colour = dice.choice(BINDINGS)
            make.box((x, 2.09, z), (x + width, 2.09 + dice.uniform(0.16, 0.2), z + height), make.paint(colour), 0.004)
            x += width + 0.004


def build_window(make: Builder) -> None:
    """Make the window, its frame and its curtains."""
    frame, cloth = make.paint("#f2efe8", rough=0.5), make.paint("#d9cdb2", "#cabb9a", "noise", 30.0, 0.95)
    make.box((-2.12, 4.9, 1.0), (-2.09, 6.2, 2.2), make.glow("#d9e8ff", 5.0), 0)
    sides = (((4.84, 0.94), (6.26, 1.0)), ((4.84, 2.2), (6.26, 2.26)), ((4.84, 1.0), (4.9, 2.2)))
    sides += (((6.2, 1.0), (6.26, 2.2)), ((5.53, 1.0), (5.57, 2.2)), ((4.9, 1.58), (6.2, 1.62)))
    for low, high in sides:
        make.box((-2.11, *low), (-2.05, *high), frame, 0.005)
    for start in (4.52, 6.12):  # curtains: a wave, hanging
        along = np.linspace(0, 0.46, 60)
        wave = -2.03 + 0.035 * np.sin(along * 55)
        vertices = [(x, start + y, z) for z in (0.75, 2.42) for x, y in zip(wave, along, strict=True)]
        make.mesh(vertices, [(i, i + 1, i + 61, i + 60) for i in range(59)], cloth, smooth=True)
    make.box((-2.04, 4.4, 2.41), (-2.01, 6.7, 2.44), make.paint("#5a4630"), 0.01)


BOWL = [(0.05, 0.40), (0.13, 0.44), (0.16, 0.50), (0.13, 0.48), (0.02, 0.43)]


def build_small_things(make: Builder) -> None:
    """Make rug, table, bowl, lamp stand, pictures and plant."""
    dark, brass = make.paint("#2d2622", rough=0.5), make.paint("#9b7a3a", rough=0.3)
    make.box((-1.25, 4.45, 0.0), (0.35, 6.35, 0.012), make.paint("#7a2f2a", "#d6c7a1", "cells", 5.0, 0.95), 0.004)
    make.box((-0.80, 4.95, 0.36), (-0.15, 5.95, 0.40), make.paint("#6a4a2d", "#513620", "noise", 5.0, 0.4))
    for x, y in ((-0.78, 4.98), (-0.21, 4.98), (-0.78, 5.88), (-0.21, 5.88)):
        make.box((x, y, 0.012), (x + 0.04, y + 0.04, 0.37), dark)
    make.turned(-0.5, 5.4, BOWL, make.paint("#2e6f87"))
    make.turned(-1.42, 3.05, [(0.15, 0.0), (0.15, 0.02), (0.014, 0.04), (0.014, 1.42)], brass)
    art = (("#26435c", "#d98e3a", 2.5), ("#803c32", "#e8d8b4", 4.0), ("#2f5a44", "#dfc46b", 3.0))
    for (x, z, width, height), (first, second, scale) in zip(
        ((-1.65, 1.35, 0.5, 0.65), (-0.95, 1.45, 0.75, 0.5), (-0.02, 1.4, 0.38, 0.5)), art, strict=True
    ):
        make.box((x, 6.765, z), (x + width, 6.80, z + height), dark)
        canvas = make.paint(first, second, "cells", scale)
        make.box((x + 0.04, 6.755, z + 0.04), (x + width - 0.04, 6.77, z + height - 0.04), canvas, 0)
    make.turned(1.78, 6.5, [(0.12, 0.0), (0.17, 0.34), (0.15, 0.34), (0.02, 0.32)], make.paint("#b5562f"))
    leaf = make.paint("#2f6a35", "#1e4a26", "noise", 12.0)
    dice = random.Random(SEED + 1)  # noqa: S311 - leaves, not secrets
    for _ in range(26):
        angle, length, rise = dice.uniform(0, 6.28), dice.uniform(0.18, 0.38), dice.uniform(0.35, 0.85)
        across = (-math.sin(angle) * 0.045, math.cos(angle) * 0.045)
        tip = (math.cos(angle) * length, math.sin(angle) * length, 0.32 + rise)
        half = (tip[0] * 0.6, tip[1] * 0.6, 0.32 + rise * 0.85)
        left, right = ((half[0] + s * across[0], half[1] + s * across[1], half[2]) for s in (1, -1))
        points = [(0, 0, 0.32), left, tip, right]
        make.mesh(points, [(0, 1, 2, 3)], leaf).location = (1.78, 6.5, 0)


def add_lights(make: Builder) -> Callable[[bool], None]:
    """Light the room by day, and return the switch of the lamp beside the armchair."""
    bpy = make.bpy

    def light(kind: str, where: tuple[float, ...], watts: float, colour: str, size: float) -> Any:
        data = bpy.data.lights.new(kind, kind)
        data.energy, data.color = watts, rgb(colour)[:3]
        if kind == "AREA":
            data.shape, data.size = "SQUARE", size
        else:
            data.shadow_soft_size = size
        thing = bpy.data.objects.new(kind, data)
        thing.location = where
        bpy.context.collection.objects.link(thing)
        return thing

    light("AREA", (-1.98, 5.55, 1.6), 95, "#dfeaff", 1.2).rotation_euler = (0, -math.pi / 2, 0)
    light("AREA", (0, 2.4, 2.58), 38, "#fff1dc", 2.6)
    light("AREA", (1.0, 8.0, 2.58), 14, "#fff1dc", 0.8)
    light("AREA", (-2.9, 3.8, 2.58), 14, "#fff1dc", 0.8)
    light("AREA", (2.9, 3.0, 2.58), 14, "#fff1dc", 0.8)
    bulb = light("POINT", (-1.42, 3.05, 1.56), 0, "#ffcf8a", 0.09)
    shade = make.glow("#ffd9a0", 0.0)
    make.turned(-1.42, 3.05, [(0.22, 1.42), (0.13, 1.72), (0.125, 1.72), (0.215, 1.42)], shade)
    surface = next(node for node in shade.node_tree.nodes if node.type == "BSDF_PRINCIPLED")

    def switch(on: bool) -> None:
        bulb.data.energy = 70 if on else 0
        surface.inputs["Emission Strength"].default_value = 6.0 if on else 0.15

    return switch
