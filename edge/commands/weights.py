"""Fetch, import, list or verify weights."""

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edge.errors import WeightsError

if TYPE_CHECKING:
    from edge.depth.weights import WeightsFacts

_NAME_HELP = "a name of your own for weights that are not the official file, for model.weights"
_BAR = 30
_REFRESH_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    actions.add_parser("list", help="what is known: name, whether it is there, hash, licence, source")
    fetch = actions.add_parser("fetch", help="download the official weights and import them")
    fetch.add_argument("--url", help="a mirror of midas_v21_small_256.pt")
    fetch.add_argument("--name", help=_NAME_HELP)
    fetch.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="to connect, and between two packets (30)"
    )
    bring = actions.add_parser("import", help="convert a checkpoint that you carried over")
    bring.add_argument("file", type=Path, metavar="FILE", help="midas_v21_small_256.pt")
    bring.add_argument("--name", help=_NAME_HELP)
    verify = actions.add_parser("verify", help="read and check a weights file; no FILE: those that `auto` means")
    verify.add_argument("file", nargs="?", default="auto", metavar="FILE", help="a path or a known name")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be seconds, more than 0 and at most 3600, not {text!r}")
    return seconds


def main(args: argparse.Namespace) -> int:
    """Do what was asked; return 0, or raise WeightsError (78)."""
    from edge.config import state_directory
    from edge.system.owner import become_owner

    with ExitStack() as stack:
        carried = _carried(args)  # with the rights of who asked, whose file it is
        file = stack.enter_context(carried) if carried else None
        become_owner(state_directory())
        match args.action:
            case "list":
                return _list()
            case "fetch":
                return _fetch(args)
            case "import":
                return _import(args.file, args.name, file)
        return _verify_checkpoint(Path(args.file), file) if file else _verify(args.file)


def _carried(args: argparse.Namespace) -> IO[bytes] | None:
    """Return the checkpoint that was named, opened; None where none was."""
    from edge.depth.weights import open_foreign

    named = args.action == "import" or (args.action == "verify" and not args.file.endswith(".safetensors"))
    if not named or (args.action == "verify" and not Path(args.file).is_file()):
        return None
    return open_foreign(Path(args.file))


def _list() -> int:
    from edge.depth.weights import REGISTRY, imported

    for facts in REGISTRY:
        shape = facts.architecture
        print(f"{facts.name}")
        _list_hashes(facts)
        print(f"  licence  {facts.licence}")
        print(f"  network  {shape.encoder}, decoder {shape.features}{' expanding' if shape.expand else ''}")
        print(f"  source   {facts.source}")
        for url in facts.urls:
            print(f"           {url}")
        if facts.note:
            print(f"  note     {facts.note}")
    for path in imported():
        print(f"{path.stem}\n  file     {path}\n  sha256   {_original(path)}\n  licence  unknown")
    return 0


def _list_hashes(facts: "WeightsFacts") -> None:
    from edge.depth.weights import path_of

    path = path_of(facts)
    digits = facts.sha256 if len(facts.sha256) == 64 else f"{facts.sha256}… (only its beginning is known)"
    print(f"  file     {path if path.exists() else f'not here (would be {path})'}\n  sha256   {digits}")
    if facts.urls and path.exists():
        print(f"  here is  {_original(path)}")


def _original(path: Path) -> str:
    """Return the hash of the file that was imported, or what is wrong with the one that came of it."""
    from edge.depth.weights import original_of

    try:
        return original_of(path) or "unknown"
    except WeightsError as error:
        return f"can't be read: {error}"


def _fetch(args: argparse.Namespace) -> int:
    from edge.config import shown_address
    from edge.depth.weights import OFFICIAL, Limits, directory, download, named_path, path_of

    target = named_path(args.name) if args.name else path_of(OFFICIAL)
    if target.exists():
        print(f"{target}: is there already; delete it to fetch it again")
        return 0
    urls = (args.url,) if args.url else OFFICIAL.urls
    for number, url in enumerate(urls, 1):
        checkpoint = directory() / f"fetched-{number}.pt"  # a part of one is no part of the other
        try:
            print(f"fetching from {shown_address(url)}", file=sys.stderr)
            with _Progress() as progress:
                download(url, checkpoint, progress, Limits(timeout_seconds=args.timeout))
            _import_fetched(checkpoint, url, args.name)
        except WeightsError as error:
            if number == len(urls):
                raise
            print(f"edge-depth: {error}; next address", file=sys.stderr)
        else:
            return 0
    return 0


def _import_fetched(checkpoint: Path, url: str, name: str | None) -> None:
    """Import what was fetched and delete it: what is good is in the new file, what is not is of no use."""
    from edge.config import shown_address

    try:
        _import(checkpoint, name)
    except WeightsError as error:
        raise WeightsError(f"{shown_address(url)}: what was fetched can't be used. {error}") from error
    finally:
        checkpoint.unlink()


def _import(path: Path, name: str | None, file: IO[bytes] | None = None) -> int:
    from edge.depth.export import import_checkpoint
    from edge.depth.weights import OFFICIAL

    print(f"checking {path}; takes a few seconds", file=sys.stderr)
    made = import_checkpoint(path, name, file)
    print(f"{made.path}: imported as {name or OFFICIAL.name}, {made.path.stat().st_size / 1e6:.1f} MB")
    print(f"sha256 of the original: {made.original_sha256}")
    print(f"output differs from the original's by {made.error:.3%} of its range at most")
    print(f"model.weights: {name or 'auto'} takes it")
    return 0


def _verify(setting: str) -> int:
    from edge.depth.midas import build
    from edge.depth.weights import load

    info, arrays = load(setting)
    try:
        build(info.architecture, arrays)
    except WeightsError as error:
        raise WeightsError(f"{info.path}: {error}") from error
    print(f"{info.path}: fits {info.architecture.encoder}, every value finite; sha256 {info.sha256}")
    if info.original_sha256:
        print(f"sha256 of the original: {info.original_sha256}")
    if info.note:
        print(f"note: {info.note}")
    return 0


def _verify_checkpoint(path: Path, file: IO[bytes]) -> int:
    from edge.depth.export import read_official
    from edge.depth.weights import OFFICIAL

    checkpoint = read_official(path, file)
    whose = OFFICIAL.name if checkpoint.official else f"not the published {OFFICIAL.name}, but of its format"
    print(f"{path}: fits {OFFICIAL.architecture.encoder}, every value finite; sha256 {checkpoint.sha256}: {whose}")
    name = "" if checkpoint.official else " --name NAME"
    print(f"to use it: edge-depth weights import {path}{name}")
    return 0


class _Progress:
    """A bar on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started
        self._first: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._first is None or done < self._first:
            self._first = done
        if not self._shown or (now < self._next and done != total):
            return
        self._next = now + _REFRESH_SECONDS
        rate = (done - self._first) / max(now - self._started, 1e-3)
        print(f"\r{_bar(done, total, rate):<78}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(f"\r{'':<78}", end="\r", file=sys.stderr, flush=True)


def _bar(done: int, total: int | None, rate: float) -> str:
    """Return one line: the bar, how much is here, how fast it comes, how long it will take."""
    if not total:
        return f"{done / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
    left = f"{(total - done) / rate:.0f} s" if rate else "?"
    bar = "#" * (_BAR * done // total)
    return f"[{bar:<{_BAR}}] {done / 1e6:.1f}/{total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {left} left"
