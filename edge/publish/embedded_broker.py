"""An MQTT broker inside this process, for the demo: nothing to install, nothing to configure."""

import asyncio
import logging
import socket
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from edge.errors import EdgeError, ThreadStuck

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_STOP_SECONDS = 5.0


class EmbeddedBroker:
    """A broker on a free port of 127.0.0.1, open to every program of this machine; it forgets all when it stops.

    While inside the `with`, `port` is where it listens.

    Raises:
        EdgeError: on entering: amqtt is not installed or the broker does not start.
        ThreadStuck: on leaving: the broker does not stop within 5 s.
    """

    port: int

    def __init__(self) -> None:
        self._started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def __enter__(self) -> Self:
        _quieten()
        self._thread.start()
        self.port, self._loop, self._leave = self._started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise ThreadStuck(f"the embedded broker did not stop within {_STOP_SECONDS:g} s")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # the top of the thread
            if self._started.done():
                logger.exception("the embedded broker failed")
            else:
                self._started.set_exception(EdgeError(f"the embedded broker does not start: {error}"))

    async def _serve(self) -> None:
        port, leave = _free_port(), asyncio.Event()
        broker = _make_broker(port)
        await broker.start()
        self._started.set_result((port, asyncio.get_running_loop(), leave))
        await leave.wait()
        await broker.shutdown()


def _make_broker(port: int) -> Any:
    try:
        from amqtt.broker import Broker
    except ImportError as error:
        raise EdgeError("it needs amqtt: pip install 'edge-depth[demo]'") from error
    return Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def _quieten() -> None:
    """Silence what amqtt tells of every client and every change of a state machine."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.WARNING)
