"""Weights are judged by the protocol: medians over pictures, means over sources, beside two guessers without eyes."""

import csv

import cv2
import numpy as np
import pytest

from edge.depth.weights import STARTER
from edge.errors import PictureError
from edge.evaluation import Medians, fit, judge, mean, medians, read_manifest, vertical_ramp
from edge.records import DepthMap
from scripts import evaluate

HEIGHT, WIDTH = 60, 80
SCALE = 1e-4


def truths():
    """Three truths: nearer to the right, nearer below, and nearer below with a place that is not known."""
    across = np.tile(np.linspace(0.2, 1, WIDTH), (HEIGHT, 1))
    down = np.tile(np.linspace(0.2, 1, HEIGHT)[:, None], (1, WIDTH))
    holed = down.copy()
    holed[:, :20] = 0
    return {("hall", "right"): across, ("hall", "down"): down, ("yard", "holed"): holed}


@pytest.fixture
def folder(tmp_path):
    """Pictures whose red is their truth, with a row of another split that must not be looked at."""
    rows = []
    for (source, name), truth in truths().items():
        red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        red[..., 2] = np.round(truth * 255)
        cv2.imwrite(str(tmp_path / f"{name}.png"), red)
        cv2.imwrite(str(tmp_path / f"{name}-depth.png"), np.round(truth / SCALE).astype(np.uint16))
        rows.append(["validation", source, name, f"{name}.png", f"{name}-depth.png", SCALE, "inside"])
    rows.append(["train", "hall", "none", "none.png", "none.png", SCALE, "inside"])
    write_manifest(tmp_path, rows)
    return tmp_path


def write_manifest(folder, rows, columns="split source name rgb inverse_depth_png scale domain"):
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(), *rows])


def seen(frame, sign=1):
    """What a network would say that sees everything: red, at another size, scale and shift."""
    red = cv2.resize(frame.pixels[..., 0], (96, 64)).astype(np.float32)
    return DepthMap(frame=frame, inverse_depth=sign * 3 * red + 40, inference_seconds=0.0, weights="eyes")


def test_who_sees_everything_scores_one(folder):
    """Whatever the scale, the shift and the size of its map; a ramp where depth goes down scores one too."""
    judged = {each.example.name: each for each in judge(read_manifest(folder), seen)}
    assert {"right", "down", "holed"} == set(judged)
    assert {1.0} == {each.own.delta1 for each in judged.values()}
    assert (1.0, 1.0) == (judged["down"].ramp.delta1, judged["holed"].ramp.delta1)
    assert judged["right"].ramp.delta1 < 0.5
    assert (HEIGHT, WIDTH) == judged["down"].inverse_depth.shape


def test_a_constant_is_the_mean_of_the_truth(folder):
    """It never fails, and scores the share of pixels within a factor of 1.25 of the mean."""
    (right, *_) = judge(read_manifest(folder), seen)
    truth = right.truth
    expected = np.mean(np.maximum(truth / truth.mean(), truth.mean() / truth) < 1.25)
    assert expected == pytest.approx(right.constant.delta1, abs=1e-9)
    assert not right.constant.failed


def test_near_and_far_exchanged_are_counted(folder):
    """A network that says far for near fails in every picture, and the table says so."""
    groups = medians(judge(read_manifest(folder), lambda frame: seen(frame, -1)), lambda example: example.source)
    assert {"hall": (2, 2, 0.0), "yard": (1, 1, 0.0)} == {
        name: (row.pictures, row.failed, row.delta1[0]) for name, row in groups.items()
    }


def test_every_source_counts_the_same():
    """The mean is over the sources' medians, whatever number of pictures they have."""
    few = Medians(pictures=1, failed=0, delta1=(0.2, 0.1, 0.3), abs_rel=(1.0, 2.0, 3.0))
    many = Medians(pictures=99, failed=3, delta1=(0.6, 0.3, 0.5), abs_rel=(3.0, 2.0, 1.0))
    row = mean([few, many])
    assert (100, 3) == (row.pictures, row.failed)
    assert (0.4, 0.2, 0.4) == pytest.approx(row.delta1)
    assert (2.0, 2.0, 2.0) == pytest.approx(row.abs_rel)


