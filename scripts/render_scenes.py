#!/usr/bin/env python3
"""Render pictures with true depth to train the starter weights on: rooms, desks, streets, porches, all made here.

usage: scripts/render_scenes.py [--count N] [--first N] [--folder DIR] [--threads N]
       scripts/render_scenes.py --sheet FILE [--folder DIR]     a contact sheet of what is there, to look at

Every number is a scene of its own seed: NNNNNN.png, 256x192, and NNNNNN.depth.png, 16 bits, inverse depth along the
optical axis, value = 65535 * NEAREST / metres (0 = sky). What is there is left alone, and the picture is written last,
so any number of processes may share a folder, be killed and started again: each claims a number before it renders.

Needs bpy 5.0.1 (Blender as a Python 3.11 module for x86-64: the extra `train`; on Debian also libxi6 libxxf86vm1
libxfixes3 libxrender1 libgl1 libxkbcommon0 libsm6 libice6 libegl1) in an environment of its own:

    python3.11 -m venv bpy-venv && bpy-venv/bin/pip install bpy==5.0.1 "opencv-python-headless<4.11" "numpy<2"
    bpy-venv/bin/python scripts/render_scenes.py --count 5000
"""

import argparse
import math
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scene_places import PLACES, foreground
from scene_shapes import Dice, Paint, Part
from scene_views import Light, Place, View

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "edge-depth" / "scenes"
SIZE = (256, 192)
NEAREST = 0.15  # metres: what is nearer counts as so near
SEED = 20261
CLAIM_SECONDS = 300  # a claim older than that belongs to a process that is gone
Floats = np.ndarray


def render(folder: Path, numbers: range, threads: int) -> None:
    """Render the scenes of those numbers that are missing."""
    import bpy

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "scene.exr"
        for number in missing(folder, numbers):
            start = time.monotonic()
            try:
                picture, inverse = one_scene(bpy, number, threads, target)
            except RuntimeError as error:
                print(f"{number:06d}: left out: {error}", flush=True)
                (folder / f"{number:06d}.none").touch()
                continue
            write(folder, number, picture, inverse)
            print(f"{number:06d} {time.monotonic() - start:.2f} s", flush=True)


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


def write(folder: Path, number: int, picture: np.ndarray, inverse: Floats) -> None:
    """Write both files, each by rename, the picture last: where it is, the depth is complete."""
    scaled = np.round(65535 * np.clip(inverse * NEAREST, 0, 1)).astype(np.uint16)
    for name, array in ((f"{number:06d}.depth.png", scaled), (f"{number:06d}.png", picture[..., ::-1])):
        part = folder / f".{os.getpid()}.{name}"
        if not cv2.imwrite(str(part), array):
            raise OSError(f"{part}: can't be written")
        part.rename(folder / name)


def one_scene(bpy: Any, number: int, threads: int, target: Path) -> tuple[np.ndarray, Floats]:
    """Return the picture, uint8 (h, w, 3) RGB, and inverse depth, float32 (h, w), 1/m, of a scene.

    Raises:
        RuntimeError: no camera of this scene sees enough.
    """
    dice = Dice(SEED, number)
    place = dice.pick(list(PLACES), list(PLACES.values()))(dice)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    builder = Builder(bpy)
    builder.add(place.parts)
    view = choose_view(bpy, builder, place, dice)
    if dice.chance(0.4):
        builder.add(foreground(dice, view))
    for light in place.lights:
        builder.light(light)
    builder.sky(place.sky)
    set_up(bpy, dice, threads, target)
    bpy.ops.render.render(write_still=True)
    channels = read_exr(target)
    linear = np.stack([channels[f"ViewLayer.Combined.{c}"] for c in "RGB"], axis=-1)
    metres = channels["ViewLayer.Depth.Z"]
    inverse = np.where(metres < 1e4, 1 / np.maximum(metres, 1e-3), 0).astype(np.float32)
    low, high = np.percentile(inverse, (5, 95))
    if high < 1.15 * low or high > 1 / 0.12:
        raise RuntimeError(f"the view is flat or blocked: {low:.2f} to {high:.2f} 1/m")
    return develop(linear, dice), inverse


