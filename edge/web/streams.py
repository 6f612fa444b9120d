"""What goes on and on: events for the numbers (SSE), a picture after the other (MJPEG).

Each client holds one of the server's threads, hence the limits; ten of them cost one rendering and one encoding, since
all are given the same bytes. A client that is gone is noticed with the next thing that is sent to it.
"""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest, Forbidden, ServiceUnavailable

from edge.results import VIEWS, Board, View

STREAMS = 12  # of each kind at once
_HEALTH_SECONDS = 2.0
_AGAIN_SECONDS = 5.0  # after which the same picture is sent again, to see whether anybody is there
_BOUNDARY = "frame"


def add_streams(app: Flask, board: Board) -> None:
    """Add the streams; those with the camera's own pixels are refused unless the board has them."""
    events_left, views_left = threading.BoundedSemaphore(STREAMS), threading.BoundedSemaphore(STREAMS)

    @app.get("/api/events")
    def events() -> Response:
        return _stream(_events(board), "text/event-stream", events_left)

    @app.get("/stream.mjpg")
    def stream() -> Response:
        asked = request.args.get("view", "depth")
        view = next((view for view in VIEWS if view == asked), None)
        if view is None:
            raise BadRequest(f"view must be {', '.join(VIEWS)}, not {asked[:40]!a}")
        if view not in board.views():
            raise Forbidden("the camera's picture may leave this machine only with publish.picture: true")
        if reason := board.info().get("withheld"):
            raise ServiceUnavailable(reason)
        return _stream(_parts(board, view), f"multipart/x-mixed-replace; boundary={_BOUNDARY}", views_left)


def _stream(parts: Iterator[bytes], content_type: str, left: threading.BoundedSemaphore) -> Response:
    if not left.acquire(blocking=False):
        raise ServiceUnavailable(f"{STREAMS} are watching already; no more are served at once", retry_after=10)
    response = Response(parts, content_type=content_type)
    response.call_on_close(left.release)
    response.headers["Cache-Control"] = "no-store"
    return response


def _events(board: Board) -> Iterator[bytes]:
    """Yield each new reading, how the daemon fares every two seconds, and what it is whenever that has changed."""
    yield b"retry: 2000\n\n"
    number, health_due, told = -1, 0.0, None
    while not board.closed:
        if (info := board.info()) is not told:
            told = info
            yield _event("info", info)
        if time.monotonic() >= health_due:
            health_due = time.monotonic() + _HEALTH_SECONDS
            yield _event("health", board.health())
        seen, state = board.next_state(max(number, 0), max(0.0, health_due - time.monotonic()) if number >= 0 else 0.0)
        if seen != number:
            number = seen
            yield _event("state", {"now": time.time(), "state": state})


def _event(name: str, value: Any) -> bytes:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


def _parts(board: Board, view: View) -> Iterator[bytes]:
    """Yield the newest picture of a view again and again; one that came while another was being sent is left out.

    The boundary goes out with the picture before it, since browsers show a picture when they see it.
    """
    yield f"--{_BOUNDARY}\r\n".encode()
    number = 0
    with board.watching(view):
        while not board.closed and view in board.views():
            found = board.next_view(view, number, _AGAIN_SECONDS)
            if found is None:
                # an empty part would be a broken picture; a header that nobody reads shows whether anybody is there
                yield b"X-Waiting: 1\r\n"
                continue
            number, jpeg = found
            yield f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg
            yield f"\r\n--{_BOUNDARY}\r\n".encode()
