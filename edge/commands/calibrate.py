"""Turn points measured with a tape, or a level floor, into metres.

Learns the background, fits 1/Z = a * nearness + b, and prints the fit with the `calibration:` section to paste.
"""

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import CameraError, ConfigError

if TYPE_CHECKING:
    from edge.camera import Camera
    from edge.config import CalibrationSection, Config, PointSection
    from edge.daemon.overlay import Overlay
    from edge.records import Bytes, Frame
    from edge.scene import StillScene
    from edge.scene.alignment import Doubles
    from edge.scene.metres import Calibration
    from edge.scene.reference import Reference

_ATTEMPTS = 3  # times `scene.learn_seconds`, in which a view must have been learned
_EXPECTED_METRES = (1.0, 2.0, 4.0)
_SNAPSHOT_PX = 800  # the width of each half
_GRID = 10
_INSTRUCTIONS = """\
Measure some static places with a tape, from the lens, near ones and far ones; three or more give an uncertainty.
{path} shows the picture and its depth with a grid in fractions of the frame. It stays on this machine.
A place a line: x y metres, such as 0.25 0.9 1.2; an empty line ends."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    camera = parser.add_mutually_exclusive_group(required=True)
    camera.add_argument("--config", metavar="FILE", help="the configuration: camera, model and scene are taken from it")
    camera.add_argument(
        "--camera",
        metavar="SOURCE",
        help="picamera2, /dev/videoN, rtsp://…, a video file or a folder; others on this machine see an argument, so a"
        " password goes into a FILE",
    )
    parser.add_argument(
        "--fov", type=float, metavar="DEG", help="the horizontal field of view, in place of the configuration's"
    )
    parser.add_argument(
        "--points", type=Path, metavar="FILE", help="a YAML list of {x, y, metres}; none: asks for them"
    )
    parser.add_argument(
        "--floor", type=_pair, metavar="H,T", help="the camera's height in metres and its tilt downwards in degrees"
    )
    parser.add_argument("--polygon", type=_pair, nargs="+", metavar="X,Y", help="where the floor is to be seen")
    parser.add_argument(
        "--snapshot",
        type=Path,
        default=Path("calibration.jpg"),
        metavar="FILE",
        help="the picture to point at (%(default)s)",
    )


def _pair(text: str) -> tuple[float, float]:
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers and a comma, such as 0.5,0.9, not {text!r}") from None
    return first, second


def main(args: argparse.Namespace) -> int:
    """Calibrate and print; return 0."""
    overlay = _overlay(args)
    config = _configuration(args, overlay.config if overlay else _checked({"camera.source": args.camera}))
    section = config.calibration
    scene, reference, frame = _learn(config, overlay)
    if not section.given:
        _write_snapshot(args.snapshot, frame.pixels, reference.median)
        print(_INSTRUCTIONS.format(path=args.snapshot.resolve()), file=sys.stderr)
        section = section.model_copy(update={"points": _asked_points()})
    calibration = scene.fit(section)
    if calibration is None:
        raise ConfigError("calibration.points: none given; type two or more, or give --points or --floor")
    _report(calibration, section, reference, config.scene.horizontal_fov_deg)
    return 0


def _overlay(args: argparse.Namespace) -> "Overlay | None":
    """Return what is in force for the configuration's file; a camera that is named alone has none.

    Raises:
        ConfigError: with every problem of the file, or because its camera's pixels are withheld.
    """
    from edge.daemon.overlay import in_force

    if not args.config:
        return None
    overlay = in_force(args.config)
    overlay.check_pixels()
    return overlay


def _configuration(args: argparse.Namespace, config: "Config") -> "Config":
    """Return a configuration with what the command line says in place of its own calibration.

    Raises:
        ConfigError: with every problem of the arguments.
    """
    if config.scene.mode != "still":
        raise ConfigError(
            "scene.mode: must be still for a calibration: a camera that moves has no background to fit to"
        )
    fov_deg = config.scene.horizontal_fov_deg if args.fov is None else args.fov
    stated = _checked({"scene.horizontal_fov_deg": fov_deg, "calibration.floor": _floor_given(args)})
    points = _read_points(args.points) if args.points else ()
    calibration = config.calibration.model_copy(update={"points": points, "floor": stated.calibration.floor})
    scene = config.scene.model_copy(update={"horizontal_fov_deg": stated.scene.horizontal_fov_deg})
    return config.model_copy(update={"scene": scene, "calibration": calibration})


def _floor_given(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return what is given of the floor, null when nothing is; what is missing is told when it is checked."""
    given: dict[str, Any] = {}
    if args.floor:
        given["height_metres"], given["tilt_deg"] = args.floor
    if args.polygon:
        given["polygon"] = [list(corner) for corner in args.polygon]
    return given or None


def _checked(values: dict[str, Any]) -> "Config":
    """Return values from the command line or the terminal, by their keys, in a checked configuration.

    Raises:
        ConfigError: with every problem, without a line: there is no file.
    """
    from edge.config import Config, changed

    return changed(Config(), values)


def _read_points(path: Path) -> "tuple[PointSection, ...]":
    """Return the points of a YAML list.

    Raises:
        ConfigError: with every problem of the file, each with its line.
    """
    from edge.config import parse_points

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    points = parse_points(data, str(path))
    if not points:
        raise ConfigError(
            f"{path}: holds no point; must be a YAML list of two or more, such as - {{x: 0.5, y: 0.9, metres: 1.2}}"
        )
    return points


