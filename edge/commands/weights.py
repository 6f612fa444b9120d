"""List the known weights, or verify a weights file."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    actions.add_parser("list", help="what is known: name, whether it is there, hash, licence, source")
    verify = actions.add_parser("verify", help="read and check a weights file; no FILE: those that `auto` means")
    verify.add_argument("file", nargs="?", default="auto", metavar="FILE", help="a path or a known name")


def main(args: argparse.Namespace) -> int:
    """List or verify; return 0, or raise WeightsError (78)."""
    return _list() if args.action == "list" else _verify(args.file)


def _list() -> int:
    from edge.weights import REGISTRY, path_of

    for facts in REGISTRY:
        path = path_of(facts)
        here = str(path) if path.exists() else f"not here (would be {path})"
        digits = facts.sha256 if len(facts.sha256) == 64 else f"{facts.sha256}… (only its beginning is known)"
        shape = facts.architecture
        print(f"{facts.name}\n  file     {here}\n  sha256   {digits}\n  licence  {facts.licence}")
        print(f"  network  {shape.encoder}, decoder {shape.features}{' expanding' if shape.expand else ''}")
        print(f"  source   {facts.source}" + (f"\n  note     {facts.note}" if facts.note else ""))
    return 0


def _verify(setting: str) -> int:
    from edge.network import build
    from edge.weights import load

    info, arrays = load(setting)
    build(info.architecture, arrays)
    print(f"{info.path}: fits {info.architecture.encoder}, every value finite; sha256 {info.sha256}")
    if info.note:
        print(f"note: {info.note}")
    return 0
