"""The configuration's file, read again: what takes something away must stand for a while; half a file says nothing."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.cli import main
from edge.config import load
from edge.daemon.overlay import Overlay
from edge.daemon.reloading import HOLD_SECONDS, Reloading
from edge.errors import ConfigError
from edge.state.stores import OverlayStore
from edge.topics import Topics

HALF = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
VALUES = {
    "id": "hall",
    "camera": {"privacy_masks": [HALF, HALF]},
    "scene": {"ignore_masks": [HALF]},
    "zones": [{"name": "left", "polygon": HALF}],
    "calibration": {"points": [{"x": 0.5, "y": y, "metres": 3 - y} for y in (0.5, 0.9)]},
    "triggers": [{"name": "door", "near": 1.5}],
    "mqtt": {"tls": {}},
    "log": {},
}


@dataclass
class Rig:
    """A file, what was set over it, and what has been gone by."""

    path: Path
    overlay: Overlay = field(init=False)
    done: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write(VALUES)
        self.overlay = Overlay(load(self.path), OverlayStore(self.path.with_name("overlay.json")))
        self.reloading = Reloading(
            self.overlay, Topics("edge-depth", "hall"), lambda: load(self.path), lambda file, gone: self.use(file, gone)
        )

    def write(self, values: dict) -> None:
        self.path.write_text(json.dumps(values) + "\n", encoding="utf-8")

    def use(self, file, gone) -> dict:
        self.overlay.reload(file)
        self.done.append(gone)
        return {"restart_required": []}


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path / "c.yaml")


def without(key: str) -> dict:
    return {name: value for name, value in VALUES.items() if name != key}


GONE = [
    (without("log"), ["log"]),
    (VALUES | {"mqtt": {}}, ["mqtt.tls"]),
    (VALUES | {"mqtt": {"tls": None}}, ["mqtt.tls"]),
    (VALUES | {"camera": {"privacy_masks": [HALF]}}, ["1 of camera.privacy_masks"]),
    (VALUES | {"scene": {}}, ["1 of scene.ignore_masks"]),
    (VALUES | {"zones": []}, ["zones.left", "Home Assistant's 'Zone left'"]),
    (VALUES | {"calibration": {}}, ["Home Assistant's 'Nearest distance'"]),
    (
        VALUES | {"triggers": []},
        ["triggers.door", "Home Assistant's 'Trigger door'", "Home Assistant's 'Trigger door level'"],
    ),
    (
        VALUES | {"heatmap": {"enabled": False}},
        [f"Home Assistant's {name!r}" for name in ("Heatmap", "Heatmap interval", "Heatmap colours")],
    ),
]


@pytest.mark.parametrize(("values", "gone"), GONE)
def test_what_is_taken_away_is_taken_only_from_a_file_that_stands(rig, values, gone, caplog):
    """Nothing is changed for ten seconds; then the file is read once more, and what went is told."""
    rig.write(values)
    answer = rig.reloading.read(100.0)
    assert (False, []) == (answer.done(), rig.done)
    assert gone[0] in caplog.text
    assert not rig.reloading.is_due(100.0 + HOLD_SECONDS - 0.1)
    assert [True, False] == [rig.reloading.is_due(100.0 + HOLD_SECONDS + more) for more in (0, 0.5)]
    rig.reloading.read(100.0 + HOLD_SECONDS)
    assert [gone] == rig.done
    assert {"restart_required": []} == answer.result(0)
    assert not rig.reloading.is_due(200.0)


def test_what_is_added_or_changed_is_gone_by_at_once(rig):
    """Another zone, a moved mask, a value: nothing is missing."""
    moved = [[x / 2, y] for x, y in HALF]
    zones = [*VALUES["zones"], {"name": "right", "polygon": HALF}]
    rig.write(VALUES | {"zones": zones, "camera": {"privacy_masks": [moved, HALF]}, "power": {}})
    assert rig.reloading.read(0.0).done()
    assert [[]] == rig.done


def test_a_file_that_is_whole_again_is_gone_by_at_once(rig):
    """It was met half-written: nothing was taken away, and the first who asked has the answer too."""
    rig.write(without("zones"))
    first = rig.reloading.read(0.0)
    rig.write(VALUES)
    second = rig.reloading.read(1.0)
    assert [[]] == rig.done
    assert first.result(0) == second.result(0)
    assert not rig.reloading.is_due(100.0)


def test_another_file_has_to_stand_for_ten_seconds_of_its_own(rig):
    """What is still being written is not gone by, however often it is read."""
    rig.write(without("zones"))
    rig.reloading.read(0.0)
    rig.write(without("triggers"))
    rig.reloading.read(9.0)
    rig.reloading.read(18.9)
    assert [] == rig.done
    rig.reloading.read(19.0)
    assert ["triggers.door"] == rig.done[0][:1]


def test_a_bad_file_is_the_answer_of_all_who_wait(rig):
    """Nothing is changed then, and nothing waits any more."""
    rig.write(without("zones"))
    first = rig.reloading.read(0.0)
    rig.path.write_text("zones: 7\n", encoding="utf-8")
    second = rig.reloading.read(1.0)
    assert [] == rig.done
    for answer in (first, second):
        with pytest.raises(ConfigError, match="zones: must be a list"):
            answer.result(0)
    assert not rig.reloading.is_due(100.0)


def test_masks_of_the_page_that_would_go_with_the_file_s_are_waited_for_too(rig):
    """They go before the file's until that says something else; so they would be dropped with its own."""
    rig.overlay.set("camera.privacy_masks", [HALF, HALF, HALF])
    rig.write(VALUES | {"camera": {}})
    assert not rig.reloading.read(0.0).done()
    rig.reloading.read(HOLD_SECONDS)
    assert [["3 of camera.privacy_masks"]] == rig.done


