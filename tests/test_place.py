"""Where what was set is kept: under no name that may change, and never of two cameras in one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config import Config
from edge.daemon.overlay import Overlay, in_force
from edge.state.place import OVERLAY, TRIGGERS, Place, place_of
from edge.state.stores import OverlayStore, TriggerStore

MASKS = "camera.privacy_masks"


def mask(corner: float) -> list:
    return [[[0.0, 0.0], [0.5, 0.0], [0.5, corner]]]


def leave(folder: Path, camera: str, corner: float | None = 1.0) -> Path:
    """Leave what an older version left for an id: privacy masks, or a calibration alone."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {MASKS: {"value": mask(corner), "file": []}} if corner else {}
    path = folder / f"overlay-{camera}.json"
    path.unlink(missing_ok=True)  # it replaces a link, and does not follow it
    path.write_text(json.dumps({"schema": 1, "overlay": value}))
    return path


def run(folder: Path, camera: str, corner: float | None = None, **place) -> Overlay:
    """Return what is in force for a daemon that is started and sets its masks."""
    kept = Place(folder, camera, **place)
    kept.settle()
    made = Overlay(Config(), OverlayStore(kept.file(OVERLAY)), kept)
    if corner:
        assert made.replace({MASKS: mask(corner)})
    return made


def corner_of(overlay: Overlay) -> float | None:
    """Return what tells the masks in force."""
    masks = overlay.config.camera.privacy_masks
    return masks[0][2][1] if masks else None


def older(folder: Path, camera: str) -> float | None:
    """Return what tells the masks that an older version finds."""
    changes = json.loads((folder / f"overlay-{camera}.json").read_text())["overlay"]
    assert all(change.keys() == {"value", "file"} for change in changes.values())
    return changes[MASKS]["value"][0][2][1] if changes else None


def test_another_id_has_the_same_masks(tmp_path):
    """A host that is called otherwise, or a container with a new name each time, loses nothing and leaves nothing."""
    run(tmp_path, "raspberrypi", 0.5)
    for camera in ("hall", "c0ffee", "f00d"):
        assert 0.5 == corner_of(run(tmp_path, camera))
        assert 0.5 == older(tmp_path, camera)
        assert [f"overlay-{camera}.json"] == [path.name for path in tmp_path.glob("overlay-*.json")]


@pytest.mark.parametrize("camera", ["hall", "renamed"])
def test_what_an_older_version_left_is_taken_over(tmp_path, camera):
    """What is of the id itself, or where that is not there the only one; the triggers' states with it."""
    leave(tmp_path, "hall", 0.5)
    (tmp_path / "triggers-hall.json").write_text('{"schema": 1, "triggers": {"door": true}}')
    if camera == "hall":
        leave(tmp_path, "yard", 0.75)
    made = run(tmp_path, camera)
    assert (0.5, None) == (corner_of(made), made.withheld)
    assert {"door": True} == TriggerStore(Place(tmp_path, camera).file(TRIGGERS)).load()
    assert 0.5 == older(tmp_path, camera)


def test_where_nobody_knows_whose_masks_they_are_pixels_stay_here(tmp_path, caplog):
    """Of several that were left none is in force; what is confirmed is so after a restart too."""
    for camera, corner in (("hall", 0.5), ("yard", 0.75), ("bare", None)):
        leave(tmp_path, camera, corner)
    for _ in range(2):
        made = run(tmp_path, "other")
        assert corner_of(made) is None
        assert "whose privacy masks these are" in made.withheld
        assert "overlay-hall.json, overlay-yard.json" in caplog.text
    assert made.confirm()
    assert [None, None] == [made.withheld, run(tmp_path, "other").withheld]


def test_what_holds_no_masks_withholds_nothing(tmp_path):
    """A calibration of somebody else's is no reason to show nothing."""
    for camera in ("hall", "yard"):
        leave(tmp_path, camera, None)
    assert run(tmp_path, "other").withheld is None


def test_an_older_version_finds_what_was_set_since(tmp_path):
    """One version back and forth again, twice: whoever spoke last is heard."""
    leave(tmp_path, "hall", 0.25)
    for new, old in ((0.5, 0.6), (0.7, 0.8)):
        run(tmp_path, "hall", new)
        assert new == older(tmp_path, "hall")
        leave(tmp_path, "hall", old)
        assert old == corner_of(run(tmp_path, "hall"))
        assert old == older(tmp_path, "hall")


