"""What is changed in a configuration while it is in use: values by their keys, checked like those of the file.

A key is dotted, such as `heatmap.interval`; the sections of a list go by their names, such as `triggers.door.near`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from edge.config.sections import Config
from edge.config.source import Source
from edge.errors import ConfigError

OPTIONS = {"enabled": "camera.enabled", "interval": "heatmap.interval", "colormap": "heatmap.colormap"}


def near_option(trigger: str) -> tuple[str, str]:
    """Return the option that is a trigger's level, and its key."""
    return f"trigger/{trigger}/near", f"triggers.{trigger}.near"


def options(config: Config) -> dict[str, str]:
    """Return what can be set of a configuration: {option: key}."""
    plain = {name: key for name, key in OPTIONS.items() if config.heatmap.enabled or not key.startswith("heatmap.")}
    return plain | dict(near_option(trigger.name) for trigger in config.triggers)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return the configuration with other values at some keys; lists may stand for its tuples.

    Raises:
        ConfigError: a key does not exist, or with every problem of the values, each as `key: problem`.
    """
    values = config.model_dump()
    for key, value in changes.items():
        section, last = _section(values, key)
        section[last] = _frozen(value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        source = Source()
        source.explain(error)
        raise ConfigError(*source.unplaced()) from error


def value_at(config: Config, key: str) -> Any:
    """Return the value at a key as JSON has it.

    Raises:
        ConfigError: the key does not exist.
    """
    section, last = _section(config.model_dump(mode="json"), key)
    return section[last]


def _section(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the section that a key stands in, and its last part.

    Raises:
        ConfigError: the key does not exist.
    """
    *path, last = key.split(".")
    section: Any = values
    for part in path:
        if isinstance(section, tuple | list):
            section = next((item for item in section if item["name"] == part), None)
        else:
            section = section.get(part)
        if section is None:
            raise ConfigError(f"{key}: there is no {part}")
    if last not in section:
        raise ConfigError(f"{key}: there is no {last}")
    return section, last


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
