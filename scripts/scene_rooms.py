"""Rooms of rendered training pictures: furnished ones, corridors, desks, stores."""

import math
from dataclasses import replace

import numpy as np
from scene_people import animal, person
from scene_shapes import (
    Dice,
    Paint,
    Thing,
    ball,
    box,
    glowing,
    hsv,
    paint,
    post,
    put,
    rotation,
)
from scene_things import (
    FURNITURE,
    WALL_FURNITURE,
    Maker,
    bicycle,
    board,
    boxes,
    chair,
    cupboard,
    curtain,
    lamp,
    plant,
    screen,
    shelf,
    stairs,
    table,
    trinket,
)
from scene_views import Light, Place, View, lamp_colour, look


def laden(dice: Dice, thing: Thing, most: int) -> Thing:
    """Return a thing with smaller ones on its top."""
    points = np.concatenate([part.vertices for part in thing])
    low, high = points.min(axis=0), points.max(axis=0)
    parts = list(thing)
    for _ in range(dice.whole(0, most)):
        x, y = (dice.between(low[i] * 0.85, high[i] * 0.85) for i in (0, 1))
        make = dice.pick((trinket, trinket, trinket, screen, plant, lamp), (5, 5, 5, 2, 1, 0.5))
        parts += put(make(dice), (x, y, high[2]), dice.between(-0.6, 0.6), dice.between(0.6, 1.0))
    return parts


def furniture(dice: Dice, makers: tuple[Maker, ...]) -> Thing:
    """Return a piece of furniture, laden where it is low enough to be."""
    make = dice.pick(makers)
    thing = make(dice)
    return laden(dice, thing, 6) if make in (table, cupboard) else thing


def wall(dice: Dice, long: float, high: float, color: Paint, day: bool) -> Thing:
    """Return a wall in the plane of x and z, seen from -y: pictures, a window or a door, a skirting board."""
    parts: Thing = []
    kind = dice.pick(("none", "window", "door", "gap"), (3, 4, 2, 1.5))
    gap = dice.between(0.9, min(2.4, 0.7 * long)) if kind == "window" else 0.9
    low, top = (dice.between(0.5, 1.1), min(high - 0.2, 2.1)) if kind == "window" else (0.0, 2.05)
    middle = dice.between(-1, 1) * max(0.0, (long - gap) / 2 - 0.3)
    if kind == "none":
        parts.append(box((long, 0.1, high), color, (0, 0.05, 0)))
    else:
        left, right = middle - gap / 2 + long / 2, long / 2 - middle - gap / 2
        parts.append(box((left, 0.1, high), color, (-long / 2 + left / 2, 0.05, 0)))
        parts.append(box((right, 0.1, high), color, (long / 2 - right / 2, 0.05, 0)))
        parts.append(box((gap, 0.1, high - top), color, (middle, 0.05, top)))
        parts += put(opening(dice, kind, gap, low, top, color, day), (middle, 0, 0))
    if dice.chance(0.6):
        parts.append(box((long, 0.02, dice.between(0.05, 0.15)), paint(dice, "wood"), (0, -0.01, 0)))
    for _ in range(dice.whole(0, 4)):
        x, z = dice.between(-0.45, 0.45) * long, dice.between(0.7, high - 0.7)
        if kind == "none" or abs(x - middle) > gap / 2 + 0.4:
            parts += put(picture(dice), (x, -0.02, z))
    return parts


def picture(dice: Dice) -> Thing:
    """Return a framed picture, a clock, a board or a small shelf on a wall."""
    wide, high, kind = dice.between(0.2, 1.2), dice.between(0.2, 0.9), dice.whole(0, 5)
    frame, print_ = paint(dice, "wood"), paint(dice, "print")
    if kind == 0:
        return put([post(0.15, 0.03, print_), post(0.17, 0.02, frame)], (0, 0, 0), rotation(0, math.pi / 2))
    if kind == 1:
        plank = [box((wide, 0.22, 0.025), frame, (0, -0.1, 0))]
        return plank + [p for x in (-0.3, 0.0, 0.3) for p in put(trinket(dice), (x * wide, -0.1, 0.025), 0, 0.8)]
    return [box((wide, 0.025, high), frame), box((wide * 0.9, 0.03, high * 0.88), print_, (0, 0, high * 0.06))]


