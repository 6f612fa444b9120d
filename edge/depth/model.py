"""DepthModel: Frame -> network input -> engine -> DepthMap."""

import logging
import time

import cv2
import numpy as np

from edge.config import ModelSection
from edge.depth.engines import Engine, chosen, make_engine
from edge.depth.weights import WeightsInfo, identify
from edge.errors import EngineError
from edge.records import Bytes, DepthMap, Floats, Frame

logger = logging.getLogger(__name__)

_MULTIPLE = 32  # the network's coarsest level: sides are multiples of it


def network_size(width: int, height: int, input_size: int = 256) -> tuple[int, int]:
    """Return the width and height at which the network sees a picture.

    The picture fits inside `input_size` with its aspect kept, each side rounded to a multiple of 32, downwards where
    rounding passes `input_size`: MiDaS' `Resize(resize_method="upper_bound", ensure_multiple_of=32)`. A side never
    falls below 32.
    """
    scale = min(input_size / width, input_size / height)
    sides = []
    for side in (width, height):
        rounded = int(np.round(scale * side / _MULTIPLE)) * _MULTIPLE
        if rounded > input_size:
            rounded = int(scale * side // _MULTIPLE) * _MULTIPLE
        sides.append(max(rounded, _MULTIPLE))
    return sides[0], sides[1]


def network_pixels(pixels: Bytes, input_size: int = 256) -> Floats:
    """Return a picture, uint8 (H, W, 3) RGB, as float32 (h, w, 3) in 0..255 for an engine.

    A cubic resize in float, as MiDaS' `small_transform` has it; the normalisation is the engine's.
    """
    size = network_size(pixels.shape[1], pixels.shape[0], input_size)
    converted = pixels.astype(np.float32)
    if size == (pixels.shape[1], pixels.shape[0]):
        return converted
    return np.asarray(cv2.resize(converted, size, interpolation=cv2.INTER_CUBIC), np.float32)


class DepthModel:
    """The network with its weights, resident: a frame in, its relative inverse depth out.

    Belongs to the thread that makes it (see `edge.depth.engines`).
    """

    def __init__(self, engine: Engine, weights: WeightsInfo, input_size: int) -> None:
        self.engine = engine
        self.weights = weights
        self._input_size = input_size

    def warm_up(self, width: int, height: int) -> float:
        """Run the network twice on a blank picture of that size; return the seconds of the second run.

        The first run pays for memory, thread teams and the choice of kernels.
        """
        x = network_pixels(np.zeros((height, width, 3), np.uint8), self._input_size)
        self.engine.run(x)
        started = time.monotonic()
        self.engine.run(x)
        return time.monotonic() - started

    def estimate(self, frame: Frame) -> DepthMap:
        """Return what the network says of one frame.

        Raises:
            EngineError: the network returned values that are not finite.
        """
        started = time.monotonic()
        x = network_pixels(frame.pixels, self._input_size)
        prepared = time.monotonic()
        inverse_depth = self.engine.run(x)
        try:
            return DepthMap(
                frame=frame,
                inverse_depth=inverse_depth,
                inference_seconds=time.monotonic() - prepared,
                weights=self.weights.name,
                depth_error=self.weights.depth_error,
                preprocess_seconds=prepared - started,
                picture=x,
            )
        except ValueError as error:
            raise EngineError(f"engine {self.engine.name} with {self.weights.name}: {error}") from error


def load_model(section: ModelSection) -> DepthModel:
    """Load the weights and build the engine that the configuration asks for.

    `model.engine: auto` is the engine that was found to be the fastest on this machine, or torch where none was yet.

    Raises:
        WeightsError: the weights are missing, damaged or do not fit.
        EngineError: the engine can't be used on this machine.
    """
    info = identify(section.weights)
    logger.info("weights %s from %s (sha256 %s)", info.name, info.path, info.sha256[:8])
    if info.note:
        logger.warning("weights %s: %s", info.name, info.note)
    return DepthModel(_engine(section, info), info, section.input_size)


def _engine(section: ModelSection, info: WeightsInfo) -> Engine:
    if section.engine != "auto":
        return make_engine(section.engine, section, info)
    try:
        name = chosen(section, info) or "torch"
        if name != "torch":
            return make_engine(name, section, info)
    except EngineError as error:
        logger.warning("the fastest engine can't be used: %s; torch takes its place", error)
    return make_engine("torch", section, info)