class Builder:
    """Turns parts and lights into Blender's objects."""

    def __init__(self, bpy: Any) -> None:
        self.bpy = bpy
        self.materials: dict[Paint, Any] = {}

    def add(self, parts: list[Part]) -> None:
        """Add the parts as one mesh, which is faster than hundreds."""
        paints = list(dict.fromkeys(part.paint for part in parts))
        starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
        faces = np.concatenate([np.where(p.faces >= 0, p.faces + s, -1) for p, s in zip(parts, starts, strict=False)])
        used = faces >= 0
        counts = used.sum(axis=1)
        mesh = self.bpy.data.meshes.new("place")
        mesh.vertices.add(int(starts[-1]))
        mesh.vertices.foreach_set("co", np.concatenate([p.vertices for p in parts]).astype(np.float32).ravel())
        mesh.loops.add(int(counts.sum()))
        mesh.loops.foreach_set("vertex_index", faces[used].astype(np.int32))
        mesh.polygons.add(len(faces))
        mesh.polygons.foreach_set("loop_start", np.cumsum([0, *counts[:-1]]).astype(np.int32))
        per_face = [np.full(len(p.faces), paints.index(p.paint), np.int32) for p in parts]
        mesh.polygons.foreach_set("material_index", np.concatenate(per_face))
        mesh.polygons.foreach_set("use_smooth", np.concatenate([np.full(len(p.faces), p.smooth) for p in parts]))
        layer = mesh.uv_layers.new()
        layer.uv.foreach_set("vector", np.concatenate([p.uv for p in parts])[used].astype(np.float32).ravel())
        for paint in paints:
            mesh.materials.append(self.material(paint))
        mesh.update()
        self.link(self.bpy.data.objects.new("place", mesh))

    def link(self, thing: Any) -> None:
        """Put an object into the scene."""
        self.bpy.context.collection.objects.link(thing)

    def material(self, paint: Paint) -> Any:
        """Return the material of a paint."""
        if paint not in self.materials:
            self.materials[paint] = paint_material(self.bpy, paint)
        return self.materials[paint]

    def light(self, light: Light) -> None:
        """Add a light."""
        kind = "POINT" if light.towards is None else "AREA" if light.size else "SUN"
        data = self.bpy.data.lights.new("light", kind)
        data.energy, data.color = light.watts, light.colour
        if kind == "AREA":
            data.size = light.size
        elif kind == "POINT":
            data.shadow_soft_size = light.size
        thing = self.bpy.data.objects.new("light", data)
        thing.location = light.at
        if light.towards is not None:
            from mathutils import Vector

            thing.rotation_euler = Vector(light.towards).to_track_quat("-Z", "Y").to_euler()
        self.link(thing)

    def sky(self, colours: tuple[tuple[float, ...], ...]) -> None:
        """Make the world: the horizon's colour below, the zenith's above."""
        world = self.bpy.data.worlds.new("sky")
        self.bpy.context.scene.world = world
        nodes, links = world.node_tree.nodes, world.node_tree.links
        where, split, ramp = (nodes.new(f"ShaderNode{n}") for n in ("TexCoord", "SeparateXYZ", "ValToRGB"))
        for element, colour in zip(ramp.color_ramp.elements, colours, strict=True):
            element.color = (*colour, 1)
        ramp.color_ramp.elements[1].position = 0.6
        links.new(where.outputs["Generated"], split.inputs[0])
        links.new(split.outputs["Z"], ramp.inputs[0])
        background = next(node for node in nodes if node.type == "BACKGROUND")
        links.new(ramp.outputs[0], background.inputs["Color"])

    def camera(self, view: View) -> Any:
        """Set the camera."""
        scene = self.bpy.context.scene
        if scene.camera is None:
            scene.camera = self.bpy.data.objects.new("camera", self.bpy.data.cameras.new("camera"))
            self.link(scene.camera)
        data = scene.camera.data
        data.sensor_fit, data.angle, data.clip_start = "HORIZONTAL", view.fov, 0.02
        scene.camera.location = view.eye
        scene.camera.rotation_euler = (math.pi / 2 - view.tilt, view.roll, view.yaw)
        return scene.camera


