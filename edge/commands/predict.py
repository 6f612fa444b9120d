"""Turn pictures into depth heatmaps.

A single picture has no background to be compared with: colours and readings are relative to the picture itself.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands import thirds
from edge.errors import ConfigError, EngineError, PictureError

if TYPE_CHECKING:
    from edge.depth.model import DepthModel
    from edge.records import Scene

# The ending of each format; those of one ending can't be written beside each other.
FORMATS = {"jpg": "jpg", "png": "png", "png16": "png", "npy": "npy", "grey": "png"}
_JPEG_QUALITY = 90
_LEAST_SIDE = 32  # the network's coarsest cell: in less than that there is no depth to see


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pictures", nargs="+", type=Path, metavar="IMAGE", help="a picture, or a folder of pictures")
    parser.add_argument("-o", "--output", type=Path, default=Path("depth"), metavar="DIR", help="where to (./depth)")
    parser.add_argument("--weights", default="auto", metavar="FILE", help="a weights file, or a known name")
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "torch", "torchscript", "onnxruntime", "onnxruntime-int8"),
        help="what runs the network (auto: the fastest that the daemon has found here, else torch)",
    )
    parser.add_argument(
        "--size", type=int, default=256, metavar="PX", help="the longer side that the network sees (256)"
    )
    parser.add_argument(
        "--format",
        type=_formats,
        default=("jpg",),
        metavar="LIST",
        help="jpg, png: heatmap; png16, grey: near = white, 16 or 8 bits; npy: the network's own output, float32 (jpg)",
    )
    parser.add_argument("--json", action="store_true", help="print a line of readings for each picture")
    parser.add_argument("--no-legend", action="store_true", help="leave out the strip under the heatmap")


def _formats(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"must be out of {', '.join(FORMATS)}, not {name!r}")
    twice = [name for name in chosen if [FORMATS[other] for other in chosen].count(FORMATS[name]) > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"{' and '.join(twice)} have the same ending; ask for them one at a time")
    return chosen


def main(args: argparse.Namespace) -> int:
    """Write the heatmaps; return 0, 65 when a picture could not be used, or 70 when the network failed at one."""
    from edge.config import ModelSection

    pictures = _expand(args.pictures)
    _check_names(pictures, args)
    try:
        section = ModelSection(weights=args.weights, engine=args.engine, input_size=args.size)
    except ValueError as error:
        raise ConfigError(f"--size: must be 64..512 and a multiple of 32, not {args.size}") from error
    _make_folder(args.output)

    from edge.depth.model import load_model

    model = load_model(section)
    codes = []
    for number, path in enumerate(_with_progress(pictures)):
        try:
            _predict(model, path, number, args)
        except (PictureError, EngineError) as error:
            codes.append(error.exit_code)
            print(f"edge-depth: {error}", file=sys.stderr)
    if codes:
        print(f"edge-depth: {len(codes)} of {len(pictures)} pictures could not be used", file=sys.stderr)
    return max(codes, default=0)


def _make_folder(folder: Path) -> None:
    """Make the folder for the results, unless it is there.

    Raises:
        ConfigError: it can't be made, or something else has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: must be a folder that can be had, not {folder}: {error.strerror}") from error


def _expand(paths: list[Path]) -> list[Path]:
    """Return the pictures meant: each file itself, each folder's pictures by name.

    Raises:
        PictureError: a path is not there or can't be looked at, or a folder holds no picture.
    """
    pictures: list[Path] = []
    for path in paths:
        try:
            pictures += _found(path)
        except OSError as error:
            raise PictureError(f"{path}: can't be read: {error.strerror}") from error
    return pictures


def _found(path: Path) -> list[Path]:
    from edge.pictures import SUFFIXES, pictures_in

    if path.is_dir():
        found = pictures_in(path)
        if not found:
            raise PictureError(f"{path}: holds no picture ({', '.join(SUFFIXES)})")
        return found
    if not path.exists():
        raise PictureError(f"{path}: there is no such file or folder")
    return [path]


def _check_names(pictures: list[Path], args: argparse.Namespace) -> None:
    """Refuse what would overwrite a picture or another result.

    Raises:
        PictureError: naming the pictures.
    """
    stems = Counter(path.stem for path in pictures)
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
        raise PictureError(
            f"several pictures are called {twice[0]!r}; predict them one at a time, into different folders"
        )
    for path in pictures:
        for name in args.format:
            if _target(path, name, args.output).resolve() == path.resolve():
                raise PictureError(f"{path}: its {name} result would overwrite it; choose another folder with -o")


