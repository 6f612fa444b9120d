"""Cut-outs of people, pasted into rendered scenes at a true distance: on the floor, hidden by what is nearer.

A folder of cut-outs holds RGBA pictures (straight alpha) and `manifest.csv` with the columns `file`, `kind`, `person`,
`cut` (the sides where the source's border ends the body, joined by +) and `real_height_m` (of what is seen of it).
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scene_views import View

HELD_OUT = ("obo_e", "asl_2", "fw_w", "st_m", "cl_d")  # people that are measured with, and never trained on
NEAREST, FARTHEST = 0.45, 7.0  # metres
FLOOR = 0.07  # metres above or below zero: still the floor
BULGE = 0.06  # metres: the middle of a body is so much nearer than its outline
SMALLEST = 14  # px: a figure that is less high can't be seen
Floats = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutout:
    """One picture of somebody: `rgba` uint8 (h, w, 4), how high that is in metres, and the sides that are cut off."""

    rgba: np.ndarray
    metres: float
    cut: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A rendered scene: picture uint8 (h, w, 3) RGB, `inverse` float32 (h, w), 1/m along the axis, and its camera.

    `figure`, bool (h, w), is what was pasted into it.
    """

    picture: np.ndarray
    inverse: Floats
    view: View
    figure: np.ndarray


def read(folder: Path, *, held_out: bool) -> list[list[Cutout]]:
    """Return the cut-outs of a folder, a list for each person; only those held out, or all others.

    Raises:
        SystemExit: there is no manifest.
    """
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        raise SystemExit(f"{manifest}: is missing; it names the cut-outs, see scripts/scene_cutouts.py")
    found: dict[str, list[Cutout]] = {}
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            cut = frozenset(row["cut"].split("+")) - {"none"}
            person = row["person"] or row["kind"]
            if (person in HELD_OUT) != held_out or cut - {"top", "bottom"} or len(cut) > 1:
                continue
            one = Cutout(rgba=_trimmed(folder / row["file"]), metres=float(row["real_height_m"]), cut=cut)
            found.setdefault(person, []).append(one)
    return list(found.values())


