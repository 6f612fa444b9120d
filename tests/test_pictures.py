"""Pictures as people have them: turned, grey, deep, transparent, tiny, huge, cut short and damaged."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import pictures
from edge.camera.files import Folder
from edge.commands import predict
from edge.config import CameraSection
from edge.depth.export import photographs
from edge.errors import PictureError
from edge.pictures import MAX_PIXELS, decode_upload, judge_upload, pictures_in, read_picture
from tests.spoiling import spoilt

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


def with_lone_marker(width: int, height: int) -> bytes:
    """Return a JPEG of that size; who takes two bytes behind its TEM marker for a length finds 64 x 64 further on."""
    plain = jpeg_of(width, height)
    scan = plain.index(b"\xff\xda")
    decoy = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 64, 64, 1) + b"\x01\x11\x00"
    comment = b"\xff\xe1" + struct.pack(">H", 4) + b"xx"  # its first two bytes, as a length, lead 65505 on
    start = b"\xff\xd8\xff\x01" + comment + plain[2:scan]
    gap = 4 + 0xFFE1 - len(start) - 2 * 4
    padding = b"".join(
        b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body for body in (bytes(30_000), bytes(gap - 30_000) + decoy)
    )
    return start + padding + plain[scan:]


@pytest.mark.parametrize("judge", [read_picture, lambda data: judge_upload(data, MAX_PIXELS)])
def test_a_marker_that_stands_alone_has_no_length(judge: Callable[[bytes], object]):
    """The walk through a JPEG reads TEM as the decoder does: the size that counts is found, not one that is hidden."""
    assert (48, 64, 3) == read_picture(with_lone_marker(64, 48)).shape
    with pytest.raises(PictureError, match="has 12000 x 12000 pixels"):
        judge(with_lone_marker(12_000, 12_000))


@pytest.mark.parametrize("side", [512, 64])
def test_what_decodes_to_another_size_is_refused(side: int, monkeypatch: pytest.MonkeyPatch):
    """Whatever the header was taken to say: a picture of another size is none that was judged."""
    data = encode(".jpg", scene(480, 640))
    assert judge_upload(data, MAX_PIXELS) == (640, 480)
    with pytest.raises(PictureError, match="its header says 640 x 400 pixels, and it decodes to"):
        decode_upload(data, (640, 400), side)
    monkeypatch.setattr(pictures, "_jpeg_size", lambda _: (640, 400))
    with pytest.raises(PictureError, match="its header says 640 x 400 pixels, and it decodes to 640 x 480"):
        read_picture(data)


# A command, or the daemon, which loads OpenCV and asks it about a picture without any judge of ours before it.
PROBE = """
import sys
from pathlib import Path

def ask(*_, **__):
    import cv2, numpy
    try:
        pixels = cv2.imdecode(numpy.fromfile(sys.argv[1], numpy.uint8), 1)
        print("decoded", pixels.shape)
    except cv2.error as error:
        print("refused:", error.err)
    raise SystemExit

from edge import cli, commands
"""


@pytest.mark.parametrize(
    ("pixels", "answer", "call"),
    [
        ((9000, 8000), "refused", "commands.check.main = ask; cli.main(['check', 'FILE'])"),
        ((7000, 5000), "decoded", "commands.check.main = ask; cli.main(['check', 'FILE'])"),
        ((7000, 5000), "refused", "sys.modules['edge.daemon'] = sys; sys.Daemon = ask; RUN"),
        ((1000, 1000), "decoded", "sys.modules['edge.daemon'] = sys; sys.Daemon = ask; RUN"),
    ],
)
def test_the_decoder_has_its_own_bound(pixels: tuple[int, int], answer: str, call: str, tmp_path: Path):
    """OpenCV itself takes 64 megapixels from a command, `web.upload_pixels` where only uploads come as files."""
    (tmp_path / "picture.jpg").write_bytes(jpeg_of(*pixels))
    config = tmp_path / "c.yaml"
    config.write_text("camera:\n  source: rtsp://camera\n")
    script = PROBE + call.replace("RUN", f"cli.main(['run', '--config', {str(config)!r}])")
    command = [sys.executable, "-c", script, str(tmp_path / "picture.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True)
    assert answer == done.stdout.partition(" ")[0].strip(":\n"), done.stderr


def listed(folder: Path) -> list[Path]:
    """Return what a folder camera shows of a folder."""
    return Folder(CameraSection(source=str(folder)))._paths()


@pytest.mark.parametrize("entrance", [pictures_in, listed, predict._found])
def test_notes_on_pictures_are_passed_over(entrance: Callable[[Path], list[Path]], tmp_path: Path):
    """What macOS puts beside each file, `._x.jpg`, is no picture, wherever a folder is given."""
    for name, data in (
        ("b.jpg", encode(".jpg", scene())),
        ("a.PNG", encode(".png", scene())),
        ("._b.jpg", b"\0\5\x16\7"),
    ):
        (tmp_path / name).write_bytes(data)
    assert [tmp_path / "a.PNG", tmp_path / "b.jpg"] == entrance(tmp_path)
    assert 2 == len(photographs(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    """What has a picture's name and is no file is told at once."""
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PictureError, match=r"pipe\.jpg: can't be read: is no regular file"):
        read_picture(tmp_path / "pipe.jpg")


WHOLE = [
    *(encode(suffix, scene(40, 56)) for suffix in FORMATS),
    encode(".jpg", scene(40, 56), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    encode(".webp", scene(40, 56), cv2.IMWRITE_WEBP_QUALITY, 101),
    encode(".png", np.full((40, 56), 40_000, np.uint16)),
    with_exif(encode(".jpg", scene(40, 56)), 6),
]


def test_a_thousand_spoilt_pictures_do_no_harm(monkeypatch: pytest.MonkeyPatch):
    """Each is refused, or has the size by which it was judged, from a file and from the page alike."""
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1_000_000)
    taken = 0
    for data in spoilt(WHOLE, 1000):
        try:
            size = judge_upload(data, 1_000_000)
            shape = decode_upload(data, size, 1_000_000).shape
        except PictureError as error:
            if error.fault == "damage":
                with pytest.raises(PictureError):
                    read_picture(data)
            continue
        taken += 1
        assert sorted(size) == sorted(shape[:2])
        assert shape == read_picture(data).shape
    assert 100 < taken < 900
