"""The scene is scored on made sequences and on a rendered one, and the clip's truth belongs to its frames."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import TriggerSection
from edge.errors import PictureError
from edge.evaluation import (
    MADE,
    Compared,
    jitter,
    made,
    read_sequence,
    score_distances,
    score_trigger,
    true_nearest,
)
from edge.scene.metres import Lens
from scripts import evaluate_scene

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "edge" / "data" / "clip"
SEQUENCE = Path(__file__).parent / "data" / "sequence"
NARROW = Lens(fov_deg=1.0, aspect=0.75)  # so narrow that ray and axis are one


def compared(read, true, *, empty=False, surface=None, on=None, error=None):
    return Compared(read_m=read, true_m=true, empty=empty, surface=surface, on=on, error_m=error)


def test_the_nearest_figure_is_that_with_the_nearest_part():
    """Of two figures the one whose 5th percentile is nearer counts; its median is its distance, specks are left out."""
    figures = np.zeros((40, 60), np.float32)
    figures[5:25, 5:15] = 3.0
    figures[10:30, 30:45] = np.linspace(2, 6, 15)
    figures[0, 59] = 0.5
    nearest = true_nearest(figures, NARROW, 0.004)
    assert nearest.metres == pytest.approx(4.0, rel=1e-3)
    assert nearest.nearest_m == pytest.approx(2.0, rel=1e-3)
    assert (30 / 60, 10 / 40, 45 / 60, 30 / 40) == nearest.box
    assert nearest.area == 300 / 2400


def test_a_frame_without_a_figure_of_size_has_no_nearest():
    """Nothing, or less than the smallest area, is null."""
    figures = np.zeros((40, 60), np.float32)
    assert true_nearest(figures, NARROW, 0.004) is None
    figures[3:6, 3:6] = 1.0
    assert true_nearest(figures, NARROW, 0.004) is None


def test_the_true_distance_is_along_the_ray():
    """At the left edge of a view of 90 degrees the ray is the root of 2 times the depth."""
    figures = np.zeros((3, 101), np.float32)
    figures[:, 0] = 2.0
    assert true_nearest(figures, Lens(fov_deg=90.0, aspect=0.01), 0).metres == pytest.approx(2 * 2**0.5, rel=0.01)


def test_a_reading_is_within_what_it_was_told_with():
    """Those told without an uncertainty don't count, nor those too far away."""
    frames = [compared(1.1, 1.0, error=0.2), compared(1.5, 1.0, error=0.2), compared(2.0, 2.0), compared(9, 9, error=1)]
    assert score_distances(frames).within == 0.5
    assert score_distances(frames[2:]).within is None


def test_distances_count_between_half_a_metre_and_four():
    """Errors are relative to the truth; what was not read and what is not there are counted apart."""
    frames = [
        compared(1.1, 1.0),
        compared(1.9, 2.0),
        compared(None, 3.0),
        compared(9.0, 4.5),
        compared(1.0, 0.4),
        compared(2.0, None, empty=True),
        compared(2.0, None),
    ]
    score = score_distances(frames)
    assert (3, 1, 1) == (score.frames, score.unread, score.phantoms)
    assert score.median == pytest.approx(0.075)
    assert score.p95 == pytest.approx(0.0975)


def test_what_was_never_read_has_no_error():
    """No reading gives null, not 0."""
    assert score_distances([compared(None, 1.0)]).median is None
    assert jitter([compared(None, None, empty=True, surface=1.0)]) is None


LEVEL = TriggerSection(name="near", near=1.5, on_delay=0.4)
COMES = [3.0, 2.0] + [1.0] * 8 + [3.0] * 4  # at 5 frames a second it has to be on in frame 2 + 2 + 2


def triggered(on_from, on_to=99):
    return [compared(m, m, on=on_from <= i < on_to) for i, m in enumerate(COMES)]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (triggered(6), (1, 0, 0)),
        (triggered(7), (1, 1, 0)),
        (triggered(99), (1, 1, 0)),
        (triggered(0, 1), (1, 1, 1)),
        (triggered(11), (1, 1, 0)),
        (triggered(12), (1, 1, 1)),
        ([compared(1.0, 1.0, on=False)] * 4, (0, 0, 0)),
        ([compared(1.6, 1.6, on=i > 2) for i in range(6)], (0, 0, 0)),
    ],
    ids=["in time", "late", "never", "before anybody", "as he goes", "after he went", "too short", "in between"],
)
def test_triggers_are_due_after_their_delay_and_two_frames(frames, expected):
    """Late or never is missed; on with nothing nearer than `clear`, in two frames before either, is false."""
    score = score_trigger(frames, LEVEL, fps=5.0)
    assert expected == (score.due, score.missed, score.false)


def test_jitter_is_that_of_the_empty_frames():
    """Standard deviation over mean of the surface, whatever it does while somebody is there."""
    frames = [compared(None, None, empty=True, surface=s) for s in (0.9, 1.1)] + [compared(1, 1, surface=5.0)]
    assert jitter(frames) == pytest.approx(0.1)


