"""Metres: what turns the nearness q of the reference's gauge into distances, 1/Z = a * q + b.

The line is fitted to places of known distance: points measured with a tape, or a level floor whose distance follows
from the camera's height and tilt. Z is the depth along the optical axis; where the field of view is known, distances
are along the ray, as a tape measures them. Everything is equal for a reference q and for any other gauge of it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from edge.config import CalibrationSection, FloorSection, PointSection
from edge.errors import ConfigError
from edge.records import Mask
from edge.scene.alignment import MAD, SIGMA_FLOOR, Doubles, align
from edge.scene.regions import polygon_mask

TAPE_ERROR = 0.02  # of the distance: where the tape is held, and which pixel is meant
TILT_ERROR_DEG = 1.0  # of an inclinometer, such as a telephone, held against the case
_WINDOW_PX = 2  # to each side of a point: 5x5 px
_APART = 3.0  # standard deviations between the farthest and the nearest point, at the least
_CELL_PX = 32  # the network's coarsest features lie so far apart; errors within one cell go together
_FLOOR_LEAST_PX = 300  # as many as the robust start looks at
_FLOOR_QUALITY = 0.3  # of the plane in the polygon, 0..1 as an alignment's
_FLOOR_INLIERS = 3.0  # standard deviations around the plane; what stands on the floor lies outside
_ITERATIONS = 20  # of the line; after ten the slope is right to 1e-8, even where noise is a third of the spread

Covariance = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metres:
    """A distance and its standard deviation in metres; the fields are those of `Region`."""

    distance_m: float | None = None
    uncertainty_m: float | None = None
    far: bool = False
    extrapolated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """A pinhole with square pixels that looks straight ahead through the middle of the frame.

    `fov_deg` is the field of view across the frame's width, and `aspect` its height / width, as it stands after turning
    (not the network's, which is rounded: 1280x720 is seen as 256x128).
    """

    fov_deg: float
    aspect: float

    def slopes(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return how far the ray through x, y (fractions of the frame) goes right and down for each metre of depth."""
        tangent = math.tan(math.radians(self.fov_deg / 2))
        return (2 * x - 1) * tangent, (2 * y - 1) * tangent * self.aspect

    def stretch(self, x: Any, y: Any) -> Any:
        """Return the length of the ray through x, y for each metre of depth along the axis."""
        right, down = self.slopes(x, y)
        return (1 + right**2 + down**2) ** 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The fitted line 1/Z = a * q + b, Z in metres along the axis, and what it may claim.

    `covariance` is that of (a, b); `residual` the standard deviation of the places around the line and `scatter` the
    part of it that the errors of tape, geometry and noise don't explain, both in 1/m. With two points nothing is known
    of errors: all three are null. `nearest` is the 1/Z of the nearest place: what is nearer is extrapolated.
    `depth_error` is `DepthMap`'s.
    """

    a: float
    b: float
    covariance: Covariance | None
    residual: float | None
    scatter: float | None
    nearest: float
    max_metres: float
    lens: Lens | None
    depth_error: float = 0.0

    def measure(self, q: float, sigma_q: float, x: Any, y: Any) -> Metres:
        """Return the distance of what has the nearness `q` +- `sigma_q` at x, y, fractions of the frame.

        With arrays (n,) for x and y it is the median distance of a surface that covers those places at one depth: the
        rays to the rim of something large and near are longer than the one to its middle.
        """
        u = self.a * q + self.b
        stretch = float(np.median(self.lens.stretch(x, y))) if self.lens else 1.0
        if u <= 0 or stretch / u > self.max_metres:
            return Metres(far=True)
        sigma_u = self._sigma(q, sigma_q)
        return Metres(
            distance_m=stretch / u,
            uncertainty_m=None if sigma_u is None else stretch / u**2 * sigma_u,
            extrapolated=u > self.nearest,
        )

    def _sigma(self, q: float, sigma_q: float) -> float | None:
        """Return the standard deviation of 1/Z in 1/m."""
        if self.covariance is None or self.scatter is None:
            return None
        (var_a, cov), (_, var_b) = self.covariance
        line = q**2 * var_a + 2 * q * cov + var_b
        network = (self.depth_error * (self.a * q + self.b)) ** 2
        return math.sqrt(max(line, 0.0) + (self.a * sigma_q) ** 2 + self.scatter**2 + network)


def calibrate(
    section: CalibrationSection,
    reference: Doubles,
    sigma: Doubles,
    fov_deg: float | None,
    aspect: float,
    depth_error: float = 0.0,
) -> Calibration | None:
    """Fit the line to the points and the floor of the configuration; null when it has neither.

    `reference` and its noise `sigma` are float64 (h, w); `aspect` is the frame's height / width. `depth_error` is
    `DepthMap`'s. Both axes have errors (the network's noise, the tape), so the line is York's (York et al., Am. J.
    Phys. 72, 367, 2004), which does not shrink the slope.

    Raises:
        ConfigError: no line with a > 0 can be had from them; the message says why and what to do.
    """
    if not section.given:
        return None
    lens = None if fov_deg is None else Lens(fov_deg=fov_deg, aspect=aspect)
    points = _points(section.points, reference, sigma, lens)
    places = points
    if section.floor is None:
        _check_points(section.points, points)
    else:
        floor = _floor(section.floor, reference, sigma, lens, section.max_metres)
        places = _Places(*(np.concatenate(both, axis=-1) for both in zip(points, floor, strict=True)))
    line = _fit(places)
    if not line.a > 0:
        raise _reversed(section.points, points)
    return replace(_calibration(line, places, section.max_metres, lens), depth_error=depth_error)


def nearness_at(reference: Doubles, sigma: Doubles, x: float, y: float) -> tuple[float, float]:
    """Return the nearness at x, y (fractions of the frame) and its standard deviation.

    The median of 5x5 px, fewer at the border; their spread counts as error, since a finger points no better.
    """
    height, width = reference.shape
    row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
    rows = slice(max(0, row - _WINDOW_PX), row + _WINDOW_PX + 1)
    columns = slice(max(0, column - _WINDOW_PX), column + _WINDOW_PX + 1)
    window = reference[rows, columns]
    q = float(np.median(window))
    spread = MAD * float(np.median(np.abs(window - q)))
    return q, math.hypot(spread, float(np.median(sigma[rows, columns])))


def read_points(
    calibration: Calibration, points: tuple[PointSection, ...], reference: Doubles, sigma: Doubles
) -> list[Metres]:
    """Return what a calibration reads at points of the background that it was fitted to, float64 (h, w)."""
    seen = ((*nearness_at(reference, sigma, point.x, point.y), point) for point in points)
    return [calibration.measure(q, noise, point.x, point.y) for q, noise, point in seen]


def floor_inverse_depth(floor: FloorSection, lens: Lens, x: Any, y: Any) -> Any:
    """Return 1/Z of a level floor in 1/m at x, y (fractions of the frame); 0 and less from the horizon on upwards.

    A ray (right, down, 1) * Z of a camera tilted by t meets the floor where down * cos t + sin t = height / Z.
    """
    _, down = lens.slopes(x, y)
    tilt = math.radians(floor.tilt_deg)
    return (down * math.cos(tilt) + math.sin(tilt)) / floor.height_metres


class _Places(NamedTuple):
    """Places of known distance, float64 (n): nearness q, u = 1/Z in 1/m, and their standard deviations.

    `share` is how many independent measurements each of them stands for; `common`, (2, n), how far u would be off
    everywhere at once if the height, or the tilt, were off by its standard deviation.
    """

    q: Doubles
    q_error: Doubles
    u: Doubles
    u_error: Doubles
    share: Doubles
    common: Doubles


def _points(points: tuple[PointSection, ...], reference: Doubles, sigma: Doubles, lens: Lens | None) -> _Places:
    seen = np.array([nearness_at(reference, sigma, point.x, point.y) for point in points]).reshape(-1, 2)
    stretch = np.array([lens.stretch(point.x, point.y) if lens else 1.0 for point in points])
    u = stretch / np.array([point.metres for point in points])
    return _Places(
        q=seen[:, 0],
        q_error=seen[:, 1],
        u=u,
        u_error=TAPE_ERROR * u,
        share=np.ones(len(points)),
        common=np.zeros((2, len(points))),
    )


def _floor(floor: FloorSection, reference: Doubles, sigma: Doubles, lens: Lens | None, max_metres: float) -> _Places:
    """Return the pixels of the polygon that lie on the plane; furniture is left out.

    Raises:
        ConfigError: the field of view is not known, or the polygon shows no floor.
    """
    if lens is None:
        raise ConfigError(
            "calibration.floor: needs scene.horizontal_fov_deg too, the camera's horizontal field of view"
        )
    height, width = reference.shape
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    u = floor_inverse_depth(floor, lens, x, y)
    inside = polygon_mask(floor.polygon, reference.shape)
    near = inside & (u * max_metres >= lens.stretch(x, y))
    _check_polygon(inside & (u > 0), near, max_metres)
    plane = _on_plane(reference, u, near)
    _, down = lens.slopes(x, y)
    tilt = math.radians(floor.tilt_deg)
    by_tilt = math.radians(TILT_ERROR_DEG) * (math.cos(tilt) - down * math.sin(tilt)) / floor.height_metres
    common = np.stack([TAPE_ERROR * u[plane], by_tilt[plane]])
    count = int(plane.sum())
    return _Places(
        q=reference[plane],
        q_error=sigma[plane],
        u=u[plane],
        u_error=np.hypot(*common),
        share=np.full(count, max(3.0, count / _CELL_PX**2) / count),
        common=common,
    )


def _check_polygon(below_horizon: Mask, near: Mask, max_metres: float) -> None:
    """Refuse a polygon without enough floor.

    Raises:
        ConfigError: it lies above the horizon, or is too small.
    """
    if not below_horizon.any():
        raise ConfigError(
            "calibration.floor.polygon: lies entirely above the horizon, where no floor can be;"
            " check tilt_deg (downwards from the horizontal) and the polygon (y from the top)"
        )
    if (count := int(near.sum())) < _FLOOR_LEAST_PX:
        raise ConfigError(
            f"calibration.floor.polygon: holds {count} pixels of floor within {max_metres:g} m (max_metres), at the"
            f" size of {near.shape[1]}x{near.shape[0]} that the network sees; must be {_FLOOR_LEAST_PX} or more:"
            " draw it larger, or nearer"
        )


def _on_plane(reference: Doubles, u: Doubles, near: Mask) -> Mask:
    """Return the pixels of `near` whose nearness is a line in u.

    Raises:
        ConfigError: most of them aren't, or grow nearer the farther they should be.
    """
    low, high = float(u[near].min()), float(u[near].max())
    expected = (u - low) / max(high - low, 1e-9)  # a polygon one pixel high has no spread
    fit = align(reference, expected, near)
    if fit is None or fit.quality < _FLOOR_QUALITY:
        raise ConfigError(
            f"calibration.floor.polygon: what it holds does not look like a level floor (quality"
            f" {fit.quality if fit else 0:.2f}, must be {_FLOOR_QUALITY:g} or more): draw it around furniture, carpets'"
            " edges and reflections, and larger from near to far"
        )
    errors = np.abs((reference - fit.shift) / fit.scale - expected)
    return np.asarray(near & (errors <= _FLOOR_INLIERS * max(fit.residual, SIGMA_FLOOR)))


class _Line(NamedTuple):
    """u = a * q + b; `x` is q with its error taken out and `weights` the inverse variances of u, float64 (n) each."""

    a: float
    b: float
    x: Doubles
    weights: Doubles


def _fit(places: _Places) -> _Line:
    """Return York's line; the first pass, with a = 0, is ordinary least squares weighted by the tape alone."""
    q, q_error, u, u_error, share, _ = places
    a = 0.0
    for _ in range(_ITERATIONS):
        variance = u_error**2 + (a * q_error) ** 2
        weights = share / variance
        q_mean, u_mean = (float(np.average(values, weights=weights)) for values in (q, u))
        dq, du = q - q_mean, u - u_mean
        step = (dq * u_error**2 + a * du * q_error**2) / variance
        a = float((weights * step) @ du / ((weights * step) @ dq))
    return _Line(a, u_mean - a * q_mean, q_mean + step, weights)


