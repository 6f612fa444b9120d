"""A file comes whole or not at all, whatever the server does."""

import os
import re
import ssl

import pytest

from edge.depth.weights import Limits, download
from edge.errors import WeightsError
from tests.broker import make_certificates
from tests.file_server import served

DATA = os.urandom(300_000)
ONCE = Limits(attempts=1, timeout_seconds=10)
THRICE = Limits(attempts=3, timeout_seconds=10, pause_seconds=0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new folder" / "w.pt"


def ignore(done, total):
    """Report to nobody."""


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_whole_and_alone(target):
    """The bytes are those of the server, nothing else is left, and the progress ends at the total."""
    told = []
    with served(DATA) as server:
        download(server.url, target, lambda done, total: told.append((done, total)), ONCE)
    assert DATA == target.read_bytes()
    assert ["w.pt"] == names(target)
    assert [(0, len(DATA)), (len(DATA), len(DATA))] == [told[0], told[-1]]
    assert sorted(told) == told


def test_a_break_is_gone_on_from(target):
    """The next attempt of the same call asks for the rest only, and only of the same file."""
    with served(DATA, cut=100_000) as server:
        download(server.url, target, ignore, THRICE)
    assert DATA == target.read_bytes()
    assert [None, "bytes=100000-"] == server.starts()
    assert '"one"' == server.requests[1][1]["If-Range"]


def test_the_next_run_goes_on_too(target):
    """What an earlier call left is not asked for again; under the target's name nothing lies before it is whole."""
    with served(DATA, cut=100_000) as server:
        with pytest.raises(WeightsError, match=r"broke off after 100000 of 300000 .* 100000 bytes are here\. Run the"):
            download(server.url, target, ignore, ONCE)
        assert ["w.pt.part", "w.pt.part.json"] == names(target)
        download(server.url, target, ignore, ONCE)
    assert DATA == target.read_bytes()
    assert "bytes=100000-" == server.starts()[1]


def test_a_date_serves_where_there_is_no_tag(target):
    """Last-Modified validates the part as well; a weak tag does not."""
    with served(DATA, cut=9, etag='W/"weak"', modified="Mon, 02 Nov 2020 10:00:00 GMT") as server:
        download(server.url, target, ignore, THRICE)
    assert DATA == target.read_bytes()
    assert "Mon, 02 Nov 2020 10:00:00 GMT" == server.requests[1][1]["If-Range"]


def test_without_tag_and_date_it_begins_anew(target):
    """Nothing says that the rest would be the rest of the same file."""
    with served(DATA, cut=100_000, etag=None) as server:
        download(server.url, target, ignore, THRICE)
    assert DATA == target.read_bytes()
    assert [None, None] == server.starts()


def test_a_file_that_changed_between_the_halves_comes_anew(target):
    """Another tag means another file: no byte of the first is kept."""
    with served(DATA, cut=100_000) as server:
        with pytest.raises(WeightsError):
            download(server.url, target, ignore, ONCE)
        server.data, server.etag = DATA[::-1], '"two"'
        download(server.url, target, ignore, ONCE)
    assert DATA[::-1] == target.read_bytes()


@pytest.mark.parametrize("wrong", [{"shift": 1}, {"data": DATA + b"more"}])
def test_a_part_that_does_not_fit_is_not_appended(target, wrong):
    """A Content-Range of another place or another total is noticed; it is fetched from the beginning."""
    with served(DATA, cut=100_000) as server:
        with pytest.raises(WeightsError):
            download(server.url, target, ignore, ONCE)
        for name, value in wrong.items():
            setattr(server, name, value)
        download(server.url, target, ignore, THRICE)
    assert server.data == target.read_bytes()
    assert [None, "bytes=100000-", None] == server.starts()


def test_a_server_that_knows_no_ranges_gives_all_again(target):
    """The whole in place of the rest does not end up behind the part."""
    with served(DATA, cut=100_000, ranges=False) as server:
        download(server.url, target, ignore, THRICE)
    assert DATA == target.read_bytes()


def test_another_address_does_not_go_on_with_the_part_of_the_first(target):
    """The part of one mirror's file is no part of another's."""
    with served(DATA, cut=100_000) as first, served(DATA[::-1]) as second:
        with pytest.raises(WeightsError):
            download(first.url, target, ignore, ONCE)
        download(second.url, target, ignore, ONCE)
    assert DATA[::-1] == target.read_bytes()
    assert [None] == second.starts()


def test_a_length_that_is_too_long_is_never_whole(target):
    """A server that promises more than it has is asked again, so often and no more, and the target is not there."""
    with served(DATA, length=len(DATA) + 5) as server, pytest.raises(WeightsError, match="3 attempts"):
        download(server.url, target, ignore, THRICE)
    assert 3 == len(server.requests)
    assert not target.exists()


def test_a_length_that_is_too_short_is_believed(target):
    """HTTP ends a message where its length says; that the file is no whole one is the reader's to find."""
    with served(DATA, length=1000) as server:
        download(server.url, target, ignore, ONCE)
    assert DATA[:1000] == target.read_bytes()


def test_a_file_without_a_length_comes_whole(target):
    """Then the end of the connection is the end of the file."""
    with served(DATA, length=-1) as server:
        download(server.url, target, ignore, ONCE)
    assert DATA == target.read_bytes()


@pytest.mark.parametrize(("length", "words"), [(None, "has 300000 bytes; 1000 are"), (-1, "does not end; 1000 bytes")])
def test_what_is_too_large_is_refused(target, length, words):
    """By its length before it comes, without a length as soon as it is too much."""
    with served(DATA, length=length) as server, pytest.raises(WeightsError, match=words):
        download(server.url, target, ignore, Limits(attempts=1, max_bytes=1000))
    assert not target.exists()


def test_a_redirect_is_followed_with_the_range(target):
    """The file may lie elsewhere; the rest is asked for there as well."""
    with served(DATA, cut=100_000) as there, served(b"", status=302, location=there.url) as here:
        download(here.url, target, ignore, THRICE)
    assert DATA == target.read_bytes()
    assert [None, "bytes=100000-"] == there.starts()


def test_a_loop_of_redirects_ends(target):
    """A server that redirects to itself is given up."""
    with (
        served(b"", status=302, location="/w.pt") as server,
        pytest.raises(WeightsError, match=r"answers 302 .*redirect"),
    ):
        download(server.url, target, ignore, THRICE)
    assert len(server.requests) <= 11


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(target):
    """Only HTTP and HTTPS are."""
    with (
        served(b"", status=302, location="file:///etc/passwd") as server,
        pytest.raises(WeightsError, match=r"redirects from http to file|answers 302"),
    ):
        download(server.url, target, ignore, ONCE)
    assert not target.exists()


@pytest.mark.parametrize("options", [{"kind": "text/html"}, {"encoding": "gzip"}])
def test_a_web_page_is_no_weights(target, options):
    """A log-in page with status 200 is told apart by its type, at the first attempt."""
    with (
        served(b"<html>Log in</html>", **options) as server,
        pytest.raises(WeightsError, match="no weights: an error or log-in page"),
    ):
        download(server.url, target, ignore, THRICE)
    assert 1 == len(server.requests)


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, 3)])
def test_a_refusal_is_told_at_once_and_a_hiccup_tried_again(target, status, asked):
    """404 stays 404; 503 may pass."""
    with served(b"", status=status) as server, pytest.raises(WeightsError, match=f"the server answers {status}"):
        download(server.url, target, ignore, THRICE)
    assert asked == len(server.requests)


