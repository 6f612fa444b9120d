"""What survives a restart: old or new, never half, never an error in the thread that saves."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from edge.config import state_directory
from edge.state.stores import JSON_SECONDS, REFERENCE_SECONDS, AnnouncedStore, ReferenceStore, TriggerStore

ROOT = Path(__file__).parents[1]
MAP = np.linspace(0, 1, 48 * 64).reshape(48, 64)
VALUES = {"median": MAP, "sigma": MAP.astype(np.float32), "age": 61.25, "frames": 12, "stale": False, "weights": "é✓"}
REFERENCE = "reference.safetensors"
TRIGGERS = "triggers.json"


def written(directory: Path, values: dict[str, Any] = VALUES) -> Path:
    """Save a reference and return its file."""
    assert ReferenceStore(directory / REFERENCE).save(values, 0.0)
    return directory / REFERENCE


def assert_same(expected: dict[str, Any], found: dict[str, Any] | None):
    assert found is not None
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert type(value) is type(found[name])
        np.testing.assert_array_equal(value, found[name], strict=True)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    """Return the bytes of a reference that can be loaded."""
    return written(tmp_path).read_bytes()


# --- round trips ------------------------------------------------------------------------------------------------------


def test_a_reference_comes_back_as_it_was(tmp_path: Path):
    """Arrays keep their type and shape, numbers and texts their value; the file is its owner's alone."""
    path = written(tmp_path / "not" / "there" / "yet")
    assert_same(VALUES, ReferenceStore(path.parent / REFERENCE).load(0.0))
    assert {REFERENCE} == names(path.parent)
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)


def test_nothing_is_there_at_first(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A first start finds neither reference nor trigger states, makes no file and no noise."""
    assert ReferenceStore(tmp_path / REFERENCE).load(0.0) is None
    assert {} == TriggerStore(tmp_path / TRIGGERS).load()
    assert (set(), []) == (names(tmp_path), caplog.messages)


def test_an_array_may_lie_in_memory_in_any_way(tmp_path: Path):
    """Transposed, reversed and thinned arrays come back with the values that they show."""
    views = {"t": MAP.T, "r": MAP[::-1, ::2]}
    written(tmp_path, views)
    assert_same(views, ReferenceStore(tmp_path / REFERENCE).load(0.0))


maps = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32),
)
plain = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.booleans()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1).map("x{}".format), maps | plain, max_size=5))
def test_whatever_is_saved_is_loaded(tmp_path: Path, values: dict[str, Any]):
    """Any names, maps, numbers and texts come back equal, in kind too."""
    assert ReferenceStore(tmp_path / REFERENCE).save(values, 0.0)
    assert_same(values, ReferenceStore(tmp_path / REFERENCE).load(0.0))


def test_the_state_directory(monkeypatch: pytest.MonkeyPatch):
    """It is systemd's, of several the first, else the user's own data directory."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-depth:/var/lib/other")
    assert Path("/var/lib/edge-depth") == state_directory()
    monkeypatch.setenv("STATE_DIRECTORY", "")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Path("/data/edge-depth") == state_directory()
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert Path("/home/me/.local/share/edge-depth") == state_directory()


# --- seldom -----------------------------------------------------------------------------------------------------------


def test_a_reference_is_written_every_ten_minutes_at_most(tmp_path: Path):
    """Offers in between are declined, and the next after the time is taken."""
    store = ReferenceStore(tmp_path / REFERENCE)
    times = [5.0, 5.1, 300.0, 604.9, 605.0, 1000.0, 1205.0]
    assert [5.0, 605.0, 1205.0] == [now for now in times if store.save({**VALUES, "median": MAP + now}, now)]
    found = store.load(1205.0)
    assert found is not None
    assert np.array_equal(MAP + 1205.0, found["median"])


def test_a_new_reference_waits_a_minute_only(tmp_path: Path):
    """What was learned anew, or calibrated anew, is not lost with the next restart; nor does it wear the card."""
    store = ReferenceStore(tmp_path / REFERENCE)
    times = [5.0, 5.1, 64.9, 65.0, 65.1, 130.0]
    assert [5.0, 65.0, 130.0] == [now for now in times if store.save({**VALUES, "age": now}, now)]
    assert not store.save({**VALUES, "age": 130.0}, 300.0)
    again = ReferenceStore(tmp_path / REFERENCE)
    again.load(0.0)
    assert not again.save({**VALUES, "age": 130.0}, np.inf, only_new=True)
    assert again.save({**VALUES, "age": 131.0}, np.inf, only_new=True)


