"""Furniture, clutter and plants of rendered training pictures; each a list of parts."""

import math
from collections.abc import Callable

import numpy as np
from scene_people import toy
from scene_shapes import (
    Dice,
    Paint,
    Thing,
    ball,
    box,
    glowing,
    grid,
    lathe,
    limb,
    paint,
    post,
    put,
    ring,
    rotation,
    row,
)

Maker = Callable[[Dice], Thing]


def legs(wide: float, deep: float, high: float, thick: float, color: Paint, round_ones: bool) -> Thing:
    """Return four legs."""
    places = [(x * (wide / 2 - thick), y * (deep / 2 - thick), 0.0) for x in (-1, 1) for y in (-1, 1)]
    return [post(thick / 2, high, color, p) if round_ones else box((thick, thick, high), color, p) for p in places]


def table(dice: Dice) -> Thing:
    """Return a table, sometimes a round one."""
    color, high = paint(dice, "wood"), dice.between(0.4, 0.95)
    wide, deep, thick = dice.between(0.5, 1.8), dice.between(0.4, 0.9), dice.between(0.02, 0.06)
    if dice.chance(0.25):
        return [post(wide / 2, thick, color, (0, 0, high), 24), post(0.05, high, color), post(wide / 4, 0.03, color)]
    top = box((wide, deep, thick), color, (0, 0, high), 0.01)
    return [top, *legs(wide, deep, high, dice.between(0.03, 0.09), color, dice.chance(0.4))]


def chair(dice: Dice) -> Thing:
    """Return a chair or a stool."""
    color, seat, high = paint(dice, "wood"), paint(dice, dice.pick(("wood", "cloth", "gloss"))), dice.between(0.4, 0.5)
    wide = dice.between(0.38, 0.5)
    parts = [box((wide, wide, dice.between(0.02, 0.08)), seat, (0, 0, high), 0.015)]
    parts += legs(wide, wide, high, dice.between(0.02, 0.05), color, dice.chance(0.6))
    if dice.chance(0.15):
        return parts
    rise, bars = dice.between(0.35, 0.6), dice.whole(0, 4)
    for x in (-1, 1):
        parts.append(box((0.035, 0.03, rise + 0.05), color, (x * (wide / 2 - 0.02), wide / 2 - 0.02, high)))
    if not bars:
        return [*parts, box((wide, 0.03, rise * 0.7), seat, (0, wide / 2 - 0.02, high + rise * 0.35), 0.012)]
    tops = np.linspace(rise * 0.3, rise, bars)
    return parts + [box((wide - 0.03, 0.02, 0.06), color, (0, wide / 2 - 0.02, high + z)) for z in tops]


def office_chair(dice: Dice) -> Thing:
    """Return a swivel chair."""
    dark, seat = paint(dice, "gloss"), paint(dice, "cloth")
    feet = row(5, lambda i: put([limb((0, 0, 0.12), (0.3, 0, 0.05), (0.03, 0.02), dark)], (0, 0, 0), i * 1.257))
    parts = [*feet, post(0.03, 0.42, dark), box((0.48, 0.48, 0.09), seat, (0, 0, 0.42), 0.03)]
    parts.append(box((0.44, 0.07, dice.between(0.4, 0.75)), seat, (0, 0.24, 0.55), 0.03))
    return parts + [box((0.06, 0.3, 0.03), dark, (x, 0, 0.66), 0.01) for x in (-0.27, 0.27)]


def sofa(dice: Dice) -> Thing:
    """Return a sofa or an armchair with cushions."""
    color, wide, deep = paint(dice, "cloth"), dice.pick((0.8, 1.5, 2.1)), dice.between(0.75, 0.95)
    arm, back = dice.between(0.5, 0.65), dice.between(0.75, 1.05)
    parts = [box((wide, deep, 0.36), color, (0, 0, 0.08), 0.05)]
    parts += [box((0.2, deep, arm), color, (x * wide / 2, 0, 0.05), 0.06) for x in (-1, 1)]
    parts.append(box((wide + 0.2, 0.22, back), color, (0, deep / 2, 0.05), 0.08))
    for _ in range(dice.whole(0, 3)):
        cushion = [box((0.42, 0.14, 0.42), paint(dice, "cloth"), (0, 0, -0.21), 0.06)]
        parts += put(cushion, (dice.between(-0.4, 0.4) * wide, 0.15, 0.68), rotation(dice.between(-1, 1) * 0.5, -0.3))
    return parts


