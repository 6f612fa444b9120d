"""What happens over minutes: darkness, light, knocks, rain, people who stay, restarts."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.config import CalibrationSection, SceneSection, ZoneSection
from edge.errors import ConfigError
from edge.scene import StillScene
from tests.scenes import HEIGHT, PIXELS, WIDTH, Camera, room, with_figure

ALL = ZoneSection(name="all", polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
SECTION = SceneSection(learn_seconds=2, relearn_seconds=10, absorb_seconds=30, adapt_seconds=60)
BLACK = np.zeros_like(PIXELS)
# What a network answers to a picture without contents: something smooth, and always the same.
PRIOR = np.linspace(0, 1, HEIGHT)[:, None].repeat(WIDTH, 1)


def learned(camera, section=SECTION, calibration=None):
    scene = StillScene(section, (ALL,), calibration)
    while scene.update(camera.shoot(room())).state == "learning":
        assert camera.time < 20
    return scene


def watch(scene, camera, depth, seconds, pixels=None):
    """Return the scenes of so many seconds of one view; `depth` may be a function of the frame's number."""
    count = round(seconds * camera.fps)
    return [scene.update(camera.shoot(depth(i) if callable(depth) else depth, pixels=pixels)) for i in range(count)]


def regions(results):
    return [len(result.regions) for result in results]


@pytest.mark.parametrize("level", [0, 3, 255])
def test_darkness_and_a_covered_lens_are_lost_and_never_learned(level):
    """A picture without contents is held for 3 s, then lost for as long as it lasts; back at once."""
    camera = Camera()
    scene = learned(camera)
    pixels = np.full_like(PIXELS, level)
    results = watch(scene, camera, PRIOR, 40, pixels)
    assert [result.state for result in results[:14]] == ["tracking"] * 14
    assert results[10].zones[0].occupied is False
    assert {result.state for result in results[20:]} == {"lost"}
    assert results[-1].zones[0].occupied is None
    assert "is the lens covered, or is it dark?" in results[-1].reason
    assert set(regions(results)) == {0}
    assert watch(scene, camera, room(), 1)[0].state == "tracking"


def test_a_light_switched_on_changes_nothing():
    """Another scale and shift, and a smooth distortion of 4 % of the range, make no region."""
    camera = Camera()
    scene = learned(camera)
    lamp = 0.04 * np.exp(-(((np.mgrid[0:HEIGHT, 0:WIDTH][1] - 90) / 30.0) ** 2))
    results = watch(scene, camera, room() + lamp, 20)
    assert set(regions(results)) == {0}
    assert {result.state for result in results} == {"tracking"}


