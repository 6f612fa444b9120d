"""Pictures that somebody sends: what is taken, what comes back, and that nothing else suffers from it."""

import gc
import io
import json
import struct
import threading
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.daemon.uploads import SpareTime
from edge.errors import NotReady
from edge.pictures import decode_upload, judge_upload, read_picture
from edge.records import DepthMap
from edge.web import Access, Uploads, create_app
from edge.web import uploads as module
from tests.page_rig import MadeBoard, MadeEstimator, room
from tests.test_pictures import encode, jpeg_of, scene, with_exif

HOST = "127.0.0.1:8080"
PHOTO = encode(".jpg", cv2.resize(room(1).frame.pixels, (640, 480)))
ENDINGS = (".jpg", ".png", ".webp")


class Rig:
    """The page with its uploads."""

    def __init__(self, estimator=None):
        self.estimator = estimator or MadeEstimator()
        self.uploads = Uploads(self.estimator, max_bytes=400_000, max_pixels=2_000_000)
        self.uploads.start()
        self.app = create_app(MadeBoard(), Access({"127.0.0.1"}, 8080), uploads=self.uploads, counter=None)

    def send(self, data, wanted="jpg", **fields):
        """Send a picture and return the answer."""
        client: FlaskClient = self.app.test_client()
        form = {"image": (io.BytesIO(data), "x.jpg"), **fields}
        return client.post(f"/predict?format={wanted}", data=form, base_url=f"http://{HOST}", buffered=True)


@pytest.fixture(scope="module")
def rig():
    """One page for all that need no other."""
    made = Rig()
    yield made
    made.uploads.stop()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_becomes_a_heatmap(rig, ending):
    """JPEG, PNG and WebP come back as a JPEG of their own size; what is near is warm."""
    answer = rig.send(encode(ending, scene(480, 640)))
    assert (200, "image/jpeg") == (answer.status_code, answer.mimetype)
    assert (480, 640, 3) == cv2.imdecode(np.frombuffer(answer.data, np.uint8), 1).shape


