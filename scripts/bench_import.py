#!/usr/bin/env python3
"""Measure what `edge-depth weights import` costs, with a made-up checkpoint of the official format and size.

usage: scripts/bench_import.py [--runs N]

Prints JSON, the worst of N runs: `cpu_seconds` of all processes together, and `peak_rss_mib`, the most that they hold
in memory at a time: resident sets, added up 100 times a second.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge.system.machine import machine_name

ROOT = Path(__file__).parents[1]
# The checkpoint is the tests'. It is made apart: what this process holds would count as the child's until its exec.
MAKE = "import pathlib, sys; from tests import parity; data = parity.checkpoint_bytes(parity.checkpoint()); "
MAKE += "pathlib.Path(sys.argv[1]).write_bytes(data)"
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
EVERY_SECONDS = 0.01


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="how often (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-depth-") as folder:
        checkpoint = Path(folder) / "made-up.pt"
        subprocess.run([sys.executable, "-c", MAKE, str(checkpoint)], env=environment(folder), check=True)  # noqa: S603
        runs = [measured(checkpoint, f"made-up-{number}") for number in range(args.runs)]
        size = checkpoint.stat().st_size / 1e6
    worst = {name: max(run[name] for run in runs) for name in ("cpu_seconds", "peak_rss_mib")}
    print(json.dumps({"machine": machine_name(), "checkpoint_mb": round(size, 1), "runs": args.runs, **worst}))
    return 0


def measured(checkpoint: Path, name: str) -> dict[str, float]:
    """Import the checkpoint in a child and return what the child and its own children took."""
    before = cpu_seconds()
    command = [sys.executable, "-m", "edge", "weights", "import", str(checkpoint), "--name", name]
    child = subprocess.Popen(  # noqa: S603 - our own program
        command, env=environment(str(checkpoint.parent)), stdout=subprocess.DEVNULL
    )
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, resident_mib(child.pid))
        time.sleep(EVERY_SECONDS)
    if child.returncode:
        sys.exit(f"the import ended with {child.returncode}")
    return {"cpu_seconds": round(cpu_seconds() - before, 2), "peak_rss_mib": round(peak)}


def environment(state: str) -> dict[str, str]:
    """Return the environment of a child that finds the project and keeps its weights in that folder."""
    return os.environ | {"STATE_DIRECTORY": state, "PYTHONPATH": str(ROOT)}


def cpu_seconds() -> float:
    """Return the processor time of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_mib(pid: int) -> float:
    """Return the memory that a process and its descendants hold, MiB; 0 for one that has just ended."""
    try:
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MIB
        children = [Path(f"{task}/children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return own + sum(resident_mib(int(child)) for each in children for child in each)


if __name__ == "__main__":
    sys.exit(main())
