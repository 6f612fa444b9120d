"""Who is let in, with a token: browsers that have logged in, programs that bring it along, and nobody who guesses."""

import re
from http.cookies import SimpleCookie

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.exceptions import Forbidden
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from edge.config import Config, WebSection
from edge.errors import ConfigError
from edge.web import Access, Uploads, create_app
from tests.page_rig import MadeBoard, MadeEstimator, Works, serving

HOST = "192.168.1.5:8080"
TOKEN = "0123456789abcdef-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WRONG = {"Authorization": "Bearer 0123456789abcdef-tokem"}


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self):
        return self.now


class OwnName(FlaskClient):
    """A client in the same network."""

    def open(self, *args, address="192.168.1.20", **kwargs):
        return super().open(
            *args, base_url=f"http://{HOST}", environ_overrides={"REMOTE_ADDR": address}, buffered=True, **kwargs
        )


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def app(tmp_path, clock):
    """The page of a machine that listens at every address, with a token."""
    access = Access({"pi", "pi.local", "localhost"}, 8080, any_address=True, token=TOKEN, clock=clock)
    uploads = Uploads(MadeEstimator(), max_bytes=200_000, max_pixels=1_000_000)
    made = create_app(MadeBoard(), access, uploads=uploads, counter=Works(tmp_path))
    made.test_client_class = OwnName
    return made


@pytest.fixture
def client(app):
    """A browser."""
    return app.test_client()


def proof_of(client):
    """Return what the page gives its scripts to prove where a change comes from."""
    return re.search(r'data-proof="(\w+)"', client.get("/").text)[1]


def test_nothing_is_answered_without_the_token(app, client):
    """Every route but the form, what it looks like, and health; a person is led there, a program told what it lacks."""
    for rule in app.url_map.iter_rules():
        path = re.sub("<path:filename>", "page.css", re.sub(r"<any\(.*\):command>", "apply", rule.rule))
        for method in rule.methods - {"OPTIONS", "HEAD"}:
            answer = client.open(path, method=method)
            is_open = rule.endpoint in ("static", "healthz") or (rule.endpoint == "log_in" and method == "GET")
            assert (200 if is_open else 401) == answer.status_code, path
    refused = client.get("/api/state")
    assert "needs the token" in refused.json["reason"]
    assert "Bearer" == refused.headers["WWW-Authenticate"]
    led = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (303, "/login") == (led.status_code, led.headers["Location"])


def test_a_program_brings_the_token_along(client):
    """Then it may read and change, without a proof that a page would need."""
    assert 200 == client.get("/api/state", headers=BEARER).status_code
    assert 200 == client.post("/api/setup/propose", headers=BEARER, json={}).status_code
    assert "this is not the token" in client.get("/api/state", headers=WRONG).json["reason"]


def test_a_person_logs_in_once(client):
    """The cookie can't be read by scripts, nor is it sent along by other pages; it holds nothing of the token."""
    assert "This is not the token." in client.post("/login", data={"token": TOKEN + "x"}).text
    answer = client.post("/login", data={"token": TOKEN})
    assert (303, "/") == (answer.status_code, answer.headers["Location"])
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (True, "Strict", "/") == (cookie["httponly"], cookie["samesite"], cookie["path"])
    assert TOKEN not in answer.headers["Set-Cookie"]
    assert 200 == client.get("/api/state").status_code


@pytest.mark.parametrize(
    "cookie", ["", "x", "99999999999.", "99999999999.00", "0.{signature}", "99999999999.{signature}"]
)
def test_a_made_up_cookie_is_none(app, client, cookie):
    """Neither another end nor another signature is taken."""
    client.post("/login", data={"token": TOKEN})
    real = client.get_cookie("edge-depth-8080", domain="192.168.1.5").value
    other = app.test_client(use_cookies=False)
    value = cookie.format(signature=real.partition(".")[2])
    assert 401 == other.get("/api/state", headers={"Cookie": f"edge-depth-8080={value}"}).status_code
    assert 200 == other.get("/api/state", headers={"Cookie": f"edge-depth-8080={real}"}).status_code


def test_a_change_proves_that_it_comes_from_the_page(client):
    """The page knows a secret of this very browser's; without it, or with another's, nothing is changed."""
    client.post("/login", data={"token": TOKEN})
    for headers in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": "ä"}):
        refused = client.post("/api/setup/relearn", headers=headers)
        assert (403, True) == (refused.status_code, "load the page again" in refused.json["reason"])
    assert 200 == client.post("/api/setup/relearn", headers={"X-CSRF-Token": proof_of(client)}).status_code
    assert proof_of(client) == client.get("/api/setup").json["proof"]


def test_wrong_tokens_do_not_lock_the_right_one_out(app, clock):
    """After five an address is told to wait with further wrong ones; the right one is taken from there at any time."""
    client = app.test_client(use_cookies=False)
    for _ in range(5):
        assert 401 == client.get("/api/state", headers=WRONG).status_code
    for _ in range(300):  # a program with an old token
        refused = client.get("/api/state", headers=WRONG)
        assert (429, "60") == (refused.status_code, refused.headers["Retry-After"])
    assert 200 == client.get("/api/state", headers=BEARER).status_code
    assert 303 == client.post("/login", data={"token": TOKEN}).status_code
    assert 401 == client.get("/api/state", headers=WRONG, address="192.168.1.21").status_code
    clock.now += 60
    assert [401, 429] == [client.get("/api/state", headers=WRONG).status_code for _ in range(2)]


