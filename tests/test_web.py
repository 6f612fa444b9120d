"""The page's server: what it answers, to whom, and how it starts and stops."""

import http.client
import json
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Request
from flask.testing import FlaskClient
from werkzeug.exceptions import Forbidden

import edge.web
from edge.config import WebSection
from edge.errors import EdgeError
from edge.web import Access, Uploads, WebServer, create_app
from tests.page_rig import HEALTH, INFO, MadeBoard, MadeEstimator, Works, serving

HOST = "127.0.0.1:8080"
NAMES = ("127.0.0.1", "localhost")
TOKEN = "0123456789abcdef-token"
READS = [
    "/",
    "/heatmap.jpg",
    "/api/state",
    "/api/info",
    "/api/health",
    "/api/history",
    "/api/setup",
    "/healthz",
    "/metrics",
    "/example.jpg",
    "/static/page.js",
]
STREAMS = ["/api/events", "/stream.mjpg"]
CHANGES = ["/predict", *(f"/api/setup/{command}" for command in ("propose", "apply", "undo", "relearn"))]
STATIC = Path(edge.web.__file__).parent / "static"
ROUTES = [*READS, *STREAMS, *CHANGES, "/login"]


class OwnName(FlaskClient):
    """A client that calls the page by its own name."""

    def open(self, *args, **kwargs):
        return super().open(*args, base_url=f"http://{HOST}", **kwargs)


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """What is set up; nothing here changes it."""
    return Works(tmp_path_factory.mktemp("state"))


@pytest.fixture
def make_client(board, works):
    """A function that makes a client of the page, with a token or without, that calls it by its own name."""
    running = []

    def make(token=None, clock=time.monotonic, estimator=None):
        uploads = Uploads(estimator or MadeEstimator(), max_bytes=200_000, max_pixels=1_000_000)
        uploads.start()
        running.append(uploads)
        access = Access(NAMES, 8080, token=token, clock=clock)
        app = create_app(board, access, uploads=uploads, counter=works)
        app.test_client_class = OwnName
        return app.test_client()

    yield make
    for uploads in running:
        uploads.stop()


@pytest.fixture
def client(make_client):
    """A client of a page that asks for no token."""
    return make_client()


def fetch(server, path="/", method="GET", headers=None):
    """Return a server's answer to one request: its status, headers and body."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def threads_of(server):
    """Return the threads that the page runs in."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name in ("web", "uploads") or thread.name.startswith("waitress")
    }


# What is answered


def test_state_info_and_health_are_the_boards(client, board):
    """The API hands on what the board shows."""
    assert client.get("/api/state").json == board.state()
    assert client.get("/api/info").json == INFO
    assert client.get("/api/health").json == HEALTH
    assert client.get("/api/state").mimetype == "application/json"


def test_state_before_the_first_reading(client, board):
    """Before the first reading the state is null, which is no error."""
    board._state = None
    answer = client.get("/api/state")
    assert (answer.status_code, answer.json) == (200, None)


def test_history_is_that_of_ten_minutes(client, board):
    """An entry a second at most, with nearness and metres; the oldest go."""
    for i in range(700):
        board.put(state={"time": datetime.fromtimestamp(1_000_000 + i, UTC).isoformat(), "nearest": {"nearness": i}})
    history = client.get("/api/history").json
    assert (600, [1_000_699.0, 699, None]) == (len(history), history[-1])


def test_no_nan_leaves(client, board):
    """A number that JSON does not have is an error of ours, never sent."""
    board.values["fps"] = float("nan")
    answer = client.get("/api/health")
    assert answer.status_code == 500
    assert answer.json["status"] == 500


def test_page_escapes_the_name(client, board):
    """A camera's name can't put HTML into the page."""
    board.put(info=INFO | {"name": "Front <door>"})
    text = client.get("/").text
    assert '<span id="name">Front &lt;door&gt;</span>' in text
    assert "<door>" not in text


def test_page_needs_nothing_from_elsewhere(client):
    """Page, style and script name no other host, and there is no inline script or style, which the CSP forbids."""
    page = client.get("/").text
    parts = [page, *(client.get(path).text for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page))]
    assert len(parts) == 14
    for text in parts:
        assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<style|style=|<script[^>]*>[^<]|\son\w+=", page)


def test_page_is_small(client):
    """Page, style, scripts and icon together are 150 kB at most."""
    page = client.get("/")
    paths = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text))
    assert {f"/static/{path.name}" for path in STATIC.iterdir()} == paths
    assert len(page.data) + sum(len(client.get(path).data) for path in paths) <= 150_000


def test_heatmap(client, board):
    """The heatmap is the board's newest picture, to be asked for anew each time."""
    answer = client.get("/heatmap.jpg")
    assert answer.status_code == 200
    assert answer.data == board.heatmap()[1]
    assert answer.mimetype == "image/jpeg"
    assert answer.headers["Cache-Control"] == "no-cache"


