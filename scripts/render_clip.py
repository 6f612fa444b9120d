#!/usr/bin/env python3
"""Render the clip of the demo: a room, a camera that stands still, figures that come and go, and the true depth.

usage: scripts/render_clip.py render WORK [--threads N]    the pictures and their depth, resumable (about 15 minutes)
       scripts/render_clip.py pack WORK                    edge/data/clip and tests/data/sequence from them

`render` needs bpy 5.0.1 (Blender as a Python 3.11 module for x86-64; on Debian also libxi6 libxxf86vm1 libxfixes3
libxrender1 libgl1 libxkbcommon0 libsm6 libice6 libegl1), in an environment of its own:

    python3.11 -m venv bpy-venv && bpy-venv/bin/pip install bpy==5.0.1

`pack` needs the project's own environment and ffmpeg with libx264. Everything in the pictures is made here: no model,
no texture and no photograph comes from elsewhere.
"""

import argparse
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clip_figures import WALKS, place_figure
from clip_room import SEED, Builder, add_lights, build_room

ROOT = Path(__file__).resolve().parents[1]
FPS = 6
FRAMES = 180
PICTURE = (384, 288)
TRUTH = (256, 192)  # the network's size for a picture of 4:3
FOV_DEG = 66.0  # horizontal, that of the Raspberry Pi's Camera Module 3
EYE = (0.30, 0.0, 2.0)
TILT_DEG, PAN_DEG = 13.0, 3.0  # downwards, to the left
LAMP_ON_SECONDS = (23.5, 29.2)
EXPOSURE = (0.55, -0.15)  # stops; the camera's automatic exposure with the lamp off and on
SAMPLES = 10  # a pixel, then denoised
SENSOR_NOISE = 1.5  # grey levels, standard deviation
POINTS = ((0.846, 0.90), (0.40, 0.67), (0.52, 0.46))  # the vase, the rug, the far wall
LEARN_SECONDS = 6.0  # of the 8 without anybody
CLIP = ROOT / "edge" / "data" / "clip"
SEQUENCE = ROOT / "tests" / "data" / "sequence"
EVERY = 3  # frames of the clip for one of the sequence
SMALL_PICTURE = (192, 144)


def render(work: Path, threads: int) -> None:
    """Render what is missing in `work`: room.npy, the depth of the empty room, NNNN.png, and NNNN.npz, the figures'."""
    try:
        import bpy
    except ImportError as error:
        sys.exit(f"bpy can't be imported: {error}; see `scripts/render_clip.py --help` for how to get it")
    work.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    make = Builder(bpy)
    build_room(make)
    switch = add_lights(make)
    set_up(bpy, threads)
    np.save(work / "room.npy", cast(trees(bpy, list(bpy.data.objects))).astype(np.float32))
    for number in frames_missing(work):
        picture, seconds = work / f"{number:04d}.png", number / FPS
        twin = work / f"{same_as(number):04d}.png"
        if twin.exists():
            shutil.copyfile(twin, picture)
            continue
        things = [place_figure(make, walk, seconds) for walk in WALKS]
        switch(lamp_is_on(seconds))
        bpy.context.scene.view_settings.exposure = exposure(seconds)
        bpy.context.view_layer.update()
        figures = [cast(trees(bpy, parts)).astype(np.float32) for parts in things]
        np.savez_compressed(work / f"{number:04d}.npz", figures=np.stack(figures))
        part = picture.with_suffix(".part.png")
        bpy.context.scene.render.filepath = str(part)
        bpy.ops.render.render(write_still=True)
        part.rename(picture)
        for thing in itertools.chain(*things):
            bpy.data.meshes.remove(thing.data)


def lamp_is_on(seconds: float) -> bool:
    """Tell whether the lamp beside the armchair shines."""
    return LAMP_ON_SECONDS[0] <= seconds < LAMP_ON_SECONDS[1]


def same_as(number: int) -> int:
    """Return the first frame that shows the same: the empty room in the same light is rendered once."""

    def shown(frame: int) -> tuple[Any, ...]:
        seconds = frame / FPS
        figures = any(walk.seconds[0] <= seconds < walk.seconds[1] for walk in WALKS)
        return (frame,) if figures else (lamp_is_on(seconds), exposure(seconds))

    return next(frame for frame in range(number + 1) if shown(frame) == shown(number))


def frames_missing(work: Path) -> Iterator[int]:
    """Yield the frames that are not there yet, spread over the clip first, so that a part shows the whole."""
    order = [n for step in (30, 10, 1) for n in range(0, FRAMES, step)]
    for number in dict.fromkeys(order):
        if not (work / f"{number:04d}.png").exists():
            yield number


