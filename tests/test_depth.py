"""From a frame to the network and back: the reference transform, the engine, its threads."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import ModelSection
from edge.depth.engines.pytorch import TorchEngine
from edge.depth.midas import normalised
from edge.depth.model import DepthModel, load_model, network_pixels, network_size
from edge.depth.weights import OFFICIAL, STARTER, WeightsInfo
from edge.errors import EngineError
from edge.records import Frame
from tests import parity

# width, height of the picture -> of the network, as MiDaS' small_transform picks them
SIZES = {
    (640, 480): (256, 192),
    (1280, 720): (256, 128),
    (1920, 1080): (256, 128),
    (1640, 1232): (256, 192),
    (2304, 1296): (256, 128),
    (4608, 2592): (256, 128),
    (2028, 1520): (256, 192),
    (480, 640): (192, 256),
    (1080, 1920): (128, 256),
    (256, 256): (256, 256),
    (800, 600): (256, 192),
    (1000, 333): (256, 96),
    (333, 1000): (96, 256),
    (752, 480): (256, 160),
    (1456, 1088): (256, 192),
    (64, 48): (256, 192),
    (250, 250): (256, 256),
}


def frame(pixels):
    return Frame(sequence=1, captured_at=0.0, wall_time=datetime.now(UTC), pixels=pixels)


@pytest.mark.parametrize("size", SIZES)
def test_network_size_is_that_of_the_reference_transform(size):
    """The sizes of the usual cameras, upright and lying, are those of the reference transform."""
    assert SIZES[size] == network_size(*size)


@given(st.integers(1, 10000), st.integers(1, 10000), st.sampled_from([64, 128, 256, 384]))
def test_network_size_is_always_one_that_the_network_can_take(width, height, input_size):
    """Whatever the picture, both sides are multiples of 32 from 32 to the input size."""
    sides = network_size(width, height, input_size)
    assert all(side % 32 == 0 and 32 <= side <= input_size for side in sides)
    assert max(sides) == input_size


@pytest.mark.parametrize(("width", "height"), [(640, 480), (333, 1000), (64, 48), (1, 1)])
def test_the_input_equals_the_reference_transform(width, height):
    """Scaled to 0..1 in double precision, resized with cv2's cubic, normalised, channels first: equal to 1e-5."""
    picture = parity.picture(height, width)
    resized = cv2.resize(picture / 255.0, network_size(width, height), interpolation=cv2.INTER_CUBIC)
    expected = ((resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)[None]
    result = normalised(network_pixels(picture)).numpy()
    assert np.float32 == result.dtype
    np.testing.assert_allclose(expected, result, atol=1e-5)


def test_engine_equals_the_reference_implementation():
    """The torch engine, which has less to do, is within 1e-4 of the range of the reference implementation."""
    engine = TorchEngine(ModelSection(), OFFICIAL.architecture, parity.checkpoint())
    for (width, height), expected in parity.expected().items():
        picture = parity.picture(height, width)
        result = engine.run(picture.astype(np.float32))
        assert np.abs(expected - result[::4, ::4]).max() <= 1e-4 * np.ptp(expected)


@pytest.fixture(scope="module")
def model():
    return load_model(ModelSection(weights="starter-v2"))


@pytest.mark.parametrize("shape", [(480, 640), (1, 1), (1, 500)])
def test_a_picture_of_any_size_has_a_depth_map(model, shape):
    """A usual picture, a single pixel and a line all give a finite map at network size, named after its weights."""
    depth = model.estimate(frame(np.full((*shape, 3), 90, np.uint8)))
    assert network_size(shape[1], shape[0]) == depth.inverse_depth.shape[::-1]
    assert depth.weights == "starter-v2"
    assert not depth.inverse_depth.flags.writeable


def test_warm_up_runs_the_network(model):
    """Warming up returns the seconds of a run."""
    assert model.warm_up(640, 480) > 0


def test_what_the_weights_err_by_goes_with_their_depth():
    """The starter weights' share is known; of weights of the user's own it is the official ones'."""
    model = load_model(ModelSection(weights="starter-v2"))
    assert STARTER.depth_error == model.estimate(frame(np.zeros((48, 64, 3), np.uint8))).depth_error
    assert 0 < OFFICIAL.depth_error < STARTER.depth_error


def test_an_engine_that_returns_nonsense_is_told():
    """A map with NaN in it never becomes a reading."""

    class Broken:
        name, threads = "broken", 1

        def run(self, x):
            return np.full((32, 32), np.nan, np.float32)

    info = WeightsInfo(
        name="w",
        path=parity.DATA,
        sha256="",
        licence="",
        note="",
        architecture=OFFICIAL.architecture,
        depth_error=0.1,
    )
    with pytest.raises(EngineError, match=r"engine broken with w: .*not finite"):
        DepthModel(Broken(), info, 256).estimate(frame(np.zeros((8, 8, 3), np.uint8)))


def test_a_processor_that_is_not_there_is_told():
    """model.cpus with a processor that this process can't have names it."""
    with pytest.raises(EngineError, match=r"model\.cpus: \[1023\] can't be used; this process may use \["):
        load_model(ModelSection(cpus=(1023,)))


PINNED = """
import contextlib, json, os, pathlib, sys, threading
import numpy as np
from edge.config import ModelSection
from edge.depth.model import load_model

def cpus():
    rows = {}
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ended in between
            rows[int(task.name)] = (task / "status").read_text()
    return {t: s.split("Cpus_allowed_list:")[1].split()[0] for t, s in rows.items()}

def work():
    import torch
    before = set(cpus())
    model = load_model(ModelSection(cpus=(int(sys.argv[1]),), threads=int(sys.argv[2])))
    model.warm_up(640, 480)
    result["own"] = cpus()[threading.get_native_id()]
    result["workers"] = [c for t, c in cpus().items() if t not in before]
    result["threads"] = torch.get_num_threads(), torch.get_num_interop_threads()

result = {}
thread = threading.Thread(target=work)
thread.start()
thread.join()
result["main"] = cpus()[os.getpid()]
print(json.dumps(result))
"""


def test_threads_are_pinned():
    """The depth thread and its OpenMP workers run on `model.cpus` and nowhere else; the main thread stays free."""
    allowed = sorted(os.sched_getaffinity(0))
    cpu = str(allowed[-1])
    done = subprocess.run([sys.executable, "-c", PINNED, cpu, "2"], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert [2, 1] == result["threads"]
    assert cpu == result["own"]
    assert result["workers"]
    assert {cpu} == set(result["workers"])
    if len(allowed) > 1:
        assert cpu != result["main"]
