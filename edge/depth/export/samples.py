"""The pictures that engine files are calibrated and verified with, and what the plain network says of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edge.depth.model import network_pixels
from edge.errors import EngineError, PictureError
from edge.pictures import pictures_in, read_picture
from edge.records import Bytes, Floats

PHOTOS = Path(__file__).parents[2] / "data" / "photos"
_FILE = "samples.safetensors"
_EVERY = 3  # the so-manieth picture verifies, the others calibrate
_SIZE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Engine inputs, float32 (h, w, 3) each: those that set the ranges of int8, and those that judge it."""

    calibrating: tuple[Floats, ...]
    verifying: tuple[Floats, ...]


def photographs(folder: Path = PHOTOS) -> list[Bytes]:
    """Return the pictures of a folder, by name: the photographs that come with edge-depth unless told otherwise.

    Raises:
        PictureError: the folder or one of them can't be read.
    """
    try:
        paths = pictures_in(folder)
    except OSError as error:
        raise PictureError(f"{folder}: can't be read as a folder of pictures: {error.strerror}") from error
    return [read_picture(path) for path in paths]


def samples_of(pictures: Iterable[Bytes]) -> Samples:
    """Return pictures, uint8 (H, W, 3) RGB, as samples; each stands for its mirror image too."""
    calibrating: list[Floats] = []
    verifying: list[Floats] = []
    for number, picture in enumerate(pictures):
        pixels = np.round(np.clip(network_pixels(picture, _SIZE), 0, 255)).astype(np.float32)  # as it is kept, in bytes
        both = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
        (verifying if number % _EVERY == 0 else calibrating).extend(both)
    return Samples(calibrating=tuple(calibrating), verifying=tuple(verifying))


def keep(folder: Path, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
    """Write verifying inputs and what the plain network says of them: engines are checked with it without torch."""
    arrays: dict[str, np.ndarray] = {f"input.{i}": each.astype(np.uint8) for i, each in enumerate(inputs)}
    save_file(arrays | {f"output.{i}": each for i, each in enumerate(outputs)}, folder / _FILE)


def kept(folder: Path) -> tuple[list[Floats], list[Floats]]:
    """Return the inputs, float32 (h, w, 3), and outputs, float32 (h, w), that were kept.

    Raises:
        EngineError: they can't be read.
    """
    path = folder / _FILE
    try:
        arrays = load_file(path)
        count = len(arrays) // 2
        inputs = [arrays[f"input.{i}"].astype(np.float32) for i in range(count)]
        return inputs, [arrays[f"output.{i}"] for i in range(count)]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise EngineError(f"{path}: is missing or damaged ({error}); run `edge-depth export --again`") from error
