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
from typing import TYPE_CHECKING, Any

from edge.config import Config, changed, load, value_at
from edge.errors import ConfigError
from edge.state.place import OVERLAY, Place, place_of
from edge.state.stores import OverlayStore

if TYPE_CHECKING:
    from edge.camera import View

logger = logging.getLogger(__name__)

Changes = Mapping[str, Mapping[str, Any]]

ZONES, MASKS, CALIBRATION, TRIGGERS = "zones", "camera.privacy_masks", "calibration", "triggers"
# Kept in any case: drawn, named or measured, not tried out. Zones stand before the triggers that name them.
KEPT = (ZONES, MASKS, CALIBRATION, TRIGGERS)
DRAWN = (ZONES, MASKS, CALIBRATION)  # in the picture: they fit one view alone
_SAID = {"camera": "the camera is another one", "size": "camera.size", "rotate": "camera.rotate", "flip": "camera.flip"}


def in_force(path: str | Path) -> "Overlay":
    """Return a file's configuration with what was set over it, as the daemon that it is for keeps it.

    Raises:
        ConfigError: as `load`.
    """
    file = load(path)
    place = place_of(path, file)
    return Overlay(file, OverlayStore(place.file(OVERLAY)), place)


class Overlay:
    """What was set over one file's configuration; `store` keeps it.

    Settings are kept over a restart with `publish.persist_settings`, what is in `KEPT` always. Each change that is
    kept is written as it is made. `view` is what the camera shows, None before it is known; what is drawn fits the view
    that it was drawn in. Where privacy masks may be lost, or fit another view, nothing that is made of pixels leaves
    the machine until somebody has looked: `withheld` says why.
    """

    def __init__(self, file: Config, store: OverlayStore, place: Place | None = None) -> None:
        self._store = store
        self._place = place
        self.view: View | None = None
        self._writing = threading.Lock()  # two threads write: one file at a time
        self._set: Changes = {}  # replaced, never changed: `save` reads it in another thread
        stored = store.load()
        kept = {key: change for key, change in stored.items() if _survives(file, key)}
        self.file = self.config = file
        self._use(file, kept)
        if self.withheld:
            logger.error("%s; %s", self.withheld, self.help_by_hand)

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
        return changed(self.file, self._together(values))

    @property
    def withheld(self) -> str | None:
        """Why nothing that is made of pixels may leave the machine; None: it may."""
        if self._place and self._place.is_hidden:
            return "what was set for this service, privacy masks too, is not for this user to see; run it with sudo"
        if self._store.lost:
            why = f"{self._store.lost.name} can't be used, and privacy masks may be lost"
        elif self._place and self._place.unclear:
            why = f"nobody knows whose privacy masks these are ({self._place.unclear})"
        elif not self.fits(MASKS):
            why = f"the privacy masks were drawn for another view ({self._difference(MASKS)})"
        else:
            return None
        return f"{why}: no picture and no heatmap leaves this machine until they are confirmed or drawn anew in Set up"

    @property
    def help_by_hand(self) -> str:
        """What ends that where there is no page, for the log alone: it names folders."""
        in_file = "without the page: put them into the configuration's file"
        if self._store.lost:
            return f"{in_file}, delete {self._store.lost} and restart"
        if self._place and self._place.unclear:
            return f"without the page: make the right file {self._place.folder / ''.join(OVERLAY)} and restart"
        return f"{in_file} and restart"

    @property
    def doubts(self) -> tuple[str, ...]:
        """What else was drawn for another view, each with what follows from it."""
        follows = {ZONES: "triggers that name one are frozen", CALIBRATION: "there are no metres"}
        return tuple(
            f"{key}: set for another view ({self._difference(key)}): {words} until it is confirmed or set anew"
            for key, words in follows.items()
            if not self.fits(key)
        )

    def look(self, view: "View | None") -> None:
        """Take what the camera shows from now on; what was set without a view counts as drawn in the first.

        So does the backup: what an undo brings back has been there as long.
        """
        self._see(view)
        backup = self._store.backup() or {}
        if backup != (seen := self._in_view(backup)):
            with self._writing:
                self._store.back_up(seen, time.monotonic())

    def _see(self, view: "View | None") -> None:
        self.view = view
        self._set = self._in_view(self._set)

    def _in_view(self, changes: Changes) -> dict[str, dict[str, Any]]:
        return {key: {**self._view_of(key, anew=True), **change} for key, change in changes.items()}

    def check_pixels(self, view: "View | None" = None) -> None:
        """Refuse to have something made of a camera's pixels, which show `view` once it is open.

        Raises:
            ConfigError: they are withheld.
        """
        self._see(view)
        if self.withheld:
            raise ConfigError(self.withheld)

    def fits(self, key: str) -> bool:
        """Return whether what was set of a key was drawn in the view that the camera has, as far as that is known."""
        drawn_in = self._set.get(key, {}).get("view")
        return drawn_in is None or self.view is None or drawn_in == self.view

    def _difference(self, key: str) -> str:
        drawn_in, view = self._set[key]["view"], self.view or {}
        parts = [name for name in _SAID if drawn_in.get(name) != view.get(name)]
        return ", ".join(
            _SAID[name] if name == "camera" else f"{_SAID[name]} was {drawn_in.get(name)} and is {view.get(name)}"
            for name in parts
        )

    def confirm(self) -> bool:
        """Take what is in force as meant for what the camera shows; return whether that is written."""
        self._set = {key: {**change, **self._view_of(key, anew=True)} for key, change in self._set.items()}
        written = self._write()
        return self.settle() and written

    def settle(self) -> bool:
        """Miss no masks any more, here and after a restart; return whether that is written."""
        unclear = self._place is not None and self._place.unclear is not None
        if self._place:
            self._place.confirm()
        with self._writing:
            return not (unclear or self._store.lost) or self._store.settle(self._kept(), time.monotonic())

    def set(self, key: str, value: Any) -> bool:
        """Set one key; setting what the file has takes back what was set. Return whether what is kept is written.

        Raises:
            ConfigError: the key does not exist or the value does not fit; nothing is changed.
        """
        return self.set_all({key: value})

    def set_all(self, values: Mapping[str, Any]) -> bool:
        """Set several keys at once, all or none; return as `set`.

        Raises:
            ConfigError: as `set`.
        """
        self._take(values)
        return self._write()

    def _take(self, values: Mapping[str, Any]) -> None:
        together = self._together(values)
        config = changed(self.file, together)
        pairs = {key: (value_at(self.file, key), value_at(config, key)) for key in together}
        self._set = {
            key: {"value": here, "file": there} | self._view_of(key, anew=key in values)
            for key, (there, here) in pairs.items()
            if here != there
        }
        self.config = config

    def _view_of(self, key: str, *, anew: bool) -> "dict[str, View]":
        view = (anew and self.view) or self._set.get(key, {}).get("view")
        return {"view": view} if key in DRAWN and view else {}

    def replace(self, values: Mapping[str, Any]) -> bool:
        """Set several keys at once; what was set before is the backup. Return whether both are written.

        Raises:
            ConfigError: as `set`; then neither is written.
        """
        before = self._set_up()
        self._take(values)
        return self._write(before)

    def undo(self) -> bool:
        """Go back to the backup; what was set until now becomes the backup. Return whether that is written.

        Raises:
            ConfigError: there is no backup.
        """
        backup = self._store.backup()
        if backup is None:
            raise ConfigError("there is nothing to undo")
        before = self._set_up()
        settings = {key: change for key, change in self._set.items() if key not in before}
        self._use(self.file, settings | {key: change for key, change in backup.items() if _is_set_up(key)})
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

    def _write(self, backup: Mapping[str, dict[str, Any]] | None = None) -> bool:
        """Write what is kept, if that is not written, and another backup, if there is to be one."""
        now = time.monotonic()
        with self._writing:
            backed_up = backup is None or self._store.back_up(backup, now)
            kept = self._kept()
            return (self._store.holds(kept) or self._store.save(kept, now, at_once=True)) and backed_up

    def _kept(self) -> dict[str, dict[str, Any]]:
        return {key: dict(change) for key, change in self._set.items() if _survives(self.file, key)}

    def _set_up(self) -> dict[str, dict[str, Any]]:
        """Return what may be undone: all that the page changes, levels that were set otherwise included."""
        return {key: dict(change) for key, change in self._set.items() if _is_set_up(key)}

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
            self.config = changed(file, _values(standing))
        except ConfigError:
            standing = _fitting(file, standing)
            self.config = changed(file, _values(standing))
        self._set, self.file = standing, file


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


def _is_set_up(key: str) -> bool:
    """Return whether the page changes a key, or what it is a part of."""
    return any(key == whole or key.startswith(f"{whole}.") for whole in KEPT)
