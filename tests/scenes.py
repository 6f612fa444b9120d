"""Made depth: a room with a known true inverse depth, and figures in it, as the network might show them."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from edge.records import DepthMap, Frame

HEIGHT, WIDTH = 96, 128
PIXELS = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def room() -> np.ndarray:
    """Return the true inverse depth of a room in 1/m, float64 (96, 128): a floor from 1.2 m, a wall at 5 m, a table."""
    rows = np.linspace(0, 1, HEIGHT)[:, None].repeat(WIDTH, 1)
    columns = np.linspace(0, 1, WIDTH)[None].repeat(HEIGHT, 0)
    depth = np.maximum(1 / 5, (rows - 0.35) / 0.65 / 1.2)
    depth[50:70, 10:40] = 1 / 2.5
    return depth + 0.02 * np.sin(6 * columns)


def with_figure(depth: np.ndarray, x: float, metres: float, width: float = 0.14) -> np.ndarray:
    """Return the room with a figure at `x`, a fraction of the width, so many metres away."""
    result = depth.copy()
    left, right = round((x - width / 2) * WIDTH), round((x + width / 2) * WIDTH)
    top = round(HEIGHT * max(0.05, 0.5 - 0.6 / metres))
    part = result[top : round(HEIGHT * 0.95), max(0, left) : max(0, right)]
    np.maximum(part, 1 / metres, out=part)
    return result


@dataclass
class Camera:
    """Turns true inverse depth into depth maps with a scale, a shift and noise of their own in every frame."""

    seed: int = 0
    noise: float = 0.004
    disturb: bool = True
    fps: float = 5.0
    time: float = 0.0
    sequence: int = 0

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)

    def shoot(self, depth, line=None, pixels=None, picture=None) -> DepthMap:
        """Return the next frame's depth map; `line` is its scale and shift, else random ones.

        `pixels` is the camera's picture, `picture`, float (h, w, 3), what the network saw of it; without, depth alone.
        """
        self.time += 1 / self.fps
        self.sequence += 1
        if line is None:
            line = (
                (float(self.random.uniform(50, 900)), float(self.random.uniform(0, 400))) if self.disturb else (500, 9)
            )
        noisy = depth + self.random.normal(0, self.noise, depth.shape)
        frame = Frame(
            sequence=self.sequence,
            captured_at=self.time,
            wall_time=datetime.now(UTC),
            pixels=PIXELS[: depth.shape[0], : depth.shape[1]] if pixels is None else pixels,
        )
        values = (line[0] * noisy + line[1]).astype(np.float32)
        seen = None if picture is None else np.clip(picture, 0, 255).astype(np.float32)
        return DepthMap(frame=frame, inverse_depth=values, inference_seconds=0.05, weights="made", picture=seen)