def _target(path: Path, name: str, folder: Path) -> Path:
    return folder / f"{path.stem}.{FORMATS[name]}"


def _predict(model: "DepthModel", path: Path, number: int, args: argparse.Namespace) -> None:
    """Write one picture's results and print its readings.

    Raises:
        PictureError: it can't be used, or a result can't be made or written.
        EngineError: the network failed at it.
    """
    import time

    from edge.pictures import read_picture
    from edge.records import Frame
    from edge.scene import MovingScene

    pixels = read_picture(path)
    height, width = pixels.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise PictureError(f"{path}: has {width} x {height} pixels; depth needs {_LEAST_SIDE} x {_LEAST_SIDE} at least")
    frame = Frame(sequence=number, captured_at=time.monotonic(), wall_time=datetime.now(UTC), pixels=pixels)
    scene = MovingScene(thirds()).update(model.estimate(frame))
    written = []
    for name in args.format:
        target = _target(path, name, args.output)
        _write(target, scene, name, path, legend=not args.no_legend)
        written.append(str(target))
    if args.json:
        print(json.dumps(_reading(scene, path, written)), flush=True)
    elif scene.reason:
        print(f"{', '.join(written)}: {scene.reason}", flush=True)
    else:
        print(", ".join(written), flush=True)


def _write(target: Path, scene: "Scene", name: str, path: Path, *, legend: bool) -> None:
    """Write one result.

    Raises:
        PictureError: it can't be made, as a JPEG of a picture that is too long, or can't be written.
    """
    try:
        data = _encoded(scene, name, legend=legend)
    except ValueError as error:
        raise PictureError(f"{path}: no {name} can be made of it: {error}; choose another --format") from error
    try:
        target.write_bytes(data)
    except OSError as error:
        raise PictureError(f"{path}: {target} can't be written: {error.strerror}") from error


def _encoded(scene: "Scene", name: str, *, legend: bool) -> bytes:
    """Return one result as the bytes of its file; pictures have the size of the original, `npy` the network's.

    Raises:
        ValueError: the picture can't be encoded in that format.
    """
    import io

    import cv2
    import numpy as np

    from edge.config import HeatmapSection
    from edge.publish import heatmap

    height, width = scene.depth.frame.pixels.shape[:2]
    if name == "npy":
        buffer = io.BytesIO()
        np.save(buffer, scene.depth.inverse_depth, allow_pickle=False)
        return buffer.getvalue()
    if name in ("png16", "grey"):
        values = cv2.resize(scene.depth.inverse_depth, (width, height), interpolation=cv2.INTER_LINEAR)
        return heatmap.encode_png(heatmap.grey(np.asarray(values, np.float32), 16 if name == "png16" else 8))
    section = HeatmapSection(width=min(max(width, 64), 1920), legend=legend, scale="frame")
    picture = heatmap.render(scene, section)
    return heatmap.encode_jpeg(picture, _JPEG_QUALITY) if name == "jpg" else heatmap.encode_png(picture)


def _reading(scene: "Scene", path: Path, written: list[str]) -> dict[str, Any]:
    height, width = scene.depth.inverse_depth.shape
    return {
        "image": str(path),
        "written": written,
        "weights": scene.depth.weights,
        "network_size": [width, height],
        "inference_ms": round(scene.depth.inference_seconds * 1000, 1),
        "reason": scene.reason,
        "zone_order": list(scene.zone_order),
        "prominence": {
            zone.name: None if zone.prominence is None else round(zone.prominence, 4) for zone in scene.zones
        },
    }


def _with_progress(pictures: list[Path]) -> Iterator[Path]:
    """Yield the pictures, with a bar on a terminal's standard error when there are several."""
    shown = sys.stderr.isatty() and len(pictures) > 1
    for done, path in enumerate(pictures):
        if shown:
            bar = "#" * (30 * done // len(pictures))
            print(f"\r[{bar:<30}] {done}/{len(pictures)} {path.name[:30]:<30}", end="\r", file=sys.stderr, flush=True)
        yield path
    if shown:
        print(f"{'':<80}", end="\r", file=sys.stderr, flush=True)
