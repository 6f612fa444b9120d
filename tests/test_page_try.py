"""Try a picture, in a real Chromium: choose, drop or take the example, compare, read, download."""

import struct

import cv2
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser import all_of, errors, find, keep, says, serious, shown, until
from tests.page_rig import MadeEstimator, Works, serving
from tests.test_pictures import encode, with_exif

DROP = """
const [target, bytes, name, type] = arguments;
const data = new DataTransfer();
data.items.add(new File([new Uint8Array(bytes)], name, { type }));
for (const kind of ["dragenter", "dragover", "drop"]) {
  target.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""


@pytest.fixture
def estimator():
    """What says that bright is near."""
    return MadeEstimator()


@pytest.fixture
def server(board, estimator, tmp_path):
    """The page, with something that takes pictures."""
    limits = {"upload_bytes": 2_000_000, "upload_pixels": 3_000_000}
    with serving(board, estimator=estimator, counter=Works(tmp_path), **limits) as running:
        yield running


def turned_webp(pixels, orientation):
    """Return a WebP picture that states an EXIF orientation."""
    chunks = encode(".webp", pixels)[12:]
    height, width = pixels.shape[:2]
    canvas = struct.pack("<IHBHB", 8, width - 1, 0, height - 1, 0)  # 8: there is EXIF
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + chunks + b"EXIF" + struct.pack("<I", len(exif)) + exif
    return b"RIFF" + struct.pack("<I", len(body)) + body


def transparent():
    """Return a picture that is black and transparent on the left, and grey on the right."""
    pixels = np.zeros((480, 640, 4), np.uint8)
    pixels[:, 320:] = 90, 90, 90, 255
    return cv2.imencode(".png", pixels)[1].tobytes()


def half(width=640, height=480):
    """Return a picture that is dark on the left and bright on the right."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[:, width // 2 :] = 220
    return pixels


def size_of(page, image):
    return page.execute_script(
        "const i = document.getElementById(arguments[0]); return [i.naturalWidth, i.naturalHeight]", image
    )


def reads(page, share, words):
    """Point so far right of the picture's middle, in shares of its width; return whether the value says that."""
    compare = find(page, "compare")
    ActionChains(page).move_to_element_with_offset(compare, round(share * compare.rect["width"]), 0).perform()
    return says(page, "value", words)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_example_is_one_click_away(visit, screen, width, scheme):
    """Picture and depth lie over each other; what it is and how it was made stands below; nobody is shut out."""
    screen(width, scheme)
    page = visit("try")
    find(page, "example").click()
    assert says(page, "try-state", "Depth of the example.")
    assert [640, 480] == size_of(page, "depth") == size_of(page, "original")
    assert says(page, "try-facts", "480 pixels, seen by the network at")
    keep(page, f"try-{width}-{scheme}")
    assert [] == serious(page)
    assert page.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [] == errors(page)


def test_a_chosen_picture_is_compared_and_read(visit, tmp_path):
    """The slider moves with mouse and keys; what is pointed at has its nearness, dark far and bright near."""
    path = tmp_path / "half.png"
    path.write_bytes(encode(".png", half()))
    page = visit("try")
    find(page, "file").send_keys(str(path))
    assert says(page, "try-state", "Depth of half.png")
    find(page, "split").send_keys(Keys.HOME)
    assert "0%" == page.execute_script("return document.getElementById('divider').style.left")
    find(page, "split").send_keys(Keys.ARROW_RIGHT)
    assert "1%" == page.execute_script("return document.getElementById('divider').style.left")
    assert reads(page, -0.3, "nearness 0.00")
    assert reads(page, 0.3, "nearness 1.00")
    keep(page, "try-value")


def test_a_picture_is_dropped(visit):
    """Onto the field for it; one that misses does not take the page's place."""
    page = visit("try")
    page.execute_script(DROP, find(page, "drop"), list(encode(".jpg", half())), "dropped.jpg", "image/jpeg")
    assert says(page, "try-state", "Depth of dropped.jpg")


