"""Commands from the broker: what may be set and asked for, and what of a message is taken; pure.

Anybody who may write to the broker can send anything: payloads are bounded, checked and counted before they are obeyed.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.config import OPTIONS, near_option
from edge.files import parse_object
from edge.topics import ID, Topics

COMMANDS = ("snapshot", "relearn", "calibrate", "reload", "restart", "get_config")

_MAX_BYTES = 16384  # a calibration with some hundred points
_MAX_TRANSACTION = 128
_COMMAND = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value for one key of the configuration; `option` is its topic's middle part."""

    option: str
    key: str
    value: bool | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command with its arguments; `transaction` is the asker's own mark, which the response carries."""

    command: str
    transaction: str | int | None
    arguments: Mapping[str, Any]


class Refused(ValueError):
    """A message is not obeyed; where it was a request, `command` and `transaction` say whom to answer."""

    def __init__(self, reason: str, command: str | None = None, transaction: str | int | None = None) -> None:
        super().__init__(reason)
        self.command = command
        self.transaction = transaction


def parse(topics: Topics, topic: str, payload: bytes) -> Setting | Request:
    """Return what a message asks for.

    Raises:
        Refused: it is no command, or one that can't be understood; the message says why.
    """
    asked = topic.removeprefix(topics.request(""))
    if asked != topic:
        return _request(asked, payload)
    option = topic.removeprefix(f"{topics.root}/").removesuffix("/set")
    key, read = _setting(option)
    if len(payload) > _MAX_BYTES:
        raise Refused(f"{option}: {len(payload)} bytes; {_MAX_BYTES} are allowed")
    try:
        return Setting(option=option, key=key, value=read(payload.decode()))
    except ValueError as error:
        words = "must be UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Refused(f"{option}: {words}, not {ascii(payload[:40])[1:]}") from error


def _setting(option: str) -> tuple[str, Callable[[str], bool | float | str]]:
    """Return the key that an option sets and what reads its payload.

    Raises:
        Refused: there is no such option.
    """
    match option.split("/"):
        case [str(name)] if name in OPTIONS:
            return OPTIONS[name], _READERS[name]
        case ["trigger", str(name), "near"] if ID.fullmatch(name):
            return near_option(name)[1], _number
    raise Refused(f"{option[:100]!a} can't be set; what can: {', '.join(OPTIONS)}, trigger/<name>/near")


def _switch(text: str) -> bool:
    try:
        return {"ON": True, "OFF": False}[text]
    except KeyError:
        raise ValueError("must be ON or OFF") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("must be a number")
    return value


_READERS: Mapping[str, Callable[[str], bool | float | str]] = {
    "enabled": _switch,
    "interval": _number,
    "colormap": str,
}


def _request(command: str, payload: bytes) -> Request:
    if not _COMMAND.fullmatch(command):
        raise Refused(f"{command[:100]!a} is no command; there are {', '.join(COMMANDS)}")
    if len(payload) > _MAX_BYTES:
        raise Refused(f"{len(payload)} bytes; {_MAX_BYTES} are allowed", command)
    try:
        document = parse_object(payload or b"{}")
    except ValueError as error:
        raise Refused(str(error), command) from error
    transaction = document.pop("transaction", None)
    if isinstance(transaction, bool) or not isinstance(transaction, str | int | None):
        raise Refused("transaction must be text or a whole number", command)
    if len(str(transaction)) > _MAX_TRANSACTION or not str(transaction).isprintable():
        raise Refused(f"transaction must have {_MAX_TRANSACTION} printable characters at most", command)
    if command not in COMMANDS:
        raise Refused(f"there is no {command}; there are {', '.join(COMMANDS)}", command, transaction)
    return Request(command=command, transaction=transaction, arguments=document)
