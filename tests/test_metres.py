"""Metres: the line from nearness to 1/Z, what it claims, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.config import CalibrationSection, FloorSection, PointSection
from edge.errors import ConfigError
from edge.scene.metres import Calibration, Lens, calibrate, floor_inverse_depth, nearness_at

HEIGHT, WIDTH = 96, 128
ASPECT = HEIGHT / WIDTH
ROWS, COLUMNS = np.indices((HEIGHT, WIDTH)) + 0.5
X, Y = COLUMNS / WIDTH, ROWS / HEIGHT
RAMP = 0.15 + 0.85 * Y  # true 1/Z in 1/m, from 6.7 m at the top to 1 m at the bottom
QUIET = np.full(RAMP.shape, 0.005)
A, B = 0.8, 0.1  # of 1/Z = A * q + B


def point_at(column: int, row: int, fov_deg: float | None = None, factor: float = 1.0) -> PointSection:
    """Return a point in the middle of a pixel of the ramp, its distance measured with the error `factor`."""
    x, y = (column + 0.5) / WIDTH, (row + 0.5) / HEIGHT
    stretch = Lens(fov_deg=fov_deg, aspect=ASPECT).stretch(x, y) if fov_deg else 1.0
    return PointSection(x=x, y=y, metres=float(factor * stretch / RAMP[row, column]))


def section_of(*places: tuple[int, int], fov_deg: float | None = None) -> CalibrationSection:
    return CalibrationSection(points=tuple(point_at(*place, fov_deg) for place in places))


THREE = section_of((20, 90), (64, 50), (100, 10))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(3, WIDTH - 4), st.integers(3, HEIGHT - 4)), min_size=2, max_size=6),
    st.floats(0.05, 5),
    st.floats(-2, 2),
    st.floats(0.01, 1000),
    st.floats(-1000, 1000),
    st.sampled_from([None, 40.0, 66.0, 120.0]),
)
def test_points_without_error_give_the_line_back(places, a, b, scale, shift, fov_deg):
    """Whatever line made the reference, in whatever gauge, with and without a field of view: distances are exact."""
    rows = [row for _, row in places]
    assume(max(rows) - min(rows) > 12)
    reference = scale * ((RAMP - b) / a) + shift
    sigma = np.full(RAMP.shape, 0.001 * scale / a)
    found = calibrate(section_of(*places, fov_deg=fov_deg), reference, sigma, fov_deg, ASPECT)
    assert found.a == pytest.approx(a / scale, rel=1e-6)
    for column, row in ((5, 5), (64, 40), (120, 90)):
        stretch = Lens(fov_deg=fov_deg, aspect=ASPECT).stretch(X[row, column], Y[row, column]) if fov_deg else 1.0
        read = found.measure(reference[row, column], sigma[0, 0], X[row, column], Y[row, column])
        assert read.distance_m == pytest.approx(stretch / RAMP[row, column], rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-100, 100), st.lists(st.floats(0.9, 1.1), min_size=3, max_size=3))
def test_metres_and_their_errors_do_not_depend_on_the_gauge(scale, shift, factors):
    """The first law: a reference in another gauge, its noise with it, gives the same distances and uncertainties."""
    places = ((20, 90), (64, 50), (100, 10))
    points = (point_at(*place, factor=factor) for place, factor in zip(places, factors, strict=True))
    section = CalibrationSection(points=tuple(points))
    plain = calibrate(section, RAMP, QUIET, None, ASPECT)
    other = calibrate(section, scale * RAMP + shift, scale * QUIET, None, ASPECT)
    for q in (0.3, 0.6, 1.2):
        one = plain.measure(q, 0.01, 0.5, 0.5)
        two = other.measure(scale * q + shift, scale * 0.01, 0.5, 0.5)
        assert one.distance_m == pytest.approx(two.distance_m, rel=1e-5)
        assert one.uncertainty_m == pytest.approx(two.uncertainty_m, rel=1e-3)
        assert one.extrapolated == two.extrapolated


def test_without_points_and_floor_there_are_no_metres():
    """An empty section is no error, and no calibration."""
    assert calibrate(CalibrationSection(), RAMP, QUIET, 60.0, ASPECT) is None


def test_a_tape_measures_along_the_ray():
    """At 66 degrees the ray to the corner is 1.29 times the depth along the axis; without a field of view it is 1."""
    lens = Lens(fov_deg=66.0, aspect=0.75)
    assert lens.stretch(0.5, 0.5) == 1
    assert lens.stretch(1.0, 1.0) == pytest.approx(math.sqrt(1 + 0.6494**2 + 0.4871**2), rel=1e-4)
    line = {"a": A, "b": B, "covariance": None, "residual": None, "scatter": None, "nearest": 9.0, "max_metres": 20.0}
    q = (0.5 - B) / A
    assert Calibration(**line, lens=None).measure(q, 0.0, 1.0, 1.0).distance_m == pytest.approx(2.0)
    assert Calibration(**line, lens=lens).measure(q, 0.0, 1.0, 1.0).distance_m == pytest.approx(2.576, abs=1e-3)


def test_the_aspect_is_the_frames_not_the_networks():
    """Of a 16:9 frame that the network sees as 2:1, a point at the bottom lies on the ray of 16:9."""
    wide = np.zeros((128, 256)) + np.linspace(0, 1, 128)[:, None]
    section = CalibrationSection(points=(PointSection(x=0.5, y=0.95, metres=1), PointSection(x=0.5, y=0.5, metres=4)))
    found = calibrate(section, wide, np.full(wide.shape, 0.005), 70.0, 9 / 16)
    down = 0.9 * math.tan(math.radians(35)) * 9 / 16
    assert found.nearest == pytest.approx(math.sqrt(1 + down**2))


def test_what_is_too_far_is_far_and_has_no_distance():
    """Beyond max_metres, along the ray, and beyond infinity (1/Z <= 0) there is no number, only `far`."""
    found = calibrate(section_of((20, 90), (100, 10), fov_deg=90.0), (RAMP - B) / A, QUIET, 90.0, ASPECT)
    for metres, x, far in ((19.9, 0.5, False), (20.1, 0.5, True), (15.0, 0.5, False), (15.0, 1.0, True)):
        read = found.measure((1 / metres - B) / A, 0.01, x, 0.5)
        assert (far, far) == (read.far, read.distance_m is None)
    for q in (-B / A, -5.0):
        read = found.measure(q, 0.01, 0.5, 0.5)
        assert (True, None, None) == (read.far, read.distance_m, read.uncertainty_m)


def test_what_is_nearer_than_every_point_is_extrapolated():
    """The nearest point, here at 1.05 m, is the limit, whatever the others are."""
    found = calibrate(THREE, RAMP, QUIET, None, ASPECT)
    nearest = min(point.metres for point in THREE.points)
    assert not found.measure(1 / nearest - 0.01, 0.01, 0.5, 0.5).extrapolated
    assert found.measure(1 / nearest + 0.01, 0.01, 0.5, 0.5).extrapolated


def test_two_points_say_nothing_of_errors():
    """With two points the line is exact and its error unknown: null, not 0."""
    found = calibrate(section_of((20, 90), (100, 10)), RAMP, QUIET, None, ASPECT)
    assert (None, None, None) == (found.covariance, found.residual, found.scatter)
    read = found.measure(0.5, 0.01, 0.5, 0.5)
    assert (2.0, None) == (pytest.approx(read.distance_m), read.uncertainty_m)


def test_three_points_on_a_line_by_luck_still_admit_the_tapes_error():
    """A residual of 0 does not make the uncertainty 0: 2 % of tape over three points remain."""
    found = calibrate(THREE, RAMP, QUIET, None, ASPECT)
    assert found.residual == pytest.approx(0, abs=1e-9)
    for metres in (1.1, 2.0, 4.0):
        assert 0.008 < found.measure(1 / metres, 0.0, 0.5, 0.5).uncertainty_m / metres < 0.08


def test_points_that_scatter_widen_every_uncertainty():
    """One point of four measured 20 % too far: more residual, and more error than the tape's alone."""
    places = ((20, 90), (50, 60), (80, 40), (100, 10))
    good = calibrate(section_of(*places), RAMP, QUIET, None, ASPECT)
    points = tuple(point_at(*place, factor=1.2 if place[1] == 40 else 1.0) for place in places)
    poor = calibrate(CalibrationSection(points=points), RAMP, QUIET, None, ASPECT)
    assert poor.residual > 0.02 > good.residual
    for metres in (1.1, 2.0, 4.0):
        claims = [found.measure(1 / metres, 0.0, 0.5, 0.5).uncertainty_m for found in (good, poor)]
        assert claims[1] > 2 * claims[0]


