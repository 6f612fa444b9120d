"""Who is answered: names of this machine, other pages kept out, the token, and against guessing it.

A loopback address keeps no web page out: any page in a browser on this machine can send requests to it, and one whose
name is re-pointed at 127.0.0.1 (DNS rebinding) could read the answers too. So every request is checked before all else.
"""

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import ceil

from flask import Request, Response
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

_COOKIE_SECONDS = 30 * 86400
_WRONG, _WRONG_SECONDS = 5, 60.0  # wrong tokens from one address that are answered at once, then one in so long
_GUESSES, _GUESS_SECONDS = 100, 10.0  # different ones that are looked at; a program that repeats one guesses nothing
_REMEMBERED = 1000  # addresses, and wrong tokens
_CHANGES = ("POST", "PUT", "PATCH", "DELETE")


class Access:
    """The rules for one page.

    `names` are what browsers may call this machine, without the port. With `any_address` every plain address will do
    too: a name can be re-pointed by somebody else, an address can't. Without a `token` nobody is asked for one.
    """

    def __init__(
        self,
        names: Iterable[str],
        port: int,
        *,
        any_address: bool = False,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._port = port
        self._any_address = any_address
        self._token = _digest(token) if token else None
        self._key = _digest(f"edge-depth cookie {token}") if token else secrets.token_bytes(32)
        self._wrong = _Allowance(clock, _WRONG, _WRONG_SECONDS)
        self._guesses = _Allowance(clock, _GUESSES, _GUESS_SECONDS)
        # Guards the wrong tokens that came last, of all addresses: their digests, the newest at the end.
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self.cookie = f"edge-depth-{port}"  # a browser has one set of cookies for all ports of a machine

    @property
    def asks(self) -> bool:
        """Whether a token is asked for."""
        return self._token is not None

    def check_host(self, asked: Request) -> None:
        """Refuse a name that is not this page's own: it may have been re-pointed at this machine by somebody else.

        Raises:
            Forbidden: with what is allowed.
        """
        host = asked.headers.get("Host", "").lower()
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "80")
        if port != str(self._port) or not (name in self._names or (self._any_address and _is_address(name))):
            allowed = ", ".join(sorted(f"{name}:{self._port}" for name in self._names))
            hint = "give other names of this machine to web.names; through SSH, forward the same port number"
            raise Forbidden(f"Host must be one of {allowed}, not {host[:100]!r}; {hint}")

    def check_origin(self, asked: Request) -> None:
        """Refuse what another page sends; following a link to this page is allowed.

        Origin tells of posts and scripts in every browser, Sec-Fetch-Site also of pictures and frames, in browsers
        since 2023 (https://www.w3.org/TR/fetch-metadata/).

        Raises:
            Forbidden: another page asks.
        """
        own = f"http://{asked.headers['Host']}"
        origin = asked.headers.get("Origin", own)
        if origin.lower() != own.lower():
            raise Forbidden(f"Origin must be {own}, not {origin[:100]!r}: other pages may not ask")
        headers = asked.headers
        followed = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        link = followed and asked.method in ("GET", "HEAD")
        if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") and not link:
            raise Forbidden("Sec-Fetch-Site must be same-origin or none: other pages may not ask")

    def check_token(self, asked: Request) -> None:
        """Refuse who neither has logged in nor brings the token along.

        Raises:
            Unauthorized: there is no token, or a wrong one.
            TooManyRequests: there were too many wrong ones.
        """
        if self._token is None or self._is_session(asked.cookies.get(self.cookie, "")):
            return
        if (token := _bearer(asked)) is None:
            why = "needs the token: log in at /, or send `Authorization: Bearer <token>`"
            raise Unauthorized(why, www_authenticate=WWWAuthenticate("bearer"))
        if not self.is_token(asked, token):
            raise Unauthorized("this is not the token of web.token", www_authenticate=WWWAuthenticate("bearer"))

    def check_changes(self, asked: Request) -> None:
        """Refuse a change that does not come from this page itself, by what only it can read.

        A program that brings the token along need not prove that.

        Raises:
            Forbidden: the header is missing, or is not the page's.
        """
        if asked.method not in _CHANGES or (self._token is not None and _bearer(asked) is not None):
            return
        given = asked.headers.get("X-CSRF-Token", "")
        if not hmac.compare_digest(given.encode(), self.proof(asked).encode()):
            raise Forbidden("X-CSRF-Token is not this page's; load the page again")

    def is_token(self, asked: Request, token: str) -> bool:
        """Return whether it is the token; a wrong one counts against the address that sent it.

        The right one is taken however many wrong ones have come from its address, unless so many different ones have
        that somebody there is guessing.

        Raises:
            TooManyRequests: it is a wrong one, and not the first; or somebody there is guessing.
        """
        address = asked.remote_addr or ""
        if wait := self._guesses.seconds_to_wait(address):
            raise TooManyRequests(f"too many different tokens; wait {wait} s", retry_after=wait)
        digest = _digest(token)
        if self._token is not None and hmac.compare_digest(digest, self._token):
            return True
        if self._is_new(digest):
            self._guesses.count(address)
        if wait := self._wrong.seconds_to_wait(address):
            raise TooManyRequests(f"this is not the token; wait {wait} s with the next wrong one", retry_after=wait)
        self._wrong.count(address)
        return False

    def proof(self, asked: Request) -> str:
        """Return what a change has to carry, for the page to whom it asks."""
        return self._sign(f"change {asked.cookies.get(self.cookie, '')}")

    def log_in(self, response: Response) -> None:
        """Let a browser in from now on: no script can read the cookie, and no other page sends it along."""
        ends = str(int(time.time()) + _COOKIE_SECONDS)
        response.set_cookie(
            self.cookie,
            f"{ends}.{self._sign(f'session {ends}')}",
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
        )

    def _is_session(self, cookie: str) -> bool:
        ends, _, signature = cookie.partition(".")
        right = hmac.compare_digest(signature.encode(), self._sign(f"session {ends}").encode())
        return right and ends.isdigit() and int(ends) > time.time()

    def _is_new(self, digest: bytes) -> bool:
        """Return whether a wrong token has not come before, as far as is remembered; it has from now on."""
        with self._lock:
            is_new = digest not in self._known
            self._known[digest] = None
            self._known.move_to_end(digest)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return is_new

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