def test_a_reference_that_was_loaded_is_not_written_at_once(tmp_path: Path):
    """A daemon that dies again and again shortly after its start does not wear the card."""
    written(tmp_path)
    store = ReferenceStore(tmp_path / REFERENCE)
    assert store.load(100.0) is not None
    assert [False, True] == [store.save(VALUES, now) for now in (99.0 + REFERENCE_SECONDS, 100.0 + REFERENCE_SECONDS)]


def test_trigger_states_are_written_when_they_change(tmp_path: Path):
    """Equal states are not written again, neither after a restart; a change soon after another is a little late."""
    store = TriggerStore(tmp_path / TRIGGERS)
    assert [True, False] == [store.save({"door": True, "yard": False}, now) for now in (0.0, 100.0)]
    assert [True, False, False, True] == [
        store.save({"door": on, "yard": False}, now)
        for on, now in [(False, 200.0), (True, 200.1), (True, 199.9 + JSON_SECONDS), (True, 200 + JSON_SECONDS)]
    ]
    again = TriggerStore(tmp_path / TRIGGERS)
    assert {"door": True, "yard": False} == again.load()
    assert not again.save({"yard": False, "door": True}, 0.0)
    assert {TRIGGERS} == names(tmp_path)


def test_the_callers_own_states_may_go_on_changing(tmp_path: Path):
    """What was written or loaded is remembered as it was, though the caller changes the very same mapping."""
    store, states = TriggerStore(tmp_path / TRIGGERS), {"door": True}
    assert store.save(states, 0.0)
    states["door"] = False
    assert store.save(states, 100.0)
    states = store.load()
    states["door"] = True
    assert store.save(states, 200.0)


# --- damaged ----------------------------------------------------------------------------------------------------------


def metadata(**values: str) -> bytes:
    return save({"median": MAP}, {"schema": "1", "plain": "{}", "sha256": "0"} | values)


def tensor(dtype: str, shape: list[int], size: int) -> bytes:
    header = json.dumps({"m": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is damaged"),
        (b"\0" * 5000, "is damaged"),
        (b'{"schema": 1}', "is damaged"),
        (metadata(), "is damaged (its checksum is wrong)"),
        (metadata(schema="2"), "has schema 2, and this version of edge-depth reads 1"),
        (save({"median": MAP}), "has schema None"),
        ((24).to_bytes(8, "little") + b'{"__metadata__": null}  ', "has schema None"),
        (tensor("BF16", [1], 2), "is damaged"),
        (tensor("F64", [0, 2**63], 0), "is damaged"),
        (b"\1" * ((16 << 20) + 1), "is larger than 16777216 bytes"),
    ],
    ids=["empty", "zeros", "json", "checksum", "schema", "foreign", "null", "dtype", "shape", "large"],
)
def test_a_reference_that_cannot_be_used_is_set_aside(
    data: bytes, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """It is renamed, with one warning that says why; one such file is kept, and the next save is taken at once."""
    path, aside = tmp_path / REFERENCE, tmp_path / f"{REFERENCE}.damaged"
    aside.write_bytes(b"from last year")
    path.write_bytes(data)
    store = ReferenceStore(tmp_path / REFERENCE)
    assert store.load(0.0) is None
    assert data == aside.read_bytes()
    assert [logging.WARNING] == [record.levelno for record in caplog.records]
    assert caplog.messages[0].startswith(f"{path}: ")
    assert caplog.messages[0].endswith(f"; starting without it; it is now {aside.name}")
    assert problem in caplog.text
    assert store.save(VALUES, 0.0)
    assert {path.name, aside.name} == names(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"schema": 2, "triggers": {}}',
        b'{"schema": 1, "triggers": ["door"]}',
        b'{"schema": 1, "triggers": {"door": "on"}}',
        b'{"schema": 1, "triggers": {"door": true}',
    ],
)
def test_trigger_states_that_cannot_be_used_are_set_aside(data: bytes, tmp_path: Path):
    """The daemon then starts without them, and writes them anew."""
    (tmp_path / TRIGGERS).write_bytes(data)
    store = TriggerStore(tmp_path / TRIGGERS)
    assert {} == store.load()
    assert data == (tmp_path / f"{TRIGGERS}.damaged").read_bytes()
    assert store.save({"door": True}, 0.0)
    assert {"door": True} == TriggerStore(tmp_path / TRIGGERS).load()


