"""Pictures from files and uploads: judged by their header first, decoded afterwards."""

import re
import struct
from pathlib import Path

import numpy as np

from edge.errors import PictureError
from edge.records import Bytes

# What a picture's name ends in, in small letters.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000
_MAX_BYTES = 256 * 2**20
# A marker of a JPEG, found in the compressed data too: there 0xFF is followed by 0 or by a restart marker (D0..D7).
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END = 0xD9


def read_picture(source: str | Path | bytes) -> Bytes:
    """Decode a JPEG, PNG, WebP or BMP picture, given as a path or as its bytes, to uint8 (H, W, 3), R, G, B in memory.

    The picture is turned as its EXIF orientation says. 16 bits a channel become 8, grey becomes three equal channels,
    transparency is dropped. The array is writable and owns its memory.

    Raises:
        PictureError: it can't be read, is none of these formats, is cut short or damaged, or has more than 64
            megapixels (by its header, before anything is decoded).
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read(Path(source))
    try:
        width, height = _size(data)
    except struct.error as error:
        raise PictureError(f"{name}: is cut short: it ends within its header") from error
    except ValueError as error:
        raise PictureError(f"{name}: {error}") from error
    if not 0 < width * height <= MAX_PIXELS:
        raise PictureError(f"{name}: has {width} x {height} pixels; allowed are 1..{MAX_PIXELS} in all")
    return _decode(data, name)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise PictureError(f"{path}: is not there, or is not a file")
        if path.stat().st_size > _MAX_BYTES:
            raise PictureError(f"{path}: has {path.stat().st_size} bytes; a picture may have {_MAX_BYTES}")
        return path.read_bytes()
    except PermissionError as error:
        raise PictureError(f"{path}: can't be read: {error.strerror}; allow this user to read it") from error
    except OSError as error:
        raise PictureError(f"{path}: can't be read: {error.strerror or error}") from error


def _decode(data: bytes, name: str) -> Bytes:
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureError(f"{name}: can't be decoded: {error.err}") from error
    if pixels is None:
        raise PictureError(f"{name}: can't be decoded; it is cut short or damaged")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), np.uint8)


def _size(data: bytes) -> tuple[int, int]:
    """Return the width and the height that the header states.

    Raises:
        ValueError: with the reason, as the end of a sentence.
        struct.error: the data end within the header.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data.startswith(b"BM"):
        return _bmp_size(data)
    raise ValueError("is not a JPEG, PNG, WebP or BMP picture")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk through the markers to the end of the image.

    OpenCV 4 decodes a JPEG that is cut short without a word and fills the rest with grey, hence the walk to the very
    end. A search for the last end marker would not do: a thumbnail in the header has one of its own.
    """
    width = height = 0
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _JPEG_END:
            return width, height
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
        position += struct.unpack_from(">H", data, position)[0]
    raise ValueError("is cut short: a JPEG without its end marker; copy it again")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        return width + (width_high << 16) + 1, height + (height_high << 16) + 1
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("is not a WebP picture that can be read")


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return width, abs(height)  # a negative height means that the rows run from the top
