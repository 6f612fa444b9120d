"""What survives a restart: the reference, the triggers' states, what was set or announced; a file of each.

A file is replaced as a whole or not at all, and seldom, since SD cards wear. One that can't be used is set aside with a
warning, and the daemon starts without it; one that can't be written is a state that is logged once, never an error.
What a reference consists of is its owner's business: here it is a mapping of names to arrays, numbers and texts.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge.files import parse_object

logger = logging.getLogger(__name__)

SCHEMA = 1
REFERENCE_SECONDS, NEW_REFERENCE_SECONDS = 600.0, 60.0
JSON_SECONDS = 10.0

_MAX_BYTES = 16 << 20  # four times float64 median and sigma of the largest network input, 512 x 512
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Value = Array | float | str
Values = Mapping[str, Value]
T = TypeVar("T")


class ReferenceStore:
    """The learned background, in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._file = _File(path)
        self._words: dict[str, Value] | None = None  # of the file: numbers and texts

    def load(self, now: float) -> dict[str, Value] | None:
        """Return what was saved, or null where nothing usable is there; `now` is in monotonic seconds.

        What is there need not be written again soon: the first `save` is due ten minutes later, so that a daemon that
        dies again and again does not wear the card.
        """
        values = self._file.read(_decode)
        if values is not None:
            self._file.hold(now)
            self._words = _words(values)
        return values

    def save(self, values: Values, now: float, *, only_new: bool = False) -> bool:
        """Write `values` and return true; return false within ten minutes of the last attempt, or where it failed.

        A new reference, whose numbers and texts differ from those of the file, waits for a minute only. With `only_new`
        no other is written. Arrays are float32 or float64 (h, w) and finite, numbers are finite. `now` is in monotonic
        seconds.

        Raises:
            TypeError: a value is none of these kinds.
        """
        words = _words(values)
        new = words != self._words
        if (only_new and not new) or not self._file.is_due(now, NEW_REFERENCE_SECONDS if new else REFERENCE_SECONDS):
            return False
        if not self._file.write(lambda: _encode(values), now):
            return False
        self._words = words
        return True

    def forget(self) -> None:
        """Delete what was saved: it shows what is not to be seen any more."""
        self._file.delete()
        self._words = None


def _words(values: Values) -> dict[str, Value]:
    return {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}


class _JsonStore(Generic[T]):
    """{name: value}, in the file `path` under the name `kind`, written when it has changed.

    `fits` says whether a value is one; `rule` says so in words, for a file where one is not.
    """

    def __init__(self, path: Path, kind: str, fits: Callable[[object], bool], rule: str) -> None:
        self._file = _File(path)
        self._kind = kind
        self._fits = fits
        self._rule = rule
        self._written: dict[str, T] = {}

    def load(self) -> dict[str, T]:
        """Return the values as saved, empty where nothing usable is there."""
        self._written = self._file.read(self._decode) or {}
        return dict(self._written)

    def holds(self, values: Mapping[str, T]) -> bool:
        """Return whether these values are what was written, or read, last."""
        return values == self._written

    def save(self, values: Mapping[str, T], now: float, *, at_once: bool = False) -> bool:
        """Write `values` if they have changed and return true; return false where they have not, or it failed.

        A change within ten seconds of the last attempt is written by a later call, unless `at_once`; `now` is in
        monotonic seconds.
        """
        if values == self._written or not (at_once or self._file.is_due(now, JSON_SECONDS)):
            return False
        if not self._file.write(lambda: self._encode(values), now):
            return False
        self._written = dict(values)
        return True

    def _encode(self, values: Mapping[str, T]) -> bytes:
        return json.dumps({"schema": SCHEMA, self._kind: dict(values)}).encode()

    def _decode(self, data: bytes) -> dict[str, T]:
        """Return the values of a file.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        document = _parse(data)
        _check_schema(document.get("schema"), SCHEMA)
        values = document.get(self._kind)
        if not isinstance(values, dict) or not all(self._fits(value) for value in values.values()):
            raise ValueError(f"is damaged ({self._kind} must be {self._rule})")
        return values


class TriggerStore(_JsonStore[bool]):
    """Which triggers are on: {name: on}. `save` is to be called with every reading."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "triggers", lambda on: isinstance(on, bool), "true or false each")


