"""Which engine was found to be the fastest here."""

from importlib.metadata import PackageNotFoundError, version

from edge.config import ModelSection
from edge.engines.base import wanted_threads
from edge.engines.files import folder_of
from edge.health import processor
from edge.weights import WeightsInfo


def chosen(section: ModelSection, info: WeightsInfo) -> str | None:
    """Return the engine that was found to be the fastest with these weights under the same conditions, if any was."""
    return folder_of(info).choice(conditions(section))


def remember(section: ModelSection, info: WeightsInfo, engine: str) -> None:
    """Keep the engine that was found to be the fastest with these weights.

    Raises:
        EngineError: it can't be written.
    """
    folder_of(info).choose(conditions(section), engine)


def conditions(section: ModelSection) -> str:
    """Return in words what the speed of engines depends on: another card, processor or version is measured anew."""
    versions = " ".join(f"{name} {_version(name)}" for name in ("torch", "onnxruntime"))
    return f"{processor()}, threads {wanted_threads(section)}, {section.input_size} px, {versions}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
