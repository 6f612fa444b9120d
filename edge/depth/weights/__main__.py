"""Read a foreign checkpoint in a process of its own: `python -m edge.depth.weights CHECKPOINT SAFETENSORS`.

The limits come first, then the file. `edge.depth.weights.apart` starts it and says what became of it.
"""

import resource
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from edge.depth.weights.apart import CPU_SECONDS, MEMORY_BYTES
from edge.depth.weights.checkpoint import read_checkpoint
from edge.errors import WeightsError


def main(checkpoint: str, safetensors: str) -> int:
    """Write the checkpoint's tensors as safetensors; return 0, or 78 with the reason on standard error."""
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    try:
        arrays = read_checkpoint(Path(checkpoint))
    except WeightsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the parent reads it
        return error.exit_code
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, safetensors)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
