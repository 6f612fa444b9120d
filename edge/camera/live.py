"""Cameras that run by themselves and are read through OpenCV: V4L2 devices and network streams."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edge.camera.source import CLOSE_SECONDS, MAX_FAILED_OPENS, OPEN_SECONDS, Call, EndOfCamera, Throttle
from edge.config import CameraSection
from edge.errors import CameraError, CameraStalled
from edge.records import Bytes

if TYPE_CHECKING:
    from cv2 import VideoCapture

_log = logging.getLogger(__name__)

READER = "camera-reader"  # the name of every thread that is in OpenCV

_MAX_STUCK = 3
_PARTING_SECONDS = 0.5  # in which a camera that is well gives its device back, when no one has time for more


class LiveSource:
    """A camera that delivers whether it is asked or not.

    A thread of its own reads every frame and keeps the newest that is due, so that no frame is stale and no deadline
    rests on OpenCV: a read may fail late, or never return (opencv #22677, #23207). A thread that does not end when the
    camera is closed is left behind, and gives its device back as soon as it can. While three are stuck, no other is
    started, and three failed attempts in a row mean that only a new process helps.
    """

    def __init__(self, section: CameraSection, connect: "Callable[[], VideoCapture]") -> None:
        self._section = section
        self._connect = connect
        self._name = section.safe_source
        # Guards what its readers tell, and `_interrupted`; notified when either changes.
        self._changed = threading.Condition()
        self._interrupted = threading.Event()
        self._reader: _Reader
        self._stuck: list[_Reader] = []

    @property
    def max_failed_opens(self) -> int | None:
        return MAX_FAILED_OPENS if self._stuck_now() >= _MAX_STUCK else None

    def open(self) -> None:
        if (stuck := self._stuck_now()) >= _MAX_STUCK:
            raise CameraError(
                f"{self._name}: {stuck} earlier reads have not returned and no other begins until one has;"
                " check the camera and the way to it, or restart this program"
            )
        self._reader = _Reader(self._section, self._connect, self._changed, self._interrupted)
        self._reader.start()
        try:
            self._reader.wait(OPEN_SECONDS + self._section.timeout)
        except CameraError:
            self.close()
            raise

    def grab(self) -> tuple[Bytes, float]:
        return self._reader.take(self._section.timeout)

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted.set()
            self._changed.notify_all()

    def close(self) -> None:
        if not self._reader.leave():
            self._stuck.append(self._reader)
            if not self._interrupted.is_set():
                _log.warning("%s: a read has not returned for %g s and is left behind", self._name, CLOSE_SECONDS)

    def _stuck_now(self) -> int:
        self._stuck = [reader for reader in self._stuck if not reader.ended]
        return len(self._stuck)


class _Reader(Call):
    """Reads one connection until it is lost or left, and releases it in either case."""

    def __init__(
        self,
        section: CameraSection,
        connect: "Callable[[], VideoCapture]",
        changed: threading.Condition,
        interrupted: threading.Event,
    ) -> None:
        super().__init__(self._read, name=READER)
        self._connect = connect
        self._name, self._source = section.safe_source, section.source
        self._throttle = Throttle(section.fps)
        self._left = threading.Event()
        self._changed = changed
        self._interrupted = interrupted
        self._newest: tuple[Bytes, float] | None = None  # at most one frame waits here, always the newest
        self.ended = False

    def wait(self, seconds: float) -> tuple[Bytes, float]:
        """Wait until there is a frame, and leave it there.

        Raises:
            CameraStalled: there was none in time.
            EndOfCamera: the wait was interrupted.
            CameraError: none will come any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self.error or self._interrupted.is_set(), seconds)
            if self._interrupted.is_set():
                raise EndOfCamera(f"{self._name}: was asked to stop")
            if self._newest:
                return self._newest
            if self.error:
                raise CameraError(f"{self._name}: {self._words(self.error)}") from self.error
        raise CameraStalled(f"{self._name}: no frame for {seconds:g} s; check the camera and the way to it")

    def _words(self, error: Exception) -> str:
        """Return what is wrong; what OpenCV says of a stream may quote its whole address."""
        own = isinstance(error, CameraError) or self._name == self._source
        return str(error) if own else f"OpenCV can't read it ({type(error).__name__})"

    def take(self, seconds: float) -> tuple[Bytes, float]:
        """Wait for a frame and take it, so that it is the next one's turn; raise as `wait`."""
        with self._changed:
            newest = self.wait(seconds)
            self._newest = None
        return newest

    def leave(self) -> bool:
        """Ask the thread to end after its present call; wait for that, and return whether it has ended."""
        self._left.set()
        with self._changed:
            self._changed.wait_for(lambda: self.ended or self._interrupted.is_set(), CLOSE_SECONDS)
            if self._interrupted.is_set():
                self._changed.wait_for(lambda: self.ended, _PARTING_SECONDS)
            return self.ended

    def run(self) -> None:
        super().run()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _read(self) -> None:
        capture = self._connect()
        damaged = 0
        try:
            while not self._left.is_set():
                damaged += not self._advance(capture)
        finally:
            capture.release()
            if damaged:
                _log.warning("%s: left out %d frames that could not be decoded", self._name, damaged)

    def _advance(self, capture: "VideoCapture") -> bool:
        """Read the next frame; return whether it could be decoded, if it was due."""
        import cv2

        if not capture.grab():
            raise CameraError("the connection is lost; check the camera and the way to it")
        captured_at = time.monotonic()
        if not self._throttle.due(captured_at):
            return True
        good, pixels = capture.retrieve()
        if good:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            with self._changed:
                self._newest = np.asarray(pixels, np.uint8), captured_at
                self._changed.notify_all()
        return good


