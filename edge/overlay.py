"""The configuration in force: that of the file, and over it what was set while the daemon ran.

The file is never written. Whoever spoke last is heard: a value that was set goes before the file's until the file has
another one there than when it was set.
"""

import logging
from collections.abc import Mapping
from typing import Any

from edge.config import Config, changed, value_at
from edge.errors import ConfigError
from edge.state import OverlayStore

logger = logging.getLogger(__name__)

Changes = Mapping[str, Mapping[str, Any]]

CALIBRATION = "calibration"  # kept in any case: it was measured, not tried out


class Overlay:
    """What was set over one file's configuration; `store` keeps it.

    Settings are kept over a restart with `publish.persist_settings`, a calibration always.
    """

    def __init__(self, file: Config, store: OverlayStore) -> None:
        self._store = store
        self._set: Changes = {}  # replaced, never changed: `save` reads it in another thread
        stored = store.load()
        kept = {key: change for key, change in stored.items() if _survives(file, key)}
        self.file = self.config = file
        self._use(file, kept)

    @property
    def values(self) -> dict[str, Any]:
        """What was set and is in force: {key: value}."""
        return {key: change["value"] for key, change in self._set.items()}

    def set(self, key: str, value: Any) -> None:
        """Set one key; setting what the file has takes back what was set.

        Raises:
            ConfigError: the key does not exist or the value does not fit; nothing is changed.
        """
        config = changed(self.file, self.values | {key: value})
        there, here = value_at(self.file, key), value_at(config, key)
        others = {other: change for other, change in self._set.items() if other != key}
        self._set = others if here == there else others | {key: {"value": here, "file": there}}
        self.config = config

    def reload(self, file: Config) -> None:
        """Take another version of the file; what was set stays where the file says what it said then."""
        self._use(file, self._set)

    def save(self, now: float) -> bool:
        """Write what has to survive a restart, if it has changed; `now` is in monotonic seconds."""
        kept = {key: dict(change) for key, change in self._set.items() if _survives(self.file, key)}
        return self._store.save(kept, now)

    def _use(self, file: Config, changes: Changes) -> None:
        kept = {key: change for key, change in changes.items() if _stands(file, key, change)}
        self.config = changed(file, {key: change["value"] for key, change in kept.items()})
        self._set, self.file = kept, file


def _stands(file: Config, key: str, change: Mapping[str, Any]) -> bool:
    """Return whether what was set of a key still fits the file, and is newer than what that says."""
    try:
        if value_at(file, key) != change["file"]:
            logger.info("configuration: %s is the file's again: it was changed there", key)
            return False
        changed(file, {key: change["value"]})
    except ConfigError as error:
        logger.warning("configuration: what was set of %s is dropped: %s", key, error)
        return False
    return True


def _survives(file: Config, key: str) -> bool:
    return file.publish.persist_settings or key == CALIBRATION
