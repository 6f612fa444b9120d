"""What the process owes to systemd and to signals."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


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
    """Tell systemd; nothing where it does not listen (sd_notify(3)) or does no longer."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def status_text(health: Mapping[str, Any], state: Mapping[str, Any] | None) -> str:
    """Return one line for `systemctl status`: frames a second, what is nearest, whether the broker is there.

    `health` and `state` are those of the topics; `state` is null before the first reading.
    """
    parts = [f"{health['fps']:g} fps"]
    if health["camera"] != "online":
        parts = [f"camera {health['camera']}"]
    elif state:
        parts.append(_nearest(state))
    if "mqtt_connected" in health:
        parts.append("broker connected" if health["mqtt_connected"] else f"broker: {health['mqtt_problem']}")
    return ", ".join(parts)


def _nearest(state: Mapping[str, Any]) -> str:
    nearest, scene = state["nearest"], state["scene"]["state"]
    if nearest is None:
        return "nothing near" if scene == "tracking" else f"scene {scene}"
    metres = nearest["distance_m"]
    return f"nearest {nearest['nearness']:.2f}" if metres is None else f"nearest {metres:.2f} m"
