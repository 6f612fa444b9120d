"""The configuration's file, read again: at once, or where it takes something away once it has stood for a while."""

import logging
import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from edge.config import Config, Section, changed, value_at
from edge.daemon.overlay import Overlay
from edge.errors import ConfigError
from edge.publish import homeassistant
from edge.topics import Topics

logger = logging.getLogger(__name__)

HOLD_SECONDS = 10.0

Answer = Future[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A file that takes something away, and from when on it counts, in monotonic seconds."""

    file: Config
    gone: list[str]
    due: float


class Reloading:
    """Reads the file again, and has it gone by.

    An editor or a full disk may leave half a file for a moment, and what is not in it says nothing. So a file that
    takes something away is gone by only if it is the same after `HOLD_SECONDS`. `go_by(file, gone)` uses a file and
    returns the answer.

    `read` is called in the depth thread, `is_due` in the main thread.
    """

    def __init__(
        self,
        overlay: Overlay,
        topics: Topics,
        read_file: Callable[[], Config],
        go_by: Callable[[Config, list[str]], dict[str, Any]],
    ) -> None:
        self._overlay = overlay
        self._topics = topics
        self._read_file = read_file
        self._go_by = go_by
        self._held: _Held | None = None
        self._looked_at = -math.inf
        self._asked: list[Answer] = []

    def read(self, now: float) -> Answer:
        """Return what comes of reading the file: what `go_by` returns or raises, or a ConfigError; perhaps later."""
        answer: Answer = Future()
        self._asked.append(answer)
        try:
            file = self._read_file()
            gone = taken_away(self._overlay, file, self._topics)
            if gone and not self._has_stood(file, gone, now):
                return answer
            self._held = None
            found = self._go_by(file, gone)
        except Exception as error:  # noqa: BLE001 - it is the answer; readings go on
            self._held = None
            for asked in self._settled():
                asked.set_exception(error)
        else:
            for asked in self._settled():
                asked.set_result(found)
        return answer

    def is_due(self, now: float) -> bool:
        """Return whether a file has waited for long enough to be read once more; true once for each wait."""
        held = self._held
        due = held is not None and self._looked_at < held.due <= now
        self._looked_at = now
        return due

    def _settled(self) -> list[Answer]:
        settled, self._asked = self._asked, []
        return settled

    def _has_stood(self, file: Config, gone: list[str], now: float) -> bool:
        held = self._held
        if held is None or (held.file, held.gone) != (file, gone):
            self._held = _Held(file=file, gone=gone, due=now + HOLD_SECONDS)
            logger.warning(
                "configuration: the file takes away %s; it is gone by if it is the same in %g s",
                ", ".join(gone),
                HOLD_SECONDS,
            )
            return False
        return now >= held.due


def taken_away(overlay: Overlay, file: Config, topics: Topics) -> list[str]:
    """Return what would be gone with another version of the file: sections, masks, zones, triggers, entities."""
    before, after = overlay.config, _with_what_stays(overlay, file)
    gone = [*_sections(overlay.file, file), *_masks(before, after)]
    for key in ("zones", "triggers"):
        there = {item.name for item in getattr(after, key)}
        gone += [f"{key}.{item.name}" for item in getattr(before, key) if item.name not in there]
    # how it is announced needs a restart, and takes nothing away before
    after = after.model_copy(update={"mqtt": before.mqtt})
    known = homeassistant.entity_names(after, topics)
    lost = [name for name in homeassistant.entity_names(before, topics) if name not in known]
    return gone + [f"Home Assistant's {name!r}" for name in lost]


def _with_what_stays(overlay: Overlay, file: Config) -> Config:
    """Return the configuration with what was set where the file says what it said then."""
    try:
        stays = {
            key: value for key, value in overlay.values.items() if value_at(overlay.file, key) == value_at(file, key)
        }
        return changed(file, stays)
    except ConfigError:  # what was set does not fit the file any more, and is dropped
        return file


def _sections(before: Section, after: Section, path: str = "") -> list[str]:
    """Return the sections that stand in one version of the file and not in the other."""
    gone = []
    for name in type(before).model_fields:
        was, now = getattr(before, name), getattr(after, name)
        if not isinstance(was, Section) or name not in before.model_fields_set:
            continue
        if now is None or name not in after.model_fields_set:
            gone.append(path + name)
        else:
            gone += _sections(was, now, f"{path}{name}.")
    return gone


def _masks(before: Config, after: Config) -> list[str]:
    found = []
    for section, key in (("camera", "privacy_masks"), ("scene", "ignore_masks")):
        was, now = (len(getattr(getattr(config, section), key)) for config in (before, after))
        if now < was:
            found.append(f"{was - now} of {section}.{key}")
    return found
