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
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

_COOKIE_SECONDS = 30 * 86400
_FAILURES = 5  # wrong tokens from one address, before it has to wait
_FAILURE_SECONDS = 60.0  # until one more is allowed
_ADDRESSES = 1000  # that are remembered
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
        self._failures = _Failures(clock)
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
            raise Unauthorized("needs the token: log in at /, or send `Authorization: Bearer <token>`")
        if not self.is_token(asked, token):
            raise Unauthorized("this is not the token of web.token")

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

        Raises:
            TooManyRequests: it sent too many wrong ones.
        """
        address = asked.remote_addr or ""
        if wait := self._failures.seconds_to_wait(address):
            raise TooManyRequests(f"too many wrong tokens; wait {wait} s", retry_after=wait)
        right = self._token is not None and hmac.compare_digest(_digest(token), self._token)
        if not right:
            self._failures.count(address)
        return right

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

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


class _Failures:
    """How many wrong tokens each address has sent: so many at once, then one a minute. An IPv6 network is one address.

    When there are too many addresses the oldest are forgotten; a token has 16 characters at least, so that guessing
    from everywhere at once is no danger.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Guards what follows: {network: when the last of its failures will be forgotten}.
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """Return how long an address has to wait until it may try again; 0: not at all."""
        with self._lock:
            ahead = self._until.get(_network(address), 0.0) - self._clock()
        return max(0, ceil(ahead - (_FAILURES - 1) * _FAILURE_SECONDS))

    def count(self, address: str) -> None:
        """Count one more."""
        network = _network(address)
        with self._lock:
            self._until[network] = max(self._until.pop(network, 0.0), self._clock()) + _FAILURE_SECONDS
            while len(self._until) > _ADDRESSES:
                self._until.popitem(last=False)


def _network(address: str) -> str:
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
