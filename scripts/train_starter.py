#!/usr/bin/env python3
"""Train the starter weights on the scenes of scripts/render_scenes.py.

usage: scripts/train_starter.py train --minutes N --people DIR [--scenes DIR] [--run DIR] [--start FILE] [--threads N]
       scripts/train_starter.py export FILE [--run DIR]       the best weights so far, as float16 safetensors

`train` starts from the weights that the project ships (or --start) and writes a checkpoint into --run every few
minutes; called again it goes on from there, its schedule stretched over the minutes of all calls together (`--minutes`
is the whole run's budget, in the CPU time of one thread, so that a pause costs nothing). New scenes are picked up as
they are rendered, so both may run at once. Every 25th scene is held out, and the averaged weights (EMA) that score best
on those are exported.

A longer run goes on from the same checkpoint with more `--minutes`; delete --run to begin anew. The rate is even until
the last quarter, where it falls to nothing, so that a run may be stretched. The first part of a run sees small pictures
(SMALL_SHARE); the encoder's first level is free in the last part (FREE_SHARE).

`--people` is a folder of cut-outs of people (scripts/scene_cutouts.py), which are pasted into two of three pictures.
In each batch two scenes stand twice, with and without them: what is behind must not move when somebody comes in.

The loss is that of Ranftl et al., arXiv 1907.01341, section 5: absolute error of inverse depth after each side is freed
of its shift and scale (untrimmed: rendered depth has no errors), and multi-scale gradient matching; with it goes the
relative error after a least-squares fit, since that is what the scores of `edge.evaluation` count. Two more are for
what the scene module needs: after a fit on the background, how far pasted people are off, and how far it moved.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import scene_cutouts
import torch
from render_scenes import FOLDER as SCENES
from render_scenes import NEAREST
from safetensors.numpy import save_file
from scene_cutouts import Cutout, Scene
from scene_views import View
from torch import Tensor

from edge.depth import weights
from edge.depth.midas import MidasSmall, build
from edge.evaluation import score
from edge.records import Architecture

RUN = SCENES.parent / "training"
SIZES = ((256, 192), (256, 192), (256, 192), (256, 160), (256, 128), (320, 192), (192, 256))
SMALL_SIZES = ((192, 160), (192, 128), (160, 160), (224, 160), (192, 96), (128, 192))
SMALL_SHARE = 0.35  # of the run: its first part sees small pictures, at half the price a step
FREE_SHARE = 0.8  # of the run: until then the encoder's first level stays as it was
DECAY_SHARE = 0.25  # of the run: its last part, in which the rate falls
BATCH, PAIRS = 8, 2  # pictures of a batch, and how many of them stand in it twice: with somebody, and without
FIGURE_WEIGHT, STEADY_WEIGHT = 0.8, 0.6
UNIT = 1 / (65535 * NEAREST)  # of the files' depth, 1/m
HELD_OUT = 25  # one scene in so many is held out
RATES = (2e-4, 8e-4)  # of the encoder, which knows photographs and should not forget them, and of the decoder
WARM_UP_STEPS = 100
SEED = 5
MEAN, STD = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
People = list[list[Cutout]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step sees: `pictures` float32 (n, 3, h, w), normalised; `truths` float32 (n, h, w), 1/m, 0 = sky.

    `figures`, bool (n, h, w), is what was pasted in. Of the first 2 * PAIRS pictures each second one is the one before
    it without that.
    """

    pictures: Tensor
    truths: Tensor
    figures: Tensor


class Scenes:
    """The scenes of a folder, kept in memory once read; `look` finds new ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.training: list[int] = []
        self.held_out: list[int] = []
        self._known: dict[int, tuple[np.ndarray, np.ndarray, View]] = {}
        self.look()

    def look(self) -> None:
        """Read the folder's listing again."""
        numbers = sorted(int(path.stem) for path in self.folder.glob("[0-9]*.png") if path.stem.isdigit())
        self.training = [number for number in numbers if number % HELD_OUT]
        self.held_out = [number for number in numbers if not number % HELD_OUT]
        if not self.training or not self.held_out:
            sys.exit(f"{self.folder}: holds {len(numbers)} scenes, too few; run scripts/render_scenes.py first")

    def __getitem__(self, number: int) -> Scene:
        if number not in self._known:
            picture = cv2.imread(str(self.folder / f"{number:06d}.png"))
            inverse = cv2.imread(str(self.folder / f"{number:06d}.depth.png"), cv2.IMREAD_UNCHANGED)
            camera = json.loads((self.folder / f"{number:06d}.json").read_text())
            view = View(**camera | {"eye": tuple(camera["eye"])})
            self._known[number] = picture[..., ::-1].copy(), inverse, view
        picture, inverse, view = self._known[number]
        nobody = np.zeros(inverse.shape, bool)
        return Scene(picture=picture, inverse=inverse * np.float32(UNIT), view=view, figure=nobody)