def test_a_picture_that_is_too_large_is_made_smaller_first(visit, tmp_path, estimator):
    """A telephone's photograph has more bytes than are taken: the browser makes it smaller, and says nothing of it."""
    noise = np.random.default_rng(1).integers(0, 255, (2000, 3000, 3), dtype=np.uint8)
    path = tmp_path / "telephone.jpg"
    path.write_bytes(encode(".jpg", noise))
    assert path.stat().st_size > 2_000_000
    page = visit("try")
    find(page, "file").send_keys(str(path))
    assert says(page, "try-state", "Depth of telephone.jpg")
    assert [1920, 1280] == size_of(page, "depth")
    assert 1 == estimator.asked


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("film.jpg", encode(".jpg", half()) + b"a film by the same telephone"),
        ("two.jpg", 2 * encode(".jpg", half())),
        ("large.jpg", encode(".jpg", half(2400, 1300))),
    ],
)
def test_a_jpeg_that_is_not_taken_is_drawn_anew(visit, tmp_path, estimator, name, data):
    """The browser reads it, and sends what it sees: film and gain map stay behind, and so do too many pixels."""
    (tmp_path / name).write_bytes(data)
    page = visit("try")
    find(page, "file").send_keys(str(tmp_path / name))
    assert says(page, "try-state", f"Depth of {name}")
    assert size_of(page, "depth") == size_of(page, "original")
    assert 1 == estimator.asked


@pytest.mark.parametrize("suffix", ["webp", "jpg", "png"])
def test_picture_and_depth_are_turned_alike(visit, tmp_path, suffix):
    """Browsers don't agree on which files say how they are to be turned; the daemon is sent what is shown."""
    makers = {"webp": turned_webp, "jpg": lambda pixels, turn: with_exif(encode(".jpg", pixels), turn)}
    pixels = half(640, 400)
    data = makers[suffix](pixels, 6) if suffix in makers else encode(".png", pixels)
    path = tmp_path / f"turned.{suffix}"
    path.write_bytes(data)
    page = visit("try")
    find(page, "file").send_keys(str(path))
    assert says(page, "try-state", "Depth of turned")
    keep(page, f"try-turned-{suffix}")
    assert [400, 640] == sorted(size_of(page, "depth"))
    assert size_of(page, "depth") == size_of(page, "original")


@pytest.mark.parametrize("name", ["clear.png", "clear.jpg"])
def test_what_is_transparent_is_white(visit, tmp_path, name):
    """For the network as for whoever looks, whatever colour a program left behind it, and whatever the file's name."""
    path = tmp_path / name
    path.write_bytes(transparent())
    page = visit("try")
    find(page, "file").send_keys(str(path))
    assert says(page, "try-state", f"Depth of {name}")
    assert reads(page, -0.3, "nearness 1.00")
    assert reads(page, 0.3, "nearness 0.00")
    keep(page, "try-clear")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("text.txt", b"no picture", "This is no picture that the browser can read"),
        ("text.jpg", b"no picture", "This is no picture that the browser can read"),
        ("damaged.png", encode(".png", half())[:-30], "cut short"),
        ("damaged.jpg", encode(".jpg", half())[:-500], "a JPEG without its end marker; copy it again"),
        ("small.jpg", encode(".jpg", half(20, 20)), "depth needs 32 x 32 at least"),
    ],
)
def test_what_is_refused_is_told(visit, tmp_path, name, data, words):
    """In the words of who refuses it."""
    (tmp_path / name).write_bytes(data)
    page = visit("try")
    find(page, "file").send_keys(str(tmp_path / name))
    assert says(page, "try-state", words)
    assert "bad" in find(page, "try-state").get_attribute("class")
    assert not shown(page, "result")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("jpg", "depth.jpg"), ("png16", "depth-16-bit.png"), ("npy", "depth.npy"), ("grey", "depth-grey.png")],
)
def test_every_format_can_be_downloaded(visit, wanted, name):
    """Under a name that says what it is; the picture is not worked on again."""
    page = visit("try")
    for old in page.downloads.iterdir():
        old.unlink()
    page.execute_script(DROP, find(page, "drop"), list(encode(".jpg", half())), "x.jpg", "image/jpeg")
    assert says(page, "try-state", "Depth of x.jpg")
    all_of(page, f"[data-format={wanted}]")[0].click()
    file = page.downloads / name
    until(page, file.exists)
    if wanted == "npy":
        assert 2 == np.load(file).ndim
    else:
        picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert ((480, 640), {"png16": np.uint16}.get(wanted, np.uint8)) == (picture.shape[:2], picture.dtype)


def test_a_daemon_that_is_gone_is_told(chromium, board, tmp_path):
    """In words, not in the console alone."""
    with serving(board, counter=Works(tmp_path)) as server:
        chromium.get(f"{server.url}#try")
        assert says(chromium, "state", "Live")
    find(chromium, "example").click()
    assert says(chromium, "try-state", "The daemon does not answer.")
    chromium.get("about:blank")
