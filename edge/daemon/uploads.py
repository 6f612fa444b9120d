"""The network for uploaded pictures: run by the depth thread between two frames, for a small share of its time."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as WaitedTooLong
from typing import Protocol

from edge.errors import NotReady
from edge.records import DepthMap, Frame

# Of the depth thread's time; a live pipeline that needs all of it keeps the rest, whatever is uploaded.
SHARE = 0.12
_LOADING = "the network is being loaded, or the daemon is ending; try again later"


class Model(Protocol):
    """What runs the network, in the depth thread alone."""

    def estimate(self, frame: Frame) -> DepthMap: ...


class SpareTime:
    """Gives uploads their turns.

    One thread uses it. `model()` returns the model, None while there is none; `soon` has something done between two
    frames, or returns false: `DepthLoop.between_frames`. `pause` waits for so many seconds and returns whether the
    daemon stops, which ends the wait.
    """

    def __init__(
        self,
        model: Callable[[], Model | None],
        soon: Callable[..., bool],
        pause: Callable[[float], bool],
    ) -> None:
        self._model = model
        self._soon = soon
        self._pause = pause
        self._due = 0.0

    def estimate(self, frame: Frame, until: float) -> DepthMap:
        """Wait for a turn and return what the network says; `until` is in monotonic seconds.

        Raises:
            NotReady: there was no turn until then.
            EngineError: the network failed.
        """
        stopping = self._pause(max(0.0, min(self._due, until) - time.monotonic()))
        model = self._model()
        if stopping or model is None:
            raise NotReady(_LOADING)
        done: Future[DepthMap] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return
            begun = time.monotonic()
            try:
                done.set_result(model.estimate(frame))
            except Exception as error:  # noqa: BLE001 - raised where it is waited for; live readings go on
                done.set_exception(error)
            now = time.monotonic()
            self._due = now + (now - begun) * (1 / SHARE - 1)

        if not self._soon(work, done.cancel):
            raise NotReady("too much waits for the depth thread already; try again later")
        try:
            return done.result(max(0.0, until - time.monotonic()))
        except CancelledError:
            raise NotReady(_LOADING) from None
        except WaitedTooLong:
            done.cancel()
            raise NotReady("the depth thread had no time for it; try again later") from None
