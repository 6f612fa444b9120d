"""The page's connections: who sends slowly, much or without a token holds nobody else up; real sockets throughout."""

import json
import random
import socket
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest

from edge.web import connections
from edge.web.streams import STREAMS
from tests.page_rig import Works, serving
from tests.test_pictures import encode, scene
from tests.test_web import fetch

TOKEN = "0123456789abcdef-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
UPLOAD = "multipart/form-data; boundary=x"
FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n%s\r\n--x--\r\n'


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """What is set up; nothing here changes it."""
    return Works(tmp_path_factory.mktemp("state"))


@pytest.fixture
def page(board, works):
    """A page that asks for a token."""
    with serving(board, counter=works, token=TOKEN) as running:
        yield running


@pytest.fixture
def connect(page):
    """A function that connects to the page from an address of this machine."""
    with ExitStack() as opened:

        def make(source="127.0.0.1", buffer=None):
            found = opened.enter_context(socket.socket())
            found.settimeout(20)
            if buffer:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            found.bind((source, 0))
            found.connect(("127.0.0.1", urlsplit(page.url).port))
            return found

        yield make


def head(page, request, **headers):
    """Return the head of a request; underscores in the headers' names are hyphens."""
    lines = {"Host": urlsplit(page.url).netloc} | {name.replace("_", "-"): value for name, value in headers.items()}
    return "\r\n".join([f"{request} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]).encode()


def read(sock):
    """Return what comes until the connection is closed: the status, the head and the body."""
    whole = b"".join(iter(lambda: sock.recv(65_536), b""))
    first, _, body = whole.partition(b"\r\n\r\n")
    return int(first.split()[1]), first.decode(), body


def is_closed(sock):
    """Wait until the page has closed a connection, and return that it has, without an answer."""
    with suppress(ConnectionResetError):
        return sock.recv(1) == b""
    return True


def wait(condition):
    """Wait until a condition holds, for 30 s at most, and return whether it does."""
    ends_at = time.monotonic() + 30
    while not (held := condition()) and time.monotonic() < ends_at:
        time.sleep(0.01)
    return held


def channels(page):
    """Return the connections that the page has."""
    return list(page._server.active_channels.values())


def body_bytes(page):
    """Return how many bytes of bodies the page has taken and not answered yet."""
    requests = [request for channel in channels(page) for request in (*channel.requests, channel.request) if request]
    return sum(request.body_rcv.getbuf().__len__() for request in requests if request.body_rcv)


# What is slow


def test_dripping_headers_hold_nothing(page, connect, monkeypatch):
    """A request that is not begun or whose headers are not complete in time is ended; others are answered meanwhile."""
    monkeypatch.setattr(connections, "_HEADER_SECONDS", 0.5)
    dripping = [connect(source) for source in ("127.0.0.2", "127.0.0.3", "127.0.0.4") for _ in range(20)]
    left = set(dripping[1:])  # the first sends nothing at all

    def drip():
        for sock in list(left):
            try:
                sock.sendall(b"GET / HTTP/1.1\r\nX: " if len(left) == 59 else b"a")
            except OSError:
                left.discard(sock)
        time.sleep(0.05)
        assert fetch(page, "/healthz")[0] == 200
        return not left

    assert wait(drip)
    assert is_closed(dripping[0])


def test_empty_requests_gain_no_time(page, connect, monkeypatch):
    """Blank lines may come before a request; they don't begin its time anew."""
    monkeypatch.setattr(connections, "_HEADER_SECONDS", 0.5)
    sock = connect()

    def drip():
        with suppress(OSError):
            sock.sendall(b"\r\n\r\n\r")
            time.sleep(0.05)
            return False
        return True

    assert wait(drip)


def test_dripping_bodies_hold_nothing(page, connect, monkeypatch):
    """A body that is let in has to be complete in time too; a large one has longer."""
    monkeypatch.setattr(connections, "_BODY_SECONDS", 0.5)
    small, large = connect(), connect()
    for sock, size in ((small, 100), (large, 2_000_000)):
        sock.sendall(head(page, "POST /predict", **BEARER, Content_Length=size) + b"x")
    assert is_closed(small)
    assert [2_000_000] == [channel.request.content_length for channel in channels(page)]


def test_a_connection_that_rests_is_closed(page, connect, monkeypatch):
    """It may be used again for a while, and not for ever."""
    monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.5)
    sock = connect()
    sock.sendall(head(page, "GET /healthz"))
    status, *_ = read(sock)
    assert 200 == status


def test_a_worker_does_not_wait_for_a_slow_reader(page, connect, monkeypatch):
    """Who asks for much and hardly takes anything of it is given up."""
    monkeypatch.setattr(connections, "_FULL_SECONDS", 0.5)
    slow = connect(buffer=2048)
    slow.sendall(head(page, "GET /example.jpg", **BEARER) * 60)
    assert wait(lambda: channels(page) and channels(page)[0].total_outbufs_len > 256 << 10)
    assert wait(lambda: slow.recv(1) and not channels(page))
    assert wait(lambda: not page._server.task_dispatcher.active_count)


# Who is let in


def test_bodies_without_the_token_are_not_kept(page, connect):
    """Sixty of them: each is refused by its headers, in words, and nothing of it is in memory."""
    for i in range(60):
        sock = connect(f"127.0.0.{2 + i % 4}")
        sock.sendall(head(page, "POST /predict", Content_Type=UPLOAD, Content_Length=2_000_000) + bytes(200_000))
        assert 0 == body_bytes(page)
        status, first, body = read(sock)
        assert (401, True) == (status, "Www-Authenticate: Bearer" in first)
        assert "needs the token" in json.loads(body)["reason"]


def test_a_refusal_arrives_while_its_body_is_sent(page, connect):
    """All of it may be sent, so that the answer is not lost with a connection that is reset."""
    for size, headers, expected in ((2_000_000, {}, 401), (9_000_000, BEARER, 413), (9_000_000, {}, 413)):
        sock = connect()
        sock.sendall(head(page, "POST /predict", Content_Type=UPLOAD, Content_Length=size, **headers))
        sock.sendall(bytes(size))
        status, first, body = read(sock)
        assert (expected, expected) == (status, json.loads(body)["status"])
        assert "Content-Security-Policy: default-src 'none'" in first


def test_what_follows_a_refused_request_is_none(page, connect):
    """A body that looks like a request is not answered."""
    sock = connect()
    inner = head(page, "GET /healthz")
    sock.sendall(head(page, "POST /predict", Content_Length=len(inner)) + inner)
    assert b"HTTP/1.1" not in read(sock)[2]


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/login", 16_385, 413),
        ("/api/setup/apply", 65_537, 413),
        ("/predict", 2_016_385, 413),
        ("/api/state", 1, 405),
        ("/nothing", 1, 404),
    ],
)
def test_a_body_has_the_size_that_its_path_needs(page, connect, path, size, status):
    """What is larger is refused before it is read; what takes no body gets none."""
    sock = connect()
    sock.sendall(head(page, f"POST {path}", **BEARER, Content_Length=size))
    found, first, body = read(sock)
    assert (status, status) == (found, json.loads(body)["status"])
    assert status != 405 or "Allow: " in first


