"""Measure the engines on this machine: times, memory, agreement with float32 torch.

`plain` is the published network in eager float32 torch, as anybody would run it first; the others are held against it.
Each engine runs in a process of its own.
"""

import argparse
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.config import ModelSection
    from edge.depth.export import Measured

_ENGINES = ("plain", "torch", "torchscript", "onnxruntime", "onnxruntime-int8")
_COLUMNS = (
    f"{'engine':<18}{'threads':>8}{'size':>9}{'median ms':>11}{'p95 ms':>8}{'cpu ms':>8}{'fps':>7}{'x plain':>9}"
    f"{'RSS MB':>8}{'start s':>9}{'delta1':>8}{'residual':>10}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--weights", default="auto", metavar="FILE", help="a weights file, or a known name (auto)")
    parser.add_argument("--engines", type=_engines, default=_ENGINES, metavar="LIST", help=", ".join(_ENGINES))
    parser.add_argument(
        "--threads", type=_numbers, metavar="LIST", help="numbers of threads, as 1,2,4 (one a processor, 4 at most)"
    )
    parser.add_argument("--sizes", type=_numbers, default=(256,), metavar="LIST", help="model.input_size (256)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each is measured (5)")
    parser.add_argument("--rounds", type=int, default=1, help="how often; the least disturbed counts (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and no table")


def _engines(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in _ENGINES:
            raise argparse.ArgumentTypeError(f"must be out of {', '.join(_ENGINES)}, not {name!r}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers, as 1,2,4, not {text!r}") from None


def main(args: argparse.Namespace) -> int:
    """Measure and print; return 0, or 70 where nothing could be measured."""
    from edge.config import state_directory
    from edge.depth.engines import folder_of
    from edge.errors import EngineError
    from edge.system.owner import become_owner

    become_owner(state_directory())

    from edge.depth.weights import identify

    info = identify(args.weights)
    sections = _sections(args)
    rows: list[Measured] = []
    left_out: dict[str, str] = {}
    for section in sections:
        found = _measure(section, args, left_out)
        if not args.json:
            _print(found)
        rows += found
    if not rows:
        raise EngineError("no engine could be measured: " + "; ".join(left_out.values()))
    machine, foreign = _machine(), folder_of(info).foreign()
    if args.json:
        document = {"machine": machine, "weights": info.name, "sha256": info.sha256, "left_out": left_out}
        print(json.dumps(document | {"foreign": foreign, "rows": [asdict(row) for row in rows]}, indent=1))
        return 0
    if foreign:
        print(foreign)
    for name, reason in left_out.items():
        print(f"{name}: left out: {reason}")
    print(f"\nFor the table of machines in scripts/README.md:\n{_row(machine, info.name, rows)}")
    return 0


def _sections(args: argparse.Namespace) -> "list[ModelSection]":
    """Return what is to be measured, one section for each size and number of threads.

    Raises:
        ConfigError: a size or a number of threads is out of range.
    """
    from edge.config import ModelSection
    from edge.errors import ConfigError

    try:
        return [
            ModelSection(weights=args.weights, input_size=size, threads=threads)
            for size in args.sizes
            for threads in args.threads or (None,)
        ]
    except ValueError as error:
        raise ConfigError(
            "--sizes: must be multiples of 32 from 64 to 512; --threads: must be 1..64; "
            f"not {args.sizes} and {args.threads}"
        ) from error


def _measure(section: "ModelSection", args: argparse.Namespace, left_out: dict[str, str]) -> "list[Measured]":
    """Return the least disturbed measurement of each engine; `left_out` gets those that can't be measured."""
    from edge.depth.export import Measured, measured
    from edge.depth.model import network_size

    best: dict[str, Measured] = {}
    names = [name for name in args.engines if name not in left_out]
    size = network_size(640, 480, section.input_size)
    for _ in range(args.rounds):
        for name, found in zip(names, measured(section, names, size, args.seconds), strict=True):
            if isinstance(found, str):
                left_out[name] = found
            elif name not in best or found.median_ms < best[name].median_ms:
                best[name] = found
    return list(best.values())


def _print(rows: "list[Measured]") -> None:
    plain = next((row.median_ms for row in rows if row.engine == "plain"), None)
    print(_COLUMNS)
    for row in rows:
        ratio = f"{plain / row.median_ms:.2f}" if plain else "-"
        held = f"{'-':>8}{'-':>10}" if row.delta1 is None else f"{row.delta1:>8.4f}{row.residual:>10.2%}"
        print(
            f"{row.engine:<18}{row.threads:>8}{'x'.join(map(str, row.size)):>9}{row.median_ms:>11.1f}{row.p95_ms:>8.1f}"
            f"{row.cpu_ms:>8.1f}{1000 / row.median_ms:>7.1f}{ratio:>9}{row.rss_mb:>8.0f}{row.start_s:>9.1f}{held}"
            + ("  refused: not accurate enough" if row.accepted is False else ""),
            flush=True,
        )


def _machine() -> dict[str, Any]:
    import platform

    from edge.system import machine

    return {
        "name": machine.machine_name(),
        "processor": machine.processor(),
        "processors": len(os.sched_getaffinity(0)),
        "int8_dot_product": machine.has_int8_dot_product(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _row(machine: dict[str, Any], weights: str, rows: "list[Measured]") -> str:
    """Return a line of Markdown: machine, weights, size, plain's time, and the fastest accurate engine's."""
    from edge.depth.export import fastest

    first = [row for row in rows if (row.size, row.threads) == (rows[0].size, rows[0].threads)]
    name = fastest([row for row in first if row.engine != "plain"])
    best = next((row for row in first if row.engine == name), first[0])
    plain = next((f"{row.median_ms:.0f} ms" for row in first if row.engine == "plain"), "-")
    size, threads = "x".join(map(str, best.size)), "1 thread" if best.threads == 1 else f"{best.threads} threads"
    return (
        f"| {machine['name']}, {machine['processor']} | {weights} | {size}, {threads} | {plain} "
        f"| {best.engine} {best.median_ms:.0f} ms | {best.rss_mb:.0f} MB |"
    )
