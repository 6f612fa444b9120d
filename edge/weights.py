"""Weight files: what is known of them, where they lie, whether they are what they claim to be.

Nothing here loads torch and nothing runs what a file says: safetensors hold numbers only, and a torch checkpoint is
read by a reader that knows a handful of opcodes and names and refuses every other (`torch.load` of torch < 2.10 can be
made to run code even with `weights_only=True`: CVE-2026-24747).
"""

import hashlib
import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from edge.config import state_directory
from edge.errors import WeightsError
from edge.records import Architecture

Arrays = Mapping[str, npt.NDArray[Any]]

_MAX_BYTES = 1 << 30
_MAX_PICKLE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """What is known of one weights file; a `sha256` of fewer than 64 digits is the known beginning of it."""

    name: str
    file: str
    sha256: str
    architecture: Architecture
    licence: str
    source: str
    note: str = ""


OFFICIAL = WeightsFacts(
    name="midas_v21_small_256",
    file="midas_v21_small_256.pt",
    sha256="70d6b9c8",  # from the file's older name in the same release, model-small-70d6b9c8.pt
    architecture=Architecture(encoder="tf_efficientnet_lite3", features=64, expand=True),
    licence="MIT",
    source="https://github.com/isl-org/MiDaS/releases/download/v2_1/midas_v21_small_256.pt (82 MB)",
)
STARTER = WeightsFacts(
    name="starter-seed",
    file="starter-seed.safetensors",
    sha256="fdb3924a40d3362b58c1fa59592cc83921dada5bcf34c982af95d05eb2da02a3",
    architecture=Architecture(encoder="tf_efficientnet_lite0", features=48, expand=False),
    licence="MIT",
    source="comes with edge-depth",
    note="starter weights: a small network trained for 15 minutes on rendered rooms; large shapes are right, small "
    "things are blurred",
)
REGISTRY = (OFFICIAL, STARTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """What a weights file that was read is."""

    name: str
    path: Path
    sha256: str
    licence: str
    note: str
    architecture: Architecture


def directory() -> Path:
    """Return where weights that the user brought lie: `weights` in the daemon's state directory."""
    return state_directory() / "weights"


def path_of(facts: WeightsFacts) -> Path:
    """Return where a known file lies or would lie."""
    return (Path(__file__).parent / "data" if facts is STARTER else directory()) / facts.file


def locate(setting: str) -> tuple[Path, WeightsFacts | None]:
    """Return the file that `model.weights` means and what is known of it.

    `auto` is the official file where it lies in `directory()`, else the starter; any other text is a known name or a
    path.

    Raises:
        WeightsError: there is no such file, with what to do.
    """
    if setting == "auto":
        return (path_of(OFFICIAL), OFFICIAL) if path_of(OFFICIAL).exists() else (path_of(STARTER), STARTER)
    for facts in REGISTRY:
        if setting == facts.name:
            path = path_of(facts)
            if not path.exists():
                raise WeightsError(f"model.weights: {facts.name} is not at {path}; bring it there from {facts.source}")
            return path, facts
    path = Path(setting).expanduser()
    if not path.is_file():
        known = ", ".join(facts.name for facts in REGISTRY)
        raise WeightsError(f"model.weights: there is no file {path}; give a path, auto, or one of {known}")
    return path, next((facts for facts in REGISTRY if facts.file == path.name), None)


def load(setting: str) -> tuple[WeightsInfo, Arrays]:
    """Read and check the weights that `model.weights` means; return what they are and the tensors by official name.

    Raises:
        WeightsError: the file is missing, damaged, or not what its name says.
    """
    path, facts = locate(setting)
    sha256 = file_sha256(path)
    if facts and not sha256.startswith(facts.sha256):
        raise WeightsError(
            f"{path}: is not {facts.name}: its sha256 is {sha256}, expected {facts.sha256}"
            f"{'…' if len(facts.sha256) < 64 else ''}; {_looks_like(path)}"
        )
    arrays, metadata = read(path)
    info = WeightsInfo(
        name=facts.name if facts else path.stem,
        path=path,
        sha256=sha256,
        licence=facts.licence if facts else "unknown",
        note=facts.note if facts else "",
        architecture=facts.architecture if facts else _architecture(metadata, path),
    )
    return info, arrays


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Return the tensors of a file and its metadata; a torch checkpoint has none.

    Raises:
        WeightsError: it can't be read, is damaged, or holds what a list of tensors does not need.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise WeightsError(f"{path}: has {size} bytes; weights have {_MAX_BYTES} at most")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if zipfile.is_zipfile(path):
        return _read_checkpoint(path), {}
    raise WeightsError(f"{path}: is neither safetensors nor a torch checkpoint (zip); {_looks_like(path)}")


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


def _looks_like(path: Path) -> str:
    """Say in words what a file that is no weights file looks like."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    size = path.stat().st_size
    if not size:
        return "it is empty: bring it again"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page: the download was answered by an error or log-in page"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself: run `git lfs pull`"
    return f"it has {size} bytes and may be another file, truncated or damaged: bring it again"


def _architecture(metadata: Mapping[str, str], path: Path) -> Architecture:
    """Return what a file says of its network; a file that says nothing is taken for the official one."""
    if not metadata.keys() & {"encoder", "features", "expand"}:
        return OFFICIAL.architecture
    try:
        return Architecture(
            encoder=metadata["encoder"],
            features=int(metadata["features"]),
            expand={"true": True, "false": False}[metadata["expand"]],
        )
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: its metadata must hold encoder, features and expand, not {metadata}") from error


def _read_safetensors(path: Path) -> tuple[Arrays, dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: no readable safetensors ({error}); {_looks_like(path)}") from error


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: np.dtype[Any]
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    """Stand in for torch._utils._rebuild_tensor_v2: note what the tensor is, touch no memory."""
    whole = isinstance(shape, tuple) and isinstance(stride, tuple) and isinstance(offset, int)
    if not whole or not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise pickle.UnpicklingError("a tensor is not described as torch describes one")
    expected = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    if stride != expected and math.prod(shape) > 1:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} has strides {stride}, not contiguous")
    if offset < 0 or offset + math.prod(shape) > storage.count:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} reaches beyond its storage")
    return _Tensor(storage, offset, shape)


_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Names(pickle.Unpickler):
    """An unpickler that can name tensors and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a list of tensors does not need")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", np.dtype() as dtype, str(key), str(), int(count)) if count >= 0:
                return _Storage(dtype, key, count)
        raise pickle.UnpicklingError("a storage is not described as torch describes one")


