"""Recorded pictures in place of a camera: a video file, or a folder of pictures."""

import itertools
import logging
import math
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from edge.camera.source import EndOfCamera, Throttle
from edge.config import CameraSection
from edge.errors import CameraError, PictureError
from edge.pictures import pictures_in, read_picture
from edge.records import Bytes

_log = logging.getLogger(__name__)

# A picture, and how many seconds after the one before it is due.
Shown = tuple[Bytes, float]
# None is a picture that is passed over.
Step = Shown | None


class RecordedSource:
    """Recorded pictures, shown in real time; again and again, or once and then EndOfCamera when `loop` is false.

    `play` yields the pictures of one pass. A pause between two of them that is longer than `timeout` is cut short.
    """

    max_failed_opens: int | None = None

    def __init__(self, section: CameraSection, play: Callable[[], Generator[Step]]) -> None:
        self._section = section
        self._play = play
        self._due = -math.inf
        self._interrupted = threading.Event()
        self._player: Generator[Shown]
        self._steps: Iterator[Shown]

    def open(self) -> None:
        self._player = self._passes()
        self._steps = itertools.chain((next(self._player),), self._player)  # a recording without a picture fails here

    def grab(self) -> tuple[Bytes, float]:
        step = next(self._steps, None)
        if step is None:
            raise EndOfCamera(f"{self._section.safe_source}: has come to its end (camera.loop is false)")
        pixels, seconds = step
        self._wait(min(seconds, self._section.timeout))
        return pixels, time.monotonic()

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self._player.close()

    def _passes(self) -> Generator[Shown]:
        while True:
            shown = False
            with closing(self._play()) as steps:
                for step in steps:
                    self._pause(0)
                    if step:
                        shown = True
                        yield step
            if not shown:
                raise CameraError(f"{self._section.safe_source}: holds no picture that can be decoded")
            if not self._section.loop:
                return

    def _wait(self, seconds: float) -> None:
        """Wait until `seconds` after the last time; after a delay go on from now, and don't hurry to catch up."""
        now = time.monotonic()
        self._due = max(self._due + seconds, now)
        self._pause(self._due - now)

    def _pause(self, seconds: float) -> None:
        if self._interrupted.wait(seconds):
            raise EndOfCamera(f"{self._section.safe_source}: was asked to stop")


class Recording:
    """A video file or a folder of pictures, whichever is there when it is played."""

    def __init__(self, section: CameraSection) -> None:
        self._path, self._name = section.source, section.safe_source
        self._folder = Folder(section)
        self._video = Video(section)

    def play(self) -> Generator[Step]:
        """Return the pictures of one pass; raise CameraError when there is neither."""
        kind = kind_of(self._path)
        if kind is not None:
            return self._folder.play() if kind == "folder" else self._video.play()
        raise CameraError(
            f"{self._name}: is not there, or not for this user to see; check that its disk is mounted and that the path"
            " in camera.source is right (/home is hidden from the service)"
        )


class Video:
    """A video file; of its frames those that are due by their own time stamps, `fps` a second.

    Where time stamps stand still, every frame counts, 1 / `fps` after the last.
    """

    def __init__(self, section: CameraSection) -> None:
        self._section = section

    def play(self) -> Generator[Step]:
        import cv2

        capture = cv2.VideoCapture(self._section.source, cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                raise CameraError(f"{self._section.safe_source}: is not a video file that OpenCV can read")
            interval = 1 / self._section.fps
            throttle = Throttle(self._section.fps)
            last = -math.inf
            while capture.grab():
                position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if position > last and not throttle.due(position):
                    yield None
                    continue
                good, pixels = capture.retrieve()
                if good:
                    seconds = position - last if -math.inf < last < position else interval
                    last = position
                    yield np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8), seconds
        finally:
            capture.release()


class Folder:
    """The pictures of a folder (not of the folders in it), sorted by name, one every 1 / `fps` seconds.

    A picture that can't be read is left out, with one warning, and tried again once its file has changed: it may have
    been met half-written. Pictures that are added are shown in the next pass.
    """

    def __init__(self, section: CameraSection) -> None:
        self._section = section
        self._unreadable: dict[Path, tuple[int, ...]] = {}  # in which state of its file each was left out last

    def play(self) -> Generator[Step]:
        for path in self._paths():
            state = _state(path)  # from before it is read: what is written meanwhile makes another one
            pixels = None if self._unreadable.get(path) == state else self._read(path, state)
            yield None if pixels is None else (pixels, 1 / self._section.fps)

    def _read(self, path: Path, state: tuple[int, ...]) -> Bytes | None:
        try:
            return read_picture(path)
        except PictureError as error:
            known = path in self._unreadable
            self._unreadable[path] = state
            if not known:
                _log.warning("%s; it is left out (%d left out so far)", error, len(self._unreadable))
            return None

    def _paths(self) -> list[Path]:
        try:
            return pictures_in(Path(self._section.source))
        except OSError as error:
            raise CameraError(f"{self._section.safe_source}: can't be listed: {error.strerror or error}") from error


def kind_of(source: str) -> Literal["file", "folder", "other"] | None:
    """Return what a path leads to; null when there is nothing, or nothing that can be looked at now."""
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file, or with who may read it."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size