def test_heatmap_is_sent_once(client, board):
    """A browser that has the newest heatmap gets 304 and no picture, until there is a newer one."""
    tag = client.get("/heatmap.jpg").headers["ETag"]
    again = client.get("/heatmap.jpg", headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    board.drawn = 8, b"newer"
    newer = client.get("/heatmap.jpg", headers={"If-None-Match": tag})
    assert (newer.status_code, newer.data) == (200, b"newer")


def test_heatmap_after_a_restart(client, make_client):
    """The same sequence number in another run of the daemon is another picture."""
    tag = client.get("/heatmap.jpg").headers["ETag"]
    answer = make_client().get("/heatmap.jpg", headers={"If-None-Match": tag})
    assert answer.status_code == 200


def test_no_heatmap_yet(client, board):
    """While there is no heatmap, asking for it is 503 with a reason."""
    board.drawn = None
    answer = client.get("/heatmap.jpg")
    assert answer.status_code == 503
    assert answer.json == {"status": 503, "reason": "no heatmap has been made yet"}
    board.put(info=INFO | {"heatmap": False})
    assert "no heatmap is made: heatmap.enabled is false" == client.get("/heatmap.jpg").json["reason"]


def test_healthy(client):
    """A fresh reading is health."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("age", "reason"),
    [(None, "there is no reading yet"), (40, r"the newest reading is 4\d s old; 30 s are allowed")],
)
def test_not_healthy(client, board, age, reason):
    """No reading, or an old one, is 503 with the reason."""
    board._state = age and {"time": (datetime.now(UTC) - timedelta(seconds=age)).isoformat()}
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert re.fullmatch(reason, answer.json["reason"])


def test_a_camera_that_was_switched_off_is_no_fault(client, board):
    """No reading comes then, and none is expected."""
    board._state, board.values["camera"] = None, "disabled"
    assert 200 == client.get("/healthz").status_code


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("POST", "/api/state", 405),
        ("GET", "/predict", 405),
        ("POST", "/api/setup/forget", 404),
        ("GET", "/stream.mjpg?view=nothing", 400),
        ("GET", "/stream.mjpg?view=picture", 403),
        ("POST", "/predict?format=gif", 400),
        ("POST", "/predict", 415),
        ("DELETE", "/", 405),
    ],
)
def test_errors_are_json(client, method, path, status):
    """An error has the right status and says why in JSON."""
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert answer.json["status"] == status
    assert answer.json["reason"]
    assert status != 405 or {"GET", "POST"} & set(answer.headers["Allow"].split(", "))


def test_defect_is_json(client, board, caplog):
    """An exception of ours is 500 in JSON that tells nothing of our insides; the log has them."""
    board.health = lambda: 1 / 0
    answer = client.get("/api/health")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "division" in caplog.text


@pytest.mark.parametrize("path", [*READS, *STREAMS, "/nothing", "/login"])
def test_headers(client, path):
    """Every answer forbids what the page does not need: other hosts, inline code, frames, guessing of types."""
    answer = client.get(path)
    answer.close()
    headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cache-Control"] in ("no-cache", "no-store")


# Who is answered


def test_routes_are_all(client):
    """The routes that the tests below try are all that there are."""
    adapter = client.application.url_map.bind("")
    tried = {adapter.match(path, method="POST" if path in CHANGES else "GET")[0] for path in ROUTES}
    assert {rule.endpoint for rule in client.application.url_map.iter_rules()} == tried


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "host", ["evil.example:8080", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8080", "127.0.0.1:8080.", ""]
)
def test_other_hosts_are_refused(client, path, host):
    """A request for any other name is refused on every route: the name may have been re-pointed at this machine."""
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json["reason"].startswith("Host must be one of 127.0.0.1:8080, localhost:8080, not ")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://127.0.0.1:3000", "https://127.0.0.1:8080", "null", "", "http://localhost:8080"],
)
def test_other_origins_are_refused(client, path, method, origin):
    """What another page sends is refused on every route, whatever the method."""
    answer = client.open(path, method=method, headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json["reason"].startswith("Origin must be http://127.0.0.1:8080, not ")


def test_an_open_page_can_have_the_proof_of_another_run(client, make_client):
    """A restart makes what the page knew worthless; it asks for the new one, which no other page can read."""
    before = client.get("/api/setup").json["proof"]
    again = make_client()
    assert 403 == again.post("/api/setup/relearn", headers={"X-CSRF-Token": before}).status_code
    assert 403 == again.get("/api/setup", headers={"Sec-Fetch-Site": "same-site"}).status_code
    proof = again.get("/api/setup", headers={"Sec-Fetch-Site": "same-origin"}).json["proof"]
    assert 200 == again.post("/api/setup/relearn", headers={"X-CSRF-Token": proof}).status_code


@pytest.mark.parametrize("host", [HOST, "localhost:8080", "LOCALHOST:8080"])
def test_own_origin_is_answered(client, host):
    """The page itself is answered, by each of its names."""
    headers = {"Host": host, "Origin": f"http://{host.lower()}", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/state", headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("mode", "target"), [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")])
def test_embedding_is_refused(client, site, mode, target):
    """Another page, also one of this machine, can't have the picture, the data, or the page in a frame."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": target}
    assert client.get("/heatmap.jpg", headers=headers).status_code == 403
    assert client.get("/", headers=headers).status_code == 403


def test_links_are_followed(client):
    """A link from another page, such as Home Assistant's, leads to the page; a form that posts to it does not."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.post("/", headers=headers).status_code == 403


# The server


def test_server_answers(server, board):
    """A started server answers at its URL, which has the port that it found."""
    board.put(info=INFO | {"name": "Front <door>"})
    status, headers, body = fetch(server)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b"<title>Front &lt;door&gt;" in body
    assert "Server" not in headers


def test_server_refuses_rebound_names(server):
    """The running server knows its names: each loopback name with its own port, and no other."""
    port = urlsplit(server.url).port
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert fetch(server, headers={"Host": f"{name}:{port}"})[0] == 200
    for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
        status, _, body = fetch(server, headers={"Host": host})
        assert status == 403
        assert host in json.loads(body)["reason"]


def test_server_names_on_the_standard_port():
    """On port 80 browsers leave the port out, and are answered."""
    bare = Request.from_values(headers={"Host": "localhost"})
    Access(NAMES, 80).check_host(bare)
    with pytest.raises(Forbidden):
        Access(NAMES, 8080).check_host(bare)


def test_server_without_a_host(server):
    """An HTTP/1.0 request without Host is refused, not answered for a made-up name."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"GET /api/state HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 403 ")


def test_server_on_ipv6(board):
    """The page can be had on IPv6's loopback too."""
    server = WebServer(WebSection(listen="[::1]:0"), board, estimator=MadeEstimator(), counter=None)
    try:
        server.start()
    except EdgeError:
        pytest.skip("this machine has no IPv6")
    try:
        assert server.url.startswith("http://[::1]:")
        assert fetch(server)[0] == 200
    finally:
        server.stop()


def test_port_in_use(server, board):
    """A port that somebody else has is an error in words."""
    address = urlsplit(server.url).netloc
    with pytest.raises(EdgeError) as caught:
        WebServer(WebSection(listen=address), board, estimator=MadeEstimator(), counter=None).start()
    reason = "Address already in use; give it another port"
    assert str(caught.value) == f"web.listen: can't listen at {server.url}: {reason}"


def test_stop_frees_port_and_threads(board):
    """Stopping ends the threads and frees the port, though browsers keep connections open and follow streams."""
    before = threads_of(None)
    with serving(board) as server:
        address = urlsplit(server.url)
        lingering = [http.client.HTTPConnection(address.hostname, address.port, timeout=10) for _ in range(3)]
        for connection, path in zip(lingering, ("/", *STREAMS), strict=True):
            connection.request("GET", path)
            connection.getresponse().read(10)
        assert {"web", "uploads"} <= {thread.name for thread in threads_of(server) - before}
    for connection in lingering:
        connection.close()
    deadline = time.monotonic() + 10
    while threads_of(server) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads_of(server) == before
    with serving(MadeBoard(), listen=address.netloc):
        pass


def test_stop_while_an_answer_is_done(board):
    """What wakes the server at that moment may let it close before it is told to a second time: no error."""
    with serving(board) as server:
        pull = server._server.trigger._physical_pull

        def pull_twice():
            pull()
            server._thread.join(10)
            pull()

        server._server.trigger._physical_pull = pull_twice
    assert not server._thread.is_alive()


def test_stop_is_bounded_while_a_request_hangs(board):
    """A request that does not end holds the stop up for a few seconds only."""
    hanging, release = threading.Event(), threading.Event()

    def health():
        hanging.set()
        release.wait(60)

    board.health = health
    with serving(board) as server:
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        connection.request("GET", "/api/health")
        assert hanging.wait(10)
        started = time.monotonic()
    assert time.monotonic() - started < 20
    release.set()
    connection.close()


def test_many_requests_at_once(board, works):
    """Several browsers at once are all answered."""
    found = []
    with serving(board, counter=works) as server:

        def browse():
            found.extend(fetch(server, path)[0] for path in READS * 3)

        threads = [threading.Thread(target=browse) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert found == [200] * (6 * 3 * len(READS))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01 TLS it is not\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_in_json(server, request_, status):
    """What never reaches the application has an answer of the same kind, with the same headers."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request_)
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    assert f" {status} ".encode() in head
    assert b"Content-Security-Policy: default-src 'none'" in head
    assert status == json.loads(body)["status"]
    assert json.loads(body)["reason"]
