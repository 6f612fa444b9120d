"""Our own program in a process of its own: what may crash, hang or be made to misbehave takes nobody along."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules; where it is run from says nothing of where modules lie."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return our environment and more, in which the child finds our modules before others."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    return os.environ | more | {"PYTHONPATH": path}