def test_a_name_that_was_used_before_is_in_doubt(tmp_path):
    """What was left under it may be older than what is here: pixels stay until that is confirmed, nothing is lost."""
    leave(tmp_path, "hall", 0.25)
    leave(tmp_path, "yard", 0.5)
    run(tmp_path, "hall", 0.75)
    made = run(tmp_path, "yard")
    assert (0.75, True) == (corner_of(made), "overlay-yard.json" in made.withheld)
    assert made.confirm()
    again = run(tmp_path, "yard")
    assert (0.75, None, 0.75) == (corner_of(again), again.withheld, older(tmp_path, "yard"))
    assert (tmp_path / "overlay-yard.json.unused").exists()


def test_masks_that_an_older_version_lost_stay_lost(tmp_path):
    """A damaged file that nobody has looked at withholds pixels as before."""
    leave(tmp_path, "hall").rename(tmp_path / "overlay-hall.json.damaged")
    assert "overlay.json.damaged" in run(tmp_path, "hall").withheld


def test_what_can_not_be_put_in_order_is_used_as_it_is(tmp_path, monkeypatch, caplog):
    """In a folder that can't be written the masks are in force all the same."""
    leave(tmp_path, "hall", 0.5)
    monkeypatch.setattr("edge.state.place.replace_file", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only")))
    assert 0.5 == corner_of(run(tmp_path, "hall"))
    assert "can't be put in order" in caplog.text


@pytest.fixture
def by_hand(tmp_path, monkeypatch):
    """Return a function that starts the daemon of a configuration's file by hand."""
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def start(name: str, text: str = "log: {level: info}\n", corner: float | None = None) -> Overlay:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        made = in_force(path)
        place_of(path, made.file).settle()
        made = in_force(path)
        if corner:
            assert made.replace({MASKS: mask(corner)})
        return made

    return start


def test_two_files_never_share_masks(by_hand, tmp_path, monkeypatch):
    """Run by hand, each configuration has a folder of its own, by whatever path it is named."""
    by_hand("a/camera.yaml", corner=0.5)
    by_hand("b/camera.yaml", corner=0.75)
    assert [0.5, 0.75] == [corner_of(by_hand(f"{name}/camera.yaml")) for name in "ab"]
    (tmp_path / "link.yaml").symlink_to("a/camera.yaml")
    monkeypatch.chdir(tmp_path / "b")
    assert [0.5, 0.75] == [corner_of(in_force(path)) for path in ("../link.yaml", "camera.yaml")]


def test_both_files_of_an_id_take_over_its_masks(by_hand, tmp_path):
    """An older version gave them to both: neither shows from now on what it hid before."""
    shared = tmp_path / "data" / "edge-depth"
    leave(shared, "cam", 0.5)
    assert [0.5, 0.5] == [corner_of(by_hand(name, "id: cam\nlog: {level: info}\n")) for name in ("a.yaml", "b.yaml")]
    by_hand("b.yaml", "id: cam\nlog: {level: info}\n", corner=0.75)
    assert [0.5, 0.75] == [corner_of(by_hand(name, "id: cam\nlog: {level: info}\n")) for name in ("a.yaml", "b.yaml")]


def test_masks_of_another_id_are_not_taken_by_hand(by_hand, tmp_path):
    """They lie where those of every configuration lay: whose they are nobody knows."""
    leave(tmp_path / "data" / "edge-depth", "cam", 0.5)
    made = by_hand("other.yaml", "id: other\nlog: {level: info}\n")
    assert (None, True) == (corner_of(made), "overlay-cam.json" in made.withheld)


def test_what_is_not_for_this_user_to_see_withholds_pixels(tmp_path, monkeypatch):
    """A service's masks lie where only root looks: without them a command must not use its camera."""
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("edge.config.SERVICE_STATES", tmp_path / "lib")
    (tmp_path / "lib").mkdir()
    (tmp_path / "edge-depth.yaml").write_text("log: {level: info}\n")
    assert in_force(tmp_path / "edge-depth.yaml").withheld is None
    (tmp_path / "lib" / "edge-depth").symlink_to("private/edge-depth")
    monkeypatch.chdir(tmp_path)
    for path in ("edge-depth.yaml", tmp_path / "edge-depth.yaml"):
        assert "run it with sudo" in in_force(path).withheld


def test_two_daemons_never_share_a_folder(tmp_path):
    """A second daemon does not get the folder while the first one lives, and gets it after it has ended."""
    hold = (
        "import sys; from pathlib import Path; from edge.state.place import Place; Place(Path(sys.argv[1]), 'a').hold()"
    )
    wait = f"{hold}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", wait, tmp_path], stdin=-1, stdout=-1, text=True) as first:
        assert "held\n" == first.stdout.readline()
        assert not Place(tmp_path, "b").hold()
        first.stdin.close()
        first.wait(30)
    assert Place(tmp_path, "b").hold()
