"""The configuration in force: the file's, and over it what was set."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cli import main
from edge.config import Config, changed, options, value_at
from edge.daemon.overlay import Overlay, in_force
from edge.errors import ConfigError
from edge.state.stores import OverlayStore

POINTS = [{"x": 0.2, "y": 0.9, "metres": 1.0}, {"x": 0.5, "y": 0.5, "metres": 4.0}]


def config(**sections) -> Config:
    return Config.model_validate({"triggers": ({"name": "door", "near": 0.8, "measure": "nearness"},), **sections})


@pytest.fixture
def overlay(tmp_path):
    """Return a function that makes the overlay of a file, each time as after a restart."""
    return lambda file: Overlay(file, OverlayStore(tmp_path / "overlay.json"))


def test_what_is_set_is_in_force(overlay):
    """Settings of every kind are in the configuration in force; the file's own is left alone."""
    made = overlay(config())
    for key, value in {"camera.enabled": False, "heatmap.interval": 5, "triggers.door.near": 0.7}.items():
        made.set(key, value)
    made.set("calibration", {"points": POINTS, "floor": None, "max_metres": 20.0})
    assert (False, 5.0, 0.7) == (
        made.config.camera.enabled,
        made.config.heatmap.interval,
        made.config.triggers[0].near,
    )
    assert 2 == len(made.config.calibration.points)
    assert config() == made.file


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("heatmap.interval", -1.0, r"heatmap\.interval: must be 0\.\.86400, not -1\.0"),
        ("heatmap.colormap", "pink", r"heatmap\.colormap: must be 'inferno'"),
        ("triggers.garden.near", 1.0, r"triggers\.garden\.near: there is no garden"),
        ("heatmap.speed", 1.0, r"heatmap\.speed: there is no speed"),
        ("calibration", {"points": [{"x": 2, "y": 0.5, "metres": 1}]}, r"calibration\.points\.0\.x: must be 0\.\.1"),
        ("calibration", {"pints": []}, r"calibration\.pints: unknown key; did you mean 'points'"),
    ],
)
def test_what_does_not_fit_changes_nothing(overlay, key, value, words):
    """A key that is not there and a value that the file could not have are refused with the same words."""
    made = overlay(config())
    with pytest.raises(ConfigError, match=words):
        made.set(key, value)
    assert {} == made.values
    assert config() == made.config


def test_settings_survive_only_where_that_is_asked_for(overlay):
    """Without publish.persist_settings a restart knows of the calibration only, with it of everything."""
    for persist, expected in ((False, {"calibration"}), (True, {"calibration", "heatmap.interval"})):
        file = config(publish={"persist_settings": persist})
        made = overlay(file)
        made.set("heatmap.interval", 5.0)
        made.set("calibration", {"points": POINTS, "floor": None, "max_metres": 20.0})
        made.save(math.inf)
        assert expected == overlay(file).values.keys()


def test_a_later_change_of_the_file_goes_before(overlay):
    """Whoever spoke last is heard; what the file says as it did then stays overlaid, with a reload too."""
    keep = {"persist_settings": True}
    made = overlay(config(publish=keep))
    made.set("heatmap.interval", 5.0)
    made.set("triggers.door.near", 0.7)
    made.save(math.inf)
    changed_file = config(publish=keep, heatmap={"interval": 2.0})
    for after in (overlay(changed_file), made):
        after.reload(changed_file)
        assert (2.0, 0.7) == (after.config.heatmap.interval, after.config.triggers[0].near)


def test_what_an_older_version_wrote_stands(overlay):
    """A key that it did not know yet is not a change of the file."""
    file = config(calibration={"points": tuple(POINTS)})
    made = overlay(file)
    made.set_all({"triggers": [{"name": "gate", "near": 0.4, "measure": "nearness"}], "calibration": {"points": []}})
    made.save(math.inf)
    written = made._store._file._path
    older = json.loads(written.read_text())
    for values in (older["overlay"]["triggers"]["file"][0], older["overlay"]["triggers"]["value"][0]):
        del values["min_quality"]
    del older["overlay"]["calibration"]["file"]["floor"]
    written.write_text(json.dumps(older))
    again = overlay(file)
    assert (("gate",), ()) == (tuple(each.name for each in again.config.triggers), again.config.calibration.points)
    assert {} == overlay(config(calibration={"points": tuple(POINTS[::-1])}, triggers=())).values


MASK = [[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]]]


def test_masks_that_may_be_lost_keep_pixels_here(overlay, tmp_path, caplog):
    """A damaged file of what was set: the backup's masks are used, and pixels stay here until somebody has looked."""
    file = config()
    made = overlay(file)
    made.replace({"camera.privacy_masks": MASK})
    made.replace({"zones": [{"name": "door", "polygon": MASK[0]}]})
    assert made.withheld is None
    written = tmp_path / "overlay.json"
    written.write_bytes(written.read_bytes()[:-5])
    for _ in range(2):  # the second run finds no file at first, and the damaged one aside
        again = overlay(file)
        again.set("heatmap.interval", 3.0)
        assert "privacy masks may be lost: no picture and no heatmap leaves" in again.withheld
        assert str(tmp_path) not in again.withheld  # it goes to the broker, and a path may hold a name
        assert f"delete {written}.damaged and restart" in caplog.text
        assert MASK == value_at(again.config, "camera.privacy_masks")
        again.save(math.inf)
        caplog.clear()
    (tmp_path / "overlay.json.damaged").unlink()
    assert overlay(file).withheld is None