# What torch.save writes for a flat state dict, in pickle protocols 2 to 4; every other opcode is refused.
_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"),
    )
)


def _read_checkpoint(path: Path) -> Arrays:
    """Read a flat state dict from torch's zip format without torch and without running anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _tensors_of(archive)
    except (zipfile.BadZipFile, pickle.UnpicklingError, OSError) as error:
        raise WeightsError(f"{path}: refused: {error}; {_looks_like(path)}") from error
    except Exception as error:  # hostile bytes may fail anywhere in the unpickler; none may pass as weights
        raise WeightsError(f"{path}: refused: {type(error).__name__} while reading it; {_looks_like(path)}") from error


def _tensors_of(archive: zipfile.ZipFile) -> Arrays:
    entries = {info.filename: info for info in archive.infolist()}
    names = [name for name in entries if name.endswith("/data.pkl")]
    if len(names) != 1 or entries[names[0]].file_size > _MAX_PICKLE_BYTES:
        raise pickle.UnpicklingError("it holds no list of tensors (data.pkl)")
    prefix = names[0].removesuffix("data.pkl")
    order = f"{prefix}byteorder"
    if order in entries and archive.read(order) != b"little":
        raise pickle.UnpicklingError("its numbers are big-endian")
    listing = archive.read(names[0])
    _check_opcodes(listing)
    state = _Names(io.BytesIO(listing)).load()
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in state.items()):
        raise pickle.UnpicklingError("it is no flat state dict (names with tensors)")
    storages = {tensor.storage: _storage(archive, entries, prefix, tensor.storage) for tensor in state.values()}
    return {key: _view(storages[tensor.storage], tensor) for key, tensor in state.items()}


def _check_opcodes(listing: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(listing):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"its pickle uses {opcode.name}, which a list of tensors does not need")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > len(listing):
            raise pickle.UnpicklingError("its memo is larger than itself")  # the memo is as long as its highest index


def _storage(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], prefix: str, storage: _Storage
) -> npt.NDArray[Any]:
    info = entries.get(f"{prefix}data/{storage.key}")
    size = storage.count * storage.dtype.itemsize
    if info is None or info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"its storage {storage.key} is missing or has not the declared {size} bytes")
    return np.frombuffer(archive.read(info), storage.dtype)


def _view(storage: npt.NDArray[Any], tensor: _Tensor) -> npt.NDArray[Any]:
    return storage[tensor.offset : tensor.offset + math.prod(tensor.shape)].reshape(tensor.shape)
