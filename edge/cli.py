"""The command `edge-depth`: parses, sets up logging, runs one command, turns errors into exit codes."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from edge import __version__
from edge.commands import bench, calibrate, check, demo, discovery, doctor, export, predict, run, weights
from edge.errors import ConfigError, EdgeError
from edge.limits import LineLimit

_COMMANDS = (run, check, predict, demo, weights, export, bench, calibrate, discovery, doctor)
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="edge-depth", description="A camera daemon that sees distance.")
    parser.add_argument("--version", action="version", version=f"edge-depth {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(command=module.main)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, or the code of the error that ended it."""
    args = build_parser().parse_args(argv)
    _set_up_logging()

    from edge.pictures import bound_decoder  # here: who asks for help does not wait for NumPy

    bound_decoder()
    try:
        return int(args.command(args))
    except EdgeError as error:
        # a configuration's problems begin with file and line, as editors and people expect them
        print(error if isinstance(error, ConfigError) else f"edge-depth: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `edge-depth … | head`: whoever read has gone, and Python's own flush would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _Journal(logging.Formatter):
    """Lines for journald: the priority in front (sd-daemon(3)), no time, since journald has its own."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 5)}>{super().format(record)}"


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(LineLimit())
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_Journal("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
