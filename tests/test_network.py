"""The network is MiDaS small, parameter for parameter."""

import numpy as np
import pytest
import torch

from edge.depth.midas import MidasSmall, Serving, build, fold_batch_norm, normalised
from edge.depth.weights import ENCODERS, OFFICIAL, STARTER, load
from edge.errors import WeightsError
from edge.records import Architecture
from tests import parity


@pytest.fixture(scope="module")
def checkpoint():
    return parity.checkpoint()


@pytest.fixture(scope="module")
def network(checkpoint):
    return build(OFFICIAL.architecture, checkpoint)


def run(network, width, height):
    with torch.inference_mode():
        return network(normalised(parity.picture(height, width).astype(np.float32)))[0].numpy()


@pytest.mark.parametrize("size", parity.expected())
def test_output_equals_the_reference_implementation(network, size):
    """With the same weights and input every output is within 1e-4 of the range of the reference implementation's."""
    expected = parity.expected()[size]
    result = run(network, *size)
    assert (size[1], size[0]) == result.shape
    assert np.abs(expected - result[::4, ::4]).max() <= 1e-4 * np.ptp(expected)


def test_folding_batch_norm_keeps_the_output(checkpoint):
    """Folding removes every batch norm and changes the output by less than 1e-4 of its range."""
    folded = fold_batch_norm(build(OFFICIAL.architecture, checkpoint))
    assert not [name for name, module in folded.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    expected = parity.expected()[256, 128]
    assert np.abs(expected - run(folded, 256, 128)[::4, ::4]).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("name", ["official", STARTER.name])
def test_the_network_with_less_to_do_says_the_same(checkpoint, name):
    """Folded, scaled and padded plainly, its output is within 1e-4 of the plain network's range, at any size."""
    architecture, arrays = OFFICIAL.architecture, checkpoint
    if name == STARTER.name:
        info, arrays = load(name)
        architecture = info.architecture
    plain, serving = build(architecture, arrays), Serving(build(architecture, arrays))
    assert not [each for each in serving.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for width, height in ((256, 192), (128, 160), (32, 32)):
        pixels = torch.from_numpy(parity.picture(height, width)[None].astype(np.float32))
        with torch.inference_mode():
            expected, result = run(plain, width, height), serving(pixels).numpy()
        assert np.abs(expected - result).max() <= 1e-4 * np.ptp(expected)


def test_output_is_never_negative(network):
    """The last layer is a ReLU: relative inverse depth is never below 0."""
    assert run(network, 128, 128).min() >= 0


def test_the_unused_unit_may_be_missing(checkpoint):
    """A file without the residual unit that the network never runs loads."""
    kept = {key: value for key, value in checkpoint.items() if "refinenet4.resConfUnit1" not in key}
    assert len(checkpoint) - len(kept) == 4
    assert build(OFFICIAL.architecture, kept)


def test_another_encoder_and_width_are_parameters():
    """The starter's smaller encoder and narrower decoder run in the same class, at any size in multiples of 32."""
    info, arrays = load(STARTER.name)
    assert info.architecture == Architecture(encoder="tf_efficientnet_lite0", features=48, expand=False)
    assert run(build(info.architecture, arrays), 256, 96).shape == (96, 256)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_that_a_file_may_name_can_be_built(encoder):
    """The network is cut out of timm's, without a number being made or fetched."""
    with torch.device("meta"):
        network = MidasSmall(Architecture(encoder=encoder, features=48, expand=True))
        assert (1, 64, 96) == network(torch.zeros(1, 3, 64, 96)).shape


def test_weights_that_do_not_fit_are_listed(checkpoint):
    """The error lists what is missing, what is unknown and what has another shape."""
    broken = dict(checkpoint)
    del broken["scratch.layer1_rn.weight"]
    broken["classifier.weight"] = np.zeros(3, np.float32)
    broken["scratch.layer2_rn.weight"] = np.zeros((1, 2), np.float32)
    with pytest.raises(WeightsError) as caught:
        build(OFFICIAL.architecture, broken)
    text = str(caught.value)
    assert "1 missing: scratch.layer1_rn.weight" in text
    assert "1 unknown: classifier.weight" in text
    assert "scratch.layer2_rn.weight is 1x2, expected 128x48x3x3" in text


def test_weights_that_are_not_finite_are_refused(checkpoint):
    """One NaN in one tensor is found and named."""
    broken = dict(checkpoint)
    broken["scratch.layer1_rn.weight"] = np.full_like(broken["scratch.layer1_rn.weight"], np.nan)
    with pytest.raises(WeightsError, match=r"not finite: scratch\.layer1_rn\.weight"):
        build(OFFICIAL.architecture, broken)
