"""The configuration in force: the file's, and over it what was set."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cli import main
from edge.config import Config, changed, options, value_at
from edge.errors import ConfigError
from edge.overlay import Overlay, in_force
from edge.state import OverlayStore

POINTS = [{"x": 0.2, "y": 0.9, "metres": 1.0}, {"x": 0.5, "y": 0.5, "metres": 4.0}]


def config(**sections) -> Config:
    return Config.model_validate({"triggers": ({"name": "door", "near": 0.8, "measure": "nearness"},), **sections})


@pytest.fixture
def overlay(tmp_path):
    """Return a function that makes the overlay of a file, each time as after a restart."""
    return lambda file: Overlay(file, OverlayStore(tmp_path, "hall"))


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


def test_masks_that_may_be_lost_keep_the_picture_here(overlay, tmp_path, caplog):
    """A damaged file of what was set: the backup's masks are used, and no picture leaves until somebody has looked."""
    file = config(publish={"picture": True}, heatmap={"overlay": True})
    made = overlay(file)
    made.replace({"camera.privacy_masks": MASK})
    made.replace({"zones": [{"name": "door", "polygon": MASK[0]}]})
    assert made.config.publish.picture
    written = tmp_path / "overlay-hall.json"
    written.write_bytes(written.read_bytes()[:-5])
    for _ in range(2):  # the second run finds no file at first, and the damaged one aside
        again = overlay(file)
        again.set("heatmap.interval", 3.0)
        assert (False, False) == (again.config.publish.picture, again.config.heatmap.overlay)
        assert f"set them anew, then delete {written}.damaged" in caplog.text
        assert MASK == value_at(again.config, "camera.privacy_masks")
        again.save(math.inf)
        caplog.clear()
    (tmp_path / "overlay-hall.json.damaged").unlink()
    assert overlay(file).config.publish.picture


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
    made = Overlay(Config(publish={"persist_settings": True}), OverlayStore(state_directory, "hall"))
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
    Overlay(config(), OverlayStore(kept, "front")).replace({"camera.privacy_masks": MASK})
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
        made, refused = Overlay(config(), OverlayStore(Path(folder), "hall")), None
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