def batch(scenes: Scenes, people: People, rng: np.random.Generator, progress: float = 1.0) -> Batch:
    """Return the pictures of one step, at that share of the schedule."""
    sizes = SMALL_SIZES if progress < SMALL_SHARE else SIZES
    size = sizes[rng.integers(len(sizes))]
    numbers = rng.choice(scenes.training, BATCH - PAIRS)
    found = [part for number in numbers[:PAIRS] for part in pair(scenes[number], people, size, rng)]
    for number in numbers[PAIRS:]:
        scene = scenes[number]
        if people and rng.random() < 0.65:
            scene = visited(scene, people, rng)
        scene = cropped(scene, size, *cut(scene.inverse.shape, size, rng))
        if rng.random() < 0.1:
            other = scenes[int(rng.choice(scenes.training))]
            scene = in_one(scene, cropped(other, size, *cut(other.inverse.shape, size, rng)), rng)
        found.append(scene)
    return Batch(
        pictures=torch.stack([normalised(coloured(each.picture, rng)) for each in found]).contiguous(
            memory_format=torch.channels_last
        ),
        truths=torch.stack([torch.from_numpy(each.inverse) for each in found]),
        figures=torch.stack([torch.from_numpy(each.figure) for each in found]),
    )


def pair(scene: Scene, people: People, size: tuple[int, int], rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Return the same part of a scene with somebody in it and without."""
    part = cut(scene.inverse.shape, size, rng)
    return cropped(visited(scene, people, rng) if people else scene, size, *part), cropped(scene, size, *part)


def visited(scene: Scene, people: People, rng: np.random.Generator) -> Scene:
    """Return a scene with one to four people more in it."""
    for _ in range(1 + int(rng.choice(4, p=(0.5, 0.25, 0.15, 0.1)))):
        scene = scene_cutouts.paste(scene, people, rng)
    return scene


def normalised(picture: np.ndarray) -> Tensor:
    """Return the network's input for a picture, uint8 (h, w, 3) RGB: float32 (3, h, w)."""
    return torch.from_numpy(((picture.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1).copy())


def cut(shape: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> tuple[tuple[slice, slice], bool]:
    """Return a random part of a picture, about as wide for its height as `size`, and whether to mirror it."""
    height, width = shape
    share, stretch = rng.uniform(0.6, 1), math.exp(rng.uniform(-0.15, 0.15))
    fit = share * min(width / (size[0] * stretch), height / size[1])
    w, h = min(width, round(size[0] * stretch * fit)), min(height, round(size[1] * fit))
    x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
    return (slice(y, y + h), slice(x, x + w)), bool(rng.random() < 0.5)


def cropped(scene: Scene, size: tuple[int, int], part: tuple[slice, slice], mirror: bool) -> Scene:
    """Return a part of a scene at that size; depth is not interpolated: no distance lies on an edge."""
    picture = cv2.resize(scene.picture[part], size, interpolation=cv2.INTER_LINEAR)
    inverse = cv2.resize(scene.inverse[part], size, interpolation=cv2.INTER_NEAREST)
    figure = cv2.resize(scene.figure[part].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    step = -1 if mirror else 1
    return replace(
        scene,
        picture=np.ascontiguousarray(picture[:, ::step]),
        inverse=np.ascontiguousarray(inverse[:, ::step]),
        figure=np.ascontiguousarray(figure[:, ::step]),
    )


def in_one(scene: Scene, other: Scene, rng: np.random.Generator) -> Scene:
    """Return two scenes in one, the nearer surface hiding the other: the second is made larger or smaller first."""
    share = math.exp(rng.uniform(-1, 0.3)) * (scene.inverse.mean() + 0.15) / (other.inverse.mean() + 0.15)
    inverse = other.inverse * np.float32(share)
    front = inverse > scene.inverse
    return replace(
        scene,
        picture=np.where(front[..., None], other.picture, scene.picture),
        inverse=np.where(front, inverse, scene.inverse),
        figure=scene.figure & ~front,
    )


def coloured(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what another camera might have made of a picture: blurred or sharpened, toned, noisy, compressed."""
    light = softened(picture, rng).astype(np.float32) / 255
    gain = rng.normal(1, 0.12, 3) * math.exp(rng.normal(-0.1, 0.4))
    light = np.clip(light * gain, 0, 1) ** math.exp(rng.normal(0, 0.25))
    if rng.random() < 0.3:  # brighter on one side, or darker in the corners
        y, x = np.mgrid[-1 : 1 : light.shape[0] * 1j, -1 : 1 : light.shape[1] * 1j][..., None]
        light = light * np.exp(
            rng.normal(0, 0.25) * x + rng.normal(0, 0.25) * y - rng.uniform(0, 0.4) * (x * x + y * y)
        )
    grey = light.mean(axis=-1, keepdims=True)
    light = grey + (light - grey) * (0.0 if rng.random() < 0.2 else rng.uniform(0.3, 1.3))
    light = light.mean() + (light - light.mean()) * rng.uniform(0.6, 1.4)
    if rng.random() < 0.3:
        light = light + rng.normal(0, rng.uniform(0.005, 0.04), light.shape)
    picture = np.clip(255 * light, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 92))])
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return picture


def softened(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a picture out of focus, shaken, coarse, denoised or sharpened, or as it is."""
    kind, (height, width) = rng.random(), picture.shape[:2]
    if kind < 0.1:
        return cv2.bilateralFilter(picture, 5, float(rng.uniform(30, 120)), 3)
    if kind < 0.25:
        return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.6)))
    if kind < 0.32:
        shake = np.zeros((7, 7), np.float32)
        cv2.line(shake, (3, 3), tuple(rng.integers(0, 7, 2).tolist()), 1.0)
        return cv2.filter2D(picture, -1, shake / shake.sum())
    if kind < 0.42:
        share = rng.uniform(0.35, 0.8)
        coarse = cv2.resize(picture, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    if kind < 0.62:
        return cv2.addWeighted(
            picture, 1 + (more := float(rng.uniform(0.3, 1.5))), cv2.GaussianBlur(picture, (0, 0), 1.0), -more, 0
        )
    return picture


def free_of_shift_and_scale(depth: Tensor) -> Tensor:
    """Return (n, h, w) with median 0 and mean absolute value 1 a picture: the same for d and a*d + b, a > 0."""
    flat = depth.flatten(1)
    flat = flat - flat.median(dim=1, keepdim=True).values
    return (flat / flat.abs().mean(dim=1, keepdim=True).clamp_min(1e-6)).view_as(depth)


def loss_of(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of inverse depth (n, h, w) against the truth; invariant under a*predicted + b, a > 0."""
    difference = free_of_shift_and_scale(predicted) - free_of_shift_and_scale(truth)
    return difference.abs().mean() + 0.8 * gradients(difference) + relative_error(predicted, truth)


def figure_error(predicted: Tensor, truth: Tensor, figures: Tensor) -> Tensor:
    """Return how far pasted figures are off after a fit on their background, in its spread; each at most 3.

    The scene module does the same: it aligns a frame to its background and reads what stands before it.
    """
    total, count = predicted.new_zeros(()), 0
    for depth, true, figure in zip(predicted, truth, figures, strict=True):
        behind = ~figure & (true > 0)
        if figure.sum() < 30 or behind.sum() < 500:
            continue
        scale, shift = line(depth[behind], true[behind])
        spread = (true[behind] - true[behind].mean()).abs().mean() + 0.015
        error = (scale * depth + shift - true).abs() / (spread + 0.3 * true)
        total, count = total + error[figure].clamp_max(3.0).mean(), count + 1
    return total / max(count, 1)


def unsteadiness(predicted: Tensor, figures: Tensor, truth: Tensor, pairs: int = PAIRS) -> Tensor:
    """Return how far the background moves when somebody comes in, in its spread; over the pairs that come first."""
    total, count = predicted.new_zeros(()), 0
    for i in range(0, 2 * min(pairs, len(predicted) // 2), 2):
        behind = ~figures[i] & (truth[i] > 0)
        if figures[i].sum() < 30 or behind.sum() < 500:
            continue
        with_somebody, without = predicted[i][behind], predicted[i + 1][behind]
        scale, shift = line(with_somebody, without)
        spread = (without - without.mean()).abs().mean().detach() + 1e-6
        total, count = (
            total + ((scale * with_somebody + shift - without).abs() / spread).clamp_max(2.0).mean(),
            count + 1,
        )
    return total / max(count, 1)


def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale, not negative, and shift of the least-squares line from x to y, both (n,)."""
    middle = x.mean()
    scale = ((x - middle) * (y - y.mean())).mean() / ((x - middle).square().mean() + 1e-6)
    scale = scale.clamp_min(1e-3)
    return scale, y.mean() - scale * middle


def gradients(difference: Tensor, scales: int = 4) -> Tensor:
    """Return how much the difference varies from pixel to pixel, summed over four resolutions."""
    total = difference.new_zeros(())
    for scale in range(scales):
        small = difference[:, :: 2**scale, :: 2**scale]
        total = total + small.diff(dim=1).abs().mean() + small.diff(dim=2).abs().mean()
    return total


def relative_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean error after a least-squares fit, relative to the true inverse depth and at most 1 a pixel.

    The sky (truth 0) does not count. A negative slope would let the fit turn near and far round and call it right: it
    counts as none.
    """
    d, t = predicted.flatten(1), truth.flatten(1)
    known = (t > 0).to(t.dtype)
    share = known / known.sum(dim=1, keepdim=True).clamp_min(1)
    level = (share * t).sum(dim=1, keepdim=True)
    d = d - (share * d).sum(dim=1, keepdim=True)
    slope = (share * d * t).sum(dim=1, keepdim=True) / (share * d.square()).sum(dim=1, keepdim=True).clamp_min(1e-8)
    fitted = slope.clamp_min(0) * d + level
    return (share * ((fitted - t).abs() / (t + 0.1 * level + 1e-6)).clamp_max(1.0)).sum(dim=1).mean()


class Trainer:
    """A run that can be stopped and resumed: network, optimiser, averaged weights, the time spent so far."""

    def __init__(self, start: str, run: Path, seed: int = SEED) -> None:
        info, arrays = weights.load(start)
        self.architecture = info.architecture
        self.network = build(info.architecture, arrays).requires_grad_(True).to(memory_format=torch.channels_last)
        groups = [
            {"params": list(part.parameters()), "rate": rate}
            for part, rate in zip((self.network.pretrained, self.network.scratch), RATES, strict=True)
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01)
        self.average = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.best: dict[str, Any] = {"worth": -math.inf}
        self.step, self.seconds, self.run, self.seed = 0, 0.0, run, seed
        if (run / "checkpoint.pt").exists():
            self._resume()

    def _resume(self) -> None:
        # our own file, written below
        state = torch.load(self.run / "checkpoint.pt", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.best, self.step, self.seconds = (state[k] for k in ("average", "best", "step", "seconds"))

    def save(self) -> None:
        """Write the checkpoint by rename."""
        self.run.mkdir(parents=True, exist_ok=True)
        state = {key: getattr(self, key) for key in ("average", "best", "step", "seconds")}
        state |= {"architecture": asdict(self.architecture)}
        state |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        part = self.run / "checkpoint.part"
        torch.save(state, part)
        part.rename(self.run / "checkpoint.pt")

    def advance(self, seen: Batch, progress: float) -> float:
        """Take one step at that share of the schedule and return the loss."""
        self.network.eval()  # batch norms keep the statistics of photographs
        # Until the end the first level keeps edges and textures as photographs have them.
        self.network.pretrained.layer1.requires_grad_(progress >= FREE_SHARE)
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * warm * min(1.0, 0.02 + (1 - min(progress, 1.0)) / DECAY_SHARE)
        predicted = self.network(seen.pictures)
        loss = loss_of(predicted, seen.truths)
        loss = loss + FIGURE_WEIGHT * figure_error(predicted, seen.truths, seen.figures)
        loss = loss + STEADY_WEIGHT * unsteadiness(predicted, seen.figures, seen.truths)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        for key, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[key].lerp_(value, 1 - keep)
        return float(loss.detach())

    def examine(self, scenes: Scenes, people: People, most: int = 60) -> "Marks":
        """Return the marks of the averaged weights on held-out scenes, and keep them where they are the best."""
        numbers = scenes.held_out[:most]
        if self.best["worth"] > -math.inf and self.best["numbers"] != numbers:  # the same test for both
            marks = self._marks(self.best["state"], scenes, people, numbers)
            self.best |= {"worth": marks.worth, "numbers": numbers}
        marks = self._marks(self.average, scenes, people, numbers)
        if marks.worth > self.best["worth"]:
            state = {key: value.clone() for key, value in self.average.items()}
            self.best = {"worth": marks.worth, "step": self.step, "numbers": numbers, "state": state}
        return marks

    def _marks(self, state: dict[str, Tensor], scenes: Scenes, people: People, numbers: list[int]) -> "Marks":
        network = MidasSmall(self.architecture)
        network.load_state_dict(state)
        network.eval()
        whole, found = (slice(None), slice(None)), []
        for number in numbers:
            rng = np.random.default_rng(number)
            empty = cropped(scenes[number], SIZES[0], whole, False)
            with_somebody = cropped(scene_cutouts.paste(scenes[number], people, rng), SIZES[0], whole, False)
            both = [with_somebody, empty]
            with torch.inference_mode():
                depth = network(torch.stack([normalised(each.picture) for each in both]))
            truth = torch.stack([torch.from_numpy(each.inverse) for each in both])
            figures = torch.stack([torch.from_numpy(each.figure) for each in both])
            delta1 = score(depth[1].numpy(), empty.inverse.astype(np.float64)).delta1
            seen = bool(figures.any())
            found.append(
                (
                    delta1,
                    float(figure_error(depth, truth, figures)) if seen else math.nan,
                    float(unsteadiness(depth, figures, truth, 1)) if seen else math.nan,
                )
            )
        return Marks(*np.nanmean(found, axis=0).tolist())


class Marks(NamedTuple):
    """How good weights are on held-out scenes: delta1; and with held-out people `figure_error` and `unsteadiness`."""

    delta1: float
    figure: float
    unsteady: float

    @property
    def worth(self) -> float:
        """The number that the best weights are chosen by."""
        return self.delta1 - 0.3 * self.figure - 0.3 * self.unsteady


def train(
    trainer: Trainer, scenes: Scenes, people: People, others: People, minutes: float, save_minutes: float = 3.0
) -> Iterator[str]:
    """Train until the run's minutes are spent; yield a line whenever the weights were examined and saved.

    `people` are pasted in while training, `others` to measure with.
    """
    rng = np.random.default_rng((trainer.seed, trainer.step))
    saved, losses = trainer.seconds, []
    while trainer.seconds < 60 * minutes:
        start = time.process_time()
        progress = trainer.seconds / (60 * minutes)
        losses.append(trainer.advance(batch(scenes, people, rng, progress), progress))
        trainer.seconds += (time.process_time() - start) / torch.get_num_threads()
        if trainer.seconds - saved >= 60 * save_minutes or trainer.seconds >= 60 * minutes:
            saved = trainer.seconds
            marks = trainer.examine(scenes, others)
            trainer.save()
            yield (
                f"step {trainer.step}, {trainer.seconds / 60:.1f} min, {len(scenes.training)} scenes, "
                f"loss {np.mean(losses):.4f}, held-out delta1 {marks.delta1:.3f}, "
                f"figures off by {marks.figure:.3f}, background moved by {marks.unsteady:.3f}"
            )
            losses = []
            scenes.look()


def export(run: Path, target: Path) -> None:
    """Write the best weights of a run as float16 safetensors, with what the loader needs to know in the metadata."""
    if not (run / "checkpoint.pt").exists():
        sys.exit(f"{run}: holds no checkpoint.pt; run `scripts/train_starter.py train` first")
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    write(checkpoint["best"]["state"], Architecture(**checkpoint["architecture"]), target)


def write(state: dict[str, Tensor], architecture: Architecture, target: Path) -> None:
    """Write a network's tensors as float16 safetensors."""
    arrays = {  # in C order: save_file writes the memory as it lies, and channels_last lies otherwise
        key: value.numpy().astype(np.float16, order="C")
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    named = asdict(architecture)
    metadata = {key: str(value).lower() if key == "expand" else str(value) for key, value in named.items()}
    save_file(arrays, target, metadata=metadata)


def main() -> int:
    """Train, or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "export"))
    parser.add_argument("target", type=Path, nargs="?", help="the safetensors file that `export` writes")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--scenes", type=Path, default=SCENES, help=f"default {SCENES}")
    parser.add_argument("--people", type=Path, help="a folder of cut-outs of people (needed by `train`)")
    parser.add_argument("--run", type=Path, default=RUN, help=f"the checkpoint's folder (default {RUN})")
    parser.add_argument("--start", default=weights.STARTER.name, help="weights to start from")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.step == "export":
        if args.target is None:
            parser.error("export needs the file to write")
        export(args.run, args.target)
        return 0
    if args.people is None:
        parser.error("train needs --people, a folder of cut-outs (scripts/scene_cutouts.py)")
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    people, others = (scene_cutouts.read(args.people, held_out=held_out) for held_out in (False, True))
    for said in train(Trainer(args.start, args.run), Scenes(args.scenes), people, others, args.minutes):
        print(said, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
