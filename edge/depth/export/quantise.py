"""Int8 by calibration: what is quantised, and with which ranges.

The first layers see few channels with very different ranges, and in int8 they cost most of the accuracy and gain the
least time; so they are the first to stay in float.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.depth.engines.onnx import onnx_runtime
from edge.records import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What stays in float: the nodes whose names hold one of `parts`; and how the ranges are found."""

    words: str
    parts: tuple[str, ...]


_INPUT = ("/Sub", "/Transpose")
_LEVELS = tuple(f"/pretrained/layer{number}/" for number in range(1, 5))
# From the fastest to the most accurate.
RUNGS = (
    Rung(words="all in int8", parts=()),
    Rung(words="level 1 of the encoder in float", parts=_INPUT + _LEVELS[:1]),
    Rung(words="levels 1 and 2 of the encoder in float", parts=_INPUT + _LEVELS[:2]),
    Rung(words="levels 1 to 3 of the encoder in float", parts=_INPUT + _LEVELS[:3]),
    Rung(words="the encoder in float", parts=_INPUT + _LEVELS),
    Rung(words="the encoder and the decoder's first convolutions in float", parts=(*_INPUT, *_LEVELS, "_rn/")),
)


class Quantiser:
    """Quantises one ONNX model; the ranges are found once, with `pictures`, float32 (h, w, 3) each.

    Without an `int8_dot_product` a processor of the x86-64 kind adds two products of activation and weight in 16 bits:
    with weights of eight bits that overflows, with seven it can't (onnxruntime's docs, "Quantize ONNX models").
    """

    def __init__(self, model: Path, pictures: Sequence[Floats], scratch: Path, *, int8_dot_product: bool) -> None:
        import onnx

        onnx_runtime()  # the first way to it, before its tools
        self._model = model
        self._pictures = pictures
        self._reduce_range = not int8_dot_product
        self._ranges = scratch / "ranges.json"
        self._nodes = [node.name for node in onnx.load(model).graph.node]

    def write(self, target: Path, rung: Rung) -> None:
        """Write the model in int8: weights per channel, activations per tensor, minimum to maximum."""
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        # ONNX Runtime tells of every channel whose scale it mends, through the root logger
        root = logging.getLogger()
        root.addFilter(_nothing)
        try:
            quantize_static(
                self._model,
                target,
                _Reader(self._pictures),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=self._reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[node for node in self._nodes if any(part in node for part in rung.parts)],
                calibration_cache_path=self._ranges,
            )
        finally:
            root.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


class _Reader:
    """Hands out the pictures one by one, as ONNX Runtime's `CalibrationDataReader` does; null at the end."""

    def __init__(self, pictures: Sequence[Floats]) -> None:
        self._left: Iterator[Floats] = iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input by name."""
        pixels = next(self._left, None)
        return None if pixels is None else {"pixels": pixels[None]}
