"""What comes from others: files that are opened once, and JSON that is bounded before it is parsed."""

import errno
import json
import math
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes; a pipe or a terminal under its name is not waited for.

    Raises:
        OSError: it can't be opened, or is no regular file.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - who called closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no regular file")
    return file


def without_following(path: str, flags: int) -> int:
    """Open as `os.open` does, unless it is a link: an `opener` for what is written under a name of ours.

    Raises:
        OSError: it can't be opened, or is a link.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


_LEVELS = 20  # polygons in a list in a section in a change: five; the rest is room
_TEXT_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def parse_object(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object (RFC 8259) of at most twenty levels, its finite numbers included and no others.

    What goes through it later level by level, such as a copy of it, has enough of Python's stack for that many.

    Raises:
        ValueError: it is none; with the reason, as the rest of a sentence about the text.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"must be UTF-8 text: {error}") from error
    _check_levels(text)
    try:
        document = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
        json.dumps(document, ensure_ascii=False).encode()  # half a character, such as \ud800, can't be written again
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("must be a JSON object, in { }")
    return document


def _check_levels(text: str) -> None:
    """Refuse what is nested too deeply, before anything is made of it."""
    level = 0
    for found in _TEXT_OR_BRACKET.finditer(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if level > _LEVELS:
            raise ValueError(f"must have {_LEVELS} levels of brackets at most")


def _finite(text: str) -> float:
    """Return a number; `1e999` has the form of one, and would be infinite."""
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no number of JSON's")
