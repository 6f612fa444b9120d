"""What the page may change: what it would do, how it is made, written and undone, and that nothing else can be."""

import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import CalibrationSection, Config, ZoneSection
from edge.daemon.desk import Desk
from edge.daemon.overlay import Overlay
from edge.errors import Busy, ConfigError, Stale
from edge.scene.triggers import compare
from edge.state.stores import OverlayStore
from edge.topics import Topics
from edge.web import Access, Uploads, create_app
from tests.page_rig import DOOR, WINDOW, MadeBoard, MadeEstimator, Works

LEFT = [[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]]
POINTS = [
    {"x": 0.9, "y": 0.95, "metres": 1.0},
    {"x": 0.9, "y": 0.75, "metres": 1.6},
    {"x": 0.9, "y": 0.5, "metres": 4.0},
]
CALIBRATION = {"points": POINTS, "floor": None, "max_metres": 20.0}


@pytest.fixture
def works(tmp_path):
    """A room with a visitor in it, and what is set up there."""
    made = Works(tmp_path)
    for _ in range(3):
        made.see()
    return made


def values(works):
    """Return what may be changed, as it stands."""
    return works.ask("setup", {})["values"]


def test_what_may_be_changed_is_shown(works):
    """Zones, masks, triggers and calibration, as the file and as the overlay has them; nothing to undo yet."""
    found = works.ask("setup", {})
    assert {"zones", "privacy_masks", "triggers", "calibration"} == found["values"].keys() == found["file"].keys()
    assert (found["values"], False) == (found["file"], found["can_undo"])
    assert ["door", "window"] == [zone["name"] for zone in found["values"]["zones"]]


def test_a_proposal_tells_what_would_fire_now(works):
    """The visitor's nearness lies between two levels: the lower would fire, the upper not. Nothing is changed."""
    nearness = works.see()[0].nearest.nearness
    before = works.applied
    for near, event in ((nearness - 0.1, "near"), (nearness + 0.05, "between"), (nearness + 0.3, "clear")):
        (trigger,) = values(works)["triggers"]
        proposal = works.ask("propose", {"triggers": [trigger | {"near": near, "clear": near - 0.1}]})
        assert [] == proposal["problems"]
        assert event == proposal["triggers"]["visitor"]["event"]
        assert nearness == pytest.approx(proposal["triggers"]["visitor"]["level"], abs=0.02)
    assert before == works.applied
    assert "visitor" in str(proposal["difference"]) or any("near:" in line for line in proposal["difference"])


def test_a_proposal_tells_what_a_zone_would_say(works):
    """A zone that is drawn around the visitor is occupied, one beside is free; a trigger may name it at once."""
    zones = [{"name": "here", "polygon": DOOR}, {"name": "there", "polygon": LEFT}]
    triggers = [{"name": n, "zone": n, "measure": "nearness", "near": 0.3} for n in ("here", "there")]
    proposal = works.ask("propose", {"zones": zones, "triggers": triggers})
    assert {"here": True, "there": False} == {name: zone["occupied"] for name, zone in proposal["zones"].items()}
    assert {"here": "near", "there": "clear"} == {name: t["event"] for name, t in proposal["triggers"].items()}
    assert "+- name: here" in proposal["difference"]


def test_as_if_is_what_would_be(works):
    """What the scene says of other zones and metres is what it says once they are in force."""
    zones = (ZoneSection(name="here", polygon=DOOR), ZoneSection(name="there", polygon=WINDOW))
    calibration = CalibrationSection.model_validate(CALIBRATION | {"points": tuple(POINTS)})
    foretold = works.scene.as_if(zones, calibration)
    works.ask(
        "apply",
        {"zones": [z.model_dump() for z in zones], "calibration": CALIBRATION, "triggers": [], **revision(works)},
    )
    for _ in range(3):
        scene, _ = works.see()
    assert [zone.occupied for zone in scene.zones] == [zone.occupied for zone in foretold.zones] == [True, False]
    assert scene.nearest.zones == foretold.nearest.zones == ("here",)
    assert scene.nearest.distance_m == pytest.approx(foretold.nearest.distance_m, rel=0.03)


def revision(works):
    return {"revision": works.ask("setup", {})["revision"]}


