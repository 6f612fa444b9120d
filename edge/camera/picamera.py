"""The Raspberry Pi camera, through Picamera2 and libcamera."""

import logging
import time
from collections.abc import Callable
from typing import Any

from edge.camera.source import CLOSE_SECONDS, MAX_FAILED_OPENS, OPEN_SECONDS, Call
from edge.config import CameraSection
from edge.errors import CameraError, CameraStalled
from edge.records import Bytes

_log = logging.getLogger(__name__)

# libcamera names a format from its last byte on: BGR888 is R, G, B in memory (picamera2 #848).
FORMAT = "BGR888"
# Picamera2's own number for a preview; more would take more of the memory that is scarce on a Pi (CMA).
_BUFFERS = 4
_HINT = (
    "check the ribbon cable, that `rpicam-hello --list-cameras` shows the camera, that no other program uses it"
    " and that this user is in the group video"
)


class PicameraSource:
    """A camera on the ribbon cable.

    One Picamera2 object lives as long as this one, whatever is opened and closed: after about seven of them in one
    process libcamera fails with "Cannot allocate memory" (picamera2 #887). A call that never returns, as stop() does
    when the cable slips (picamera2 #1264), is left behind on its thread; only a new process cures that.

    The sensor mode with the largest field of view is chosen; a picture with other proportions than the sensor's is the
    largest cut from its middle.
    """

    max_failed_opens: int | None = MAX_FAILED_OPENS

    def __init__(self, section: CameraSection, number: int) -> None:
        self._section = section
        self._number = number
        self._make = _picamera2()
        self._camera: Any = None
        self._configured = False
        self._stuck: Call | None = None

    def open(self) -> None:
        if self._stuck and self._stuck.is_alive():
            raise CameraError(
                f"{self._section.source}: an earlier call into libcamera has not returned; only a restart of this"
                " program, or of the machine, frees the camera"
            )
        try:
            self._within(OPEN_SECONDS, self._start, "opened")
            self.grab()
        except CameraError:
            self.close()
            raise

    def grab(self) -> tuple[Bytes, float]:
        source, seconds = self._section.source, self._section.timeout
        try:
            request = self._camera.capture_request(wait=seconds)
            captured_at = time.monotonic()
            try:
                return request.make_array("main"), captured_at  # a copy: the buffer goes back
            finally:
                request.release()
        except TimeoutError as error:
            # Or the job would stay first in the queue, take the next frame and never give it back.
            self._camera.cancel_all_and_flush()
            raise CameraStalled(f"{source}: no frame for {seconds:g} s (camera.timeout); {_HINT}") from error
        except (RuntimeError, OSError, ValueError) as error:
            raise CameraError(f"{source}: can't be read: {error}; {_HINT}") from error

    def identity(self) -> str:
        """Return the number and the sensor's model of the open camera."""
        return f"csi {self._number} {self._camera.camera_properties.get('Model', 'unknown')}"

    def interrupt(self) -> None:
        """Do nothing: each of libcamera's calls is waited for, since a process that ends within one may crash."""

    def close(self) -> None:
        if self._camera is None or (self._stuck and self._stuck.is_alive()):
            return
        try:
            self._within(CLOSE_SECONDS, self._camera.stop, "closed")
        except CameraError as error:
            _log.warning("%s", error)

    def _start(self) -> None:
        if self._camera is None:
            self._camera = self._make(self._number)
        camera = self._camera
        if not self._configured:
            self._configure(camera)
            self._configured = True
        if "FrameDurationLimits" in camera.camera_controls:
            camera.set_controls({"FrameRate": self._section.fps})  # a start uses the controls up
        camera.start()

    def _configure(self, camera: Any) -> None:
        size, source = self._section.size, self._section.source
        sensor = {}
        if "ColorFilterArrangement" in camera.camera_properties:  # a bare sensor; others have no modes to choose from
            mode = widest_mode(camera.sensor_modes, size, self._section.fps)
            sensor = {"output_size": mode["size"], "bit_depth": mode["bit_depth"]}
        main = {"size": size, "format": FORMAT}
        # Without a queue a request is never one that has waited, but the next that the sensor delivers.
        camera.configure(
            camera.create_video_configuration(main=main, sensor=sensor, buffer_count=_BUFFERS, queue=False)
        )
        got = camera.camera_configuration()["main"]
        if got["format"] != FORMAT:
            raise CameraError(
                f"{source}: delivers {got['format']}, not {FORMAT}; for a USB camera use camera.source: /dev/video0"
            )
        if tuple(got["size"]) != size:
            _log.info("%s: delivers %dx%d; camera.size asks for %dx%d", source, *got["size"], *size)

    def _within(self, seconds: float, work: Callable[[], None], done: str) -> None:
        call = Call(work, name="picamera2")
        call.start()
        call.join(seconds)
        if call.is_alive():
            self._stuck = call
            raise CameraStalled(
                f"{self._section.source}: can't be {done}: libcamera has not answered for {seconds:g} s"
            )
        if isinstance(call.error, CameraError):
            raise call.error
        if call.error:
            raise CameraError(f"{self._section.source}: can't be {done}: {call.error}; {_HINT}") from call.error


def widest_mode(modes: list[dict[str, Any]], size: tuple[int, int], fps: float) -> dict[str, Any]:
    """Return the sensor mode with the largest field of view; of several the smallest that fills `size` at `fps`.

    Left alone, libcamera takes the mode nearest to the size, whatever it cuts off: at 640x480 a Camera Module 2 shows
    the middle 1280x960 of its 3280x2464 pixels (picamera2 #558, #1233). Modes within 1 % of the widest count as equal.
    """

    def view(mode: dict[str, Any]) -> int:
        _, _, width, height = mode["crop_limits"]
        return int(width * height)

    def cost(mode: dict[str, Any]) -> tuple[bool, bool, int, int]:
        width, height = mode["size"]
        return mode["fps"] < fps, width < size[0] or height < size[1], width * height, -mode["bit_depth"]

    widest = max(view(mode) for mode in modes)
    return min((mode for mode in modes if view(mode) >= 0.99 * widest), key=cost)


def _picamera2() -> Callable[[int], Any]:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise CameraError(
            f"camera.source: picamera2 needs Picamera2, which can't be imported ({error}); on Raspberry Pi OS run"
            " `sudo apt install python3-picamera2` and make the virtual environment with --system-site-packages"
        ) from error
    except ValueError as error:
        # "numpy.dtype size changed": apt's simplejpeg is built for numpy 1, the environment has numpy 2 (#1211).
        raise CameraError(
            f"camera.source: picamera2 does not fit this numpy ({error}); run `pip install simplejpeg` in the virtual"
            " environment"
        ) from error
    return Picamera2  # type: ignore[no-any-return, unused-ignore]
