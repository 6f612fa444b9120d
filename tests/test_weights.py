"""Weight files are what they claim to be, and nothing in them is ever run."""

import io
import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edge import weights
from edge.errors import WeightsError


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    return tmp_path / "weights"


def save_checkpoint(path, value):
    torch.save(value, path)
    return path


def rewritten(path, change):
    """Write the zip at `path` anew with its entries passed through `change(name, data)`; null drops an entry."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            changed = change(name, data)
            if changed is not None:
                archive.writestr(name, changed)
    return path


def test_auto_is_the_starter_where_nothing_better_lies(empty_store):
    """Without the official file `auto` means the starter, which says so in its name and note."""
    info, arrays = weights.load("auto")
    assert info.name == "starter-seed"
    assert "starter weights" in info.note
    assert len(info.sha256) == 64
    assert all(array.dtype in (np.float16, np.int64) for array in arrays.values())


def test_auto_prefers_the_official_file(empty_store):
    """Where a file lies at the official place, `auto` means that one."""
    empty_store.mkdir()
    (empty_store / weights.OFFICIAL.file).write_bytes(b"anything")
    assert weights.locate("auto") == (empty_store / weights.OFFICIAL.file, weights.OFFICIAL)


def test_a_file_under_the_official_name_must_have_its_hash(empty_store):
    """Another file under the official name is refused with both hashes."""
    empty_store.mkdir()
    (empty_store / weights.OFFICIAL.file).write_bytes(b"<!DOCTYPE html><title>404</title>")
    with pytest.raises(WeightsError, match=r"expected 70d6b9c8…; it is a web page"):
        weights.load("auto")


def test_missing_weights_say_where_to_get_them(empty_store):
    """A known name that is not there names place and source; a path that is not there names what is known."""
    with pytest.raises(
        WeightsError, match=r"is not at .*weights.*midas_v21_small_256.pt; bring it there from https://"
    ):
        weights.load("midas_v21_small_256")
    with pytest.raises(WeightsError, match=r"there is no file nowhere\.safetensors; give a path, auto, or one of"):
        weights.load("nowhere.safetensors")


def test_a_checkpoint_is_read_without_torch_as_torch_reads_it(tmp_path):
    """The reader returns what torch.save wrote: float32, float16, int64, scalars, shared storage and offsets."""
    base = torch.arange(12, dtype=torch.float32)
    state = OrderedDict(
        a=base[:6].reshape(2, 3), b=base[6:], half=torch.ones(2, 2, dtype=torch.float16), n=torch.tensor(7)
    )
    arrays, _ = weights.read(save_checkpoint(tmp_path / "w.pt", state))
    assert list(state) == list(arrays)
    for key, tensor in state.items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[key])


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/edge-depth-was-here",)


class Sneaky:
    def __reduce__(self):
        return getattr, (OrderedDict, "fromkeys")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": Evil()}, r"it asks for (posix|nt)\.system"),
        ({"a": Sneaky()}, r"it asks for (__builtin__|builtins)\.getattr"),
        (torch.nn.Linear(2, 2), "its pickle uses NEWOBJ"),
        ([1, 2], "its pickle uses EMPTY_LIST"),
        ({"a": {"b": torch.ones(1)}}, "no flat state dict"),
        ({"a": torch.ones(3, 4).T}, "not contiguous"),
    ],
)
def test_what_a_list_of_tensors_does_not_need_is_refused(tmp_path, value, reason):
    """Code, modules, nested or transposed contents are refused with the reason, and nothing is run."""
    with pytest.raises(WeightsError, match=reason):
        weights.read(save_checkpoint(tmp_path / "w.pt", value))
    assert not Path("/tmp/edge-depth-was-here").exists()


def test_declared_sizes_are_checked(tmp_path):
    """A storage shorter than declared is refused before any array is made of it."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.ones(8)})
    rewritten(path, lambda name, data: data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(WeightsError, match="has not the declared 32 bytes"):
        weights.read(path)


def test_a_compressed_storage_is_refused(tmp_path):
    """PyTorch stores; a compressed entry could be a bomb."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    with pytest.raises(WeightsError, match="storage 0 is missing or has not"):
        weights.read(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    """Half a file is told apart from weights."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="truncated or damaged: bring it again"):
        weights.read(path)


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
    save_file({"a": np.ones(2, np.float32)}, path, {"encoder": "e", "features": "8", "expand": "true"})
    info, _ = weights.load(str(path))
    assert ("mine", "e", 8, True) == (
        info.name,
        info.architecture.encoder,
        info.architecture.features,
        info.architecture.expand,
    )
    save_file({"a": np.ones(2, np.float32)}, path)
    assert weights.OFFICIAL.architecture == weights.load(str(path))[0].architecture
    save_file({"a": np.ones(2, np.float32)}, path, {"encoder": "e", "features": "many", "expand": "true"})
    with pytest.raises(WeightsError, match="metadata must hold encoder, features and expand"):
        weights.load(str(path))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_hostile_pickles_are_refused_or_hold_numbers(data):
    """Whatever the bytes of the list of tensors, the reader returns arrays or WeightsError."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02" + data + b".")
    path = Path(os.environ.get("TMPDIR", "/tmp")) / "edge-depth-fuzz.pt"
    path.write_bytes(buffer.getvalue())
    try:
        arrays, _ = weights.read(path)
    except WeightsError:
        return
    finally:
        path.unlink()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_a_newer_pickle_protocol_is_read(tmp_path):
    """The opcodes of newer pickle protocols for the same contents are known as well."""
    path = tmp_path / "w.pt"
    torch.save(OrderedDict(a=torch.ones(2)), path, pickle_protocol=4)
    assert list(weights.read(path)[0]) == ["a"]