def test_guessing_is_slow(client, clock):
    """After a hundred different tokens one in ten seconds is looked at: a guesser does not learn of the right one."""
    for i in range(100):
        assert client.get("/api/state", headers={"Authorization": f"Bearer guess {i}"}).status_code in (401, 429)
    for answer in (client.get("/api/state", headers=BEARER), client.post("/login", data={"token": TOKEN})):
        assert (429, "10") == (answer.status_code, answer.headers["Retry-After"])
    assert 200 == client.get("/api/state", headers=BEARER, address="192.168.1.21").status_code
    clock.now += 10
    assert 200 == client.get("/api/state", headers=BEARER).status_code
    assert 429 == client.get("/api/state", headers={"Authorization": "Bearer another"}).status_code
    assert 429 == client.get("/api/state", headers=BEARER).status_code


def test_who_is_logged_in_is_not_kept_out_by_guessing(client):
    """The cookie is no token, and counts before it."""
    client.post("/login", data={"token": TOKEN})
    for _ in range(20):
        client.post("/login", data={"token": "wrong"})
    assert 429 == client.post("/login", data={"token": "wrong"}).status_code
    assert 200 == client.get("/api/state").status_code


def test_one_network_is_one_guesser(client):
    """Somebody who has a whole IPv6 network does not have as many tries as it has addresses."""
    for i in range(5):
        client.get("/api/state", headers=WRONG, address=f"2001:db8::{i:x}")
    assert 429 == client.get("/api/state", headers=WRONG, address="2001:db8::ffff").status_code
    assert 401 == client.get("/api/state", headers=WRONG, address="2001:db8:0:1::1").status_code


def test_guesses_from_everywhere_take_no_memory():
    """Only so many addresses and wrong tokens are remembered, the last ones."""
    access = Access({"pi"}, 8080, any_address=True, token=TOKEN)
    for i in range(3000):
        headers = {"Host": "10.0.0.1:8080", **WRONG}
        address = f"10.0.{i // 250}.{i % 250}"
        asked = Request(EnvironBuilder(headers=headers, environ_base={"REMOTE_ADDR": address}).get_environ())
        assert not access.is_token(asked, f"wrong {i}")
    assert {1000} == {len(access._wrong._until), len(access._guesses._until), len(access._known)}


@pytest.mark.parametrize("host", ["192.168.1.5:8080", "10.0.0.7:8080", "[fe80::1]:8080", "pi.local:8080", "PI:8080"])
def test_addresses_and_own_names_are_answered(host):
    """An address can't be re-pointed at this machine by somebody else."""
    access = Access({"pi", "pi.local"}, 8080, any_address=True, token=TOKEN)
    access.check_host(Request(EnvironBuilder(headers={"Host": host}).get_environ()))


@example(":::8080")
@example("[1.2.3.4]:8080")
@example("[::%a[]:8080")
@given(st.from_regex(r"[ -~]{0,30}", fullmatch=True) | st.from_regex(r"[a-z0-9.\[\]:%]{0,20}:8080", fullmatch=True))
def test_no_other_host_is_answered(host):
    """Whatever Host says, it is one of ours or an address, or refused."""
    access = Access({"pi"}, 8080, any_address=True, token=TOKEN)
    asked = Request(EnvironBuilder(headers={"Host": host}).get_environ())
    try:
        access.check_host(asked)
    except Forbidden:
        return
    assert re.fullmatch(r"(pi|[\d.]+|\[[\da-fA-F:.]*:[\da-fA-F:.]*\]):8080", asked.headers["Host"].lower())


def test_any_other_address_than_loopback_needs_a_token():
    """The configuration is refused without; with a token, or a file that holds one, it is taken."""
    for listen in ("0.0.0.0:8080", "[::]:8080", "192.168.1.5:80"):
        with pytest.raises(ValueError, match=r"needs web\.token too"):
            Config(web={"listen": listen})
        assert not Config(web={"listen": listen, "token": TOKEN}).web.is_loopback
        assert Config(web={"listen": listen, "token_file": "token"})


def test_the_token_may_lie_in_a_file(tmp_path, monkeypatch):
    """Among systemd's credentials too; what is no token there is refused, without being told."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert TOKEN == WebSection(token_file="token").read_token()
    (tmp_path / "token").write_text("too short")
    with pytest.raises(ConfigError, match="16 to 200 plain characters") as refused:
        WebSection(token_file="token").read_token()
    assert "too short" not in str(refused.value)


def test_a_server_with_a_token_asks_for_it(tmp_path):
    """On loopback too, where one is configured."""
    from tests.test_web import fetch

    with serving(MadeBoard(), counter=Works(tmp_path), token=TOKEN) as server:
        assert 401 == fetch(server, "/api/state")[0]
        assert 200 == fetch(server, "/api/state", headers=BEARER)[0]