def test_the_made_room_is_true():
    """The points on the cupboard, the sideboard and the far wall lie where the room's measures put them."""
    sequence = made("room", 0.2)
    assert (192, 256) == sequence.room.shape
    assert (None,) == sequence.figures
    assert [1.6, 2.6, 7.0] == pytest.approx([point.metres for point in sequence.points], abs=0.1)
    assert sequence.room.min() > 0.5
    assert sequence.room.max() < 7.2


def test_a_made_figure_is_seen_where_it_stands_and_hidden_by_furniture():
    """Three metres ahead its distance is 3 m; behind the sideboard its legs are hidden."""
    ahead = made("ahead", 0.2, (((0, 0.0, 3.0), (1, 0.0, 3.0)),))
    assert true_nearest(ahead.figures[0], ahead.lens, 0.004).metres == pytest.approx(3.0, abs=0.1)
    hidden = made("hidden", 0.2, (((0, 1.1, 3.2), (1, 1.1, 3.2)),))
    assert 0.9 * np.count_nonzero(ahead.figures[0]) > np.count_nonzero(hidden.figures[0]) > 0


@pytest.fixture(scope="module")
def fills():
    sequence = made("fill 40 %", *MADE["fill 40 %"])
    return evaluate_scene.evaluate(sequence, "truth", evaluate_scene.true_maps(sequence)).row()


def test_the_scene_holds_its_figures_when_somebody_fills_the_picture(fills):
    """With 40 % of the picture covered the trigger comes in time, nothing is false and nothing is left unread."""
    assert fills["largest_figure"] >= 0.4
    assert {"due": 1, "missed": 0, "false": 0} == fills["trigger"]
    assert (0, 0) == (fills["distance"]["unread"], fills["distance"]["phantoms"])
    assert fills["distance"]["p95"] <= 0.08
    assert fills["jitter"] <= 0.01


def test_distances_do_not_depend_on_the_scale_and_shift_of_the_network(fills):
    """Every d replaced by a*d + b changes no distance by more than float32 can tell."""
    assert fills["change_under_affine"] < 1e-4


def test_the_plain_reading_of_each_frame_is_no_measurement(fills):
    """Min-max, told where the figure is, errs several times as much as the scene."""
    assert fills["plain"]["distance"]["median"] > 3 * fills["distance"]["median"]


def test_who_walks_through_while_the_scene_learns_does_no_harm():
    """The one who comes afterwards is read within 3 % (median) and 8 % (95th percentile)."""
    sequence = made("while learning", *MADE["while learning"])
    frames = evaluate_scene.read_scene(sequence, evaluate_scene.true_maps(sequence))
    score = score_distances(frames)
    assert score.median <= 0.03
    assert score.p95 <= 0.08
    assert 0 == score.phantoms


def test_noisy_frames_do_not_move_the_metres():
    """After 300 frames of the empty room distances have changed by less than 1 %, and nothing fired."""
    result = evaluate_scene.drift(300)
    assert result["largest_change"] < 0.01
    assert (300, 0, 0) == (result["frames"], result["fired"], result["frames_with_regions"])


def test_the_rendered_sequence_is_read_within_its_figures():
    """On the rendered room, by its truth, distances are within 3 % (median) and 8 %, the trigger in time."""
    sequence = read_sequence(SEQUENCE)
    row = evaluate_scene.evaluate(sequence, "truth", evaluate_scene.true_maps(sequence)).row()
    assert row["distance"]["frames"] >= 20
    assert row["distance"]["median"] <= 0.03
    assert row["distance"]["p95"] <= 0.08
    assert {"due": 1, "missed": 0, "false": 0} == row["trigger"]
    assert row["jitter"] <= 0.01


def copy_of_the_sequence(tmp_path):
    return shutil.copytree(SEQUENCE, tmp_path / "mine")


