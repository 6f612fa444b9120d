"""Recorded pictures in place of a camera: a video file, or a folder of pictures."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from edge.camera.source import EndOfCamera, Throttle
from edge.config import CameraSection
from edge.errors import CameraError, PictureError
from edge.pictures import SUFFIXES, read_picture
from edge.records import Bytes

_log = logging.getLogger(__name__)

# A picture, and how many seconds after the one before it is due.
Step = tuple[Bytes, float]


class RecordedSource:
    """Recorded pictures, shown in real time; again and again, or once and then EndOfCamera when `loop` is false.

    `play` yields the pictures of one pass. A pause between two of them that is longer than `timeout` is cut short.
    """

    max_failed_opens: int | None = None

    def __init__(self, section: CameraSection, play: Callable[[], Generator[Step]]) -> None:
        self._section = section
        self._play = play
        self._due = -math.inf
        self._player: Generator[Step]
        self._steps: Iterator[Step]

    def open(self) -> None:
        self._player = self._passes()
        self._steps = itertools.chain((next(self._player),), self._player)  # a recording without a picture fails here

    def grab(self) -> tuple[Bytes, float]:
        step = next(self._steps, None)
        if step is None:
            raise EndOfCamera(f"{self._section.source}: has come to its end (camera.loop is false)")
        pixels, seconds = step
        self._wait(min(seconds, self._section.timeout))
        return pixels, time.monotonic()

    def close(self) -> None:
        self._player.close()

    def _passes(self) -> Generator[Step]:
        while True:
            shown = False
            with closing(self._play()) as steps:
                for step in steps:
                    shown = True
                    yield step
            if not shown:
                raise CameraError(f"{self._section.source}: holds no picture that can be decoded")
            if not self._section.loop:
                return

    def _wait(self, seconds: float) -> None:
        """Wait until `seconds` after the last time; after a delay go on from now, and don't hurry to catch up."""
        now = time.monotonic()
        self._due = max(self._due + seconds, now)
        time.sleep(self._due - now)


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
                raise CameraError(f"{self._section.source}: is not a video file that OpenCV can read")
            interval = 1 / self._section.fps
            throttle = Throttle(self._section.fps)
            last = -math.inf
            while capture.grab():
                position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if position > last and not throttle.due(position):
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

    A picture that can't be read is left out, with one warning. Pictures that are added are shown in the next pass.
    """

    def __init__(self, section: CameraSection) -> None:
        self._section = section
        self._unreadable: set[Path] = set()

    def play(self) -> Generator[Step]:
        for path in self._paths():
            try:
                pixels = read_picture(path)
            except PictureError as error:
                self._unreadable.add(path)
                _log.warning("%s; it is left out (%d left out so far)", error, len(self._unreadable))
            else:
                yield pixels, 1 / self._section.fps

    def _paths(self) -> list[Path]:
        try:
            found = [path for path in Path(self._section.source).iterdir() if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise CameraError(f"{self._section.source}: can't be listed: {error.strerror or error}") from error
        return sorted(path for path in found if path not in self._unreadable)
