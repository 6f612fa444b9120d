"""The engines on PyTorch: eager, and TorchScript, which needs no timm; and the plain network to compare with."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edge.config import ModelSection
from edge.depth.engines.base import pinned_threads
from edge.depth.weights import Arrays
from edge.errors import EngineError
from edge.records import Architecture, Floats


def torch_for(section: ModelSection) -> tuple[ModuleType, int]:
    """Return torch with its threads pinned, and their number.

    Raises:
        EngineError: torch can't be imported, or `model.cpus` names a processor that this process can't have.
    """
    threads = pinned_threads(section)
    try:
        import torch  # here, so that a daemon on another engine never loads it
    except ImportError as error:
        raise EngineError(f"torch can't be imported: {error}; run `pip install edge-depth` again") from error
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    return torch, threads


class TorchEngine:
    """PyTorch in eager mode: the network with less to do, channels last, threads pinned.

    Raises:
        EngineError: see `torch_for`.
        WeightsError: the weights do not fit the network.
    """

    name = "torch"

    def __init__(self, section: ModelSection, architecture: Architecture, arrays: Arrays) -> None:
        self._torch, self.threads = torch_for(section)
        try:
            from edge.depth import midas
        except ImportError as error:
            raise EngineError(f"timm can't be imported: {error}; run `pip install edge-depth` again") from error
        self._network: Any = midas.Serving(midas.build(architecture, arrays))

    def run(self, pixels: Floats) -> Floats:
        """Return relative inverse depth, float32 (h, w), of `pixels`, float32 (h, w, 3) RGB in 0..255."""
        with self._torch.inference_mode():
            return np.asarray(self._network(self._torch.from_numpy(pixels[None])).numpy(), np.float32)


class TorchScriptEngine:
    """The traced and frozen network from a file of ours.

    Raises:
        EngineError: see `torch_for`; the file can't be loaded.
    """

    name = "torchscript"

    def __init__(self, section: ModelSection, path: Path) -> None:
        self._torch, self.threads = torch_for(section)
        try:
            self._network: Any = self._torch.jit.load(str(path))
        except RuntimeError as error:
            raise EngineError(f"{path}: can't be loaded: {error}; run `edge-depth export --again`") from error

    run = TorchEngine.run


class PlainEngine:
    """The network as it is published, in eager float32, as anybody would run it first: what others are held against."""

    name = "plain"

    def __init__(self, section: ModelSection, architecture: Architecture, arrays: Arrays) -> None:
        self._torch, self.threads = torch_for(section)
        from edge.depth import midas

        self._normalised = midas.normalised
        self._network = midas.build(architecture, arrays)

    def run(self, pixels: Floats) -> Floats:
        """Return relative inverse depth, float32 (h, w), of `pixels`, float32 (h, w, 3) RGB in 0..255."""
        with self._torch.inference_mode():
            return np.asarray(self._network(self._normalised(pixels))[0].numpy(), np.float32)
