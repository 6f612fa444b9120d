"""Fetch one file over HTTP: resumed where it broke off, bounded in size and time, whole or not there.

What is under way lies in `NAME.part`; `NAME.part.json` says of which file it is a part, so that the rest of another
file is never put behind it (RFC 9110, section 13.1.5: If-Range). Proxies are taken from the environment (`https_proxy`,
`no_proxy`, …) and certificates are checked, both as urllib does.
"""

import fcntl
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from edge import __version__
from edge.config import shown_address
from edge.errors import WeightsError
from edge.files import parse_object, without_following

_CHUNK_BYTES = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_REFUSED = (400, 401, 403, 404, 407, 410, 451)  # asking again brings the same answer


class Report(Protocol):
    """Is told how far a download is; a seam so that a terminal's bar stays in the command."""

    def __call__(self, done: int, total: int | None) -> None:
        """Take note of the bytes that are here and of those that there are, if the server says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server may take: `timeout_seconds` to connect and between two packets, and so many attempts."""

    timeout_seconds: float = 30.0
    attempts: int = 5
    pause_seconds: float = 1.0  # before the second attempt; doubles
    max_bytes: int = 256 << 20


class _BrokeOff(Exception):
    """The transfer ended early; what came is kept, and the rest may come with the next attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Which file a part is of. `validator` is a strong ETag or a date; without one nothing is resumed."""

    url: str
    validator: str | None = None
    total: int | None = None


