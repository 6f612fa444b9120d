"""Training of the starter weights: shapes, light, scenes on disk, the loss and a few steps."""

import itertools
import platform
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.depth import weights
from edge.records import Architecture

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))  # they import each other by their bare names
import render_scenes
import scene_cutouts
import scene_places
import scene_textures
import scene_tracer
import train_starter
from scene_shapes import Dice, Paint, ball, box, limb
from scene_views import Light, Place, View

GREY = Paint(colours=((0.5, 0.5, 0.5),))
with_embree = pytest.mark.skipif(platform.machine() != "x86_64", reason="embreex has wheels for x86-64 only")


@pytest.fixture(scope="module")
def bank():
    return scene_textures.bank(0, each=1)


LEVEL = View(eye=(0, 0, 1.5), yaw=0, tilt=0, roll=0, fov=np.pi / 2)


@pytest.fixture
def people(tmp_path):
    """Return two made-up people, one of them cut off below: light bodies, 1.6 and 0.8 m high."""
    folder = tmp_path / "people"
    folder.mkdir()
    rows = ["file,kind,person,cut,real_height_m"]
    for name, cut, metres in (("a", "none", 1.6), ("b", "bottom", 0.8), ("obo_e", "none", 1.6)):
        rgba = np.zeros((120, 60, 4), np.uint8)
        rgba[10:110, 10:50] = (200, 220, 240, 255)
        cv2.imwrite(str(folder / f"{name}.png"), rgba)
        rows.append(f"{name}.png,person,{name},{cut},{metres}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return scene_cutouts.read(folder, held_out=False)


def hall(height=240, width=320):
    """Return a dark floor that a camera 1.5 m above it sees, and a wall 6 m away."""
    camera = scene_cutouts.Camera(LEVEL, (height, width))
    rise = (1 - (np.arange(height) + 0.5) / height * 2) * height / width
    inverse = np.maximum(-rise / 1.5, 1 / 6)[:, None] * np.ones(width)
    assert (np.abs(camera.above_floor(inverse)[-20:]) < 1e-6).all()
    picture = np.full((height, width, 3), 60, np.uint8)
    nobody = np.zeros((height, width), bool)
    return scene_cutouts.Scene(picture=picture, inverse=inverse.astype(np.float32), view=LEVEL, figure=nobody)


@pytest.fixture
def scenes(tmp_path):
    """A folder of made-up scenes: a bright disc in front of a slope."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:192, :256]
    for number in range(30):
        disc = (rows - rng.uniform(40, 150)) ** 2 + (columns - rng.uniform(40, 210)) ** 2 < rng.uniform(20, 50) ** 2
        inverse = np.where(disc, 2.0, 0.2 + rows / 192)
        picture = np.clip(np.stack([inverse * 110] * 3, -1) + rng.normal(0, 5, (192, 256, 3)), 0, 255)
        render_scenes.write(tmp_path, number, picture.astype(np.uint8), inverse, LEVEL)
    return train_starter.Scenes(tmp_path)


@pytest.mark.parametrize("make", scene_places.PLACES)
def test_the_same_seed_makes_the_same_place(make):
    """A scene can be made again from its number: parts, lights and camera."""
    (one, view), (two, other) = ((place, place.view(Dice(4))) for place in (make(Dice(3)), make(Dice(3))))
    assert view == other
    assert one.lights == two.lights
    for part, same in zip(one.parts, two.parts, strict=True):
        assert np.isfinite(part.vertices).all()
        assert np.array_equal(part.vertices, same.vertices)
        assert part.faces.max() < len(part.vertices)
        assert part.uv.shape == (*part.faces.shape, 2)


@pytest.mark.parametrize("cut", [0.0, 0.05])
def test_a_box_has_its_size_and_no_hole(cut):
    """Every edge of a box, bevelled or not, belongs to exactly two faces, and it stands on z = 0."""
    part = box((1, 2, 3), GREY, bevel=cut)
    assert [[-0.5, -1, 0], [0.5, 1, 3]] == [part.vertices.min(axis=0).tolist(), part.vertices.max(axis=0).tolist()]
    places = np.unique(part.vertices.round(6), axis=0, return_inverse=True)[1].ravel()
    edges = []
    for face in part.faces:
        corners = places[face[face >= 0]]
        edges += [frozenset(pair) for pair in itertools.pairwise([*corners, corners[0]])]
    assert {2} == {edges.count(edge) for edge in edges}


def test_a_limb_reaches_from_point_to_point():
    """The ends of a round bar lie beyond both points by their radii."""
    part = limb((0, 0, 0), (3, 0, 0), (0.2, 0.1), GREY)
    assert (-0.2, 3.1) == pytest.approx((part.vertices[:, 0].min(), part.vertices[:, 0].max()), abs=0.01)
    assert (2.0, 3.0) == pytest.approx(np.ptp(ball((1, 1.5, 2), GREY).vertices, axis=0)[:2], abs=0.15)


def test_a_pattern_has_no_seam_and_blurs_to_its_mean(bank):
    """A tile goes on where it ends, stays within 0..1, and far away it is one grey."""
    rng = np.random.default_rng(0)
    uv, near = rng.random((500, 2)), np.zeros(500)
    for tile in range(len(bank.features)):
        tiles = np.full(500, tile)
        value = bank.look_up(tiles, uv, near)
        assert value == pytest.approx(bank.look_up(tiles, uv + np.array((3, -2)), near), abs=1e-3)
        assert 0 <= value.min() <= value.max() <= 1
        assert bank.look_up(tiles, uv, near + 1).std() < 0.7 * value.std()


def seen(bank, parts, view, **more):
    place = Place(parts=parts, view=lambda _: view, sky=((1, 1, 1), (1, 1, 1)), **more)
    return scene_tracer.picture(scene_tracer.World(place, parts, bank, np.random.default_rng(0)), view)


@with_embree
def test_distance_is_along_the_axis(bank):
    """A wall across the axis is 2 m away in its corners too; beside it and above lies the sky."""
    view = View(eye=(0, 0, 1), yaw=0, tilt=0, roll=0, fov=np.pi / 2)
    _, metres = seen(bank, [box((2, 0.1, 3), GREY, (0, 2.05, -1))], view)
    across = scene_tracer.GRID[0]
    wall = metres < scene_tracer.NOWHERE
    assert metres[wall] == pytest.approx(2.0, abs=1e-3)
    assert [across // 4, 3 * across // 4 - 1] == np.flatnonzero(wall[180])[[0, -1]].tolist()
    _, turned = seen(bank, [box((2, 0.1, 3), GREY, (0, 2.05, -1))], View(eye=(0, 0, 1), yaw=3, tilt=0, roll=0, fov=1))
    assert (turned == scene_tracer.NOWHERE).all()


@with_embree
def test_what_a_lamp_does_not_reach_is_darker(bank):
    """On a floor under a lamp the place below a plate gets less light than the same place without it."""
    view = View(eye=(0, -3, 1.2), yaw=0, tilt=0.38, roll=0, fov=0.9)
    lamp = Light(at=(0, 0, 3), watts=500, colour=(1, 1, 1), size=0.05)
    floor, plate = box((20, 20, 0.1), GREY, (0, 0, -0.1)), box((0.6, 0.6, 0.01), GREY, (0, 0, 1.5))
    open_, covered = (seen(bank, parts, view, lights=[lamp])[0] for parts in ([floor], [floor, plate]))
    assert covered[180, 240].mean() < 0.5 * open_[180, 240].mean()
    assert covered[350, 5].mean() == pytest.approx(open_[350, 5].mean(), rel=0.2)


@with_embree
def test_a_scene_can_be_rendered_again(bank):
    """The same number gives the same picture and depth, near things included."""
    number = next(number for number in range(20) if rendered(number, bank))
    (picture, inverse, view), (again, same, other) = (render_scenes.one_scene(number, bank) for _ in range(2))
    assert view == other
    assert np.array_equal(picture, again)
    assert np.array_equal(inverse, same)
    assert ((240, 320, 3), np.uint8, (240, 320)) == (picture.shape, picture.dtype, inverse.shape)
    assert 0.01 < np.percentile(inverse, 95) < 1 / 0.12


def rendered(number, bank):
    try:
        return render_scenes.one_scene(number, bank)
    except RuntimeError:
        return None


def test_a_scene_is_claimed_once(tmp_path):
    """Two processes in one folder never render the same number, and what is there is left alone."""
    (tmp_path / "000001.png").touch()
    one, two = (render_scenes.missing(tmp_path, range(4)) for _ in range(2))
    assert [0, 2, 3] == [next(one), next(two), next(one)]
    assert [] == list(two)
    assert [] == list(one)
    assert [] == list(tmp_path.glob("*.claim"))


def test_written_depth_is_read_as_it_was(tmp_path):
    """The 16 bits keep inverse depth to 1/10,000 of a dioptre, and the sky's zero."""
    inverse = np.zeros((240, 320))
    inverse[100:] = 1 / 3.7
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[..., 0] = 200
    for number in range(2):
        render_scenes.write(tmp_path, number, picture, inverse, LEVEL)
    read = train_starter.Scenes(tmp_path)[0]
    assert np.array_equal(picture, read.picture)
    assert inverse == pytest.approx(read.inverse, abs=1e-4)
    assert LEVEL == train_starter.Scenes(tmp_path)[1].view


def test_somebody_stands_where_their_depth_says(people):
    """Feet on the floor have its depth, a body of 1.6 m is as high as the lens makes it there, and hides the wall."""
    scene, rng = hall(), np.random.default_rng(1)
    for _ in range(20):
        pasted = scene_cutouts.paste(scene, [people[0]], rng)
        rows = np.flatnonzero(pasted.figure.any(axis=1))
        depth = 1 / np.median(pasted.inverse[pasted.figure])
        foot = 1 / scene.inverse[min(rows[-1], 239), 0]
        assert foot == pytest.approx(depth, rel=0.12)
        if rows[0] > 0:
            assert 160 * 1.6 / depth == pytest.approx(len(rows), rel=0.2)
        assert (pasted.inverse[pasted.figure] > scene.inverse[pasted.figure]).all()
        assert np.array_equal(scene.inverse[~pasted.figure], pasted.inverse[~pasted.figure])
        assert pasted.picture[pasted.figure].mean() > scene.picture.mean()


def test_who_is_cut_off_stands_on_the_border(people):
    """A body that its source cut off below reaches the picture's lower border."""
    scene, rng = hall(), np.random.default_rng(2)
    found = [scene_cutouts.paste(scene, [people[1]], rng).figure for _ in range(10)]
    assert {True} == {bool(figure[-1].any()) for figure in found if figure.any()}
    assert any(figure.any() for figure in found)


def test_what_is_nearer_hides_somebody(people):
    """A board between lens and person stays in front of him."""
    scene, rng = hall(), np.random.default_rng(3)
    near = scene.inverse.copy()
    near[:, :150] = 5.0
    behind = replace(scene, inverse=near)
    for _ in range(10):
        assert not scene_cutouts.paste(behind, [people[0]], rng).figure[:, :150].any()


def test_people_who_are_held_out_are_not_trained_on(people, tmp_path):
    """The list of people to measure with and the list of people to train on share nobody."""
    others = scene_cutouts.read(tmp_path / "people", held_out=True)
    assert (2, 1) == (len(people), len(others))
    with pytest.raises(SystemExit, match=r"manifest\.csv: is missing"):
        scene_cutouts.read(tmp_path, held_out=False)


@pytest.mark.parametrize("barrel", [0.0, 0.5])
def test_the_camera_finds_its_own_pixels(barrel):
    """A ray is seen where it came from, through a bent lens that leans too; the point above a point is as high."""
    camera = scene_cutouts.Camera(replace(LEVEL, barrel=barrel, roll=0.2, tilt=0.3), (240, 320))
    for column, row in ((0, 0), (160, 120), (319, 200)):
        assert (column, row) == pytest.approx(camera.seen_at(*camera.ray_at(column, row)), abs=0.05)
    right, up, depth = camera.lifted(0.1, -0.3, 3.0, 1.7)
    rise = [z * (y * np.cos(0.3) - np.sin(0.3)) for y, z in ((-0.3, 3.0), (up, depth))]
    assert (1.7, 0.1 * 3.0) == pytest.approx((rise[1] - rise[0], right * depth))


def test_an_empty_folder_says_what_to_do(tmp_path):
    """Without scenes the training stops with the command that makes them."""
    with pytest.raises(SystemExit, match=r"holds 0 scenes, too few; run scripts/render_scenes\.py first"):
        train_starter.Scenes(tmp_path)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50), seed=st.integers(0, 1000))
