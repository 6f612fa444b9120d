"""The newest results, for whoever wants to look: the page, the demo's table."""

import threading
from collections.abc import Callable
from typing import Any


class Board:
    """Holds the newest of each; written by the depth thread, read by the web server's.

    `heatmap` returns the newest heatmap's sequence number and JPEG, drawn when it is asked for; null before the first.
    """

    def __init__(
        self,
        info: dict[str, Any],
        health: Callable[[], dict[str, Any]],
        heatmap: Callable[[], tuple[int, bytes] | None],
    ) -> None:
        self.health = health
        self.heatmap = heatmap
        # Guards the two that follow.
        self._lock = threading.Lock()
        self._state: dict[str, Any] | None = None
        self._info = info

    def put(self, *, state: dict[str, Any] | None = None, info: dict[str, Any] | None = None) -> None:
        """Replace what is given."""
        with self._lock:
            self._state = state or self._state
            self._info = info or self._info

    def state(self) -> dict[str, Any] | None:
        """Return the newest reading as the topic `state` has it, or null before the first."""
        with self._lock:
            return self._state

    def info(self) -> dict[str, Any]:
        """Return what the daemon is, as the topic `info` has it."""
        with self._lock:
            return self._info
