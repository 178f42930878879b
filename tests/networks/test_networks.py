from __future__ import annotations

from pathlib import Path

import click
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from labelfix.cli import cli
from labelfix.errors import InputError
from labelfix.networks import NetworkSpec, backbone_names, build, own_backbones
from labelfix.networks.padded_wide_resnet import PaddedBlock

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")


class Tally:
    """Parameters and multiply-adds of a network, added up layer by layer as plain arithmetic."""

    def __init__(self) -> None:
        self.parameters = self.macs = 0

    def conv(self, inputs: int, outputs: int, kernel: int, side: int, *, bias: bool = False) -> None:
        """A square kernel; `side` is that of the output."""
        weights = inputs * kernel * kernel * outputs
        self.parameters += weights + bias * outputs
        self.macs += weights * side * side

    def norm(self, channels: int) -> None:
        self.parameters += 2 * channels

    def conv_norm(self, inputs: int, outputs: int, kernel: int, side: int) -> None:
        self.conv(inputs, outputs, kernel, side)
        self.norm(outputs)

    def linear(self, inputs: int, outputs: int = 10) -> Tally:
        self.parameters += inputs * outputs + outputs
        self.macs += inputs * outputs
        return self


def small() -> Tally:
    tally = Tally()
    for inputs, outputs, side in ((3, 32, 32), (32, 64, 16), (64, 128, 8)):
        tally.conv_norm(inputs, outputs, 3, side)
    return tally.linear(128)


def cifar_net() -> Tally:
    tally = Tally()
    for layer in ((3, 32, 5, 32), (32, 32, 5, 16), (32, 64, 5, 8), (64, 64, 4, 1)):
        tally.conv(*layer, bias=True)
    return tally.linear(64)


def mnist_net() -> Tally:
    tally = Tally()
    for layer in ((3, 20, 5, 28), (20, 50, 5, 10), (50, 500, 4, 1)):
        tally.conv(*layer, bias=True)
    return tally.linear(500)


def lc_cnn() -> Tally:
    tally = Tally()
    for layer in ((3, 64, 5, 32), (64, 64, 5, 16)):
        tally.conv(*layer, bias=True)
    for sizes in ((64 * 8 * 8, 384), (384, 192)):
        tally.linear(*sizes)
    return tally.linear(192)


def preactivated(stem: int, widths: tuple[int, ...], depth: int, *, project: bool = False) -> Tally:
    tally, channels = Tally(), stem
    tally.conv(3, stem, 3, 32)
    for stage, width in enumerate(widths):
        side = 32 // 2**stage
        for block in range(depth):
            tally.norm(channels)
            tally.conv_norm(channels, width, 3, side)
            tally.conv(width, width, 3, side)
            if block == 0 and (project or channels != width):
                tally.conv(channels, width, 1, side)
            channels = width
    tally.norm(channels)
    return tally.linear(channels)


