"""Files that others may change: opened once, so that what was checked is what is read."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


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
