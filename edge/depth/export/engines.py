"""Make engine files: TorchScript, ONNX in float32, ONNX in int8; each is run against the plain network when written."""

import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge import __version__
from edge.config import ModelSection
from edge.depth.engines import FILES, INT8, EngineFile, EngineFiles, Record, folder_of
from edge.depth.engines.onnx import OnnxEngine, onnx_runtime
from edge.depth.engines.pytorch import PlainEngine, TorchScriptEngine, torch_for
from edge.depth.export.quantise import RUNGS, Quantiser
from edge.depth.export.samples import Samples, keep
from edge.depth.weights import WeightsInfo, arrays_of, file_sha256
from edge.errors import EngineError
from edge.evaluation import Agreement, agreement
from edge.files import without_following
from edge.records import Floats
from edge.system.machine import has_int8_dot_product, processor

Say = Callable[[str], object]
_OPSET = 17


def export(
    section: ModelSection,
    info: WeightsInfo,
    samples: Samples,
    calibration: str,
    say: Say,
    *,
    again: bool = False,
    int8_dot_product: bool | None = None,
) -> EngineFiles:
    """Make the engine files of some weights, unless they are there; return where.

    `calibration` says where the samples come from, `int8_dot_product` for which kind of processor int8 is made: this
    one's unless told. Nothing is replaced before everything is made and verified.

    Raises:
        EngineError: a part that is needed is missing, a file can't be made or written.
        WeightsError: the weights are damaged, or do not fit the network.
    """
    files = folder_of(info)
    has = has_int8_dot_product()
    say(f"this processor, {processor()}, has {'an' if has else 'no'} int8 dot product")
    kind = has if int8_dot_product is None else int8_dot_product
    try:
        files.folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(files.folder):
            prefix = f".making-{files.folder.name}-"
            _tidy(files.folder, prefix)
            if not again and _is_complete(files):
                say(f"{files.folder}: is there already; --again makes it anew")
                if words := files.foreign():
                    say(words)
                return files
            with tempfile.TemporaryDirectory(dir=files.folder.parent, prefix=prefix) as made:
                engines = _make(Path(made), section, info, samples, say, int8_dot_product=kind)
                made_by = f"edge-depth {__version__}, torch {version('torch')}"
                record = Record(made_by=made_by, calibration=calibration, engines=engines, int8_dot_product=kind)
                EngineFiles(Path(made)).write(record)
                _put(Path(made), files.folder)
    except OSError as error:
        raise EngineError(f"{files.folder}: can't be written: {error.strerror or error}") from error
    return files


def can_make() -> tuple[str, ...]:
    """Return the engines whose files can be made here."""
    return tuple(name for name in FILES if name == "torchscript" or (find_spec("onnxruntime") and find_spec("onnx")))


def _is_complete(files: EngineFiles) -> bool:
    record = files.record()
    return record is not None and set(can_make()) <= set(record.engines)


def _make(
    folder: Path, section: ModelSection, info: WeightsInfo, samples: Samples, say: Say, *, int8_dot_product: bool
) -> dict[str, EngineFile]:
    """Make the files, with one thread: torch's wait for each other by counting, and beside other work take all day."""
    say("loading PyTorch")
    section = section.model_copy(update={"threads": 1})
    torch, _ = torch_for(section)
    arrays = arrays_of(info)
    plain = PlainEngine(section, info.architecture, arrays)
    say(f"the plain network, to compare with: {len(samples.verifying)} pictures")
    outputs = [plain.run(pixels) for pixels in samples.verifying]
    keep(folder, samples.verifying, outputs)
    return _Maker(torch, section, samples, outputs, folder, say, int8_dot_product=int8_dot_product).make(info, arrays)


