"""Import weights: a foreign checkpoint becomes float16 safetensors, if it is one and does the same afterwards.

torch is loaded after the file has been read: what is wrong with a file is told before torch is waited for.
"""

import ctypes
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from edge import __version__
from edge.depth.export.samples import PHOTOS
from edge.depth.model import network_pixels
from edge.depth.weights import (
    OFFICIAL,
    Arrays,
    halves,
    named_path,
    open_foreign,
    own_copy,
    path_of,
    read,
    read_foreign,
)
from edge.errors import WeightsError
from edge.pictures import read_picture
from edge.records import Floats

if TYPE_CHECKING:
    from edge.depth.midas import MidasSmall

# The most that any pixel may differ. An engine may differ so much at 95 % of its pixels (the accuracy rule); rounding
# the kernels to float16 costs made-up weights 0.45 % at the worst pixel, a damaged number far more than 2 %.
TOLERANCE = 0.02
_PICTURES = ("desk.jpg", "selfie.jpg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A foreign checkpoint that fits the official network: its hash, the tensors that are used, and the network."""

    path: Path
    sha256: str
    arrays: Arrays
    network: "MidasSmall"

    @property
    def official(self) -> bool:
        """Whether it is the official file, as far as its hash is known."""
        return OFFICIAL.is_made_of(self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import made: `error` is the largest difference of the output, in parts of the original's range."""

    path: Path
    original_sha256: str
    error: float


def read_official(path: Path, file: IO[bytes] | None = None) -> Checkpoint:
    """Read a checkpoint from outside, apart and bounded, and hold it against the official network.

    `file` is the file itself where it was opened before. The hash is that of the bytes that are read.

    Raises:
        WeightsError: it is no checkpoint, another model, damaged, or its tensors do not fit or are not finite.
    """
    with file or open_foreign(path) as opened, own_copy(path, opened) as (copy, sha256):
        arrays = read_foreign(copy)
    from edge.depth.midas import used

    arrays = used(arrays)
    return Checkpoint(path=path, sha256=sha256, arrays=arrays, network=_network(path, arrays))


def import_checkpoint(path: Path, name: str | None = None, file: IO[bytes] | None = None) -> Imported:
    """Convert a checkpoint to float16 safetensors in `weights.directory()`, verified by the network's output.

    Without a name it must be the official file by its hash. `file` is as in `read_official`.

    Raises:
        WeightsError: see `read_official`; it is not the official file; the result differs, or can't be written.
    """
    target = path_of(OFFICIAL) if name is None else named_path(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import-") as folder:
            written = Path(folder) / target.name
            sha256, expected = _convert(read_official(path, file), written, must_be_official=name is None)
            _give_back()
            error = _difference(expected, _outputs(_network(path, read(written)[0])))
            if not error <= TOLERANCE:  # a NaN is no small error either
                raise WeightsError(
                    f"{path}: in float16 its output differs by {error:.2%} of the range; {TOLERANCE:.0%} is allowed"
                )
            _give_back()
            _put(written, target)
    except OSError as problem:
        raise WeightsError(f"{target}: can't be written: {problem.strerror or problem}") from problem
    return Imported(path=target, original_sha256=sha256, error=error)


def _convert(checkpoint: Checkpoint, written: Path, *, must_be_official: bool) -> tuple[str, list[Floats]]:
    """Write the float16 file; return the original's hash and outputs. Its tensors are not needed any longer then."""
    if must_be_official and not checkpoint.official:
        raise WeightsError(
            f"{checkpoint.path}: fits the network, but is not {OFFICIAL.name}: its sha256 is {checkpoint.sha256}, "
            f"expected {OFFICIAL.sha256}{'…' if len(OFFICIAL.sha256) < 64 else ''}. If you trust it, give it a name "
            "of its own with --name NAME and set model.weights to that"
        )
    expected = _outputs(checkpoint.network)
    save_file(halves(checkpoint.arrays), written, _metadata(checkpoint))
    return checkpoint.sha256, expected


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    shape = OFFICIAL.architecture
    return {
        "encoder": shape.encoder,
        "features": str(shape.features),
        "expand": str(shape.expand).lower(),
        "original_sha256": checkpoint.sha256,
        "imported_by": f"edge-depth {__version__}",
    }


def _give_back() -> None:
    """Let glibc give back what was freed: it keeps 70 MB of it, while the next network is built and at the end.

    The end counts: a torch with CUDA touches 130 MB more when the process goes.
    """
    ctypes.CDLL(None).malloc_trim(0)


def _difference(expected: list[Floats], result: list[Floats]) -> float:
    """Return how far the outputs are apart, at most, in parts of the expected one's range."""
    tiny = float(np.finfo(np.float32).tiny)
    return max(float(np.abs(a - b).max() / max(float(np.ptp(a)), tiny)) for a, b in zip(expected, result, strict=True))


def _network(path: Path, arrays: Arrays) -> "MidasSmall":
    from edge.depth.midas import build

    try:
        return build(OFFICIAL.architecture, arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _outputs(network: "MidasSmall") -> list[Floats]:
    """Run the network on one thread: several cost more CPU, and much more where others use the processors too."""
    import torch

    from edge.depth.midas import normalised

    inputs = [normalised(network_pixels(read_picture(PHOTOS / name))) for name in _PICTURES]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return [network(x)[0].numpy() for x in inputs]
    finally:
        torch.set_num_threads(threads)


def _put(written: Path, target: Path) -> None:
    """Let the file appear under its name, whole, on the disk, and readable by the daemon's own user."""
    written.chmod(0o644)
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(target)
