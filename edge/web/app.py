"""The Flask application: the page, its data, and what is the same for every answer."""

import io
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Request, Response, redirect, render_template, request
from werkzeug.exceptions import (
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)

from edge.results import Board
from edge.web.access import Access
from edge.web.answers import explain, json_response
from edge.web.metrics import metrics_text
from edge.web.setup import MAX_BYTES, Counter, add_setup
from edge.web.streams import add_streams
from edge.web.uploads import Uploads, add_uploads

# Longer than the slowest camera's interval (camera.fps is at least 0.05), and three times camera.timeout's default.
STALE_SECONDS = 30.0
FORM_BYTES = 16_384  # of what is sent with an upload beside the picture, and of a form

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",  # with no-referrer the form's Origin would be null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_OPEN = ("log_in", "static", "healthz")  # what is answered without a token: a supervisor has none


class _InMemory(Request):
    """A request whose uploads never touch a disk."""

    max_form_parts = 8

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO()


def create_app(board: Board, access: Access, *, uploads: Uploads, counter: Counter) -> Flask:
    """Make the application that shows `board` to those whom `access` lets in.

    `counter` takes what is changed.
    """
    app = Flask(__name__)
    app.request_class = _InMemory
    app.config["MAX_CONTENT_LENGTH"] = uploads.max_bytes + FORM_BYTES
    app.register_error_handler(HTTPException, explain)
    _add_guards(app, access)
    _add_log_in(app, access)
    _add_page(app, board, access)
    _add_api(app, board)
    _add_metrics(app, board, uploads)
    add_streams(app, board)
    add_uploads(app, uploads)
    add_setup(app, access, counter)
    return app


def make_judge(app: Flask, *, upload_bytes: int) -> Callable[[Mapping[str, Any]], HTTPException | int]:
    """Return what judges a request by its headers, given as WSGI has them.

    It returns how many bytes the body may have, or why the request is not let in.
    """
    most_bytes = {"log_in": FORM_BYTES, "change": MAX_BYTES, "predict": upload_bytes + FORM_BYTES}

    def judge(environ: Mapping[str, Any]) -> HTTPException | int:
        with app.request_context(dict(environ)):
            try:
                app.preprocess_request()
            except HTTPException as refused:
                return refused
            if request.routing_exception:
                return request.routing_exception
            most = most_bytes.get(request.endpoint or "", 0)
            size = request.content_length or 0
            return most if size <= most else RequestEntityTooLarge(f"{size} bytes; {most} are allowed")

    return judge


def _add_guards(app: Flask, access: Access) -> None:
    @app.before_request
    def check() -> None:
        access.check_host(request)
        access.check_origin(request)
        if request.endpoint not in _OPEN:
            access.check_token(request)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _add_log_in(app: Flask, access: Access) -> None:
    @app.errorhandler(Unauthorized)
    def ask(error: Unauthorized) -> Response:
        """Lead a person to the form; tell a program what it lacks."""
        if request.method == "GET" and "text/html" in dict(request.accept_mimetypes):
            return _plain(redirect("/login", 303))
        return explain(error)

    @app.route("/login", methods=["GET", "POST"])
    def log_in() -> Response:
        if not access.asks:
            return _plain(redirect("/", 303))
        if request.method == "GET":
            return Response(render_template("login.html", problem=""))
        try:
            right = access.is_token(request, request.form.get("token", ""))
        except TooManyRequests as error:
            response = Response(render_template("login.html", problem=error.description), 429)
            response.headers["Retry-After"] = str(error.retry_after)
            return response
        if not right:
            return Response(render_template("login.html", problem="This is not the token."), 401)
        response = _plain(redirect("/", 303))
        access.log_in(response)
        return response


def _plain(response: Any) -> Response:
    """Return a redirect of werkzeug's as Flask's."""
    return Response(response.get_data(), response.status_code, {"Location": response.headers["Location"]})


def _add_page(app: Flask, board: Board, access: Access) -> None:
    run = secrets.token_hex(4)  # sequence numbers begin anew with every start, ETags must not

    @app.get("/")
    def page() -> str:
        return render_template(
            "page.html",
            name=board.info().get("name", "edge-depth"),
            stale_seconds=STALE_SECONDS,
            views=board.views(),
            token=access.asks,
            proof=access.proof(request),
        )

    @app.get("/heatmap.jpg")
    def heatmap() -> Response:
        newest = board.heatmap()
        if newest is None:
            info = board.info()
            is_off = info.get("heatmap") is False
            why = "is made: heatmap.enabled is false" if is_off else "has been made yet"
            raise ServiceUnavailable(info.get("withheld") or f"no heatmap {why}")
        sequence, jpeg = newest
        response = Response(jpeg, mimetype="image/jpeg")
        response.set_etag(f"{run}-{sequence}")
        response.cache_control.no_cache = True
        response.make_conditional(request)
        return response


def _add_api(app: Flask, board: Board) -> None:
    @app.get("/api/state")
    def state() -> Response:
        return json_response(board.state())

    @app.get("/api/info")
    def info() -> Response:
        return json_response(board.info())

    @app.get("/api/health")
    def health() -> Response:
        return json_response(board.health())

    @app.get("/api/history")
    def history() -> Response:
        return json_response(board.history())

    @app.get("/healthz")
    def healthz() -> Response:
        disabled = board.health().get("camera") == "disabled"  # on somebody's wish: no fault
        if not disabled and (problem := _problem(board.state(), datetime.now(UTC))):
            raise ServiceUnavailable(problem)
        return json_response({"status": "ok"})


def _add_metrics(app: Flask, board: Board, uploads: Uploads) -> None:
    @app.get("/metrics")
    def metrics() -> Response:
        text, content_type = metrics_text(board, uploads)
        return Response(text, content_type=content_type)


def _problem(state: dict[str, Any] | None, now: datetime) -> str | None:
    """Return in words what keeps the daemon from being healthy, or null."""
    if state is None:
        return "there is no reading yet"
    age = (now - datetime.fromisoformat(state["time"])).total_seconds()
    if age > STALE_SECONDS:
        return f"the newest reading is {age:.0f} s old; {STALE_SECONDS:.0f} s are allowed"
    return None
