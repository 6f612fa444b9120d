"""How the background looks: it takes back what depth says of places that look as ever, and nothing else."""

import numpy as np
import pytest

from edge.config import SceneSection, ZoneSection
from edge.scene import StillScene
from edge.scene.appearance import Appearance
from tests.scenes import HEIGHT, WIDTH, Camera, room, with_figure

SECTION = SceneSection(learn_seconds=4)
ALL = ZoneSection(name="all", polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
WALLS = np.random.default_rng(7).uniform(40, 160, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
NOBODY = np.zeros((HEIGHT, WIDTH), bool)


def dressed(figure, shirt=(200.0, 30.0, 60.0), walls=WALLS):
    """Return a picture in which what is nearer than the empty room wears a shirt of that colour."""
    return np.where((figure > room())[..., None], shirt, walls)


class Set:
    """A scene that has learned the empty room and its picture, and its camera."""

    def __init__(self, noise=1.5, section=SECTION, walls=WALLS):
        self.camera, self.scene, self.noise = Camera(), StillScene(section, (ALL,)), noise
        while self.show(room(), walls).state == "learning" or self.camera.time < 8:
            assert self.camera.time < 20

    def show(self, depth, picture, seconds=0.2):
        """Return the scene of a frame, so long after the one before."""
        self.camera.time += seconds - 0.2
        noise = self.camera.random.normal(0, self.noise, picture.shape)
        return self.scene.update(self.camera.shoot(depth, picture=picture + noise))


def test_a_wall_that_the_network_moves_is_no_region():
    """The network takes a part of the room for nearer, while it looks as ever: nothing is there; without picture it is.

    The other way round, a change of the picture alone is nothing either.
    """
    moved, stage = with_figure(room(), 0.3, 1.0), Set()
    assert stage.show(moved, WALLS).regions == ()
    assert stage.show(room(), dressed(moved)).regions == ()
    assert len(stage.scene.update(stage.camera.shoot(moved)).regions) == 1


def test_who_comes_near_is_seen_and_what_moved_along_is_not():
    """One figure that is there and one that is not: the first is read as it is without a picture, the second left."""
    real = with_figure(room(), 0.75, 1.0)
    both = with_figure(real, 0.25, 1.2)
    stage = Set()
    alone = stage.scene.update(stage.camera.shoot(real)).nearest
    result = stage.show(both, dressed(real))
    assert len(result.regions) == 1
    assert result.nearest.centroid == pytest.approx(alone.centroid, abs=0.02)
    assert result.nearest.nearness == pytest.approx(alone.nearness, abs=0.03)
    assert result.nearest.area == pytest.approx(alone.area, rel=0.15)


@pytest.mark.parametrize(
    ("gain", "noise"),
    [
        ((0.5, 0.5, 0.5), 1.5),
        ((1.3, 1.3, 1.3), 1.5),
        ((0.8, 1.0, 1.25), 1.5),
        ((0.2, 0.2, 0.2), 2.0),
        ((1, 1, 1), 10.0),
    ],
)
def test_exposure_white_balance_and_noise_are_no_change(gain, noise):
    """Darker, brighter, of another tint, noisy: the walls look as ever, a figure in that light does not."""
    stage = Set()
    stage.noise = noise
    moved = with_figure(room(), 0.3, 1.0)
    assert stage.show(moved, WALLS * gain).regions == ()
    assert len(stage.show(moved, dressed(moved) * gain).regions) == 1


def test_a_privacy_mask_says_nothing_of_the_light():
    """With more than half of the picture black, a darker one is still known as the same."""
    walls = WALLS.copy()
    walls[:, : round(0.6 * WIDTH)] = 0
    stage = Set(walls=walls)
    moved = with_figure(room(), 0.8, 1.0)
    assert stage.show(moved, walls * 0.6).regions == ()
    assert len(stage.show(moved, dressed(moved, walls=walls) * 0.6).regions) == 1


def test_when_the_light_jumps_depth_alone_decides():
    """A lamp on one side: the whole picture is another one, nothing is taken back; soon it is learned in that light."""
    stage = Set()
    other = WALLS * np.linspace(0.2, 3, WIDTH)[None, :, None]
    moved = with_figure(room(), 0.6, 1.0)
    assert len(stage.show(moved, other).regions) == 1
    for _ in range(15):
        stage.show(room(), other)
    assert stage.show(moved, other).regions == ()
    assert len(stage.show(moved, dressed(moved, walls=other)).regions) == 1


def test_someone_in_front_of_most_of_the_view_is_seen():
    """Too little of the view is left to tell the light by: depth alone decides."""
    appearance = Appearance()
    for _ in range(5):
        appearance.follow(WALLS.astype(np.float32), NOBODY, 1.0, 300.0)
    near = NOBODY.copy()
    near[:, : round(0.85 * WIDTH)] = True
    assert appearance.changed(WALLS.astype(np.float32), near).all()
    near[:, WIDTH // 2 :] = False
    assert not appearance.changed(WALLS.astype(np.float32), near).any()


def test_where_nothing_empty_was_ever_seen_depth_alone_decides():
    """After a start with somebody there, he stays seen; the place that he leaves is learned."""
    someone, stage = with_figure(room(), 0.3, 1.0), Set()
    later = StillScene(SECTION, (ALL,), saved=stage.scene.saved())
    stage.scene = later
    for _ in range(25):
        assert len(stage.show(someone, dressed(someone)).regions) == 1
    for _ in range(25):
        stage.show(room(), WALLS)
    assert stage.show(someone, WALLS).regions == ()
    assert len(stage.show(someone, dressed(someone)).regions) == 1


def test_who_stays_is_never_taken_for_the_background():
    """Someone who stays for an hour, in view of a network that sees him in every other frame only, stays seen."""
    section = SceneSection(learn_seconds=4, absorb_seconds=0)
    someone, stage = with_figure(room(), 0.3, 1.0), Set(section=section)
    for number in range(1800):
        stage.show(someone if number % 2 else room(), dressed(someone), seconds=2.0)
    assert len(stage.show(someone, dressed(someone)).regions) == 1


def test_what_has_changed_for_good_is_learned():
    """A poster on the wall: there depth alone decides at first, and after ten minutes the poster is the background."""
    spot, stage = with_figure(room(), 0.3, 1.0), Set()
    poster = dressed(spot)
    assert len(stage.show(spot, poster).regions) == 1
    for _ in range(20):
        stage.show(room(), poster, seconds=2.0)
    assert len(stage.show(spot, poster).regions) == 1
    for _ in range(320):
        stage.show(room(), poster, seconds=2.0)
    assert stage.show(spot, poster).regions == ()


def test_daylight_that_moves_slowly_is_followed():
    """The light of an afternoon wanders over the wall within hours; the walls still look as ever, a figure does not."""
    stage, moved = Set(), with_figure(room(), 0.3, 1.0)
    columns = np.arange(WIDTH)[None, :, None] / WIDTH
    light = WALLS
    for step in range(3000):
        light = WALLS * (1 + 0.4 * np.sin(6 * (columns - step / 3000)) * min(1, step / 1500))
        stage.show(room(), light, seconds=2.0)
    assert stage.show(moved, light).regions == ()
    assert len(stage.show(moved, dressed(moved, walls=light)).regions) == 1