def test_a_calibration_is_fitted_at_once(works):
    """Each place with what is read there, the residual, the error to be expected; what gives no line says why."""
    fit = works.ask("propose", {"calibration": CALIBRATION})["fit"]
    assert fit["residual"] > 0
    assert all(0.5 < row["read_m"] / point["metres"] < 2 for row, point in zip(fit["points"], POINTS, strict=True))
    assert [1.0, 2.0, 4.0] == [row["metres"] for row in fit["expected"]]
    assert (
        "must be two or more"
        in works.ask("propose", {"calibration": CALIBRATION | {"points": POINTS[:1]}})["fit"]["problem"]
    )
    exchanged = [POINTS[0] | {"metres": 4.0}, POINTS[2] | {"metres": 1.0}]
    refused = works.ask("propose", {"calibration": CALIBRATION | {"points": exchanged}})["fit"]["problem"]
    assert "are they exchanged?" in refused
    with pytest.raises(ConfigError, match="exchanged"):
        works.ask("apply", {"calibration": CALIBRATION | {"points": exchanged}, **revision(works)})
    assert [] == values(works)["calibration"]["points"]


def test_a_floor_is_fitted_too(works):
    """Its problems are told likewise."""
    floor = {"height_metres": 1.2, "tilt_deg": 10.0, "polygon": [[0.65, 0.7], [0.95, 0.7], [0.95, 0.95], [0.65, 0.95]]}
    fit = works.ask("propose", {"calibration": {"points": [], "floor": floor, "max_metres": 20.0}})["fit"]
    assert fit.get("residual") or "floor" in fit["problem"]
    above = floor | {"polygon": [[0.1, 0.0], [0.9, 0.0], [0.9, 0.1], [0.1, 0.1]], "tilt_deg": -20.0}
    fit = works.ask("propose", {"calibration": {"points": [], "floor": above, "max_metres": 20.0}})["fit"]
    assert "above the horizon" in fit["problem"]


def test_every_problem_is_told(works):
    """With the words that the file would get; nothing is said of what would be."""
    zones = [{"name": "A b", "polygon": LEFT}, {"name": "c", "polygon": LEFT[:2]}]
    problems = works.ask("propose", {"zones": zones})["problems"]
    assert any("zones.0.name: must be lower-case letters" in problem for problem in problems)
    assert any("zones.1.polygon: must have 3 points at least" in problem for problem in problems)
    (problem,) = works.ask("propose", {"zones": []})["problems"]
    assert "name zones that do not exist: door" in problem


@pytest.mark.parametrize("name", ["mqtt", "camera", "model", "web", "heatmap", "publish", "camera.source", "", "scene"])
def test_nothing_else_can_be_changed(works, name):
    """Neither proposed nor applied."""
    (problem,) = works.ask("propose", {name: {}})["problems"]
    assert "what can: zones, privacy_masks, triggers, calibration" in problem
    with pytest.raises(ConfigError, match="can't be changed here"):
        works.ask("apply", {name: {}, **revision(works)})
    assert 1 == works.applied


def test_what_is_applied_is_in_force_and_written_at_once(works, tmp_path):
    """A restart knows of it, without publish.persist_settings; so does `check --print`."""
    answer = works.ask("apply", {"privacy_masks": [LEFT], "calibration": CALIBRATION, **revision(works)})
    assert (True, True) == (answer["written"], answer["can_undo"])
    assert ([LEFT], 2) == (answer["values"]["privacy_masks"], works.applied)
    again = Works(tmp_path)
    assert ((0.0, 0.0), (0.1, 0.0), (0.1, 0.1)) == again.overlay.config.camera.privacy_masks[0]
    assert {"camera.privacy_masks", "calibration"} == again.overlay.values.keys()


def test_undo_goes_back_and_forth(works, tmp_path):
    """The backup is what was set before the last change: undone twice is done; it outlives a restart."""
    works.ask("apply", {"privacy_masks": [LEFT], **revision(works)})
    works.ask("apply", {"triggers": [], **revision(works)})
    assert ["visitor"] == [trigger["name"] for trigger in works.ask("undo", {})["values"]["triggers"]]
    assert [LEFT] == values(works)["privacy_masks"]
    again = Works(tmp_path)
    assert [] == again.ask("undo", {})["values"]["triggers"]
    assert ["visitor"] == [trigger["name"] for trigger in again.ask("undo", {})["values"]["triggers"]]
    with pytest.raises(ConfigError, match="nothing to undo"):
        Works(tmp_path / "other").ask("undo", {})


