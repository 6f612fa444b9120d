"""What the process owes to systemd and to signals."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_handled(actions: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Let each signal do its action and nothing else; the handlers before are restored."""

    def handle(number: int, _: FrameType | None) -> None:
        actions[signal.Signals(number)]()

    before = {number: signal.signal(number, handle) for number in actions}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def notify(state: str) -> None:
    """Tell systemd; nothing where it does not listen (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