def test_the_loss_does_not_see_scale_and_shift(scale, shift, seed):
    """The loss of a*d + b, a > 0, is the loss of d."""
    generator = torch.Generator().manual_seed(seed)
    depth, truth = (torch.rand(2, 24, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = float(train_starter.loss_of(depth, truth))
    assert expected == pytest.approx(float(train_starter.loss_of(scale * depth + shift, truth)), rel=1e-4)


def test_the_loss_of_the_truth_is_nothing_and_of_its_opposite_much():
    """A right answer costs nothing, a noisy one something, near and far exchanged more."""
    truth = torch.linspace(0.1, 1, 24)[None, :, None].expand(2, 24, 32)
    noisy = truth + 0.02 * torch.rand(2, 24, 32, generator=torch.Generator().manual_seed(0))
    assert float(train_starter.loss_of(3 * truth + 1, truth)) == pytest.approx(0, abs=1e-4)
    assert float(train_starter.loss_of(-truth, truth)) > float(train_starter.loss_of(noisy, truth)) > 0.05


def test_augmented_pictures_keep_their_depth_in_place(scenes):
    """After crop, mirror and colours the bright disc still lies where its depth says, and no distance is made up."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        part = train_starter.cut(scenes[1].inverse.shape, (256, 160), rng)
        seen = train_starter.cropped(scenes[1], (256, 160), *part)
        assert (160, 256) == seen.inverse.shape
        assert set(np.unique(seen.inverse)) <= set(np.unique(scenes[1].inverse))
        assert np.corrcoef(seen.picture.mean(axis=-1).ravel(), seen.inverse.ravel())[0, 1] > 0.95
        assert seen.picture.shape == train_starter.coloured(seen.picture, rng).shape


def test_of_two_scenes_the_nearer_surface_is_seen():
    """Where two scenes are put into one, every pixel is the nearer one's."""
    rng, far = np.random.default_rng(0), np.full((4, 6), 0.1, np.float32)
    near = np.where(np.arange(6) < 3, 10, 0.01).astype(np.float32) * np.ones((4, 1), np.float32)
    nobody, black = np.zeros((4, 6), bool), np.zeros((4, 6, 3), np.uint8)
    one = scene_cutouts.Scene(picture=black, inverse=far, view=LEVEL, figure=nobody)
    both = train_starter.in_one(one, replace(one, picture=black + 1, inverse=near), rng)
    assert np.array_equal(both.inverse > 0.1, both.picture[..., 0] == 1)
    assert (both.picture[:, :3] == 1).all()
    assert (both.picture[:, 3:] == 0).all()


def test_a_batch_holds_scenes_with_and_without_somebody(scenes, people):
    """The first pictures come in pairs: the same view, and only where somebody was pasted another depth."""
    seen = train_starter.batch(scenes, people, np.random.default_rng(0))
    pairs = 2 * train_starter.PAIRS
    assert train_starter.BATCH == len(seen.truths)
    for i in range(0, pairs, 2):
        assert not seen.figures[i + 1].any()
        assert torch.equal(seen.truths[i][~seen.figures[i]], seen.truths[i + 1][~seen.figures[i]])


def test_the_losses_for_people_count_what_the_scene_needs():
    """Figures at their true place cost nothing, flat ones much; a background that stays costs nothing."""
    truth = torch.linspace(0.1, 1, 64).expand(2, 48, 64).clone()
    figures = torch.zeros(2, 48, 64, dtype=torch.bool)
    figures[0, 10:40, 10:30] = True
    flat = truth.clone()
    truth[0][figures[0]] = 2.0
    assert float(train_starter.figure_error(3 * truth + 1, truth, figures)) == pytest.approx(0, abs=1e-4)
    assert float(train_starter.figure_error(flat, truth, figures)) > 0.5
    assert float(train_starter.unsteadiness(5 * truth + 2, figures, truth, 1)) == pytest.approx(0, abs=1e-4)
    bent = truth.clone()
    bent[0, :, 40:] += 0.5
    assert float(train_starter.unsteadiness(bent, figures, truth, 1)) > 0.1


def test_a_stopped_training_goes_on_and_exports_what_the_loader_reads(scenes, people, tmp_path):
    """Steps lower the loss, a checkpoint resumes with its step and time, and the export loads as weights."""
    torch.manual_seed(0)
    trainer = train_starter.Trainer("auto", tmp_path / "run")
    rng = np.random.default_rng(0)
    seen = train_starter.batch(scenes, people, rng, progress=0.0)
    seen = train_starter.Batch(pictures=seen.pictures[:2], truths=seen.truths[:2], figures=seen.figures[:2])
    losses = [trainer.advance(seen, 0.0) for _ in range(8)]
    assert losses[-1] < losses[0]
    trainer.examine(scenes, people, most=1)
    trainer.seconds = 9.0
    trainer.save()
    again = train_starter.Trainer("auto", tmp_path / "run")
    assert (8, 9.0, trainer.best["worth"]) == (again.step, again.seconds, again.best["worth"])
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    train_starter.export(tmp_path / "run", tmp_path / "mine.safetensors")
    info, arrays = weights.load(str(tmp_path / "mine.safetensors"))
    assert Architecture(encoder="tf_efficientnet_lite0", features=48, expand=False) == info.architecture
    for name, array in arrays.items():
        assert np.array_equal(trainer.best["state"][name].numpy().astype(np.float16), array)
    assert {np.dtype(np.float16)} == {array.dtype for array in arrays.values()}
    assert (tmp_path / "mine.safetensors").stat().st_size < 10_000_000


def test_the_best_weights_are_examined_again_on_new_scenes(scenes, people, tmp_path):
    """After more scenes were held out, the best so far is measured on them too before it is compared."""
    trainer = train_starter.Trainer("auto", tmp_path / "run")
    first = trainer.examine(scenes, people, most=1).worth
    trainer.average["scratch.output_conv.4.weight"].zero_()  # a network that says nothing
    assert trainer.examine(scenes, people, most=2).worth < trainer.best["worth"] != first
    assert [0, 25] == trainer.best["numbers"]


def test_a_contact_sheet_shows_pictures_beside_depth(scenes, tmp_path):
    """The sheet has four scenes a row, each with its depth."""
    render_scenes.sheet(scenes.folder, tmp_path / "sheet.jpg", most=4)
    assert (192, 4 * 512, 3) == cv2.imread(str(tmp_path / "sheet.jpg")).shape
