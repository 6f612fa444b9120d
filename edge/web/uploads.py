"""Pictures that somebody sends: judged, decoded, estimated and encoded in a thread of their own that gives way.

Only the depth thread runs the network, between two frames and for a small share of its time (`Estimator`); everything
else is done by one thread at the lowest priority. Whoever sends a picture waits in a short queue, or is told to come
again. Nothing is written anywhere: results are kept in memory, the last ones, under the SHA-256 of what was sent.
"""

import hashlib
import io
import json
import logging
import os
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from flask import Flask, Response, request
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    RequestEntityTooLarge,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from edge import pictures
from edge.config import HeatmapSection
from edge.errors import NotReady, PictureError
from edge.publish import heatmap
from edge.records import DepthMap, Frame
from edge.scene import MovingScene

logger = logging.getLogger(__name__)

FORMATS = {
    "jpg": ("image/jpeg", "depth.jpg"),
    "png16": ("image/png", "depth-16-bit.png"),
    "npy": ("application/octet-stream", "depth.npy"),
    "grey": ("image/png", "depth-grey.png"),
    "json": ("application/json", "depth.json"),
}
QUEUE = 8  # pictures that wait
LIMIT_SECONDS = 30.0
_STOP_SECONDS = 1.0
_AGAIN_SECONDS = 3
_SIDE_PX = 512  # of what is kept of a picture: the most that the network sees
_MOST_SIDE_PX = 1920  # of what is sent back
_CACHE_BYTES = 24 << 20
_QUALITY = 90
_NICE = 19
_EXAMPLE = Path(__file__).parent.parent / "data" / "photos" / "living_room.jpg"


class Estimator(Protocol):
    """What runs the network for an upload; a seam, so that the page can be tried without one."""

    def estimate(self, frame: Frame, until: float) -> DepthMap:
        """Wait for a turn and return what the network says; `until` is in monotonic seconds.

        Raises:
            NotReady: there was no turn until then.
            EngineError: the network failed.
        """


