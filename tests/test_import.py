"""Official weights: fetched or carried over, checked, converted, used."""

import dataclasses
import hashlib
import json
import os
import pty
import re
import sys

import numpy as np
import pytest
import torch

from edge.cli import main
from edge.commands import weights as command
from edge.depth import export, weights
from edge.depth.midas import build
from edge.depth.weights import registry
from edge.errors import WeightsError
from tests import parity
from tests.file_server import served


@pytest.fixture(scope="module")
def original():
    """A checkpoint of the official format and size, made-up."""
    return parity.checkpoint_bytes(parity.checkpoint())


@pytest.fixture
def carried(original, tmp_path):
    path = tmp_path / "carried.pt"
    path.write_bytes(original)
    return path


@pytest.fixture
def official(original, monkeypatch):
    """The made-up checkpoint is the official one: its hash stands in the registry, with all its digits."""
    facts = dataclasses.replace(weights.OFFICIAL, sha256=hashlib.sha256(original).hexdigest(), urls=("http://",))
    replace_official(monkeypatch, facts)
    return facts


def replace_official(monkeypatch, facts):
    for module in (weights, registry, export.checkpoint):
        monkeypatch.setattr(module, "OFFICIAL", facts)
        if hasattr(module, "REGISTRY"):
            monkeypatch.setattr(module, "REGISTRY", (facts, weights.STARTER))


def test_the_official_file_is_imported_and_then_auto(official, carried, capsys):
    """The converted file does the same, is half as large, has nothing unused, names its original, and is taken."""
    assert 0 == main(["weights", "import", str(carried)])
    assert official.sha256 in capsys.readouterr().out
    info, arrays = weights.load("auto")
    assert (official.name, official.sha256) == (info.name, info.original_sha256)
    assert info.path.stat().st_size < 0.42 * carried.stat().st_size
    assert not [key for key in arrays if "refinenet4.resConfUnit1" in key or "num_batches_tracked" in key]
    expected = parity.expected()[256, 128]
    x = (parity.picture(128, 256) / np.float32(255) - np.float32([0.485, 0.456, 0.406])) / np.float32(
        [0.229, 0.224, 0.225]
    )
    with torch.inference_mode():
        result = build(info.architecture, arrays)(torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)))
    assert np.abs(expected - result[0].numpy()[::4, ::4]).max() <= export.TOLERANCE * np.ptp(expected)
    assert 0 == main(["weights", "list"])
    assert f"here is  {official.sha256}" in capsys.readouterr().out
    assert 0 == main(["weights", "verify"])
    assert f"sha256 of the original: {official.sha256}" in capsys.readouterr().out
    assert 0o644 == info.path.stat().st_mode & 0o777


def test_another_file_of_the_format_needs_a_name_of_its_own(carried, original, capsys, tmp_path, photos):
    """It does not pass for the official one; under its own name it is imported and used."""
    assert 78 == main(["weights", "import", str(carried)])
    told = capsys.readouterr().err
    assert "fits the network, but is not midas_v21_small_256" in told
    assert "--name NAME" in told
    assert 0 == main(["weights", "import", str(carried), "--name", "mine"])
    capsys.readouterr()
    predict = ["predict", str(photos / "desk.jpg"), "-o", str(tmp_path / "out"), "--weights", "mine", "--json"]
    assert 0 == main(predict)
    assert "mine" == json.loads(capsys.readouterr().out)["weights"]
    assert 0 == main(["weights", "list"])
    assert hashlib.sha256(original).hexdigest() in capsys.readouterr().out


def test_fetch_brings_the_file_over_a_break(official, original, capsys, state_directory):
    """Broken off in the middle, gone on with, imported; the download itself is deleted; a second fetch does nothing."""
    with served(original, cut=len(original) // 2) as server:
        assert 0 == main(["weights", "fetch", "--url", server.url])
        assert [None, f"bytes={len(original) // 2}-"] == server.starts()
        assert [official.file] == [path.name for path in (state_directory / "weights").iterdir()]
        assert official.sha256 == weights.load("auto")[0].original_sha256
        capsys.readouterr()
        assert 0 == main(["weights", "fetch", "--url", server.url])
        assert "is there already" in capsys.readouterr().out
        assert 2 == len(server.requests)


def test_fetch_tries_the_files_other_name(official, original, capsys, monkeypatch):
    """Where the first address has it no more, or something else, the second is asked."""
    with served(b"", status=404) as gone, served(b"PK nothing") as wrong, served(original) as good:
        replace_official(monkeypatch, dataclasses.replace(official, urls=(gone.url, wrong.url, good.url)))
        assert 0 == main(["weights", "fetch"])
    told = capsys.readouterr().err
    assert "answers 404" in told
    assert "what was fetched can't be used" in told
    assert official.sha256 == weights.load("auto")[0].original_sha256


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>Log in</html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (parity.checkpoint_bytes({"pretrained.model.cls_token": np.ones(3, np.float32)}), "it is a DPT model"),
    ],
)
def test_fetch_of_something_else_says_what_it_is(data, words, capsys, state_directory):
    """A page under a false type, a pointer, another model: told, deleted, and nothing is imported."""
    with served(data) as server:
        assert 78 == main(["weights", "fetch", "--url", server.url])
    assert words in capsys.readouterr().err
    assert [] == list((state_directory / "weights").iterdir())