class OverlayStore(_JsonStore[dict[str, Any]]):
    """What was set of a configuration: {key: {"value": what was set, "file": what the file had, "view": …}}.

    `view` is what the camera showed when it was set, where that matters and was known. In the file the views stand
    beside the rest, so that versions that know of none can read it. Beside the file lies a backup of the same form:
    what was set before the last change that asked for one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "overlay", _is_change, "a value and the file's each")
        self._backup = _File(path.with_name(f"{path.name}.backup"))

    def back_up(self, values: Mapping[str, dict[str, Any]], now: float) -> bool:
        """Replace the backup by `values`; return whether that worked."""
        return self._backup.write(lambda: self._encode(values), now)

    def load(self) -> dict[str, dict[str, Any]]:
        """Return what was set; where the file can't be used, what the backup has of it."""
        values = super().load()
        return values if self._file.usable else self.backup() or {}

    @property
    def lost(self) -> Path | None:
        """The file of something set that could not be used, now or in an earlier run; None where there is none."""
        return self._file.lost

    def settle(self, values: Mapping[str, dict[str, Any]], now: float) -> bool:
        """Write `values` in place of what was lost, which is no more missed; return whether that worked."""
        if not self._file.write(lambda: self._encode(values), now):
            return False
        self._written = dict(values)
        return self._file.forget_lost()

    def backup(self) -> dict[str, dict[str, Any]] | None:
        """Return the backup, None where there is none."""
        return self._backup.read(self._decode)

    def _encode(self, values: Mapping[str, dict[str, Any]]) -> bytes:
        plain = {key: {"value": change["value"], "file": change["file"]} for key, change in values.items()}
        views = {key: change["view"] for key, change in values.items() if "view" in change}
        return json.dumps({"schema": SCHEMA, self._kind: plain, "views": views}).encode()

    def _decode(self, data: bytes) -> dict[str, dict[str, Any]]:
        values = super()._decode(data)
        views = parse_object(data).get("views", {})
        if not isinstance(views, dict) or not all(isinstance(view, dict) for view in views.values()):
            raise ValueError("is damaged (views must be an object each)")
        return {key: change | ({"view": views[key]} if key in views else {}) for key, change in values.items()}


def _is_change(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "file"}


