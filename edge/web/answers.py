"""Answers in JSON."""

import json

from flask import Response
from werkzeug.exceptions import HTTPException


def json_response(value: object) -> Response:
    """Return a value as JSON; NaN and infinity, which JSON does not have, are errors of ours."""
    return Response(json.dumps(value, allow_nan=False, ensure_ascii=False), mimetype="application/json")


def explain(error: HTTPException) -> Response:
    """Answer an error in JSON; an exception that nobody caught arrives here as 500, and is in the log."""
    response = json_response({"status": error.code, "reason": error.description})
    response.headers.update(dict(error.get_headers()) | {"Content-Type": "application/json"})
    response.status_code = error.code or 500
    return response