def download(url: str, target: Path, report: Report, limits: Limits = Limits()) -> None:
    """Bring `url` to `target`; it appears there when it is whole, never before.

    Raises:
        WeightsError: the address can't be used, the server refuses, or it broke off more often than allowed.
    """
    _check_url(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(_part_path(target), "ab", opener=without_following) as file:
            _lock(file, target)
            _attempts(url, file, report, limits)
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        _note_path(file).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{target}: can't be written: {error.strerror or error}") from error


def _attempts(url: str, file: IO[bytes], report: Report, limits: Limits) -> None:
    pause = limits.pause_seconds
    for attempt in range(1, limits.attempts + 1):
        try:
            return _attempt(url, file, report, limits)
        except _BrokeOff as error:
            if attempt == limits.attempts:
                raise WeightsError(
                    f"{shown_address(url)}: {error} ({attempt} attempts); {file.tell()} bytes are here. "
                    "Run the same command again: it goes on from there where the server allows it"
                ) from error
        time.sleep(pause)
        pause *= 2
    raise WeightsError(f"{shown_address(url)}: not tried: {limits.attempts} attempts are allowed")


def _attempt(url: str, file: IO[bytes], report: Report, limits: Limits) -> None:
    """Ask for what is missing and append it; raise _BrokeOff where something still is."""
    part = _read_note(file, url)
    if not part.validator:
        file.truncate(0)
    have = file.seek(0, os.SEEK_END)
    if part.total is not None and have == part.total:
        return
    try:
        with _open(url, have, part, limits) as response:
            part, have = _take_stock(response, file, part, limits, url)
            _receive(response, file, part.total, report, limits, url)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # it has not so many bytes: another file, or it is whole without our knowing
            file.truncate(0)
            raise _BrokeOff("it can't be resumed, from the beginning then") from error
        if error.code in _REFUSED or 300 <= error.code < 400:
            raise WeightsError(f"{shown_address(url)}: {_answer(error.code)}") from error
        raise _BrokeOff(_answer(error.code)) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise WeightsError(
                f"{shown_address(url)}: the server's certificate is not valid: {reason.verify_message}"
            ) from error
        raise _BrokeOff(str(reason) or type(reason).__name__) from error
    except (http.client.InvalidURL, ValueError) as error:  # their words quote it, or the proxy's with its password
        raise WeightsError(
            f"{shown_address(url)}: can't be asked for ({type(error).__name__}); check the address, and the proxy's in"
            " https_proxy, where there is one"
        ) from error
    except http.client.HTTPException as error:  # whose words are the server's
        raise _BrokeOff(type(error).__name__) from error


def _answer(code: int) -> str:
    """Return what a server answers in our words: its own may quote the address."""
    words = f"the server answers {code} {http.client.responses.get(code, '')}".rstrip()
    return f"{words}, a redirect that leads nowhere" if 300 <= code < 400 else words


def _open(url: str, have: int, part: _Part, limits: Limits) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": f"edge-depth/{__version__}"})  # noqa: S310 - checked
    if have and part.validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", part.validator)
    return urllib.request.build_opener(_Redirects).open(request, timeout=limits.timeout_seconds)


def _take_stock(response: Any, file: IO[bytes], part: _Part, limits: Limits, url: str) -> tuple[_Part, int]:
    """Decide by the answer's head where its bytes belong: behind those that are here, or in place of them."""
    kind = response.headers.get_content_type()
    if kind.startswith("text/") or response.headers.get("Content-Encoding", "identity") != "identity":
        raise WeightsError(
            f"{shown_address(url)}: answers with {kind}, no weights: an error or log-in page; see it in a"
            " browser, or try --url"
        )
    have = file.seek(0, os.SEEK_END)
    new = _Part(url=url, validator=_validator(response), total=_length(response))
    if response.status == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = found and int(found[1]) == have and part.total in (None, int(found[2]))
        if not found or not same or new.validator not in (None, part.validator):
            file.truncate(0)
            _write_note(file, _Part(url=url))
            raise _BrokeOff("it has changed since it was begun, from the beginning then")
        part = _Part(url=url, validator=part.validator, total=int(found[2]))
    else:
        file.truncate(0)
        part, have = new, 0
    if (part.total or 0) > limits.max_bytes:
        raise WeightsError(f"{shown_address(url)}: has {part.total} bytes; {limits.max_bytes} are allowed")
    _write_note(file, part)
    return part, have


def _receive(response: Any, file: IO[bytes], total: int | None, report: Report, limits: Limits, url: str) -> None:
    have = file.seek(0, os.SEEK_END)
    report(have, total)
    while chunk := _next_chunk(response):
        have += len(chunk)
        if have > limits.max_bytes:
            file.truncate(0)
            raise WeightsError(f"{shown_address(url)}: does not end; {limits.max_bytes} bytes are allowed")
        file.write(chunk)
        report(have, total)
    file.flush()
    if total is not None and have < total:
        raise _BrokeOff(f"broke off after {have} of {total} bytes")


def _next_chunk(response: Any) -> bytes:
    try:
        return bytes(response.read1(_CHUNK_BYTES))
    except (OSError, http.client.HTTPException) as error:  # here, so that no network error passes for one of the disk
        raise _BrokeOff(f"broke off: {error or type(error).__name__}") from error


def _validator(response: Any) -> str | None:
    """Return what If-Range takes: a strong ETag, else the date."""
    tag, date = (str(response.headers.get(name, "")) for name in ("ETag", "Last-Modified"))
    return tag if tag.startswith('"') else date or None


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to HTTP and HTTPS only, and never from HTTPS to HTTP; urllib ends loops and long chains."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise WeightsError(
                f"{shown_address(req.full_url)}: redirects from {before} to {after}, which is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and url.isprintable()
    except ValueError:
        good = False
    if not good:
        raise WeightsError(
            f"--url: must be an http or https address without a user's name in it, not {shown_address(url)}"
        )


def _lock(file: IO[bytes], target: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WeightsError(f"{target}: is being fetched by another process; let that one end") from error


def _part_path(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _note_path(file: IO[bytes]) -> Path:
    return Path(f"{file.name}.json")


def _read_note(file: IO[bytes], url: str) -> _Part:
    """Return what is known of the part; of another address's part, or of one without a readable note, nothing."""
    try:
        values = parse_object(_note_path(file).read_bytes())
        part = _Part(url=url, validator=values["validator"], total=values["total"])
        known = values["url"] == _digest(url)
    except (OSError, ValueError, KeyError, TypeError):
        return _Part(url=url)
    return part if known else _Part(url=url)


def _write_note(file: IO[bytes], part: _Part) -> None:
    values = {"url": _digest(part.url), "validator": part.validator, "total": part.total}
    with open(_note_path(file), "w", encoding="utf-8", opener=without_following) as note:
        json.dump(values, note)


def _digest(url: str) -> str:
    """Return what tells an address from others, and does not tell the address."""
    return hashlib.sha256(url.encode()).hexdigest()
