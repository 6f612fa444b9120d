"""Import a foreign checkpoint, make engine files, find the fastest engine.

torch is loaded where it is needed, and no earlier: what is wrong with a file is told before torch is waited for.
"""

from edge.depth.export.checkpoint import TOLERANCE, Checkpoint, Imported, import_checkpoint, read_official
from edge.depth.export.contest import Interrupted, fastest, measured, settled
from edge.depth.export.engines import can_make, export
from edge.depth.export.measure import Measured, measure
from edge.depth.export.samples import Samples, photographs, samples_of

__all__ = [
    "TOLERANCE",
    "Checkpoint",
    "Imported",
    "Interrupted",
    "Measured",
    "Samples",
    "can_make",
    "export",
    "fastest",
    "import_checkpoint",
    "measure",
    "measured",
    "photographs",
    "read_official",
    "samples_of",
    "settled",
]
