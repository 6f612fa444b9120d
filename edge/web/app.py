"""The Flask application: the page, its data, and who may ask for them.

A loopback address keeps no web page out: any page in a browser on this machine can send requests to it, and one whose
name is re-pointed at 127.0.0.1 (DNS rebinding) could read the answers too. So every request is checked before all else.
"""

import json
import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Protocol

from flask import Flask, Request, Response, render_template, request
from werkzeug.exceptions import Forbidden, HTTPException, ServiceUnavailable

# Longer than the slowest camera's interval (camera.fps is at least 0.05), and three times camera.timeout's default.
STALE_SECONDS = 30.0

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Board(Protocol):
    """The newest results; a seam so that the page can be tried without camera, network and broker."""

    def state(self) -> dict[str, Any] | None:
        """Return the newest reading as the topic `state` has it, or null before the first."""

    def info(self) -> dict[str, Any]:
        """Return what the daemon is, as the topic `info` has it."""

    def health(self) -> dict[str, Any]:
        """Return how the daemon fares, as the topic `health` has it, with the camera's status as `camera`."""

    def heatmap(self) -> tuple[int, bytes] | None:
        """Return the newest heatmap's sequence number and JPEG, or null before the first."""


def create_app(board: Board, *, allowed_hosts: Collection[str]) -> Flask:
    """Make the application that shows `board`.

    `allowed_hosts` are the values of the Host header that are answered, in lower case and with the port, such as
    `127.0.0.1:8080`.
    """
    app = Flask(__name__)
    app.register_error_handler(HTTPException, _explain)
    _add_guards(app, allowed_hosts)
    _add_page(app, board)
    _add_api(app, board)
    return app


def _add_guards(app: Flask, allowed_hosts: Collection[str]) -> None:
    @app.before_request
    def check() -> None:
        _check_host(request, allowed_hosts)
        _check_origin(request)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _add_page(app: Flask, board: Board) -> None:
    run = secrets.token_hex(4)  # sequence numbers begin anew with every start, ETags must not

    @app.get("/")
    def page() -> str:
        name = board.info().get("name", "edge-depth")
        has_heatmap = board.heatmap() is not None
        return render_template("page.html", name=name, has_heatmap=has_heatmap, stale_seconds=STALE_SECONDS)

    @app.get("/heatmap.jpg")
    def heatmap() -> Response:
        newest = board.heatmap()
        if newest is None:
            raise ServiceUnavailable("no heatmap has been made yet")
        sequence, jpeg = newest
        response = Response(jpeg, mimetype="image/jpeg")
        response.set_etag(f"{run}-{sequence}")
        response.cache_control.no_cache = True
        response.make_conditional(request)
        return response


def _add_api(app: Flask, board: Board) -> None:
    @app.get("/api/state")
    def state() -> Response:
        """Return the newest reading, null before the first; a header tells whether /heatmap.jpg has changed."""
        response = _json(board.state())
        if newest := board.heatmap():
            response.headers["Heatmap-Sequence"] = str(newest[0])
        return response

    @app.get("/api/info")
    def info() -> Response:
        return _json(board.info())

    @app.get("/api/health")
    def health() -> Response:
        return _json(board.health())

    @app.get("/healthz")
    def healthz() -> Response:
        disabled = board.health().get("camera") == "disabled"  # on somebody's wish: no fault
        if not disabled and (problem := _problem(board.state(), datetime.now(UTC))):
            raise ServiceUnavailable(problem)
        return _json({"status": "ok"})


def _check_host(asked: Request, allowed: Collection[str]) -> None:
    """Refuse a name that is not this page's own: it may have been re-pointed at this machine by somebody else."""
    host = asked.headers.get("Host", "")
    if host.lower() not in allowed:
        names = ", ".join(sorted(allowed))
        raise Forbidden(f"Host must be one of {names}, not {host[:100]!r}; through SSH, forward the same port number")


def _check_origin(asked: Request) -> None:
    """Refuse what another page sends; following a link to this page is allowed.

    Origin tells of posts and scripts in every browser, Sec-Fetch-Site also of pictures and frames, in browsers since
    2023 (https://www.w3.org/TR/fetch-metadata/).
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


def _problem(state: dict[str, Any] | None, now: datetime) -> str | None:
    """Return in words what keeps the daemon from being healthy, or null."""
    if state is None:
        return "there is no reading yet"
    age = (now - datetime.fromisoformat(state["time"])).total_seconds()
    if age > STALE_SECONDS:
        return f"the newest reading is {age:.0f} s old; {STALE_SECONDS:.0f} s are allowed"
    return None


def _explain(error: HTTPException) -> Response:
    """Answer an error in JSON; an exception that nobody caught arrives here as 500, and is in the log."""
    response = _json({"status": error.code, "reason": error.description})
    response.headers.update(dict(error.get_headers()) | {"Content-Type": "application/json"})
    response.status_code = error.code or 500
    return response


def _json(value: object) -> Response:
    return Response(json.dumps(value, allow_nan=False, ensure_ascii=False), mimetype="application/json")