@pytest.mark.parametrize("settle", [Overlay.confirm, Overlay.settle])
def test_whoever_has_looked_lets_pixels_leave_again(overlay, tmp_path, settle):
    """At once and after a restart."""
    overlay(config()).replace({"camera.privacy_masks": MASK})
    (tmp_path / "overlay.json").write_bytes(b"{")
    made = overlay(config())
    made.replace({"zones": []})
    assert made.withheld
    assert settle(made)
    assert [None, None] == [made.withheld, overlay(config()).withheld]


VIEW = {"camera": "usb one", "size": [640, 480], "rotate": 0, "flip": "none"}


def test_masks_fit_the_view_that_they_were_drawn_in(overlay):
    """Another rotation or camera withholds pixels, after a restart too, until the masks are confirmed for it."""
    made = overlay(config())
    made.look(VIEW)
    made.replace({"camera.privacy_masks": MASK})
    for other, words in (({"rotate": 180}, "camera.rotate was 0 and is 180"), ({"camera": "usb two"}, "another one")):
        again = overlay(config())
        again.look(VIEW)
        assert again.withheld is None
        again.look(VIEW | other)
        assert words in again.withheld
        with pytest.raises(ConfigError, match="drawn for another view"):
            again.check_pixels(VIEW | other)
        again.set("calibration", {"points": POINTS})  # says nothing of masks
        assert words in again.withheld
    assert again.confirm()
    assert again.withheld is None
    again = overlay(config())
    again.look(VIEW)
    assert "another one" in again.withheld
    again.replace({"camera.privacy_masks": MASK})
    assert again.withheld is None


def test_what_an_older_version_drew_fits_the_view_that_it_is_met_in(overlay, tmp_path):
    """It has noted none; from then on it fits that view alone, whether it is masks, zones or places."""
    overlay(config()).replace({"camera.privacy_masks": MASK, "zones": [{"name": "a", "polygon": MASK[0]}]})
    written = tmp_path / "overlay.json"
    assert {} == json.loads(written.read_text()).pop("views")
    for rotate, (withheld, doubts) in {0: (False, 0), 180: (True, 1)}.items():
        made = overlay(config())
        made.look(VIEW | {"rotate": rotate})
        made.save(math.inf)
        assert (withheld, doubts) == (bool(made.withheld), len(made.doubts))


def test_undo_confirms_no_masks_that_an_older_version_drew(overlay):
    """Its backup fits the view that it is met in alone, as the masks in force do."""
    made = overlay(config())
    made.replace({"camera.privacy_masks": MASK})
    made.replace({"camera.privacy_masks": [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]]})
    overlay(config()).look(VIEW)
    made = overlay(config())
    made.look(VIEW | {"rotate": 180})
    made.undo()
    assert "camera.rotate was 0 and is 180" in made.withheld


def test_undo_brings_back_all_that_was_in_force(overlay):
    """A level that was set over MQTT too; what the page does not change, as whether the camera is on, stays."""
    made = overlay(config())
    made.set("triggers.door.near", 0.7)
    made.replace({"triggers": []})
    made.set("camera.enabled", False)
    made.undo()
    assert ([0.7], False) == ([each.near for each in made.config.triggers], made.config.camera.enabled)
    made.undo()
    assert ((), False) == (made.config.triggers, made.config.camera.enabled)


def test_masks_that_are_undone_fit_the_view_that_they_were_drawn_in(overlay):
    """Going back to masks of another view is no confirmation."""
    made = overlay(config())
    for rotate in (0, 180):
        made.look(VIEW | {"rotate": rotate})
        made.replace({"camera.privacy_masks": [[[0.0, 0.0], [1.0, 0.0], [1.0, rotate / 200 + 0.1]]]})
    assert made.withheld is None
    made.undo()
    assert "camera.rotate was 0 and is 180" in made.withheld


def test_what_is_kept_is_written_when_it_is_set(overlay):
    """Whoever was told that it is in force finds it after a power cut."""
    made = overlay(config())
    assert made.set("calibration", {"points": POINTS})
    assert 2 == len(overlay(config()).config.calibration.points)
    assert made.replace(
        {"triggers": [{"name": "door", "near": 0.8, "measure": "nearness"}, {"name": "b", "near": 1.0}]}
    )
    assert made.set("triggers.door.near", 0.75)
    assert 0.75 == overlay(config()).config.triggers[0].near