class _Allowance:
    """What each address may do: `most` at once, then one in `seconds`. An IPv6 network is one address.

    When there are too many addresses the oldest are forgotten; a token has 16 characters at least, so that guessing
    from everywhere at once is no danger.
    """

    def __init__(self, clock: Callable[[], float], most: int, seconds: float) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        # Guards what follows: {network: when the last that it did will be forgotten}.
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """Return how long an address has to wait until it may again; 0: not at all."""
        with self._lock:
            ahead = self._until.get(network_of(address), 0.0) - self._clock()
        return max(0, ceil(ahead - (self._most - 1) * self._seconds))

    def count(self, address: str) -> None:
        """Count one more."""
        network = network_of(address)
        with self._lock:
            self._until[network] = max(self._until.pop(network, 0.0), self._clock()) + self._seconds
            while len(self._until) > _REMEMBERED:
                self._until.popitem(last=False)


def network_of(address: str) -> str:
    """Return what counts as one address: for IPv6 its network, since everybody has a whole one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address


def _is_address(name: str) -> bool:
    bracketed = name.startswith("[") and name.endswith("]")
    try:
        found = ipaddress.ip_address(name[1:-1] if bracketed else name)
    except ValueError:
        return False
    return bracketed == (found.version == 6) and "%" not in name  # as a URL has them


def _bearer(asked: Request) -> str | None:
    kind, _, token = asked.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _digest(text: str) -> bytes:
    """Return a hash: all are of one length, so that comparing two takes one time."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
