"""One check, in a process of its own: `python -m edge.doctor CHECK [CONFIG]`; `edge.doctor.apart` starts it.

Prints what is well in one line on standard output and ends with 0, or an error's message as the last line on standard
error.
"""

import getpass
import os
import sys
import time
from pathlib import Path

from edge.camera import open_camera
from edge.config import Config, load
from edge.depth.engines.onnx import onnx_runtime
from edge.errors import CameraError, EdgeError
from edge.publish.mqtt import Visitor
from edge.topics import Topics, machine_id

_BROKER_SECONDS = 12.0
_LOOK_SECONDS = 0.05
_BLACK = 8  # of 255; a covered lens and the noise of its sensor


def _torch(_: Config) -> str:
    import torch

    pixels = torch.ones(1, 3, 64, 64)
    torch.nn.functional.conv2d(pixels, torch.ones(8, 3, 3, 3)).sum().item()
    return f"torch {torch.__version__} computes"


def _onnxruntime(_: Config) -> str:
    return f"onnxruntime {onnx_runtime().__version__} loads"


def _network(config: Config) -> str:
    from edge.depth.model import load_model

    model = load_model(config.model)
    width, height = config.camera.size
    seconds = model.warm_up(width, height)
    return (
        f"{model.weights.name} on {model.engine.name}, {model.engine.threads} threads: {seconds * 1000:.0f} ms a frame"
    )


def _camera(config: Config) -> str:
    section = config.camera
    try:
        camera = open_camera(section)
        camera.open()
        try:
            pixels = camera.read().pixels
        finally:
            camera.close()
    except CameraError as error:
        raise CameraError(f"{_local_problem(section.source)}{error}") from error
    height, width = pixels.shape[:2]
    dark = ", but the picture is black" if pixels.mean() < _BLACK else ""
    return f"{section.safe_source} delivers {width}x{height}{dark}"


def _local_problem(source: str) -> str:
    """Say what is wrong with the files of a camera of this machine, or nothing."""
    if source.startswith("/dev/"):
        there = [Path(source)]
        if not there[0].exists():
            return f"there is no {source}; there are {sorted(map(str, Path('/dev').glob('video*'))) or 'none'}: "
    elif source.startswith("picamera2"):
        there = sorted(path for pattern in ("video*", "media*") for path in Path("/dev").glob(pattern))
    else:
        return ""
    shut = [str(path) for path in there if not os.access(path, os.R_OK | os.W_OK)]
    return f"{getpass.getuser()} is not allowed to open {', '.join(shut)}: " if shut else ""


def _broker(config: Config) -> str:
    """Connect and subscribe as the daemon does, and publish nothing that stays.

    Raises:
        EdgeError: with the reason in words.
    """
    topics = Topics(config.mqtt.base_topic, config.id or machine_id())
    visitor = Visitor(config.mqtt, topics, "doctor", topics.filters)
    begun = visitor.problem
    visitor.start()
    deadline = time.monotonic() + _BROKER_SECONDS
    while visitor.problem == begun and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    while visitor.connected and visitor.problem is None and not visitor.published and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    problem = visitor.problem
    visitor.stop()
    if problem:
        raise EdgeError(problem)
    return f"{config.mqtt.host}:{config.mqtt.port} accepts {config.mqtt.username or 'this client'}"


CHECKS = {"torch": _torch, "onnxruntime": _onnxruntime, "network": _network, "camera": _camera, "broker": _broker}


def main(check: str, path: str | None = None) -> int:
    """Run one check; return 0, or the code of the error that it met."""
    try:
        words = CHECKS[check](load(path) if path else Config())
    except EdgeError as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # noqa: T201 - the parent reads it
        return error.exit_code
    print(words)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
