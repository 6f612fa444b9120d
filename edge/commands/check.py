"""Check a configuration file."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="the configuration")
    parser.add_argument("--print", action="store_true", help="print the effective configuration, secrets masked")


def main(args: argparse.Namespace) -> int:
    """Print every problem on standard error and return 78, or return 0."""
    from edge.config import dump
    from edge.daemon.overlay import in_force

    overlay = in_force(args.file)
    config = overlay.config
    for warning in config.warnings:
        print(f"{args.file}: warning: {warning}", file=sys.stderr)
    if args.print and overlay.values:
        print(f"# Set while running, and in force in place of what {args.file} says: {', '.join(overlay.values)}")
    print(dump(config) if args.print else f"{args.file}: no problems found", end="" if args.print else "\n")
    return 0