def bed(dice: Dice) -> Thing:
    """Return a bed with pillows and a blanket that hangs over."""
    wood, sheet, cover = paint(dice, "wood"), paint(dice, "cloth"), paint(dice, "cloth")
    wide, long, high = dice.pick((0.9, 1.4, 1.8)), 2.0, dice.between(0.3, 0.6)
    parts = [box((wide, long, 0.2), wood, (0, 0, 0.1)), box((wide, long, high - 0.25), sheet, (0, 0, 0.28), 0.06)]
    parts.append(box((wide + 0.1, 0.06, dice.between(0.6, 1.2)), wood, (0, long / 2, 0), 0.01))
    parts.append(box((wide + 0.06, long * 0.65, high - 0.1), cover, (0, -0.33, 0.18), 0.07))
    for x in (-1, 1) if wide > 1 else (0,):
        pillow = [box((0.65, 0.4, 0.14), sheet, (0, 0, 0), 0.06)]
        parts += put(pillow, (x * wide / 4, 0.72, high + 0.02), rotation(0, dice.between(0, 0.5)))
    return parts


def cupboard(dice: Dice) -> Thing:
    """Return a chest, a wardrobe or a fridge: doors or drawers with handles."""
    wide, deep, high = dice.between(0.5, 1.8), dice.between(0.35, 0.65), dice.pick((0.5, 0.75, 0.9, 1.3, 1.9, 2.2))
    color = paint(dice, dice.pick(("wood", "wood", "gloss", "wall", "metal")))
    front, handle = (paint(dice, "wood") if dice.chance(0.3) else color), paint(dice, "metal")
    parts = [box((wide, deep, high), color, (0, 0, 0), 0.01)]
    columns, rows = max(1, round(wide / dice.between(0.4, 0.7))), dice.pick((1, 1, 2, 3, 4))
    for i in range(columns):
        for j in range(rows):
            w, h = wide / columns, (high - 0.08) / rows
            x, z = (i + 0.5) * w - wide / 2, 0.06 + j * h
            parts.append(box((w - 0.015, 0.02, h - 0.015), front, (x, -deep / 2 - 0.008, z), 0.004))
            parts.append(box((0.1, 0.025, 0.015), handle, (x, -deep / 2 - 0.03, z + h * 0.7)))
    return parts


def kitchen(dice: Dice) -> Thing:
    """Return a kitchen's row: cupboards under a worktop with a sink and a cooker, cupboards above, things on top."""
    wide, color, handle = dice.between(1.2, 3), paint(dice, dice.pick(("wood", "gloss", "wall"))), paint(dice, "metal")
    top, dark = paint(dice, dice.pick(("stone", "wood"))), Paint(colours=((0.02,) * 3,), rough=0.15)
    parts = [box((wide, 0.6, 0.86), color), box((wide + 0.03, 0.64, 0.04), top, (0, -0.01, 0.86), 0.005)]
    count = max(2, round(wide / 0.6))
    ends, above = np.linspace(-wide / 2, wide / 2, count + 1), dice.chance(0.75)
    for x, broad in zip((ends[1:] + ends[:-1]) / 2, np.diff(ends), strict=True):
        front = dark if dice.chance(0.2) else color
        parts += [box((broad - 0.015, 0.02, 0.7), front, (x, -0.31, 0.12), 0.004)]
        parts += [box((0.12, 0.025, 0.015), handle, (x, -0.33, 0.75))]
        if above and dice.chance(0.85):
            parts.append(box((broad - 0.01, 0.35, dice.pick((0.6, 0.7))), color, (x, 0.12, 1.45), 0.004))
            parts.append(box((0.1, 0.025, 0.015), handle, (x, -0.07, 1.5)))
        if dice.chance(0.8):
            parts += put(trinket(dice), (x + dice.between(-0.2, 0.2), dice.between(-0.15, 0.2), 0.9), 0)
    at = dice.between(-0.3, 0.3) * wide
    parts += [
        box((0.5, 0.4, 0.006), handle, (at, 0, 0.9)),
        limb((at, 0.22, 0.9), (at, 0.22, 1.15), (0.015, 0.012), handle),
    ]
    parts += [
        limb((at, 0.22, 1.15), (at, 0.05, 1.12), (0.012, 0.01), handle),
        box((0.55, 0.5, 0.008), dark, (-at, 0, 0.9)),
    ]
    return parts