def test_a_body_in_chunks_is_bounded_too(page, connect):
    """It does not say how long it will be: it is read up to what its path needs."""
    chunked = {"Transfer_Encoding": "chunked", "Connection": "close", **BEARER}
    sock = connect()
    sock.sendall(head(page, "POST /api/setup/propose", **chunked) + b"2\r\n{}\r\n0\r\n\r\n")
    assert 200 == read(sock)[0]
    sock = connect()
    sock.sendall(head(page, "POST /api/setup/propose", **chunked) + b"12000\r\n" + bytes(0x11000))
    assert 413 == read(sock)[0]


def test_bodies_have_so_much_memory_in_all(page, connect, monkeypatch):
    """Those that are let in too: what would be beyond is told to come again, and taken when there is room."""
    monkeypatch.setattr(connections, "_BODIES_BYTES", 1_000_000)  # and one of the largest, 2,016,384
    size = 1_000_000
    held = []
    for _ in range(3):
        held.append(connect())
        held[-1].sendall(head(page, "POST /predict", **BEARER, Content_Length=size) + bytes(size - 1))
    assert wait(lambda: body_bytes(page) == 3 * (size - 1))
    more = connect()
    more.sendall(head(page, "POST /predict", **BEARER, Content_Length=size) + bytes(size - 1))
    status, first, body = read(more)
    assert (503, True) == (status, "Retry-After: 3" in first)
    assert "too much is being sent at once" in json.loads(body)["reason"]
    assert 3 * (size - 1) == body_bytes(page)
    for sock in (more, held.pop()):
        sock.close()
    assert wait(lambda: len(channels(page)) == 2)
    again = connect()
    again.sendall(head(page, "POST /predict", **BEARER, Content_Length=size, Connection="close") + bytes(size))
    assert 415 == read(again)[0]


