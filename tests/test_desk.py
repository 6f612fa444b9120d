"""Commands as the depth thread obeys them: whatever comes is answered, ends nothing, and holds as a whole or not."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.config import Config, changed, value_at
from edge.daemon import Daemon
from edge.daemon.control import COMMANDS
from edge.daemon.desk import Desk
from edge.daemon.setup import KEYS
from edge.errors import EdgeError, Stale
from edge.files import parse_object
from edge.limits import RateLimit
from edge.records import DepthMap, Frame, Message
from edge.state.place import Place
from tests.page_rig import DOOR, WINDOW, room

FILE = Config.model_validate(
    {
        "id": "hall",
        "camera": {"source": str(Path(__file__).parents[1] / "edge" / "data" / "photos")},
        "scene": {"learn_seconds": 1.0, "horizontal_fov_deg": 60.0},
        "zones": ({"name": "door", "polygon": DOOR}, {"name": "window", "polygon": WINDOW}),
        "triggers": ({"name": "visitor", "zone": "door", "measure": "nearness", "near": 0.9, "clear": 0.8},),
        "mqtt": {"enabled": False},
        "publish": {"persist_settings": True},
        "power": {"max_rss": None},
    }
)


class Invented:
    """A network that sees an invented room."""

    def estimate(self, frame: Frame) -> DepthMap:
        return replace(room(frame.sequence, visitor=False), frame=frame)


class Failures(logging.Handler):
    """Keeps what is told with a traceback: a command that failed of something that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.told.append(record.exc_info[1])


class Rig:
    """A daemon that does not run: this thread is its depth thread, and what it publishes is kept."""

    def __init__(self, state: Path) -> None:
        self.file = FILE
        self.daemon = Daemon(FILE, place=Place(state, "hall"), read_file=lambda: self.file)
        self.published: list[Message] = []
        self.desk = Desk(self.daemon, self.daemon.topics, self.published.append, self.now)
        self.desk._limit = RateLimit(10**6, 1.0)
        self.failures = Failures()
        logging.getLogger("edge").addHandler(self.failures)
        self.sequence, self.begun = 0, time.monotonic() - 10
        while not self.daemon.scene.reference:
            self.see()

    def now(self, action: Callable[[], None], *_: object) -> bool:
        action()
        return True

    def see(self) -> None:
        """Read the next frame, a tenth of a second after the last one."""
        self.sequence += 1
        frame = room(self.sequence, visitor=False).frame
        self.daemon._depth._read(Invented(), replace(frame, captured_at=self.begun + self.sequence / 10))

    def hear(self, topic: str, payload: bytes) -> list[Message]:
        """Take a message as the network thread does; return what it is answered."""
        self.published.clear()
        if not self.daemon._announcer.hear(topic, payload):
            self.desk.hear(topic, payload)
        return [message for message in self.published if "/response/" in message.topic]

    def check(self) -> None:
        """Nothing has failed; what is in force is what was set; readings go on."""
        assert [] == self.failures.told
        wanted, found = self.daemon.overlay.config, self.daemon._config
        assert wanted == found.model_copy(update={"camera": wanted.camera})
        assert wanted.camera.privacy_masks == found.camera.privacy_masks


CALIBRATE = "edge-depth/hall/request/calibrate"
POINTS = [{"x": 0.9, "y": y, "metres": metres} for y, metres in ((0.95, 1.0), (0.75, 1.6), (0.5, 4.0))]
ENTRANCES: dict[str, Callable[[Rig], object]] = {
    "calibrate": lambda rig: rig.hear(CALIBRATE, json.dumps({"points": POINTS}).encode()),
    "near": lambda rig: rig.hear("edge-depth/hall/trigger/visitor/near/set", b"0.95"),
    "reload": lambda rig: rig.hear("edge-depth/hall/request/reload", b""),
    "apply": lambda rig: rig.desk.ask("apply", {"calibration": {"points": POINTS}, **revision(rig)}),
    "undo": lambda rig: rig.desk.ask("undo", {}),
}


def revision(rig: Rig) -> dict[str, Any]:
    return {"revision": rig.desk.ask("setup", {})["revision"]}


def deep(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


def test_an_object_of_many_levels_is_refused(tmp_path: Path):
    """As an answer that says how many are allowed: Python's stack is not enough for all that is done with it."""
    rig = Rig(tmp_path)
    (answer,) = rig.hear(CALIBRATE, b'{"floor": ' + deep(498).encode() + b"}")
    assert "must have 20 levels of brackets at most" == json.loads(answer.payload)["error"]
    rig.check()


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_what_fails_is_answered_and_holds_not_even_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entrance: str
):
    """The log has the traceback; what was set before is in force, in the scene too, and what a restart finds."""
    rig = Rig(tmp_path)
    rig.desk.ask("apply", {"triggers": [], **revision(rig)})
    rig.desk.ask("undo", {})
    before, configure = rig.daemon.overlay.config, rig.daemon._announcer.configure
    fails = iter([RuntimeError("made up"), None])

    def fail_once(config: Config) -> None:
        if error := next(fails):
            raise error
        configure(config)

    monkeypatch.setattr(rig.daemon._announcer, "configure", fail_once)
    if entrance == "reload":
        rig.file = changed(FILE, {"calibration.points": POINTS})
    try:
        answers = ENTRANCES[entrance](rig)
    except RuntimeError:
        answers = []
    assert ["it failed (RuntimeError); the log says why"] * (entrance in ("calibrate", "reload")) == [
        json.loads(answer.payload)["error"] for answer in answers
    ]
    assert ["made up"] == list(map(str, rig.failures.told))
    rig.failures.told.clear()
    rig.check()
    assert before == rig.daemon.overlay.config == Daemon(FILE, place=Place(tmp_path, "hall")).overlay.config
    assert before.calibration.model_dump_json() == rig.daemon.scene.saved()["calibration"]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """What is set at the end of all examples is there after a restart."""
    state = tmp_path_factory.mktemp("state")
    made = Rig(state)
    yield made
    made.daemon.overlay.save(1e9)
    again = Daemon(FILE, place=Place(state, "hall"))
    for key in KEYS.values():
        assert value_at(made.daemon.overlay.config, key) == value_at(again.overlay.config, key)


