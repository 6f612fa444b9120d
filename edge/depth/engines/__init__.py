"""Engines run the network: the same weights, the same input, the same output within a stated tolerance.

An engine is made, warmed up and run in one and the same thread: the workers of OpenMP and of ONNX Runtime inherit the
affinity of the thread that starts them.
"""

from edge.depth.engines.base import NAMES, Engine
from edge.depth.engines.choice import chosen, conditions, remember
from edge.depth.engines.files import FILES, INT8, EngineFile, EngineFiles, Record, folder_of
from edge.depth.engines.make import make_engine

__all__ = [
    "FILES",
    "INT8",
    "NAMES",
    "Engine",
    "EngineFile",
    "EngineFiles",
    "Record",
    "chosen",
    "conditions",
    "folder_of",
    "make_engine",
    "remember",
]
