"""Engines run the network; the pinning of threads lives here.

An engine is made, warmed up and run in one and the same thread: OpenMP gives every thread that starts parallel work a
team of workers of its own, and the workers inherit the affinity of the thread that starts them.
"""

import logging
import os
from typing import Protocol

import numpy as np

from edge.config import ModelSection
from edge.errors import EngineError
from edge.records import Architecture, Floats
from edge.weights import Arrays

logger = logging.getLogger(__name__)

_MOST_THREADS = 4  # the cores of a Raspberry Pi; beyond that, batch 1 at 256 px gains little


class Engine(Protocol):
    """Something that runs the network; a seam so that another runtime can take torch's place."""

    name: str
    threads: int

    def run(self, x: Floats) -> Floats:
        """Return relative inverse depth, float32 (h, w), of the network input `x`, float32 (1, 3, h, w)."""


class TorchEngine:
    """PyTorch in eager mode: batch norm folded, channels last, threads pinned.

    Raises:
        EngineError: torch can't be imported, or `model.cpus` names a processor that this process can't have.
        WeightsError: the weights do not fit the network.
    """

    name = "torch"

    def __init__(self, section: ModelSection, architecture: Architecture, arrays: Arrays) -> None:
        available = _pin_to(section.cpus)
        try:
            import torch  # here, so that a daemon on another engine never loads it

            from edge import network
        except ImportError as error:
            raise EngineError(f"torch can't be imported: {error}; run `pip install edge-depth` again") from error
        self._torch = torch
        self.threads = section.threads or min(available, _MOST_THREADS)
        torch.set_num_threads(self.threads)
        if torch.get_num_interop_threads() != 1:
            torch.set_num_interop_threads(1)
        net = network.fold_batch_norm(network.build(architecture, arrays))
        self._network = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def run(self, x: Floats) -> Floats:
        """Return relative inverse depth, float32 (h, w), of the network input `x`, float32 (1, 3, h, w)."""
        torch = self._torch
        with torch.inference_mode():
            tensor = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
            return np.asarray(self._network(tensor)[0].numpy(), np.float32)


def _pin_to(cpus: tuple[int, ...] | None) -> int:
    """Bind the calling thread, and the workers that it starts later, to `cpus`; return how many it may use.

    Raises:
        EngineError: a processor is not there or not ours to use.
    """
    allowed = os.sched_getaffinity(0)
    if cpus is None:
        return len(allowed)
    missing = sorted(set(cpus) - allowed)
    if missing:
        raise EngineError(f"model.cpus: {missing} can't be used; this process may use {sorted(allowed)}")
    os.sched_setaffinity(0, cpus)
    return len(set(cpus))
