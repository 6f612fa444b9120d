"""A torch checkpoint read without torch and without running anything that it says.

A torch checkpoint is a pickle, and a pickle is a program. This reader has a machine of its own for the handful of
opcodes and names that a flat list of tensors needs and refuses every other (`torch.load` of torch < 2.10 can be made to
run code even with `weights_only=True`: CVE-2026-24747). It is meant to be run apart, in `python -m edge.depth.weights`.
"""

import io
import math
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edge.depth.weights.files import Arrays, checked_name, describe
from edge.depth.weights.registry import OTHER_MODELS
from edge.errors import WeightsError
from edge.files import open_regular

_MAX_BYTES = 256 << 20  # of numbers; the official file has 82 MB
_MAX_PICKLE_BYTES = 8 << 20
_MAX_OPCODES = 200_000  # the official file has 15,000
_MAX_SIDES = 8  # of a tensor; a kernel has four
_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # begins a checkpoint of torch before 1.6
_AGAIN = "it may be truncated or damaged: bring it again"


def read_checkpoint(path: Path) -> Arrays:
    """Return the tensors of a flat state dict that `torch.save` wrote, by name.

    Raises:
        WeightsError: it can't be read, is another model, is damaged, or holds what a list of tensors does not need.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            what = describe(file.peek()[:1024], size)
            if what:
                raise WeightsError(f"{path}: is no torch checkpoint; {what}")
            if file.read(len(_MAGIC)) == _MAGIC:
                return _read_old(file)
            with zipfile.ZipFile(file) as archive:
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
    if not isinstance(storage, _Storage) or not all(map(_are_sizes, ((offset,), shape, stride))):
        raise pickle.UnpicklingError("a tensor is not described as torch describes one")
    sides = [(n, step, math.prod(shape[i + 1 :])) for i, (n, step) in enumerate(zip(shape, stride, strict=True))]
    if any(n > 1 and step != expected for n, step, expected in sides) and math.prod(shape):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} has strides {stride}, not contiguous")
    if offset + math.prod(shape) > storage.count:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} reaches beyond its storage")
    return _Tensor(storage, offset, shape)


def _are_sizes(numbers: object) -> bool:
    """Return whether it is a tuple of a few whole numbers, none below 0: no more is printed or counted with."""
    return (
        isinstance(numbers, tuple)
        and len(numbers) <= _MAX_SIDES
        and all(isinstance(number, int) and 0 <= number < 1 << 63 for number in numbers)
    )


_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


def _named(module: str, name: str) -> Any:
    """Return what a pickle may name."""
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        return _tensor
    if module == "torch" and name in _DTYPES:
        return _DTYPES[name]
    raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a list of tensors does not need")


def _stored(pid: Any) -> _Storage:
    match pid:
        case ("storage", np.dtype() as dtype, str(key), str(), int(count), *rest) if count >= 0 and rest in (
            [],
            [None],
        ):
            return _Storage(dtype, key, count)
    raise pickle.UnpicklingError("a storage is not described as torch describes one")


class _Machine:
    """Does what a pickle says, as far as a list of tensors needs it: texts, numbers, tuples, lists, dicts, tensors.

    Each opcode costs as much as what it takes from the stack, and a dict's keys are texts: no small pickle makes much
    work. What was made once is not changed, but for lists and dicts that get more.
    """

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def do(self, opcode: str, argument: Any) -> None:
        """Do one step; hostile ones may raise anything."""
        if opcode in _VALUES:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _IDLE:
            raise pickle.UnpicklingError(f"its pickle uses {opcode}, which a list of tensors does not need")

    def result(self) -> Any:
        """Return what was made, once the pickle has come to its end."""
        return self._stack.pop()

    def _mark(self, _: object) -> None:
        self._marks.append(len(self._stack))

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _last(self, count: int) -> list[Any]:
        return [self._stack.pop() for _ in range(count)][::-1]

    def _name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_named(module, name))

    def _name_from_stack(self, _: object) -> None:
        module, name = self._last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("it asks for a name that is no text")
        self._stack.append(_named(module, name))

    def _store(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _call(self, _: object) -> None:
        function, arguments = self._last(2)
        if function is OrderedDict and arguments == ():
            self._stack.append(OrderedDict())
        elif function is _tensor:
            self._stack.append(_tensor(*arguments))
        else:
            raise pickle.UnpicklingError("it calls what a list of tensors does not need")

    def _pass_over(self, _: object) -> None:
        """Take the attributes of an ordered dict, which torch adds to its state dict; nothing here needs them."""
        self._stack.pop()
        if type(self._stack[-1]) is not OrderedDict:
            raise pickle.UnpicklingError("it changes what a list of tensors does not change")

    def _persistent(self, _: object) -> None:
        self._stack.append(_stored(self._stack.pop()))

    def _fill(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict) or not all(isinstance(name, str) for name in values[::2]):
            raise pickle.UnpicklingError("it fills what is no dict, or has other names than texts")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise pickle.UnpicklingError("it adds to a list that is none")
        target.extend(values)


# What torch.save writes for a flat state dict, in pickle protocols 2 to 4; every other opcode is refused.
_IDLE = frozenset(("PROTO", "FRAME", "STOP"))
_VALUES = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "MEMOIZE": _Machine._store,
    "BINPUT": _Machine._store,
    "LONG_BINPUT": _Machine._store,
    "BINGET": _Machine._recall,
    "LONG_BINGET": _Machine._recall,
    "GLOBAL": _Machine._name,
    "STACK_GLOBAL": _Machine._name_from_stack,
    "REDUCE": _Machine._call,
    "BUILD": _Machine._pass_over,
    "BINPERSID": _Machine._persistent,
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "SETITEM": lambda machine, _: machine._fill(machine._last(2)),
    "SETITEMS": lambda machine, _: machine._fill(machine._marked()),
    "APPEND": lambda machine, _: machine._extend(machine._last(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._marked()),
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._marked())),
    "TUPLE1": lambda machine, _: machine._stack.append(tuple(machine._last(1))),
    "TUPLE2": lambda machine, _: machine._stack.append(tuple(machine._last(2))),
    "TUPLE3": lambda machine, _: machine._stack.append(tuple(machine._last(3))),
}


def _load(listing: bytes) -> Any:
    """Return what a pickle makes.

    Raises:
        pickle.UnpicklingError: it needs more than a list of tensors does.
    """
    machine = _Machine()
    for opcode, argument in _opcodes(io.BytesIO(listing)):
        machine.do(opcode, argument)
    return machine.result()


def _opcodes(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield the opcodes of one pickle and their arguments; raise pickle.UnpicklingError where there are too many."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if number >= _MAX_OPCODES:
            raise pickle.UnpicklingError(f"its pickle has more than {_MAX_OPCODES} steps")
        yield opcode.name, argument


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
        _load(_next_pickle(file))
    tensors = _tensors(_next_pickle(file))
    order = _load(_next_pickle(file))
    wanted = {each.key: each for each in _distinct(tensors)}
    if not isinstance(order, list) or not all(isinstance(key, str) for key in order) or sorted(order) != sorted(wanted):
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
    for _ in _opcodes(stream):
        pass
    file.seek(start + stream.tell())
    return data[: stream.tell()]


def _tensors(listing: bytes) -> dict[str, _Tensor]:
    """Return the tensors that a pickle names; they have no numbers yet."""
    _check_model(listing)
    state = _load(listing)
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in state.items()):
        raise pickle.UnpicklingError("it is no flat state dict (names with tensors)")
    try:
        list(map(checked_name, state))
    except ValueError as error:
        raise pickle.UnpicklingError(str(error)) from error
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
    texts = [argument for _, argument in _opcodes(io.BytesIO(listing)) if isinstance(argument, str)]
    for pattern, model in OTHER_MODELS:
        if any(map(pattern.match, texts)):
            raise pickle.UnpicklingError(f"it is {model}; needed is MiDaS v2.1 small (midas_v21_small_256.pt)")


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