def test_a_single_wrong_bit_is_noticed(good: bytes, tmp_path: Path):
    """A bit that a worn card returns wrong, wherever it lies, never becomes part of a background."""
    for at in [*range(600), *range(600, len(good), 499), len(good) - 1]:
        changed = bytearray(good)
        changed[at] ^= 1 << at % 8
        (tmp_path / REFERENCE).write_bytes(changed)
        assert ReferenceStore(tmp_path / REFERENCE).load(0.0) is None, at


def test_arrays_that_change_their_shape_or_their_places_are_noticed(good: bytes, tmp_path: Path):
    """The checksum holds the names and shapes too, not the numbers alone."""
    assert all(text in good for text in (b"[48,64]", b'"median"', b'"sigma"'))
    for changed in (good.replace(b"[48,64]", b"[64,48]"), good.replace(b'"median"', b'"nadiem"')):
        (tmp_path / REFERENCE).write_bytes(changed)
        assert ReferenceStore(tmp_path / REFERENCE).load(0.0) is None


def headers() -> st.SearchStrategy[bytes]:
    """Return files with a well-formed length and nearly well-formed JSON behind it."""
    tensor = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F64", "F32", "BF16", "F8_E4M3", "BOOL", "X"]),
            "shape": st.lists(st.sampled_from([0, 1, 2, 2**31, 2**63, -1]), max_size=70),
            "data_offsets": st.tuples(st.sampled_from([0, 8, 2**63]), st.sampled_from([0, 8, 16, 2**64])),
        }
    )
    words = st.dictionaries(st.sampled_from(["schema", "plain", "sha256"]), st.sampled_from(["1", "{}", "[1", "0"]))
    parts = st.fixed_dictionaries({}, optional={"__metadata__": st.none() | words | st.just([1]), "m": tensor})
    texts = parts.map(json.dumps).map(str.encode) | st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b"null", b"1"])
    return st.builds(lambda text, tail: len(text).to_bytes(8, "little") + text + tail, texts, st.binary(max_size=16))