def test_a_folder_that_lacks_something_is_told(tmp_path):
    """No sequence.json, a wrong value in it, no pictures, depth of 8 bits: each names the file and what is wanted."""
    with pytest.raises(PictureError, match=r"sequence\.json: can't be read"):
        read_sequence(tmp_path)
    folder = copy_of_the_sequence(tmp_path)
    facts = json.loads((folder / "sequence.json").read_text())
    (folder / "sequence.json").write_text(json.dumps(facts | {"fps": 0}))
    with pytest.raises(PictureError, match=r"sequence\.json: fps: .* greater than 0"):
        read_sequence(folder)
    (folder / "sequence.json").write_text(json.dumps(facts))
    cv2.imwrite(str(folder / "room.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(PictureError, match=r"room\.png: must be a grey PNG of 16 bits"):
        read_sequence(folder)
    shutil.rmtree(folder / "pictures")
    with pytest.raises(PictureError, match="pictures: must hold the pictures"):
        read_sequence(folder)


def test_the_script_reads_folders_through_truth_and_network(tmp_path, monkeypatch, capsys):
    """Three rows a folder, as JSON, and three of all together; a few of the pictures are enough."""
    folder = copy_of_the_sequence(tmp_path)
    for path in (folder / "pictures").iterdir():
        if 14 < int(path.stem) < 27 or int(path.stem) > 30:
            path.unlink()
    arguments = ["evaluate_scene.py", "--folder", str(folder), str(folder), "--weights", "starter-v2", "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert 0 == evaluate_scene.main()
    rows = json.loads(capsys.readouterr().out)["sequences"]
    assert 3 * ["truth", "starter-v2", "by depth alone"] == [row["through"] for row in rows]
    assert 6 * ["mine"] + 3 * ["all 2"] == [row["sequence"] for row in rows]
    assert 6 * [4] + 3 * [8] == [row["distance"]["frames"] for row in rows]
    assert rows[0]["distance"]["median"] <= 0.05
    for row, together in zip(rows[:3], rows[6:], strict=True):
        assert 2 * row["trigger"]["due"] == together["trigger"]["due"]
        assert row["distance"]["median"] == pytest.approx(together["distance"]["median"], rel=0.3)
        assert row["jitter"] == pytest.approx(together["jitter"])


def test_the_table_names_what_is_wanted(fills, capsys):
    """A row a sequence, the plain reading beside it, and what drift and cost were when they were asked for."""
    drift = {"frames": 9, "largest_change": 0.004, "fired": 0, "frames_with_regions": 2}
    cost = {"network_ms": 50.0, "scene_ms": 2.0, "ratio": 0.04, "threads": 2}
    evaluate_scene.report({"sequences": [fills], "drift": drift, "cost": cost})
    table = capsys.readouterr().out
    assert "fill 40 %       truth" in table
    assert "9 noisy frames: distances change by 0.40%" in table
    assert "scene 2.0 ms, network 50.0 ms with 2 threads: 4.0%" in table


@pytest.fixture(scope="module")
def clip():
    """The frames of the clip, with the time stamps by which they are shown."""
    capture = cv2.VideoCapture(str(CLIP / "clip.mp4"), cv2.CAP_FFMPEG)
    frames, seconds = [], []
    while capture.grab():
        seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        frames.append(capture.retrieve()[1])
    capture.release()
    return frames, seconds


@pytest.fixture(scope="module")
def facts():
    return json.loads((CLIP / "truth.json").read_text(encoding="utf-8"))


def test_the_clip_has_one_truth_a_frame(clip, facts):
    """As many frames as truths, of the size that is told, at a constant rate that begins with 0."""
    frames, seconds = clip
    assert len(facts["frames"]) == len(frames)
    assert {(facts["size"][1], facts["size"][0], 3)} == {frame.shape for frame in frames}
    assert [i / facts["fps"] for i in range(len(frames))] == pytest.approx(seconds, abs=1e-3)
    assert (CLIP / "clip.mp4").stat().st_size < 2_000_000


def test_the_truth_belongs_to_its_frame(clip, facts):
    """Where a figure is said to be near, the picture differs from the empty room in its box more than around it."""
    frames, _ = clip
    empty = frames[0].astype(int)
    tried = 0
    for frame, figure in zip(frames, facts["frames"], strict=True):
        if figure is None or figure["metres"] > 2.5:
            continue
        tried += 1
        difference = np.abs(frame - empty).max(axis=-1) > 40
        height, width = difference.shape
        left, top, right, bottom = (round(v * side) for v, side in zip(figure["box"], (width, height) * 2, strict=True))
        inside = difference[top:bottom, left:right].sum()
        assert inside > 0.95 * difference.sum()
        assert inside > 0.5 * figure["area"] * difference.size
        middle = difference[:, (left + right) // 2 - 3 : (left + right) // 2 + 3]
        assert abs(np.flatnonzero(middle.any(axis=1))[0] - top) <= 8
    assert tried > 20


def test_nobody_is_there_while_the_scene_learns(facts):
    """The clip begins with 8 s of the empty room, longer than it is to be learned."""
    empty = next(i for i, figure in enumerate(facts["frames"]) if figure) / facts["fps"]
    assert empty >= 8 > facts["learn_seconds"]
    assert {"x", "y", "metres"} == set().union(*facts["points"])


def test_rendering_without_blender_says_how_to_get_it(tmp_path):
    """The project's own environment has no bpy; the message leads to the help, and the help says what to install."""
    script = [sys.executable, ROOT / "scripts" / "render_clip.py"]
    done = subprocess.run([*script, "render", tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert 1 == done.returncode
    assert "bpy can't be imported" in done.stderr
    told = subprocess.run([*script, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "pip install bpy==5.0.1" in told


def test_an_incomplete_rendering_is_not_packed(tmp_path):
    """Packing says how many frames are missing, and touches nothing."""
    script = [sys.executable, ROOT / "scripts" / "render_clip.py"]
    done = subprocess.run([*script, "pack", tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert 1 == done.returncode
    assert "180 of 180 frames are missing" in done.stderr