def test_expect_100_continue(page, connect):
    """Who asks before he sends is told the truth: go on, or why not; without a body there is nothing to go on with."""
    body = FORM % encode(".jpg", scene())
    asks = {"Content_Type": UPLOAD, "Content_Length": len(body), "Expect": "100-continue", "Connection": "close"}
    sock = connect()
    sock.sendall(head(page, "POST /predict", **asks, **BEARER))
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == sock.recv(100)
    sock.sendall(body)
    assert 200 == read(sock)[0]
    for changed, status in (
        (asks, 401),
        (asks | BEARER | {"Content_Length": 9_000_000}, 413),
        (asks | BEARER | {"Content_Length": 0}, 400),
    ):
        sock = connect()
        sock.sendall(head(page, "POST /predict", **changed))
        assert status == read(sock)[0]


# How many there may be


def test_one_address_does_not_crowd_out_others(page, connect):
    """It has twenty connections that nobody works for; the one that has waited longest goes, wherever it is from."""
    other = connect("127.0.0.3")
    crowd = [connect("127.0.0.2") for _ in range(60)]
    assert wait(lambda: len(channels(page)) == 21)
    assert all(is_closed(sock) for sock in crowd[:40])
    for sock in (other, crowd[-1]):
        sock.sendall(head(page, "GET /healthz", Connection="close"))
        assert 200 == read(sock)[0]


def test_many_addresses_do_not_crowd_out_a_newcomer(page, connect, monkeypatch):
    """With all places taken the oldest that nobody works for goes; what is worked for stays."""
    monkeypatch.setattr(connections, "_CONNECTIONS", 30)
    stream = connect("127.0.0.9")
    stream.sendall(head(page, "GET /api/events", **BEARER))
    assert b"200 OK" in stream.recv(100)
    crowd = [connect(f"127.0.0.{2 + i % 5}") for i in range(60)]
    assert fetch(page, "/healthz")[0] == 200
    assert wait(lambda: len(channels(page)) <= 30)
    assert is_closed(crowd[0])
    assert stream.recv(100)


def test_streams_go_on_beside_all_that(page, board, connect):
    """Twelve of each kind, while others drip, crowd and send what is not let in."""
    streams = [connect() for _ in range(2 * STREAMS)]
    for i, sock in enumerate(streams):
        sock.sendall(head(page, f"GET {('/api/events', '/stream.mjpg')[i % 2]}", **BEARER))
    assert all(b" 200 OK" in sock.recv(400) for sock in streams)
    for i in range(60):
        sock = connect(f"127.0.0.{2 + i % 2}")
        sock.sendall(head(page, "POST /predict", Content_Length=1_000_000) if i % 3 else b"GET / HTTP/1.1\r\nX: ")
    assert fetch(page, "/api/state", headers=BEARER)[0] == 200
    sequence = board.sequence + 1
    board.write()
    for sock in streams[::2]:
        assert wait(lambda sock=sock: f'"sequence":{sequence}'.encode() in sock.recv(65_536).replace(b" ", b""))
    for sock in streams[1::2]:
        assert wait(lambda sock=sock: b"--frame" in sock.recv(65_536))


