"""Which engine was found to be the fastest here.

It is kept beside the engine files, not among them: those may belong to root, who made them for the service.
"""

import json
import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge.config import ModelSection, state_directory
from edge.depth.engines.base import wanted_threads
from edge.depth.engines.files import folder_of
from edge.depth.weights import WeightsInfo
from edge.files import parse_object
from edge.state.stores import replace_file
from edge.system.machine import has_int8_dot_product, processor

logger = logging.getLogger(__name__)

_FILE = "fastest-engines.json"
_MOST = 20  # that are kept; older ones are of versions that are gone


def chosen(section: ModelSection, info: WeightsInfo) -> str | None:
    """Return the engine that was found to be the fastest with these engine files under the same conditions, if any.

    Raises:
        EngineError: what is known of the engine files is damaged.
    """
    return _known().get(_key(section, info))


def remember(section: ModelSection, info: WeightsInfo, engine: str) -> None:
    """Keep the engine that was found to be the fastest; where that can't be written, say so and go on.

    Raises:
        EngineError: what is known of the engine files is damaged.
    """
    values = _known() | {_key(section, info): engine}
    path = _path()
    try:
        replace_file(path, json.dumps(dict([*values.items()][-_MOST:]), indent=1).encode())
    except OSError as error:
        logger.warning("engine %s: %s can't be written: %s; engines are measured at every start", engine, path, error)


def _path() -> Path:
    return state_directory() / _FILE


def _known() -> dict[str, str]:
    """Return what was kept; nothing where the file can't be read, since it is then measured and written anew."""
    try:
        values = parse_object(_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: name for key, name in values.items() if isinstance(name, str)}


def _key(section: ModelSection, info: WeightsInfo) -> str:
    return f"{folder_of(info).version()}: {conditions(section)}"


def conditions(section: ModelSection) -> str:
    """Return in words what the speed of engines depends on: another card, processor or version is measured anew."""
    versions = " ".join(f"{name} {_version(name)}" for name in ("torch", "onnxruntime"))
    # virtual machines give processors of both kinds one name
    kind = "" if has_int8_dot_product() else ", no int8 dot product"
    return f"{processor()}{kind}, threads {wanted_threads(section)}, {section.input_size} px, {versions}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
