"""What the process owes to systemd and to signals."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from edge.daemon.reloading import Answer
from edge.errors import ConfigError


@contextmanager
def signals_handled(numbers: Iterable[signal.Signals], action: Callable[[], object]) -> Iterator[None]:
    """Let these signals do `action` and nothing else; the handlers before are restored."""

    def handle(_: int, __: FrameType | None) -> None:
        action()

    before = {number: signal.signal(number, handle) for number in numbers}
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


def status_text(
    health: Mapping[str, Any],
    state: Mapping[str, Any] | None,
    reloaded: Answer | None = None,
    restart_required: Iterable[str] = (),
) -> str:
    """Return one line for `systemctl status`: frames a second, what is nearest, broker, and what needs somebody.

    `health` and `state` are those of the topics; `state` is None before the first reading. `reloaded` is what has come
    of reading the configuration's file again.
    """
    parts = [f"{health['fps']:g} fps"]
    if health["camera"] != "online":
        parts = [f"camera {health['camera']}"]
    elif state:
        parts.append(_nearest(state))
    if "mqtt_connected" in health:
        parts.append("broker connected" if health["mqtt_connected"] else f"broker: {health['mqtt_problem']}")
    return ", ".join([*parts, *_about_configuration(reloaded, restart_required)])


def _about_configuration(reloaded: Answer | None, restart_required: Iterable[str]) -> list[str]:
    parts = []
    if reloaded and not reloaded.done():
        parts.append("configuration: takes something away, and waits for it to stay so")
    elif reloaded and (error := reloaded.exception()):
        parts.append(f"configuration refused: {_place(error)}, see the log")
    if waiting := ", ".join(restart_required):
        parts.append(f"restart needed for: {waiting}")
    return parts


def _place(error: BaseException) -> str:
    """Return where the first problem is. Everybody may read a unit's status, but not what stands in the file."""
    problems = error.problems if isinstance(error, ConfigError) else (type(error).__name__,)
    return ": ".join(problems[0].partition(";")[0].split(": ")[:2])


def _nearest(state: Mapping[str, Any]) -> str:
    nearest, scene = state["nearest"], state["scene"]["state"]
    if nearest is None:
        return "nothing near" if scene == "tracking" else f"scene {scene}"
    metres = nearest["distance_m"]
    return f"nearest {nearest['nearness']:.2f}" if metres is None else f"nearest {metres:.2f} m"
