"""Where frames come from: the Pi's camera, V4L2, network streams, video files and folders of pictures."""

import os
import re
from functools import partial
from typing import Protocol

from edge.camera.files import RecordedSource, Recording, kind_of
from edge.camera.live import READER, LiveSource, Stream, V4l2
from edge.camera.mounted import MountedCamera
from edge.camera.picamera import PicameraSource
from edge.camera.source import EndOfCamera
from edge.camera.view import View, device_identity, path_identity, stream_identity
from edge.config import STREAM, CameraSection
from edge.errors import ConfigError
from edge.records import Frame, Polygon

__all__ = ["READER", "Camera", "EndOfCamera", "View", "open_camera"]

_PICAMERA = re.compile(r"picamera2(?::(\d{1,2}))?")
_V4L2 = re.compile(r"/dev/(video\d+|v4l/.+)")
# Where a missing file or folder may be there later, as on a disk that is not mounted yet; a device is no such thing.
_MAY_COME = re.compile(r"/(?!dev/(?!shm/)).+", re.DOTALL)


class Camera(Protocol):
    """Where frames come from. One thread uses it; a program may have several.

    `name` is fit for logs: no user, no password. `view` is that of the frames since it was last opened, None before.
    After a CameraError, close it and open it to go on.
    """

    name: str
    view: View | None

    @property
    def max_failed_opens(self) -> int | None:
        """After how many failed attempts in a row to open it only a new process can help.

        None means that it can be tried for ever; for one camera that may change from attempt to attempt.
        """

    def mask(self, private_areas: tuple[Polygon, ...]) -> None:
        """Blank these areas from the next frame on, in place of those of the configuration; from any thread."""

    def open(self) -> None:
        """Open the camera and wait for its first frame, for 35 seconds and `timeout` at most.

        Raises:
            EndOfCamera: it was interrupted.
            CameraError: there is none; the message says what to do.
        """

    def read(self) -> Frame:
        """Return a frame that no one has had yet, turned, mirrored and masked as the configuration says.

        Raises:
            CameraStalled: there was none for `timeout` seconds.
            EndOfCamera: a file or folder has come to its end, or the camera was interrupted.
            CameraError: there will be none until the camera is opened again.
        """

    def interrupt(self) -> None:
        """Let open() and read() wait no more, now and from now on, so that the camera is soon closed; from any thread.

        What is not to be broken off, as a call into libcamera, is waited for all the same.
        """

    def close(self) -> None:
        """Give the device back, within 5 seconds; never raise. It can be opened again, and closed twice."""


def open_camera(section: CameraSection) -> Camera:
    """Return the camera that `section.source` names, not yet opened.

    Raises:
        ConfigError: there is no such kind of source; a file or folder with an absolute path may come later.
        CameraError: picamera2 is asked for and not installed.
    """
    text = section.source
    if found := _PICAMERA.fullmatch(text):
        source = PicameraSource(section, int(found[1] or 0))
        return MountedCamera(section, source, source.identity)
    if _V4L2.fullmatch(text):
        return MountedCamera(section, LiveSource(section, V4l2(section).connect), partial(device_identity, text))
    if STREAM.match(text):
        # FFmpeg's own lines quote addresses, as of a playlist's parts; it reads this when the first stream is opened
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        return MountedCamera(section, LiveSource(section, Stream(section).connect), partial(stream_identity, text))
    kind = kind_of(text)
    if kind in ("file", "folder") or (kind is None and _MAY_COME.fullmatch(text)):
        return MountedCamera(section, RecordedSource(section, Recording(section).play), partial(path_identity, text))
    raise ConfigError(
        "camera.source: must be picamera2, picamera2:1 (its number), /dev/video0, /dev/v4l/by-id/..., rtsp://..., http://...,"
        " or an existing video file or folder of pictures (or the whole path of one to come), not"
        f" {section.safe_source!r}"
    )
