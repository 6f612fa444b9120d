"""A foreign checkpoint is read in a child process with limits: whatever it does there, it does to the child."""

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edge.depth.weights.files import Arrays, read
from edge.errors import WeightsError
from edge.files import open_regular
from edge.system import isolated

MEMORY_BYTES = 1 << 30  # of address space: three times what the official file needs
CPU_SECONDS = 60  # a Raspberry Pi 4 needs a tenth of it
_TIMEOUT_SECONDS = 180  # of real time: a cold SD card
_MOST_WORDS = 1000
_MOST_BYTES = 320 << 20  # of a checkpoint: the most that its numbers may have, and its list of them
_CHUNK_BYTES = 1 << 20


def open_foreign(path: Path) -> IO[bytes]:
    """Open a file from outside to read it later; whose name it then has is of no account.

    Raises:
        WeightsError: it can't be opened.
    """
    try:
        return open_regular(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file") from error
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror or error}") from error


@contextmanager
def own_copy(path: Path, file: IO[bytes]) -> Iterator[tuple[Path, str]]:
    """Yield a copy of an open file that nobody else can change meanwhile, and the hash of its bytes, 64 hex digits.

    `path` is what it is called in messages, which tell nothing of the copy.

    Raises:
        WeightsError: it is too large, or can't be read or copied.
    """
    with tempfile.TemporaryDirectory(prefix="edge-depth-") as folder:
        copy = Path(folder) / "foreign"
        try:
            size = os.fstat(file.fileno()).st_size
            if size > _MOST_BYTES:
                raise WeightsError(f"{path}: has {size} bytes; a checkpoint has {_MOST_BYTES} at most")
            sha256 = _copied(file, copy)
        except OSError as error:
            raise WeightsError(f"{path}: can't be copied to {folder}: {error.strerror or error}") from error
        try:
            yield copy, sha256
        except WeightsError as error:
            raise WeightsError(str(error).replace(str(copy), str(path))) from error


def _copied(file: IO[bytes], copy: Path) -> str:
    digest = hashlib.sha256()
    with copy.open("xb") as target:
        while chunk := file.read(min(_CHUNK_BYTES, _MOST_BYTES + 1 - target.tell())):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def read_foreign(path: Path) -> Arrays:
    """Return the tensors of a torch checkpoint from outside, by name.

    Raises:
        WeightsError: the file is no checkpoint of tensors, or reading it passed the limits.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    with tempfile.TemporaryDirectory(prefix="edge-depth-") as folder:
        target = Path(folder) / "tensors.safetensors"
        _run([str(path.resolve()), str(target)], path)
        return read(target)[0]


def _run(arguments: list[str], path: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own program, the file's name is an argument
            isolated.command("edge.depth.weights", *arguments),
            # One thread: OpenBLAS reserves address space for each, and the address space is limited.
            env=isolated.environment({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{path}: refused: reading it took more than {_TIMEOUT_SECONDS} s") from error
    words = "".join(c if c.isprintable() else "?" for c in done.stderr.decode(errors="replace").strip())
    if done.returncode == WeightsError.exit_code:
        raise WeightsError(words[:_MOST_WORDS])
    if done.returncode:
        raise WeightsError(f"{path}: refused: {_ending(done.returncode)}: {words[-_MOST_WORDS:] or 'no word'}")


def _ending(code: int) -> str:
    """Say how the reader ended."""
    if code < 0:
        return (
            f"its reader was stopped by {signal.Signals(-code).name} "
            f"(limits: {CPU_SECONDS} s of CPU, {MEMORY_BYTES >> 20} MiB)"
        )
    return f"its reader ended with {code}"
