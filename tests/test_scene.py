"""The scene: readings that stay still when nothing moves, whatever scale and shift the network chose."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import SceneSection, ZoneSection
from edge.scene import MovingScene, StillScene, make_scene
from edge.scene.alignment import align
from edge.scene.reference import learn
from tests.scenes import HEIGHT, WIDTH, Camera, room, with_figure

LEFT = ZoneSection(name="left", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
RIGHT = ZoneSection(name="right", polygon=((0.5, 0), (1, 0), (1, 1), (0.5, 1)))
SECTION = SceneSection(learn_seconds=4, horizontal_fov_deg=60)


def learned(camera, section=SECTION, zones=(LEFT, RIGHT)):
    """Return a scene that has learned the empty room."""
    scene = StillScene(section, zones)
    while scene.update(camera.shoot(room())).state == "learning":
        assert camera.time < 20
    return scene


def test_a_still_room_is_learned_and_then_empty():
    """After the learning time an empty room has no region, free zones and high quality."""
    camera = Camera()
    scene = learned(camera)
    assert camera.time == pytest.approx(SECTION.learn_seconds, abs=0.5)
    for _ in range(30):
        result = scene.update(camera.shoot(room()))
        assert result.state == "tracking"
        assert result.regions == ()
        assert [False, False] == [zone.occupied for zone in result.zones]
        assert result.quality > 0.8


def test_learning_tells_its_progress():
    """While learning, the progress rises, the reason is given and nothing is claimed."""
    camera, scene = Camera(), StillScene(SECTION, (LEFT,))
    results = [scene.update(camera.shoot(room())) for _ in range(15)]
    assert sorted(result.progress for result in results) == [result.progress for result in results]
    assert {"learning"} == {result.state for result in results}
    assert results[0].reason == "the background is being learned"
    assert {None} == {result.zones[0].occupied for result in results}


def test_learning_survives_people_walking_through():
    """A figure that crosses the room while it is learned leaves no trace in the reference."""
    camera, scene = Camera(), StillScene(SECTION, (LEFT, RIGHT))
    for step in range(40):
        state = scene.update(camera.shoot(with_figure(room(), 0.05 + 0.045 * step, 1.5))).state
    assert state == "tracking"
    assert scene.update(camera.shoot(room())).regions == ()


def test_who_comes_near_is_a_region_in_its_zone():
    """A figure at 1 m on the right is one region there, with box, centroid, bearing and area about right."""
    camera = Camera()
    scene = learned(camera)
    result = scene.update(camera.shoot(with_figure(room(), 0.75, 1.0)))
    assert len(result.regions) == 1
    region = result.nearest
    assert ("right",) == region.zones
    assert [False, True] == [zone.occupied for zone in result.zones]
    assert region.centroid[0] == pytest.approx(0.75, abs=0.03)
    assert region.box[0] == pytest.approx(0.68, abs=0.03)
    assert region.box[2] == pytest.approx(0.82, abs=0.03)
    assert region.bearing_deg == pytest.approx(16.1, abs=1.5)
    assert 0 < result.zones[1].coverage < 0.5
    assert result.zones[0].nearness is None
    assert region.distance_m is None


def test_nearer_means_greater_nearness():
    """Nearness rises strictly as a figure walks up, and the same distance has the same nearness in every frame."""
    camera = Camera()
    scene = learned(camera)
    levels = []
    for metres in (2.5, 2.0, 1.5, 1.2, 1.0, 0.8):
        repeated = [scene.update(camera.shoot(with_figure(room(), 0.7, metres))).nearest.nearness for _ in range(5)]
        assert np.ptp(repeated) < 0.03
        levels.append(np.mean(repeated))
    assert sorted(levels) == levels
    assert min(np.diff(levels)) > 0.05


def test_surface_stays_still():
    """The nearest surface of an empty room varies by less than 1 % while scale and shift jump from frame to frame."""
    camera = Camera()
    scene = learned(camera)
    surfaces = [scene.update(camera.shoot(room())).surface for _ in range(50)]
    assert np.std(surfaces) / np.mean(surfaces) < 0.01


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 5000), st.floats(-100, 100)), min_size=6, max_size=6),
    st.floats(0.1, 0.9),
    st.floats(0.6, 3.0),
)
def test_readings_are_invariant_under_scale_and_shift(lines, x, metres):
    """The first law: what is read of d and of a*d + b, a > 0, is equal up to float tolerance, for every frame."""
    plain, disturbed = Camera(seed=1), Camera(seed=1)
    scenes = [StillScene(SceneSection(learn_seconds=2), (LEFT, RIGHT)) for _ in range(2)]
    for step in range(18):
        depth = room() if step < 12 else with_figure(room(), x, metres)
        scale, shift = lines[step % 6]
        first = scenes[0].update(plain.shoot(depth, (1.0, 0.0)))
        second = scenes[1].update(disturbed.shoot(depth, (scale, scale * shift)))
        _assert_same(first, second)


def _assert_same(first, second):
    assert first.state == second.state
    assert first.quality == pytest.approx(second.quality, abs=2e-2)
    assert len(first.regions) == len(second.regions)
    for one, other in zip(first.regions, second.regions, strict=True):
        assert one.nearness == pytest.approx(other.nearness, abs=1e-2)
        np.testing.assert_allclose(one.box, other.box, atol=2 / 96)
    for one, other in zip(first.zones, second.zones, strict=True):
        for name in ("nearness", "coverage", "surface", "prominence"):
            assert (getattr(one, name) is None) == (getattr(other, name) is None)
            if getattr(one, name) is not None:
                assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-2)


def test_alignment_is_the_line_that_was_put_in():
    """Scale and shift of a clean frame come back exactly; a near object over a third of the picture moves nothing."""
    reference = room()
    everywhere = np.ones(reference.shape, bool)
    near = reference.copy()
    near[:, 40:85] = 1.4
    for depth in (reference, near):
        fit = align(7.0 * depth - 2.0, reference, everywhere)
        assert fit.scale == pytest.approx(7.0, rel=1e-3)
        assert fit.shift == pytest.approx(-2.0, abs=5e-3)
        assert fit.quality > 0.9


def test_an_opened_door_does_not_move_the_alignment():
    """What goes far behind the reference is left out like what comes nearer."""
    reference = room()
    opened = reference.copy()
    opened[10:80, 60:95] = 1 / 20
    fit = align(3.0 * opened + 1.0, reference, np.ones(reference.shape, bool))
    assert (fit.scale, fit.shift) == pytest.approx((3.0, 1.0), abs=0.02)


def test_a_mirrored_scale_is_no_alignment():
    """Far and near exchanged fits no line with a scale above 0: null, or no quality."""
    reference = room()
    fit = align(1 - reference, reference, np.ones(reference.shape, bool))
    assert fit is None or fit.quality < 0.3


@pytest.mark.parametrize("level", [0.0, 1e-3, 255.0, -40.0])
def test_a_covered_lens_is_held_then_lost_then_found(level):
    """A flat map is a reason, never a division by zero: occupancy is held for a moment, then unknown, then back."""
    camera = Camera()
    scene = learned(camera)
    flat = np.full((HEIGHT, WIDTH), level)
    camera.noise = 0.0
    states = []
    for _ in range(25):
        result = scene.update(camera.shoot(flat, (1.0, 0.0)))
        assert result.reason
        assert result.quality == 0
        assert result.regions == ()
        states.append((result.state, result.zones[0].occupied))
    assert states[0] == ("tracking", False)
    assert states[-1] == ("lost", None)
    assert sorted(states, key=lambda state: state[0] == "lost") == states
    camera.noise = 0.004
    assert scene.update(camera.shoot(room())).state == "tracking"


def test_a_knocked_camera_is_lost_not_full_of_people():
    """Another view does not fit the reference: lost after a moment, with no region and unknown zones."""
    camera = Camera()
    scene = learned(camera)
    elsewhere = np.flipud(room()).copy()
    results = [scene.update(camera.shoot(elsewhere)) for _ in range(25)]
    assert results[-1].state == "lost"
    assert results[-1].regions == ()


@pytest.mark.parametrize("level", [0.0, 255.0])
def test_a_dark_picture_is_not_learned(level):
    """A camera that starts in the dark keeps learning and says why."""
    camera, scene = Camera(noise=0.0), StillScene(SECTION, ())
    for _ in range(40):
        result = scene.update(camera.shoot(np.full((HEIGHT, WIDTH), level), (1.0, 0.0)))
        assert result.state == "learning"
        assert "nothing can be seen" in result.reason
    camera.noise = 0.004
    for _ in range(30):
        result = scene.update(camera.shoot(room()))
    assert result.state == "tracking"


def test_noise_alone_is_not_a_background():
    """Frames that have nothing in common are not learned."""
    camera = Camera(noise=1.0)
    frames = [camera.shoot(np.zeros((HEIGHT, WIDTH))).inverse_depth for _ in range(12)]
    assert learn(frames, datetime.now(UTC), "made") is None


def test_a_changed_picture_size_is_learned_anew():
    """Depth maps of another shape start a new reference instead of failing."""
    camera = Camera()
    scene = learned(camera)
    result = scene.update(camera.shoot(room()[:64]))
    assert (result.state, result.zones[0].occupied) == ("learning", None)


def test_a_speck_is_no_region():
    """What is smaller than the minimum area, or thinner than three pixels, is not reported."""
    camera = Camera()
    scene = learned(camera)
    speck, line = room(), room()
    speck[20:24, 60:64] = 1.5
    line[10:90, 60:62] = 1.5
    assert scene.update(camera.shoot(speck)).regions == ()
    assert scene.update(camera.shoot(line)).regions == ()


def test_two_figures_are_two_regions():
    """Two figures side by side are told apart; the nearest is the nearer one."""
    camera = Camera()
    scene = learned(camera)
    result = scene.update(camera.shoot(with_figure(with_figure(room(), 0.25, 1.6), 0.75, 1.0)))
    assert len(result.regions) == 2
    assert ("right",) == result.nearest.zones


def test_a_moving_camera_orders_its_zones():
    """Prominence is (p95(zone) - median) / (p90 - p10) of the frame, and orders the zones."""
    scene = make_scene(SceneSection(mode="moving"), (LEFT, RIGHT))
    depth = with_figure(room(), 0.75, 0.8)
    result = scene.update(Camera(noise=0.0).shoot(depth, (3.0, 5.0)))
    p10, median, p90 = np.percentile(depth, (10, 50, 90))
    expected = (np.percentile(depth[:, WIDTH // 2 :], 95) - median) / (p90 - p10)
    assert expected == pytest.approx(result.zones[1].prominence, rel=1e-3)
    assert ("right", "left") == result.zone_order
    assert ("moving", None, ()) == (result.state, result.nearest, result.regions)


@given(st.floats(0.01, 1000), st.floats(-100, 100))
def test_prominence_is_invariant_under_scale_and_shift(scale, shift):
    """The first law holds for a moving camera in every single frame."""
    scene = MovingScene((LEFT, RIGHT))
    first = scene.update(Camera(seed=3).shoot(room(), (1.0, 0.0)))
    second = scene.update(Camera(seed=3).shoot(room(), (scale, scale * shift)))
    for one, other in zip(first.zones, second.zones, strict=True):
        assert one.prominence == pytest.approx(other.prominence, abs=2e-3)


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_a_flat_frame_of_a_moving_camera_has_a_reason(level):
    """p90 = p10 gives null and a reason, not infinity."""
    result = MovingScene((LEFT,)).update(Camera(noise=0.0).shoot(np.full((8, 8), level), (1.0, 0.0)))
    assert result.zones[0].prominence is None
    assert result.quality == 0
    assert "shows no depth" in result.reason


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99995])
def test_a_zone_smaller_than_a_pixel_still_has_readings(left):
    """A tiny zone, at the picture's edge too, keeps the pixels it lies in, so that its readings are numbers."""
    right = min(1.0, left + 0.002)
    tiny = ZoneSection(name="tiny", polygon=((left, 0.2), (right, 0.2), (right, 0.8), (left, 0.8)))
    result = MovingScene((tiny,)).update(Camera().shoot(room()))
    assert result.zones[0].prominence is not None


def test_scenes_are_frozen():
    """A scene can't be changed downstream."""
    result = MovingScene(()).update(Camera().shoot(room()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.quality = 2.0
