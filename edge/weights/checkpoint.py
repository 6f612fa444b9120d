"""A torch checkpoint read without torch and without running anything that it says.

A torch checkpoint is a pickle, and a pickle is a program. This reader knows the handful of opcodes and names that a
flat list of tensors needs and refuses every other (`torch.load` of torch < 2.10 can be made to run code even with
`weights_only=True`: CVE-2026-24747). It is meant to be run apart, in `python -m edge.weights`.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edge.errors import WeightsError
from edge.weights.files import Arrays, describe
from edge.weights.registry import OTHER_MODELS

_MAX_BYTES = 256 << 20  # of numbers; the official file has 82 MB
_MAX_PICKLE_BYTES = 8 << 20
_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # begins a checkpoint of torch before 1.6
_AGAIN = "it may be truncated or damaged: bring it again"


def read_checkpoint(path: Path) -> Arrays:
    """Return the tensors of a flat state dict that `torch.save` wrote, by name.

    Raises:
        WeightsError: it can't be read, is another model, is damaged, or holds what a list of tensors does not need.
    """
    try:
        what = describe(path)
        if what:
            raise WeightsError(f"{path}: is no torch checkpoint; {what}")
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) == _MAGIC:
                return _read_old(file)
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: refused: {error}") from error
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path}: refused: {error}; {_AGAIN}") from error
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror or error}") from error
    except WeightsError:
        raise
    except Exception as error:  # hostile bytes may fail anywhere in the unpickler; none may pass as weights
        raise WeightsError(f"{path}: refused: {type(error).__name__} while reading it; {_AGAIN}") from error


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
    sides = [(n, step, math.prod(shape[i + 1 :])) for i, (n, step) in enumerate(zip(shape, stride, strict=True))]
    if any(n > 1 and step != expected for n, step, expected in sides) and math.prod(shape):
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
            case ("storage", np.dtype() as dtype, str(key), str(), int(count), *rest) if count >= 0 and rest in (
                [],
                [None],
            ):
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


_LIST_OPCODES = frozenset({"EMPTY_LIST", "APPEND", "APPENDS"})


def _read_zip(archive: zipfile.ZipFile) -> Arrays:
    """Read what torch writes from 1.6 on: a zip of one pickle and a file for each storage."""
    entries = {info.filename: info for info in archive.infolist()}
    names = [name for name in entries if name.endswith("/data.pkl")]
    if len(names) != 1 or entries[names[0]].file_size > _MAX_PICKLE_BYTES:
        raise pickle.UnpicklingError("it is a zip without a list of tensors (data.pkl)")
    prefix = names[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in entries:
        raise pickle.UnpicklingError("it is a TorchScript program, not the checkpoint")
    order = f"{prefix}byteorder"
    if order in entries and (entries[order].file_size != len("little") or archive.read(order) != b"little"):
        raise pickle.UnpicklingError("its numbers are big-endian")
    tensors = _tensors(archive.read(names[0]))
    storages = {each: _storage(archive, entries, prefix, each) for each in _distinct(tensors)}
    return {key: _view(storages[tensor.storage], tensor) for key, tensor in tensors.items()}


def _read_old(file: IO[bytes]) -> Arrays:
    """Read what torch wrote before 1.6: magic, version, machine, tensors, list of storages, and these one by one."""
    for _ in range(2):
        _check_opcodes(_next_pickle(file))
    tensors = _tensors(_next_pickle(file))
    listing = _next_pickle(file)
    _check_opcodes(listing, _OPCODES | _LIST_OPCODES)
    order = _Names(io.BytesIO(listing)).load()
    wanted = {each.key: each for each in _distinct(tensors)}
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(wanted):
        raise pickle.UnpicklingError("its list of storages does not name those of its tensors")
    storages = {}
    for key in order:
        storage = wanted[key]
        count, size = int.from_bytes(file.read(8), "little"), storage.count * storage.dtype.itemsize
        data = file.read(size)
        if count != storage.count or len(data) != size:
            raise pickle.UnpicklingError(f"its storage {key} has not the declared {size} bytes; {_AGAIN}")
        storages[storage] = np.frombuffer(data, storage.dtype)
    return {key: _view(storages[tensor.storage], tensor) for key, tensor in tensors.items()}


def _next_pickle(file: IO[bytes]) -> bytes:
    """Return the bytes of the pickle that begins here, without loading it."""
    start = file.tell()
    data = file.read(_MAX_PICKLE_BYTES)
    stream = io.BytesIO(data)
    for _ in pickletools.genops(stream):
        pass
    file.seek(start + stream.tell())
    return data[: stream.tell()]


def _tensors(listing: bytes) -> dict[str, _Tensor]:
    """Return the tensors that a pickle names; they have no numbers yet."""
    _check_model(listing)
    _check_opcodes(listing)
    state = _Names(io.BytesIO(listing)).load()
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in state.items()):
        raise pickle.UnpicklingError("it is no flat state dict (names with tensors)")
    for sizes in ([each.count * each.dtype.itemsize for each in _distinct(state)], map(_bytes, state.values())):
        if (total := sum(sizes)) > _MAX_BYTES:
            raise pickle.UnpicklingError(f"it declares {total} bytes of numbers; {_MAX_BYTES} are allowed")
    return state


def _bytes(tensor: _Tensor) -> int:
    return math.prod(tensor.shape) * tensor.storage.dtype.itemsize


def _distinct(tensors: Mapping[str, _Tensor]) -> Iterator[_Storage]:
    return iter({tensor.storage: None for tensor in tensors.values()})


def _check_model(listing: bytes) -> None:
    """Name the models that are taken for the official one by mistake; their texts are looked at, nothing is loaded."""
    texts = [argument for _, argument, _ in pickletools.genops(listing) if isinstance(argument, str)]
    for pattern, model in OTHER_MODELS:
        if any(map(pattern.match, texts)):
            raise pickle.UnpicklingError(f"it is {model}; needed is MiDaS v2.1 small (midas_v21_small_256.pt)")


def _check_opcodes(listing: bytes, allowed: frozenset[str] = _OPCODES) -> None:
    for opcode, argument, _ in pickletools.genops(listing):
        if opcode.name not in allowed:
            raise pickle.UnpicklingError(f"its pickle uses {opcode.name}, which a list of tensors does not need")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > len(listing):
            raise pickle.UnpicklingError("its memo is larger than itself")  # the memo is as long as its highest index


def _storage(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], prefix: str, storage: _Storage
) -> npt.NDArray[Any]:
    info = entries.get(f"{prefix}data/{storage.key}")
    size = storage.count * storage.dtype.itemsize
    if info is None or info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(
            f"its storage {storage.key} is missing or has not the declared {size} bytes; {_AGAIN}"
        )
    return np.frombuffer(archive.read(info), storage.dtype)


def _view(storage: npt.NDArray[Any], tensor: _Tensor) -> npt.NDArray[Any]:
    return storage[tensor.offset : tensor.offset + math.prod(tensor.shape)].reshape(tensor.shape)