def _asked_points() -> "tuple[PointSection, ...]":
    """Return the points that are typed; a line that can't be used is told and asked for again."""
    points: tuple[PointSection, ...] = ()
    while True:
        print(f"place {len(points) + 1}: ", end="", file=sys.stderr, flush=True)
        words = sys.stdin.readline().replace(",", " ").split()
        if not words:
            return points
        try:
            x, y, metres = map(float, words)
            points += _checked({"calibration.points": [{"x": x, "y": y, "metres": metres}]}).calibration.points
        except ConfigError as error:
            print(error, file=sys.stderr)
        except ValueError:
            print("must be three numbers: x y metres, such as 0.25 0.9 1.2", file=sys.stderr)


def _learn(config: "Config", overlay: "Overlay | None") -> "tuple[StillScene, Reference, Frame]":
    """Return the scene with the background that it has learned, and the last frame.

    Raises:
        ConfigError: the camera's pixels are withheld.
        CameraError: there is no camera, or it shows nothing that can be learned.
    """
    from edge.camera import open_camera
    from edge.depth.model import load_model
    from edge.scene import StillScene

    seconds = config.scene.learn_seconds
    scene = StillScene(config.scene, ())
    with closing(open_camera(config.camera)) as camera:
        _open(camera, config.camera.source)
        if overlay:
            overlay.check_pixels(camera.view)
        model = load_model(config.model)
        print(f"learning the background for {seconds:g} s: keep the view still …", file=sys.stderr)
        ends_at = time.monotonic() + _ATTEMPTS * seconds
        while True:
            frame = camera.read()
            result = scene.update(model.estimate(frame))
            if scene.reference is not None:
                return scene, scene.reference, frame
            # without progress there is nothing to learn from, or an attempt has just failed
            if time.monotonic() > ends_at and result.progress is None:
                raise CameraError(f"{camera.name}: the background could not be learned: {result.reason}")


def _open(camera: "Camera", source: str) -> None:
    try:
        camera.open()
    except CameraError as error:
        hint = "; the daemon, where it runs, holds the camera: sudo systemctl stop edge-depth"
        raise CameraError(f"{error}{hint if source.startswith(('picamera2', '/dev/')) else ''}") from error


def _write_snapshot(path: Path, pixels: "Bytes", median: "Doubles") -> None:
    """Write the picture beside its depth, both with a grid; only this user may read it.

    Raises:
        ConfigError: it can't be written.
    """
    import cv2
    import numpy as np

    from edge.publish import heatmap

    size = (_SNAPSHOT_PX, round(_SNAPSHOT_PX * pixels.shape[0] / pixels.shape[1]))
    depth = heatmap.colour(heatmap.normalise(median.astype(np.float32), 0.0, 1.0), "inferno")
    halves = [np.asarray(cv2.resize(half, size), np.uint8) for half in (pixels, depth)]
    for half in halves:
        _draw_grid(half)
    try:
        path.touch(mode=0o600)
        path.write_bytes(heatmap.encode_jpeg(np.hstack(halves), 90))
    except OSError as error:
        raise ConfigError(f"--snapshot: can't write {path}: {error.strerror}; name another file") from error


def _draw_grid(picture: "Bytes") -> None:
    """Draw lines at every tenth of the frame, with their fractions, on uint8 (H, W, 3)."""
    import cv2

    height, width = picture.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    for step in range(1, _GRID):
        x, y = round(width * step / _GRID), round(height * step / _GRID)
        cv2.line(picture, (x, 0), (x, height), (255, 255, 255), 1)
        cv2.line(picture, (0, y), (width, y), (255, 255, 255), 1)
        for place in ((x + 3, 14), (3, y - 4)):
            for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(picture, f"{step / _GRID:g}", place, font, 0.45, colour, thickness, cv2.LINE_AA)


def _report(
    calibration: "Calibration", section: "CalibrationSection", reference: "Reference", fov_deg: float | None
) -> None:
    """Print the fit as comments and the section below them: all of it is YAML that can be pasted."""
    import yaml

    print(f"# 1/Z = {calibration.a:.4f} * nearness {calibration.b:+.4f}, in 1/m")
    if fov_deg is None:
        print("# Distances are as measured; with scene.horizontal_fov_deg they would be told along each ray.")
    else:
        print(f"# Distances are along the ray; needs scene.horizontal_fov_deg: {fov_deg:g}")
    _print_points(calibration, section, reference)
    _print_errors(calibration, reference)
    values = section.model_dump(mode="json", exclude_defaults=True)
    print(yaml.safe_dump({"calibration": values}, sort_keys=False, default_flow_style=None), end="")


def _print_points(calibration: "Calibration", section: "CalibrationSection", reference: "Reference") -> None:
    from edge.scene.metres import read_points

    if section.points:
        print("#     x      y  metres    read  difference")
    reads = read_points(calibration, section.points, reference.median, reference.sigma)
    for point, read in zip(section.points, (metres.distance_m for metres in reads), strict=True):
        shown = "    far           -" if read is None else f"{read:7.2f}  {read - point.metres:+10.2f}"
        print(f"# {point.x:.3f}  {point.y:.3f}  {point.metres:6.2f} {shown}")


def _print_errors(calibration: "Calibration", reference: "Reference") -> None:
    import numpy as np

    if calibration.residual is None:
        print("# residual and expected errors are not known from two points: measure a third")
        return
    noise = float(np.median(reference.sigma))
    print(f"# residual {calibration.residual:.4f} 1/m; expected error in the middle of the picture:")
    for metres in _EXPECTED_METRES:
        found = calibration.measure((1 / metres - calibration.b) / calibration.a, noise, 0.5, 0.5)
        nearer = ", nearer than every place measured" if found.extrapolated else ""
        if found.uncertainty_m is not None:
            print(f"#   {found.uncertainty_m:.2f} m at {metres:g} m{nearer}")