@dataclass(slots=True, kw_only=True)
class _Entry:
    """What is known of one picture; `size` is the width and height of what is sent back, `encoded` by format.

    What the network saw is not kept: it is larger than all else, and nothing here is made from it.
    """

    depth: DepthMap
    size: tuple[int, int]
    encoded: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depth = replace(self.depth, picture=None)

    def bytes_held(self) -> int:
        held = self.depth.frame.pixels.nbytes + self.depth.inverse_depth.nbytes
        return held + sum(map(len, self.encoded.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A picture to be worked on, and where the result is waited for."""

    digest: str
    data: bytes
    size: tuple[int, int]
    format: str
    until: float
    done: Future[bytes]


class Uploads:
    """Turns uploaded pictures into depth, a few at a time."""

    def __init__(self, estimator: Estimator, *, max_bytes: int, max_pixels: int) -> None:
        self.max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._estimator = estimator
        self._jobs: queue.Queue[_Job | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._over: Future[None] = Future()  # done at the stop: whoever waits for a picture waits for this one too
        # Guards the two that follow; the cache holds the last ones used at its end.
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._counts: Counter[str] = Counter(done=0, cached=0, refused=0, busy=0, late=0, failed=0)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Let everybody who waits for a picture go, and end; a picture in work is left to itself after a while."""
        self._over.set_result(None)
        with suppress(queue.Full):  # else the thread has something to wake up for
            self._jobs.put_nowait(None)
        self._thread.join(_STOP_SECONDS)

    def counts(self) -> dict[str, int]:
        """Return how many uploads came to what end so far."""
        with self._lock:
            return dict(self._counts)

    def result(self, data: bytes, wanted: str) -> bytes:
        """Return the depth of a picture, given as its file's bytes, in one of `FORMATS`; wait for it up to 30 s.

        Raises:
            HTTPException: it can't be had; with the reason and the right status.
        """
        digest = hashlib.sha256(data).hexdigest()
        if (found := self._cached(digest, wanted)) is not None:
            self._count("cached")
            return found
        try:
            size = pictures.judge_upload(data, self._max_pixels)  # nobody waits in the queue for a refusal
            found = self._queued(digest, data, size, wanted)
        except HTTPException:
            raise
        except PictureError as error:
            self._count("refused")
            raise _refusal(error) from error
        except NotReady as error:
            self._count("late")
            raise ServiceUnavailable(str(error), retry_after=_AGAIN_SECONDS) from error
        except Exception as error:
            self._count("failed")
            logger.exception("an uploaded picture could not be worked on")
            raise InternalServerError("the picture could not be worked on; the log says why") from error
        self._count("done")
        return found

    def _queued(self, digest: str, data: bytes, size: tuple[int, int], wanted: str) -> bytes:
        until = time.monotonic() + LIMIT_SECONDS
        job = _Job(digest=digest, data=data, size=size, format=wanted, until=until, done=Future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._count("busy")
            raise TooManyRequests(f"{QUEUE} pictures wait already; try again", retry_after=_AGAIN_SECONDS) from None
        either: tuple[Future[Any], ...] = (job.done, self._over)
        wait(either, LIMIT_SECONDS, FIRST_COMPLETED)
        if job.done.done():
            return job.done.result()
        job.done.cancel()
        if self._over.done():
            raise NotReady("the daemon is ending; try again when it is back")
        raise NotReady(f"the picture was not done within {LIMIT_SECONDS:.0f} s; try again later")

    def _cached(self, digest: str, wanted: str) -> bytes | None:
        with self._lock:
            entry = self._cache.get(digest)
            if entry is None:
                return None
            self._cache.move_to_end(digest)
            return entry.encoded.get(wanted)

    def _count(self, result: str) -> None:
        with self._lock:
            self._counts[result] += 1

    # --- in the thread of its own -------------------------------------------------------------------------------------

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # Linux: of this thread alone
        while (job := self._jobs.get()) is not None and not self._over.done():
            if not job.done.set_running_or_notify_cancel():
                continue
            try:
                job.done.set_result(self._made(job))
            except Exception as error:  # noqa: BLE001 - the top of a thread; who waits for the result raises it
                job.done.set_exception(error)

    def _made(self, job: _Job) -> bytes:
        with self._lock:
            entry = self._cache.get(job.digest)
        if entry is None:
            entry = self._estimated(job)
        encoded = entry.encoded.get(job.format) or encode(entry.depth, entry.size, job.format)
        with self._lock:
            entry.encoded[job.format] = encoded
            self._cache[job.digest] = entry
            self._cache.move_to_end(job.digest)
            while sum(each.bytes_held() for each in self._cache.values()) > _CACHE_BYTES:
                self._cache.popitem(last=False)
        return encoded

    def _estimated(self, job: _Job) -> _Entry:
        pixels = pictures.decode_upload(job.data, job.size, _SIDE_PX)
        now = time.monotonic()
        frame = Frame(sequence=0, captured_at=now, wall_time=datetime.now(UTC), pixels=pixels)
        scale = min(1.0, _MOST_SIDE_PX / max(job.size))
        width, height = (max(1, round(side * scale)) for side in job.size)
        lies, lay = pixels.shape[1] > pixels.shape[0], width > height
        size = (width, height) if lies == lay else (height, width)  # turned upright, which the header's are not
        return _Entry(depth=self._estimator.estimate(frame, job.until), size=size)


def encode(depth: DepthMap, size: tuple[int, int], wanted: str) -> bytes:
    """Return a depth map as the bytes of one of `FORMATS`: pictures in `size`, `npy` as the network says it."""
    if wanted == "npy":
        buffer = io.BytesIO()
        np.save(buffer, depth.inverse_depth, allow_pickle=False)
        return buffer.getvalue()
    if wanted == "json":
        return json.dumps(_readings(depth, size), allow_nan=False).encode()
    if wanted in ("png16", "grey"):
        values = np.asarray(cv2.resize(depth.inverse_depth, size, interpolation=cv2.INTER_LINEAR), np.float32)
        return heatmap.encode_png(heatmap.grey(values, 16 if wanted == "png16" else 8))
    section = HeatmapSection(width=max(64, size[0]), legend=False, scale="frame")
    picture = heatmap.render(MovingScene(()).update(depth), section)
    exact = cv2.resize(picture, size)  # the frame that was kept is small, and its aspect rounded
    return heatmap.encode_jpeg(np.asarray(exact, np.uint8), _QUALITY)


def _readings(depth: DepthMap, size: tuple[int, int]) -> dict[str, object]:
    """Return what there is to say of a single picture: it has no background, and its depth no unit."""
    height, width = depth.inverse_depth.shape
    low, high = heatmap.frame_range(depth.inverse_depth)
    return {
        "weights": depth.weights,
        "size": list(size),
        "network_size": [width, height],
        "inference_ms": round(depth.inference_seconds * 1000, 1),
        "inverse_depth": {"p2": round(low, 4), "p98": round(high, 4)},
        "reason": MovingScene(()).update(depth).reason,
    }


def add_uploads(app: Flask, uploads: Uploads) -> None:
    """Add what takes pictures, and a picture to try it with."""

    @app.post("/predict")
    def predict() -> Response:
        wanted = request.args.get("format", "jpg")
        if wanted not in FORMATS:
            raise BadRequest(f"format must be {', '.join(FORMATS)}, not {wanted[:40]!a}")
        content_type, name = FORMATS[wanted]
        response = Response(uploads.result(_sent(uploads.max_bytes), wanted), mimetype=content_type)
        response.headers["Content-Disposition"] = f'inline; filename="{name}"'
        return response

    @app.get("/example.jpg")
    def example() -> Response:
        return Response(_EXAMPLE.read_bytes(), mimetype="image/jpeg")


def _sent(max_bytes: int) -> bytes:
    """Return the picture that was sent.

    Raises:
        HTTPException: there is none, or it is too large.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("must be multipart/form-data with a file `image`, as `curl -F image=@FILE` sends it")
    file = request.files.get("image")
    if file is None:
        raise BadRequest("there is no file `image` in the form")
    data = file.stream.read()
    if len(data) > max_bytes:
        raise RequestEntityTooLarge(f"the picture has {len(data)} bytes; {max_bytes} are allowed")
    if not data:
        raise BadRequest("the file `image` is empty")
    return data


def _refusal(error: PictureError) -> HTTPException:
    """Return the status for a picture that is not taken: too large, of another kind, or damaged."""
    kinds: dict[str, Callable[[str], HTTPException]] = {
        "size": RequestEntityTooLarge,
        "kind": UnsupportedMediaType,
        "damage": UnprocessableEntity,
    }
    return kinds[error.fault](str(error))
