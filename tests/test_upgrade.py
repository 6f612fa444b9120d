"""What an owner has set goes from one version to the next, and back.

`tests/data/upgrade` holds a configuration, and the state that a version left which named its files by the id. It stays
as it is: whatever changes, these tests go on holding.
"""

import json
import shutil
from pathlib import Path

import pytest

from edge.config import load
from edge.daemon import Daemon
from edge.daemon.overlay import in_force
from edge.publish.homeassistant import discovery
from edge.scene.metres import read_points
from edge.state.place import place_of
from edge.state.stores import ReferenceStore
from tests.broker import Subscriber
from tests.test_daemon import run_until

FILLED = Path(__file__).parent / "data" / "upgrade"
EXPECTED = json.loads((FILLED / "expected.json").read_text())
CLIP = Path(__file__).parents[1] / "edge" / "data" / "clip" / "clip.mp4"
ROOT = "edge-depth/hall"
MASKS = "camera.privacy_masks"


@pytest.fixture
def file(tmp_path, state_directory):
    """Return the configuration, with what the older version left in the service's state directory."""
    shutil.copytree(FILLED / "state", state_directory)
    path = tmp_path / "config.yaml"
    path.write_text((FILLED / "config.yaml").read_text().replace("edge/data/clip/clip.mp4", str(CLIP)))
    return path


def running(file: Path, broker, *consumers) -> Daemon:
    """Return the daemon, with a page and a broker of this test's."""
    text = file.read_text().replace("0.0.0.0:8080", "127.0.0.1:0").replace("port: 1883", f"port: {broker.port}")
    file.write_text(text)
    config = load(file)
    return Daemon(config, consumers, place=place_of(file, config))


def test_what_was_set_is_in_force_after_an_upgrade(file):
    """Masks, zones, triggers with their levels, places and settings, before and after the daemon has run."""
    for _ in range(2):
        overlay = in_force(file)
        assert EXPECTED["set"] == overlay.values
        assert overlay.withheld is None
        place_of(file, overlay.file).settle()
    assert [trigger["name"] for trigger in EXPECTED["set"]["triggers"][1:]] == undone(file)


def undone(file: Path) -> list[str]:
    """Return the triggers that there are after going back to the backup."""
    overlay = in_force(file)
    assert overlay.undo()
    return [trigger.name for trigger in overlay.config.triggers]


def test_entities_and_addresses_are_the_same_after_an_upgrade(file):
    """Home Assistant gets the same payload on the same topic, the page's address included."""
    overlay = in_force(file)
    daemon_topics = Daemon(load(file), place=place_of(file, overlay.file)).topics
    (told,) = discovery(
        overlay.config, daemon_topics, calibrated=True, machine=EXPECTED["device"]["payload"]["device"]["hw_version"]
    )
    assert EXPECTED["device"]["topic"] == told.topic
    found = json.loads(told.payload)
    assert "http://hall.lan:8080/" == found["device"]["configuration_url"]
    for payload in (found, EXPECTED["device"]["payload"]):
        payload["device"].pop("sw_version"), payload["origin"].pop("sw_version")
    assert EXPECTED["device"]["payload"] == found


def test_an_upgraded_daemon_goes_on_where_the_older_one_stopped(file, mosquitto):
    """The background is not learned anew, metres are read as before, topics and what the page shows are the same."""
    readings, read_m = [], []

    def measure(reading):
        if not readings:
            reference, section = daemon.scene.reference, daemon.overlay.config.calibration
            reads = read_points(daemon.scene.fit(section), section.points, reference.median, reference.sigma)
            read_m.extend(read.distance_m for read in reads)
        readings.append(reading)

    daemon = running(file, mosquitto, measure)
    device = EXPECTED["device"]["topic"]
    with Subscriber(mosquitto.port, "#") as heard:
        run_until(daemon, lambda: readings and heard.payloads(device))
        topics = {message.topic for message in heard.heard if message.topic.startswith(ROOT)}
    assert "tracking" == readings[0].scene.state
    assert EXPECTED["learned_at"] == daemon.scene.reference.learned_at.isoformat()
    assert EXPECTED["read_m"] == pytest.approx(read_m, rel=0.02)  # it goes on learning
    assert topics <= set(EXPECTED["topics"]) | {f"{ROOT}/event", f"{ROOT}/snapshot"}
    assert {f"{ROOT}/zone/door/occupancy", f"{ROOT}/trigger/visitor", f"{ROOT}/nearest_m"} <= topics
    assert b"1.7" == heard.payloads(f"{ROOT}/trigger/visitor/near/state")[0]
    assert b"2.5" == heard.payloads(f"{ROOT}/interval/state")[0]
    assert EXPECTED["states"]["anything"] is (heard.payloads(f"{ROOT}/trigger/anything")[0] == b"ON")
    assert daemon.overlay.withheld is None


def test_the_version_before_finds_what_was_set_since(file, mosquitto, state_directory):
    """Under the names and in the form that it reads: the newest masks and all the rest; what it sets then wins."""
    mask = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0]]
    daemon = running(file, mosquitto)
    told = []

    def changed():
        if not told:
            revision = daemon._desk.ask("setup", {})["revision"]
            told.append(daemon._desk.ask("apply", {"privacy_masks": [mask], "revision": revision})["written"])
        return daemon.scene.reference is not None

    run_until(daemon, changed)
    assert told == [True]
    kinds = {"overlay": ".json", "triggers": ".json", "announced": ".json"}
    found = {kind: json.loads((state_directory / f"{kind}-hall{end}").read_text()) for kind, end in kinds.items()}
    assert {1} == {document["schema"] for document in found.values()}
    changes = found["overlay"]["overlay"]
    assert all({"value", "file"} == change.keys() for change in changes.values())
    assert EXPECTED["set"] | {MASKS: [mask]} == {key: change["value"] for key, change in changes.items()}
    backup = json.loads((state_directory / "overlay-hall.json.backup").read_text())["overlay"]
    assert EXPECTED["set"][MASKS] == backup[MASKS]["value"]
    saved = ReferenceStore(state_directory / "reference-hall.safetensors").load(0.0)
    assert json.dumps([mask]) == saved["privacy_masks"]
    changes[MASKS]["value"] = []
    (state_directory / "overlay-hall.json").unlink()
    (state_directory / "overlay-hall.json").write_text(json.dumps({"schema": 1, "overlay": changes}))
    assert () == in_force(file).config.camera.privacy_masks
