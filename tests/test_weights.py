"""Weights are found, and are what they claim to be."""

import hashlib
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from edge.cli import main
from edge.depth import weights
from edge.errors import WeightsError
from tests.spoiling import spoilt


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    return tmp_path / "weights"


def test_auto_is_the_starter_where_nothing_better_lies(empty_store):
    """Without the official file `auto` means the starter, which says so in its name and note."""
    info, arrays = weights.load("auto")
    assert info.name == "starter-v2"
    assert "starter weights" in info.note
    assert len(info.sha256) == 64
    assert all(array.dtype in (np.float16, np.int64) for array in arrays.values())


def test_auto_prefers_the_official_file(empty_store):
    """Where a file lies at the official place, `auto` means that one."""
    empty_store.mkdir()
    (empty_store / weights.OFFICIAL.file).write_bytes(b"anything")
    assert weights.locate("auto") == (empty_store / weights.OFFICIAL.file, weights.OFFICIAL)


@pytest.mark.parametrize("origin", [{}, {"original_sha256": "0" * 64}])
def test_a_file_under_the_official_name_must_come_of_the_official_file(empty_store, origin):
    """Another file's tensors under the official name are refused with both hashes."""
    empty_store.mkdir()
    save_file({"a": np.ones(2, np.float32)}, empty_store / weights.OFFICIAL.file, origin)
    with pytest.raises(WeightsError, match=r"published file is (unknown|0{64}), expected 70d6b9c8…"):
        weights.load("auto")


def test_missing_official_weights_name_the_two_commands_that_help(empty_store, monkeypatch):
    """Fetch, or import what was carried over; for a service with the place of its state."""
    with pytest.raises(WeightsError) as caught:
        weights.load("midas_v21_small_256")
    command = f"sudo STATE_DIRECTORY={empty_store.parent} edge-depth weights"
    assert f"run `{command} fetch`, or `{command} import FILE`" in str(caught.value)
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(empty_store))
    with pytest.raises(WeightsError, match=r"run `edge-depth weights fetch`, or `edge-depth weights import FILE`"):
        weights.load("midas_v21_small_256")


def test_a_path_that_is_not_there_names_what_is_known(empty_store):
    """The names of the registry and those of imported weights are told."""
    empty_store.mkdir()
    save_file({"a": np.ones(2, np.float32)}, empty_store / "mine.safetensors")
    with pytest.raises(
        WeightsError, match=r"no file nowhere\.safetensors; .* midas_v21_small_256, starter-v2, mine. For"
    ):
        weights.load("nowhere.safetensors")


def test_imported_weights_go_by_their_name(empty_store):
    """`model.weights: mine` is the file of that name in the weights' folder, with the hash of its original."""
    empty_store.mkdir()
    save_file({"a": np.ones(2, np.float32)}, empty_store / "mine.safetensors", {"original_sha256": "ab" * 32})
    info, _ = weights.load("mine")
    assert ("mine", "ab" * 32, "unknown") == (info.name, info.original_sha256, info.licence)
    assert [empty_store / "mine.safetensors"] == weights.imported()


@pytest.mark.parametrize("name", ["auto", "starter-v2", "../x", "", "a/b", ".hidden", "x.pt"])
def test_a_name_that_can_not_be_given_is_refused(name):
    """Known names, paths and endings are no names of the user's own."""
    with pytest.raises(WeightsError, match="--name: must be a name of your own"):
        weights.named_path(name)


def test_a_checkpoint_is_not_loaded(tmp_path):
    """A `.pt` as `model.weights` is answered with the command that makes safetensors of it."""
    path = tmp_path / "w.pt"
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(
        WeightsError, match=r"only safetensors are loaded; it is a torch checkpoint.*weights import FILE"
    ):
        weights.load(str(path))


def test_float16_is_for_what_has_many_numbers():
    """Kernels are halved; a batch norm's variance beyond float16's range stays what it is."""
    halved = weights.halves({"kernel": np.ones((2, 2), np.float32), "variance": np.float32([1e6, 1e-9])})
    assert np.float16 == halved["kernel"].dtype
    np.testing.assert_array_equal(np.float32([1e6, 1e-9]), halved["variance"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"<html>Not found</html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x00" * 100, "it has 100 bytes"),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_what_is_no_weights_file_is_described(tmp_path, data, words, ending):
    """An empty file, a web page, an LFS pointer and rubbish are called by their names."""
    path = tmp_path / f"w.{ending}"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=words):
        weights.read(path)


def test_safetensors_say_which_network_they_are_for(tmp_path):
    """Metadata name encoder, width and expansion; a file without them is taken for the official network."""
    path = tmp_path / "mine.safetensors"
    encoder = "tf_efficientnet_lite4"
    save_file({"a": np.ones(2, np.float32)}, path, {"encoder": encoder, "features": "8", "expand": "true"})
    info, _ = weights.load(str(path))
    assert ("mine", encoder, 8, True) == (
        info.name,
        info.architecture.encoder,
        info.architecture.features,
        info.architecture.expand,
    )
    save_file({"a": np.ones(2, np.float32)}, path)
    assert weights.OFFICIAL.architecture == weights.load(str(path))[0].architecture
    save_file({"a": np.ones(2, np.float32)}, path, {"encoder": encoder, "features": "many", "expand": "true"})
    with pytest.raises(WeightsError, match="metadata must hold encoder, features and expand"):
        weights.load(str(path))


