"""A torch checkpoint is read without torch, and nothing in it is ever run."""

import io
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.depth.weights import apart, read_foreign
from edge.depth.weights.checkpoint import read_checkpoint
from edge.errors import WeightsError
from tests.spoiling import spoilt

MARKER = "/tmp/edge-depth-was-here"
OLD = {"_use_new_zipfile_serialization": False}  # the format of torch before 1.6


def save_checkpoint(path, value, **options):
    torch.save(value, path, **options)
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


def test_a_checkpoint_is_read_without_torch_as_torch_reads_it(tmp_path):
    """The reader returns what torch.save wrote: float32, float16, int64, scalars, shared storage and offsets."""
    base = torch.arange(12, dtype=torch.float32)
    state = OrderedDict(
        a=base[:6].reshape(2, 3), b=base[6:], half=torch.ones(2, 2, dtype=torch.float16), n=torch.tensor(7)
    )
    arrays = read_checkpoint(save_checkpoint(tmp_path / "w.pt", state))
    assert list(state) == list(arrays)
    for key, tensor in state.items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[key])


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {MARKER}",)


class Sneaky:
    def __reduce__(self):
        return getattr, (OrderedDict, "fromkeys")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": Evil()}, r"it asks for (posix|nt)\.system"),
        ({"a": Sneaky()}, r"it asks for (__builtin__|builtins)\.getattr"),
        (torch.nn.Linear(2, 2), r"it asks for torch\.nn\.modules\.linear\.Linear"),
        ([1, 2], "no flat state dict"),
        ({"a": 0.5}, "its pickle uses BINFLOAT"),
        ({"a\x1b[31m": torch.ones(1)}, r"a tensor can't be called 'a\\x1b\[31m'"),
        ({"a\udced": torch.ones(1)}, r"a tensor can't be called"),
        ({"a": {"b": torch.ones(1)}}, "no flat state dict"),
        ({"a": torch.ones(3, 4).T}, "not contiguous"),
    ],
)
def test_what_a_list_of_tensors_does_not_need_is_refused(tmp_path, value, reason):
    """Code, modules, nested or transposed contents are refused with the reason, and nothing is run."""
    with pytest.raises(WeightsError, match=reason):
        read_checkpoint(save_checkpoint(tmp_path / "w.pt", value))
    assert not Path(MARKER).exists()


