"""Light and camera of a rendered training picture."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from scene_shapes import (
    Colour,
    Dice,
    Thing,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A lamp: an area light that shines along `towards`, a point light (no `towards`) or the sun (no `size`)."""

    at: tuple[float, ...]
    watts: float
    colour: Colour
    size: float
    towards: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A camera: `yaw` turns left from +y, `tilt` looks down, `roll` leans; radians. `fov` is horizontal.

    `barrel` is the lens': how much farther out a point of the edge's middle is seen than a pinhole would show it.
    """

    eye: tuple[float, float, float]
    yaw: float
    tilt: float
    roll: float
    fov: float
    barrel: float = 0.0

    def ahead(self, right: float, forward: float) -> tuple[float, float]:
        """Return x and y of the point so far to the right and ahead, as seen from above."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.eye[0] + right * c - forward * s, self.eye[1] + right * s + forward * c


@dataclass(slots=True, kw_only=True)
class Place:
    """All of one picture: `parts` and `lights`; `sky` goes from horizon to zenith; `view` may be retried.

    `clouds` cover that share of the sky's brightness; through `haze` metres of air a third of the light comes (0: all).
    """

    parts: Thing = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    sky: tuple[Colour, Colour] = ((0.02, 0.02, 0.02), (0.02, 0.02, 0.02))
    view: Callable[[Dice], View]
    closest: float = 0.3
    clouds: float = 0.0
    haze: float = 0.0


def look(dice: Dice, eye: tuple[float, ...], at: tuple[float, ...], fov: tuple[float, float] = (40, 100)) -> View:
    """Return a camera there that looks about there."""
    dx, dy, dz = (b - a for a, b in zip(eye, at, strict=True))
    roll = dice.rng.normal(0, 0.02) if dice.chance(0.7) else dice.rng.normal(0, 0.1)
    return View(
        eye=(eye[0], eye[1], eye[2]),
        yaw=math.atan2(-dx, dy),
        tilt=math.atan2(-dz, math.hypot(dx, dy)),
        roll=float(roll),
        fov=math.radians(dice.between(*fov)),
        barrel=dice.between(0, 0.25) if dice.chance(0.35) else 0.0,
    )


def lamp_colour(dice: Dice) -> Colour:
    """Return the light of day or of some lamp."""
    return dice.pick(((1, 0.95, 0.9), (1, 0.8, 0.55), (0.8, 0.9, 1), (1, 0.65, 0.35), (0.9, 1, 0.95)))