def test_what_the_network_errs_by_is_part_of_the_uncertainty():
    """It is a share of every distance, beside all that the calibration knows of."""
    perfect, poor = (calibrate(THREE, RAMP, QUIET, None, ASPECT, depth_error=error) for error in (0.0, 0.24))
    for metres in (1.1, 2.0, 4.0):
        without, told = (found.measure(1 / metres, 0.0, 0.5, 0.5).uncertainty_m for found in (perfect, poor))
        assert told == pytest.approx(np.hypot(without, 0.24 * metres))
    assert (
        calibrate(section_of((20, 90), (100, 10)), RAMP, QUIET, None, ASPECT, 0.24)
        .measure(0.5, 0.0, 0.5, 0.5)
        .uncertainty_m
        is None
    )


def test_scatter_counts_twice_for_the_line_and_for_what_is_measured():
    """Far outside the points the line's own error grows with the scatter; amid many points the scatter itself stays."""
    places = tuple((6 + 10 * i, 6 + 7 * i) for i in range(12))
    factors = [1 + 0.1 * (-1) ** i for i in range(12)]
    points = tuple(point_at(*place, factor=factor) for place, factor in zip(places, factors, strict=True))
    good = calibrate(section_of(*places), RAMP, QUIET, None, ASPECT)
    poor = calibrate(CalibrationSection(points=points), RAMP, QUIET, None, ASPECT)
    outside = [found.measure(8.0, 0.0, 0.5, 0.5).uncertainty_m for found in (good, poor)]
    assert outside[1] > 2 * outside[0]
    amid = poor.measure(1 / 2.0, 0.0, 0.5, 0.5)
    assert amid.uncertainty_m > 0.8 * poor.residual * amid.distance_m**2