def _calibration(line: _Line, places: _Places, max_metres: float, lens: Lens | None) -> Calibration:
    """Return the line with its errors.

    Where the places scatter more than their errors say, all variances grow with the scatter; where they scatter less it
    is luck, and nothing shrinks (the scale factor of the Particle Data Group). With few places the scatter is itself
    uncertain: Student's factor makes up for it.
    """
    count = float(places.share.sum())
    total = float(line.weights.sum())
    free = count - 2
    covariance = residual = scatter = None
    if free > 0.5:  # a whole number, or the floor's, which counts as three at the least
        square = float(line.weights @ (places.u - line.a * places.q - line.b) ** 2) / free
        growth = max(1.0, _student(free) ** 2 * square)
        residual = math.sqrt(square * count / total)
        scatter = math.sqrt((growth - 1) * count / total)
        covariance = _covariance(line, places, growth)
    return Calibration(
        a=line.a,
        b=line.b,
        covariance=covariance,
        residual=residual,
        scatter=scatter,
        nearest=float(places.u.max()),
        max_metres=max_metres,
        lens=lens,
    )


def _covariance(line: _Line, places: _Places, growth: float) -> Covariance:
    """Return the covariance of (a, b): that of independent errors times `growth`, and that of the common ones."""
    total = float(line.weights.sum())
    middle = float(line.weights @ line.x) / total
    lever = line.weights * (line.x - middle)
    var_a = 1 / float(lever @ (line.x - middle))
    matrix = growth * np.array([[var_a, -middle * var_a], [-middle * var_a, 1 / total + middle**2 * var_a]])
    for error in places.common:
        change_a = var_a * float(lever @ error)
        change = np.array([change_a, float(line.weights @ error) / total - middle * change_a])
        matrix += np.outer(change, change)
    (aa, ab), (_, bb) = matrix.tolist()
    return (aa, ab), (ab, bb)