def opening(dice: Dice, kind: str, wide: float, low: float, top: float, color: Paint, day: bool) -> Thing:
    """Return what fills a gap in a wall: a window with what lies behind, a door, or nothing but a frame."""
    wood = paint(dice, dice.pick(("wood", "gloss")))
    frame = [box((0.06, 0.16, top - low), wood, (x * wide / 2, 0.05, low)) for x in (-1, 1)]
    frame.append(box((wide + 0.06, 0.16, 0.06), wood, (0, 0.05, top)))
    if kind == "gap":
        return frame
    if kind == "door":
        handle = paint(dice, "metal")
        leaf = [box((wide, 0.04, top), wood, (wide / 2, 0, 0)), box((0.12, 0.12, 0.02), handle, (wide - 0.1, 0, 1.0))]
        leaf += [box((wide * 0.7, 0.06, 0.7), wood, (wide / 2, 0, z), 0.01) for z in (0.2, 1.1)]
        return frame + put(leaf, (-wide / 2, 0.05, 0), -dice.between(0, 1.6) if dice.chance(0.4) else 0.0)
    parts = [*frame, box((wide, 0.1, low), color, (0, 0.05, 0)), box((wide + 0.1, 0.25, 0.03), wood, (0, -0.02, low))]
    bars = dice.whole(1, 3)
    parts += [box((0.04, 0.05, top - low), wood, (wide * (i / bars - 0.5), 0.06, low)) for i in range(1, bars)]
    bright = dice.between(2, 14) if day else 0.03
    colours = tuple(hsv(dice.between(0.2, 0.65), dice.between(0, 0.4), dice.between(0.5, 1)) for _ in range(4))
    sight = Paint(colours=colours, pattern="noise", scale=dice.between(0.5, 4), glow=bright)
    parts.append(box((wide * 1.6, 0.02, (top - low) * 1.4), sight, (0, dice.pick((0.12, 0.4, 1.0)), low - 0.2)))
    if dice.chance(0.5):
        for x in (-1, 1):
            parts += put(
                curtain(dice, wide * dice.between(0.2, 0.5), top - low + 0.5), (x * wide * 0.55, -0.08, low - 0.3)
            )
    return parts


def shell(dice: Dice, wide: float, long: float, high: float, day: bool) -> tuple[Thing, list[Light]]:
    """Return an empty room around the origin, and its lights."""
    color, floor = paint(dice, "wall"), paint(dice, "floor")
    parts = [
        box((wide + 6, long + 6, 0.1), floor, (0, 0, -0.1)),
        box((wide + 6, long + 6, 0.1), paint(dice, "wall"), (0, 0, high)),
    ]
    for side in range(4):
        across, away = (wide, long) if side % 2 == 0 else (long, wide)
        same = color if dice.chance(0.8) else paint(dice, "wall")
        parts += put(put(wall(dice, across, high, same, day), (0, away / 2, 0)), (0, 0, 0), side * math.pi / 2)
        parts += put(
            [box((across + 5, 0.05, high), paint(dice, "wall"), (0, away / 2 + 2.4, 0))], (0, 0, 0), side * math.pi / 2
        )
    lights = [
        Light(
            at=(0, 0, high - 0.03),
            watts=dice.between(10, 60) * wide,
            colour=lamp_colour(dice),
            size=wide * 0.6,
            towards=(0, 0, -1),
        )
    ]
    if dice.chance(0.5):
        at = (dice.between(-0.3, 0.3) * wide, dice.between(-0.3, 0.3) * long, high - 0.4)
        lights.append(Light(at=at, watts=dice.between(20, 150), colour=lamp_colour(dice), size=0.1))
        parts.append(ball((0.12, 0.12, 0.1), glowing((1, 0.9, 0.75), dice.between(1, 12)), (at[0], at[1], at[2] + 0.2)))
        parts.append(post(0.01, 0.3, paint(dice, "metal"), (at[0], at[1], at[2] + 0.2)))
    if day:
        side = dice.pick((-1, 1))
        at = (side * (wide / 2 - 0.1), dice.between(-0.3, 0.3) * long, 1.6)
        lights.append(
            Light(at=at, watts=dice.between(30, 250), colour=(0.9, 0.95, 1), size=1.3, towards=(-side, 0, -0.3))
        )
    return parts, lights


