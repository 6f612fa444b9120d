"""Pictures from files and uploads: judged by their header first, decoded afterwards."""

import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import PictureError
from edge.files import open_regular
from edge.records import Bytes

# What a picture's name ends in, in small letters.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000
_KINDS = ("JPEG", "PNG", "WebP", "BMP")
_UPLOADS = ("JPEG", "PNG", "WebP")
_MAX_BYTES = 256 * 2**20
# A marker of a JPEG with something behind it, as libjpeg reads them. Alone stand TEM (01) and the restart markers
# (D0..D7); in the compressed data 0xFF is followed by 0 or by one of these.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END = 0xD9
_JPEG_SCAN = 0xDA
_MAX_SCANS = 100  # a progressive JPEG has about ten; each of them costs a pass over all pixels
_LEAST_SIDE_PX = 32  # the network's coarsest cell: in less than that there is no depth to see


_Size = tuple[int, int]  # width and height, as the file states them


def bound_decoder(most_pixels: int = MAX_PIXELS) -> None:
    """Let OpenCV itself refuse a picture of more pixels, by the header as it reads it, whatever was read before.

    OpenCV looks at this once, when it is loaded: call it before that. Child processes inherit it.
    """
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(most_pixels)


def pictures_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are pictures by their names, sorted; macOS' notes on them (`._x.jpg`) are none.

    Raises:
        OSError: the folder can't be listed.
    """
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("._")
    )


def read_picture(source: str | Path | bytes) -> Bytes:
    """Decode a JPEG, PNG, WebP or BMP picture, given as a path or as its bytes, to uint8 (H, W, 3), R, G, B in memory.

    The picture is turned as its EXIF orientation says. 16 bits a channel become 8, grey becomes three equal channels,
    transparency is dropped. What follows the end of a JPEG, such as a telephone's film, is of no account. The array is
    writable and owns its memory.

    Raises:
        PictureError: it can't be read, is none of these formats, is cut short or damaged, or has more than 64
            megapixels (by its header, before anything is decoded).
    """
    name, data = _named(source)
    size = _judged(data, name, _KINDS)
    _check_pixels(size, name, MAX_PIXELS)
    return _decode(data, name, size)


def read_deep(path: Path) -> npt.NDArray[np.uint16]:
    """Decode a grey PNG of 16 bits to uint16 (H, W), its values as they are.

    Raises:
        PictureError: see `read_picture`; it is a picture of another kind.
    """
    import cv2

    name, data = _named(path)
    size = _judged(data, name, ("PNG",))
    _check_pixels(size, name, MAX_PIXELS)
    values = _decoded(data, name, size, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise PictureError(f"{name}: must be a grey PNG of 16 bits", "kind")
    return np.asarray(values, np.uint16)


def judge_upload(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return the width and height of a picture that somebody sent, by its header; nothing is decoded.

    JPEG, PNG and WebP alone are taken.

    Raises:
        PictureError: it is not taken; its `fault` says of which kind that is.
    """
    size = _judged(data, "the picture", _UPLOADS)
    _check_pixels(size, "the picture", max_pixels)
    if min(size) < _LEAST_SIDE_PX:
        least = f"depth needs {_LEAST_SIDE_PX} x {_LEAST_SIDE_PX} at least"
        raise PictureError(f"the picture: has {size[0]} x {size[1]} pixels; {least}", "size")
    return size


def decode_upload(data: bytes, size: tuple[int, int], side: int) -> Bytes:
    """Decode a picture that `judge_upload` has taken to uint8 (H, W, 3) RGB, upright, its longer side `side` at most.

    `size` is what that returned. A JPEG is shrunk while it is decoded, which takes a fraction of time and memory.

    Raises:
        PictureError: it is damaged.
    """
    import cv2

    times = max(size) // side
    pixels = _decode(data, "the picture", size, next((least for least in (8, 4, 2) if times >= least), 1))
    height, width = pixels.shape[:2]
    scale = side / max(width, height)
    if scale >= 1:
        return pixels
    smaller = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA), np.uint8)


def _judged(data: bytes, name: str, kinds: tuple[str, ...]) -> _Size:
    try:
        return _size(data, kinds)
    except struct.error as error:
        raise PictureError(f"{name}: is cut short: it ends within its header") from error
    except _OtherKind as error:
        raise PictureError(f"{name}: {error}", "kind") from error
    except ValueError as error:
        raise PictureError(f"{name}: {error}") from error


