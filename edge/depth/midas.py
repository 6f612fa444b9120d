"""The MiDaS network: a timm EfficientNet encoder under MiDaS' small decoder. No I/O, no download, no print.

Ranftl et al., "Towards Robust Monocular Depth Estimation", TPAMI 2022 (arXiv 1907.01341), version 2.1 small. The names
of the parameters are those of the official checkpoint, so that its state dict loads as it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edge.errors import WeightsError
from edge.records import Architecture

# The official file carries a residual unit that its network never runs, and counters that only training reads.
_UNUSED = ("scratch.refinenet4.resConfUnit1.",)
_COUNTER = "num_batches_tracked"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class _ResidualUnit(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return out + x


class _Fusion(nn.Module):
    """Add a finer level to a coarser one and double the resolution; the coarsest has nothing to add."""

    def __init__(self, features: int, out_features: int, *, coarsest: bool = False) -> None:
        super().__init__()
        if not coarsest:
            self.resConfUnit1 = _ResidualUnit(features)
        self.resConfUnit2 = _ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, out_features, 1)

    def forward(self, coarse: Tensor, fine: Tensor | None = None) -> Tensor:
        if fine is not None:
            coarse = coarse + self.resConfUnit1(fine)
        # MiDaS has these two the other way round. They commute, the weights of the resize adding up to one, and this
        # way the convolution sees a quarter of the pixels.
        out: Tensor = self.out_conv(self.resConfUnit2(coarse))
        return F.interpolate(out, scale_factor=2.0, mode="bilinear", align_corners=True)


class _Decoder(nn.Module):
    def __init__(self, channels: tuple[int, int, int, int], features: int, *, expand: bool) -> None:
        super().__init__()
        f1, f2, f3, f4 = (features * (2**level if expand else 1) for level in range(4))
        c1, c2, c3, c4 = channels
        self.layer1_rn = nn.Conv2d(c1, f1, 3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(c2, f2, 3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(c3, f3, 3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(c4, f4, 3, padding=1, bias=False)
        self.refinenet4 = _Fusion(f4, f3, coarsest=True)
        self.refinenet3 = _Fusion(f3, f2)
        self.refinenet2 = _Fusion(f2, f1)
        self.refinenet1 = _Fusion(f1, f1)
        self.output_conv = nn.Sequential(
            nn.Conv2d(f1, f1 // 2, 3, padding=1),
            nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False),
            nn.Conv2d(f1 // 2, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 1),
            nn.ReLU(),
        )

    def forward(self, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor) -> Tensor:
        out = self.refinenet4(self.layer4_rn(x4))
        out = self.refinenet3(out, self.layer3_rn(x3))
        out = self.refinenet2(out, self.layer2_rn(x2))
        out = self.refinenet1(out, self.layer1_rn(x1))
        result: Tensor = self.output_conv(out)
        return result


class _Encoder(nn.Module):
    """timm's EfficientNet without its classifier, cut into the four levels of the official checkpoint."""

    def __init__(self, name: str) -> None:
        super().__init__()
        encoder: Any = timm.create_model(name, pretrained=False)
        blocks = encoder.blocks
        # The Identity keeps the official numbering: there the activation stood on its own, in timm it is part of bn1.
        self.layer1 = nn.Sequential(encoder.conv_stem, encoder.bn1, nn.Identity(), *blocks[0:2])
        self.layer2 = nn.Sequential(*blocks[2:3])
        self.layer3 = nn.Sequential(*blocks[3:5])
        self.layer4 = nn.Sequential(*blocks[5:7])
        c1, c2, c3 = (int(encoder.feature_info[level]["num_chs"]) for level in (1, 2, 3))
        self.channels = (c1, c2, c3, int(blocks[6][-1].bn3.num_features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x1 = self.layer1(x)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        return x1, x2, x3, self.layer4(x3)


class MidasSmall(nn.Module):
    """Map float32 (n, 3, h, w), normalised RGB with h and w multiples of 32, to relative inverse depth (n, h, w)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.pretrained = _Encoder(architecture.encoder)
        self.scratch = _Decoder(self.pretrained.channels, architecture.features, expand=architecture.expand)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scratch(*self.pretrained(x))
        return out.squeeze(1)


def normalised(pixels: npt.NDArray[np.float32]) -> Tensor:
    """Return a picture, float32 (h, w, 3) RGB in 0..255, as the plain network takes it: float32 (1, 3, h, w)."""
    x = (pixels / np.float32(255) - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(IMAGENET_STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))


def used(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors without those that the network never uses."""
    return {key: value for key, value in arrays.items() if not key.startswith(_UNUSED) and not key.endswith(_COUNTER)}


def build(architecture: Architecture, arrays: Mapping[str, npt.NDArray[Any]]) -> MidasSmall:
    """Return the network with these weights, float32, ready to run.

    `arrays` maps the official names to writable arrays of a float type; float32 ones are taken as they are, without a
    copy. What the network never uses may be missing.

    Raises:
        WeightsError: names or shapes differ, with a list of what does, or a value is not finite.
    """
    with torch.device("meta"):  # no memory and no random numbers for parameters that are replaced at once
        network = MidasSmall(architecture)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    given = used(arrays)
    _compare(wanted, {key: value.shape for key, value in given.items()}, architecture)
    state = {key: torch.from_numpy(value).float() for key, value in given.items()}
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise WeightsError(f"the weights hold values that are not finite: {_some(broken)}")
    counters = {key: torch.zeros((), dtype=torch.int64) for key in network.state_dict() if key.endswith(_COUNTER)}
    network.load_state_dict(state | counters, assign=True)
    return network.eval().requires_grad_(False)


class Serving(nn.Module):
    """The network as engines run it: float32 (1, h, w, 3), RGB in 0..255 as it lies in memory, to (h, w).

    Equal to the plain network up to rounding, with less to do: batch norms are part of the convolutions before them,
    and so is the input's scale. The mean is subtracted, since padding with zeros stands for pixels of the mean colour.
    Takes the network apart: it is not to be used afterwards.
    """

    mean: Tensor

    def __init__(self, network: MidasSmall) -> None:
        super().__init__()
        network = fold_batch_norm(network)
        _pad_plainly(network)
        stem: Any = network.pretrained.layer1.get_submodule("0.1")
        stem.weight.data /= 255 * torch.tensor(IMAGENET_STD)[:, None, None]
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        depth: Tensor = self.network(pixels.permute(0, 3, 1, 2) - self.mean)
        return depth[0]


def _pad_plainly(module: nn.Module) -> None:
    """Replace TensorFlow's padding, which timm works out anew for each input, by the same in plain steps.

    timm has it where the stride is 2. The side being even, it is one less before than after: (k - 2) // 2 and
    (k - 1) // 2 for a kernel of k.
    """
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            size = int(child.kernel_size[0])
            before, after = (size - 2) // 2, (size - 1) // 2
            plain = nn.Conv2d(child.in_channels, child.out_channels, size, stride=2, groups=child.groups)
            plain.weight, plain.bias = child.weight, child.bias
            setattr(module, name, nn.Sequential(nn.ZeroPad2d((before, after, before, after)), plain))
        else:
            _pad_plainly(child)


def fold_batch_norm(network: MidasSmall) -> MidasSmall:
    """Merge every batch norm into the convolution before it, in place; the output stays the same up to rounding."""
    for module in network.modules():
        convolution: tuple[str, nn.Conv2d] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None:
                before, conv = convolution
                setattr(module, before, fuse_conv_bn_eval(conv, child))
                # timm's batch norm carries the activation; outside timm there is none to keep
                setattr(module, name, getattr(child, "act", nn.Identity()))
                convolution = None
            elif isinstance(child, nn.Conv2d):
                convolution = (name, child)
    return network


def _compare(
    wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], architecture: Architecture
) -> None:
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    differing = [
        f"{key} is {_shape(given[key])}, expected {_shape(shape)}"
        for key, shape in wanted.items()
        if key in given and tuple(given[key]) != shape
    ]
    parts = [
        f"{len(keys)} {what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", differing))
        if keys
    ]
    if parts:
        raise WeightsError(
            f"the weights do not fit {architecture.encoder} of {len(wanted)} tensors; " + "; ".join(parts)
        )


def _some(items: list[str], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
