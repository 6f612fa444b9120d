"""Run the daemon."""

import argparse
import logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="the configuration (see config/edge-depth.yaml)"
    )


def main(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; return 0."""
    from edge.config import load

    config = load(args.config)
    logging.getLogger().setLevel(config.log.level.upper())

    from edge.daemon import Daemon  # here: a bad file is told before torch is waited for

    Daemon(config).run()
    return 0
