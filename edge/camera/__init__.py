"""Where frames come from: the Pi's camera, V4L2, network streams, video files and folders of pictures."""

import re
from pathlib import Path
from typing import Protocol

from edge.camera.files import Folder, RecordedSource, Video
from edge.camera.live import LiveSource, Stream, V4l2
from edge.camera.mounted import MountedCamera
from edge.camera.picamera import PicameraSource
from edge.camera.source import EndOfCamera, Source
from edge.config import STREAM, CameraSection
from edge.errors import ConfigError
from edge.records import Frame, Polygon

__all__ = ["Camera", "EndOfCamera", "open_camera"]

_PICAMERA = re.compile(r"picamera2(?::(\d{1,2}))?")
_V4L2 = re.compile(r"/dev/(video\d+|v4l/.+)")


class Camera(Protocol):
    """Where frames come from. One thread uses it; a program may have several.

    `name` is fit for logs: no user, no password. After `max_failed_opens` failed attempts to open it in a row only a
    new process can help; None means that it can be tried for ever. After a CameraError, close it and open it to go on.
    """

    name: str
    max_failed_opens: int | None

    def mask(self, private_areas: tuple[Polygon, ...]) -> None:
        """Blank these areas from the next frame on, in place of those of the configuration; from any thread."""

    def open(self) -> None:
        """Open the camera and wait for its first frame, for 35 seconds and `timeout` at most.

        Raises:
            CameraError: there is none; the message says what to do.
        """

    def read(self) -> Frame:
        """Return a frame that no one has had yet, turned, mirrored and masked as the configuration says.

        Raises:
            CameraStalled: there was none for `timeout` seconds.
            EndOfCamera: a file or folder has come to its end.
            CameraError: there will be none until the camera is opened again.
        """

    def close(self) -> None:
        """Give the device back, within 5 seconds; never raise. It can be opened again, and closed twice."""


def open_camera(section: CameraSection) -> Camera:
    """Return the camera that `section.source` names, not yet opened.

    Raises:
        ConfigError: there is no such kind of source, file or folder.
        CameraError: picamera2 is asked for and not installed.
    """
    return MountedCamera(section, _source(section))


def _source(section: CameraSection) -> Source:
    text = section.source
    if found := _PICAMERA.fullmatch(text):
        return PicameraSource(section, int(found[1] or 0))
    if _V4L2.fullmatch(text):
        return LiveSource(section, V4l2(section).connect)
    if STREAM.match(text):
        return LiveSource(section, Stream(section).connect)
    if Path(text).is_dir():
        return RecordedSource(section, Folder(section).play)
    if Path(text).is_file():
        return RecordedSource(section, Video(section).play)
    raise ConfigError(
        "camera.source: must be picamera2, picamera2:1 (its number), /dev/video0, /dev/v4l/by-id/..., rtsp://..., http://...,"
        f" or an existing video file or folder of pictures, not {section.safe_source!r}"
    )