def _check_pixels(size: _Size, name: str, most: int) -> None:
    width, height = size
    if not 0 < width * height <= most:
        raise PictureError(f"{name}: has {width} x {height} pixels; allowed are 1..{most} in all", "size")


def _named(source: str | Path | bytes) -> tuple[str, bytes]:
    """Return what a picture is called in messages, and its bytes."""
    return ("the picture", source) if isinstance(source, bytes) else (str(source), _read(Path(source)))


def _read(path: Path) -> bytes:
    """Return the bytes of the file that is opened here; what takes its name meanwhile is another one."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise PictureError(f"{path}: has {size} bytes; a picture may have {_MAX_BYTES}")
            return file.read(size)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise PictureError(f"{path}: is not there, or is not a file") from error
    except PermissionError as error:
        raise PictureError(f"{path}: can't be read: {error.strerror}; allow this user to read it") from error
    except OSError as error:
        raise PictureError(f"{path}: can't be read: {error.strerror or error}") from error


def _decode(data: bytes, name: str, size: _Size, times: int = 1) -> Bytes:
    """Return uint8 (H, W, 3) RGB, each side a `times`-th (1, 2, 4 or 8) of the picture's."""
    import cv2

    shrunk = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    pixels = _decoded(data, name, size, shrunk.get(times, cv2.IMREAD_COLOR), times)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), np.uint8)


def _decoded(data: bytes, name: str, size: _Size, flags: int, times: int = 1) -> npt.NDArray[Any]:
    """Return what OpenCV makes of it, which must be as large as the header says: that is by what it was judged."""
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PictureError(f"{name}: can't be decoded: {error.err}") from error
    if pixels is None:
        raise PictureError(f"{name}: can't be decoded; it is cut short or damaged")
    found = pixels.shape[1], pixels.shape[0]
    if not any(_agree(size, sides, times) for sides in (found, found[::-1])):  # it may have been turned upright
        stated = f"{size[0]} x {size[1]} pixels"
        raise PictureError(f"{name}: is damaged: its header says {stated}, and it decodes to {found[0]} x {found[1]}")
    return pixels


def _agree(stated: _Size, found: _Size, times: int) -> bool:
    """Return whether each side is a `times`-th of what was stated, rounded up or down."""
    return all(side // times <= here <= -(-side // times) for side, here in zip(stated, found, strict=True))


class _OtherKind(ValueError):
    """It is no picture of a kind that is read here."""


def _size(data: bytes, kinds: tuple[str, ...]) -> _Size:
    """Return what the header states; `kinds` are those that are taken.

    Raises:
        ValueError: with the reason, as the end of a sentence.
        struct.error: the data end within the header, or before the picture's end.
    """
    if data.startswith(b"\xff\xd8") and "JPEG" in kinds:
        return _jpeg_size(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        _walk_png(data)
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and "WebP" in kinds:
        return _webp_size(data)
    if data.startswith(b"BM") and "BMP" in kinds:
        return _bmp_size(data)
    listed = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
    raise _OtherKind(f"is not a {listed} picture")


def _jpeg_size(data: bytes) -> _Size:
    """Walk through the markers to the end of the image; return its size.

    OpenCV decodes a JPEG that is cut short without a word and fills the rest with grey, hence the walk to the very
    end. A search for the last end marker would not do: a thumbnail in the header has one of its own.
    """
    width = height = scans = 0
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _JPEG_END:
            return width, height
        if marker in _JPEG_FRAMES:
            if width or height:
                raise ValueError("is damaged: a JPEG that states its size twice")
            height, width = struct.unpack_from(">HH", data, position + 3)
        if marker == _JPEG_SCAN and (scans := scans + 1) > _MAX_SCANS:
            raise ValueError(f"has more than {_MAX_SCANS} scans; save it anew")
        position += struct.unpack_from(">H", data, position)[0]
    raise ValueError("is cut short: a JPEG without its end marker; copy it again")


def _walk_png(data: bytes) -> None:
    """Walk through the chunks to the last one; raise struct.error where the data end before it."""
    position, kind = 8, b""
    while kind != b"IEND":
        length: int
        length, kind = struct.unpack_from(">I4s", data, position)
        position += length + 12


def _webp_size(data: bytes) -> _Size:
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


def _bmp_size(data: bytes) -> _Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return width, abs(height)  # a negative height means that the rows run from the top