def test_urgent_bytes_end_the_connection(page, connect, caplog):
    """No browser sends them; left there, they would wake the server for ever, with a line in the log each time."""
    sock = connect()
    sock.send(b"x", socket.MSG_OOB)
    assert is_closed(sock)
    assert not caplog.records


def test_who_leaves_writes_nothing_into_the_log(page, connect, caplog):
    """A viewer who goes is no news, and what he asked for may hold anything, such as another line."""
    caplog.set_level("INFO")
    for _ in range(5):
        sock = connect()
        sock.sendall(head(page, "GET /api/events?%0aforged", **BEARER))
        assert sock.recv(100)
        sock.close()
    page._board.write()
    assert wait(lambda: not page._server.task_dispatcher.active_count)
    assert not caplog.records


# Whatever is sent

PATHS = (
    "/",
    "/login",
    "/api/state",
    "/api/setup",
    "/heatmap.jpg",
    "/stream.mjpg?view=x",
    "/static/page.js",
    "/healthz",
)
CHANGES = ("/predict?format=json", "/login", "/api/setup/propose", "/api/setup/apply", "/api/setup/undo", "/healthz")
LINES = [
    b"Authorization: Bearer 0123456789abcdef-token",
    b"Authorization: Bearer \xff\xfe",
    b"Authorization: Basic Og==",
    b'Cookie: edge-depth-1="\\355\\240\\200"; a=\xff\xed\xa0\x80.\xff',
    b"Content-Type: multipart/form-data; boundary=x",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Length: 7",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked, chunked",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Range: bytes=0-10,20-30",
    b'If-None-Match: "x", W/"\xff"',
    b"If-Modified-Since: never",
    b"Accept: text/html;q=x, */*;q=\xff",
    b"Origin: null",
    b"X-Forwarded-For: 1.1.1.1, \xff",
    b"X-CSRF-Token: \xff",
    b" folded",
    b"no colon",
]
BODIES = (
    b"",
    b"{}",
    b"token=%ff%00",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"zz\r\n",
    FORM % b"GIF89a",
    b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
)


def any_request(dice, host):
    """Return the bytes of a request in which anything may be wrong."""
    change = dice.random() < 0.5
    path = dice.choice(CHANGES if change else PATHS).encode()
    method = dice.choice((b"POST",) if change else (b"GET", b"GET", b"HEAD", b"OPTIONS", b"get", b"\xff"))
    lines = [b"Host: " + host] if dice.random() < 0.9 else []
    lines += dice.choices(LINES, k=dice.randrange(6)) + LINES[: dice.randrange(2)]
    made = bytearray(b"\r\n".join([method + b" " + path + b" HTTP/1." + dice.choice((b"1", b"1", b"0", b"9")), *lines]))
    made += b"\r\n\r\n" + dice.choice(BODIES)
    for _ in range(dice.choice((0, 0, 0, 1, 3))):
        place = dice.randrange(len(made))
        made[place : place + dice.choice((0, 1, 1, 30))] = dice.choice(
            (b"", dice.randbytes(1), dice.randbytes(20), b"%ff%00", b"\r\n", b"x" * 20_000)
        )
    return bytes(made)


def test_no_request_does_harm(page, connect, caplog):
    """A thousand requests in which anything may be wrong: none is a fault of ours, and the page goes on."""
    dice = random.Random(15)
    host = urlsplit(page.url).netloc.encode()
    statuses = set()
    for _ in range(100):
        sent = [(any_request(dice, host), connect(f"127.0.0.{2 + i}")) for i in range(10)]
        for request, sock in sent:
            with suppress(ConnectionError):
                sock.sendall(request)
        time.sleep(0.02)  # who has no answer by now has sent too little for one
        assert fetch(page, "/healthz")[0] == 200
        for request, sock in sent:
            sock.setblocking(False)
            with suppress(BlockingIOError, ConnectionError):
                status = int(([*sock.recv(65_536).split(), b"", b"0"])[1] or 0)
                assert status != 500, request
                statuses.add(status)
            sock.close()
    assert statuses > {200, 400, 401, 403, 404, 405, 413}
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