# pattern: (node, its settings)
PATTERNS: dict[str, tuple[str, dict[str, Any]]] = {
    "noise": ("TexNoise", {"Detail": 4.0}),
    "cells": ("TexVoronoi", {}),
    "stripes": ("TexWave", {"Distortion": 0.0}),
    "grain": ("TexWave", {"Distortion": 6.0, "Detail": 3.0}),
    "magic": ("TexMagic", {"Distortion": 1.5}),
    "checker": ("TexChecker", {}),
    "brick": ("TexBrick", {}),
    "planks": ("TexBrick", {"Brick Width": 4.0, "Row Height": 0.5, "Mortar Size": 0.01}),
}


def paint_material(bpy: Any, paint: Paint) -> Any:
    """Return a material: a pattern on the surface's own coordinates, its colours by a ramp."""
    material = bpy.data.materials.new("paint")
    nodes, links = material.node_tree.nodes, material.node_tree.links
    surface = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    first = (*paint.colours[0], 1)
    surface.inputs["Base Color"].default_value = first
    surface.inputs["Roughness"].default_value, surface.inputs["Metallic"].default_value = paint.rough, paint.metal
    surface.inputs["Emission Strength"].default_value = paint.glow
    surface.inputs["Emission Color"].default_value = first
    if paint.pattern == "plain":
        return material
    name, settings = PATTERNS[paint.pattern]
    texture, where, mapping = (
        nodes.new(f"ShaderNode{name}"),
        nodes.new("ShaderNodeUVMap"),
        nodes.new("ShaderNodeMapping"),
    )
    texture.inputs["Scale"].default_value = 1.0
    mapping.inputs["Scale"].default_value = (paint.scale,) * 3
    mapping.inputs["Rotation"].default_value = (0, 0, paint.turn)
    for key, value in settings.items():
        texture.inputs[key].default_value = value
    links.new(where.outputs[0], mapping.inputs[0])
    links.new(mapping.outputs[0], texture.inputs["Vector"])
    colour = texture.outputs[0]
    if name in ("TexChecker", "TexBrick"):
        for i, value in enumerate(paint.colours[: 3 if name == "TexBrick" else 2], 1):
            key = "Mortar" if i == 3 else f"Color{i}"
            texture.inputs[key].default_value = (*value, 1)
    else:
        colour = ramp_of(nodes, links, texture, paint)
    links.new(colour, surface.inputs["Base Color"])
    links.new(colour, surface.inputs["Emission Color"])
    return material


def ramp_of(nodes: Any, links: Any, texture: Any, paint: Paint) -> Any:
    """Return the output of a ramp through the paint's colours."""
    ramp = nodes.new("ShaderNodeValToRGB")
    elements = ramp.color_ramp.elements
    while len(elements) < len(paint.colours):
        elements.new(0.5)
    low, high = (0.35, 0.65) if paint.pattern == "noise" else (0.1, 0.9)
    for i, colour in enumerate(paint.colours):
        elements[i].position = low + (high - low) * i / max(1, len(paint.colours) - 1)
        elements[i].color = (*colour, 1)
    source = texture.outputs["Color"] if paint.pattern in ("magic", "cells") else texture.outputs[0]
    links.new(source, ramp.inputs[0])
    return ramp.outputs[0]


def choose_view(bpy: Any, builder: Builder, place: Place, dice: Dice) -> View:
    """Return the first camera of the place that nothing blocks; some rays tell.

    Raises:
        RuntimeError: there is none.
    """
    from mathutils import Vector

    graph = bpy.context.evaluated_depsgraph_get()
    scene, best = bpy.context.scene, (0.0, None)
    for _ in range(12):
        view = place.view(dice)
        camera = builder.camera(view)
        bpy.context.view_layer.update()
        matrix, reach = camera.matrix_world, math.tan(view.fov / 2)
        found = []
        for x in np.linspace(-0.95, 0.95, 9):
            for y in np.linspace(-0.7, 0.7, 7):
                way = matrix.to_3x3() @ Vector((x * reach, y * reach, -1))
                hit, point, *_ = scene.ray_cast(graph, matrix.translation, way.normalized())
                found.append(min((point - matrix.translation).length, 60) if hit else 60)
        near, low, high = np.percentile(found, (0, 20, 95))
        if near > place.closest and high > 1.7 * low:
            return view
        if near > 0.5 * place.closest and high > 1.3 * low and high / low > best[0]:
            best = (high / low, view)
    if best[1] is None:
        raise RuntimeError("every camera tried is blocked")
    builder.camera(best[1])
    return best[1]


