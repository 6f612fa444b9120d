"""Weights as they are loaded: safetensors, which hold numbers and nothing that could be run."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from edge.errors import WeightsError
from edge.records import Architecture
from edge.weights.registry import OFFICIAL, WeightsFacts, locate

Arrays = Mapping[str, npt.NDArray[Any]]

# Those of timm's encoders that the network is made for. A file may name no other: what a name says, timm would look up,
# in the network too.
ENCODERS = tuple(f"tf_efficientnet_lite{number}" for number in range(5))
_FEATURES = range(2, 1025)

_MAX_BYTES = 1 << 30
_HEAD_BYTES = 512
_BEGINNINGS = (
    (rb"$", "it is empty: bring it again"),
    (
        rb"\s*<(!doctype|html|\?xml|head|body)",
        "it is a web page: the download was answered by an error or log-in page",
    ),
    (rb"version https://git-lfs", "it is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (rb"....TFL3", "it is a TensorFlow Lite model, not the PyTorch checkpoint"),
    (rb"\x08.*pytorch", "it is an ONNX model, not the PyTorch checkpoint"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """What a weights file that was read is.

    `sha256` is the file's own; `original_sha256` that of the published file which it was converted from, if it was.
    `depth_error` is that of `DepthMap`; of weights that nothing is known of, the official ones'.
    """

    name: str
    path: Path
    sha256: str
    licence: str
    note: str
    architecture: Architecture
    depth_error: float
    original_sha256: str | None = None


def load(setting: str) -> tuple[WeightsInfo, Arrays]:
    """Read and check the weights that `model.weights` means; return what they are and the tensors by official name.

    Raises:
        WeightsError: the file is missing, damaged, or not what its name says.
    """
    info = identify(setting)
    return info, read(info.path)[0]


def identify(setting: str) -> WeightsInfo:
    """Return what the weights that `model.weights` means are; the tensors are not read.

    Raises:
        WeightsError: the file is missing, damaged, or not what its name says.
    """
    path, facts = locate(setting)
    with _opened(path) as file:
        metadata = file.metadata() or {}
    sha256 = file_sha256(path)
    original = metadata.get("original_sha256")
    if facts:
        _check_origin(path, facts, sha256, original)
    return WeightsInfo(
        name=facts.name if facts else path.stem,
        path=path,
        sha256=sha256,
        licence=facts.licence if facts else "unknown",
        note=facts.note if facts else "",
        architecture=facts.architecture if facts else _architecture(metadata, path),
        depth_error=(facts or OFFICIAL).depth_error,
        original_sha256=original,
    )


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata.

    Raises:
        WeightsError: it is no such file, can't be read, or is damaged.
    """
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; what goes wrong with it while it is open is a WeightsError."""
    if path.stat().st_size > _MAX_BYTES:
        raise WeightsError(f"{path}: has {path.stat().st_size} bytes; weights have {_MAX_BYTES} at most")
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: only safetensors are loaded; {describe(path) or 'it is a torch checkpoint'}. "
            f"Checkpoints are brought in by `edge-depth weights import FILE`"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        reason = describe(path) or "it may be truncated or damaged: bring it again"
        raise WeightsError(f"{path}: no readable safetensors ({error}); {reason}") from error


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes, 64 hex digits.

    Raises:
        WeightsError: the file can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror}") from error


def describe(path: Path) -> str | None:
    """Say in words what a file is that can be no torch checkpoint by its first bytes; null where it may be one."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for beginning, words in _BEGINNINGS:
        if re.match(beginning, head, re.IGNORECASE | re.DOTALL):
            return words
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):  # a zip, or the pickles of torch before 1.6
        return None
    return f"it has {path.stat().st_size} bytes and is another file, truncated or damaged: bring it again"


def _check_origin(path: Path, facts: WeightsFacts, sha256: str, original: str | None) -> None:
    """Raise WeightsError when a file under a known name does not come from the file of that name."""
    published = (original or "unknown") if facts.urls else sha256
    if not facts.is_made_of(published):
        more = "…" if len(facts.sha256) < 64 else ""
        raise WeightsError(
            f"{path}: is not {facts.name}: the sha256 of the published file is {published}, "
            f"expected {facts.sha256}{more}"
        )


def _architecture(metadata: Mapping[str, str], path: Path) -> Architecture:
    """Return what a file says of its network; a file that says nothing is taken for the official one.

    Raises:
        WeightsError: it says too little, or names what can't be built here.
    """
    if not metadata.keys() & {"encoder", "features", "expand"}:
        return OFFICIAL.architecture
    try:
        shape = Architecture(
            encoder=metadata["encoder"],
            features=int(metadata["features"]),
            expand={"true": True, "false": False}[metadata["expand"]],
        )
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: its metadata must hold encoder, features and expand, not {metadata}") from error
    if shape.encoder not in ENCODERS:
        raise WeightsError(
            f"{path}: is for the encoder {shape.encoder[:64]!r}, which can't be used here; take weights for one of "
            f"{', '.join(ENCODERS)}"
        )
    if shape.features not in _FEATURES:
        most = _FEATURES.stop - 1
        raise WeightsError(f"{path}: its metadata's features must be {_FEATURES.start}..{most}, not {shape.features}")
    return shape


def halves(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors with every matrix and kernel in float16.

    Vectors stay float32: they are a hundredth of the numbers, and a batch norm's variance may leave float16's range.
    """
    return {
        key: np.ascontiguousarray(value, np.float16 if value.ndim > 1 else np.float32) for key, value in arrays.items()
    }