def test_the_backup_is_a_whole_overlay(works, tmp_path):
    """It can be put in the overlay's place by hand."""
    works.ask("apply", {"privacy_masks": [LEFT], **revision(works)})
    works.ask("apply", {"privacy_masks": [], **revision(works)})
    overlay, backup = tmp_path / "overlay.json", tmp_path / "overlay.json.backup"
    assert {} == json.loads(overlay.read_text())["overlay"]
    backup.replace(overlay)
    assert [LEFT] == values(Works(tmp_path))["privacy_masks"]


def test_a_change_for_another_state_is_refused(works):
    """Two who change at once: the second is told, and nothing of theirs is applied."""
    mine = revision(works)
    works.ask("apply", {"triggers": [], **revision(works)})
    with pytest.raises(Stale, match="changed by somebody else"):
        works.ask("apply", {"zones": [], **mine})
    assert 2 == len(values(works)["zones"])


def test_a_level_set_over_mqtt_lives_in_the_list_that_the_page_has_set(works):
    """And what the page sets as a whole takes the place of what was set of its parts."""
    overlay = works.overlay
    overlay.set("triggers.visitor.near", 0.85)
    (trigger,) = values(works)["triggers"]
    assert 0.85 == trigger["near"]
    works.ask("apply", {"triggers": [trigger, trigger | {"name": "second"}], **revision(works)})
    assert {"triggers"} == overlay.values.keys()
    overlay.set("triggers.second.near", 0.95)
    assert [0.85, 0.95] == [trigger.near for trigger in overlay.config.triggers]
    assert {"triggers"} == overlay.values.keys()


def test_zones_and_triggers_that_belong_together_survive_together(tmp_path):
    """A trigger of a drawn zone is there after a restart; where the file has other zones by then, it goes with them."""
    zones = [{"name": "drawn", "polygon": LEFT}]
    triggers = [{"name": "t", "zone": "drawn", "measure": "nearness", "near": 0.5}]
    file = Config()
    overlay = Overlay(file, OverlayStore(tmp_path / "overlay.json"))
    overlay.replace({"zones": zones, "triggers": triggers})
    assert ["t"] == [trigger.name for trigger in Overlay(file, OverlayStore(tmp_path / "overlay.json")).config.triggers]
    other = Config(zones=({"name": "other", "polygon": DOOR},))
    again = Overlay(other, OverlayStore(tmp_path / "overlay.json"))
    assert (["other"], ()) == ([zone.name for zone in again.config.zones], again.config.triggers)
    assert {} == again.values


def test_what_can_not_be_written_is_told(works, tmp_path):
    """It is in force all the same."""
    (tmp_path / "overlay.json.new").mkdir()
    (tmp_path / "overlay.json.backup.new").mkdir()
    answer = works.ask("apply", {"triggers": [], **revision(works)})
    assert (False, []) == (answer["written"], answer["values"]["triggers"])


# The desk: the one queue


class Queue:
    """Where commands wait until somebody takes them."""

    def __init__(self):
        self.waiting = []

    def __call__(self, action, dropped):
        self.dropped = dropped
        self.waiting.append(action)
        return len(self.waiting) < 3


def test_the_page_asks_by_the_queue_of_commands(works):
    """What is asked is done when the depth thread comes to it, and answered to who asked."""
    queue = Queue()
    desk = Desk(works, Topics("edge-depth", "hall"), lambda _: None, queue)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(desk.ask("setup", {})))
    asking.start()
    while not queue.waiting:
        time.sleep(0.01)
    assert [] == answers
    queue.waiting.pop()()
    asking.join(10)
    assert {"zones", "privacy_masks", "triggers", "calibration"} == answers[0]["values"].keys()


def test_what_is_not_its_turn_in_time_is_never_done(works, monkeypatch):
    """Who asks is told to try again, and a late turn changes nothing; so when too much waits."""
    monkeypatch.setattr("edge.daemon.desk._ANSWER_SECONDS", 0.05)
    queue = Queue()
    desk = Desk(works, Topics("edge-depth", "hall"), lambda _: None, queue)
    for _ in range(2):
        with pytest.raises(Busy, match="try again"):
            desk.ask("apply", {"triggers": [], **revision(works)})
    with pytest.raises(Busy, match="too many"):
        desk.ask("undo", {})
    for action in queue.waiting:
        action()
    assert 1 == works.applied


