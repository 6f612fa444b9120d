"""The HTTP server of the page: waitress, in threads of its own."""

import logging
import socket
import threading
import time
from contextlib import suppress

from waitress import wasyncore

from edge.config import WebSection, split_address
from edge.errors import EdgeError, ThreadStuck
from edge.results import Board
from edge.web.access import Access
from edge.web.app import FORM_BYTES, create_app, make_judge
from edge.web.connections import Server
from edge.web.setup import Counter
from edge.web.streams import STREAMS
from edge.web.uploads import QUEUE, Estimator, Uploads

logger = logging.getLogger(__name__)

# waitress gives every request a thread until it is answered. Streams and those who wait for their picture's depth may
# hold all that they are allowed, and there are still as many left as a browser opens connections to one server.
_THREADS = 2 * STREAMS + QUEUE + 1 + 6
_STOP_SECONDS = 5.0
_LAST_WORDS_SECONDS = 1.0  # for what is being answered, streams among it
_SILENT_MS = 20_000  # until a client that takes nothing any more counts as gone


class WebServer:
    """The page of `board` as `section` has it; port 0 of `listen` takes a free one.

    `estimator` runs the network for uploads, `counter` takes what is changed on the page.

    Raises:
        ConfigError: there is no token where one is needed.
    """

    def __init__(self, section: WebSection, board: Board, *, estimator: Estimator, counter: Counter) -> None:
        self._host, self._port = split_address(section.listen or "127.0.0.1:0")
        self._section = section
        self._token = section.read_token()
        self._board = board
        self._counter = counter
        self._uploads = Uploads(estimator, max_bytes=section.upload_bytes, max_pixels=section.upload_pixels)

    @property
    def url(self) -> str:
        """Where the page is; with port 0 known once the server is started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/"

    def start(self) -> None:
        """Listen and answer from now on.

        Raises:
            EdgeError: the address can't be had.
        """
        listener = self._listen()
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)  # its connections inherit it
        self._port = listener.getsockname()[1]
        access = Access(
            _names(self._host, self._section.names),
            self._port,
            any_address=not self._section.is_loopback,
            token=self._token,
        )
        body_bytes = self._section.upload_bytes + FORM_BYTES
        app = create_app(self._board, access, uploads=self._uploads, counter=self._counter)
        self._server = Server(
            app,
            make_judge(app, upload_bytes=self._section.upload_bytes),
            listener,
            threads=_THREADS,
            max_request_header_size=16_384,
            max_request_body_size=body_bytes,
            inbuf_overflow=body_bytes + 1,  # never into a file: nothing that is uploaded is stored
            outbuf_overflow=64 << 20,
            outbuf_high_watermark=256 << 10,  # a slow viewer gets fewer pictures, not all of them late
            channel_request_lookahead=1,  # so that a viewer who goes is noticed
            ident=None,
        )
        self._server.adj.send_bytes = 1  # events are short, and are wanted at once; as an argument it is deprecated
        self._uploads.start()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the threads.

        Raises:
            ThreadStuck: the server does not end in 5 s.
        """
        self._board.close()
        self._uploads.stop()
        ends_at = time.monotonic() + _LAST_WORDS_SECONDS
        while self._server.task_dispatcher.active_count and time.monotonic() < ends_at:
            time.sleep(0.01)
        # waitress has no way to stop from another thread; its own thread ends when its map of connections is empty.
        connections = self._server._map
        with suppress(OSError):  # woken by an answer that was just done it may have closed already, trigger included
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(connections, ignore_all=True))
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise ThreadStuck(f"the web thread has not ended in {_STOP_SECONDS:.0f} s")
        self._server.task_dispatcher.shutdown(timeout=_STOP_SECONDS)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            reason = (error.strerror or str(error)).partition(" (while")[0]  # what follows repeats the address
            raise EdgeError(f"web.listen: can't listen at {self.url}: {reason}; give it another port") from error

    def _run(self) -> None:
        try:
            self._server.run()
        except Exception:
            logger.exception("the page has failed; the daemon goes on without it")


def _names(host: str, others: tuple[str, ...]) -> set[str]:
    """Return what browsers may call this machine: names that nobody else can point at it, and those configured."""
    names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
    machine = socket.gethostname().lower()
    return names | {machine, f"{machine}.local", *others} - {""}