def _student(free: float) -> float:
    """Return the half-width that holds 68 % of Student's t (expansion: Abramowitz and Stegun, 26.7.5), within 2 %."""
    return 1 + 1 / (2 * free) + 1 / (4 * free**2) + 1 / (16 * free**3)


def _check_points(points: tuple[PointSection, ...], places: _Places) -> None:
    """Refuse points that no line goes through.

    Raises:
        ConfigError: there are fewer than two, or they are equally near.
    """
    if len(points) < 2:
        raise ConfigError(
            "calibration.points: must be two or more (three give an uncertainty), or one and a floor, not one"
        )
    order = places.q.argsort(kind="stable")
    far, near = int(order[0]), int(order[-1])
    noise = math.hypot(places.q_error[far], places.q_error[near])
    if places.q[near] - places.q[far] <= _APART * noise:
        raise ConfigError(
            f"calibration.points: {_named(points[far])} and {_named(points[near])} look equally near (nearness"
            f" {places.q[far]:.3f} and {places.q[near]:.3f}, noise {noise:.3f}): measure one that is much"
            " nearer or farther"
        )


def _reversed(points: tuple[PointSection, ...], places: _Places) -> ConfigError:
    """Return what to say of places that seem nearer the farther they are."""
    inversion = (places.u[:, None] - places.u) * (places.q - places.q[:, None])
    if not inversion.size or inversion.max() <= 0:
        return ConfigError("calibration: points and floor contradict each other; check both, or leave one of them out")
    nearer, farther = np.unravel_index(int(inversion.argmax()), inversion.shape)
    return ConfigError(
        f"calibration.points: {_named(points[nearer])} is nearer than {_named(points[farther])} by tape, but looks"
        f" farther (nearness {places.q[nearer]:.3f} and {places.q[farther]:.3f}): are they exchanged?"
    )


def _named(point: PointSection) -> str:
    return f"({point.x:g}, {point.y:g}) at {point.metres:g} m"
