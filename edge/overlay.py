"""The configuration in force: that of the file, and over it what was set while the daemon ran.

The file is never written. Whoever spoke last is heard: a value that was set goes before the file's until the file has
another one there than when it was set.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.config import Config, changed, load, state_directory, value_at
from edge.errors import ConfigError
from edge.state import OverlayStore
from edge.topics import machine_id

logger = logging.getLogger(__name__)

Changes = Mapping[str, Mapping[str, Any]]

CALIBRATION = "calibration"
# Kept in any case: drawn, named or measured, not tried out. Zones stand before the triggers that name them.
KEPT = ("zones", "camera.privacy_masks", CALIBRATION, "triggers")


def in_force(path: str | Path) -> "Overlay":
    """Return a file's configuration with what was set over it, as the daemon that it is for keeps it.

    Raises:
        ConfigError: as `load`.
    """
    file = load(path)
    return Overlay(file, OverlayStore(state_directory(Path(path)), file.id or machine_id()))


class Overlay:
    """What was set over one file's configuration; `store` keeps it.

    Settings are kept over a restart with `publish.persist_settings`, what is in `KEPT` always. Where what was set is
    lost, privacy masks may be: no picture leaves the machine until somebody has looked.
    """

    def __init__(self, file: Config, store: OverlayStore) -> None:
        self._store = store
        self._writing = threading.Lock()  # two threads write: one file at a time
        self._set: Changes = {}  # replaced, never changed: `save` reads it in another thread
        stored = store.load()
        kept = {key: change for key, change in stored.items() if _survives(file, key)}
        self.file = self.config = file
        if store.lost and file.publish.picture:
            logger.error(
                "no picture leaves this machine, since privacy masks may be lost: set them anew, then delete %s"
                " and restart",
                store.lost,
            )
        self._use(file, kept)

    @property
    def values(self) -> dict[str, Any]:
        """What was set and is in force: {key: value}."""
        return {key: change["value"] for key, change in self._set.items()}

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """Return the configuration as it would be with other values at some keys.

        A part of a list that was set as a whole, such as `triggers.door.near`, is set in that list.

        Raises:
            ConfigError: a key does not exist or a value does not fit.
        """
        return self._with(self.file, self._together(values))

    def set(self, key: str, value: Any) -> None:
        """Set one key; setting what the file has takes back what was set.

        Raises:
            ConfigError: the key does not exist or the value does not fit; nothing is changed.
        """
        self.set_all({key: value})

    def set_all(self, values: Mapping[str, Any]) -> None:
        """Set several keys at once, all or none.

        Raises:
            ConfigError: as `set`.
        """
        together = self._together(values)
        config = self._with(self.file, together)
        pairs = {key: (value_at(self.file, key), value_at(config, key)) for key in together}
        self._set = {key: {"value": here, "file": there} for key, (there, here) in pairs.items() if here != there}
        self.config = config

    def replace(self, values: Mapping[str, Any]) -> bool:
        """Set several keys at once and write them now; what was set before is the backup. Return whether that worked.

        Raises:
            ConfigError: as `set`; then neither is written.
        """
        before = self._kept()
        self.set_all(values)
        return self._write(before)

    def undo(self) -> bool:
        """Go back to the backup; what was set until now becomes the backup. Return whether that is written.

        Raises:
            ConfigError: there is no backup.
        """
        backup = self._store.backup()
        if backup is None:
            raise ConfigError("there is nothing to undo")
        before = self._kept()
        settings = {key: change for key, change in self._set.items() if key not in before}
        self._use(self.file, settings | backup)
        return self._write(before)

    @property
    def can_undo(self) -> bool:
        """Whether there is a backup."""
        return self._store.backup() is not None

    @contextmanager
    def kept_on_failure(self, apply: Callable[[], None]) -> Iterator[None]:
        """Where the body fails, of whatever, take back what it set, also from what is written, and `apply` what stood.

        Raises:
            Exception: what the body failed of.
        """
        before = self.file, self.config, self._set
        try:
            yield
        except Exception:
            if self.config is not before[1]:
                self.file, self.config, self._set = before
                with self._writing:
                    self._store.save(self._kept(), time.monotonic(), at_once=True)
                apply()
            raise

    def reload(self, file: Config) -> None:
        """Take another version of the file; what was set stays where the file says what it said then."""
        self._use(file, self._set)

    def save(self, now: float) -> bool:
        """Write what has to survive a restart, if it has changed; `now` is in monotonic seconds."""
        with self._writing:
            return self._store.save(self._kept(), now)

    def _write(self, before: dict[str, dict[str, Any]]) -> bool:
        now = time.monotonic()
        with self._writing:
            backed_up = self._store.back_up(before, now)
            kept = self._kept()
            return backed_up and (kept == before or self._store.save(kept, now, at_once=True))

    def _kept(self) -> dict[str, dict[str, Any]]:
        return {key: dict(change) for key, change in self._set.items() if _survives(self.file, key)}

    def _together(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is set together with `values`: a whole goes before its parts, and takes later parts in."""
        together = dict(self.values)
        for key, value in values.items():
            whole = key.partition(".")[0]
            if whole != key and whole in together:
                config = changed(changed(self.file, together), {key: value})
                together[whole] = value_at(config, whole)
            else:
                together = {other: kept for other, kept in together.items() if not other.startswith(f"{key}.")}
                together[key] = value
        return together

    def _use(self, file: Config, changes: Changes) -> None:
        """Take over what still stands: all of it, or else one after the other what fits what was taken before it."""
        standing = {key: change for key, change in changes.items() if _stands(file, key, change)}
        try:
            self.config = self._with(file, _values(standing))
        except ConfigError:
            standing = _fitting(file, standing)
            self.config = self._with(file, _values(standing))
        self._set, self.file = standing, file

    def _with(self, file: Config, values: Mapping[str, Any]) -> Config:
        """Return a file's configuration with values over it.

        Raises:
            ConfigError: as `changed`.
        """
        config = changed(file, values)
        return changed(config, {"publish.picture": False, "heatmap.overlay": False}) if self._store.lost else config


def _values(changes: Changes) -> dict[str, Any]:
    return {key: change["value"] for key, change in changes.items()}


def _stands(file: Config, key: str, change: Mapping[str, Any]) -> bool:
    """Return whether what was set of a key is newer than what the file says."""
    try:
        if _says(file, key, change["file"]):
            return True
    except ConfigError as error:
        logger.warning("configuration: what was set of %s is dropped: %s", key, error)
        return False
    logger.info("configuration: %s is the file's again: it was changed there", key)
    return False


def _says(file: Config, key: str, value: Any) -> bool:
    """Return whether a file has a value, also one that was noted by a version that did not know all of its keys.

    Raises:
        ConfigError: the key does not exist.
    """
    now = value_at(file, key)
    if now == value:
        return True
    try:
        return bool(value_at(changed(file, {key: value}), key) == now)
    except ConfigError:
        return False


def _fitting(file: Config, changes: Changes) -> dict[str, Mapping[str, Any]]:
    fitting: dict[str, Mapping[str, Any]] = {}
    for key in sorted(changes, key=lambda key: KEPT.index(key) if key in KEPT else len(KEPT)):
        try:
            changed(file, _values(fitting) | {key: changes[key]["value"]})
        except ConfigError as error:
            logger.warning("configuration: what was set of %s is dropped: %s", key, error)
        else:
            fitting[key] = changes[key]
    return fitting


def _survives(file: Config, key: str) -> bool:
    return file.publish.persist_settings or key in KEPT
