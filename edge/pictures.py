"""Pictures from files and uploads: judged by their header first, decoded afterwards."""

import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge.errors import PictureError
from edge.records import Bytes

# What a picture's name ends in, in small letters.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000
_KINDS = ("JPEG", "PNG", "WebP", "BMP")
_UPLOADS = ("JPEG", "PNG", "WebP")
_MAX_BYTES = 256 * 2**20
# A marker of a JPEG, found in the compressed data too: there 0xFF is followed by 0 or by a restart marker (D0..D7).
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END = 0xD9
_JPEG_SCAN = 0xDA
_MAX_SCANS = 100  # a progressive JPEG has about ten; each of them costs a pass over all pixels
_LEAST_SIDE_PX = 32  # the network's coarsest cell: in less than that there is no depth to see


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
    _check_pixels(_judged(data, name, _KINDS), name, MAX_PIXELS)
    return _decode(data, name)


def judge_upload(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return the width and height of a picture that somebody sent, by its header; nothing is decoded.

    Stricter than `read_picture`: JPEG, PNG and WebP alone, and nothing may follow the picture's end, where a second
    file of another kind would hide.

    Raises:
        PictureError: it is not taken; its `fault` says of which kind that is.
    """
    header = _judged(data, "the picture", _UPLOADS)
    _check_pixels(header, "the picture", max_pixels)
    if min(header.width, header.height) < _LEAST_SIDE_PX:
        least = f"depth needs {_LEAST_SIDE_PX} x {_LEAST_SIDE_PX} at least"
        raise PictureError(f"the picture: has {header.width} x {header.height} pixels; {least}", "size")
    if data[header.end :].strip(b"\0"):  # some cameras fill up with zeros
        rest = len(data) - header.end
        raise PictureError(f"the picture: is followed by {rest} bytes of something else; save it again without them")
    return header.width, header.height


def decode_upload(data: bytes, size: tuple[int, int], side: int) -> Bytes:
    """Decode a picture that `judge_upload` has taken to uint8 (H, W, 3) RGB, upright, its longer side `side` at most.

    `size` is what that returned. A JPEG is shrunk while it is decoded, which takes a fraction of time and memory.

    Raises:
        PictureError: it is damaged.
    """
    import cv2

    times = max(size) // side
    flags = (cv2.IMREAD_REDUCED_COLOR_8, 8), (cv2.IMREAD_REDUCED_COLOR_4, 4), (cv2.IMREAD_REDUCED_COLOR_2, 2)
    pixels = _decode(data, "the picture", next((flag for flag, least in flags if times >= least), cv2.IMREAD_COLOR))
    height, width = pixels.shape[:2]
    scale = side / max(width, height)
    if scale >= 1:
        return pixels
    smaller = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA), np.uint8)


class _Header(NamedTuple):
    """What a picture's file states; `end` is where the picture ends in it."""

    width: int
    height: int
    end: int


def _judged(data: bytes, name: str, kinds: tuple[str, ...]) -> _Header:
    try:
        return _header(data, kinds)
    except struct.error as error:
        raise PictureError(f"{name}: is cut short: it ends within its header") from error
    except _OtherKind as error:
        raise PictureError(f"{name}: {error}", "kind") from error
    except ValueError as error:
        raise PictureError(f"{name}: {error}") from error


def _check_pixels(header: _Header, name: str, most: int) -> None:
    if not 0 < header.width * header.height <= most:
        pixels = f"{header.width} x {header.height} pixels"
        raise PictureError(f"{name}: has {pixels}; allowed are 1..{most} in all", "size")


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


def _decode(data: bytes, name: str, flags: int = 1) -> Bytes:
    """Return uint8 (H, W, 3) RGB; `flags` are OpenCV's, IMREAD_COLOR by default."""
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PictureError(f"{name}: can't be decoded: {error.err}") from error
    if pixels is None:
        raise PictureError(f"{name}: can't be decoded; it is cut short or damaged")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), np.uint8)


class _OtherKind(ValueError):
    """It is no picture of a kind that is read here."""


def _header(data: bytes, kinds: tuple[str, ...]) -> _Header:
    """Return what the header states; `kinds` are those that are taken.

    Raises:
        ValueError: with the reason, as the end of a sentence.
        struct.error: the data end within the header.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
        return _Header(width, height, _png_end(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        (size,) = struct.unpack_from("<I", data, 4)
        return _Header(*_webp_size(data), size + 8)
    if data.startswith(b"BM") and "BMP" in kinds:
        return _Header(*_bmp_size(data), len(data))
    raise _OtherKind(f"is not a {', '.join(kinds[:-1])} or {kinds[-1]} picture")


def _jpeg(data: bytes) -> _Header:
    """Walk through the markers to the end of the image.

    OpenCV 4 decodes a JPEG that is cut short without a word and fills the rest with grey, hence the walk to the very
    end. A search for the last end marker would not do: a thumbnail in the header has one of its own.
    """
    width = height = scans = 0
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _JPEG_END:
            return _Header(width, height, position)
        if marker in _JPEG_FRAMES:
            if width or height:
                raise ValueError("is damaged: a JPEG that states its size twice")
            height, width = struct.unpack_from(">HH", data, position + 3)
        if marker == _JPEG_SCAN and (scans := scans + 1) > _MAX_SCANS:
            raise ValueError(f"has more than {_MAX_SCANS} scans; save it anew")
        position += struct.unpack_from(">H", data, position)[0]
    raise ValueError("is cut short: a JPEG without its end marker; copy it again")


def _png_end(data: bytes) -> int:
    """Walk through the chunks to the end of the last one."""
    position = 8
    while True:
        length: int
        length, kind = struct.unpack_from(">I4s", data, position)
        position += length + 12
        if kind == b"IEND":
            return position


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
    raise _OtherKind("is not a WebP picture that can be read")


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return width, abs(height)  # a negative height means that the rows run from the top
