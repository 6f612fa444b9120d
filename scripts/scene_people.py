"""People, their hands, and animals of rendered training pictures; each a list of parts."""

import math

import numpy as np
from scene_shapes import Dice, Paint, Thing, ball, box, lathe, limb, paint, post, put, rotation


def toy(dice: Dice, color: Paint, size: float) -> Thing:
    """Return a soft animal: body, head, ears, four legs."""
    r = 0.08 * size
    parts = [
        ball((r, r * 1.3, r), color, (0, 0, r * 1.5)),
        ball((r * 0.7, r * 0.75, r * 0.7), color, (0, -r * 1.4, r * 2.5)),
    ]
    for x in (-1, 1):
        parts.append(ball((r * 0.2, r * 0.15, r * dice.between(0.3, 0.8)), color, (x * r * 0.5, -r * 1.3, r * 3.3)))
        for y in (-0.8, 0.8):
            parts.append(limb((x * r * 0.5, y * r, r * 1.2), (x * r * 0.7, y * r, 0.1 * r), (r * 0.3, r * 0.25), color))
    return parts


def animal(dice: Dice) -> Thing:
    """Return a dog or a cat."""
    return toy(dice, paint(dice, dice.pick(("wood", "cloth"))), dice.between(1.5, 3))


def hand(dice: Dice, skin: Paint) -> Thing:
    """Return a right hand, palm down, fingers towards -y, the wrist at the origin."""
    curl = dice.between(0, 1.0)
    parts = [box((0.085, 0.1, 0.028), skin, (0, -0.05, -0.014), 0.012)]
    for i, long in enumerate((0.068, 0.078, 0.072, 0.055)):
        x = -0.032 + i * 0.021
        knee = (x * 1.15, -0.1 - long * 0.6 * math.cos(curl), -long * 0.6 * math.sin(curl))
        tip = (x * 1.2, knee[1] - long * 0.5 * math.cos(2 * curl), knee[2] - long * 0.5 * math.sin(2 * curl))
        parts += [limb((x, -0.095, 0), knee, (0.0105, 0.009), skin, 8), limb(knee, tip, (0.009, 0.007), skin, 8)]
    return [*parts, limb((-0.035, -0.03, 0), (-0.075, -0.08, -0.02), (0.013, 0.009), skin, 8)]


def arm(dice: Dice, shoulder: np.ndarray, palm: np.ndarray, sleeve: Paint, skin: Paint) -> Thing:
    """Return an arm from shoulder to palm: elbow, forearm, hand."""
    way = palm - shoulder
    far = float(np.linalg.norm(way))
    palm = shoulder + way * min(1.0, 0.53 / far)
    bend = math.sqrt(max(0.075 - (min(far, 0.53) / 2) ** 2, 1e-4))
    elbow = (shoulder + palm) / 2 + np.array([0.3 * np.sign(shoulder[0]), 0.3, -0.9]) * bend
    forward = (palm - elbow) / np.linalg.norm(palm - elbow)
    yaw, pitch = math.atan2(forward[0], -forward[1]), -math.asin(float(np.clip(forward[2], -1, 1)))
    bare = skin if dice.chance(0.4) else sleeve
    upper = limb(shoulder, elbow, (0.055, 0.045), sleeve)
    fingers = put(hand(dice, skin), palm, rotation(yaw, pitch, dice.between(-1.5, 1.5)))
    return [upper, limb(elbow, palm, (0.045, 0.03), bare), *fingers]


def head(dice: Dice, skin: Paint, hair: Paint) -> Thing:
    """Return a head on its neck: nose, ears, eyes, hair or a hat."""
    dark = Paint(colours=((0.02, 0.02, 0.02),))
    parts = [
        limb((0, 0, -0.03), (0, 0, 0.1), (0.055, 0.05), skin),
        ball((0.078, 0.098, 0.118), skin, (0, -0.01, 0.17), 16),
    ]
    parts += [
        ball((0.014, 0.02, 0.03), skin, (0, -0.108, 0.165)),
        ball((0.026, 0.006, 0.008), dark, (0, -0.095, 0.108)),
    ]
    for x in (-1, 1):
        parts += [
            ball((0.012, 0.02, 0.03), skin, (x * 0.08, 0.005, 0.17)),
            ball((0.014, 0.006, 0.008), dark, (x * 0.032, -0.096, 0.19)),
        ]
    if dice.chance(0.9):
        long = dice.pick((0.0, 0.0, 0.06))
        parts.append(ball((0.088, 0.098, 0.11 + long), hair, (0, 0.018, 0.2 - long), 16))
    if dice.chance(0.15):
        parts += [post(0.13, 0.012, hair, (0, 0, 0.235), 18), post(0.09, 0.09, hair, (0, 0, 0.235), 18)]
    return parts


def person(dice: Dice, sitting: bool | None = None) -> Thing:
    """Return a person who faces -y: stands, walks or sits, arms anywhere, with a head that looks somewhere."""
    top, trousers, skin, hair = paint(dice, "cloth"), paint(dice, "cloth"), paint(dice, "skin"), paint(dice, "wood")
    sits = dice.chance(0.25) if sitting is None else sitting
    broad, hip = dice.between(0.9, 1.35), 0.5 if sits else 0.93
    parts: Thing = []
    for x in (-1, 1):
        start = np.array([x * 0.1, 0, hip])
        swing = -1.35 if sits else dice.between(-0.5, 0.5) * dice.pick((0.2, 1))
        knee = start + 0.44 * np.array([x * 0.06, math.sin(swing), -math.cos(swing)])
        lower = 0.0 if sits else swing + dice.between(0, 0.5)
        foot = knee + 0.44 * np.array([0, math.sin(lower), -math.cos(lower)])
        parts += [limb(start, knee, (0.085 * broad, 0.06), trousers), limb(knee, foot, (0.06, 0.045), trousers)]
        parts.append(box((0.09, 0.26, 0.08), paint(dice, "gloss"), (foot[0], foot[1] - 0.06, foot[2] - 0.06), 0.03))
        shoulder = np.array([x * 0.19 * broad, 0, hip + 0.49])
        hanging = (x * dice.between(0.2, 0.35), dice.between(-0.25, 0.1), hip + dice.between(-0.1, 0.1))
        reaching = (x * dice.between(-0.1, 0.5), dice.between(-0.6, -0.2), hip + dice.between(0.1, 0.9))
        parts += arm(dice, shoulder, np.array(hanging if dice.chance(0.55) else reaching), top, skin)
    profile = [(0.02, -0.08), (0.15, -0.04), (0.145, 0.12), (0.16, 0.3), (0.19, 0.45), (0.15, 0.53), (0.05, 0.56)]
    parts.append(lathe([(r * broad, hip + z) for r, z in profile], top, oval=0.62))
    return parts + put(
        head(dice, skin, hair), (0, 0, hip + 0.55), rotation(dice.between(-0.9, 0.9), dice.between(-0.3, 0.3))
    )
