"""Make the engine of a name."""

from edge.config import ModelSection
from edge.engines.base import Engine
from edge.engines.files import folder_of
from edge.engines.onnx import OnnxEngine
from edge.engines.pytorch import PlainEngine, TorchEngine, TorchScriptEngine
from edge.weights import WeightsInfo, arrays_of


def make_engine(name: str, section: ModelSection, info: WeightsInfo, *, refused: bool = False) -> Engine:
    """Return the engine of that name with these weights; `refused`: also from a file that was refused.

    Raises:
        EngineError: it can't be used on this machine, or has no usable file.
        WeightsError: the weights are damaged, or do not fit the network.
    """
    if name == "torchscript":
        return TorchScriptEngine(section, folder_of(info).path(name, refused=refused))
    if name in ("onnxruntime", "onnxruntime-int8"):
        return OnnxEngine(section, folder_of(info).path(name, refused=refused), name)
    arrays = arrays_of(info)
    return (PlainEngine if name == "plain" else TorchEngine)(section, info.architecture, arrays)
