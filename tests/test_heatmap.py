"""The heatmap: warm is near, and the same distance keeps its colour."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.config import HeatmapSection, SceneSection
from edge.publish.heatmap import (
    colour,
    encode_jpeg,
    encode_png,
    fitted,
    frame_range,
    grey,
    normalise,
    render,
    render_snapshot,
)
from edge.records import Region, Scene
from edge.scene import StillScene
from tests.scenes import Camera, room, with_figure

BARE = HeatmapSection(legend=False, width=256)


def scene_of(depth, line=(500.0, 9.0)):
    return Scene(depth=Camera(noise=0.0).shoot(depth, line), state="moving", quality=1.0)


def warmth(pixels):
    return pixels.astype(int).sum(axis=-1)


@pytest.mark.parametrize("colormap", ["inferno", "magma", "grey"])
def test_near_is_warm_and_far_is_cold(colormap):
    """Brightness rises with inverse depth; the ends are the map's own."""
    ramp = colour(np.linspace(0, 1, 256, dtype=np.float32)[None], colormap)
    assert (np.diff(warmth(ramp)[0]) >= -2).all()
    assert warmth(ramp)[0, 0] < 30 < 500 < warmth(ramp)[0, -1]


def test_inferno_is_in_rgb_order():
    """The middle of inferno is red, not blue."""
    red, _, blue = colour(np.float32([[0.6]]), "inferno")[0, 0]
    assert red > 200 > 100 > blue


def test_heatmap_has_the_width_asked_for_and_the_aspect_of_the_frame():
    """256 wide from a frame of 128x96 is 192 high; the legend adds a strip below."""
    assert render(scene_of(room()), BARE).shape == (192, 256, 3)
    with_legend = render(scene_of(room()), HeatmapSection(width=256))
    assert with_legend.shape[1:] == (256, 3)
    assert 192 < with_legend.shape[0] < 230
    np.testing.assert_array_equal(render(scene_of(room()), BARE), with_legend[:192])
    assert with_legend[192:].max() > 200


@pytest.mark.parametrize(("across", "down"), [(32, 4500), (480, 640), (640, 480), (1000, 1)])
def test_a_fitted_heatmap_can_be_made(across, down):
    """A tall stripe is narrower than asked for, since else it would be no JPEG; others are not."""
    pixels = np.zeros((down, across, 3), np.uint8)
    scene = Scene(depth=Camera(noise=0.0).shoot(room(), (500.0, 9.0), pixels), state="moving", quality=1.0)
    section = fitted(HeatmapSection(width=512), scene.depth.frame)
    assert (64 if down == 4500 else 512) == section.width
    picture = render(scene, section)
    assert picture.size < 4_000_000
    assert encode_jpeg(picture, 80).startswith(b"\xff\xd8")


@given(st.integers(64, 256), st.integers(1, 200), st.integers(1, 60))
@example(width=64, across=1, share=60)
@example(width=256, across=60, share=1)
def test_the_legend_fits_under_a_picture_of_any_shape(width, across, share):
    """A stripe of a panorama or of a whole web page has a legend too, in the width asked for."""
    pixels = np.zeros((across * share, across, 3), np.uint8)
    for turned in (pixels, np.ascontiguousarray(pixels.transpose(1, 0, 2))):
        scene = Scene(depth=Camera(noise=0.0).shoot(room(), (500.0, 9.0), turned), state="moving", quality=1.0)
        bare, picture = (render(scene, HeatmapSection(width=width, legend=legend)) for legend in (False, True))
        assert (width, width) == (bare.shape[1], picture.shape[1])
        assert 16 <= len(picture) - len(bare) <= max(16, 0.07 * width)
        assert picture[len(bare) :].max() > 200


def test_colours_do_not_depend_on_the_frames_scale_and_shift():
    """Against the background the same room has the same colours, whatever the network's scale and shift."""
    camera = Camera(noise=0.001)
    scene = StillScene(SceneSection(learn_seconds=2), ())
    results = [scene.update(camera.shoot(room())) for _ in range(20)]
    assert results[-1].state == results[-2].state == "tracking"
    first, second = (render(result, BARE).astype(int) for result in results[-2:])
    assert np.abs(first - second).mean() < 2


def test_someone_near_does_not_darken_the_room():
    """With the scale of the reference the wall keeps its colour when a figure comes; with the frame's it would not."""
    camera = Camera(noise=0.001)
    scene = StillScene(SceneSection(learn_seconds=2), ())
    for _ in range(15):
        empty = scene.update(camera.shoot(room()))
    near = scene.update(camera.shoot(with_figure(room(), 0.7, 0.4, width=0.3)))
    corner = (slice(0, 40), slice(0, 60))
    change = np.abs(render(empty, BARE)[corner].astype(int) - render(near, BARE)[corner].astype(int)).mean()
    per_frame = HeatmapSection(legend=False, width=256, scale="frame")
    changed = np.abs(render(empty, per_frame)[corner].astype(int) - render(near, per_frame)[corner].astype(int)).mean()
    assert change < 4 < 10 < changed


