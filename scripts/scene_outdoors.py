"""Streets and front doors of rendered training pictures, and what stands there."""

import math

import numpy as np
from scene_people import person
from scene_shapes import (
    Colour,
    Dice,
    Paint,
    Part,
    Thing,
    ball,
    box,
    glowing,
    grid,
    hsv,
    limb,
    paint,
    post,
    put,
    rotation,
)
from scene_things import (
    bicycle,
    boxes,
    leaves,
    plant,
)
from scene_views import Light, Place, View, lamp_colour, look


def tree(dice: Dice) -> Thing:
    """Return a tree: trunk, branches, a crown of blobs; bare now and then."""
    bark, leaf, high = paint(dice, "wood"), paint(dice, "leaf"), dice.between(2.5, 9)
    parts = [limb((0, 0, 0), (0, 0, high * 0.6), (high * 0.03, high * 0.018), bark)]
    bare = dice.chance(0.2)
    for _ in range(dice.whole(6, 14)):
        angle, out, z = dice.between(0, 6.28), high * dice.between(0.1, 0.3), high * dice.between(0.45, 1)
        tip = np.array([out * math.cos(angle), out * math.sin(angle), z])
        parts.append(limb((0, 0, high * dice.between(0.3, 0.55)), tip, (high * 0.012, high * 0.005), bark, 6))
        if not bare:
            r = high * dice.between(0.1, 0.2)
            parts += put([rough_ball(dice, r, leaf)], tip)
    return parts


def bush(dice: Dice) -> Thing:
    """Return a bush, a hedge's piece or tall grass."""
    if dice.chance(0.4):
        return leaves(dice, paint(dice, "leaf"), dice.between(0.3, 1.2), 40)
    leaf = paint(dice, "leaf")
    blobs = [(dice.between(-0.5, 0.5), dice.between(-0.4, 0.4), dice.between(0.1, 0.6)) for _ in range(6)]
    return [part for at in blobs for part in put([rough_ball(dice, dice.between(0.25, 0.5), leaf)], at)]


def rough_ball(dice: Dice, radius: float, color: Paint) -> Part:
    """Return a ball with an uneven surface."""
    part = ball((radius, radius, radius * 0.8), color, steps=16)
    bumps = 1 + 0.22 * dice.rng.standard_normal((len(part.vertices), 1))
    part.vertices[:] *= bumps
    return part


def car(dice: Dice) -> Thing:
    """Return a car or a van along y, its front towards -y."""
    body, glass, tyre = (
        paint(dice, "gloss"),
        Paint(colours=((0.02, 0.03, 0.04),), rough=0.1),
        Paint(colours=((0.02,) * 3,)),
    )
    long, van = dice.between(3.6, 4.8), dice.chance(0.2)
    parts = [box((1.75, long, 0.55), body, (0, 0, 0.28), 0.12)]
    y0, y1, y2, y3 = (
        (-0.45 * long, -0.4 * long, 0.45 * long, 0.47 * long)
        if van
        else (-0.2 * long, -0.05 * long, 0.25 * long, 0.42 * long)
    )
    top = 1.95 if van else dice.between(1.35, 1.5)
    for paint_, inset in ((glass, 0.0), (body, 0.012)):
        base, roof = (0.82 - inset, 0.66 - inset)
        outline = ((y0, 0.8, base), (y1, top - inset, roof), (y2, top - inset, roof), (y3, 0.8, base))
        parts.append(
            grid(np.array([[(-w, y, z) for y, z, w in outline], [(w, y, z) for y, z, w in outline]]), paint_, False)
        )
        for side in (-1, 1):
            parts.append(
                grid(
                    np.array([[(side * w, y, z) for y, z, w in pair] for pair in (outline[:2], outline[:1:-1])]),
                    paint_,
                    False,
                )
            )
    parts.append(box((1.3, (y2 - y1), 0.03), body, (0, (y1 + y2) / 2, top - 0.01)))
    for x in (-0.82, 0.82):
        parts += [
            p
            for y in (-0.3, 0.3)
            for p in put([post(0.31, 0.2, tyre, (0, 0, -0.1))], (x, y * long, 0.32), rotation(0, 0, math.pi / 2))
        ]
        parts.append(
            box((0.3, 0.05, 0.13), glowing((1, 0.95, 0.8), dice.pick((0.5, 0.5, 8))), (x * 0.75, -long / 2 - 0.01, 0.6))
        )
        parts.append(
            box((0.2, 0.05, 0.15), glowing((1, 0.03, 0.02), dice.pick((0.3, 3))), (x * 0.8, long / 2 + 0.01, 0.62))
        )
    return parts