def test_a_ray_has_the_relative_error_of_its_depth():
    """In the corner, where the ray is longer, the uncertainty is as much longer."""
    found = calibrate(section_of((20, 90), (64, 50), (100, 10), fov_deg=90.0), RAMP, QUIET, 90.0, ASPECT)
    middle, corner = (found.measure(0.5, 0.01, x, x) for x in (0.5, 1.0))
    assert middle.distance_m < 0.7 * corner.distance_m
    assert middle.uncertainty_m / middle.distance_m == pytest.approx(corner.uncertainty_m / corner.distance_m)


def test_uncertainty_grows_with_the_square_of_the_distance_and_with_noise():
    """sigma_Z = Z^2 * sigma_u: noise of q alone costs four times as much at twice the distance."""
    found = calibrate(THREE, RAMP, QUIET, None, ASPECT)

    def of_noise(metres: float) -> float:
        with_noise, without = (found.measure(1 / metres, noise, 0.5, 0.5).uncertainty_m for noise in (0.1, 0.0))
        return math.sqrt(with_noise**2 - without**2)

    assert of_noise(2.0) == pytest.approx(0.1 * 2.0**2, rel=1e-6)
    assert of_noise(4.0) == pytest.approx(4 * of_noise(2.0), rel=1e-6)


@pytest.mark.parametrize(
    ("network_error", "least", "most"), [(0.0, 0.65, 0.93), (0.03, 0.55, 0.85)], ids=["tape alone", "network too"]
)
def test_uncertainty_covers_the_true_error_about_as_often_as_it_should(network_error, least, most):
    """Over many calibrations by three points and a 2 % tape, one standard deviation holds about 68 % of the errors.

    With the tape's error alone the claim is on the safe side; with an error of the network's own, which nothing but the
    residual shows, it still holds, though the residual of three points has one degree of freedom.
    """
    random = np.random.default_rng(5)
    places = ((20, 88), (64, 40), (100, 8))
    inside = []
    for _ in range(300):
        reference = (RAMP - B) / A
        for column, row in places:
            reference[row - 3 : row + 4, column - 3 : column + 4] += random.normal(0, network_error)
        factors = 1 + random.normal(0, 0.02, 3)
        points = tuple(point_at(*place, factor=factor) for place, factor in zip(places, factors, strict=True))
        found = calibrate(CalibrationSection(points=points), reference, QUIET, None, ASPECT)
        for metres in (1.2, 2.0, 4.0):
            q = (1 / metres - B) / A + random.normal(0, network_error) + random.normal(0, 0.005)
            read = found.measure(q, 0.005, 0.5, 0.5)
            inside.append(read.distance_m is not None and abs(read.distance_m - metres) < read.uncertainty_m)
    assert least < np.mean(inside) < most