def exposure(seconds: float) -> float:
    """Return the camera's automatic exposure in stops: it follows the lamp within 0.6 seconds."""
    (on, off), (dark, bright) = LAMP_ON_SECONDS, EXPOSURE
    return float(np.interp(seconds, (on, on + 0.6, off, off + 0.6), (dark, bright, bright, dark)))


def set_up(bpy: Any, threads: int) -> None:
    """Set the camera and the renderer."""
    scene = bpy.context.scene
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.angle = "HORIZONTAL", math.radians(FOV_DEG)
    data.clip_start = 0.05
    camera = bpy.data.objects.new("camera", data)
    camera.location = EYE
    camera.rotation_euler = (math.radians(90 - TILT_DEG), 0, math.radians(PAN_DEG))
    bpy.context.collection.objects.link(camera)
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = PICTURE
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.use_persistent_data = True
    cycles = scene.cycles
    cycles.samples, cycles.seed, cycles.use_denoising = SAMPLES, SEED, True
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 4, 3, 1
    cycles.sample_clamp_indirect = 4.0
    scene.world = bpy.data.worlds.new("world")
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"


def trees(bpy: Any, things: list[Any]) -> Any:
    """Return what rays can be cast at: the surfaces of all things together, or None."""
    from mathutils.bvhtree import BVHTree

    graph = bpy.context.evaluated_depsgraph_get()
    vertices, polygons = [], []
    for thing in things:
        if thing.type != "MESH":
            continue
        evaluated = thing.evaluated_get(graph)
        mesh = evaluated.to_mesh()
        first = len(vertices)
        vertices += [evaluated.matrix_world @ vertex.co for vertex in mesh.vertices]
        polygons += [[first + i for i in polygon.vertices] for polygon in mesh.polygons]
        evaluated.to_mesh_clear()
    return BVHTree.FromPolygons(vertices, polygons) if polygons else None


def rays(size: tuple[int, int]) -> np.ndarray:
    """Return the direction through each pixel's centre, float64 (h, w, 3): x right, y down, z = 1 along the axis."""
    width, height = size
    tangent = math.tan(math.radians(FOV_DEG / 2))
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * tangent
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * tangent * height / width
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)


def cast(tree: Any) -> np.ndarray:
    """Return the distance along the optical axis to what the rays meet, float64 (h, w) metres; 0 = nothing."""
    depth = np.zeros(TRUTH[::-1])
    if tree is None:
        return depth
    from mathutils import Vector

    tilt, pan = math.radians(TILT_DEG), math.radians(PAN_DEG)
    forward = np.array([-math.sin(pan) * math.cos(tilt), math.cos(pan) * math.cos(tilt), -math.sin(tilt)])
    right = np.array([math.cos(pan), math.sin(pan), 0])
    down = np.cross(forward, right)
    eye = Vector(EYE)
    local = rays(TRUTH)
    world = local[..., 0:1] * right + local[..., 1:2] * down + forward
    for row, line in enumerate(world):
        for column, direction in enumerate(line.tolist()):
            hit = tree.ray_cast(eye, Vector(direction))
            if hit[0] is not None:
                depth[row, column] = float(np.dot(np.array(hit[0]) - EYE, forward))
    return depth


