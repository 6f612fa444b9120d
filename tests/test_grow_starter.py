"""The starter weights grown to the size of MiDaS small compute what they did, with every one of its multiplications."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.depth import weights
from edge.depth.midas import MidasSmall, build
from edge.records import Architecture
from tests.parity import picture

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))  # they import each other by their bare names
import grow_starter
from train_starter import normalised, write


@pytest.fixture(scope="module")
def starter():
    return weights.load(weights.STARTER.name)


@pytest.fixture(scope="module")
def pictures():
    return torch.stack([normalised(picture(96, 128)), normalised(picture(96, 128)[:, ::-1])])


@pytest.fixture(scope="module")
def grown(starter, pictures):
    network = MidasSmall(weights.OFFICIAL.architecture).eval()
    grow_starter.fit_new(network, grow_starter.grown(starter[1], network), pictures)
    return network


def test_it_computes_what_the_smaller_network_does(starter, grown, pictures):
    """Within a hundredth of the range: only the new blocks' share is added."""
    info, arrays = starter
    with torch.inference_mode():
        small, large = build(info.architecture, arrays)(pictures), grown(pictures)
    assert float((small - large).abs().max() / (small.max() - small.min())) < 0.01


def test_what_is_new_computes_too(starter, grown):
    """No new channel is idle: each has weights of its own, and batch norms that fit what flows through them."""
    state = grown.state_dict()
    for key, value in state.items():
        assert torch.isfinite(value).all(), key
        if value.ndim == 4:
            new = value[starter[1][key].shape[0] :] if key in starter[1] else value
            assert (new.flatten(1).abs().amax(dim=1) > 0).all(), key
    assert (state["pretrained.layer3.1.4.bn3.running_var"] > 1e-6).all()


def test_the_file_is_of_the_official_architecture(starter, grown, tmp_path):
    """It loads as weights of MiDaS small do, and holds what the network holds within float16."""
    file = tmp_path / "grown.safetensors"
    write(grown.state_dict(), weights.OFFICIAL.architecture, file)
    info, arrays = weights.load(str(file))
    assert weights.OFFICIAL.architecture == info.architecture
    name = "scratch.refinenet1.out_conv.weight"
    assert np.allclose(grown.state_dict()[name].numpy(), arrays[name], rtol=1e-3, atol=1e-4)


def test_a_tensor_without_a_place_is_told(starter):
    """Weights of another family can't be grown."""
    network = MidasSmall(Architecture(encoder="tf_efficientnet_lite0", features=48, expand=False))
    with pytest.raises(ValueError, match=r"no place for made\.up"):
        grow_starter.grown({**starter[1], "made.up": np.zeros(3, np.float32)}, network)