def fence(dice: Dice, long: float) -> Thing:
    """Return a fence along x: slats or bars."""
    color, high, gap = (
        paint(dice, dice.pick(("wood", "metal", "gloss"))),
        dice.between(0.7, 1.8),
        dice.between(0.1, 0.2),
    )
    broad = gap * dice.between(0.15, 0.85)
    slats = [box((broad, 0.02, high), color, (x, 0, 0)) for x in np.arange(-long / 2, long / 2, gap)[:80]]
    return slats + [box((long, 0.04, 0.06), color, (0, 0.03, z * high)) for z in (0.2, 0.8)]


def street_thing(dice: Dice) -> Thing:
    """Return a pole, a sign, a bin, a bench, a bollard or a letter box."""
    metal, color, kind = paint(dice, "metal"), paint(dice, "gloss"), dice.whole(0, 5)
    if kind == 0:
        high = dice.between(3, 7)
        return [post(0.06, high, metal), limb((0, 0, high), (0, -1.2, high + 0.2), (0.04, 0.04), metal)]
    if kind == 1:
        return [post(0.03, 2.4, metal), *put([post(0.3, 0.02, color)], (0, -0.04, 2.3), rotation(0, math.pi / 2))]
    if kind == 2:
        return [box((0.55, 0.6, 1.0), color, bevel=0.05), box((0.6, 0.65, 0.08), color, (0, 0, 1.0), 0.03)]
    if kind == 3:
        wood = paint(dice, "wood")
        slats = [box((1.6, 0.1, 0.03), wood, (0, y, 0.45)) for y in (-0.15, 0, 0.15)]
        back = [box((1.6, 0.03, 0.1), wood, (0, 0.24, z)) for z in (0.6, 0.75)]
        return [*slats, *back, *(box((0.06, 0.45, 0.45), metal, (x, 0, 0)) for x in (-0.7, 0.7))]
    if kind == 4:
        return [post(0.09, dice.between(0.5, 1.1), color), ball((0.1, 0.1, 0.06), color, (0, 0, 0.9))]
    return [post(0.05, 1.0, metal), box((0.35, 0.25, 0.4), color, (0, 0, 0.95), 0.03)]


def facade(dice: Dice, wide: float, high: float) -> Thing:
    """Return the front of a house in the plane of x and z, seen from -y: windows in a grid, a door, a ledge."""
    color, frame = paint(dice, dice.pick(("stone", "wall"))), paint(dice, dice.pick(("wood", "gloss")))
    glass = Paint(colours=((0.03, 0.04, 0.05), (0.15, 0.18, 0.22)), pattern="noise", scale=0.7, rough=0.1)
    lit = glowing((1, 0.75, 0.4), dice.between(1, 4))
    parts = [box((wide, 6.0, high), color, (0, 3.0, 0))]
    across, up, w, h = dice.between(1.4, 3), dice.between(2.6, 3.4), dice.between(0.7, 1.3), dice.between(1.0, 1.8)
    for x in np.arange(-wide / 2 + across / 2, wide / 2 - 0.4, across):
        for z in np.arange(0.9, high - h, up)[:4]:
            parts.append(box((w + 0.15, 0.1, h + 0.15), frame, (x, 0, z - 0.07)))
            parts.append(box((w, 0.12, h), lit if dice.chance(0.1) else glass, (x, 0, z)))
    at = dice.between(-0.3, 0.3) * wide
    parts += [box((1.2, 0.16, 2.3), frame, (at, 0, 0)), box((0.95, 0.18, 2.1), paint(dice, "gloss"), (at, 0, 0))]
    if dice.chance(0.5):
        parts.append(box((wide + 0.3, 0.5, 0.2), frame, (0, -0.15, high - 0.1)))
    return parts