@pytest.mark.parametrize("level", [0.0, 255.0, -3.0])
def test_a_flat_map_is_cold_all_over(level):
    """No division by zero: a flat map is rendered in the colour of far."""
    picture = render(scene_of(np.full((8, 8), level), (1.0, 0.0)), BARE)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1
    assert warmth(picture).max() < 30


def test_normalise_clips_and_survives_equal_ends():
    """Values outside become 0 and 1; equal ends give 0."""
    values = np.float32([[-1, 0, 5, 10, 11]])
    np.testing.assert_array_equal([[0, 0, 0.5, 1, 1]], normalise(values, 0, 10))
    np.testing.assert_array_equal([[0, 0, 0, 0, 0]], normalise(values, 3, 3))
    assert frame_range(np.full((4, 4), 7.0)) == (7.0, 7.0)


def test_jpeg_and_png_hold_the_picture():
    """What was encoded is decoded in the same channel order; PNG keeps 16 bits exactly."""
    picture = render(scene_of(room()), BARE)
    jpeg = cv2.cvtColor(cv2.imdecode(np.frombuffer(encode_jpeg(picture, 90), np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert np.abs(picture.astype(int) - jpeg).mean() < 4
    deep = grey(room().astype(np.float32), 16)
    assert (deep.dtype, deep.min(), deep.max()) == (np.uint16, 0, 65535)
    decoded = cv2.imdecode(np.frombuffer(encode_png(deep), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(deep, decoded)


def test_grey_is_white_where_it_is_near():
    """The nearest pixel is 255, the farthest 0: what depth-conditioned picture generators expect."""
    depth = room().astype(np.float32)
    picture = grey(depth, 8)
    assert picture[np.unravel_index(depth.argmax(), depth.shape)] == 255
    assert picture[np.unravel_index(depth.argmin(), depth.shape)] == 0


def test_a_snapshot_shows_box_and_metres():
    """The heatmap with the region in its box; everywhere else, the zone's outline apart, it is the heatmap itself."""
    region = Region(nearness=0.9, box=(0.25, 0.25, 0.75, 0.75), centroid=(0.5, 0.5), area=0.25, distance_m=1.52)
    scene = replace(scene_of(room()), regions=(region,))
    plain, snapshot = render(scene, BARE), render_snapshot(scene, BARE, {"all": ((0, 0), (1, 0), (1, 1))})
    assert plain.shape == snapshot.shape
    np.testing.assert_array_equal(snapshot[48, 70:180], np.tile([80, 255, 80], (110, 1)))
    changed = (plain != snapshot).any(axis=-1)
    assert not changed[160:, 10:180].any()
    assert changed[50:75, 66:140].any()  # the metres
    nameless = render_snapshot(scene, BARE, {"": ((0, 0), (1, 0), (1, 1))})
    assert (snapshot != nameless).any(axis=-1)[2:20, 2:40].any()  # the zone's name


@pytest.mark.parametrize("distance", [None, 1.5])
def test_a_snapshot_of_a_region_at_the_edge_is_drawn(distance):
    """A region that fills the picture has its box along the rim."""
    region = Region(nearness=2.0, box=(0, 0, 1, 1), centroid=(0.5, 0.5), area=1.0, distance_m=distance)
    snapshot = render_snapshot(replace(scene_of(room()), regions=(region,)), BARE, {})
    assert tuple(snapshot[0, 128]) == tuple(snapshot[-1, 128]) == (80, 255, 80)


@pytest.mark.parametrize("with_picture", [False, True])
def test_the_cameras_picture_is_seen_only_where_it_may_be(with_picture):
    """Without leave a heatmap and a snapshot are the same whatever the camera sees; with it they are not."""
    bright, dark = (np.full((96, 128, 3), level, np.uint8) for level in (255, 0))
    section = BARE.model_copy(update={"overlay": with_picture})
    scenes = [
        Scene(depth=Camera(noise=0.0).shoot(room(), (500.0, 9.0), pixels), state="moving", quality=1.0)
        for pixels in (bright, dark)
    ]
    for pictures in (
        [render(scene, section) for scene in scenes],
        [render_snapshot(scene, BARE, {}, with_picture=with_picture) for scene in scenes],
    ):
        assert with_picture == bool((pictures[0] != pictures[1]).all(axis=-1).mean() > 0.9)
        assert with_picture or (pictures[0] == pictures[1]).all()