def test_every_format(rig):
    """16-bit and grey PNG with near = white, the network's own output, and what there is to say of it."""
    deep = cv2.imdecode(np.frombuffer(rig.send(PHOTO, "png16").data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (np.uint16, (480, 640), 65535) == (deep.dtype, deep.shape, deep.max())
    grey = cv2.imdecode(np.frombuffer(rig.send(PHOTO, "grey").data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (np.uint8, (480, 640), 0, 255) == (grey.dtype, grey.shape, grey.min(), grey.max())
    depth = np.load(io.BytesIO(rig.send(PHOTO, "npy").data), allow_pickle=False)
    assert (np.float32, 2) == (depth.dtype, depth.ndim)
    facts = rig.send(PHOTO, "json").json
    assert ("made-up", [640, 480], 50.0) == (facts["weights"], facts["size"], facts["inference_ms"])
    assert facts["inverse_depth"]["p2"] < facts["inverse_depth"]["p98"]


def test_a_photograph_comes_back_upright(rig):
    """As the network has seen it: turned as its EXIF orientation says."""
    answer = rig.send(with_exif(encode(".jpg", scene(480, 640)), 6), "grey")
    assert (640, 480) == cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_UNCHANGED).shape


def test_a_picture_is_worked_on_once():
    """The same bytes again, in whatever format, don't ask the network; the oldest results make room for new ones."""
    made = Rig()
    try:
        for wanted in (*module.FORMATS, *module.FORMATS):
            assert 200 == made.send(PHOTO, wanted).status_code
        assert 1 == made.estimator.asked
        assert (5, 5) == (made.uploads.counts()["done"], made.uploads.counts()["cached"])
        for i in range(40):
            made.send(encode(".png", scene(480 + i, 640)), "png16")
        assert sum(entry.bytes_held() for entry in made.uploads._cache.values()) <= module._CACHE_BYTES
        made.send(PHOTO)
        assert 42 == made.estimator.asked
    finally:
        made.uploads.stop()


class Seen(MadeEstimator):
    """Keeps what the network saw, as engines do, and hands on views of what is larger."""

    def estimate(self, frame, until):
        large = np.full((1024, 512), self.asked, np.float32)
        self.asked += 1
        seen = np.zeros((512, 512, 3), np.float32)
        return DepthMap(frame=frame, inverse_depth=large[:512], inference_seconds=0.05, weights="made-up", picture=seen)


def test_results_take_the_memory_that_they_may():
    """All that is held for them is counted: pictures, depth, and what was made of it in every format."""
    made = Rig(Seen())
    tracemalloc.start()
    try:
        made.send(PHOTO)  # what is loaded and made once
        before = tracemalloc.get_traced_memory()[0]
        for i in range(24):
            made.send(encode(".png", scene(512, 448 + i)), ("json", "json", "npy", "grey")[i % 4])
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        made.uploads.stop()
    assert 0.8 * module._CACHE_BYTES < held < 1.05 * module._CACHE_BYTES


def png(width, height, data=b"", *chunks):
    """Return a PNG of grey pixels, its compressed data as given, with other chunks before them."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *chunks, (b"IDAT", data), (b"IEND", b"")]
    made = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def with_scans(jpeg, count):
    """Return a JPEG whose last scan is there so many times."""
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:start] + jpeg[start:-2] * count + jpeg[-2:]


PROGRESSIVE = encode(".jpg", scene(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
SMALL = encode(".jpg", scene())
FRAME = SMALL.index(b"\xff\xc0")
REFUSED = {
    "text": (b"GIF89a is no picture that is taken", 415, "the picture: is not a JPEG, PNG or WebP picture"),
    "gif": (b"GIF89a" + bytes(200), 415, "is not a JPEG"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "is not a JPEG"),
    "bmp": (encode(".bmp", scene()), 415, "the picture: is not a JPEG, PNG or WebP picture"),
    "nothing": (b"", 400, "is empty"),
    "bytes": (SMALL + bytes(400_000), 413, "400000 are allowed"),
    "pixels": (jpeg_of(60_000, 50_000), 413, "60000 x 50000 pixels; allowed are 1..2000000"),
    "bomb": (png(30_000, 30_000, zlib.compress(bytes(100_000_000), 9)), 413, "30000 x 30000 pixels"),
    "two sizes": (SMALL[:FRAME] + jpeg_of(60_000, 50_000)[FRAME : FRAME + 19] + SMALL[FRAME:], 422, "its size twice"),
    "scans": (with_scans(PROGRESSIVE, 200), 422, "more than 100 scans"),
    "a pixel": (encode(".png", scene(1, 1)), 413, "depth needs 32 x 32"),
    "no pixels": (png(100, 100), 422, "can't be decoded"),
    "too few": (png(100, 100, zlib.compress(b"\0" * 500)), 422, "can't be decoded"),
    **{f"cut short {ending}": (encode(ending, scene())[:-20], 422, "cut short") for ending in (".jpg", ".png")},
    "cut short .webp": (encode(".webp", scene())[:-20], 422, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(rig, name):
    """Too large, of another kind, damaged: the right status, and in JSON why; nothing is estimated."""
    data, status, words = REFUSED[name]
    before = rig.estimator.asked
    answer = rig.send(data)
    assert (status, status) == (answer.status_code, answer.json["status"])
    assert words in answer.json["reason"]
    assert before == rig.estimator.asked


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_follows_a_picture_is_of_no_account(rig, ending):
    """A telephone's film, a camera's trailer, a line end: the picture is worked on as the command line does."""
    picture = encode(ending, scene())
    for tail in (b"\r\n", b"\0" * 40, b"\0\0\0\x18ftypmp42 and a film", encode(".jpg", scene(24, 32)), b"DHAV trailer"):
        assert 200 == rig.send(picture + tail).status_code
        np.testing.assert_array_equal(read_picture(picture), read_picture(picture + tail))


def test_what_is_no_upload(rig):
    """A form without the picture, and what is no form."""
    client = rig.app.test_client()
    for values, status, words in (
        ({"data": {"picture": (io.BytesIO(PHOTO), "x.jpg")}}, 400, "no file `image`"),
        ({"data": {"image": "text", "other": (io.BytesIO(PHOTO), "x.jpg")}}, 400, "no file `image`"),
        ({"data": PHOTO, "content_type": "image/jpeg"}, 415, "curl -F image=@FILE"),
        ({"data": b"x", "content_type": "multipart/form-data"}, 400, ""),
    ):
        answer = client.post("/predict", base_url=f"http://{HOST}", **values)
        assert status == answer.status_code
        assert words in answer.json["reason"]


def test_nothing_is_written_anywhere(rig, monkeypatch, tmp_path):
    """A large upload stays in memory: a temporary folder in which nothing can be made is never missed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    noise = np.random.default_rng(1).integers(0, 255, (400, 300, 3), dtype=np.uint8)
    data = encode(".png", noise)
    assert len(data) > 300_000
    assert 200 == rig.send(data).status_code


def test_a_large_photograph_takes_little_memory():
    """It is shrunk while it is decoded: the longer side has 512 px at most, whatever its orientation."""
    data = encode(".jpg", scene(3000, 4000))
    size = judge_upload(data, 24_000_000)
    assert (4000, 3000) == size
    assert (384, 512, 3) == decode_upload(data, size, 512).shape
    turned = with_exif(data, 6)
    assert (512, 384, 3) == decode_upload(turned, judge_upload(turned, 24_000_000), 512).shape


def test_a_full_queue_is_told():
    """Who comes when eight wait already is told to come again, 429; those who wait are served."""
    made = Rig()
    made.estimator.go.clear()
    answers = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(made.send(encode(".png", scene(64 + i, 64)))))
        for i in range(20)
    ]
    try:
        threads[0].start()
        while not made.estimator.asked:
            threading.Event().wait(0.01)
        for thread in threads[1:]:
            thread.start()
        while made.uploads.counts()["busy"] < 11:
            threading.Event().wait(0.01)
        made.estimator.go.set()
        for thread in threads:
            thread.join(60)
    finally:
        made.estimator.go.set()
        made.uploads.stop()
    assert 11 == [answer.status_code for answer in answers].count(429)
    assert 9 == [answer.status_code for answer in answers].count(200)
    (busy, *_) = [answer for answer in answers if answer.status_code == 429]
    assert ("3", True) == (busy.headers["Retry-After"], "8 pictures wait already" in busy.json["reason"])


def test_the_time_limit(monkeypatch):
    """Who waits too long is told so, 503, and the picture is not worked on in vain."""
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.3)
    made = Rig()
    made.estimator.go.clear()
    try:
        answer = made.send(PHOTO)
        assert (503, "3") == (answer.status_code, answer.headers["Retry-After"])
        assert "not done within" in answer.json["reason"]
    finally:
        made.estimator.go.set()
        made.uploads.stop()


