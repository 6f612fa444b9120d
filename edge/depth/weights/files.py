"""Weights as they are loaded: safetensors, which hold numbers and nothing that could be run."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from edge.depth.weights.registry import OFFICIAL, WeightsFacts, locate
from edge.errors import WeightsError
from edge.files import open_regular, parse_object
from edge.records import Architecture

Arrays = Mapping[str, npt.NDArray[Any]]

# Those of timm's encoders that the network is made for. A file may name no other: what a name says, timm would look up,
# in the network too.
ENCODERS = tuple(f"tf_efficientnet_lite{number}" for number in range(5))
_FEATURES = range(2, 1025)

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[!-~]{1,256}")  # of a tensor: messages show it

_MAX_BYTES = 1 << 30
_MAX_HEADER_BYTES = 1 << 20  # the official network's has a twentieth of it
_HEAD_BYTES = 512
_AGAIN = "it may be truncated or damaged: bring it again"
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
    path, facts = locate(setting)
    data = _content(path)
    return _info(path, facts, data), _arrays(path, data)


def identify(setting: str) -> WeightsInfo:
    """Return what the weights that `model.weights` means are; the tensors are not read.

    Raises:
        WeightsError: the file is missing, damaged, or not what its name says.
    """
    path, facts = locate(setting)
    return _info(path, facts, _content(path))


def arrays_of(info: WeightsInfo) -> Arrays:
    """Return the tensors of weights that were identified.

    Raises:
        WeightsError: the file can't be read any longer, is damaged, or is another one by now.
    """
    data = _content(info.path)
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise WeightsError(f"{info.path}: has been replaced since it was looked at; start again")
    return _arrays(info.path, data)


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata.

    Raises:
        WeightsError: it is no such file, can't be read, or is damaged.
    """
    data = _content(path)
    return _arrays(path, data), _metadata(path, data)


def original_of(path: Path) -> str | None:
    """Return the hash of the published file which a safetensors file was converted from, if it says so.

    Raises:
        WeightsError: it is no such file, or can't be read.
    """
    return _original(_metadata(path, _content(path)))


def _original(metadata: Mapping[str, str]) -> str | None:
    sha256 = metadata.get("original_sha256", "")
    return sha256 if _SHA256.fullmatch(sha256) else None


def _info(path: Path, facts: WeightsFacts | None, data: bytes) -> WeightsInfo:
    metadata, sha256 = _metadata(path, data), hashlib.sha256(data).hexdigest()
    original = _original(metadata)
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


def _content(path: Path) -> bytes:
    """Return the bytes of a safetensors file, all of them: what is hashed and checked is what is used."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise WeightsError(f"{path}: has {size} bytes; weights have {_MAX_BYTES} at most")
            data = file.read(size)
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror or error}") from error
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: only safetensors are loaded; {describe(data[:_HEAD_BYTES], size) or 'it is a torch checkpoint'}. "
            f"Checkpoints are brought in by `edge-depth weights import FILE`"
        )
    return data


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    """Return what a safetensors file says of itself: its header is JSON, behind eight bytes that hold its length."""
    try:
        length = int.from_bytes(data[:8], "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"its header has {length} bytes; {_MAX_HEADER_BYTES} are allowed")
        metadata = parse_object(data[8 : 8 + length]).get("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata must be texts")
    except ValueError as error:
        raise _unreadable(path, data, error) from error
    return metadata


def _arrays(path: Path, data: bytes) -> Arrays:
    """Return the tensors. A kind of number that NumPy has not (F8, F4, BF16) is no weights' of ours."""
    _metadata(path, data)  # its header is not larger than allowed
    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
        return {checked_name(name): _array(path, name, tensor) for name, tensor in tensors}
    except (SafetensorError, ValueError) as error:
        raise _unreadable(path, data, error) from error


def checked_name(name: str) -> str:
    """Return the name of a tensor; raise ValueError where it can be none."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a tensor can't be called {name[:40]!a}")
    return name


def _array(path: Path, name: str, tensor: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise WeightsError(f"{path}: {name} holds {tensor['dtype']}; numbers may be {', '.join(_DTYPES)}")
    return np.asarray(np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"]))


def _unreadable(path: Path, data: bytes, error: Exception) -> WeightsError:
    reason = describe(data[:_HEAD_BYTES], len(data)) or _AGAIN
    return WeightsError(f"{path}: no readable safetensors ({error}); {reason}")


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes, 64 hex digits.

    Raises:
        WeightsError: the file can't be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror or error}") from error


def describe(head: bytes, size: int) -> str | None:
    """Say in words what a file of `size` bytes is that can be no torch checkpoint by its first ones; else None."""
    for beginning, words in _BEGINNINGS:
        if re.match(beginning, head[:_HEAD_BYTES], re.IGNORECASE | re.DOTALL):
            return words
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):  # a zip, or the pickles of torch before 1.6
        return None
    return f"it has {size} bytes and is another file, truncated or damaged: bring it again"


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
        raise WeightsError(
            f"{path}: its metadata must hold encoder, features and expand, not {str(metadata)[:200]}"
        ) from error
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
