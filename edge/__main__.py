"""The program `edge-depth`, also as `python -m edge`."""

import signal
import sys


def main() -> int:
    """Run the command line; return the exit status."""
    if sys.argv[1:2] == ["run"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # before anything that takes time; the command then listens to it
    from edge.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
