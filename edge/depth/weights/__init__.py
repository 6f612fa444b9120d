"""Weight files: what is known of them, where they lie, how they come here, whether they are what they claim to be.

Nothing here loads torch and nothing runs what a file says. What the program loads is safetensors; a torch checkpoint
is a foreign file, read once, apart, to become one (`edge.depth.export`).
"""

from edge.depth.weights.apart import open_foreign, own_copy, read_foreign
from edge.depth.weights.download import Limits, Report, download
from edge.depth.weights.files import (
    ENCODERS,
    Arrays,
    WeightsInfo,
    arrays_of,
    file_sha256,
    halves,
    identify,
    load,
    original_of,
    read,
)
from edge.depth.weights.registry import (
    OFFICIAL,
    REGISTRY,
    STARTER,
    WeightsFacts,
    directory,
    imported,
    locate,
    named_path,
    path_of,
)

__all__ = [
    "ENCODERS",
    "OFFICIAL",
    "REGISTRY",
    "STARTER",
    "Arrays",
    "Limits",
    "Report",
    "WeightsFacts",
    "WeightsInfo",
    "arrays_of",
    "directory",
    "download",
    "file_sha256",
    "halves",
    "identify",
    "imported",
    "load",
    "locate",
    "named_path",
    "open_foreign",
    "original_of",
    "own_copy",
    "path_of",
    "read",
    "read_foreign",
]