@pytest.mark.parametrize(
    "encoder", ["resnet18", "hf-hub:example/none", "local-dir:/tmp", "tf_efficientnet_lite0.in1k", "nonsense", ""]
)
def test_a_file_can_not_name_any_network_of_timms(tmp_path, encoder):
    """What doesn't fit can't be run, and what is on the network is not looked for: those that can be used are told."""
    path = tmp_path / "mine.safetensors"
    save_file({"a": np.ones(2, np.float32)}, path, {"encoder": encoder, "features": "8", "expand": "true"})
    with pytest.raises(WeightsError, match=r"used here; take weights for one of tf_efficientnet_lite0, ") as it:
        weights.identify(str(path))
    assert f"the encoder {encoder!r}" in str(it.value)
    assert 78 == it.value.exit_code


@pytest.mark.parametrize("features", [-3, 0, 1, 1025, 10**12])
def test_a_file_can_not_name_any_width(tmp_path, features):
    """A decoder of no channels, or of more than there is memory for, is refused before it is built."""
    path = tmp_path / "mine.safetensors"
    shape = {"encoder": "tf_efficientnet_lite0", "features": str(features), "expand": "true"}
    save_file({"a": np.ones(2, np.float32)}, path, shape)
    with pytest.raises(WeightsError, match=rf"features must be 2\.\.1024, not {features}"):
        weights.identify(str(path))


def safetensors(header, numbers=b""):
    """Return a file with that header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "BF16", "C64", "X9"])
def test_numbers_of_another_kind_are_told(tmp_path, kind, capsys):
    """Whatever safetensors may hold, and whatever they may hold one day: it is told, with the status of weights, 78."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(safetensors({"a": {"dtype": kind, "shape": [8], "data_offsets": [0, 8]}}, bytes(8)))
    assert 78 == main(["weights", "verify", str(path)])
    assert str(path) in capsys.readouterr().err


def test_an_absurd_header_is_refused(tmp_path):
    """A header of many bytes, of many levels, or with metadata that are no texts is read no further."""
    path = tmp_path / "mine.safetensors"
    levels = b'{"__metadata__":' + b"[" * 5000
    for data, words in (
        (struct.pack("<Q", 2**62) + b"{}", "4611686018427387904 bytes; 1048576 are allowed"),
        (struct.pack("<Q", len(levels)) + levels, "levels of brackets"),
        (safetensors({"__metadata__": {"encoder": 3}}), "metadata must be texts"),
        (safetensors({"__metadata__": {"features": "9" * 5000}}), "must hold encoder, features and expand"),
    ):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=words) as caught:
            weights.identify(str(path))
        assert len(str(caught.value)) < 1000


def test_what_a_file_says_of_itself_can_not_write_to_the_terminal(empty_store, capsys):
    """A hash that is none is unknown, and no tensor has a name that can't be shown."""
    empty_store.mkdir()
    path = empty_store / "mine.safetensors"
    save_file({"a": np.ones(2, np.float32)}, path, {"original_sha256": "\x1b]0;x\x07"})
    assert 0 == main(["weights", "list"])
    assert weights.identify("mine").original_sha256 is None
    save_file({"a\x1b[31m": np.ones(2, np.float32)}, path)
    assert 78 == main(["weights", "verify", "mine"])
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "a tensor can't be called 'a\\x1b[31m'" in told.err


def test_what_is_hashed_is_what_is_used(tmp_path, monkeypatch):
    """A file that takes the name of another one meanwhile does not go by its hash."""
    path = tmp_path / "mine.safetensors"
    first, second = (save({"a": np.full(2, value, np.float32)}) for value in (1, 2))
    path.write_bytes(first)
    known = weights.identify(str(path))
    path.write_bytes(second)
    with pytest.raises(WeightsError, match="has been replaced since it was looked at"):
        weights.arrays_of(known)

    parse = weights.files.parse_object
    monkeypatch.setattr(weights.files, "parse_object", lambda text: (path.write_bytes(first), parse(text))[1])
    info, arrays = weights.load(str(path))
    assert hashlib.sha256(second).hexdigest() == info.sha256
    np.testing.assert_array_equal([2, 2], arrays["a"])


def test_what_can_not_be_read_is_told(tmp_path):
    """A file that is not there, a folder and a pipe are no reason for anything but WeightsError."""
    with pytest.raises(WeightsError, match="can't be read: No such file"):
        weights.read(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="can't be read: Is a directory"):
        weights.read(tmp_path)


def test_a_thousand_spoilt_files_do_no_harm(tmp_path):
    """Each is refused, or holds numbers."""
    whole = [
        save(
            {"a.weight": np.ones((2, 3), np.float16), "b": np.arange(3), "c": np.array(1, np.float32)}, {"encoder": "x"}
        ),
        save({"a": np.zeros((0, 2), np.float32)}),
    ]
    path, taken = tmp_path / "spoilt.safetensors", 0
    for data in spoilt(whole, 1000):
        path.write_bytes(data)
        try:
            arrays, _ = weights.read(path)
        except WeightsError:
            continue
        taken += 1
        assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert 10 < taken < 900
