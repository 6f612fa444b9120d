#!/usr/bin/env python3
"""Grow the starter weights to the size of MiDaS small: weights of that network to measure with, or to train on from.

usage: scripts/grow_starter.py FILE [--scenes DIR]
       edge-depth export --weights FILE && edge-depth bench --weights FILE
       scripts/train_starter.py train --start FILE --run DIR --minutes N

What the starter network computes, the grown one computes too: its tensors become the first channels of the larger ones,
and nothing new flows into them but the new blocks' small share (NEW_SHARE). New channels and blocks are random, their
batch norms fitted to scenes of scripts/render_scenes.py. So every multiplication of MiDaS small is made, on activations
as a trained network has them, which random weights don't: what int8 does to those says nothing of the real ones.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from train_starter import SCENES, Scenes, batch, write

from edge.depth import weights
from edge.depth.midas import MidasSmall

SEED = 1
NEW_SHARE = 0.05  # of a batch norm's output with which a new block adds to what passes it by
_SMALLEST_VARIANCE = 1e-4


def grown(arrays: weights.Arrays, network: MidasSmall) -> dict[str, int]:
    """Fill a larger network with a smaller one's tensors; return how many channels of each batch norm are not new.

    Raises:
        ValueError: a tensor of the smaller network has no place in the larger one.
    """
    random = torch.Generator().manual_seed(SEED)
    state, known = network.state_dict(), {}
    if lost := sorted(key for key in arrays if key not in state):
        raise ValueError(f"no place for {', '.join(lost[:3])}")
    for key, value in state.items():
        old = arrays.get(key)
        name, kind = key.rsplit(".", 1)
        if value.ndim == 4:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=random)
            if old is not None:
                out, into = old.shape[:2]
                value[:out, into:] = 0
                value[:out, :into] = torch.from_numpy(old)
        elif value.ndim == 1:
            value.fill_(1 if kind in ("weight", "running_var") else 0)
            if old is not None:
                value[: old.size] = torch.from_numpy(old)
                known[name] = old.size
    network.load_state_dict(state)
    return known


def fit_new(network: MidasSmall, known: dict[str, int], pictures: Tensor) -> None:
    """Give the new channels the batch norm statistics of pictures, float32 (n, 3, h, w), layer by layer."""

    def fitted(module: nn.Module, arguments: tuple[Tensor], first: int) -> None:
        module.running_mean[first:] = arguments[0].mean((0, 2, 3))[first:]
        module.running_var[first:] = arguments[0].var((0, 2, 3))[first:] + _SMALLEST_VARIANCE

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            first = known.get(name, 0)
            if not first and name.endswith("bn3"):
                module.weight.data.fill_(NEW_SHARE)
            hooks.append(module.register_forward_pre_hook(lambda m, a, first=first: fitted(m, a, first)))
    with torch.no_grad():
        network(pictures)
    for hook in hooks:
        hook.remove()


def main() -> int:
    """Write the grown weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, metavar="FILE", help="the safetensors file to write")
    parser.add_argument("--scenes", type=Path, default=SCENES, help=f"default {SCENES}")
    args = parser.parse_args()
    architecture = weights.OFFICIAL.architecture
    network = MidasSmall(architecture).eval()
    known = grown(weights.load(weights.STARTER.name)[1], network)
    fit_new(network, known, batch(Scenes(args.scenes), np.random.default_rng(SEED))[0])
    write(network.state_dict(), architecture, args.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
