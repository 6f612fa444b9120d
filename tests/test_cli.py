"""The command line: what it prints, what it writes and with which code it ends."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from edge.cli import main
from tests import parity


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a configuration file."""

    def write(text: str) -> str:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_check_prints_every_problem_with_its_line(config, capsys):
    """Two problems in one file are both told, and the exit status is 78."""
    path = config("mqtt:\n  port: 99999\ncamera:\n  widht: 3\n")
    assert main(["check", path]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert f"{path}:2: mqtt.port: must be 1..65535, not 99999" in lines
    assert any(line.startswith(f"{path}:4: camera.widht: unknown key") for line in lines)


def test_check_of_a_good_file_says_so(config, capsys):
    """No problem: exit status 0; with --print the effective configuration, without secrets."""
    path = config("mqtt:\n  username: me\n  password: hush\n")
    assert main(["check", path]) == 0
    assert "no problems found" in capsys.readouterr().out
    assert main(["check", config("triggers: [{name: visitor, near: 1.5}]\n")]) == 0
    assert "warning: triggers: frozen until the camera is calibrated" in capsys.readouterr().err
    assert main(["check", "--print", path]) == 0
    printed = capsys.readouterr().out
    assert "port: 1883" in printed
    assert "hush" not in printed


def test_run_refuses_a_bad_configuration_before_anything_else(config, capsys):
    """A wrong type and broken YAML end with 78; so does a file that is not there."""
    assert main(["run", "--config", config("mqtt:\n  port: [1]\n")]) == 78
    assert main(["run", "--config", config("mqtt: {port: 1\n")]) == 78
    assert main(["run", "--config", "nowhere.yaml"]) == 78
    assert "nowhere.yaml: can't be read" in capsys.readouterr().err


def test_weights_list_names_what_is_known(capsys):
    """Official and starter weights with place, hash, licence and source."""
    assert main(["weights", "list"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "midas_v21_small_256",
        "70d6b9c8…",
        "starter-v2",
        "licence  MIT",
        "https://github.com/isl-org/MiDaS",
    ):
        assert text in printed


def test_weights_verify_tells_good_from_bad(tmp_path, capsys):
    """The starter passes; a web page saved as weights ends with 78 and is called one."""
    assert main(["weights", "verify", "starter-v2"]) == 0
    assert "every value finite" in capsys.readouterr().out
    page = tmp_path / "w.pt"
    page.write_bytes(b"<!DOCTYPE html>")
    assert main(["weights", "verify", str(page)]) == 78
    assert "it is a web page" in capsys.readouterr().err


def test_predict_writes_a_heatmap_per_picture(tmp_path, photos, capsys):
    """Two photographs become two JPEGs as wide as they are, with a legend below."""
    pictures = [photos / "selfie.jpg", photos / "coffee.jpg"]
    assert main(["predict", *map(str, pictures), "-o", str(tmp_path / "out")]) == 0
    for path in pictures:
        original, heatmap = cv2.imread(str(path)), cv2.imread(str(tmp_path / "out" / path.name))
        assert original.shape[1] == heatmap.shape[1]
        assert original.shape[0] < heatmap.shape[0] < 1.2 * original.shape[0]
        assert heatmap[: original.shape[0]].std() > 30
    assert str(tmp_path / "out" / "selfie.jpg") in capsys.readouterr().out


def test_predict_writes_the_formats_asked_for(tmp_path, photos, capsys):
    """The npy file is the network's own output; png16 and grey have the picture's size; json is one line."""
    out = tmp_path / "out"
    arguments = ["predict", str(photos / "desk.jpg"), "-o", str(out), "--json"]
    assert main([*arguments, "--format", "npy,png16"]) == 0
    reading = json.loads(capsys.readouterr().out)
    raw = np.load(out / "desk.npy")
    deep = cv2.imread(str(out / "desk.png"), cv2.IMREAD_UNCHANGED)
    assert (raw.dtype, raw.shape) == (np.float32, (192, 256))
    assert (deep.dtype, deep.shape) == (np.uint16, (480, 640))
    assert np.corrcoef(cv2.resize(raw, (640, 480)).ravel(), deep.ravel())[0, 1] > 0.999
    assert (reading["weights"], reading["network_size"], reading["reason"]) == ("starter-v2", [256, 192], None)
    assert set(reading["zone_order"]) == {"left", "centre", "right"}
    assert main([*arguments, "--format", "grey"]) == 0
    shallow = cv2.imread(str(out / "desk.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(shallow, deep / 257, atol=1)


def test_predict_goes_on_after_a_bad_picture(tmp_path, photos, capsys):
    """A folder with a truncated, an empty and a good picture: the good one is written, the status is 65."""
    folder = tmp_path / "in"
    folder.mkdir()
    good = (photos / "stairs.jpg").read_bytes()
    (folder / "a-truncated.jpg").write_bytes(good[: len(good) // 2])
    (folder / "b-empty.png").write_bytes(b"")
    (folder / "c-good.jpg").write_bytes(good)
    assert main(["predict", str(folder), "-o", str(tmp_path / "out")]) == 65
    told = capsys.readouterr().err
    assert "a-truncated.jpg" in told
    assert "b-empty.png" in told
    assert "2 of 3 pictures could not be used" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c-good.jpg"]


def test_predict_of_a_very_tall_or_wide_picture_has_a_legend(tmp_path, capsys):
    """A screenshot of a whole page, or a panorama, is a picture like any other."""
    noise = np.random.default_rng(0).integers(0, 255, (1500, 108, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "tall.png"), noise)
    cv2.imwrite(str(tmp_path / "wide.png"), noise.transpose(1, 0, 2))
    pictures = [str(tmp_path / "tall.png"), str(tmp_path / "wide.png")]
    assert main(["predict", *pictures, "-o", str(tmp_path / "out")]) == 0
    assert cv2.imread(str(tmp_path / "out" / "tall.jpg")).shape == (1516, 108, 3)
    assert cv2.imread(str(tmp_path / "out" / "wide.jpg")).shape == (124, 1500, 3)


def test_predict_goes_on_after_a_picture_without_a_result(tmp_path, photos, capsys):
    """Too long for a JPEG, or a folder in the result's place: told, counted, and the others are done."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    cv2.imwrite(str(folder / "a-long.png"), np.zeros((33000, 32, 3), np.uint8))
    for name in ("b-taken.jpg", "c-good.jpg"):
        (folder / name).write_bytes((photos / "stairs.jpg").read_bytes())
    (out / "b-taken.jpg").mkdir(parents=True)
    assert main(["predict", str(folder), "-o", str(out)]) == 65
    told = capsys.readouterr().err
    assert "a-long.png: no jpg can be made of it: a JPEG has 65500 pixels a side at most" in told
    assert "b-taken.jpg can't be written: Is a directory" in told
    assert "2 of 3 pictures could not be used" in told
    assert (out / "c-good.jpg").is_file()


def test_predict_goes_on_where_the_network_fails_at_a_picture(tmp_path, photos, capsys, monkeypatch):
    """It ends with 70, the status of what is not the pictures' fault, when the others are done."""
    answers = iter([np.full((192, 256), np.nan, np.float32), np.ones((192, 256), np.float32)])
    monkeypatch.setattr("edge.depth.engines.pytorch.TorchEngine.run", lambda *_: next(answers))
    pictures = [str(photos / "desk.jpg"), str(photos / "selfie.jpg")]
    assert main(["predict", *pictures, "-o", str(tmp_path / "out")]) == 70
    assert "1 of 2 pictures could not be used" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["selfie.jpg"]


def test_predict_into_a_file_is_told(tmp_path, photos, capsys):
    """Where the results' folder should be is a file, or a file is on the way to it: 78, and the file is as it was."""
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "out"):
        assert main(["predict", str(photos / "desk.jpg"), "-o", str(output)]) == 78
        assert f"--output: must be a folder that can be had, not {output}: " in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_predict_of_a_path_that_can_not_be_is_told(tmp_path, capsys):
    """A name that no file system takes is no traceback either."""
    assert main(["predict", "x" * 300, "-o", str(tmp_path)]) == 65
    assert "can't be read: File name too long" in capsys.readouterr().err


def test_predict_of_a_single_pixel_says_what_is_needed(tmp_path, capsys):
    """A 1x1 picture has no depth: the size that is needed is told, the status is 65 and nothing is written."""
    path = tmp_path / "one.png"
    cv2.imwrite(str(path), np.full((1, 1, 3), 99, np.uint8))
    assert main(["predict", str(path), "-o", str(tmp_path / "out")]) == 65
    assert "has 1 x 1 pixels; depth needs 32 x 32 at least" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("level", [0, 255])
def test_predict_of_a_black_or_white_picture_says_that_nothing_is_seen(tmp_path, capsys, level):
    """All black or all white has a heatmap and a reason, and no numbers: the network would answer even so."""
    path = tmp_path / "plain.png"
    cv2.imwrite(str(path), np.full((120, 160, 3), level, np.uint8))
    assert main(["predict", str(path), "-o", str(tmp_path / "out"), "--json"]) == 0
    reading = json.loads(capsys.readouterr().out)
    assert "covered, or is it dark" in reading["reason"]
    assert set(reading["prominence"].values()) == {None}
    assert (tmp_path / "out" / "plain.jpg").exists()


def test_predict_never_overwrites_a_picture(tmp_path, photos, capsys):
    """A result that would replace its picture, or another result, is refused before anything is written."""
    mine = tmp_path / "mine.jpg"
    mine.write_bytes((photos / "desk.jpg").read_bytes())
    assert main(["predict", str(mine), "-o", str(tmp_path)]) == 65
    assert mine.read_bytes() == (photos / "desk.jpg").read_bytes()
    assert "would overwrite it" in capsys.readouterr().err
    assert main(["predict", str(mine), str(Path(str(mine).replace(".jpg", ".png")))]) == 65
    assert "there is no such file" in capsys.readouterr().err


def test_predict_refuses_what_it_does_not_know(tmp_path, photos, capsys):
    """An unknown format, two formats of one ending and a size that the network can't take are told with the choice."""
    picture = str(photos / "desk.jpg")
    for formats, words in (("gif", "must be out of jpg, png"), ("png,grey", "have the same ending")):
        with pytest.raises(SystemExit) as caught:
            main(["predict", picture, "--format", formats])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err
    assert main(["predict", picture, "--size", "100", "-o", str(tmp_path)]) == 78
    assert "a multiple of 32, not 100" in capsys.readouterr().err


def test_weights_of_the_official_format_are_used_when_they_are_given(tmp_path, photos, capsys):
    """Tensors under the official names, made-up here, run; the file's name is in the reading."""
    path = tmp_path / "mine.safetensors"
    save_file(parity.checkpoint(), path)
    arguments = ["predict", str(photos / "desk.jpg"), "-o", str(tmp_path / "out"), "--json", "--weights", str(path)]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == "mine"


def test_missing_weights_end_with_78(photos, tmp_path, capsys):
    """Weights that are not there are told by name; nothing else stands in for them."""
    assert main(["predict", str(photos / "desk.jpg"), "-o", str(tmp_path), "--weights", "no.safetensors"]) == 78
    assert "there is no file no.safetensors" in capsys.readouterr().err


def test_python_dash_m_is_the_command():
    """`python -m edge` prints the same help as the command and ends with 0."""
    done = subprocess.run([sys.executable, "-m", "edge", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "usage: edge-depth" in done.stdout
    for command in ("run", "check", "predict", "demo", "weights"):
        assert f"    {command} " in done.stdout


FIRST = """
import signal, sys, types
cli = sys.modules["edge.cli"] = types.ModuleType("edge.cli")
cli.main = lambda: print(signal.getsignal(signal.SIGHUP).name)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from edge.__main__ import main
main()
"""


@pytest.mark.parametrize(("command", "disposition"), [("run", "SIG_IGN"), ("predict", "SIG_DFL")])
def test_a_hangup_is_not_deadly_while_the_daemon_is_being_imported(command, disposition):
    """It is ignored before anything that takes time, and for the daemon alone."""
    done = subprocess.run([sys.executable, "-c", FIRST, command], capture_output=True, text=True, check=True)
    assert f"{disposition}\n" == done.stdout
