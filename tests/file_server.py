"""A real HTTP server that gives one file, well or badly, on a free port."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is given, and how; `requests` holds the path and the headers of each request that came.

    `cut` bytes are sent of the first answer, then the connection is closed. `length` is what is claimed in place of the
    truth, `status` and `location` make another answer, `ranges` says whether a part can be had.
    """

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    cut: int | None = None
    cuts: int = 1
    length: int | None = None
    status: int = 200
    location: str | None = None
    kind: str = "application/octet-stream"
    encoding: str | None = None
    ranges: bool = True
    shift: int = 0  # how far a part begins from where it was asked for
    hang: bool = False
    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def starts(self) -> list[str | None]:
        """Return the Range header of each request."""
        return [headers.get("Range") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    file: FileServer

    def do_GET(self):
        it = self.file
        it.requests.append((self.path, dict(self.headers)))
        if it.hang:
            it.released.wait(30)
            return
        if it.status != 200:
            self.send_response(it.status)
            if it.location is not None:
                self.send_header("Location", it.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self._start()
        if start >= len(it.data) and start:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(start)

    def _start(self) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (self.file.etag, self.file.modified)
        return int(asked[1]) if asked and same and self.file.ranges else 0

    def _send(self, start: int) -> None:
        it = self.file
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + it.shift}-{len(it.data) - 1}/{len(it.data)}")
        length = len(it.data) - start if it.length is None else it.length
        named = {"ETag": it.etag, "Last-Modified": it.modified, "Content-Encoding": it.encoding}
        values = {"Content-Type": it.kind, "Content-Length": None if length < 0 else str(length)} | named
        for name, value in values.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        end = len(it.data)
        if it.cut is not None and it.cuts:
            it.cuts -= 1
            end = start + it.cut
        self.wfile.write(it.data[start:end])

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def served(data: bytes, tls: ssl.SSLContext | None = None, **options) -> Iterator[FileServer]:
    """Serve `data` at `url` until the end of the block; the options are those of FileServer and may change."""
    file = FileServer(data, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"file": file}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    file.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/w.pt"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield file
    finally:
        file.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
