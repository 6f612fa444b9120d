"""The YAML file as typed, validated, frozen sections.

One section a subsystem. `load` reports every problem of a file at once, each as `file:line: key: problem`.
"""

import errno
import os
from pathlib import Path

import yaml
from pydantic import ValidationError

from edge.config.changes import OPTIONS, changed, near_option, options, value_at
from edge.config.sections import (
    CalibrationSection,
    CameraSection,
    Config,
    FloorSection,
    GateSection,
    HeatmapSection,
    LogSection,
    ModelSection,
    MqttSection,
    PointSection,
    PowerSection,
    PublishSection,
    SceneSection,
    Section,
    TlsSection,
    TriggerSection,
    WebSection,
    ZoneSection,
)
from edge.config.source import Source, compose
from edge.config.values import MASKED, STREAM, shown_address, split_address
from edge.errors import ConfigError
from edge.topics import machine_id

__all__ = [
    "MASKED",
    "OPTIONS",
    "SERVICES",
    "SERVICE_STATES",
    "STREAM",
    "CalibrationSection",
    "CameraSection",
    "Config",
    "FloorSection",
    "GateSection",
    "HeatmapSection",
    "LogSection",
    "ModelSection",
    "MqttSection",
    "PointSection",
    "PowerSection",
    "PublishSection",
    "SceneSection",
    "Section",
    "TlsSection",
    "TriggerSection",
    "WebSection",
    "ZoneSection",
    "changed",
    "dump",
    "hides_state",
    "load",
    "near_option",
    "options",
    "parse",
    "parse_points",
    "service_state",
    "shown_address",
    "split_address",
    "state_directory",
    "value_at",
]

SERVICES = Path("/etc/edge-depth")  # their configurations
SERVICE_STATES = Path("/var/lib")  # a folder each, which leads into one that only root looks in

_MAX_BYTES = 100_000
_NO_SECTIONS = {"id", "name"}


def load(path: str | Path) -> Config:
    """Read and validate a configuration file.

    What is not in a file says nothing: one without a section, or whose last line has no end, may be what is left of
    another one, and is refused.

    Of several cameras of one machine each has a file with an instance's name in its own, such as
    `edge-depth@front.yaml`; without an `id` in it the instance is part of the id.

    Raises:
        ConfigError: with every problem found, each as `file:line: key: problem`.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        hint = "; it may hold secrets and is for some alone: try it with sudo" if error.errno == errno.EACCES else ""
        raise ConfigError(f"{path}: can't be read: {error.strerror}{hint}") from error
    config, instance = _whole(data, str(path)), Path(path).stem.partition("@")[2]
    return config if config.id or not instance else config.model_copy(update={"id": machine_id(instance)})


def _whole(data: bytes, name: str) -> Config:
    """Validate the bytes of a file that is whole as far as can be seen.

    Raises:
        ConfigError: as `load`.
    """
    if not data or data.endswith((b"\n", b"\r")) or len(data) > _MAX_BYTES:
        cut = []
    else:
        line = data.count(b"\n") + 1
        cut = [f"{name}:{line}: must end with a line break, or it may be cut off; where it is whole: echo >> {name}"]
    try:
        config = parse(data, name)
    except ConfigError as error:
        raise ConfigError(*error.problems, *cut) from error
    if not config.model_fields_set - _NO_SECTIONS:
        cut.append(
            f"{name}: must have one section at least, or it may be cut off; for the defaults write `camera: {{}}`"
        )
    if cut:
        raise ConfigError(*cut)
    return config


def parse(data: bytes, name: str) -> Config:
    """Validate the bytes of a configuration file; `name` stands in the messages.

    Raises:
        ConfigError: as `load`.
    """
    return _parsed(data, name, ())


def parse_points(data: bytes, name: str) -> tuple[PointSection, ...]:
    """Validate the bytes of a YAML list of calibration points; `name` stands in the messages.

    Raises:
        ConfigError: with every problem found, each with its line.
    """
    return _parsed(data, name, ("calibration", "points")).calibration.points


def _parsed(data: bytes, name: str, place: tuple[str, ...]) -> Config:
    """Return the configuration that holds what is in the file at one place, and is otherwise the default."""
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{name}: must not be larger than {_MAX_BYTES} bytes")
    root = compose(data, name)
    source = Source()
    values = source.value(root, place, root.start_mark.line + 1) if root else None
    for key in reversed(place):
        values = None if values is None else {key: values}
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        source.explain(error)
    if source.problems:
        raise ConfigError(*(f"{name}:{problem}" for problem in source.in_order()))
    return config


def dump(config: Config) -> str:
    """Return the configuration as YAML with its secrets masked."""
    values = config.model_dump(mode="json")
    values["camera"]["source"] = config.camera.safe_source
    if config.mqtt.password is not None:
        values["mqtt"]["password"] = MASKED
    if config.web.token is not None:
        values["web"]["token"] = MASKED
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def state_directory() -> Path:
    """Return where weights and engine files lie: in systemd's $STATE_DIRECTORY, else among the user's data.

    What belongs to one configuration lies where `edge.state.place` says.
    """
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return Path(state)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edge-depth"


def service_state(config: Path) -> Path | None:
    """Return where the service of a configuration keeps its state; None for no service's, or where we may not look."""
    state = SERVICE_STATES / config.stem
    return state if _is_services(config) and os.access(state, os.R_OK | os.X_OK) else None


def hides_state(config: Path) -> bool:
    """Return whether the service of a configuration has a state into which this user may not look."""
    return _is_services(config) and os.path.lexists(SERVICE_STATES / config.stem) and service_state(config) is None


def _is_services(config: Path) -> bool:
    return config.absolute().parent.resolve() == SERVICES.resolve()
