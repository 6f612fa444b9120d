"""Where commands are taken: heard in the threads of broker and page, obeyed in the depth thread between two frames."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as WaitedTooLong
from functools import partial
from typing import Any, Protocol

from edge.config import dump, options, value_at
from edge.daemon import control
from edge.daemon.control import Refused, Request, Setting
from edge.daemon.overlay import CALIBRATION, Overlay
from edge.daemon.setup import Setup
from edge.errors import Busy, EdgeError, Stale
from edge.limits import RateLimit
from edge.publish import messages
from edge.records import Message
from edge.scene import SceneModel, StillScene
from edge.scene.metres import read_points
from edge.topics import Topics

logger = logging.getLogger(__name__)

_BURST, _PER_SECOND = 20, 5.0  # a slider that is dragged, not a program gone wild
_ANSWER_SECONDS = 10.0

Obey = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Works(Protocol):
    """The daemon as commands see it."""

    overlay: Overlay

    @property
    def scene(self) -> SceneModel:
        """The scene model in use."""

    def apply(self) -> None:
        """Go by what the overlay says now."""

    def reload(self) -> Future[dict[str, Any]]:
        """Read the file again; the answer is what needs a restart, or a ConfigError, perhaps ten seconds later."""

    def restart(self) -> None:
        """Stop, and start anew in a fresh process."""

    def take_snapshot(self) -> dict[str, Any]:
        """Publish a snapshot; return which one, or raise EdgeError."""


class Desk:
    """Takes commands from the broker and from the page, and answers them.

    `soon` has something done between two frames, or returns false: `DepthLoop.between_frames`.
    """

    def __init__(
        self,
        works: Works,
        topics: Topics,
        publish: Callable[[Message], None],
        soon: Callable[..., bool],
    ) -> None:
        self._works = works
        self._topics = topics
        self._publish = publish
        self._soon = soon
        self._limit = RateLimit(_BURST, _PER_SECOND)
        self.refused = 0
        self._commands: Mapping[str, Obey] = {
            "snapshot": self._snapshot,
            "relearn": self._relearn,
            "calibrate": self._calibrate,
            "restart": self._restart,
            "get_config": self._get_config,
        }
        self._setup = setup = Setup(works)
        self._of_page: Mapping[str, Obey] = {
            "setup": setup.current,
            "propose": setup.propose,
            "apply": setup.apply,
            "undo": setup.undo,
            "confirm": setup.confirm,
            "relearn": self._relearn,
        }

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a message; what can't be understood is refused, and what comes too fast is dropped without an answer."""
        if not self._limit.takes(time.monotonic()):
            self._count(f"more than {_BURST} commands at once, or {_PER_SECOND:g} a second, are not taken")
            return
        try:
            command = control.parse(self._topics, topic, payload)
        except Refused as refused:
            self._refuse(str(refused), refused.command, refused.transaction)
            return
        if not self._soon(partial(self._obey, command)):
            asked = (command.command, command.transaction) if isinstance(command, Request) else (None, None)
            self._refuse("too many commands wait already", *asked)

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a command of the page obeyed, and return the answer; from any thread but the depth thread.

        Raises:
            EdgeError, Stale: it is refused.
            Busy: it was not its turn in time; it is not obeyed later either.
        """
        answer: Future[Mapping[str, Any]] = Future()

        def obey() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(self._carried_out(self._of_page[command], arguments))
            except Exception as error:  # raised where it was asked; readings go on
                if not isinstance(error, EdgeError | Stale):
                    logger.exception("failed for the page: %s", command)
                answer.set_exception(error)

        if not self._soon(obey, answer.cancel):
            raise Busy("too many commands wait already")
        try:
            found = answer.result(_ANSWER_SECONDS)
        except CancelledError:
            raise Busy("the daemon is ending; try again when it is back") from None
        except WaitedTooLong:
            if answer.cancel():
                raise Busy("the daemon is still starting, or has too much to do; try again") from None
            return answer.result()
        if command not in ("setup", "propose"):
            logger.info("done for the page: %s", command)
        return found

    def tell_settings(self) -> None:
        """Publish what every option is set to."""
        config = self._works.overlay.config
        for option, key in options(config).items():
            self._publish(messages.setting_message(self._topics, option, value_at(config, key)))

    def _count(self, reason: str) -> None:
        self.refused += 1
        logger.warning("command refused: %s", reason)

    def _refuse(self, reason: str, command: str | None = None, transaction: str | int | None = None) -> None:
        self._count(f"{command}: {reason}" if command else reason)
        if command:
            self._publish(messages.response_message(self._topics, command, transaction, {"error": reason}))

    def _carried_out(self, obey: Obey, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Obey all of it or nothing, and return the answer."""
        with self._works.overlay.kept_on_failure(self._works.apply):
            return obey(arguments)

    def _obey(self, command: Setting | Request) -> None:
        if isinstance(command, Setting):
            self._answer(command, partial(self._carried_out, self._set, {command.key: command.value}))
        elif command.command == "reload":
            self._works.reload().add_done_callback(lambda done: self._answer(command, done.result))
        else:
            self._answer(command, partial(self._carried_out, self._commands[command.command], command.arguments))

    def _answer(self, command: Setting | Request, obey: Callable[[], Mapping[str, Any]]) -> None:
        """Obey a command of the broker and answer a request; whatever it fails of is its answer, and readings go on."""
        try:
            answer = obey()
            if isinstance(command, Setting):
                return
            response = messages.response_message(self._topics, command.command, command.transaction, answer)
        except EdgeError as error:
            self._refuse_obeying(command, str(error))
        except Exception as error:
            logger.exception("command failed")
            self._refuse_obeying(command, f"it failed ({type(error).__name__}); the log says why")
        else:
            logger.info("command obeyed: %s", command.command)
            self._publish(response)

    def _refuse_obeying(self, command: Setting | Request, reason: str) -> None:
        if isinstance(command, Request):
            self._refuse(reason, command.command, command.transaction)
        else:
            self._refuse(f"{command.option}: {reason}")
            self.tell_settings()  # who set it sees that it does not stand

    def _set(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        self._works.overlay.set_all(values)
        self._works.apply()
        for key, value in values.items():
            logger.info("set: %s = %s", key, value)
        return {}

    def _snapshot(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._works.take_snapshot()

    def _relearn(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self._still_scene().relearn()
        return {}

    def _still_scene(self) -> StillScene:
        scene = self._works.scene
        if not isinstance(scene, StillScene):
            raise EdgeError("a camera that moves (scene.mode: moving) has no background")
        return scene

    def _calibrate(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Use other points or another floor, or with points null the file's own; refuse what gives no line."""
        scene, overlay = self._still_scene(), self._works.overlay
        if not arguments:
            raise EdgeError('give "points": [{"x": …, "y": …, "metres": …}, …], or null to go back to the file\'s')
        if scene.reference is None:
            raise EdgeError("calibration: there is no background to fit to yet; wait until it is learned")
        file = value_at(overlay.file, CALIBRATION)
        bare = {"points": [], "floor": None, "max_metres": file["max_metres"]}
        wanted = file if arguments.get("points", ...) is None else bare | dict(arguments)
        fit, written = self._setup.change({CALIBRATION: wanted})
        section, reference = overlay.config.calibration, scene.reference
        if fit is None or reference is None:
            return {"points": [], "written": written}
        reads = read_points(fit, section.points, reference.median, reference.sigma)
        points = [
            point.model_dump() | {"read_m": None if read.distance_m is None else round(read.distance_m, 3)}
            for point, read in zip(section.points, reads, strict=True)
        ]
        residual = None if fit.residual is None else round(fit.residual, 5)
        return {"points": points, "residual": residual, "written": written}

    def _restart(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self._works.restart()
        return {}

    def _get_config(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        overlay = self._works.overlay
        return {"config": dump(overlay.config), "set": overlay.values}