def _trimmed(path: Path) -> np.ndarray:
    """Return RGBA without empty rows and columns around the body."""
    bgra = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    rows, columns = (np.flatnonzero((bgra[..., 3] > 128).any(axis=axis)) for axis in (1, 0))
    bgra = bgra[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(bgra[..., (2, 1, 0, 3)])


class Camera:
    """Where the rays of a rendered scene go, and where a point of it is seen (`scene_tracer.rays`)."""

    def __init__(self, view: View, shape: tuple[int, int]) -> None:
        self.view = view
        self._height, self._width = shape
        self._reach = math.tan(view.fov / 2)
        x, y = np.meshgrid(
            (np.arange(self._width) + 0.5) / self._width * 2 - 1,
            (1 - (np.arange(self._height) + 0.5) / self._height * 2) * self._height / self._width,
        )
        self._right, self._up = self._ray(x, y)

    def _ray(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        wider = (1 + self.view.barrel * (x * x + y * y)) * self._reach
        c, s = math.cos(self.view.roll), math.sin(self.view.roll)
        return (x * c - y * s) * wider, (x * s + y * c) * wider

    def above_floor(self, inverse: Floats) -> Floats:
        """Return how high each pixel's surface lies over the floor, metres (h, w); the sky is infinitely high."""
        rise = self._up * math.cos(self.view.tilt) - math.sin(self.view.tilt)
        with np.errstate(divide="ignore"):
            return np.where(inverse > 0, self.view.eye[2] + rise / inverse, np.inf)

    def ray_at(self, column: float, row: float) -> tuple[float, float]:
        """Return right and up of a pixel's ray; one along the axis has the length 1."""
        right, up = self._ray(
            np.float64((column + 0.5) / self._width * 2 - 1),
            np.float64((1 - (row + 0.5) / self._height * 2) * self._height / self._width),
        )
        return float(right), float(up)

    def where_high(self, column: float, row: float, metres: float) -> float:
        """Return how far along the axis a pixel's ray comes down to that height; infinite where it never does."""
        rise = self.ray_at(column, row)[1] * math.cos(self.view.tilt) - math.sin(self.view.tilt)
        return max((metres - self.view.eye[2]) / rise, 0.3) if rise < 0 else math.inf

    def seen_at(self, right: float, up: float) -> tuple[float, float]:
        """Return column and row where a ray is seen: the lens undone by fixed-point steps."""
        c, s = math.cos(self.view.roll), math.sin(self.view.roll)
        a, b = (right * c + up * s) / self._reach, (up * c - right * s) / self._reach
        x, y = a, b
        for _ in range(30):
            wider = 1 + self.view.barrel * (x * x + y * y)
            x, y = (x + a / wider) / 2, (y + b / wider) / 2
        return (x + 1) / 2 * self._width - 0.5, (1 - y * self._width / self._height) / 2 * self._height - 0.5

    def lifted(self, right: float, up: float, depth: float, metres: float) -> tuple[float, float, float]:
        """Return right, up and depth of the point so many metres above one seen at a depth along the axis."""
        tilt = self.view.tilt
        new = depth - metres * math.sin(tilt)
        return right * depth / new, (up * depth + metres * math.cos(tilt)) / new, new


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """Where somebody is: the pixels of the lower and the upper end, and the depths there, metres."""

    low: tuple[float, float]
    high: tuple[float, float]
    depths: tuple[float, float]


def paste(scene: Scene, people: list[list[Cutout]], rng: np.random.Generator) -> Scene:
    """Return a scene with somebody more in it, the same scene where no place for them is found in some tries."""
    cutouts = _someone(people, rng)
    camera = Camera(scene.view, scene.inverse.shape)
    floor = np.abs(camera.above_floor(scene.inverse)) < FLOOR
    for _ in range(6):
        cutout = cutouts[rng.integers(len(cutouts))]
        stand = _stand(cutout, camera, scene.inverse, floor, rng)
        if stand is not None and (pasted := _put(scene, cutout, stand, rng)) is not None:
            return pasted
    return scene


def _someone(people: list[list[Cutout]], rng: np.random.Generator) -> list[Cutout]:
    """Return the cut-outs of somebody; every second time of somebody who is seen down to the feet."""
    if rng.random() < 0.5:
        standing = [[one for one in person if "bottom" not in one.cut] for person in people]
        people = [person for person in standing if person] or people
    return people[rng.integers(len(people))]


def _stand(
    cutout: Cutout, camera: Camera, inverse: Floats, floor: np.ndarray, rng: np.random.Generator
) -> _Stand | None:
    """Return a place for a cut-out: its feet on the floor that is seen, or its cut side on the picture's border."""
    height, width = inverse.shape
    wanted = math.exp(rng.uniform(math.log(NEAREST), math.log(FARTHEST)))
    metres = cutout.metres * math.exp(rng.normal(0, 0.04))
    if "bottom" in cutout.cut:
        column, row = float(rng.uniform(0, width - 1)), float(height - 1)
        known = inverse[-1, int(column)]
        depth = min(wanted, 3.0, 0.95 / known if known > 0 else 3.0, camera.where_high(column, row, 1.7 - metres))
        row += 1 + rng.uniform(0, 0.15) * metres / depth * width
    else:
        rows, columns = np.nonzero(floor & (inverse > 1 / FARTHEST))
        if not len(rows):
            return None
        some = rng.integers(len(rows), size=12)
        best = some[np.argmin(np.abs(np.log(inverse[rows[some], columns[some]] * wanted)))]
        column, row = float(columns[best]), float(rows[best])
        depth = float(1 / inverse[rows[best], columns[best]])
    right, up = camera.ray_at(column, row)
    upper = camera.lifted(right, up, depth, metres)
    if upper[2] < 0.25:
        return None
    high = camera.seen_at(upper[0], upper[1])
    if ("top" in cutout.cut and high[1] > -0.5) or row - high[1] < SMALLEST:
        return None
    return _Stand(low=(column, row), high=high, depths=(depth, upper[2]))


def _put(scene: Scene, cutout: Cutout, stand: _Stand, rng: np.random.Generator) -> Scene | None:
    """Return a scene with the cut-out at its place, None where less than a third of it is seen."""
    height, width = scene.inverse.shape
    tall, broad = cutout.rgba.shape[:2]
    (x0, y0), (x1, y1) = stand.low, stand.high
    along = np.array([x0 - x1, y0 - y1]) / tall  # of the picture, for a row of the cut-out
    across = np.array([along[1], -along[0]]) * (1 if rng.random() < 0.5 else -1)
    corner = np.array([x1, y1]) - across * broad / 2
    warp = np.stack([across, along, corner], axis=1)
    rgba = cutout.rgba
    if (shrink := float(np.hypot(*along))) < 0.7:  # warping alone would leave out rows
        rgba = cv2.GaussianBlur(rgba, (0, 0), 0.4 / shrink)
    seen = cv2.warpAffine(rgba, warp, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    alpha = seen[..., 3] / 255
    if not (alpha > 0.5).any():
        return None
    inverse = _inverse(stand, alpha, (height, width))
    visible = inverse > scene.inverse
    if (visible & (alpha > 0.5)).sum() < max(30, 0.33 * (alpha > 0.5).sum()):
        return None
    picture = scene.picture.astype(np.float32)
    if not cutout.cut:
        picture = _shadowed(picture, stand, rng)
    share = (alpha * visible)[..., None]
    picture = picture * (1 - share) + _lit(seen[..., :3], share, picture, rng) * share
    figure = share[..., 0] > 0.5
    return Scene(
        picture=np.clip(picture, 0, 255).astype(np.uint8),
        inverse=np.where(figure, inverse, scene.inverse).astype(np.float32),
        view=scene.view,
        figure=scene.figure | figure,
    )


def _inverse(stand: _Stand, alpha: Floats, shape: tuple[int, int]) -> Floats:
    """Return the body's inverse depth, (h, w): an upright plane, its middle nearer than its outline."""
    (x0, y0), (x1, y1) = stand.low, stand.high
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    way = np.array([x1 - x0, y1 - y0])
    share = np.clip(((x - x0) * way[0] + (y - y0) * way[1]) / float(way @ way), 0, 1)
    plane = (1 - share) / stand.depths[0] + share / stand.depths[1]
    inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    bulge = BULGE * np.sqrt(inside / max(float(inside.max()), 1.0))
    return plane / np.maximum(1 - bulge * plane, 0.5)


def _shadowed(picture: Floats, stand: _Stand, rng: np.random.Generator) -> Floats:
    """Return a picture with the shadow that a standing body throws where it stands."""
    tall = math.hypot(stand.low[0] - stand.high[0], stand.low[1] - stand.high[1])
    dark = np.zeros(picture.shape[:2], np.float32)
    axes = (max(2, round(tall * rng.uniform(0.12, 0.3))), max(1, round(tall * rng.uniform(0.02, 0.06))))
    cv2.ellipse(dark, (round(stand.low[0]), round(stand.low[1])), axes, 0, 0, 360, 1.0, -1)
    dark = cv2.GaussianBlur(dark, (0, 0), max(1.0, tall / 40))
    return picture * (1 - rng.uniform(0, 0.6) * dark[..., None])


def _lit(seen: Floats, share: Floats, picture: Floats, rng: np.random.Generator) -> Floats:
    """Return the body in the light of its place: as bright as what is around it, and grey where that is grey."""
    inside = share[..., 0] > 0.3
    around = cv2.dilate(inside.astype(np.uint8), np.ones((25, 25))).astype(bool) & ~inside
    place = picture[around if around.any() else slice(None)].reshape(-1, 3).mean(axis=0) + 4
    body = (seen * share).sum(axis=(0, 1)) / share.sum() + 4
    if np.ptp(picture, axis=-1).mean() < 1:
        seen, body = seen.mean(axis=-1, keepdims=True).repeat(3, axis=-1), np.full(3, body.mean())
    gain = (place.mean() / body.mean()) ** rng.uniform(0.2, 0.9)
    tint = ((place / place.mean()) / (body / body.mean())) ** rng.uniform(0, 0.5)
    return np.clip(seen * np.clip(gain * tint, 0.2, 3.5) * math.exp(rng.normal(0, 0.25)), 0, 255)