def set_up(bpy: Any, dice: Dice, threads: int, target: Path) -> None:
    """Set the renderer: few samples, one bounce, two of five pictures denoised."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.resolution_percentage = 100
    scene.render.filepath = str(target)
    settings = scene.render.image_settings
    settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER"
    settings.color_depth, settings.exr_codec = "32", "NONE"
    settings.use_exr_interleave = True  # one part
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.view_layers[0].use_pass_z = True
    cycles = scene.cycles
    cycles.samples, cycles.seed = dice.pick((3, 4, 6)), dice.whole(0, 1 << 30)
    cycles.use_denoising = dice.chance(0.4)
    cycles.denoising_input_passes, cycles.denoising_quality = "RGB", "FAST"
    cycles.use_adaptive_sampling = False
    cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 1.0
    cycles.max_bounces = cycles.diffuse_bounces = 1
    cycles.glossy_bounces = cycles.transmission_bounces = 1
    cycles.sample_clamp_indirect, cycles.sample_clamp_direct = 3.0, 0.0
    cycles.caustics_reflective = cycles.caustics_refractive = False


def read_exr(path: Path) -> dict[str, Floats]:
    """Return the channels of an uncompressed, scan-line OpenEXR file of one part, float32 (h, w)."""
    data = path.read_bytes()
    if data[:4] != b"\x76\x2f\x31\x01":
        raise RuntimeError(f"{path}: is no OpenEXR file")
    at, header = 8, {}
    while data[at]:
        name_end = data.index(b"\0", at)
        type_end = data.index(b"\0", name_end + 1)
        (size,) = struct.unpack_from("<i", data, type_end + 1)
        header[data[at:name_end].decode()] = data[type_end + 5 : type_end + 5 + size]
        at = type_end + 5 + size
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    names = exr_channels(header["channels"])
    lines = np.frombuffer(data, np.uint8, offset=at + 1 + 8 * height).reshape(height, -1)[:, 8:]
    values = np.ascontiguousarray(lines).view("<f4").reshape(height, len(names), width)
    return {name: values[:, i].copy() for i, name in enumerate(names)}


def exr_channels(block: bytes) -> list[str]:
    """Return the names of the channels, all of which must be float32."""
    names, at = [], 0
    while block[at]:
        end = block.index(b"\0", at)
        names.append(block[at:end].decode())
        (kind,) = struct.unpack_from("<i", block, end + 1)
        if kind != 2:
            raise RuntimeError(f"channel {names[-1]} is not float32")
        at = end + 17
    return names


def develop(linear: Floats, dice: Dice) -> np.ndarray:
    """Return what a camera makes of linear light, uint8: automatic exposure that errs, white balance, tone curve."""
    light = np.nan_to_num(np.maximum(linear, 0), posinf=0.0)
    middle = float(np.exp(np.log(light.mean(axis=-1) + 1e-4).mean()))
    target = 0.16 * 2 ** float(np.clip(dice.rng.normal(0, 0.7), -2, 1.5))
    gain = min(target / middle, 400) * (1 + 0.12 * dice.rng.standard_normal(3))
    exposed = light * np.clip(gain, 0, None)
    if dice.chance(0.6):
        exposed = exposed * (1 + exposed / 9) / (1 + exposed)  # a soft shoulder, Reinhard's
        exposed = exposed * 1.35
    return np.round(255 * np.clip(exposed, 0, 1) ** (1 / 2.2)).astype(np.uint8)


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
    parser.add_argument("--threads", type=int, default=1, help="of the renderer (default 1)")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet there and render nothing")
    args = parser.parse_args()
    if args.sheet:
        sheet(args.folder, args.sheet)
    else:
        render(args.folder, range(args.first, args.first + args.count), args.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
