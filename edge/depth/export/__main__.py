"""Measure an engine in a process of its own: `python -m edge.depth.export REQUEST`; `contest` starts it."""

import json
import os
import sys

from edge.config import ModelSection
from edge.depth.export.measure import measure
from edge.errors import EdgeError


def main(request: str) -> int:
    """Print what was measured as JSON; return 0, or an error's code with the reason on standard error."""
    from dataclasses import asdict

    asked = json.loads(request)
    try:
        found = measure(asked["engine"], ModelSection(**asked["model"]), tuple(asked["size"]), asked["seconds"])
    except EdgeError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the parent reads it
        return error.exit_code
    print(json.dumps(asdict(found)), flush=True)  # noqa: T201 - likewise
    os._exit(0)  # what is loaded may take its time to go, or die of it


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