numbers = st.floats() | st.integers(-(10**400), 10**400) | st.sampled_from([0, 0.5, 1, 2.0, 5e-324, 1e308])
jsons = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
shares = st.floats(0, 1)
corners = st.lists(st.tuples(shares, shares), max_size=5) | st.sampled_from([DOOR, WINDOW])
places = st.fixed_dictionaries({"x": shares, "y": shares, "metres": st.floats(0.1, 50)}) | jsons
floors = st.fixed_dictionaries({"height_metres": numbers, "tilt_deg": numbers, "polygon": corners}) | jsons
calibrations = st.fixed_dictionaries(
    {}, optional={"points": st.lists(places, max_size=4) | st.none(), "floor": floors, "max_metres": numbers}
)
names = st.sampled_from(["door", "window", "visitor", "a", "B c", "x" * 200]) | st.text(max_size=8)
zones = st.fixed_dictionaries({"name": names, "polygon": corners}) | jsons
triggers = st.fixed_dictionaries(
    {"name": names, "measure": st.sampled_from(["nearness", "metres"]), "near": numbers},
    optional={"zone": names, "clear": numbers, "on_delay": numbers, "min_frames": numbers},
)


payloads = (
    st.binary(max_size=40)
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
    | numbers.map(lambda number: str(number).encode())
    | st.sampled_from([b"", b"ON", b"OFF", b"turbo", b"online", b"x" * 20_000, deep(498).encode(), deep(19).encode()])
    | st.builds(
        lambda extra, found: json.dumps(found | extra).encode(), st.dictionaries(st.text(), jsons), calibrations
    )
    | st.builds(lambda mark: json.dumps({"transaction": mark}).encode(), jsons)
)
topics = (
    st.sampled_from(COMMANDS).map("edge-depth/hall/request/{}".format)
    | st.sampled_from(["enabled", "interval", "colormap"]).map("edge-depth/hall/{}/set".format)
    | names.map("edge-depth/hall/trigger/{}/near/set".format)
    | st.text(max_size=8).map("edge-depth/hall/request/{}".format)
    | st.text(max_size=8).map("edge-depth/hall/{}/set".format)
    | st.just("homeassistant/status")
)


@settings(max_examples=1000)
@given(topics, payloads)
@example(CALIBRATE, b'{"floor": ' + deep(498).encode() + b"}")
@example(CALIBRATE, b'{"floor": ' + deep(18).encode() + b"}")
@example(CALIBRATE, b'{"points": [{"x": "\\ud800"}]}')
def test_a_message_is_answered_and_does_no_harm(rig: Rig, topic: str, payload: bytes):
    """Whatever is sent to a topic that the daemon listens to; a request has one answer, in JSON."""
    answers = rig.hear(topic, payload)
    command = topic.removeprefix("edge-depth/hall/request/")
    assert (command in COMMANDS) <= len(answers) <= 1
    for answer in answers:
        assert f"edge-depth/hall/response/{command}" == answer.topic
        assert {"ok", "transaction"} <= json.loads(answer.payload.decode()).keys()
    rig.check()


changes = st.fixed_dictionaries(
    {},
    optional={
        "zones": st.lists(zones, max_size=4) | jsons,
        "privacy_masks": st.lists(corners, max_size=3) | jsons,
        "triggers": st.lists(triggers, max_size=3) | jsons,
        "calibration": calibrations | jsons,
        "mqtt": jsons,
    },
)


@settings(max_examples=1000)
@given(st.sampled_from(["setup", "propose", "apply", "apply", "undo", "relearn"]), changes, st.booleans())
@example("apply", {"calibration": {"floor": json.loads(deep(17))}}, True)
def test_a_change_of_the_page_is_made_or_refused(rig: Rig, command: str, change: Mapping[str, Any], newest: bool):
    """Whatever is sent: with an answer that JSON can hold, or with a reason."""
    try:
        body = parse_object(json.dumps(change))
    except ValueError:
        return  # the page's own door
    if newest:
        body["revision"] = rig.desk.ask("setup", {})["revision"]
    assert answered(rig.desk, command, body)
    rig.check()
    if newest:
        rig.see()


def answered(desk: Desk, command: str, body: Mapping[str, Any]) -> str:
    """Return the answer as JSON, or why the command is refused."""
    try:
        return json.dumps(desk.ask(command, body), allow_nan=False)
    except (EdgeError, Stale) as error:
        return str(error)
