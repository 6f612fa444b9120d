"""Made-up weights and pictures with which two implementations of the official network can be compared.

Every value depends on nothing but the name of its tensor, so that no trained weights are needed; what the reference
implementation returned for them lies in `data/parity.npz`.
"""

import io
import zlib
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).with_name("data")


def official_keys() -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of the official checkpoint, in its order."""
    rows = (line.split("\t") for line in (DATA / "official_keys.tsv").read_text().splitlines())
    return {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape, _ in rows}


def checkpoint() -> dict[str, np.ndarray]:
    """Return the made-up official checkpoint."""
    return {key: _tensor(key, shape) for key, shape in official_keys().items()}


def checkpoint_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the file that torch writes for tensors."""
    buffer = io.BytesIO()
    torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, buffer)
    return buffer.getvalue()


def _tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith(("running_mean", "bias")):
        value = rng.normal(0.02, 0.05, shape)
    elif len(shape) == 1:  # scale or variance of a batch norm
        value = rng.uniform(0.8, 1.2, shape)
    else:
        value = rng.normal(0.0, np.sqrt(1.6 / np.prod(shape[1:])), shape)
    if key == "scratch.output_conv.4.weight":  # of one sign, so that the last ReLU stays open
        value = np.abs(value)
    return value.astype(np.float32)


def picture(height: int, width: int) -> np.ndarray:
    """Return waves, uint8 (height, width, 3) RGB."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [127.5 + 60 * np.sin((c + 1) * x / 17) + 60 * np.cos((c + 2) * y / 23) for c in range(3)]
    return np.clip(np.stack(waves, -1), 0, 255).astype(np.uint8)


def expected() -> dict[tuple[int, int], np.ndarray]:
    """Return {(width, height): every fourth row and column of what the reference implementation returned}."""
    with np.load(DATA / "parity.npz") as arrays:
        return {(v.shape[1] * 4, v.shape[0] * 4): v for v in arrays.values()}