def furnish(dice: Dice, wide: float, long: float, at_walls: int, free: int) -> Thing:
    """Return furniture along the walls and in between; pieces keep out of each other where there is room."""
    parts: Thing = []
    taken: list[tuple[float, float, float]] = []
    for i in range(at_walls + free):
        thing = furniture(dice, WALL_FURNITURE if i < at_walls else FURNITURE)
        points = np.concatenate([part.vertices for part in thing])
        radius = float(np.abs(points[:, :2]).max(axis=0).mean())
        for _ in range(6):
            if i < at_walls:
                side = dice.whole(0, 3)
                across, away = (wide, long) if side % 2 == 0 else (long, wide)
                spot = rotation(side * math.pi / 2) @ (
                    dice.between(-0.45, 0.45) * across,
                    away / 2 - points[:, 1].max() - 0.04,
                    0,
                )
                turn = side * math.pi / 2
            else:
                spot = np.array([dice.between(-0.42, 0.42) * wide, dice.between(-0.42, 0.42) * long, 0])
                turn = dice.between(0, 6.28)
            if all(math.hypot(spot[0] - x, spot[1] - y) > radius + r for x, y, r in taken):
                taken.append((spot[0], spot[1], radius))
                parts += put(thing, spot, turn)
                break
    return parts


def people(dice: Dice, most: int, wide: float, long: float) -> Thing:
    """Return people and now and then an animal, anywhere on the floor."""
    parts: Thing = []
    for _ in range(dice.whole(0, most)):
        make = animal if dice.chance(0.15) else person
        at = (dice.between(-0.45, 0.45) * wide, dice.between(-0.45, 0.45) * long, 0)
        parts += put(make(dice), at, dice.between(0, 6.28), dice.between(0.65, 1.08))
    return parts


def room(dice: Dice) -> Place:
    """Return a furnished room seen from a wall, a corner, a ceiling or somebody's hand."""
    wide, long, high = dice.between(2.6, 7), dice.between(3, 9), dice.between(2.3, 3.4)
    parts, lights = shell(dice, wide, long, high, dice.chance(0.65))
    parts += furnish(dice, wide, long, dice.whole(3, 10), dice.whole(1, 6)) + people(dice, 3, wide, long)
    if dice.chance(0.5):
        rug = [box((dice.between(1, 2.5), dice.between(1, 3), 0.012), paint(dice, "cloth"))]
        parts += put(rug, (dice.between(-0.5, 0.5), dice.between(-1, 1), 0), dice.pick((0, 0.3)))
    for _ in range(dice.whole(0, 8)):
        parts += put(
            trinket(dice), (dice.between(-0.4, 0.4) * wide, dice.between(-0.4, 0.4) * long, 0), dice.between(0, 6), 1.5
        )

    def view(dice: Dice) -> View:
        eye = (
            dice.between(-0.45, 0.45) * wide,
            -long * dice.between(0.1, 0.47),
            dice.pick((dice.between(0.3, 1), dice.between(1, 1.8), dice.between(1.2, high - 0.2)), (1, 3, 2)),
        )
        at = (dice.between(-0.4, 0.4) * wide, long * dice.between(0, 0.5), dice.between(0.2, 1.5))
        return look(dice, eye, at)

    return Place(parts=parts, lights=lights, view=view)


def corridor(dice: Dice) -> Place:
    """Return a corridor or a staircase."""
    wide, long, high = dice.between(1.2, 3.2), dice.between(5, 18), dice.between(2.3, 3.2)
    parts, lights = shell(dice, wide, long, high, dice.chance(0.4))
    for _ in range(dice.whole(0, 4)):
        thing, side = furniture(dice, (cupboard, shelf, plant, chair, boxes, bicycle)), dice.pick((-1, 1))
        parts += put(thing, (side * (wide / 2 - 0.3), dice.between(-0.3, 0.5) * long, 0), -side * math.pi / 2)
    if dice.chance(0.6):
        flight = stairs(dice, wide * dice.between(0.5, 0.98), dice.whole(5, 14))
        parts += put(flight, (0, dice.between(-0.25, 0.2) * long, 0), dice.pick((0, 0, 0.5, -0.5)))
    parts += people(dice, 2, wide, long)
    more = [replace(lights[0], at=(0, y * long, high - 0.05), size=0.6) for y in (-0.35, 0.35)]

    def view(dice: Dice) -> View:
        eye = (dice.between(-0.35, 0.35) * wide, -long * dice.between(0.2, 0.47), dice.between(0.4, high - 0.3))
        return look(dice, eye, (dice.between(-0.3, 0.3) * wide, 0.3 * long, dice.between(0.3, 1.6)))

    return Place(parts=parts, lights=lights + more, view=view)


