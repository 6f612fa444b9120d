"""The places of rendered training pictures and how often each is seen, and what comes near the camera in any."""

import math
from collections.abc import Callable

import numpy as np
from scene_entrances import drive, hall
from scene_outdoors import porch, street
from scene_people import hand, person
from scene_rooms import corridor, desk, room, stacked
from scene_shapes import (
    Dice,
    Thing,
    limb,
    paint,
    post,
    put,
    rotation,
)
from scene_things import (
    board,
    boxes,
    chair,
    leaves,
    plant,
    shelf,
    sofa,
    table,
    trinket,
)
from scene_views import Place, View


def foreground(dice: Dice, view: View) -> Thing:
    """Return something near the camera: a visitor, one's own hands, furniture, a leaf, a box."""
    kind = dice.pick(("person", "hands", "thing", "chair", "hanging"), (6, 1, 2, 3, 1))
    forward = dice.between(0.45, 1.8)
    x, y = view.ahead(dice.between(-0.6, 0.6) * forward * math.tan(view.fov / 2), forward)
    if kind == "person":
        drop = min(0.0, view.eye[2] - dice.between(1.2, 1.75))
        return put(person(dice, False), (x, y, drop), view.yaw + dice.between(-0.8, 0.8) * dice.pick((0.5, 4)))
    if kind == "hands":
        return own_hands(dice, view)
    if kind == "chair":
        return put(dice.pick((chair, sofa, table, shelf))(dice), (x, y, 0), dice.between(0, 6.28))
    if kind == "hanging":
        return put(leaves(dice, paint(dice, "leaf"), 0.6, 14), (x, y, view.eye[2] + 0.1))
    z = view.eye[2] - forward * (math.tan(view.tilt) + dice.between(0, 0.4))
    thing = dice.pick((trinket, board, boxes, plant))(dice)
    return [*put(thing, (x, y, z), dice.between(0, 6.28)), post(0.15, max(z, 0.02), paint(dice, "wood"), (x, y, 0))]


def own_hands(dice: Dice, view: View) -> Thing:
    """Return one or two forearms that reach into the picture from below, as a person sees their own."""
    parts, skin, sleeve = [], paint(dice, "skin"), paint(dice, "cloth")
    for side in (-1, 1) if dice.chance(0.6) else (dice.pick((-1, 1)),):
        reach = dice.between(0.25, 0.55)
        mirror = np.diag([-float(side), 1, 1])
        fingers = put(hand(dice, skin), (0, 0, 0), mirror)
        fingers = put(
            fingers,
            (0, 0, 0),
            rotation(math.pi + dice.between(-0.6, 0.6), dice.between(-0.6, 0.8), dice.between(-1.5, 1.5)),
        )
        at = (side * dice.between(0.05, 0.25), reach, -dice.between(0.02, 0.3))
        elbow = (side * 0.32, reach - 0.28, at[2] - 0.25)
        forearm = [limb(elbow, at, (0.05, 0.03), sleeve if dice.chance(0.5) else skin), *put(fingers, at)]
        if dice.chance(0.3):
            forearm += put(trinket(dice), (at[0], at[1] + 0.09, at[2] - 0.02), 0, 0.8)
        parts += forearm
    return put(parts, view.eye, rotation(view.yaw, -view.tilt * 0.7))


PLACES: dict[Callable[[Dice], Place], float] = {
    room: 0.30,
    desk: 0.11,
    stacked: 0.04,
    corridor: 0.08,
    hall: 0.17,
    street: 0.12,
    porch: 0.07,
    drive: 0.11,
}