def test_auto_exposure_steps_change_nothing():
    """Frames that are brighter and darker in turn, each with a scale and shift of its own, read the same."""
    camera = Camera()
    scene = learned(camera)
    surfaces = []
    for step in range(60):
        pixels = np.clip(PIXELS.astype(int) // (1 + step % 4) + 10 * (step % 3), 0, 255).astype(np.uint8)
        result = scene.update(camera.shoot(room(), (100.0 * (1 + step % 5), 50.0 * (step % 7)), pixels))
        assert result.regions == ()
        surfaces.append(result.surface)
    assert np.std(surfaces) / np.mean(surfaces) < 0.01


def test_a_knocked_camera_is_lost_and_learns_its_new_view():
    """A new view that stays is learned after relearn_seconds; until then nothing is claimed."""
    camera = Camera()
    scene = learned(camera)
    elsewhere = np.ascontiguousarray(room()[::-1, ::-1])
    results = watch(scene, camera, elsewhere, 25)
    states = [result.state for result in results]
    changes = [state for state, before in zip(states, [None, *states], strict=False) if state != before]
    assert changes == ["tracking", "lost", "learning", "tracking"]
    assert 3 + 10 <= states.index("learning") / camera.fps <= 3 + 10 + 1
    assert set(regions(results)) == {0}
    assert regions(watch(scene, camera, with_figure(elsewhere, 0.5, 0.5), 1))[-1] == 1


def test_changes_of_state_are_logged_once(caplog):
    """Learning, tracking, lost and tracking again are told once each, whatever lies in between."""
    caplog.set_level("INFO", "edge.scene")
    camera = Camera()
    scene = learned(camera)
    watch(scene, camera, room(), 3)
    watch(scene, camera, PRIOR, 8, BLACK)
    watch(scene, camera, room(), 3)
    told = [record.getMessage().split(":")[1].strip() for record in caplog.records]
    assert told == ["learning", "tracking", "lost", "tracking"]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING", "INFO"]


def test_a_view_that_keeps_changing_is_not_learned():
    """While the camera is being carried about the scene stays lost."""
    camera = Camera()
    scene = learned(camera)
    views = np.random.default_rng(5)

    def view(_):
        return cv2.resize(views.uniform(0, 1, (6, 8)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    assert watch(scene, camera, view, 40)[-1].state == "lost"


def test_rain_on_the_lens_is_not_someone():
    """Drops, each smaller than the smallest region and gone with the next frame, make no region."""
    camera = Camera()
    scene = learned(camera)
    drops = np.random.default_rng(2)

    def rainy(_):
        depth = room()
        for y, x in zip(drops.integers(0, HEIGHT - 5, 25), drops.integers(0, WIDTH - 5, 25), strict=True):
            depth[y : y + 4, x : x + 4] += drops.uniform(-0.3, 0.6)
        return depth

    results = watch(scene, camera, rainy, 20)
    assert max(regions(results)) == 0
    assert {result.state for result in results} == {"tracking"}


def test_a_person_who_stays_is_absorbed_and_leaves_no_ghost():
    """Who stands still for absorb_seconds becomes background, not earlier; when they go nothing is reported."""
    camera = Camera()
    scene = learned(camera)
    person = with_figure(room(), 0.6, 1.3)
    assert set(regions(watch(scene, camera, person, 25))) == {1}
    assert regions(watch(scene, camera, person, 15))[-1] == 0
    assert set(regions(watch(scene, camera, room(), 60))) == {0}
    assert regions(watch(scene, camera, person, 2))[-1] == 1


def test_nobody_is_absorbed_when_that_is_switched_off():
    """With absorb_seconds 0 whoever stays is reported for ever."""
    camera = Camera(fps=1.0)
    scene = learned(camera, SECTION.model_copy(update={"absorb_seconds": 0.0, "learn_seconds": 8.0}))
    assert set(regions(watch(scene, camera, with_figure(room(), 0.6, 1.3), 300))) == {1}


def test_slow_change_is_followed():
    """A view that changes by twice the smallest step over ten times adapt_seconds never becomes a region."""
    camera = Camera(fps=1.0)
    scene = learned(camera, SECTION.model_copy(update={"adapt_seconds": 20.0, "learn_seconds": 8.0}))
    slow = np.zeros((HEIGHT, WIDTH))
    slow[20:60, 50:110] = 0.16
    results = watch(scene, camera, lambda i: room() + slow * min(1, i / 200), 220)
    assert set(regions(results)) == {0}


def test_noise_does_not_move_the_gauge():
    """After 1500 noisy frames the same figure has the same nearness within 1 %."""
    camera = Camera(noise=0.01)
    scene = learned(camera)
    person = with_figure(room(), 0.6, 1.0)
    before = np.mean([result.nearest.nearness for result in watch(scene, camera, person, 4)])
    assert set(regions(watch(scene, camera, room(), 300)[1:])) == {0}
    after = np.mean([result.nearest.nearness for result in watch(scene, camera, person, 4)])
    assert after == pytest.approx(before, rel=0.01)


def test_who_fills_the_picture_step_by_step_stays_a_region():
    """A figure that comes to fill half the picture stays one region; when nothing is left to align with, it is held."""
    camera = Camera()
    scene = learned(camera)
    for width in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        result = scene.update(camera.shoot(with_figure(room(), 0.5, 0.6, width)))
        assert len(result.regions) == 1
        assert result.regions[0].area > 0.7 * width
    everything = scene.update(camera.shoot(np.full((HEIGHT, WIDTH), 2.0) + 0.01 * room()))
    assert everything.regions == ()
    assert everything.zones[0].occupied is True
    assert "held" in everything.reason


def test_regions_keep_their_identity():
    """Two figures that walk about keep their tracks; one that comes back after being away has a new one."""
    camera = Camera()
    scene = learned(camera)
    tracks = []
    for step in range(10):
        depth = with_figure(with_figure(room(), 0.2 + 0.01 * step, 1.2), 0.8 - 0.01 * step, 0.9)
        found = scene.update(camera.shoot(depth)).regions
        tracks.append({round(region.centroid[0]): region.track for region in found})
    assert len(tracks[0]) == 2
    assert all(track == tracks[0] for track in tracks)
    watch(scene, camera, room(), 1)
    assert scene.update(camera.shoot(with_figure(room(), 0.2, 1.2))).nearest.track not in tracks[0].values()


def test_a_region_being_followed_may_shrink():
    """Hysteresis: a region may fall to half of the smallest area before it is gone; a new one may not begin there."""
    camera = Camera()
    section = SECTION.model_copy(update={"min_area": 0.05})
    scene = learned(camera, section)
    small = with_figure(room(), 0.5, 1.0, 0.045)
    assert scene.update(camera.shoot(small)).regions == ()
    assert regions(watch(scene, camera, with_figure(room(), 0.5, 1.0, 0.12), 1))[-1] == 1
    assert len(scene.update(camera.shoot(small)).regions) == 1


def test_nothing_is_reported_where_it_is_ignored():
    """A figure inside an ignore mask is no region; one beside it is."""
    camera = Camera()
    section = SECTION.model_copy(update={"ignore_masks": (((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)),)})
    scene = learned(camera, section)
    assert scene.update(camera.shoot(with_figure(room(), 0.75, 1.0))).regions == ()
    assert len(scene.update(camera.shoot(with_figure(room(), 0.25, 1.0))).regions) == 1


def test_a_restart_goes_on_with_the_saved_background():
    """What was saved is used at once, with the same nearness; with other weights or another shape it is not."""
    camera = Camera()
    scene = learned(camera)
    person = with_figure(room(), 0.6, 1.0)
    before = scene.update(camera.shoot(person)).nearest.nearness
    saved = scene.saved()
    restarted = StillScene(SECTION, (ALL,), None, saved).update(camera.shoot(person))
    assert restarted.state == "tracking"
    assert restarted.nearest.nearness == pytest.approx(before, abs=0.02)
    other_weights = StillScene(SECTION, (ALL,), None, {**saved, "weights": "other"})
    assert other_weights.update(camera.shoot(person)).state == "learning"
    other_shape = StillScene(SECTION, (ALL,), None, saved)
    assert other_shape.update(camera.shoot(person[:64])).state == "learning"


@pytest.mark.parametrize("name", ["learned", "sigma", "median", "learned_at", "weights"])
@pytest.mark.parametrize("value", [None, "nonsense", np.full((HEIGHT, WIDTH), np.nan, np.float32), -1.0])
def test_a_damaged_background_is_learned_anew(name, value):
    """Whatever is wrong in what was saved, the scene learns instead of failing."""
    camera = Camera()
    saved = learned(camera).saved() | {name: value}
    assert StillScene(SECTION, (ALL,), None, saved).update(camera.shoot(room())).state == "learning"


def test_nothing_is_saved_while_nothing_is_learned():
    """While learning there is nothing to keep."""
    scene = StillScene(SECTION, (ALL,))
    scene.update(Camera().shoot(room()))
    assert scene.saved() is None
    assert scene.reference is None


POINTS = CalibrationSection.model_validate(
    {
        "points": (
            {"x": 0.9, "y": 0.98, "metres": float(1 / room()[94, 115])},
            {"x": 0.9, "y": 0.7, "metres": float(1 / room()[67, 115])},
            {"x": 0.9, "y": 0.1, "metres": float(1 / room()[10, 115])},
        )
    }
)


@pytest.mark.parametrize("metres", [0.7, 1.0, 1.5, 2.5])
def test_metres_are_true_after_a_calibration(metres):
    """With three measured points a figure's distance is read within 3 %, whatever the network's scale and shift."""
    camera = Camera()
    scene = learned(camera, calibration=POINTS)
    nearest = watch(scene, camera, with_figure(room(), 0.5, metres), 1)[-1].nearest
    assert nearest.distance_m == pytest.approx(metres, rel=0.03)
    assert nearest.uncertainty_m is not None
    assert nearest.extrapolated == (metres < 1 / room()[94, 115])


def test_the_network_s_own_error_is_told():
    """Where its weights are known to err by a share, no distance is told with less."""
    camera = Camera()
    scene = learned(camera, calibration=POINTS)
    frame = camera.shoot(with_figure(room(), 0.5, 1.5))
    plain = scene.update(frame).nearest
    scene = learned(camera := Camera(), calibration=POINTS)
    scene.update(replace(camera.shoot(room()), depth_error=0.24))
    scene.calibrate(POINTS, scene.fit(POINTS))  # what it was learned with
    told = scene.update(replace(camera.shoot(with_figure(room(), 0.5, 1.5)), depth_error=0.24)).nearest
    assert told.uncertainty_m > 0.23 * told.distance_m > 2 * plain.uncertainty_m


def test_the_speed_of_approach_is_measured():
    """Who walks up at 1 m/s is read at 1 m/s, with the time to contact; who stands still has none."""
    camera = Camera(fps=10.0, noise=0.001)
    scene = learned(camera, calibration=POINTS)
    result = watch(scene, camera, lambda i: with_figure(room(), 0.5, 3.0 - 0.1 * i), 1.5)[-1].nearest
    assert result.speed_mps == pytest.approx(1.0, rel=0.2)
    assert result.contact_s == pytest.approx(result.distance_m / 1.0, rel=0.3)
    still = [result.nearest.speed_mps for result in watch(scene, camera, with_figure(room(), 0.5, 1.6), 4)][20:]
    assert sum(speed is None or abs(speed) < 0.05 for speed in still) >= 0.9 * len(still)


def test_without_a_calibration_there_are_no_metres():
    """Distance, speed and time to contact are null, never a guess."""
    camera = Camera()
    nearest = watch(learned(camera), camera, lambda i: with_figure(room(), 0.5, 2.0 - 0.1 * i), 2)[-1].nearest
    assert (nearest.distance_m, nearest.uncertainty_m, nearest.speed_mps, nearest.contact_s) == (None, None, None, None)


def test_a_changed_view_has_no_metres_until_it_is_calibrated_again():
    """After a knock the new view is learned, but the points were measured in the old one; also after a restart."""
    camera = Camera()
    scene = learned(camera, calibration=POINTS)
    elsewhere = np.ascontiguousarray(room()[::-1, ::-1])
    result = watch(scene, camera, elsewhere, 25)[-1]
    assert result.state == "tracking"
    assert "calibrate it again" in result.reason
    person = with_figure(elsewhere, 0.5, 0.5)
    assert watch(scene, camera, person, 1)[-1].nearest.distance_m is None
    restarted = StillScene(SECTION, (ALL,), POINTS, scene.saved())
    assert watch(restarted, camera, person, 1)[-1].nearest.distance_m is None
    moved = POINTS.model_copy(update={"max_metres": 15.0})
    again = StillScene(SECTION, (ALL,), moved, scene.saved())
    assert "calibrate it again" not in (watch(again, camera, elsewhere, 1)[-1].reason or "")


def test_a_background_that_is_learned_anew_on_request_keeps_the_metres_of_the_same_view():
    """In the same view the points still hold; in another they don't, though nothing was ever lost."""
    camera = Camera()
    scene = learned(camera, calibration=POINTS)
    for view, known in ((room(), True), (np.ascontiguousarray(room()[::-1, ::-1]), False)):
        scene.relearn()
        assert "learning" == watch(scene, camera, view, 0.2)[0].state
        watch(scene, camera, view, 4)
        nearest = watch(scene, camera, with_figure(view, 0.5, 0.6), 1)[-1].nearest
        assert known == (nearest.distance_m is not None)


def test_a_calibration_can_be_tried_and_changed_while_it_runs():
    """What gives no line is refused and changes nothing; another one holds from the next frame on."""
    camera = Camera()
    scene = StillScene(SECTION, (ALL,))
    with pytest.raises(ConfigError, match="no background to fit to yet"):
        scene.fit(POINTS)
    scene = learned(camera)
    same = CalibrationSection(points=(POINTS.points[0],) * 2)
    with pytest.raises(ConfigError, match="calibration"):
        scene.fit(same)
    assert watch(scene, camera, with_figure(room(), 0.5, 1.5), 1)[-1].nearest.distance_m is None
    assert scene.fit(POINTS).a > 0
    scene.calibrate(POINTS)
    nearest = watch(scene, camera, with_figure(room(), 0.5, 1.5), 1)[-1].nearest
    assert pytest.approx(1.5, rel=0.03) == nearest.distance_m


# --- frames that show nothing new -------------------------------------------------------------------------------------


def resting(scene, camera, depth, seconds):
    """Let the scene rest on what it saw last for so long; return what it says of each frame."""
    return [scene.rest(camera.shoot(depth).frame) for _ in range(round(seconds * camera.fps))]


def test_a_scene_at_rest_says_the_same_of_frames_that_show_the_same():
    """Their own frame and the background's age apart, nothing differs, and no number is made anew."""
    camera = Camera()
    scene = learned(camera)
    person = with_figure(room(), 0.6, 1.3)
    before = watch(scene, camera, person, 4)[-1]
    rested = resting(scene, camera, person, 2)
    assert all(result.aligned is before.aligned for result in rested)
    assert [before.regions] * len(rested) == [result.regions for result in rested]
    assert rested[-1].depth.frame.captured_at == pytest.approx(before.depth.frame.captured_at + 2)
    assert rested[-1].background_age_seconds >= before.background_age_seconds


@pytest.mark.parametrize("name", ["learning", "new", "coming", "held", "lost", "asked"])
def test_a_scene_with_something_going_on_has_to_see_every_frame(name):
    """Learning, somebody new or on the move, a frame that is held, a view that is lost, a command: there is no rest."""
    camera = Camera(noise=0.001)
    scene = StillScene(SECTION, (ALL,)) if name == "learning" else learned(camera)
    if name == "new":
        watch(scene, camera, with_figure(room(), 0.6, 1.3), 0.2)
    elif name == "coming":
        watch(scene, camera, lambda i: with_figure(room(), 0.6, 3.0 - 0.1 * i), 3)
    elif name == "held":
        watch(scene, camera, PRIOR, 1, BLACK)
    elif name == "lost":
        views = np.random.default_rng(1)
        watch(scene, camera, lambda _: views.uniform(0, 1, (HEIGHT, WIDTH)), 5)
    elif name == "asked":
        watch(scene, camera, room(), 2)
        scene.calibrate(POINTS)
    else:
        watch(scene, camera, room(), 1)
    assert scene.rest(camera.shoot(room()).frame) is None


def test_in_the_dark_there_is_rest():
    """What sees nothing need not look at it again; nothing is claimed, and nothing learned, however long it lasts."""
    camera = Camera()
    scene = learned(camera)
    watch(scene, camera, PRIOR, 5, BLACK)
    dark = resting(scene, camera, PRIOR, 60)
    assert {("lost", False)} == {(result.state, bool(result.regions)) for result in dark}
    assert {None} == {result.zones[0].occupied for result in dark}
    assert "tracking" == watch(scene, camera, room(), 1)[0].state


def test_who_stays_is_absorbed_while_the_scene_rests():
    """Time counts as if every frame had been seen: absorbed after absorb_seconds, with one frame in 25 looked at."""
    camera = Camera()
    scene = learned(camera)
    person = with_figure(room(), 0.6, 1.3)
    seen = regions(watch(scene, camera, person, 3))
    for _ in range(10):
        resting(scene, camera, person, 4.8)
        seen += regions(watch(scene, camera, person, 0.2))
    assert {1} == set(seen[: 15 + 4])
    assert 0 == seen[-1]


def test_slow_change_is_followed_while_the_scene_rests():
    """The background goes along as far as it would have gone with every frame."""
    ends = []
    for rests in (False, True):
        camera = Camera(noise=0.002)
        scene = learned(camera, SECTION.model_copy(update={"absorb_seconds": 0.0}))
        before = scene.saved()["median"][30:50, 60:100].mean()
        lamp = room()
        lamp[20:60, 50:110] += 0.03
        for _ in range(12):
            watch(scene, camera, lamp, 0.4)
            (resting if rests else watch)(scene, camera, lamp, 4.6)
        ends.append(scene.saved()["median"][30:50, 60:100].mean() - before)
    assert ends[0] > 0.01
    assert ends[0] == pytest.approx(ends[1], rel=0.1)
