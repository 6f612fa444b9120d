"""Set up: what the page may change, handed on to where commands are obeyed."""

from collections.abc import Mapping
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest, Conflict, RequestEntityTooLarge, ServiceUnavailable, UnprocessableEntity

from edge.errors import Busy, EdgeError, Stale
from edge.files import parse_object
from edge.web.access import Access
from edge.web.answers import json_response

MAX_BYTES = 65_536


class Counter(Protocol):
    """Where the page's commands are taken; a seam, so that the page can be tried without a daemon."""

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a command obeyed between two frames, and return the answer.

        The commands are `setup` (what may be changed, as it stands), `propose` (what a change would do), `apply`,
        `undo`, `confirm` (that what is drawn fits what the camera shows) and `relearn`.

        Raises:
            EdgeError: it is refused; the message says why.
            Busy, Stale: see there; nothing is changed.
        """


def add_setup(app: Flask, access: Access, counter: Counter) -> None:
    """Add what shows, tries out and makes changes."""

    @app.get("/api/setup")
    def setup() -> Response:
        """Tell the proof too: without a token it is another one after a restart, and an open page goes on."""
        return json_response({**_asked(counter, "setup", {}), "proof": access.proof(request)})

    @app.post("/api/setup/<any(propose, apply, undo, confirm, relearn):command>")
    def change(command: str) -> Response:
        access.check_changes(request)
        return json_response(_asked(counter, command, _document()))


def _asked(counter: Counter, command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return counter.ask(command, arguments)
    except Busy as busy:
        raise ServiceUnavailable(str(busy), retry_after=2) from busy
    except Stale as stale:
        raise Conflict(str(stale)) from stale
    except EdgeError as error:
        raise UnprocessableEntity(str(error)) from error


def _document() -> dict[str, Any]:
    """Return the JSON object that was sent; nothing is an empty one.

    Raises:
        RequestEntityTooLarge, BadRequest: it is too long, or none.
    """
    text = request.get_data(cache=False)
    if len(text) > MAX_BYTES:
        raise RequestEntityTooLarge(f"{len(text)} bytes; {MAX_BYTES} are allowed")
    try:
        return parse_object(text or b"{}")
    except ValueError as error:
        raise BadRequest(str(error)) from error
