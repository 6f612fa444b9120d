"""Look for what keeps the daemon from working, and say what helps."""

import argparse
import sys
from pathlib import Path

_DEFAULT = Path("/etc/edge-depth/edge-depth.yaml")
_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}
_INDENT = 21


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    default = _DEFAULT if _DEFAULT.exists() else None
    parser.add_argument(
        "--config", type=Path, default=default, metavar="FILE", help=f"the configuration ({_DEFAULT}, where it is)"
    )


def main(args: argparse.Namespace) -> int:
    """Print a line for each thing as it is found; return 1 when one of them is wrong."""
    from edge.doctor import examine

    wrong = 0
    for finding in examine(args.config):
        wrong += finding.state == "wrong"
        print(f"{_MARKS[finding.state]:<6}{finding.name:<15}{finding.words}")
        if finding.command:
            print(f"{'':<{_INDENT}}{finding.cause}\n{'':<{_INDENT}}$ {finding.command}")
        sys.stdout.flush()
    print(f"{wrong} to mend" if wrong else "nothing to mend", file=sys.stderr)
    return 1 if wrong else 0
