"""Run the daemon."""

import argparse
import atexit
import logging
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edge.errors import ConfigError, EdgeError, ThreadStuck

if TYPE_CHECKING:
    from edge.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="the configuration (see config/edge-depth.yaml)"
    )


def main(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT, then end the process with 0."""
    hung_up: deque[int] = deque(maxlen=1)
    signal.signal(signal.SIGHUP, lambda number, _: hung_up.append(number))  # from here on it is not deadly

    from edge.config import load, service_state, state_directory
    from edge.pictures import bound_decoder
    from edge.system.owner import become_owner

    config = load(args.config)
    logging.getLogger().setLevel(config.log.level.upper())
    bound_decoder(_most_pixels(config))
    if state := service_state(Path(args.config)):  # run by hand, it goes on where the service does
        os.environ.setdefault("STATE_DIRECTORY", str(state))
    become_owner(state_directory())

    from edge.daemon import Daemon  # here: a bad file is told before torch is waited for
    from edge.state.place import place_of

    place = place_of(args.config, config)
    if not place.hold():
        raise ConfigError(
            f"{place.folder}: another daemon keeps its state here; give each camera a configuration,"
            " and as a service or in a container a state folder, of its own"
        )
    daemon = Daemon(config, place=place, read_file=lambda: load(args.config), hung_up=hung_up)
    try:
        daemon.run()
        # A new process keeps this, but no handler; it reads the file anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    except EdgeError as error:
        if not (isinstance(error, ThreadStuck) or daemon.lingers):
            raise
        logging.getLogger(__name__).critical("%s", error)
        _leave(error.exit_code)
    if daemon.restart_wanted:  # the same process for systemd, but with memory, threads and drivers as new
        sys.stderr.flush()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - what was started, once more
    _leave(0)


def _most_pixels(config: "Config") -> int:
    """Return how many pixels a picture may have that comes as a file: who only watches a camera gets uploads alone."""
    from edge.config import STREAM
    from edge.pictures import MAX_PIXELS

    live = STREAM.match(config.camera.source) or config.camera.source.startswith(("picamera2", "/dev/"))
    return config.web.upload_pixels if live else MAX_PIXELS


def _leave(status: int) -> NoReturn:
    """End the process as it is: all is written and closed.

    Python takes seconds of computing to tear torch down, and can't around a thread that foreign code still holds.
    """
    if not status:
        atexit._run_exitfuncs()  # libraries take away their temporary files
    logging.shutdown()
    os._exit(status)