WRITER = """
import os, sys
from pathlib import Path
from edge.config import Config
from edge.daemon.overlay import Overlay
from edge.state.stores import OverlayStore

for folder in sys.stdin:
    if (child := os.fork()) == 0:
        store = OverlayStore(Path(folder.strip()) / "overlay.json")
        made = Overlay(Config(), store)
        made.look({"camera": "one"})
        for step in range(1000, 1_000_000):
            corner = step / 1_000_000
            assert made.replace({"camera.privacy_masks": [[[0.0, 0.0], [1.0, 0.0], [1.0, corner]]]})
            os.write(1, b"%d\\n" % step)
    os.write(1, b"pid %d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"ended\\n")
"""


def test_a_kill_leaves_what_was_acknowledged(tmp_path):
    """A hundred times: masks that were said to be written are there, whole, with the former ones to go back to."""
    generator = random.Random(0)
    with subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        for i in range(100):
            folder = tmp_path / str(i)
            writer.stdin.write(f"{folder}\n".encode())
            writer.stdin.flush()
            lines = iter(lambda: writer.stdout.readline().decode().strip(), "ended")
            told = []
            while len({line.startswith("pid") for line in told}) < 2:
                told.append(next(lines))
            time.sleep(generator.uniform(0, 0.01))
            os.kill(int(next(line for line in told if line.startswith("pid")).split()[1]), signal.SIGKILL)
            last = max(int(line) for line in [*told, *lines] if not line.startswith("pid"))
            store = OverlayStore(folder / "overlay.json")
            (mask,) = store.load()["camera.privacy_masks"]["value"]
            assert round(mask[2][1] * 1_000_000) in (last, last + 1), i
            backup = store.backup()
            assert store.lost is None
            assert not backup or round(backup["camera.privacy_masks"]["value"][0][2][1] * 1_000_000) in (last - 1, last)
            assert {"overlay.json", "overlay.json.backup"} <= {path.name for path in folder.iterdir()}
        writer.stdin.close()


def test_what_was_set_of_a_trigger_that_went_is_dropped(overlay):
    """A trigger that is no longer in the file takes its level with it."""
    made = overlay(config())
    made.set("triggers.door.near", 0.7)
    made.reload(config(triggers=()))
    assert {} == made.values


def test_setting_what_the_file_has_takes_the_setting_back(overlay):
    """Then nothing is overlaid."""
    made = overlay(config())
    made.set("heatmap.interval", 5.0)
    made.set("heatmap.interval", 1.0)
    assert {} == made.values
    assert config() == made.config


def test_every_option_has_a_value():
    """What can be set has a key that exists, and what is not there can't be set."""
    file = config()
    assert {"enabled", "interval", "colormap", "trigger/door/near"} == options(file).keys()
    assert [True, 1.0, "inferno", 0.8] == [value_at(file, key) for key in options(file).values()]
    assert {"enabled"} == options(changed(file, {"heatmap.enabled": False, "triggers": []})).keys()


def test_check_shows_what_was_set(tmp_path, state_directory, capsys):
    """`check --print` shows the configuration in force and names what is not the file's."""
    file = tmp_path / "c.yaml"
    file.write_text("id: hall\npublish: {persist_settings: true}\n")
    made = Overlay(Config(publish={"persist_settings": True}), OverlayStore(state_directory / "overlay.json"))
    made.set("heatmap.interval", 7.0)
    made.save(math.inf)
    assert 0 == main(["check", "--print", str(file)])
    printed = capsys.readouterr().out
    assert "interval: 7.0" in printed
    assert f"in place of what {file} says: heatmap.interval" in printed.splitlines()[0]


def test_a_services_own_is_found_without_being_named(tmp_path, monkeypatch):
    """`sudo edge-depth calibrate --config /etc/edge-depth/…` must not miss the masks that were drawn on the page."""
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("edge.config.SERVICE_STATES", tmp_path / "lib")
    path = tmp_path / "edge-depth@front.yaml"
    path.write_text("id: front\ncamera: {}\n")
    assert () == in_force(path).config.camera.privacy_masks
    kept = tmp_path / "lib" / "edge-depth@front"
    kept.mkdir(parents=True)
    Overlay(config(), OverlayStore(kept / "overlay.json")).replace({"camera.privacy_masks": MASK})
    assert MASK == value_at(in_force(path).config, "camera.privacy_masks")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "other"))
    assert () == in_force(path).config.camera.privacy_masks


jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
points = st.lists(st.fixed_dictionaries({"x": jsons, "y": st.floats(0, 1), "metres": st.floats(0, 9)}), max_size=3)
sections = jsons | st.fixed_dictionaries({"points": points | jsons, "floor": jsons, "max_metres": jsons})


@given(st.sampled_from(["calibration", "heatmap.interval", "camera.enabled", "triggers.door.near"]), jsons | sections)
def test_no_value_does_harm(key, value):
    """Whatever is set is in force afterwards, or refused in words without a trace."""
    with tempfile.TemporaryDirectory() as folder:
        made, refused = Overlay(config(), OverlayStore(Path(folder) / "overlay.json")), None
        try:
            made.set(key, value)
        except ConfigError as error:
            refused = str(error)
    if refused is None:
        json.dumps(made.values, allow_nan=False)
        assert made.config == changed(made.file, made.values)
    else:
        assert key.split(".")[0] in refused
        assert {} == made.values
