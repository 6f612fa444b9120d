"""Engine files: where they lie, and what is known of them."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.config import state_directory
from edge.depth.weights import WeightsInfo, file_sha256
from edge.errors import EngineError
from edge.files import parse_object
from edge.system.machine import has_int8_dot_product
from edge.system.owner import foreign_owner

REVISION = 1  # of how engine files are made: files of another one are not used
INT8 = "onnxruntime-int8"
FILES = {"torchscript": "network.torchscript", "onnxruntime": "float32.onnx", INT8: "int8.onnx"}
_MANIFEST = "manifest.json"
_SOURCES = {"camera": " --from-camera FILE", "pictures": " --pictures DIR"}  # what an export is told of its calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """What was found out about an engine file when it was made.

    `delta1` and `residual` hold its output against the plain network's (`edge.evaluation.Agreement`); one that is not
    `accepted` by them is not used. `note` says what is particular about it.
    """

    sha256: str
    delta1: float
    residual: float
    accepted: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was made for some weights: by which versions, with which calibration pictures, and each engine's file.

    `int8_dot_product` says for which kind of processor int8 was made: those that have it take weights of eight bits;
    for the others it was made with seven, since their sums overflow with eight.
    """

    made_by: str
    calibration: str
    engines: Mapping[str, EngineFile]
    int8_dot_product: bool = True  # as all were made before there were two kinds


class EngineFiles:
    """The folder of the engine files of some weights. It is replaced as a whole, so what is in it belongs together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self) -> Record | None:
        """Return what was made; null where nothing usable was.

        Raises:
            EngineError: the record can't be read.
        """
        path = self.folder / _MANIFEST
        document = _read(path)
        if document is None or document.get("revision") != REVISION:
            return None
        try:
            engines = {name: EngineFile(**values) for name, values in document["engines"].items()}
            kind = {key: document[key] for key in ("int8_dot_product",) if key in document}
            return Record(made_by=document["made_by"], calibration=document["calibration"], engines=engines, **kind)
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"{path}: is damaged ({error}); run `edge-depth export --again`") from error

    def write(self, record: Record) -> None:
        """Write the record into the folder, which nobody uses yet."""
        document = {"revision": REVISION} | asdict(record)
        (self.folder / _MANIFEST).write_text(json.dumps(document, indent=1))

    def path(self, name: str, *, refused: bool = False) -> Path:
        """Return the file of an engine, which is as it was when it was made; `refused`: also one that was refused.

        Raises:
            EngineError: there is none, it was refused, it has changed, or we are root and others may have made it.
        """
        record = self.record()
        known = record.engines.get(name) if record else None
        if known is None:
            raise EngineError(f"model.engine: {name} has no file for these weights; run `edge-depth export`")
        if not known.accepted and not refused:
            helps = self.foreign() if name == INT8 else None
            raise EngineError(
                f"model.engine: {name} was refused for these weights: delta1 {known.delta1:.3f} and a residual of "
                f"{known.residual:.1%} against float32; "
                + (helps or "calibrate it with pictures of your own (`edge-depth export --again --from-camera FILE`)")
                + ", or use another engine"
            )
        path = self.folder / FILES[name]
        if os.geteuid() == 0 and (other := foreign_owner(path)):  # the record, which vouches for it, is theirs too
            raise EngineError(f"{path}: is in the hands of the user {other.st_uid}; root does not run it")
        if not path.is_file() or file_sha256(path) != known.sha256:
            raise EngineError(f"{path}: is missing or damaged; run `edge-depth export --again`")
        return path

    def foreign(self) -> str | None:
        """Return in words that int8 was made for another kind of processor than this one, and what helps; else None.

        Raises:
            EngineError: the record can't be read.
        """
        record = self.record()
        if record is None or INT8 not in record.engines or record.int8_dot_product == has_int8_dot_product():
            return None
        made, here = ("with", "has none") if record.int8_dot_product else ("without", "has one")
        effect = "less accurate" if record.int8_dot_product else "slower or less accurate than it could be"
        return (
            f"{INT8} was made for processors {made} an int8 dot product, this one {here}: it may be {effect} here; "
            f"run `edge-depth export --again{_SOURCES.get(record.calibration, '')}`"
        )

    def version(self) -> str:
        """Return what tells these files from those of another export, and of other weights."""
        record = self.record()
        made = [engine.sha256 for engine in record.engines.values()] if record else []
        return f"{self.folder.name} {hashlib.sha256(' '.join(made).encode()).hexdigest()[:12]}"


def folder_of(info: WeightsInfo) -> EngineFiles:
    """Return the folder for these weights; it may not exist yet."""
    return EngineFiles(state_directory() / "engines" / f"{info.name}-{info.sha256[:12]}")


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; null where there is none.

    Raises:
        EngineError: the file can't be read, or is something else.
    """
    try:
        return parse_object(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: can't be read ({error}); run `edge-depth export --again`") from error