def padded(stem: int, widths: tuple[int, ...], depth: int) -> Tally:
    tally, channels = Tally(), stem
    tally.conv(3, stem, 3, 32)
    for stage, width in enumerate(widths):
        for _ in range(depth):
            tally.norm(channels)
            tally.conv_norm(channels, width, 3, 32 // 2**stage)
            tally.conv(width, width, 3, 32 // 2**stage)
            channels = width
    tally.norm(channels)
    return tally.linear(channels)


def original(widths: tuple[int, ...], depths: tuple[int, ...], *, project: bool) -> Tally:
    tally, channels = Tally(), widths[0]
    tally.conv_norm(3, channels, 3, 32)
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        side = 32 // 2**stage
        for _ in range(depth):
            tally.conv_norm(channels, width, 3, side)
            tally.conv_norm(width, width, 3, side)
            if project and channels != width:
                tally.conv_norm(channels, width, 1, side)
            channels = width
    return tally.linear(channels)


def bottlenecks() -> Tally:
    tally = Tally()
    tally.conv_norm(3, 16, 3, 32)
    for inside, width, side in ((16, 64, 32), (64, 128, 16), (128, 256, 8)):
        for block in range(3):
            channels = inside if block == 0 else width
            if (width, block) != (64, 0):  # the stem has activated the first one's input
                tally.norm(channels)
            tally.conv_norm(channels, inside, 1, side)
            tally.conv_norm(inside, inside, 3, side)
            tally.conv(inside, width, 1, side)
            if block == 0:
                tally.conv(channels, width, 1, side)
    tally.norm(256)
    return tally.linear(256)


# Name, layers, then what papers say or what others measured: millions of parameters and GFLOP (two a
# multiply-add) at 32 px with 10 classes, each with the digits that were given.
NETWORKS = [
    ("small", small(), "0.095", "0.02"),
    ("cifar-net", cifar_net(), "0.146", "0.025"),
    ("mnist-net", mnist_net(), "0.432", "0.008"),
    ("lc-cnn", lc_cnn(), "1.756", "0.066"),
    ("resnet29", bottlenecks(), "0.841", "0.196"),
    ("resnet44", original((16, 32, 64), (7, 7, 7), project=False), "0.66", "0.19"),
    ("cifar-resnet34", original((64, 128, 256, 512), (3, 4, 6, 3), project=True), "21.3", "2.32"),
    ("preact-resnet18", preactivated(64, (64, 128, 256, 512), 2), "11.2", "1.11"),
    ("preact-resnet32", preactivated(32, (32, 64, 128), 5, project=True), "1.86", "0.553"),
    ("wide-resnet28-10", preactivated(16, (160, 320, 640), 4), "36.5", "10.49"),
    ("wide-resnet28-10-padded", padded(16, (160, 320, 640), 4), "36.2", "10.43"),
]
OWN = [name for name, *_ in NETWORKS]


def test_every_network_of_ours_has_its_size_here():
    assert own_backbones() == OWN


def seeded(backbone: str, num_classes: int = 10, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(NetworkSpec(backbone, num_classes, 32))


@pytest.mark.parametrize(("backbone", "tally", "millions", "gflop"), NETWORKS, ids=OWN)
def test_networks_have_the_parameters_and_the_cost_of_their_layers(backbone, tally, millions, gflop):
    network = seeded(backbone).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network(torch.zeros(1, 3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) == tally.parameters
    assert counted.get_total_flops() == 2 * tally.macs
    for value, given in ((tally.parameters / 1e6, millions), (2 * tally.macs / 1e9, gflop)):
        assert f"{value:.{len(given.partition('.')[2])}f}" == given


@pytest.mark.parametrize("backbone", [*OWN, "resnet18", "mobilenet_v3_small"])
def test_networks_map_images_to_logits_with_gradients(backbone):
    """A gradient reaches every parameter, and every weight has one that is not zero."""
    network = seeded(backbone, 7)
    logits = network(torch.randn(2 if backbone.startswith("wide") else 4, 3, 32, 32))
    assert logits.shape == (len(logits), 7)
    logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if backbone in OWN:
            assert parameter.grad.any(), name


@pytest.mark.parametrize("backbone", OWN)
def test_our_networks_follow_the_seed_and_come_back_from_their_state(backbone):
    first, again, other = seeded(backbone), seeded(backbone), seeded(backbone, seed=1)
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = first.eval()(images)
        assert not torch.equal(other.eval()(images), expected)
        other.load_state_dict(state)
        assert torch.equal(other(images), expected)


@pytest.mark.parametrize("backbone", OWN)
def test_our_networks_take_any_size_in_either_memory_format(backbone):
    """In eval mode a row's logits depend neither on its neighbours nor on how the pixels lie in memory."""
    network = seeded(backbone, 3).eval()
    for size in (8, 28, 33):
        images = torch.randn(2, 3, size, size)
        with torch.no_grad():
            logits = network.to(memory_format=torch.contiguous_format)(images)
            network.to(memory_format=torch.channels_last)
            moved = network(images[:1].contiguous(memory_format=torch.channels_last))
        assert logits.shape == (2, 3)
        torch.testing.assert_close(moved, logits[:1], rtol=1e-4, atol=1e-4)


def activated(x, norm):
    """BatchNorm in eval mode, term by term, then ReLU."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return ((x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).clamp(
        min=0
    )


def with_statistics(block):
    """Eval mode, with BatchNorm that does something: a fresh one changes next to nothing."""
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 2.0)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.normal_(tensor)
    return block.double().eval()


@torch.no_grad()
def test_preact_resnet32_projects_the_activated_input_also_at_stride_one():
    blocks = with_statistics(seeded("preact-resnet32").blocks)
    assert [i for i, block in enumerate(blocks) if block.shortcut is not None] == [0, 5, 10]
    for index, stride in ((0, 1), (5, 2)):
        block = blocks[index]
        x = torch.randn(2, block.conv1.in_channels, 6, 6, dtype=torch.float64)
        start = activated(x, block.norm1)
        inner = F.conv2d(start, block.conv1.weight, stride=stride, padding=1)
        inner = F.conv2d(activated(inner, block.norm2), block.conv2.weight, padding=1)
        shortcut = torch.einsum(
            "oi,bihw->bohw", block.shortcut.weight[:, :, 0, 0], start[:, :, ::stride, ::stride]
        )
        torch.testing.assert_close(block(x), shortcut + inner)


@torch.no_grad()
def test_resnet29_projects_the_input_as_it_is_and_starts_without_activation():
    blocks = with_statistics(seeded("resnet29").blocks)
    for index, stride in ((0, 1), (3, 2)):
        block = blocks[index]
        x = torch.randn(2, block.conv1.in_channels, 6, 6, dtype=torch.float64)
        start = x if index == 0 else activated(x, block.norm1)
        inner = F.conv2d(start, block.conv1.weight, stride=stride)
        inner = F.conv2d(activated(inner, block.norm2), block.conv2.weight, padding=1)
        inner = F.conv2d(activated(inner, block.norm3), block.conv3.weight)
        shortcut = torch.einsum(
            "oi,bihw->bohw", block.shortcut.weight[:, :, 0, 0], x[:, :, ::stride, ::stride]
        )
        torch.testing.assert_close(block(x), shortcut + inner)


@torch.no_grad()
def test_resnet44_shortens_by_every_second_pixel_and_channels_of_zeros():
    """With the inner branch silenced a block is its shortcut."""
    for index, channels, stride in ((0, 16, 1), (7, 16, 2), (14, 32, 2)):
        block = seeded("resnet44").blocks[index].eval()
        torch.nn.init.zeros_(block.norm2.weight)
        x = torch.rand(2, channels, 5, 5)
        out = block(x)
        assert torch.equal(out[:, :channels], x[:, :, ::stride, ::stride])
        assert not out[:, channels:].any()
        assert out.shape[1] == channels * stride


@torch.no_grad()
def test_the_padded_wide_resnet_adds_inputs_to_blocks_stages_and_the_whole():
    """With all inner branches silenced it is its shortcuts: means of the stem's output and channels of zeros."""
    network = seeded("wide-resnet28-10-padded").eval()
    for module in network.modules():
        if isinstance(module, PaddedBlock):
            torch.nn.init.zeros_(module.norm2.weight)
    images = torch.randn(2, 3, 32, 32)
    stem = F.conv2d(images, network.stem.weight, padding=1)
    # Once through the blocks, where the first takes what it has activated, and once around each stage.
    start = stem.clamp(min=0) / (1 + 1e-5) ** 0.5 + stem
    means = [F.avg_pool2d(x, 4) for x in (4 * start, stem)]  # two more stages double it twice
    expected = (sum(means) / (1 + 1e-5) ** 0.5).clamp(min=0)
    found = network.feature_map(images)
    torch.testing.assert_close(found[:, :16], expected, rtol=1e-4, atol=1e-5)
    assert found.shape == (2, 640, 8, 8)
    assert not found[:, 16:].any()


@torch.no_grad()
def test_cifar_net_pools_over_the_pixels_inside_the_border_only():
    network = seeded("cifar-net").double().eval()
    images = x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    convolutions = [module for module in network.features if isinstance(module, torch.nn.Conv2d)]
    for index, convolution in enumerate(convolutions[:3]):
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=2)
        x = x if index == 0 else x.clamp(min=0)
        windows = F.pad(x, (0, 1, 0, 1), value=torch.nan).unfold(2, 3, 2).unfold(3, 3, 2).flatten(4)
        x = windows.nan_to_num(-torch.inf).amax(-1).clamp(min=0) if index == 0 else windows.nanmean(-1)
    x = torch.einsum("bihw,oihw->bo", x, convolutions[3].weight) + convolutions[3].bias
    torch.testing.assert_close(network(images), network.head(x.clamp(min=0)))


def test_vision_transformers_are_built_for_the_image_size():
    assert build(NetworkSpec("vit_b_32", 3, 64)).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_unknown_backbone_is_refused_by_name():
    with pytest.raises(InputError, match="--backbone resnet19: unknown"):
        build(NetworkSpec("resnet19", 10, 32))


def test_names_are_ours_then_torchvisions_and_ours_are_documented():
    names = backbone_names()
    assert names[: len(OWN)] == OWN
    assert {"resnet50", "vit_b_16"} <= set(names[len(OWN) :])
    assert len(set(names)) == len(names)
    assert not any(name.startswith("quantized") for name in names)
    options = cli.get_command(click.Context(cli), "scan").params
    (option,) = (option for option in options if option.name == "backbone")
    for name in OWN:
        assert f"`{name}`" in REFERENCE
        assert f"{name}," in option.help
