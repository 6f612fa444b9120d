"""Make the engine of a name."""

import logging

from edge.config import ModelSection
from edge.depth.engines.base import Engine
from edge.depth.engines.files import INT8, folder_of
from edge.depth.engines.onnx import OnnxEngine
from edge.depth.engines.pytorch import PlainEngine, TorchEngine, TorchScriptEngine
from edge.depth.weights import WeightsInfo, arrays_of

logger = logging.getLogger(__name__)


def make_engine(name: str, section: ModelSection, info: WeightsInfo, *, refused: bool = False) -> Engine:
    """Return the engine of that name with these weights; `refused`: also from a file that was refused.

    Raises:
        EngineError: it can't be used on this machine, or has no usable file.
        WeightsError: the weights are damaged, or do not fit the network.
    """
    if name == "torchscript":
        return TorchScriptEngine(section, folder_of(info).path(name, refused=refused))
    if name in ("onnxruntime", INT8):
        files = folder_of(info)
        if name == INT8 and (words := files.foreign()):
            logger.warning("%s", words)
        return OnnxEngine(section, files.path(name, refused=refused), name)
    arrays = arrays_of(info)
    return (PlainEngine if name == "plain" else TorchEngine)(section, info.architecture, arrays)