@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | headers())
def test_no_bytes_are_an_error(tmp_path: Path, data: bytes):
    """Whatever lies where a reference or trigger states are looked for, it is set aside, and nothing is raised."""
    (tmp_path / REFERENCE).write_bytes(data)
    (tmp_path / TRIGGERS).write_bytes(data)
    assert ReferenceStore(tmp_path / REFERENCE).load(0.0) is None
    assert {} == TriggerStore(tmp_path / TRIGGERS).load()
    assert {f"{REFERENCE}.damaged", f"{TRIGGERS}.damaged"} == names(tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_reference_with_wrong_bytes_is_old_or_nothing(good: bytes, tmp_path: Path, data: st.DataObject):
    """However a good file is changed or cut, what is loaded is what was saved, or nothing."""
    cut = data.draw(st.integers(0, len(good)))
    changed = bytearray(good[:cut] if data.draw(st.booleans()) else good)
    for at in data.draw(st.lists(st.integers(0, min(len(good), 400) - 1), max_size=4)):
        if at < len(changed):
            changed[at] = data.draw(st.integers(0, 255))
    (tmp_path / REFERENCE).write_bytes(changed)
    found = ReferenceStore(tmp_path / REFERENCE).load(0.0)
    if found is not None:
        assert_same(VALUES, found)


# --- unwritable -------------------------------------------------------------------------------------------------------


def test_an_unwritable_place_is_a_state(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """It is told once, nothing is raised, attempts stay rare, and that it works again is told once too."""
    caplog.set_level(logging.INFO)
    place = tmp_path / "state"
    place.write_text("a file where the directory should be")
    store = TriggerStore(place / TRIGGERS)
    assert {} == store.load()
    assert f"{place / TRIGGERS}: can't be read: Not a directory; starting without it" == caplog.messages.pop()
    times = [step * JSON_SECONDS for step in range(5)]
    assert [False] * 3 == [store.save({"door": True}, now) for now in times[:3]]
    place.unlink()
    assert [False, True, False] == [store.save({"door": True}, now) for now in (times[3] - 1, times[3], times[4])]
    expected = "can't be written: File exists; a restart will not know of it"
    assert [f"{place / TRIGGERS}: {expected}", f"{place / TRIGGERS}: written again"] == caplog.messages[-2:]
    assert 3 == len(caplog.records)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Where the space ends in the middle of a write, the old reference stays and the half of the new one goes."""
    store = ReferenceStore(tmp_path / REFERENCE)
    assert store.save(VALUES, 0.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert not store.save({**VALUES, "age": 62.0}, REFERENCE_SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [f"{tmp_path / REFERENCE}: can't be written: File too large; a restart will not know of it"] == (
        caplog.messages
    )
    assert {REFERENCE} == names(tmp_path)
    assert_same(VALUES, ReferenceStore(tmp_path / REFERENCE).load(0.0))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.zeros((2, 2), np.float16), "sigma must be float32 or float64 (h, w), not float16 (2, 2)"),
        (np.zeros(4), "sigma must be float32 or float64 (h, w), not float64 (4,)"),
        (np.zeros((0, 4)), "sigma must be float32 or float64 (h, w), not float64 (0, 4)"),
        (np.full((2, 2), np.nan), "sigma holds values that are not finite"),
        (float("inf"), "not JSON compliant"),
        (np.zeros((1500, 1500)), "16777216 are allowed"),
    ],
    ids=["dtype", "dimensions", "empty", "nan", "infinity", "large"],
)
def test_what_could_not_be_loaded_is_not_saved(
    value: Any, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Values that a start would refuse leave the old file as it is, with a warning and without an error."""
    store = ReferenceStore(tmp_path / REFERENCE)
    assert store.save(VALUES, 0.0)
    assert not store.save({**VALUES, "sigma": value}, REFERENCE_SECONDS)
    assert problem in caplog.messages[0]
    assert_same(VALUES, store.load(0.0))


def test_another_kind_of_value_is_a_mistake(tmp_path: Path):
    """What is neither array, number nor text is the caller's error, not the disk's."""
    with pytest.raises(TypeError, match="Path"):
        ReferenceStore(tmp_path / REFERENCE).save({"file": tmp_path}, 0.0)


# --- killed -----------------------------------------------------------------------------------------------------------


def test_the_data_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The new file is synced before it takes the old one's place, and the directory after."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        calls.append(f"{path.name} -> {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    written(tmp_path)
    new = f"{REFERENCE}.new"
    assert [f"fsync {new}", f"{new} -> {REFERENCE}", f"fsync {tmp_path.name}"] == calls


WRITER = """
import sys
from pathlib import Path
import numpy as np
from edge.state.stores import ReferenceStore

store = ReferenceStore(Path(sys.argv[1]) / "reference.safetensors")
for step in range(1_000_000):
    values = {name: np.full((192, 256), float(step)) for name in ("median", "sigma")}
    assert store.save({**values, "step": step}, 600.0 * step)
    print(step, flush=True)
"""


def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """However often a daemon is killed while it writes, a whole reference is there, and at most one left-over."""
    generator = np.random.default_rng(0)
    for _ in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert "0\n" == writer.stdout.readline()
            time.sleep(generator.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            told = int(["0", *writer.stdout.read().split()][-1])
        found = ReferenceStore(tmp_path / REFERENCE).load(0.0)
        assert found is not None
        assert found["step"] in (told, told + 1)
        for name in ("median", "sigma"):
            np.testing.assert_array_equal(np.full((192, 256), float(found["step"])), found[name])
        assert {REFERENCE} <= names(tmp_path) <= {REFERENCE, f"{REFERENCE}.new"}
    assert [] == caplog.messages


def test_what_was_announced_is_kept(tmp_path: Path):
    """The next run knows it; the same again is not written; a damaged file is set aside."""
    announced = {"homeassistant/device/x/config": ["sensor/nearest", "camera/heatmap"]}
    store = AnnouncedStore(tmp_path / "announced.json")
    assert store.load() == {}
    assert store.save(announced, 0.0)
    assert not store.save(announced, 1.0)
    assert AnnouncedStore(tmp_path / "announced.json").load() == announced
    (tmp_path / "announced.json").write_text('{"schema": 1, "announced": {"a": [1]}}')
    assert AnnouncedStore(tmp_path / "announced.json").load() == {}
    assert (tmp_path / "announced.json.damaged").exists()