def outdoors(dice: Dice) -> tuple[tuple[Colour, Colour], list[Light]]:
    """Return sky and sun, of day, dusk or night."""
    hour = dice.pick(("clear", "grey", "dusk", "night"), (4, 4, 1.5, 1))
    bright = {"clear": 1.0, "grey": 1.0, "dusk": 0.15, "night": 0.01}[hour]
    horizon = (
        hsv(dice.between(0.5, 0.65), dice.between(0, 0.25), 0.95)
        if hour != "dusk"
        else hsv(dice.between(0, 0.12), 0.5, 0.9)
    )
    zenith = hsv(dice.between(0.55, 0.64), 0.05 if hour == "grey" else dice.between(0.3, 0.7), dice.between(0.6, 0.9))
    sky = tuple(tuple(bright * c for c in colour) for colour in (horizon, zenith))
    lights = []
    if hour in ("clear", "dusk"):
        angle, fall = dice.between(0, 6.28), dice.between(0.2, 1.5)
        strength = dice.between(2, 6) if hour == "clear" else 0.3
        lights.append(
            Light(
                at=(0, 0, 9),
                watts=strength,
                colour=(1, 0.93, 0.82),
                size=0,
                towards=(math.cos(angle), math.sin(angle), -fall),
            )
        )
    if hour == "night":
        for _ in range(4):
            at = (dice.between(-6, 6), dice.between(0, 20), dice.between(2.5, 6))
            lights.append(Light(at=at, watts=dice.between(100, 600), colour=lamp_colour(dice), size=0.15))
    return sky, lights


def air(dice: Dice) -> dict[str, float]:
    """Return clouds and haze."""
    return {
        "clouds": dice.pick((0.0, dice.between(0.2, 1))),
        "haze": math.exp(dice.between(3.5, 7)) if dice.chance(0.4) else 0.0,
    }


def street(dice: Dice) -> Place:
    """Return a street: houses, pavements, cars, people, trees; the camera looks along or across it."""
    sky, lights = outdoors(dice)
    half, walk = dice.between(2, 5), dice.between(1.2, 3.5)
    parts = [box((90, 160, 0.1), paint(dice, "ground"), (0, 60, -0.12))]
    road = Paint(
        colours=(hsv(0.1, 0.05, dice.between(0.25, 0.6)), hsv(0.1, 0.05, 0.35)),
        pattern="noise",
        scale=dice.between(1, 40),
    )
    parts.append(box((2 * half, 160, 0.1), road, (0, 60, -0.1)))
    parts += (
        [box((0.12, 2, 0.005), paint(dice, "gloss"), (0, y, 0)) for y in range(-8, 50, 5)] if dice.chance(0.5) else []
    )
    for side in (-1, 1):
        parts.append(box((walk, 160, 0.12), paint(dice, "stone"), (side * (half + walk / 2), 60, -0.02)))
        parts += street_side(dice, side, half, walk)
    for _ in range(dice.whole(0, 5)):
        parts += put(
            person(dice, False),
            (dice.between(-1, 1) * (half + walk), dice.between(-1, 14), 0.05),
            dice.between(0, 6.28),
        )
    if dice.chance(0.25):
        parts += put(facade(dice, 30, dice.between(5, 12)), (0, dice.between(20, 60), 0))

    def view(dice: Dice) -> View:
        eye = (
            dice.between(-1, 1) * (half + walk * 0.8),
            -6.0,
            dice.pick((dice.between(0.4, 1.2), dice.between(1.2, 2), dice.between(2, 4)), (1, 3, 1)),
        )
        aim = dice.pick((dice.between(-2, 2), dice.between(-14, 14)))
        return look(dice, eye, (aim, dice.between(2, 12), dice.between(0, 2)), (40, 100))

    return Place(parts=parts, lights=lights, sky=sky, view=view, closest=0.5, **air(dice))