def test_the_median_is_over_the_pictures_of_a_group(folder):
    """Of two pictures it is the mean of both: a ramp's 1.0 downwards and what it has to the right."""
    judged = list(judge(read_manifest(folder), seen))
    row = medians(judged, lambda example: example.source)["hall"]
    right = next(each for each in judged if each.example.name == "right")
    assert (1 + right.ramp.delta1) / 2 == pytest.approx(row.delta1[2])
    assert ["inside"] == list(medians(judged, lambda example: example.domain))


def test_a_fit_takes_a_map_to_the_truth():
    """Scale and shift are those that the map was made with, over the known pixels only."""
    truth = vertical_ramp((20, 10)) + 0.2
    depth = (truth - 0.5) / 3
    truth[0, 0], depth[0, 0] = 0, 1e6
    assert (3, 0.5) == pytest.approx(fit(depth, truth), abs=1e-5)


@pytest.mark.parametrize(
    ("row", "columns", "words"),
    [
        (None, "split source", "lacks the columns name, rgb"),
        (["train", "s", "n", "p", "d", "1", "i"], None, "has no row whose split is validation"),
        (["validation", "s", "n", "p", "d", "0", "i"], None, r"manifest\.csv:2: scale: must be a positive number"),
        (["validation", "s", "n", "p", "d", "x", "i"], None, "must be a positive number, not 'x'"),
    ],
)
def test_a_manifest_that_can_not_be_used_is_told(tmp_path, row, columns, words):
    """Missing columns, no row, a scale that is none: file and line, and what is needed."""
    write_manifest(tmp_path, [row] if row else [], *([columns] if columns else []))
    with pytest.raises(PictureError, match=words):
        read_manifest(tmp_path)


def test_no_manifest_is_told(tmp_path):
    """A folder without one is named."""
    with pytest.raises(PictureError, match=r"manifest\.csv: can't be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("value", "words"), [(np.zeros((4, 4), np.uint16), "no pixel"), (None, "16 bits")])
def test_a_truth_that_is_none_is_told(folder, value, words):
    """A truth that is unknown everywhere, or of 8 bits, is an error with the file's name."""
    picture = np.ones((4, 4), np.uint8) if value is None else value
    cv2.imwrite(str(folder / "right-depth.png"), picture)
    with pytest.raises(PictureError, match=f"right-depth.png: .*{words}"):
        list(judge(read_manifest(folder), seen))


def test_the_script_prints_tables_and_writes_a_sheet(folder, tmp_path, capsys):
    """Through the starter weights: a row for each source and domain, the mean, and a picture of all pictures."""
    target = tmp_path / "out" / "sheet.png"
    assert 0 == evaluate.main([str(folder), "--weights", STARTER.name, "--sheet", str(target)])
    lines = capsys.readouterr().out.splitlines()
    counts = {
        line.split()[0]: line.split()[1] for line in lines if len(line.split()) == 9 and line.split()[1].isdigit()
    }
    assert {"hall": "2", "yard": "1", "mean": "3", "inside": "3"} == counts
    assert f"weights {STARTER.name} ({STARTER.sha256[:8]}), engine torch, 256 px" == lines[0]
    picture = cv2.imread(str(target))
    assert (evaluate.CAPTION + 2 * (evaluate.CAPTION + evaluate.TILE[1]), 8 * evaluate.TILE[0]) == picture.shape[:2]


def test_errors_are_green_within_the_factor_and_red_beyond():
    """1.2 is within 1.25, and 1.3 is not; the worse, the brighter."""
    truth = np.ones((1, 4))
    colours = evaluate.error_colours(np.array([[1.0, 1.2, 1.3, 3.0]]), truth)[0].astype(int)
    assert [True, True, False, False] == [bool(green > 0 and red == 0) for _, green, red in colours]
    assert colours[0, 1] < colours[1, 1]
    assert colours[2, 2] < colours[3, 2]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--size", "100"], 78, "a multiple of 32, not 100"),
        (["--weights", "nowhere"], 78, "there is no file nowhere"),
        (["--sheet", "sheet.gif"], 65, "must end in .jpg or .png"),
        (["--split", "other"], 65, "no row whose split is other"),
    ],
)
def test_the_script_says_what_is_wrong(folder, capsys, options, code, words):
    """Wrong options end with a message and a status, not with a traceback."""
    assert code == evaluate.main([str(folder), *options])
    assert words in capsys.readouterr().err