def test_a_file_that_is_swapped_is_not_vouched_for(carried, original, monkeypatch):
    """What is put in its place while it is read is not known under its hash, nor it under the other one's."""
    read = export.checkpoint.read_foreign

    def swapping(path):
        arrays = read(path)
        carried.write_bytes(b"another one")
        return arrays

    monkeypatch.setattr(export.checkpoint, "read_foreign", swapping)
    assert hashlib.sha256(original).hexdigest() == export.read_official(carried).sha256


def test_a_checkpoint_has_its_limits(tmp_path, monkeypatch):
    """One that is too large is not copied, one that is none is told by its own name."""
    path = tmp_path / "large.pt"
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))}: refused: File is not a zip file"):
        export.read_official(path)
    monkeypatch.setattr("edge.depth.weights.apart._MOST_BYTES", 10)
    with pytest.raises(WeightsError, match=r"large\.pt: has 14 bytes; a checkpoint has 10 at most"):
        export.read_official(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        export.read_official(tmp_path / "none.pt")


def test_a_pinned_hash_refuses_every_other_file(official, carried, monkeypatch, capsys):
    """With all 64 digits known a file whose last digit differs is not the official one."""
    wrong = official.sha256[:-1] + ("0" if official.sha256[-1] != "0" else "1")
    replace_official(monkeypatch, dataclasses.replace(official, sha256=wrong))
    assert 78 == main(["weights", "import", str(carried)])
    assert f"expected {wrong}." in capsys.readouterr().err


def spoilt(change):
    arrays = parity.checkpoint()
    change(arrays)
    return parity.checkpoint_bytes(arrays)


def without_layer(arrays):
    for key in [key for key in arrays if key.startswith("scratch.refinenet1.")]:
        del arrays[key]


def other_shape(arrays):
    arrays["scratch.layer1_rn.weight"] = np.ones((64, 32, 1, 1), np.float32)


def not_finite(arrays):
    arrays["scratch.layer1_rn.weight"][0, 0, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_layer, "10 missing: scratch.refinenet1."),
        (lambda arrays: arrays.update({"classifier.weight": np.ones(2, np.float32)}), "1 unknown: classifier.weight"),
        (other_shape, "scratch.layer1_rn.weight is 64x32x1x1, expected 64x32x3x3"),
        (not_finite, "values that are not finite: scratch.layer1_rn.weight"),
    ],
)
def test_verify_says_which_tensors_are_wrong(change, words, tmp_path, capsys):
    """Missing, unknown, of another shape, not finite: each by name, after the file's."""
    path = tmp_path / "spoilt.pt"
    path.write_bytes(spoilt(change))
    assert 78 == main(["weights", "verify", str(path)])
    told = capsys.readouterr().err
    assert words in told
    assert str(path) in told


def test_verify_tells_whether_a_checkpoint_is_the_official_one(official, carried, original, monkeypatch, capsys):
    """The hash decides, and the command that comes next is told."""
    assert 0 == main(["weights", "verify", str(carried)])
    told = capsys.readouterr().out
    assert f"{official.sha256}: midas_v21_small_256" in told
    assert f"edge-depth weights import {carried}\n" in told
    replace_official(monkeypatch, dataclasses.replace(official, sha256="0" * 8))
    assert 0 == main(["weights", "verify", str(carried)])
    assert "not the published midas_v21_small_256, but of its format" in capsys.readouterr().out


def test_a_conversion_that_changes_the_output_is_refused(official, carried, monkeypatch, capsys, state_directory):
    """What is written is read back and run: were a layer lost in the conversion, nothing would be imported."""

    def lossy(arrays):
        return weights.halves(arrays | {"scratch.layer1_rn.weight": 0 * arrays["scratch.layer1_rn.weight"]})

    monkeypatch.setattr(export.checkpoint, "halves", lossy)
    assert 78 == main(["weights", "import", str(carried)])
    assert "of the range; 2% is allowed" in capsys.readouterr().err
    assert [] == list((state_directory / "weights").iterdir())


def test_run_names_the_two_commands_and_downloads_nothing(tmp_path, photos, capsys, monkeypatch):
    """Configured weights that are missing end with 78, at once, and no address is asked."""
    config = tmp_path / "c.yaml"
    config.write_text(f"camera: {{source: {photos}}}\nmodel: {{weights: midas_v21_small_256}}\nweb: {{listen: null}}\n")
    with served(b"") as server:
        replace_official(monkeypatch, dataclasses.replace(weights.OFFICIAL, urls=(server.url,)))
        assert 78 == main(["run", "--config", str(config)])
    assert [] == server.requests
    told = capsys.readouterr().err
    assert "edge-depth weights fetch" in told
    assert "edge-depth weights import FILE" in told


def test_progress_is_a_bar_on_a_terminal_and_nothing_elsewhere(monkeypatch, capsys):
    """The bar holds share, size and speed, and is wiped at the end; a log gets no line of it."""
    with command._Progress() as silent:
        silent(50_000_000, 100_000_000)
    assert "" == capsys.readouterr().err
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with command._Progress() as shown:
            shown(50_000_000, 100_000_000)
        seen = os.read(master, 1000).decode()
    os.close(master)
    assert "[###############               ] 50.0/100.0 MB" in seen
    assert seen.endswith("\r")


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "1e9"])
def test_a_time_out_has_its_limits(text, capsys):
    """Zero, negative, no number and for ever are told with what is allowed."""
    with pytest.raises(SystemExit) as caught:
        main(["weights", "fetch", "--timeout", text])
    assert 2 == caught.value.code
    assert "must be seconds, more than 0 and at most 3600" in capsys.readouterr().err
