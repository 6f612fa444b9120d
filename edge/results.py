"""The newest results, for whoever wants to look: the page, its streams, the demo's table."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, get_args

View = Literal["depth", "blend", "picture"]
VIEWS: tuple[View, ...] = get_args(View)
PICTURES: tuple[View, ...] = ("blend", "picture")  # they hold the camera's pixels, and need publish.picture

_HISTORY = 600
_HISTORY_SECONDS = 1.0  # between two entries: ten minutes in all


class Board:
    """Holds the newest of each; written by the depth thread, read by the web server's.

    A view is a picture for the page alone, without a legend: it is made only while somebody watches it, and once for
    all of them. `on_watch()` is called when somebody begins to. `heatmap` returns the newest heatmap's sequence number
    and JPEG, drawn when it is asked for; null before the first.
    """

    def __init__(
        self,
        info: dict[str, Any],
        health: Callable[[], dict[str, Any]],
        heatmap: Callable[[], tuple[int, bytes] | None],
    ) -> None:
        self.health = health
        self.heatmap = heatmap
        self.on_watch: Callable[[], object] = lambda: None
        # Guards all that follows; notified of every new state, view and information, and of the end.
        self._changed = threading.Condition()
        self._states = self._shown = 0  # how many there were
        self._state: dict[str, Any] | None = None
        self._views: dict[View, tuple[int, bytes]] = {}
        self._viewers = dict.fromkeys(VIEWS, 0)
        self._pictures = False
        self._info = info
        self._history: deque[tuple[float, float | None, float | None]] = deque(maxlen=_HISTORY)
        self._closed = False

    def put(self, *, state: dict[str, Any] | None = None, info: dict[str, Any] | None = None) -> None:
        """Replace what is given."""
        with self._changed:
            if state:
                self._state = state
                self._states += 1
                self._remember(state)
            self._info = info or self._info
            self._changed.notify_all()

    def show(self, view: View, jpeg: bytes) -> None:
        """Replace what those who watch a view see."""
        with self._changed:
            if view in self._allowed():
                self._shown += 1
                self._views[view] = self._shown, jpeg
                self._changed.notify_all()

    def allow_pictures(self, allowed: bool) -> None:
        """Let the camera's own picture be shown, or no longer."""
        with self._changed:
            self._pictures = allowed
            self._views = {view: shown for view, shown in self._views.items() if view in self._allowed()}
            self._changed.notify_all()

    def views(self) -> tuple[View, ...]:
        """Return the views that may be watched."""
        with self._changed:
            return self._allowed()

    def _allowed(self) -> tuple[View, ...]:
        return VIEWS if self._pictures else tuple(view for view in VIEWS if view not in PICTURES)

    def forget_pictures(self) -> None:
        """Keep no picture that was made so far."""
        with self._changed:
            self._views.clear()

    def close(self) -> None:
        """Let whoever waits here go, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def state(self) -> dict[str, Any] | None:
        """Return the newest reading as the topic `state` has it, or null before the first."""
        with self._changed:
            return self._state

    def info(self) -> dict[str, Any]:
        """Return what the daemon is, as the topic `info` has it."""
        with self._changed:
            return self._info

    def history(self) -> list[Sequence[float | None]]:
        """Return the last ten minutes: Unix time, nearness and metres of the nearest, null where there was none."""
        with self._changed:
            return list(self._history)

    def wanted(self) -> tuple[View, ...]:
        """Return the views that somebody watches."""
        with self._changed:
            return tuple(view for view in self._allowed() if self._viewers[view])

    @contextmanager
    def watching(self, view: View) -> Iterator[None]:
        """Have a view made for as long as this lasts."""
        with self._changed:
            self._viewers[view] += 1
        self.on_watch()
        try:
            yield
        finally:
            with self._changed:
                self._viewers[view] -= 1
                if not self._viewers[view]:
                    self._views.pop(view, None)

    def next_state(self, after: int, timeout: float) -> tuple[int, dict[str, Any] | None]:
        """Wait for a reading after the first `after` ones; return how many there were, and the newest.

        After `timeout` seconds, and at the end, they are the same ones again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._states > after, timeout)
            return self._states, self._state

    def next_view(self, view: View, after: int, timeout: float) -> tuple[int, bytes] | None:
        """Wait for a picture of a view that is newer than `after`; return the newest there is.

        Null where there is none yet after `timeout` seconds, and at the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._views.get(view, (0, b""))[0] > after, timeout)
            return None if self._closed else self._views.get(view)

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._closed

    def _remember(self, state: dict[str, Any]) -> None:
        nearest, moment = state.get("nearest") or {}, datetime.fromisoformat(state["time"]).timestamp()
        if not self._history or abs(moment - self._history[-1][0]) >= _HISTORY_SECONDS:  # a clock may be set back
            self._history.append((moment, nearest.get("nearness"), nearest.get("distance_m")))
