"""Entrances of rendered training pictures: halls and drives as a camera over a door sees them, and what is hard there.

Hard are patches of sun and shadow, lamps that see without colour (infrared), wide lenses that lean, and what comes as
near as the lens.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scene_outdoors import air, bush, car, facade, fence, outdoors, street_thing, tree
from scene_people import animal, arm, person
from scene_rooms import furnish, furniture, people, shell
from scene_shapes import Colour, Dice, Paint, Part, Thing, box, glowing, hsv, limb, paint, post, put
from scene_things import bicycle, board, boxes, chair, cupboard, plant, shelf, trinket
from scene_views import Light, Place, View, look


def hall(dice: Dice) -> Place:
    """Return a hall or a corridor with little in it, seen from under its ceiling, from a door or along a wall."""
    wide, long, high = dice.between(1.1, 4.5), dice.between(3.5, 15), dice.between(2.3, 3.2)
    day = dice.chance(0.5)
    parts, lights = shell(dice, wide, long, high, day)
    if dice.chance(0.5):  # a floor that mirrors
        stone = replace(paint(dice, dice.pick(("floor", "stone"))), rough=dice.between(0.05, 0.3))
        parts.append(box((wide, long, 0.01), stone))
    for _ in range(dice.whole(0, 3)):
        thing, side = furniture(dice, (cupboard, shelf, plant, chair, boxes, bicycle)), dice.pick((-1, 1))
        parts += put(thing, (side * (wide / 2 - 0.3), dice.between(-0.3, 0.5) * long, 0), -side * math.pi / 2)
    if dice.chance(0.3):
        parts += put(rail(dice, 0.7 * long), (dice.pick((-1, 1)) * (wide / 2 - 0.08), 0, 0), math.pi / 2)
    if wide > 3:
        parts += furnish(dice, wide, long, dice.whole(0, 5), dice.whole(0, 2))
    parts += people(dice, 4, wide, long)
    if day:
        parts += [patch for _ in range(dice.whole(0, 3)) for patch in sun_patch(dice, wide, long, high)]
    more = [replace(lights[0], at=(0, y * long, high - 0.05), size=0.6) for y in (-0.35, 0.35)]

    def view(dice: Dice) -> View:
        aside = dice.pick((dice.between(-0.35, 0.35), dice.pick((-0.46, 0.46))), (3, 1))
        eye = (aside * wide, -long * dice.between(0.25, 0.48), dice.pick((dice.between(1, 1.7), high - 0.25), (1, 1)))
        at = (dice.between(-0.3, 0.3) * wide, dice.between(0, 0.4) * long, dice.between(0, 1.5))
        return look(dice, eye, at, (50, 100))

    return Place(parts=parts, lights=lights if long < 6 else lights + more, view=view)


def drive(dice: Dice) -> Place:
    """Return a drive, a yard or a path to a door as a camera at 2 to 3.4 m on the house sees it from above."""
    sky, lights = outdoors(dice)
    far, wide = dice.between(4, 16), dice.between(2, 6)
    parts = [box((80, 120, 0.1), paint(dice, "ground"), (0, 40, -0.1))]
    parts.append(box((wide, far + 4, 0.02), paint(dice, dice.pick(("stone", "ground"))), (0, far / 2, 0)))
    parts.append(box((60, dice.between(4, 8), 0.03), paint(dice, "stone"), (0, far + 4, 0)))
    for side in (-1, 1):
        kind = dice.pick(("wall", "fence", "hedge", "rail", "none"), (2, 1, 1, 1, 2))
        x = side * dice.between(wide / 2 + 0.2, wide / 2 + 4)
        if kind == "wall":
            front = put(facade(dice, far, dice.between(2.4, 6)), (0, 0, 0), -side * math.pi / 2)
            parts += put(front, (x, far / 2, 0))
        elif kind in ("fence", "rail"):
            parts += put((fence if kind == "fence" else rail)(dice, far), (x, far / 2, 0), math.pi / 2)
        elif kind == "hedge":
            parts += [part for y in np.arange(0.8, far, 0.9) for part in put(bush(dice), (x, y, 0))]
    for make, most in ((bush, 3), (tree, 2), (street_thing, 3), (bicycle, 1), (boxes, 2), (plant, 3)):
        for _ in range(dice.whole(0, most)):
            at = (dice.between(-1, 1) * (wide / 2 + 3), dice.between(0.8, far + 3), 0)
            parts += put(make(dice), at, dice.between(0, 6.28))
    for y, turn in ((dice.between(3, 8), 0.1), (far + dice.between(3, 5), math.pi / 2)):
        if dice.chance(0.6):
            parts += put(car(dice), (dice.between(-0.4, 0.4) * wide, y, 0), turn + dice.between(-0.2, 0.2))
    parts += put(facade(dice, 30, dice.between(3, 9)), (dice.between(-6, 6), far + dice.between(8, 16), 0))
    for _ in range(dice.whole(0, 4)):
        at = (dice.between(-0.7, 0.7) * wide, dice.between(1, far), 0)
        parts += put(
            (animal if dice.chance(0.15) else person)(dice), at, dice.between(0, 6.28), dice.between(0.65, 1.08)
        )

    def view(dice: Dice) -> View:
        eye = (dice.between(-0.6, 0.6) * wide, dice.between(-0.2, 0.3), dice.between(2, 3.4))
        return look(dice, eye, (dice.between(-0.8, 0.8) * wide, dice.between(3, 8), dice.between(0, 0.8)), (60, 110))

    return Place(parts=parts, lights=lights, sky=sky, view=view, closest=0.5, **air(dice))


def rail(dice: Dice, long: float) -> Thing:
    """Return thin posts along x with a bar on them."""
    color, high, thick = (
        paint(dice, dice.pick(("metal", "wood", "gloss"))),
        dice.between(0.8, 1.1),
        dice.between(0.01, 0.03),
    )
    posts = [post(thick, high, color, (x, 0, 0)) for x in np.arange(-long / 2, long / 2, dice.between(0.12, 1.2))[:60]]
    return [*posts, limb((-long / 2, 0, high), (long / 2, 0, high), (thick * 1.4, thick * 1.4), color)]


def sun_patch(dice: Dice, wide: float, long: float, high: float) -> Thing:
    """Return the light of a window on floor or wall, in panes, or a shadow: bright or dark, and as flat as paint."""
    dark = dice.chance(0.25)
    bright: Colour = hsv(dice.between(0.08, 0.14), dice.between(0, 0.4), 1.0)
    color = Paint(colours=((0.02, 0.02, 0.02),)) if dark else glowing(bright, dice.between(0.3, 5))
    panes, lean = dice.whole(1, 3), dice.between(-0.8, 0.8)
    broad, tall = dice.between(0.2, 0.7), dice.between(0.4, 1.6)
    parts: Thing = [sheared(box((broad, tall, 0.003), color, (i * broad * 1.15, 0, 0)), lean) for i in range(panes)]
    if dice.chance(0.5):
        at = (dice.between(-0.4, 0.3) * wide, dice.between(-0.3, 0.3) * long, 0.011)
        return put(parts, at, dice.between(0, 6.28))
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    at_wall = put(parts, (0, 0, 0), upright)
    side = dice.pick((-1, 1))
    spot = (side * (wide / 2 - 0.004), dice.between(-0.2, 0.35) * long, dice.between(0.5, high - 0.9))
    return put(at_wall, spot, -side * math.pi / 2)


def sheared(part: Part, lean: float) -> Part:
    """Return a part whose far side lies to one side, as slanting light makes it."""
    moved = part.vertices.copy()
    moved[:, 0] += lean * moved[:, 1]
    return replace(part, vertices=moved)


def close_by(dice: Dice, view: View) -> Thing:
    """Return what is held before the lens, 0.2 to 0.6 m away: an arm and its hand, a parcel, a face, an animal."""
    kind, forward = dice.pick(("arm", "parcel", "face", "animal"), (4, 2, 3, 1)), dice.between(0.22, 0.6)
    aside = dice.between(-0.7, 0.7) * forward * math.tan(min(view.fov, 1.7) / 2)
    x, y = view.ahead(aside, forward)
    z = view.eye[2] - forward * math.tan(view.tilt) + dice.between(-0.6, 0.3) * forward
    if kind == "arm":
        start = np.array(view.ahead(aside + dice.between(-0.5, 0.5), forward + dice.between(-0.1, 0.5)))
        shoulder = np.array([start[0], start[1], z - dice.between(0.2, 0.5)])
        return arm(dice, shoulder, np.array([x, y, z]), paint(dice, "cloth"), paint(dice, "skin"))
    if kind == "parcel":
        thing = dice.pick((boxes, board, trinket))(dice)
        return put(thing, (x, y, z - 0.15), dice.between(0, 6.28), dice.between(0.5, 1))
    if kind == "animal":
        return put(animal(dice), (x, y, z - 0.2), dice.between(0, 6.28))
    drop = z - dice.between(1.5, 1.75)  # a standing person whose face is there
    return put(person(dice, False), (x, y, drop), view.yaw + dice.between(-0.8, 0.8))


def through_lens(view: Callable[[Dice], View]) -> Callable[[Dice], View]:
    """Return the same choice of cameras, one in five with a wide lens, one in six leaning by up to 15 degrees."""

    def seen(dice: Dice) -> View:
        found = view(dice)
        if dice.chance(0.2):
            found = replace(found, fov=math.radians(dice.between(85, 112)), barrel=dice.between(0.2, 0.6))
        return replace(found, roll=dice.between(-0.26, 0.26)) if dice.chance(0.17) else found

    return seen


def infrared(dice: Dice, place: Place, view: View) -> Place:
    """Return a place at night, lit by the camera's own lamp: light falls with distance, the sky is black."""
    lamp = Light(
        at=(view.eye[0], view.eye[1], view.eye[2] + 0.04), watts=dice.between(20, 60), colour=(1, 1, 1), size=0.03
    )
    dim = tuple(tuple(0.01 * c for c in colour) for colour in place.sky)
    others = [replace(lamp, watts=0.02 * lamp.watts) for lamp in place.lights] if dice.chance(0.3) else []
    return replace(place, lights=[lamp, *others], sky=dim, clouds=0.0)