def test_the_stop_lets_everybody_go(monkeypatch):
    """One picture in work, three that wait and one that comes later: 503 for all; nobody waits for the first."""
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.1)
    made, answers = Rig(), []
    made.estimator.go.clear()
    threads = [
        threading.Thread(target=lambda i=i: answers.append(made.send(encode(".png", scene(64 + i, 64)))))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        while not made.estimator.asked or made.uploads._jobs.qsize() < 3:
            threading.Event().wait(0.01)
        made.uploads.stop()
        answers.append(made.send(PHOTO))
        for thread in threads:
            thread.join(10)
    finally:
        made.estimator.go.set()
    assert [503] * 5 == [answer.status_code for answer in answers]
    assert all("the daemon is ending" in answer.json["reason"] for answer in answers)


def test_a_network_that_fails_is_our_fault(monkeypatch, caplog):
    """That is 500 without our insides, the log has them; the next picture is worked on."""
    made = Rig()
    try:
        working = made.estimator.estimate
        monkeypatch.setattr(made.estimator, "estimate", lambda *_: 1 / 0)
        answer = made.send(PHOTO)
        assert 500 == answer.status_code
        assert "division" not in answer.text
        assert "division" in caplog.text
        made.estimator.estimate = working
        assert 200 == made.send(PHOTO).status_code
    finally:
        made.uploads.stop()


# The share of the depth thread


class Turns:
    """A depth thread that does what it is asked at once, and a model that takes a while."""

    def __init__(self):
        self.paused = []
        self.spare = SpareTime(lambda: self, self.soon, self.paused.append)  # which says that nothing stops
        self.seconds = 0.02

    def soon(self, action, _):
        action()
        return True

    def estimate(self, frame):
        threading.Event().wait(self.seconds)
        return room(1)


def test_uploads_have_a_small_share_of_the_depth_thread():
    """After each of them at least seven times as long passes before the next."""
    turns = Turns()
    for _ in range(2):
        turns.spare.estimate(room(1).frame, 1e9)
    first, second = turns.paused
    assert 0 == first
    assert second > 0.9 * turns.seconds * 7


def test_no_turn_in_time_is_told():
    """While the network is being loaded, when too much waits, and when nobody takes it up."""
    frame = room(1).frame
    go_on = lambda _: False  # noqa: E731
    with pytest.raises(NotReady, match="is being loaded"):
        SpareTime(lambda: None, lambda *_: True, go_on).estimate(frame, 1e9)
    with pytest.raises(NotReady, match="too much waits"):
        SpareTime(Turns, lambda *_: False, go_on).estimate(frame, 1e9)
    with pytest.raises(NotReady, match="had no time"):
        SpareTime(Turns, lambda *_: True, go_on).estimate(frame, 0.0)


def test_the_stop_ends_the_wait_for_a_turn():
    """While it is not yet allowed, and while the depth thread has not come to it and never will."""
    asked = []
    with pytest.raises(NotReady, match="is ending"):
        SpareTime(Turns, lambda *_: asked.append(1), lambda _: True).estimate(room(1).frame, 1e9)
    assert [] == asked
    with pytest.raises(NotReady, match="is ending"):
        SpareTime(Turns, lambda _, dropped: dropped(), lambda _: False).estimate(room(1).frame, 1e9)


# Whatever is sent


@settings(max_examples=150)
@given(
    st.sampled_from([*(encode(ending, scene()) for ending in ENDINGS), PROGRESSIVE, b""]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
    st.binary(max_size=30),
    st.sampled_from([*module.FORMATS, "gif", ""]),
)
def test_no_upload_does_harm(rig, picture, damage, share, rest, wanted):
    """Whatever arrives is worked on, or refused with 4xx and a reason."""
    data = bytearray(picture)
    for place, value in damage:
        if data:
            data[int(place * (len(data) - 1))] = value
    answer = rig.send(bytes(data[: int(share * len(data)) if share < 0.9 else len(data)]) + rest, wanted)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    if answer.status_code != 200:
        assert answer.json["reason"]


@settings(max_examples=100)
@given(st.binary(max_size=300), st.text('abcdefghij=;/-" ', max_size=40))
def test_no_form_does_harm(rig, body, parameters):
    """Whatever calls itself a form is refused with 4xx and a reason."""
    content_type = f"multipart/form-data; boundary={parameters}"
    answer = rig.app.test_client().post("/predict", data=body, content_type=content_type, base_url=f"http://{HOST}")
    assert 400 <= answer.status_code < 500
    assert json.loads(answer.data)["reason"] is not None


def test_what_is_refused_leaves_nothing_behind(rig):
    """A thousand uploads that come to nothing make nothing grow."""
    gc.collect()
    tracemalloc.start()
    try:
        for i in range(1100):
            data, *_ = list(REFUSED.values())[i % len(REFUSED)]
            rig.send(data[:5000])
            if i == 100:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 500_000
    finally:
        tracemalloc.stop()
