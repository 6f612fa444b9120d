"""The HTTP server of the page: waitress on a loopback address, in a thread of its own."""

import logging
import socket
import threading

import waitress
from waitress import wasyncore

from edge.config import split_address
from edge.errors import EdgeError, ThreadStuck
from edge.web.app import Board, create_app

logger = logging.getLogger(__name__)

_THREADS = 6  # a browser opens as many connections to one server, so none of its requests waits for another
_STOP_SECONDS = 5.0


class WebServer:
    """The page of `board` at the address `listen`, `host:port`; port 0 takes a free one."""

    def __init__(self, listen: str, board: Board) -> None:
        self._host, self._port = split_address(listen)
        self._board = board

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
        self._port = listener.getsockname()[1]
        self._server = waitress.create_server(
            create_app(self._board, allowed_hosts=_names(self._host, self._port)),
            sockets=[listener],
            threads=_THREADS,
            connection_limit=50,
            max_request_header_size=16_384,
            max_request_body_size=16_384,
            asyncore_use_poll=True,
            ident=None,
        )
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the threads.

        Raises:
            ThreadStuck: the server does not end in 5 s.
        """
        # waitress has no way to stop from another thread; its own thread ends when its map of connections is empty.
        connections = self._server._map
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


def _names(host: str, port: int) -> frozenset[str]:
    """Return what a browser on this machine may call the server in its Host header."""
    names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
    bare = names if port == 80 else set()  # browsers leave out the standard port
    return frozenset({f"{name}:{port}" for name in names} | bare)
