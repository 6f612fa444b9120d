"""Sequences of people who walk past a camera are rendered with the truth that the scene is scored by."""

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.evaluation import read_sequence

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))  # they import each other by their bare names
import render_walks
from scene_textures import bank

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="embreex has wheels for x86-64 only")
VISITS = ((4, 7), (8, 10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a short sequence, rendered twice."""
    patch = pytest.MonkeyPatch()
    patch.setattr(render_walks, "FRAMES", 11)
    patch.setattr(render_walks, "VISITS", VISITS)
    folder, tiles = tmp_path_factory.mktemp("walks"), bank(render_walks.SEED)
    for name in ("once", "again"):
        render_walks.render(folder / name, 0, tiles)
    patch.undo()
    return folder


def test_a_sequence_is_read_as_it_was_rendered(folder):
    """Pictures, the empty view, and figures in front of it in the frames with somebody, and only in them."""
    sequence = read_sequence(folder / "once")
    assert (11, (240, 320, 3)) == (len(sequence.pictures), sequence.pictures[0].shape)
    somebody = [any(first <= number < last for first, last in VISITS) for number in range(11)]
    for number, expected in enumerate(somebody):
        figures = sequence.figures[number]
        assert (figures is not None) == expected
        if figures is not None:
            assert (figures[figures > 0] < sequence.room[figures > 0]).all()
    nearest = min(float(figures[figures > 0].min()) for figures in sequence.figures if figures is not None)
    assert 0.4 < nearest < 2.0


def test_somebody_changes_the_picture_where_depth_says_so(folder):
    """Without anybody two pictures differ by noise; where a figure is the picture is another one."""
    sequence = read_sequence(folder / "once")
    empty, also_empty, with_figure = (sequence.pictures[n].astype(float).mean(axis=-1) for n in (0, 1, 5))
    assert np.abs(empty - also_empty).mean() < 3
    figure = np.repeat(np.repeat(sequence.figures[5] > 0, 5, 0), 5, 1)[::4, ::4]  # 256x192 -> 320x240
    change = np.abs(with_figure - empty)
    assert change[figure].mean() > 4 * np.abs(empty - also_empty)[figure].mean()


def test_the_points_are_where_the_room_is(folder):
    """A point's distance is the room's there, along the ray."""
    sequence = read_sequence(folder / "once")
    height, width = sequence.room.shape
    for point in sequence.points:
        depth = sequence.room[int(point.y * height), int(point.x * width)]
        assert point.metres == pytest.approx(depth * sequence.lens.stretch(point.x, point.y), rel=0.01)
    assert 3 == len(sequence.points)


def test_the_same_number_is_the_same_sequence(folder):
    """Byte for byte, so that everybody scores the same."""
    once, again = (sorted(path for path in (folder / name).rglob("*.*")) for name in ("once", "again"))
    assert [path.name for path in once] == [path.name for path in again]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
