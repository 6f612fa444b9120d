"""The engines on ONNX Runtime, float32 and int8: torch is not loaded."""

import os
from pathlib import Path
from types import ModuleType

import numpy as np

from edge.config import ModelSection
from edge.depth.engines.base import pinned_threads
from edge.errors import EngineError
from edge.records import Floats


def onnx_runtime() -> ModuleType:
    """Return the package onnxruntime, which calls nobody; nothing of ours imports it in another way.

    Its Linux wheels tell their maker of every session, over the network and by an identity in the user's cache, unless
    this is set before they are first loaded (onnxruntime's docs/Privacy.md).

    Raises:
        ImportError: it can't be imported.
    """
    if os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    runtime: ModuleType = onnxruntime
    return runtime


class OnnxEngine:
    """ONNX Runtime on the CPU, threads pinned.

    Raises:
        EngineError: ONNX Runtime can't be imported, the file can't be loaded, or `model.cpus` names a processor that
            this process can't have.
    """

    def __init__(self, section: ModelSection, path: Path, name: str) -> None:
        self.name = name
        self.threads = pinned_threads(section)
        try:
            onnxruntime = onnx_runtime()
        except ImportError as error:
            raise EngineError(
                f"model.engine: {name} needs ONNX Runtime ({error}): run `pip install 'edge-depth[onnx]'`"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Workers wait for work in a loop, which makes a frame faster; between two frames they are to sleep.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"{path}: can't be loaded: {error}; run `edge-depth export --again`") from error

    def run(self, pixels: Floats) -> Floats:
        """Return relative inverse depth, float32 (h, w), of `pixels`, float32 (h, w, 3) RGB in 0..255."""
        return np.asarray(self._session.run(None, {"pixels": pixels[None]})[0], np.float32)