def test_nobody_waits_for_a_daemon_that_ends(works):
    """What the depth thread does not come to any more is refused at once, and told as what it is."""
    desk = Desk(works, Topics("edge-depth", "hall"), lambda _: None, lambda _, dropped: dropped())
    with pytest.raises(Busy, match="the daemon is ending"):
        desk.ask("apply", {"triggers": [], **revision(works)})


# Over HTTP


@pytest.fixture
def client(works):
    """A browser that has the page open."""
    uploads = Uploads(MadeEstimator(), max_bytes=200_000, max_pixels=1_000_000)
    app = create_app(MadeBoard(), Access({"localhost"}, 80), uploads=uploads, counter=works)
    made = app.test_client()
    made.proof = made.get("/").text.partition('data-proof="')[2].partition('"')[0]
    return made


def post(client, command, body, proof=None):
    return client.post(f"/api/setup/{command}", data=body, headers={"X-CSRF-Token": proof or client.proof})


def test_a_change_over_http(client, works):
    """Read, proposed, applied; refused without the page's proof, with a wrong body or a wrong state."""
    state = client.get("/api/setup").json
    assert [] == post(client, "propose", json.dumps({"triggers": []})).json["problems"]
    body = json.dumps({"triggers": [], "revision": state["revision"]})
    assert 403 == post(client, "apply", body, "x").status_code
    assert 1 == works.applied
    assert [] == post(client, "apply", body).json["values"]["triggers"]
    assert 409 == post(client, "apply", body).status_code
    assert 422 == post(client, "apply", json.dumps({"mqtt": {}, **revision(works)})).status_code
    for body, status in ((b"x", 400), (b"[]", 400), (b'{"a": NaN}', 400), (b"[" * 6000, 400), (b" " * 70_000, 413)):
        answer = post(client, "propose", body)
        assert (status, status) == (answer.status_code, answer.json["status"])


class Late:
    """A desk that never comes to it."""

    def ask(self, *_):
        raise Busy("the daemon is still starting")


def test_a_daemon_that_is_still_starting_is_told():
    """503 with when to try again."""
    uploads = Uploads(MadeEstimator(), max_bytes=200_000, max_pixels=1_000_000)
    app = create_app(MadeBoard(), Access({"localhost"}, 80), uploads=uploads, counter=Late())
    answer = app.test_client().get("/api/setup")
    assert (503, "2") == (answer.status_code, answer.headers["Retry-After"])


jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
corners = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=5)
places = st.fixed_dictionaries({"x": st.floats(0, 1), "y": st.floats(0, 1), "metres": st.floats(0.1, 50)})
proposals = st.fixed_dictionaries(
    {},
    optional={
        "zones": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "C"]), "polygon": corners}))
        | jsons,
        "privacy_masks": st.lists(corners) | jsons,
        "triggers": jsons,
        "calibration": st.fixed_dictionaries({"points": st.lists(places, max_size=4), "max_metres": st.floats(1, 200)}),
        "revision": jsons,
    },
)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A desk that outlives one example."""
    made = Works(tmp_path_factory.mktemp("state"))
    uploads = Uploads(MadeEstimator(), max_bytes=200_000, max_pixels=1_000_000)
    client = create_app(MadeBoard(), Access({"localhost"}, 80), uploads=uploads, counter=made).test_client()
    client.proof = client.get("/").text.partition('data-proof="')[2].partition('"')[0]
    return client


@settings(max_examples=150)
@given(st.sampled_from(["propose", "apply"]), proposals | jsons)
def test_no_change_does_harm(still, command, body):
    """Whatever is sent is answered, or refused with 4xx and a reason."""
    answer = post(still, command, json.dumps(body))
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    assert answer.status_code == 200 or answer.json["reason"]


def test_a_trigger_is_compared_as_it_is_switched(works):
    """What the page foretells and what the trigger goes by are one function."""
    scene, states = works.see()
    event, level, _ = compare(works.overlay.config.triggers[0], scene)
    assert (states[0].level, event == "near") == (level, level > 0.9)