def pack(work: Path) -> None:
    """Write the clip with its truth, and the small sequence for the tests, from a complete rendering."""
    missing = list(frames_missing(work))
    if missing:
        sys.exit(f"{work}: {len(missing)} of {FRAMES} frames are missing; run `scripts/render_clip.py render` again")
    room = np.load(work / "room.npy")
    figures = [seen_figures(work, number, room) for number in range(FRAMES)]
    pictures = [photographed(work, number) for number in range(FRAMES)]
    points = measured_points(room)
    pack_clip(pictures, figures, points)
    pack_sequence(pictures[::EVERY], figures[::EVERY], room, points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The figures of one frame: `metres` along the axis where one is seen, float32 (h, w), 0 elsewhere.

    `visible` is the share of their outlines, within the frame, that nothing hides.
    """

    metres: np.ndarray
    visible: float


def seen_figures(work: Path, number: int, room: np.ndarray) -> Seen | None:
    """Return what is seen of the figures of a frame, or null where nothing is."""
    path = work / f"{number:04d}.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        whole = arrays["figures"]
    nearest = np.where(whole > 0, whole, np.inf).min(axis=0)
    metres = np.where(nearest < room, nearest, 0).astype(np.float32)
    if not metres.any():
        return None
    return Seen(metres=metres, visible=float((metres > 0).sum() / np.isfinite(nearest).sum()))


def photographed(work: Path, number: int) -> np.ndarray:
    """Return a picture, uint8 (h, w, 3) BGR, with the noise of a sensor: a rendered wall would stand too still."""
    import cv2

    clean = cv2.imread(str(work / f"{number:04d}.png"))
    noise = np.random.default_rng((SEED, number)).normal(0, SENSOR_NOISE, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8)


def measured_points(room: np.ndarray) -> list[dict[str, float]]:
    """Return the static points with their metres along the ray."""
    height, width = room.shape
    lengths = np.linalg.norm(rays(TRUTH), axis=-1)
    rows = [(x, y, int(y * height), int(x * width)) for x, y in POINTS]
    return [{"x": x, "y": y, "metres": round(float(room[i, j] * lengths[i, j]), 3)} for x, y, i, j in rows]


def pack_clip(pictures: list[np.ndarray], figures: list[Seen | None], points: list[dict[str, float]]) -> None:
    """Write clip.mp4 and truth.json."""
    CLIP.mkdir(parents=True, exist_ok=True)
    encode(pictures, CLIP / "clip.mp4")
    head = {
        "note": "rendered, not filmed, with exact distances; calibrated at three places that suit the starter weights",
        "frame": "item i of frames is frame i of clip.mp4, counted from 0; null where no figure is seen",
        "fps": FPS,
        "learn_seconds": LEARN_SECONDS,
        "size": PICTURE,
        "horizontal_fov_deg": FOV_DEG,
        "points": points,
    }
    rows = ",\n  ".join(json.dumps(nearest_figure(seen), separators=(",", ":")) for seen in figures)
    body = ",\n ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items())
    (CLIP / "truth.json").write_text(f'{{{body},\n "frames": [\n  {rows}\n ]\n}}\n', encoding="utf-8")


def nearest_figure(seen: Seen | None) -> dict[str, Any] | None:
    """Return what truth.json says of a frame."""
    from edge.config import SceneSection
    from edge.evaluation import true_nearest
    from edge.scene.metres import Lens

    lens = Lens(fov_deg=FOV_DEG, aspect=PICTURE[1] / PICTURE[0])
    nearest = true_nearest(seen.metres, lens, SceneSection().min_area) if seen else None
    if seen is None or nearest is None:
        return None
    return {
        "metres": round(nearest.metres, 3),
        "nearest_m": round(nearest.nearest_m, 3),
        "box": [round(value, 3) for value in nearest.box],
        "area": round(nearest.area, 3),
        "visible": round(seen.visible, 3),
    }


def encode(pictures: list[np.ndarray], path: Path) -> None:
    """Write an H.264 file with a constant frame rate; without B frames, so that frame i is decoded as number i."""
    size = f"{PICTURE[0]}x{PICTURE[1]}"
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", str(FPS), "-i", "-"]
    coding = ["-c:v", "libx264", "-preset", "veryslow", "-crf", "20", "-bf", "0", "-g", "30", "-pix_fmt", "yuv420p"]
    command = ["ffmpeg", "-y", "-loglevel", "error", *source, *coding, "-movflags", "+faststart", str(path)]
    subprocess.run(  # noqa: S603 - all of it is written above
        command, input=b"".join(picture.tobytes() for picture in pictures), check=True
    )


def pack_sequence(
    pictures: list[np.ndarray], figures: list[Seen | None], room: np.ndarray, points: list[dict[str, float]]
) -> None:
    """Write every third frame, smaller, in the layout that scripts/evaluate_scene.py reads."""
    import cv2

    for name in ("pictures", "figures"):
        shutil.rmtree(SEQUENCE / name, ignore_errors=True)
        (SEQUENCE / name).mkdir(parents=True)
    facts = {"fps": FPS / EVERY, "horizontal_fov_deg": FOV_DEG, "learn_seconds": LEARN_SECONDS, "points": points}
    (SEQUENCE / "sequence.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    write_millimetres(SEQUENCE / "room.png", room)
    for number, (picture, seen) in enumerate(zip(pictures, figures, strict=True)):
        small = cv2.resize(picture, SMALL_PICTURE, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(SEQUENCE / f"pictures/{number:03d}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 50])
        if seen is not None:
            write_millimetres(SEQUENCE / f"figures/{number:03d}.png", seen.metres)


def write_millimetres(path: Path, metres: np.ndarray) -> None:
    """Write a depth picture of 16 bits, every second row and column: a mean over an edge would be neither distance."""
    import cv2

    millimetres = np.round(metres[::2, ::2] * 1000).astype(np.uint16)
    cv2.imwrite(str(path), millimetres, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> int:
    """Render, or pack what was rendered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("render", "pack"))
    parser.add_argument("work", type=Path, help="a folder for the rendered frames")
    parser.add_argument("--threads", type=int, default=1, help="of the renderer (default 1)")
    args = parser.parse_args()
    if args.step == "render":
        render(args.work, args.threads)
    else:
        pack(args.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