def shelf(dice: Dice) -> Thing:
    """Return a bookcase full of books and clutter."""
    wood, wide, deep, high = (
        paint(dice, "wood"),
        dice.between(0.5, 1.6),
        dice.between(0.22, 0.4),
        dice.between(0.7, 2.2),
    )
    parts = [box((0.025, deep, high), wood, (x * wide / 2, 0, 0)) for x in (-1, 1)]
    if dice.chance(0.7):
        parts.append(box((wide, 0.015, high), wood, (0, deep / 2, 0)))
    levels = dice.whole(2, 5)
    for level in range(levels + 1):
        z = 0.03 + level * (high - 0.06) / levels
        parts.append(box((wide, deep, 0.025), wood, (0, 0, z)))
        if level < levels and dice.chance(0.85):
            parts += put(shelf_load(dice, wide - 0.08, deep, (high - 0.06) / levels - 0.05), (0, 0, z + 0.025))
    return parts


def shelf_load(dice: Dice, wide: float, deep: float, high: float) -> Thing:
    """Return books in a row, or things, on a board."""
    if dice.chance(0.35):
        places = np.arange(-wide / 2 + 0.1, wide / 2 - 0.05, dice.between(0.2, 0.35))
        return [part for x in places for part in put(trinket(dice), (x, 0, 0), 0, min(1, high / 0.3))]
    parts, x = [], -wide / 2
    while x < wide / 2 - 0.06 and len(parts) < 24:
        thick, tall = dice.between(0.02, 0.08), high * dice.between(0.55, 0.95)
        book = [box((thick, deep * dice.between(0.5, 0.85), tall), paint(dice, dice.pick(("gloss", "print"))))]
        parts += put(book, (x + thick / 2, -0.02, 0), rotation(0, 0, dice.pick((0.0, 0.0, 0.0, 0.15))))
        x += thick + dice.pick((0.004, 0.004, 0.03, 0.15))
    return parts