def desk(dice: Dice) -> Place:
    """Return a desk, a shelf's front or a workbench from close by, with hands or a face now and then."""
    wide, long, high, top = dice.between(2.5, 5), dice.between(2.6, 6), dice.between(2.3, 3), dice.between(0.65, 0.95)
    parts, lights = shell(dice, wide, long, high, dice.chance(0.6))
    broad, deep, y0 = dice.between(0.9, 2), dice.between(0.5, 0.9), long / 2 - dice.between(0.5, 2)
    wood = paint(dice, dice.pick(("wood", "gloss", "print", "cloth")))
    parts += [
        box((broad, deep, 0.04), wood, (0, y0, top - 0.04), 0.005),
        box((broad * 0.9, 0.03, 0.5), wood, (0, y0, 0.2)),
    ]
    for _ in range(dice.whole(4, 18)):
        make = dice.pick((trinket, screen, board, plant, lamp, boxes), (9, 1.5, 1.5, 0.7, 0.5, 0.6))
        at = (dice.between(-0.48, 0.48) * broad, y0 + dice.between(-0.45, 0.45) * deep, top)
        parts += put(
            make(dice), at, dice.between(-0.7, 0.7), dice.between(0.5, 1.2) * (0.6 if make in (boxes, plant) else 1)
        )
    parts += furnish(dice, wide, long, dice.whole(1, 4), 0)
    if dice.chance(0.35):
        parts += put(person(dice, True), (dice.between(-0.5, 0.5), y0 + deep / 2 + 0.3, 0), dice.between(-0.5, 0.5))
    parts += put(chair(dice), (dice.between(-1, 1), y0 - deep, 0), dice.between(0, 6)) if dice.chance(0.4) else []

    def view(dice: Dice) -> View:
        near = dice.between(0.3, 1.5)
        eye = (dice.between(-0.5, 0.5), y0 - deep / 2 - near + 0.2, top + dice.between(0.1, 0.8))
        return look(
            dice,
            eye,
            (dice.between(-0.3, 0.3) * broad, y0 + dice.between(-0.1, 0.5), top + dice.between(-0.2, 0.35)),
            (40, 80),
        )

    return Place(parts=parts, lights=lights, view=view, closest=0.2)


def stacked(dice: Dice) -> Place:
    """Return things one behind the other at all heights, as in a store, an exhibition or a workshop."""
    wide, long, high = dice.between(2.5, 5), dice.between(2.5, 6), dice.between(2.4, 3.2)
    parts, lights = shell(dice, wide, long, high, dice.chance(0.5))
    for _ in range(dice.whole(8, 22)):
        y, z = dice.between(-0.25, 0.45) * long, dice.pick((0.0, dice.between(0.3, 1.7)))
        make = dice.pick((board, boxes, trinket, chair, plant, person, lamp), (6, 3, 4, 1, 1, 0.6, 0.6))
        scale = dice.between(1.5, 4) if make is trinket else dice.between(0.5, 1.3)
        thing = put(make(dice), (dice.between(-0.45, 0.45) * wide, y, z), dice.between(-1, 1), scale)
        if z and make is not person:
            size = np.concatenate([part.vertices for part in thing]).max(axis=0)
            parts.append(
                box(
                    (dice.between(0.15, 0.5), 0.3, z),
                    paint(dice, dice.pick(("print", "wood", "wall"))),
                    (float(size[0]) - 0.15, y, 0),
                )
            )
        parts += thing

    def view(dice: Dice) -> View:
        eye = (dice.between(-0.3, 0.3) * wide, -0.47 * long, dice.between(0.5, 1.7))
        return look(dice, eye, (dice.between(-0.15, 0.15) * wide, 0, eye[2] + dice.between(-0.4, 0.2)), (35, 75))

    return Place(parts=parts, lights=lights, view=view)
