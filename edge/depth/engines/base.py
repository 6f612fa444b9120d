"""What an engine is, and the pinning of threads."""

import os
from typing import Protocol

from edge.config import ModelSection
from edge.errors import EngineError
from edge.records import Floats

# As `model.engine` has them, and in the order in which a tie is decided.
NAMES = ("onnxruntime-int8", "onnxruntime", "torchscript", "torch")

_MOST_THREADS = 4  # the cores of a Raspberry Pi; beyond that, batch 1 at 256 px gains little


class Engine(Protocol):
    """Something that runs the network; a seam so that runtimes can take each other's place."""

    name: str
    threads: int

    def run(self, pixels: Floats) -> Floats:
        """Return relative inverse depth, float32 (h, w), of `pixels`, float32 (h, w, 3) RGB in 0..255."""


def wanted_threads(section: ModelSection) -> int:
    """Return how many threads an engine is to use: as configured, else one for each processor, four at most."""
    available = section.cpus if section.cpus is not None else os.sched_getaffinity(0)
    return section.threads or min(len(set(available)), _MOST_THREADS)


def pinned_threads(section: ModelSection) -> int:
    """Bind the calling thread, and the workers that it starts later, to `model.cpus`; return how many it is to use.

    Raises:
        EngineError: a processor is not there or not ours to use.
    """
    if section.cpus is not None:
        allowed = sorted(os.sched_getaffinity(0))
        missing = sorted(set(section.cpus) - set(allowed))
        if missing:
            raise EngineError(f"model.cpus: {missing} can't be used; this process may use {allowed}")
        os.sched_setaffinity(0, section.cpus)
    return wanted_threads(section)