def bottle(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a bottle."""
    r, h = 0.04 * size, 0.16 * size
    return [lathe([(1e-4, 0), (r, 0), (r, h), (r / 3, h * 1.35), (r / 3, h * 1.7), (1e-4, h * 1.7)], color)]


def cup(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a cup with a handle."""
    r, h = 0.035 * size, 0.1 * size
    body = lathe([(1e-4, 0), (r, 0), (1.2 * r, h), (0.036 * size, h), (0.03, 0.02)], color)
    return [body, *put([ring(0.8 * r, 0.006, color, steps=12)], (0.05 * size, 0, 0.05 * size), math.pi / 2)]


def bowl(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a bowl."""
    r = 0.1 * size
    profile = [(1e-4, 0), (r * 0.4, 0), (r * 0.85, r * 0.4), (r, r * 0.8), (r * 0.8, r * 0.4), (0.01, 0.02)]
    return [lathe(profile, color)]


def packet(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a packet of any shape."""
    thing = [box([dice.between(0.06, 0.3) for _ in range(3)], color, bevel=0.006)]
    return put(thing, (0, 0, 0), dice.between(0, 6))


def globe(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a ball or a fruit."""
    r = 0.06 * size
    return [ball((r, r, r), color, (0, 0, r))]


def books(dice: Dice, color: Paint, size: float) -> Thing:
    """Return books that lie on each other."""
    pile = [box((0.15, 0.22, 0.03), paint(dice, "print"), (0, 0, i * 0.031)) for i in range(dice.whole(1, 5))]
    return [part for book in pile for part in put([book], (0, 0, 0), dice.between(-0.4, 0.4) + 1.5)]


def can(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a tin with a lid."""
    lid = post(0.037 * size, 0.01, paint(dice, "metal"), (0, 0, 0.12 * size))
    return [post(0.035 * size, 0.12 * size, color), lid]


def frame(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a photograph's frame that stands."""
    inside = box((0.17 * size, 0.03, 0.22 * size), paint(dice, "print"), (0, 0, 0.02))
    thing = [box((0.2 * size, 0.02, 0.26 * size), color), inside]
    return put(thing, (0, 0, 0), rotation(dice.between(-0.8, 0.8), -0.2))


def trinket(dice: Dice) -> Thing:
    """Return something that a hand can lift."""
    color = paint(dice, dice.pick(("gloss", "print", "cloth", "wood", "metal")))
    make = (bottle, cup, bowl, packet, globe, books, toy, can, frame)[dice.whole(0, 8)]
    return make(dice, color, dice.between(0.6, 1.6))


def screen(dice: Dice) -> Thing:
    """Return a monitor, a television or an open laptop."""
    dark, wide = paint(dice, "gloss"), dice.between(0.3, 1.2)
    face = (
        glowing(paint(dice, "print").colours[0], dice.between(0.2, 1.5)) if dice.chance(0.3) else paint(dice, "gloss")
    )
    high, rise = wide * 0.6, dice.between(0.02, 0.2)
    panel = [
        box((wide, 0.03, high), dark, (0, 0, 0), 0.004),
        box((wide * 0.95, 0.005, high * 0.9), face, (0, -0.018, high * 0.05)),
    ]
    foot = [box((0.05, 0.04, rise + 0.1), dark, (0, 0.03, 0)), box((wide * 0.4, 0.2, 0.015), dark)]
    if wide < 0.45:
        base = [
            box((wide, high, 0.02), dark, (0, -high / 2, 0)),
            box((wide * 0.9, high * 0.5, 0.004), paint(dice, "print"), (0, -high / 2, 0.02)),
        ]
        return base + put(panel, (0, 0, 0.015), rotation(0, -dice.between(0, 0.6)))
    return foot + put(panel, (0, 0, rise))


def lamp(dice: Dice) -> Thing:
    """Return a floor lamp or a table lamp, lit or not."""
    high, brass = dice.pick((0.35, 0.5, 1.5, 1.7)), paint(dice, "metal")
    shade = glowing((1.0, 0.75, 0.45), dice.between(2, 10)) if dice.chance(0.5) else paint(dice, "cloth")
    r = dice.between(0.09, 0.2)
    parts = [post(r * 0.9, 0.02, brass), post(0.012, high, brass)]
    return [*parts, lathe([(r, high - 0.12), (r * 0.6, high + 0.14)], shade)]


def plant(dice: Dice) -> Thing:
    """Return a potted plant: broad leaves on stalks, or a bush of blobs."""
    pot, leaf, r = paint(dice, dice.pick(("gloss", "stone", "wood"))), paint(dice, "leaf"), dice.between(0.06, 0.2)
    parts = [lathe([(1e-4, 0), (r * 0.7, 0), (r, r * 1.7), (r * 0.9, r * 1.7), (1e-4, r * 1.5)], pot)]
    return parts + put(leaves(dice, leaf, r * dice.between(3, 7), dice.whole(10, 40)), (0, 0, r * 1.5))


def leaves(dice: Dice, color: Paint, reach: float, count: int) -> Thing:
    """Return leaves that bend away from one root."""
    parts, along = [], np.linspace(0, 1, 5)
    for _ in range(count):
        angle, lean, long = dice.between(0, 6.28), dice.between(0.1, 1.3), reach * dice.between(0.5, 1)
        out, up = long * math.sin(lean) * along, long * (math.cos(lean) * along - 0.35 * math.sin(lean) * along**2)
        broad = long * dice.between(0.05, 0.18) * np.sin(np.pi * along**0.7) + 0.002
        sheet = np.stack([np.stack([out, side * broad, up], -1) for side in (-1, 1)])
        parts += put([grid(sheet, color)], (0, 0, 0), angle)
    return parts


def curtain(dice: Dice, wide: float, high: float) -> Thing:
    """Return cloth that hangs in folds, in the plane of x and z."""
    x = np.linspace(-wide / 2, wide / 2, 50)
    wave = dice.between(0.02, 0.06) * np.sin(x * dice.between(25, 70) + dice.between(0, 6))
    return [
        grid(
            np.stack([np.stack([x, wave * s, np.full(50, z)], -1) for z, s in ((0, 1.2), (high, 0.7))]),
            paint(dice, "cloth"),
        )
    ]


def board(dice: Dice) -> Thing:
    """Return a flat thing that leans: a poster, a board, a box's lid."""
    panel = box((dice.between(0.2, 1.0), 0.012, dice.between(0.25, 1.0)), paint(dice, "print"))
    return put([panel], (0, 0, 0), rotation(dice.between(-0.9, 0.9), -dice.between(0, 0.7)))


def boxes(dice: Dice) -> Thing:
    """Return a pile of cartons."""
    parts, z = [], 0.0
    for _ in range(dice.whole(1, 3)):
        size = [dice.between(0.2, 0.6) for _ in range(3)]
        carton = [box(size, paint(dice, dice.pick(("wood", "print", "gloss"))), (0, 0, z))]
        parts += put(carton, (dice.between(-0.05, 0.05), 0, 0), dice.between(-0.4, 0.4))
        z += size[2]
    return parts


def bicycle(dice: Dice) -> Thing:
    """Return a bicycle along y."""
    tyre, frame, metal = paint(dice, "gloss"), paint(dice, "gloss"), paint(dice, "metal")
    parts = [ring(0.33, 0.02, tyre, (0, y, 0.35)) for y in (-0.52, 0.52)]
    for y in (-0.52, 0.52):
        spokes = [(y + 0.32 * math.cos(a), 0.35 + 0.32 * math.sin(a)) for a in np.linspace(0, np.pi, 7)[:-1]]
        parts += [limb((0, 2 * y - b, 0.7 - c), (0, b, c), (0.003, 0.003), metal, 4) for b, c in spokes]
    joints = {
        "rear": (0.52, 0.35),
        "crank": (0.05, 0.3),
        "seat": (0.2, 0.85),
        "head": (-0.36, 0.8),
        "front": (-0.52, 0.35),
    }
    bars = [
        ("rear", "crank"),
        ("rear", "seat"),
        ("crank", "seat"),
        ("seat", "head"),
        ("crank", "head"),
        ("head", "front"),
    ]
    parts += [limb((0, *joints[a]), (0, *joints[b]), (0.018, 0.018), frame, 6) for a, b in bars]
    parts += [
        box((0.14, 0.26, 0.06), tyre, (0, 0.22, 0.88), 0.02),
        limb((-0.28, -0.38, 1.0), (0.28, -0.38, 1.0), (0.014, 0.014), metal),
    ]
    return [*parts, limb((0, -0.36, 0.8), (0, -0.38, 1.0), (0.015, 0.015), metal)]


def stairs(dice: Dice, wide: float, count: int) -> Thing:
    """Return steps that rise towards +y, with a handrail now and then."""
    rise, tread = dice.between(0.15, 0.2), dice.between(0.24, 0.32)
    color, rail = paint(dice, dice.pick(("wood", "stone", "floor"))), paint(dice, dice.pick(("metal", "wood")))
    parts = [box((wide, tread + 0.02, (i + 1) * rise), color, (0, i * tread, 0)) for i in range(count)]
    if dice.chance(0.6):
        x, end = wide / 2 - 0.05, ((count - 1) * tread, count * rise)
        parts.append(limb((x, 0, 0.9 + rise), (x, end[0], 0.9 + end[1]), (0.025, 0.025), rail))
        parts += [box((0.025, 0.025, 0.9), rail, (x, i * tread, (i + 1) * rise)) for i in range(count)]
    return parts


FURNITURE: tuple[Maker, ...] = (
    table,
    chair,
    chair,
    office_chair,
    sofa,
    bed,
    cupboard,
    shelf,
    lamp,
    plant,
    boxes,
    bicycle,
)
WALL_FURNITURE: tuple[Maker, ...] = (sofa, bed, cupboard, cupboard, shelf, shelf, table, kitchen)