def test_noise_in_nearness_does_not_shrink_the_slope():
    """Both axes have errors: over many calibrations the slope is right within 2 %, where plain regression loses 8 %."""
    random = np.random.default_rng(3)
    places = tuple((6 + 10 * i, 6 + 7 * i) for i in range(12))
    slopes, plain = [], []
    for _ in range(150):
        reference = RAMP.copy()
        for column, row in places:
            reference[row - 3 : row + 4, column - 3 : column + 4] += random.normal(0, 0.08)
        section = section_of(*places)
        slopes.append(calibrate(section, reference, np.full(RAMP.shape, 0.08), None, ASPECT).a)
        q = [nearness_at(reference, QUIET, point.x, point.y)[0] for point in section.points]
        plain.append(np.polyfit(q, [1 / point.metres for point in section.points], 1)[0])
    assert np.mean(slopes) == pytest.approx(1, abs=0.02)
    assert np.mean(plain) < 0.93


def test_nearness_at_a_point_is_the_median_around_it():
    """Single wild pixels don't count, a border cuts the window short, and an edge inside it counts as error."""
    reference = np.full((20, 30), 0.4)
    reference[10, 15] = 9.0
    assert nearness_at(reference, np.full(reference.shape, 0.01), 15.5 / 30, 10.5 / 20) == (0.4, 0.01)
    for x, y in ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0)):
        assert nearness_at(reference, np.full(reference.shape, 0.01), x, y) == (0.4, 0.01)
    slope = np.zeros((20, 30)) + np.linspace(0, 1, 30)
    q, noise = nearness_at(slope, np.full(slope.shape, 0.01), 15.5 / 30, 0.5)
    assert q == pytest.approx(slope[0, 15])
    assert 0.03 < noise < 0.1


@pytest.mark.parametrize(
    ("places", "metres", "words"),
    [
        (((0.5, 0.5),), (2.0,), "calibration.points: must be two or more (three give an uncertainty)"),
        (((0.5, 0.5), (0.5, 0.5)), (2.0, 2.0), "(0.5, 0.5) at 2 m and (0.5, 0.5) at 2 m look equally near"),
        (((0.1, 0.5), (0.9, 0.5)), (2.0, 4.0), "(0.1, 0.5) at 2 m and (0.9, 0.5) at 4 m look equally near"),
        (((0.5, 0.1), (0.5, 0.9)), (1.0, 5.0), "(0.5, 0.1) at 1 m is nearer than (0.5, 0.9) at 5 m by tape"),
        (((0.5, 0.05), (0.5, 0.5), (0.5, 0.95)), (1.0, 2.0, 5.0), "(0.5, 0.05) at 1 m is nearer than (0.5, 0.95)"),
    ],
)
def test_points_that_give_no_line_are_refused_by_name(places, metres, words):
    """Too few, equally near, far and near exchanged: each is said, with the points that it is about."""
    points = tuple(PointSection(x=x, y=y, metres=m) for (x, y), m in zip(places, metres, strict=True))
    with pytest.raises(ConfigError) as caught:
        calibrate(CalibrationSection(points=points), RAMP, QUIET, None, ASPECT)
    assert words in str(caught.value)


