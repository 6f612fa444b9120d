"""The connections of the page: how long they may take, how many there may be, and whose bodies are read at all.

One thread reads what everybody sends, and a request gets a worker once it is complete: so waitress works. What it has
no bounds for is added here. Headers and bodies have to be complete in time. A request with a body is judged by its
headers, and a body that is not let in is not kept. All bodies together have so much memory. Nobody is shut out by the
connections of others: a newcomer is taken, and where there are too many the one that waits longest is closed.
"""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, ServiceUnavailable, default_exceptions

from edge.web.access import network_of
from edge.web.answers import explain
from edge.web.app import HEADERS

Judge = Callable[[Mapping[str, Any]], HTTPException | int]

_CONNECTIONS = 80
_WAITING_OF_ONE = 20  # connections from one address that nobody works for; the idle ones of a proxy are among them
_BODIES_BYTES = 24 << 20  # of all requests that are not answered yet, beside one of the largest
_HEADER_SECONDS = 10.0  # until a request's headers are complete
_BODY_SECONDS, _BODY_BYTES_PER_SECOND = 20.0, 65_536  # until its body is: so long, and longer for a large one
_IDLE_SECONDS = 60.0  # until the next request, and for the end of the answer before
_FULL_SECONDS = 60.0  # that a worker waits for somebody who hardly takes what is sent
_LAST_SECONDS = 3.0  # for what is still on its way from somebody who was refused


class Request(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request that is being read; where a body is to follow, it is judged once its headers are complete."""

    error: Any  # None, or why it is not served
    path = ""  # of what is no request; waitress asks for it
    most_bytes = 0  # that its body may have; so much memory counts as taken
    body_due: float | None = None  # when the body has to be complete, in monotonic seconds; before that there is none

    def __init__(self, channel: "Channel", adj: Any) -> None:
        super().__init__(adj)
        self._channel = channel
        channel.due = min(channel.due, time.monotonic() + _HEADER_SECONDS)

    def received(self, data: bytes) -> int:
        """Take what has come, and return how much of it was for this request."""
        consumed: int = super().received(data)
        if self.body_rcv is not None and self.error is None:
            self.error = self._judged() if self.body_due is None else self._measured()
        if self.error is not None:
            self.completed = True
            self._channel.drops = True  # nothing that follows is a request
            consumed = len(data)
        if self.completed:
            self.expect_continue = False  # the answer says all
        return consumed

    def _judged(self) -> HTTPException | None:
        """Return why the body is not let in, or None: then it is read from here on."""
        server = self._channel.server
        found = server.judge(WSGITask(self._channel, self).get_environment())
        if isinstance(found, HTTPException):
            return found
        size = found if self.chunked else self.content_length
        if server.bodies_bytes() + size > _BODIES_BYTES + self.adj.max_request_body_size:
            return ServiceUnavailable("too much is being sent at once; try again", retry_after=3)
        self.most_bytes = size
        self.body_due = time.monotonic() + _BODY_SECONDS + size / _BODY_BYTES_PER_SECOND
        return None

    def _measured(self) -> HTTPException | None:
        """Return why no more is read; only a body in chunks does not say before how long it is."""
        if self.body_bytes_received <= self.most_bytes:
            return None
        return RequestEntityTooLarge(f"{self.body_bytes_received} bytes; {self.most_bytes} are allowed")


class Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answers what does not reach the application: in JSON like everything else."""

    def execute(self) -> None:
        error = self.request.error
        if not isinstance(error, HTTPException):  # waitress found it
            error = default_exceptions[error.code](error.body)
        answer = explain(error)
        answer.headers.update(HEADERS | {"Cache-Control": "no-store"})
        self.status = answer.status
        self.response_headers = list(answer.headers)
        self.content_length = len(answer.data)
        self.set_close_on_finish()
        self.write(answer.data)


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One connection."""

    close_when_flushed: bool
    error_task_class = Refusal
    drops = False  # somebody was refused: what else he sends is not looked at

    def __init__(self, server: "Server", sock: socket.socket, addr: Any, adj: Any, **more: Any) -> None:
        self.network = network_of(addr[0])
        self.parser_class = partial(Request, self)
        self.since = time.monotonic()  # it waits: since it came, or since its last request was answered
        self.due = self.since + _HEADER_SECONDS
        self._roomy_at = self.since
        super().__init__(server, sock, addr, adj, **more)

    def keep_time(self, now: float) -> None:
        """Note what is being done for it at this moment."""
        if self.total_outbufs_len <= self.adj.outbuf_high_watermark:
            self._roomy_at = now
        if self.requests:
            self.since, self.due = now, now + _IDLE_SECONDS

    def is_late(self, now: float) -> bool:
        """Return whether it has had its time."""
        if self.requests:
            return now - self._roomy_at > _FULL_SECONDS
        return now > ((self.request and self.request.body_due) or self.due)

    def received(self, data: bytes) -> bool:
        """Take what has come."""
        if self.drops:
            return True
        taken: bool = super().received(data)
        self.keep_time(time.monotonic())
        return taken

    def handle_write(self) -> None:
        """Send on; who was refused may finish what he is sending.

        Closed with something unread a connection is reset, and the answer may be lost.
        """
        if not (self.drops and self.close_when_flushed):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            self.close_when_flushed = False
            self.due = time.monotonic() + _LAST_SECONDS
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def handle_expt(self) -> None:
        """End who sends urgent bytes: no browser does, and as long as they lie there they wake this thread."""
        self.handle_close()


class Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Waitress with bounds for those who are not let in, or send slowly.

    `judge` returns of a request's headers how many bytes the body may have, or why it is not let in.
    """

    channel_class = Channel

    def __init__(self, application: Any, judge: Judge, listener: socket.socket, **settings: Any) -> None:
        self.judge = judge
        self.logger.setLevel(logging.WARNING)  # who comes and goes is no news, and words of theirs would be in it
        kind = (listener.family, listener.type, listener.proto, listener.getsockname())
        # its own limit would have newcomers wait
        limit = 2 * _CONNECTIONS
        super().__init__(
            application, _sock=listener, bind_socket=False, sockinfo=kind, connection_limit=limit, **settings
        )

    def run(self) -> None:
        """Serve until every connection is closed."""
        while self._map:
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)
            now = time.monotonic()
            for channel in list(self.active_channels.values()):
                channel.keep_time(now)
                if channel.is_late(now):
                    channel.handle_close()

    def bodies_bytes(self) -> int:
        """Return how much memory the bodies that are read or worked on may take."""
        channels = list(self.active_channels.values())
        requests = [request for channel in channels for request in (*channel.requests, channel.request)]
        return sum(request.most_bytes for request in requests if request)

    def handle_accept(self) -> None:
        """Take a newcomer, and close the connection that waits longest where there are too many."""
        super().handle_accept()
        channels = list(self.active_channels.values())  # in the order in which they came
        waiting = [channel for channel in channels if not channel.requests]
        of_one = [channel for channel in waiting if channel.network == channels[-1].network] if channels else []
        if len(of_one) > _WAITING_OF_ONE:
            waiting = of_one
        elif len(channels) <= _CONNECTIONS:
            return
        min(waiting, key=lambda channel: channel.since).handle_close()