def street_side(dice: Dice, side: int, half: float, walk: float) -> Thing:
    """Return the houses, parked cars, trees and poles of one side."""
    parts, y, open_ = [], -14.0, dice.chance(0.25)
    while y < 50:
        wide = dice.between(6, 14)
        if open_ or dice.chance(0.15):
            trees = [
                put(
                    dice.pick((tree, bush))(dice),
                    (side * (half + walk + dice.between(0.5, 8)), y + dice.between(0, wide), 0),
                )
                for _ in range(3)
            ]
            parts += [part for one in trees for part in one]
        else:
            front = put(facade(dice, wide, dice.between(3, 12)), (0, 0, 0), -side * math.pi / 2)
            parts += put(front, (side * (half + walk + dice.between(0, 2)), y + wide / 2, 0))
        y += wide
    for y in np.arange(dice.between(-5, 2), 30, dice.between(5, 9)):
        if dice.chance(0.55):
            parts += put(car(dice), (side * (half - 1), y, 0), dice.pick((0.0, math.pi)) + dice.between(-0.05, 0.05))
        if dice.chance(0.45):
            make = dice.pick((street_thing, tree, bicycle, bush), (3, 2, 1, 0.5))
            parts += put(make(dice), (side * (half + 0.4), y + 2, 0.1), dice.between(0, 6.28))
    return parts


def porch(dice: Dice) -> Place:
    """Return what a camera beside a front door sees: the path, a garden, a fence, visitors, a car, the street."""
    sky, lights = outdoors(dice)
    far = dice.between(3, 12)
    parts = [box((80, 120, 0.1), paint(dice, "ground"), (0, 40, -0.1))]
    parts.append(box((dice.between(0.9, 3), far + 4, 0.02), paint(dice, "stone"), (dice.between(-1, 1), far / 2, 0)))
    parts.append(box((60, 6, 0.03), paint(dice, "stone"), (0, far + 4, 0)))
    parts += put(fence(dice, 16), (dice.pick((-9, 9, 0)), far, 0)) if dice.chance(0.6) else []
    for side in (-1, 1):
        if dice.chance(0.5):
            parts += put(fence(dice, far), (side * dice.between(2, 5), far / 2, 0), math.pi / 2)
    for make, most in ((bush, 6), (tree, 3), (street_thing, 2), (bicycle, 1), (plant, 3), (boxes, 1)):
        for _ in range(dice.whole(0, most)):
            parts += put(
                make(dice), (dice.between(-1, 1) * (3 + far / 2), dice.between(0.8, far), 0), dice.between(0, 6.28)
            )
    for y, turn in ((dice.between(3, 6), 0.2), (far + dice.between(2.5, 5), math.pi / 2)):
        if dice.chance(0.5):
            parts += put(car(dice), (dice.between(-5, 5), y, 0), turn + dice.between(-0.2, 0.2))
    for x in (-9, 6):
        parts += put(facade(dice, dice.between(8, 13), dice.between(3, 9)), (x, far + dice.between(7, 16), 0))
    if dice.chance(0.5):
        stone = paint(dice, "stone")
        parts += [box((0.18, 0.18, 2.6), stone, (x, 1.4, 0)) for x in (-1.4, 1.4)] + [
            box((4, 1.9, 0.12), stone, (0, 0.7, 2.6))
        ]
        lights.append(Light(at=(0, 0.8, 2.4), watts=dice.between(5, 60), colour=lamp_colour(dice), size=0.1))
    for _ in range(dice.whole(0, 3)):
        parts += put(
            person(dice, False),
            (dice.between(-1.5, 1.5), dice.between(0.8, far), 0),
            dice.between(-1, 1),
            dice.between(0.7, 1.05),
        )

    def view(dice: Dice) -> View:
        eye = (dice.between(-1, 1), dice.between(-0.1, 0.2), dice.between(0.8, 2.5))
        return look(dice, eye, (dice.between(-2.5, 2.5), 4, dice.between(-0.3, 1.6)), (55, 110))

    return Place(parts=parts, lights=lights, sky=sky, view=view, closest=0.4, **air(dice))