FOV = 66.0
FLOOR = FloorSection(height_metres=1.5, tilt_deg=25.0, polygon=((0.02, 0.45), (0.98, 0.45), (0.98, 1.0), (0.02, 1.0)))


def render(height: float, tilt_deg: float) -> np.ndarray:
    """Return the true 1/Z of a room, (96, 128): a floor met by rays turned in space, a wall at 6 m, two chests."""
    tilt, tangent = math.radians(tilt_deg), math.tan(math.radians(FOV / 2))
    rays = np.stack([(2 * X - 1) * tangent, (2 * Y - 1) * tangent * ASPECT, np.ones_like(X)], axis=-1)
    turn = np.array([[1, 0, 0], [0, math.cos(tilt), math.sin(tilt)], [0, -math.sin(tilt), math.cos(tilt)]])
    falling = (rays @ turn.T)[..., 1]  # how far each ray falls for each metre along the axis
    u = np.maximum(np.where(falling > 0, falling / height, 0), 1 / 6)
    u[60:90, 10:42] = np.maximum(u[60:90, 10:42], 0.75)
    u[50:70, 80:100] = np.maximum(u[50:70, 80:100], 0.55)
    return u


ROOM = (render(FLOOR.height_metres, FLOOR.tilt_deg) - B) / A


def test_the_floor_is_where_the_rays_meet_it():
    """The inverse depth from height and tilt is that of rays turned in space; above the horizon it is negative."""
    lens = Lens(fov_deg=FOV, aspect=ASPECT)
    computed = floor_inverse_depth(FLOOR, lens, X, Y)
    np.testing.assert_allclose(computed[92:], render(1.5, 25.0)[92:], rtol=1e-12)
    down = FLOOR.model_copy(update={"tilt_deg": 0.0})
    assert floor_inverse_depth(down, lens, 0.5, 0.4) < 0 < floor_inverse_depth(down, lens, 0.5, 0.6)
    overhead = FLOOR.model_copy(update={"tilt_deg": 89.0})
    assert floor_inverse_depth(overhead, lens, 0.5, 0.5) == pytest.approx(1 / 1.5, rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.02, 100), st.floats(-50, 50), st.floats(0, 0.01))
def test_a_floor_with_furniture_gives_the_line_back(scale, shift, noise):
    """Two chests and a strip of wall inside the polygon, noise, any gauge: metres are right within 2 %."""
    noisy = ROOM + np.random.default_rng(0).normal(0, noise, ROOM.shape)
    found = calibrate(CalibrationSection(floor=FLOOR), scale * noisy + shift, scale * QUIET, FOV, ASPECT)
    for metres in (1.5, 2.5, 4.0):
        read = found.measure(scale * (1 / metres - B) / A + shift, scale * 0.005, 0.5, 0.5)
        assert read.distance_m == pytest.approx(metres, rel=0.02)
        assert read.uncertainty_m > 0.015 * metres


@pytest.mark.parametrize(("height", "tilt"), [(1.53, 25.0), (1.47, 25.0), (1.5, 26.0), (1.5, 24.0)])
def test_a_floor_admits_the_errors_of_height_and_tilt(height, tilt):
    """A height off by 2 % or a tilt off by 1 degree is just about the claim: however many pixels, all share them."""
    large = np.kron(ROOM, np.ones((4, 4)))
    wrong = FLOOR.model_copy(update={"height_metres": height, "tilt_deg": tilt})
    found = calibrate(CalibrationSection(floor=wrong), large, np.full(large.shape, 0.005), FOV, ASPECT)
    for metres in (1.5, 2.5, 4.0):
        read = found.measure((1 / metres - B) / A, 0.0, 0.5, 0.5)
        assert 0.1 * read.uncertainty_m < abs(read.distance_m - metres) < 1.25 * read.uncertainty_m