def test_declared_sizes_are_checked(tmp_path):
    """A storage shorter than declared is refused before any array is made of it."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.ones(8)})
    rewritten(path, lambda name, data: data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(WeightsError, match="has not the declared 32 bytes"):
        read_checkpoint(path)


def test_a_compressed_storage_is_refused(tmp_path):
    """PyTorch stores; a compressed entry could be a bomb."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    with pytest.raises(WeightsError, match="storage 0 is missing or has not"):
        read_checkpoint(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    """Half a file is told apart from weights."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="truncated or damaged: bring it again"):
        read_checkpoint(path)


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
        arrays = read_checkpoint(path)
    except WeightsError:
        return
    finally:
        path.unlink()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_a_newer_pickle_protocol_is_read(tmp_path):
    """The opcodes of newer pickle protocols for the same contents are known as well."""
    path = tmp_path / "w.pt"
    torch.save(OrderedDict(a=torch.ones(2)), path, pickle_protocol=4)
    assert list(read_checkpoint(path)) == ["a"]


@pytest.mark.parametrize("options", [{}, OLD])
def test_both_formats_of_torch_are_read(tmp_path, options):
    """The zip of torch from 1.6 on and the row of pickles before it hold the same arrays."""
    base = torch.arange(12, dtype=torch.float32)
    state = OrderedDict(a=base[:6].reshape(2, 3), b=base[6:], n=torch.tensor(7), half=torch.ones(2).half())
    arrays = read_checkpoint(save_checkpoint(tmp_path / "w.pt", state, **options))
    assert list(state) == list(arrays)
    for key, tensor in state.items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[key])


@pytest.mark.parametrize("value", [{"a": Evil()}, {"a": Sneaky()}, torch.nn.Linear(2, 2)])
def test_the_old_format_is_refused_for_the_same_reasons(tmp_path, value):
    """Code in the older row of pickles is not run either."""
    with pytest.raises(WeightsError, match="refused: it"):
        read_checkpoint(save_checkpoint(tmp_path / "w.pt", value, **OLD))
    assert not Path(MARKER).exists()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_old_checkpoint_is_refused(tmp_path, share):
    """Wherever a row of pickles ends too early, it is no weights file."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.ones(1000)}, **OLD)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match="truncated or damaged: bring it again"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("pretrained.model.blocks.0.norm1.weight", "a DPT model"),
        ("pretrained.layer3.22.conv1.weight", r"MiDaS v2 or v2\.1 large"),
        ("depth_head.projects.0.weight", "a Depth Anything model"),
        ("core.core.scratch.layer1_rn.weight", "a ZoeDepth model"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_another_model_is_named(tmp_path, key, model, wrapped):
    """What is often taken for the small model is called by its name, alone or inside a training's state."""
    state = {key: torch.ones(1)}
    path = save_checkpoint(tmp_path / "w.pt", {"optimizer": [1], "model": state} if wrapped else state)
    with pytest.raises(WeightsError, match=f"it is {model}.*; needed is MiDaS v2.1 small"):
        read_checkpoint(path)


def test_a_torchscript_program_is_named(tmp_path):
    """The traced model of the same release is a program, not the checkpoint."""
    path = tmp_path / "w.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(WeightsError, match="it is a TorchScript program"):
        read_checkpoint(path)


def test_strides_of_sides_of_one_do_not_matter(tmp_path):
    """A depthwise kernel that was channels-last is contiguous, whatever its strides are called."""
    kernel = torch.rand(4, 1, 3, 3).contiguous(memory_format=torch.channels_last)
    arrays = read_checkpoint(save_checkpoint(tmp_path / "w.pt", {"a": kernel}))
    np.testing.assert_array_equal(kernel.numpy(), arrays["a"])


def test_shared_memory_does_not_multiply(tmp_path):
    """Many tensors on one storage declare more numbers than are allowed, though the file is small."""
    base = torch.zeros(1 << 20)
    path = save_checkpoint(tmp_path / "w.pt", {f"t{i}": base for i in range(100)})
    with pytest.raises(WeightsError, match=r"declares \d+ bytes of numbers; 268435456 are allowed"):
        read_checkpoint(path)


def test_a_foreign_file_is_read_in_a_process_of_its_own(tmp_path):
    """The child hands over the arrays; its refusal is the parent's error, and nothing was run."""
    good = save_checkpoint(tmp_path / "good.pt", {"a": torch.arange(3.0)})
    np.testing.assert_array_equal([0, 1, 2], read_foreign(good)["a"])
    bad = save_checkpoint(tmp_path / "bad.pt", {"a": Evil()})
    with pytest.raises(WeightsError, match=rf"{re.escape(str(bad))}: refused: it asks for posix\.system"):
        read_foreign(bad)
    assert not Path(MARKER).exists()
    with pytest.raises(WeightsError, match="there is no such file"):
        read_foreign(tmp_path / "none.pt")


def test_a_refusal_can_not_write_to_the_terminal(tmp_path):
    """Names from the file reach the message without control characters."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": Evil()})
    rewritten(path, lambda name, data: data.replace(b"system", b"\x1b[31m!") if name.endswith("data.pkl") else data)
    with pytest.raises(WeightsError) as caught:
        read_foreign(path)
    assert "?[31m!" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_reader_has_its_limits(tmp_path):
    """Before it opens the file the child has bounded its memory, its time, what it writes, and its core dumps."""
    script = (
        "import resource, sys, edge.depth.weights.__main__ as child\n"
        "child.read_checkpoint = lambda path: {}\n"
        "child.main('none', sys.argv[1])\n"
        "print(*(resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[0] for n in ('AS', 'CPU', 'FSIZE', 'CORE')))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert [apart.MEMORY_BYTES, apart.CPU_SECONDS, apart.MEMORY_BYTES, 0] == list(map(int, done.stdout.split()))


def test_a_reader_that_takes_too_long_is_stopped(tmp_path, monkeypatch):
    """Past its time the child is killed and the file refused."""
    path = save_checkpoint(tmp_path / "w.pt", {"a": torch.ones(1)})
    monkeypatch.setattr(apart, "_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(WeightsError, match="reading it took more than"):
        read_foreign(path)


# Pickles written by hand: what no Python object becomes by itself.


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(words):
    return b"X" + struct.pack("<I", len(words)) + words.encode()


STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\4tQ"
EMPTY = name("collections", "OrderedDict") + b")R"


def tensor(storage=STORAGE, offset=b"K\0", shape=b"K\4\x85", stride=b"K\1\x85"):
    whole = storage + offset + shape + stride + b"\x89" + EMPTY
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + whole + b"tR"


def state(value, more=b""):
    return b"\x80\2}(" + text("a") + value + b"u" + more + b"."


def zipped(path, listing):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", listing)
        archive.writestr("w/data/0", bytes(16), zipfile.ZIP_STORED)
    return path


DOUBLED = b")q\0" + b"h\0h\0\x86q\0" * 60  # a tuple of two that are each a tuple of two ...
LONG = b"\x8a\xff" + b"\x7f" * 255


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (state(tensor() + b"(" + STORAGE + b"\x8a\x01\x9cK\4\x85tb"), "it changes what"),
        (state(tensor(STORAGE + b"(" + name("torch", "LongStorage") + text("0") + b"K\4tb")), "it changes what"),
        (b"\x80\2" + name("torch", "FloatStorage") + b"(K\3" + text("|") + b"NNNK\x40K\1K\0tb0.", "it changes what"),
        (b"\x80\2" + name("torch", "FloatStorage") + b"(K\3" + text("|") + b"NNNK\x40K\1K\0tb.", "it changes what"),
        (state(tensor(), b"}(" + text("items") + name("collections", "OrderedDict") + b"ub"), "it changes what"),
        (b"\x80\2" + DOUBLED + name("collections", "OrderedDict") + b"h\0\x85R.", "it calls what"),
        (b"\x80\2" + DOUBLED + b"}h\0K\0s.", "other names than texts"),
        (b"\x80\2" + DOUBLED + state(tensor(stride=b"h\0\x85"))[2:], "not described"),
        (b"\x80\2" + DOUBLED + state(tensor(STORAGE.replace(b"K\4", b"h\0")))[2:], "a storage is not described"),
        (state(tensor(shape=LONG + b"\x85")), "not described"),
        (state(tensor(shape=b"(" + b"K\1" * 9 + b"t", stride=b"(" + b"K\1" * 9 + b"t")), "not described"),
        (b"\x80\2" + b"N" * (4 << 20) + b".", "more than 200000 steps"),
        (b"\x80\2)" + b"\x85" * (4 << 20) + b".", "more than 200000 steps"),
        (state(tensor() + b"K\0\x81"), "its pickle uses NEWOBJ"),
    ],
)
def test_no_small_pickle_makes_much_work_or_changes_what_was_checked(listing, words, tmp_path):
    """What is built on a tensor, named by a tree of tuples, or goes on and on is refused, whatever it would become."""
    with pytest.raises(WeightsError, match=rf"refused: .*{words}") as caught:
        read_checkpoint(zipped(tmp_path / "w.pt", listing))
    assert len(str(caught.value)) < 1000


def test_attributes_of_a_state_dict_are_passed_over(tmp_path):
    """PyTorch adds versions of its modules to an ordered dict; a pickle that means others by them changes nothing."""
    many = EMPTY + b"(" + text("a") + tensor() + b"u}(" + text("items") + name("collections", "OrderedDict") + b"ub"
    assert ["a"] == list(read_checkpoint(zipped(tmp_path / "w.pt", b"\x80\2" + many + b".")))


def test_a_thousand_spoilt_checkpoints_do_no_harm(tmp_path):
    """Each is refused, or holds numbers: in the format of today, in the old one, and with a damaged list alone."""
    values = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(2).half(), n=torch.tensor(7))
    new, old = (save_checkpoint(tmp_path / "w.pt", values, **options).read_bytes() for options in ({}, OLD))
    files = [*spoilt([new, old], 500), *spoilt([state(tensor()), state(tensor(), b"0}" + EMPTY)], 500)]
    taken = 0
    for number, data in enumerate(files):
        path = tmp_path / "spoilt.pt"
        zipped(path, data) if number >= 500 else path.write_bytes(data)
        try:
            arrays = read_checkpoint(path)
        except WeightsError:
            continue
        taken += 1
        assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert 10 < taken < 900
