"""Pictures as people have them: turned, grey, deep, transparent, tiny, huge, cut short and damaged."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PictureError
from edge.pictures import MAX_PIXELS, read_picture

FORMATS = (".jpg", ".png", ".webp", ".bmp")
RED, BLUE = (255, 0, 0), (0, 0, 255)


def encode(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    """Return an R, G, B or grey picture as a file's bytes."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return cv2.imencode(suffix, bgr, options)[1].tobytes()


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture that is red on the left and blue on the right."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2] = RED
    pixels[:, width // 2 :] = BLUE
    return pixels


def with_exif(jpeg: bytes, orientation: int, extra: bytes = b"") -> bytes:
    """Return the JPEG with an EXIF header that states an orientation, followed by `extra`, such as a thumbnail."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0) + extra
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_is_red_green_blue_in_memory(suffix: str, tmp_path: Path):
    """From bytes and from a path alike: uint8, R, G, B, in writable memory of its own."""
    data = encode(suffix, scene())
    path = tmp_path / f"scene{suffix}"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        pixels = read_picture(source)
        assert ((48, 64, 3), np.uint8) == (pixels.shape, pixels.dtype)
        np.testing.assert_allclose(pixels[24, 8], RED, atol=6)
        np.testing.assert_allclose(pixels[24, 56], BLUE, atol=6)
        assert pixels.flags.owndata
        assert pixels.flags.writeable


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_single_pixel_is_a_picture(suffix: str):
    """One by one is the smallest picture."""
    np.testing.assert_allclose(read_picture(encode(suffix, np.full((1, 1, 3), RED, np.uint8))), [[RED]], atol=10)


@pytest.mark.parametrize(
    ("orientation", "corner", "shape"),
    [(1, (2, 2), (48, 64)), (3, (2, 61), (48, 64)), (6, (2, 2), (64, 48)), (8, (61, 2), (64, 48))],
)
def test_a_photograph_is_upright(orientation: int, corner: tuple[int, int], shape: tuple[int, int]):
    """The EXIF orientation is obeyed: 3 is upside down, 6 and 8 are quarter turns."""
    pixels = read_picture(with_exif(encode(".jpg", scene()), orientation))
    assert shape == pixels.shape[:2]
    np.testing.assert_allclose(pixels[corner], RED, atol=6)


def test_grey_deep_and_transparent_pictures_become_plain_ones():
    """Grey is three equal channels, 16 bits are 8, transparency is dropped, a colour table is looked up."""
    np.testing.assert_array_equal([90, 90, 90], read_picture(encode(".png", np.full((4, 4), 90, np.uint8)))[0, 0])
    deep = read_picture(encode(".png", np.full((4, 4), 40_000, np.uint16)))
    assert np.uint8 == deep.dtype
    np.testing.assert_allclose(deep[0, 0], 40_000 / 257, atol=1)
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., 2] = 200
    np.testing.assert_array_equal([200, 0, 0], read_picture(cv2.imencode(".png", clear)[1].tobytes())[0, 0])
    table = bytearray(encode(".bmp", np.zeros((2, 2), np.uint8)))
    table[54:57] = bytes([0, 0, 255])  # the first colour of the table: B, G, R
    np.testing.assert_array_equal(RED, read_picture(bytes(table))[0, 0])


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_a_jpeg_is_read_to_its_end_marker(options: tuple[int, ...]):
    """Neither several scans nor restart markers end a picture early; what follows its end is of no account."""
    noise = np.random.default_rng(1).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    data = encode(".jpg", noise, *options)
    np.testing.assert_array_equal(read_picture(data), read_picture(data + b"\xff\xd8 a film by the same telephone"))


@given(st.sampled_from(FORMATS), st.floats(0, 1, exclude_max=True))
def test_a_picture_that_is_cut_short_is_refused(suffix: str, share: float):
    """Wherever the file ends before its end, there is an error and never a picture with a grey remainder."""
    data = encode(suffix, np.random.default_rng(2).integers(0, 255, (20, 24, 3), dtype=np.uint8))
    with pytest.raises(PictureError):
        read_picture(data[: int(share * len(data))])


def test_the_thumbnail_does_not_hide_that_a_picture_is_cut_short():
    """The thumbnail in the header ends with an end marker of its own, which is not the picture's."""
    whole = with_exif(encode(".jpg", scene()), 1, extra=encode(".jpg", scene(12, 16)))
    assert (48, 64, 3) == read_picture(whole).shape
    with pytest.raises(PictureError, match="without its end marker"):
        read_picture(whole[:-30])


@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damage_gives_a_picture_or_an_error(suffix: str, damage: list[tuple[float, int]]):
    """Whatever bytes are wrong, nothing but PictureError comes out, and no picture without pixels."""
    data = bytearray(encode(suffix, scene(12, 16)))
    for place, value in damage:
        data[int(place * (len(data) - 1))] = value
    try:
        pixels = read_picture(bytes(data))
    except PictureError:
        return
    assert 3 == pixels.shape[2]
    assert pixels.size <= 3 * MAX_PIXELS


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBPVP8X", b"BM", b"\x89PNG\r\n\x1a\n"]),
)
def test_rubbish_is_refused(data: bytes, start: bytes):
    """Bytes that are no picture are an error, also when they begin like one."""
    with pytest.raises(PictureError):
        read_picture(start + data)


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(encode(".jpg", scene()))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def huge(suffix: str, width: int, height: int) -> bytes:
    """Return a small file whose header states an absurd size."""
    if suffix == ".jpg":
        return jpeg_of(width, height)
    if suffix == ".webp":
        head = struct.pack(
            "<B3xHBHB", 0, (width - 1) & 0xFFFF, (width - 1) >> 16, (height - 1) & 0xFFFF, (height - 1) >> 16
        )
        return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + head
    data = bytearray(encode(suffix, scene()))
    place, form = (16, ">II") if suffix == ".png" else (18, "<ii")
    struct.pack_into(form, data, place, width, height)
    return bytes(data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_absurd_size_is_refused_by_the_header(suffix: str, monkeypatch: pytest.MonkeyPatch):
    """More than 64 megapixels are refused before a decoder is asked."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match=r"the picture: has 60000 x 50000 pixels; allowed are 1\.\.64000000 in all"):
        read_picture(huge(suffix, 60_000, 50_000))


@pytest.mark.parametrize("lossless", [False, True])
def test_both_kinds_of_webp_are_measured(lossless: bool, monkeypatch: pytest.MonkeyPatch):
    """The size is found in lossy and in lossless WebP headers."""
    monkeypatch.setattr("edge.pictures.MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(PictureError, match="has 64 x 48 pixels"):
        read_picture(encode(".webp", scene(), cv2.IMWRITE_WEBP_QUALITY, 101 if lossless else 80))


def test_a_bmp_from_the_top_is_measured(monkeypatch: pytest.MonkeyPatch):
    """A negative height in a BMP header tells the order of its rows, not its size."""
    data = bytearray(encode(".bmp", scene()))
    struct.pack_into("<i", data, 22, -48)
    np.testing.assert_array_equal(RED, read_picture(bytes(data))[24, 8])


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The message names the file and says what it lacks."""
    with pytest.raises(PictureError, match=r"none\.png: is not there, or is not a file"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(PictureError, match="is not there, or is not a file"):
        read_picture(tmp_path)
    (tmp_path / "notes.jpg").write_text("shopping")
    with pytest.raises(PictureError, match=r"notes\.jpg: is not a JPEG, PNG, WebP or BMP picture"):
        read_picture(tmp_path / "notes.jpg")
    monkeypatch.setattr("edge.pictures._MAX_BYTES", 4)
    with pytest.raises(PictureError, match=r"notes\.jpg: has 8 bytes; a picture may have 4"):
        read_picture(tmp_path / "notes.jpg")
