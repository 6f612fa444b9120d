"""A source as it is mounted: turned, mirrored, its private areas black, its frames numbered."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from edge.camera.source import Source
from edge.camera.view import View, view_of
from edge.config import CameraSection
from edge.errors import CameraError
from edge.records import Bytes, Frame, Mask, Polygon

_FLIP = {"horizontal": 1, "vertical": 0, "both": -1}


class MountedCamera:
    """Any source as a camera of the program.

    The one place through which pixels enter: nothing else sees a picture before it is turned and masked.
    """

    def __init__(self, section: CameraSection, source: Source, identify: Callable[[], str]) -> None:
        self.name = section.safe_source
        self.view: View | None = None
        self._section = section
        self._source = source
        self._identify = identify
        self._is_open = False
        self._sequence = 0
        self._private_areas = section.privacy_masks
        self._private: tuple[tuple[Polygon, ...], Mask] | None = None

    @property
    def max_failed_opens(self) -> int | None:
        return self._source.max_failed_opens

    def mask(self, private_areas: tuple[Polygon, ...]) -> None:
        self._private_areas = private_areas

    def open(self) -> None:
        self._source.open()
        self._is_open = True
        self.view = view_of(self._section, self._identify())  # anew: another device may have come in its place

    def read(self) -> Frame:
        if not self._is_open:
            raise CameraError(f"{self.name}: is not open")
        pixels, captured_at = self._source.grab()
        age = timedelta(seconds=time.monotonic() - captured_at)
        self._sequence += 1
        return Frame(
            sequence=self._sequence,
            captured_at=captured_at,
            wall_time=datetime.now(UTC) - age,
            pixels=self._masked(self._upright(pixels)),
        )

    def interrupt(self) -> None:
        self._source.interrupt()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._source.close()

    def _upright(self, pixels: Bytes) -> Bytes:
        import cv2

        if self._section.rotate:
            pixels = np.asarray(
                cv2.rotate(pixels, self._section.rotate // 90 - 1), np.uint8
            )  # ROTATE_90_CLOCKWISE is 0
        if self._section.flip != "none":
            pixels = np.asarray(cv2.flip(pixels, _FLIP[self._section.flip]), np.uint8)
        return pixels

    def _masked(self, pixels: Bytes) -> Bytes:
        areas = self._private_areas  # another thread may replace them
        if areas:
            height, width = pixels.shape[:2]
            if self._private is None or self._private[0] is not areas or self._private[1].shape != (height, width):
                self._private = areas, private_area(areas, height, width)
            pixels[self._private[1]] = 0
        return pixels


def private_area(polygons: tuple[Polygon, ...], height: int, width: int) -> Mask:
    """Return bool (height, width), true wherever a polygon (x, y in 0..1 of the picture) touches a pixel.

    Where a polygon crosses itself, what it encloses an even number of times is left open; overlapping polygons add up.
    """
    import cv2

    # A margin of one pixel keeps every corner within the array: outside it, OpenCV 4 is not exact.
    area = np.zeros((height + 2, width + 2), np.uint8)
    for polygon in polygons:
        corners = np.rint(np.array(polygon) * (width, height) + 0.5).astype(np.int32)
        cv2.fillPoly(area, [corners], 1)  # one by one: what two polygons of one call share would stay open
    # Rounding moved each corner by up to half a pixel; one pixel more on every side makes up for it.
    return np.asarray(cv2.dilate(area, np.ones((3, 3), np.uint8)))[1:-1, 1:-1].astype(bool)