CUT_OFF = [
    ("", "must have one section at least"),
    ("# nothing\n", "must have one section at least"),
    ("null\n", "must have one section at least"),
    ("id: hall\nname: Hall\n", "must have one section at least"),
    ("id: hall\nmqtt:\n  host: broker", ":3: must end with a line break"),
    ("id: hall\nmqtt:\n  port: 0", ":3: mqtt.port: must be 1..65535, not 0"),
    ("id: hall\nmqtt:\n  port: 0", ":3: must end with a line break"),
    ("id: hall\nzones: [", ":2: must end with a line break"),
]


@pytest.mark.parametrize(("text", "words"), CUT_OFF)
def test_what_may_be_cut_off_is_refused_everywhere(rig, text, words, capsys):
    """By `check`, at a start and at a reload, with what helps; the problems of what is there are told too."""
    rig.path.write_text(text, encoding="utf-8")
    answer = rig.reloading.read(0.0)
    assert words in str(answer.exception(0))
    assert [] == rig.done
    for command in (["check"], ["run", "--config"]):
        assert 78 == main([*command, str(rig.path)])
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_break_ends_a_file(rig, ending):
    """A file made on another system is whole too."""
    rig.path.write_bytes(f"id: hall{ending}camera:{ending}".encode())
    assert "hall" == load(rig.path).id


def test_a_thousand_damaged_files_take_nothing_away(rig):
    """Cut off, with a hole, with other bytes: each is refused, waits, or leaves every zone, mask and trigger."""
    good, random = rig.path.read_bytes(), np.random.default_rng(19)
    ends = {"refused": 0, "waits": 0, "done": 0}
    for _ in range(1000):
        start, length = int(random.integers(len(good))), int(random.integers(1, 60))
        filling = random.choice([b"", b"\n", random.bytes(1), b"[]", b"null", b"#"])
        rig.path.write_bytes(good[:start] + filling + (good[start + length :] if random.random() < 0.7 else b"\n"))
        answer = rig.reloading.read(0.0)
        ends["waits" if not answer.done() else "refused" if answer.exception(0) else "done"] += 1
        config = rig.overlay.config
        there = [len(config.camera.privacy_masks), len(config.scene.ignore_masks), len(config.zones)]
        assert [2, 1, 1, 1] == [*there, len(config.triggers)]
    assert all(ends.values())
    assert [[]] * ends["done"] == rig.done