def test_points_and_floor_go_together():
    """A floor with a tilt that is off by 3 degrees is put right by two points; one point and a floor are enough."""
    wrong = FLOOR.model_copy(update={"tilt_deg": 28.0})
    rows, columns = (16, 92), (64, 64)
    u = A * ROOM + B
    points = tuple(
        PointSection(x=X[r, c], y=Y[r, c], metres=Lens(fov_deg=FOV, aspect=ASPECT).stretch(X[r, c], Y[r, c]) / u[r, c])
        for r, c in zip(rows, columns, strict=True)
    )

    def error(*points: PointSection) -> float:
        found = calibrate(CalibrationSection(points=points, floor=wrong), ROOM, QUIET, FOV, ASPECT)
        return abs(found.measure((1 / 3.0 - B) / A, 0.0, 0.5, 0.5).distance_m - 3.0)

    assert error(*points) < error(points[0]) < error()


def test_a_point_that_contradicts_the_floor_is_refused():
    """A point at arm's length where the floor is farthest turns the line around, which no camera can see."""
    narrow = ((0.3, 0.75), (0.7, 0.75), (0.7, 1.0), (0.3, 1.0))
    point = PointSection(x=0.5, y=0.1, metres=0.1)
    floor = FLOOR.model_copy(update={"polygon": narrow})
    with pytest.raises(ConfigError, match="points and floor contradict each other"):
        calibrate(CalibrationSection(points=(point,), floor=floor), ROOM, QUIET, FOV, ASPECT)


def polygon_of(left: float, top: float, right: float, bottom: float) -> FloorSection:
    return FLOOR.model_copy(update={"polygon": ((left, top), (right, top), (right, bottom), (left, bottom))})


LEVEL = {"tilt_deg": 0.0}


@pytest.mark.parametrize(
    ("floor", "fov_deg", "words"),
    [
        (FLOOR, None, "needs scene.horizontal_fov_deg"),
        (polygon_of(0.1, 0.0, 0.9, 0.4).model_copy(update=LEVEL), FOV, "lies entirely above the horizon"),
        (polygon_of(0.5, 0.9, 0.55, 1.0), FOV, "pixels of floor within 20 m (max_metres), at the size of 128x96"),
        (polygon_of(0.0, 0.45, 1.0, 0.56).model_copy(update=LEVEL), FOV, "must be 300 or more"),
        (polygon_of(0.1, 0.66, 0.3, 0.92), FOV, "does not look like a level floor"),
    ],
    ids=["no field of view", "above the horizon", "too small", "too far", "a chest"],
)
def test_a_polygon_without_a_floor_is_refused(floor, fov_deg, words):
    """What is missing is said: the field of view, the horizon, the size, a plane."""
    with pytest.raises(ConfigError) as caught:
        calibrate(CalibrationSection(floor=floor), ROOM, QUIET, fov_deg, ASPECT)
    assert words in str(caught.value)
    assert str(caught.value).startswith("calibration.floor")


def test_a_ceiling_is_no_floor():
    """What looks farther the nearer it should be is refused."""
    with pytest.raises(ConfigError, match="does not look like a level floor"):
        calibrate(CalibrationSection(floor=FLOOR), -ROOM, QUIET, FOV, ASPECT)


@pytest.mark.filterwarnings("error")
def test_a_polygon_one_pixel_high_is_refused():
    """A row of floor has one distance only, and no slope: refused, without a division by zero."""
    large = np.kron(ROOM, np.ones((4, 4)))
    row = polygon_of(0.0, 380.4 / 384, 1.0, 380.6 / 384)
    with pytest.raises(ConfigError, match="does not look like a level floor"):
        calibrate(CalibrationSection(floor=row), large, np.full(large.shape, 0.005), FOV, ASPECT)