def test_a_server_that_hangs_is_left(target):
    """No byte within the time-out ends the attempt."""
    with served(DATA, hang=True) as server, pytest.raises(WeightsError, match="timed out"):
        download(server.url, target, ignore, Limits(attempts=1, timeout_seconds=0.2))


def test_nobody_there_is_told(target):
    """A closed port is an error with host and port."""
    with served(DATA) as server:
        url = server.url
    with pytest.raises(WeightsError, match=f"{re.escape(url.removesuffix('/w.pt'))}: .*refused"):
        download(url, target, ignore, ONCE)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/hush/w.pt?signature=hush#hush",
        "http://127.0.0.1:{port}/a b?token=hush",
        "http://127.0.0.1:{port}/hüsh/hush",
        "http://127.0.0.1:hush/w.pt",
        "http://[::1/hush",
        "http://:hush@127.0.0.1:{port}/w.pt",
        "http://127.0.0.1:{port}/w.pt\nhush",
        "http:/me:hush@127.0.0.1:{port}/w.pt",
    ],
)
@pytest.mark.parametrize("proxy", ["", "http:/me:hush@127.0.0.1:1/", "http://me:hush@127.0.0.1:1/"])
def test_a_mirrors_secrets_are_not_told(target, monkeypatch, address, proxy):
    """Of the address and of the proxy's: signatures, tokens, passwords; not in the note of the part either."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
    with served(DATA, cut=100_000) as server, pytest.raises(WeightsError) as caught:
        download(address.format(port=server.url.split(":")[2].split("/")[0]), target, ignore, ONCE)
    kept = [path.read_bytes() for path in target.parents[1].rglob("*.json")]
    assert "hush" not in str(caught.value)
    assert not [note for note in kept if b"hush" in note]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "w.pt", "http://", "http://me:hush@h/x"])
def test_an_address_that_can_not_be_used_is_told(target, url):
    """Other schemes and addresses with a password in them are refused, and the password is not repeated."""
    with pytest.raises(WeightsError, match="--url: must be an http or https address") as caught:
        download(url, target, ignore, ONCE)
    assert "hush" not in str(caught.value)


def test_the_proxy_of_the_environment_is_used(target, monkeypatch):
    """A name that nobody can resolve is reached through http_proxy."""
    with served(DATA) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        download("http://weights.invalid/w.pt", target, ignore, ONCE)
    assert DATA == target.read_bytes()
    assert "http://weights.invalid/w.pt" == proxy.requests[0][0]


@pytest.fixture
def encrypted(tmp_path):
    """A server behind TLS that redirects to plain HTTP, and its certificates."""
    certificates = make_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    with served(b"", status=302, location="http://127.0.0.1:9/w.pt", tls=context) as server:
        yield server, certificates


def test_a_certificate_that_nobody_vouches_for_is_refused(target, encrypted):
    """HTTPS is verified; the message says what is wrong with the certificate."""
    server, _ = encrypted
    with pytest.raises(WeightsError, match="the server's certificate is not valid"):
        download(server.url, target, ignore, THRICE)
    assert [] == server.requests


def test_an_encrypted_address_does_not_lead_to_a_plain_one(target, encrypted, monkeypatch):
    """A redirect from HTTPS to HTTP is not followed."""
    server, certificates = encrypted
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    with pytest.raises(WeightsError, match="redirects from https to http, which is not followed"):
        download(server.url, target, ignore, THRICE)
    assert 1 == len(server.requests)


def test_two_at_once_do_not_write_one_file(target):
    """The second is told that the first is at it."""
    caught = []

    def second(done, total):
        if not caught:
            with pytest.raises(WeightsError, match="is being fetched by another process") as error:
                download(server.url, target, ignore, ONCE)
            caught.append(error)

    with served(DATA) as server:
        download(server.url, target, second, ONCE)
    assert 1 == len(caught)
    assert DATA == target.read_bytes()


def test_a_folder_that_can_not_be_written_is_told(tmp_path):
    """The path and the system's reason."""
    (tmp_path / "file").touch()
    with served(DATA) as server, pytest.raises(WeightsError, match="can't be written: "):
        download(server.url, tmp_path / "file" / "w.pt", ignore, ONCE)
