"""Make the files of the faster engines for some weights, each verified against float32 torch.

int8 is calibrated with photographs that come with edge-depth; pictures of your own camera may make it more accurate.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import PictureError

if TYPE_CHECKING:
    from edge.records import Bytes

_FEWEST = 6  # pictures, of which a third verifies
_MOST = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--weights", default="auto", metavar="FILE", help="a weights file, or a known name (auto)")
    parser.add_argument("--again", action="store_true", help="make them anew where they are there")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--pictures", type=Path, metavar="DIR", help="calibrate int8 with these too, and verify by them"
    )
    source.add_argument(
        "--from-camera", metavar="CONFIG", help="likewise with frames of that configuration's camera, for --seconds"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the camera is watched (60)")


def main(args: argparse.Namespace) -> int:
    """Make the files; return 0."""
    from edge.config import ModelSection, state_directory
    from edge.system.owner import become_owner

    become_owner(state_directory())

    from edge.depth.export import Samples, export, photographs, samples_of
    from edge.depth.weights import identify

    info = identify(args.weights)
    samples, source = samples_of(photographs()), "photographs"
    own: list[Bytes] = []
    if args.pictures:
        own, source = photographs(args.pictures), "pictures"
    elif args.from_camera:
        own, source = _watch(args.from_camera, args.seconds), "camera"
    if source != "photographs":
        if len(own) < _FEWEST:
            raise PictureError(f"{len(own)} pictures are too few to calibrate with; {_FEWEST} are needed")
        found = samples_of(own[:_MOST])
        samples = Samples(calibrating=samples.calibrating + found.calibrating, verifying=found.verifying)
    started = time.monotonic()
    files = export(
        ModelSection(weights=args.weights),
        info,
        samples,
        source,
        lambda words: print(f"{time.monotonic() - started:6.1f} s  {words}", file=sys.stderr, flush=True),
        again=args.again or bool(own),
    )
    print(f"{files.folder}: engine files for {info.name}; `model.engine: auto` measures them at the next start")
    return 0


def _watch(config: str, seconds: float) -> "list[Bytes]":
    """Return frames of a configured camera, spread over some seconds; what was set over the file holds, as masks do.

    Raises:
        ConfigError: its pixels are withheld.
        CameraError: it can't be opened, or delivers nothing.
    """
    from edge.camera import EndOfCamera, open_camera
    from edge.daemon.overlay import in_force

    overlay = in_force(config)
    overlay.check_pixels()
    camera = open_camera(overlay.config.camera)
    print(f"watching {camera.name} for {seconds:.0f} s", file=sys.stderr)
    frames: list[Bytes] = []
    camera.open()
    try:
        overlay.check_pixels(camera.view)
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            frame = camera.read()
            if time.monotonic() - started >= len(frames) * seconds / _MOST:
                frames.append(frame.pixels)
    except EndOfCamera:
        pass  # a file: what it held is what there is
    finally:
        camera.close()
    return frames