class _Maker:
    """Makes the files of one folder, and holds each against the plain network's `outputs`."""

    def __init__(
        self,
        torch: Any,
        section: ModelSection,
        samples: Samples,
        outputs: list[Floats],
        folder: Path,
        say: Say,
        *,
        int8_dot_product: bool,
    ) -> None:
        self._torch = torch
        self._section = section
        self._samples = samples
        self._outputs = outputs
        self._folder = folder
        self._say = say
        self._int8_dot_product = int8_dot_product

    def make(self, info: WeightsInfo, arrays: Any) -> dict[str, EngineFile]:
        """Make every file that can be made here."""
        from edge.depth import midas

        serving = midas.Serving(midas.build(info.architecture, arrays)).eval()
        example = self._torch.from_numpy(self._samples.verifying[0][None])
        engines = {"torchscript": self._torchscript(serving, example)}
        if "onnxruntime" in can_make():
            engines["onnxruntime"] = self._onnx(serving, example)
            engines[INT8] = self._int8()
        else:
            self._say("onnxruntime: left out; `pip install 'edge-depth[onnx]'` brings the fastest engines")
        return engines

    def _torchscript(self, serving: Any, example: Any) -> EngineFile:
        path = self._begin("torchscript")
        with self._torch.inference_mode():
            self._torch.jit.freeze(self._torch.jit.trace(serving, (example,))).save(str(path))
        return self._judged("torchscript", self._agreement(TorchScriptEngine(self._section, path)))

    def _onnx(self, serving: Any, example: Any) -> EngineFile:
        path = self._begin("onnxruntime")
        raw = self._folder / "raw.onnx"
        sizes = {"pixels": {1: "height", 2: "width"}, "inverse_depth": {0: "height", 1: "width"}}
        with warnings.catch_warnings(action="ignore"):  # of torch to those who extend its exporter
            self._torch.onnx.export(
                serving,
                (example,),
                str(raw),
                dynamo=False,
                input_names=["pixels"],
                output_names=["inverse_depth"],
                dynamic_axes=sizes,
                opset_version=_OPSET,
            )
        simplify(raw, path)
        raw.unlink()
        return self._judged("onnxruntime", self._agreement(OnnxEngine(self._section, path, "onnxruntime")))

    def _int8(self) -> EngineFile:
        """Keep the fewest layers in float with which the output is accepted, or is nearest to it."""
        path = self._folder / FILES[INT8]
        words = "eight bits, for processors with" if self._int8_dot_product else "seven bits, for processors without"
        self._say(
            f"{INT8}: weights of {words} an int8 dot product; ranges of {len(self._samples.calibrating)} pictures"
        )
        best: tuple[Agreement, str] | None = None
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            quantiser = Quantiser(
                self._folder / FILES["onnxruntime"],
                self._samples.calibrating,
                Path(scratch),
                int8_dot_product=self._int8_dot_product,
            )
            for rung in RUNGS:
                tried = Path(scratch) / "tried.onnx"
                quantiser.write(tried, rung)
                found = self._agreement(OnnxEngine(self._section, tried, INT8))
                self._say(f"{INT8}: {rung.words}: {_words(found)}")
                if best is None or found.residual < best[0].residual:
                    best = found, rung.words
                    tried.replace(path)
                if found.accepted:
                    break
        if best is None:
            raise EngineError(f"{INT8}: nothing was tried")
        return self._judged(INT8, *best)

    def _begin(self, name: str) -> Path:
        """Say which file is made now; return its path."""
        self._say(f"{name}: making {FILES[name]}")
        return self._folder / FILES[name]

    def _agreement(self, engine: Any) -> Agreement:
        return agreement([engine.run(pixels) for pixels in self._samples.verifying], self._outputs)

    def _judged(self, name: str, found: Agreement, note: str = "") -> EngineFile:
        path = self._folder / FILES[name]
        verdict = "accepted" if found.accepted else "refused: not accurate enough"
        self._say(f"{name}: {path.stat().st_size / 1e6:.1f} MB, {_words(found)}: {verdict}")
        return EngineFile(
            sha256=file_sha256(path),
            delta1=found.delta1,
            residual=found.residual,
            accepted=found.accepted,
            note=note,
        )


def simplify(source: Path, target: Path) -> None:
    """Write an ONNX model as ONNX Runtime simplifies it on any machine: constants folded, padding part of convolutions.

    Int8 is made of that; what is particular to a processor is done when the model is loaded.
    """
    import onnx

    onnxruntime = onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # else quantising asks for it
    onnx.save(model, target)


def _words(found: Agreement) -> str:
    return f"delta1 {found.delta1:.4f}, residual {found.residual:.2%} against float32"


def _put(made: Path, folder: Path) -> None:
    """Let the made folder take the old one's place, on the disk, readable by the daemon's own user."""
    for path in made.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    made.chmod(0o755)
    old = _old(folder)
    if folder.exists():
        folder.rename(old)
    shutil.copytree(made, folder, copy_function=os.link)  # the temporary folder stays for who made it to remove
    shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".old-{folder.name}")


def _tidy(folder: Path, prefix: str) -> None:
    """Take away what an export left that was killed; files that it was just replacing come back."""
    if _old(folder).exists() and not folder.exists():
        _old(folder).rename(folder)
    for left in (_old(folder), *folder.parent.glob(f"{prefix}*")):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time make these files; another waits and then finds them made."""
    with open(folder.with_name(folder.name + ".lock"), "w", opener=without_following) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