class V4l2:
    """A USB camera or another V4L2 device, asked for `size` and `fps`; the driver takes the nearest that it has.

    The pixel format is left to OpenCV and the driver. It has run with the kernel's virtual camera (vivid) only, not yet
    with a real one.
    """

    def __init__(self, section: CameraSection) -> None:
        self._section = section
        self._size = section.size

    def connect(self) -> "VideoCapture":
        """Connect to the device; raise CameraError, whose message goes on after the camera's name."""
        import cv2

        path = self._section.source
        capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraError(
                "can't be opened; check that it is plugged in (`ls -l /dev/v4l/by-id`), that no other program uses it"
                f" (`fuser {path}`) and that this user is in the group video; a camera on the ribbon cable is"
                " camera.source: picamera2"
            )
        width, height = self._section.size
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        capture.set(cv2.CAP_PROP_FPS, max(1, round(self._section.fps)))  # OpenCV gives the driver whole numbers
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if size != self._size:
            _log.info("%s: delivers %dx%d; camera.size asks for %dx%d", path, *size, width, height)
            self._size = size
        return capture


class Stream:
    """An RTSP or HTTP stream; it comes in the size and at the rate that the camera is set to.

    OpenCV asks for RTSP over TCP by itself, unless the user's OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise. Its
    time-outs act only when given to FFmpeg on opening (opencv #23207).
    """

    def __init__(self, section: CameraSection) -> None:
        self._section = section

    def connect(self) -> "VideoCapture":
        """Connect to the stream; raise CameraError, whose message goes on after the camera's name."""
        import cv2

        opening = round(self._section.timeout * 1000)
        reading = opening + 1000  # so that the deadline of whoever waits for the frame is the first
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, opening, cv2.CAP_PROP_READ_TIMEOUT_MSEC, reading]
        capture = cv2.VideoCapture(self._section.source, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            raise CameraError(
                "can't be opened; check that the camera can be reached from here and that path, user and password are"
                " right (`ffprobe` with the same address says more)"
            )
        return capture