class AnnouncedStore(_JsonStore[list[str]]):
    """The retained topics that a broker has, and what Home Assistant was told: {topic: components}."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "announced", _are_components, "lists of platform/key")


def _are_components(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) and "/" in part for part in value)


class _File:
    """A file that is replaced as a whole; it remembers when that was last tried, and whether it worked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tried_at = -math.inf
        self._problem: str | None = None
        self._aside = path.with_name(f"{path.name}.damaged")
        self.usable = True  # what was read last, if anything

    @property
    def lost(self) -> Path | None:
        """The file that could not be used, where it lies now; null where there is none."""
        if self._aside.exists():
            return self._aside
        return None if self.usable else self._path

    def forget_lost(self) -> bool:
        """Miss what could not be used no more, since there is another file now; return whether that worked."""
        try:
            self._aside.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s: can't be deleted: %s; delete it by hand", self._aside, error.strerror)
            return False
        self.usable = True
        return True

    def is_due(self, now: float, seconds: float) -> bool:
        """Return whether so many seconds lie between the last try and `now`."""
        return now >= self._tried_at + seconds

    def hold(self, now: float) -> None:
        """Count the file as written `now`."""
        self._tried_at = now

    def read(self, decode: Callable[[bytes], T]) -> T | None:
        """Return what `decode` makes of the file; where it raises ValueError set the file aside and return null."""
        self.usable = True
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.usable = False
            logger.warning("%s: can't be read: %s; starting without it", self._path, error.strerror)
            return None
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError(f"is larger than {_MAX_BYTES} bytes")
            return decode(data)
        except ValueError as error:
            self._set_aside(str(error))
            return None

    def _set_aside(self, problem: str) -> None:
        """Rename the file; the one that was set aside before is lost."""
        self.usable = False
        try:
            self._path.replace(self._aside)
        except OSError as error:
            logger.warning("%s: %s; starting without it; can't rename it: %s", self._path, problem, error.strerror)
        else:
            logger.warning("%s: %s; starting without it; it is now %s", self._path, problem, self._aside.name)

    def delete(self) -> None:
        """Let there be no such file."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s: can't be deleted: %s; delete it by hand", self._path, error.strerror)

    def write(self, encode: Callable[[], bytes], now: float) -> bool:
        """Replace the file by what `encode` returns; where that fails or raises ValueError return false."""
        self.hold(now)
        problem = None
        try:
            replace_file(self._path, encode())
        except OSError as error:
            problem = error.strerror or str(error)
        except ValueError as error:
            problem = str(error)
        if problem != self._problem:
            self._tell(problem)
            self._problem = problem
        return problem is None

    def _tell(self, problem: str | None) -> None:
        if problem:
            logger.warning("%s: can't be written: %s; a restart will not know of it", self._path, problem)
        else:
            logger.info("%s: written again", self._path)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file so that whatever happens, a power cut included, either the old or the new one is there, whole.

    What was learned shows a room: the file is its owner's alone.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")  # one name, so that a killed daemon leaves one such file at most
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # a full disk wants the space back; the first error is the one to tell
            temporary.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # without it a power cut may undo the new name (fsync(2))
    finally:
        os.close(directory)


def _encode(values: Values) -> bytes:
    """Return values as safetensors: no code, no compression; what is no array is JSON in the metadata.

    Raises:
        TypeError: a value is of no such kind.
        ValueError: an array has another dtype or shape, a number is not finite, or all together are too large.
    """
    # safetensors takes the memory as it lies, whatever the strides.
    arrays = {name: np.ascontiguousarray(value) for name, value in values.items() if isinstance(value, np.ndarray)}
    _check(arrays)
    plain = json.dumps({name: value for name, value in values.items() if name not in arrays}, allow_nan=False)
    data = save(arrays, {"schema": str(SCHEMA), "plain": plain, "sha256": _digest(arrays, plain)})
    if len(data) > _MAX_BYTES:
        raise ValueError(f"would have {len(data)} bytes; {_MAX_BYTES} are allowed")
    return data


def _decode(data: bytes) -> dict[str, Value]:
    """Return the values of a reference's file.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    try:
        arrays = load(data)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that numpy does not have
        raise ValueError(f"is damaged ({error})") from error
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}  # `load` has seen to it: null, or texts only
    _check_schema(metadata.get("schema"), str(SCHEMA))
    plain = metadata.get("plain", "")
    if metadata.get("sha256") != _digest(arrays, plain):
        raise ValueError("is damaged (its checksum is wrong)")
    return arrays | _parse(plain)


def _check(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, array in arrays.items():
        if array.dtype not in _DTYPES or array.ndim != 2 or not array.size:
            raise ValueError(f"{name} must be float32 or float64 (h, w), not {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")


def _digest(arrays: Mapping[str, npt.NDArray[Any]], plain: str) -> str:
    """Return a checksum: safetensors has none of its own, and a worn card returns wrong bits."""
    digest = hashlib.sha256(plain.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _check_schema(found: object, known: object) -> None:
    if found != known:
        raise ValueError(f"has schema {found}, and this version of edge-depth reads {known}")


def _parse(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        return parse_object(text)
    except ValueError as error:
        raise ValueError(f"is damaged ({error})") from error
