"""The attention head: shapes, parameters, which networks take it, and what it is at first."""

from __future__ import annotations

import pytest
import torch
from refusals import refuses

from labelfix import networks
from labelfix.networks import NetworkSpec
from labelfix.networks.attention import AttentionHead, AttentionNetwork


def spec(backbone, size=32, head="attention", classes=5):
    return NetworkSpec(backbone, classes, size, head=head)


@pytest.mark.parametrize(("features", "width"), [(16, 64), (512, 2048), (1280, 2048)])
def test_parameters_are_those_of_the_papers_three_convolutions(features, width):
    head = AttentionHead(features, 5, (7, 6))
    count = features * width + width + width * 5 + 5 + 5 * 7 * 6 + 5
    assert sum(parameter.numel() for parameter in head.parameters()) == count
    assert head(torch.zeros(2, features, 7, 6)).shape == (2, 5)


def test_at_first_a_logit_is_the_mean_of_its_map_over_all_places():
    torch.manual_seed(0)
    head = AttentionHead(8, 3, (4, 4)).double()
    features = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    maps = head.classes(torch.relu(head.widen(features)))
    torch.testing.assert_close(head(features), maps.mean(dim=(2, 3)))


def test_a_logit_is_the_mean_of_what_each_place_says_times_its_weight():
    torch.manual_seed(0)
    head = AttentionHead(8, 3, (4, 5)).double()
    features = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        head.places.weight.normal_()
        head.places.bias.normal_()
        first, second, places = head.widen, head.classes, head.places
        for row in range(2):
            for label in range(3):
                total = 0.0
                for y in range(4):
                    for x in range(5):
                        wide = first.weight.flatten(1) @ features[row, :, y, x] + first.bias
                        says = second.weight.flatten(1)[label] @ wide.clamp_min(0) + second.bias[label]
                        total += float(places.weight[label, 0, y, x] * says)
                expected = total / 20 + float(places.bias[label])
                assert float(head(features)[row, label]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "block", "places"),
    [((8, 8), 1, (8, 8)), ((9, 9), 2, (5, 5)), ((16, 12), 2, (8, 6)), ((17, 3), 3, (6, 1))],
)
def test_maps_of_over_8_places_a_side_are_averaged_in_blocks(size, block, places):
    torch.manual_seed(0)
    large = AttentionHead(4, 3, size).double()
    assert large.places.weight.shape == (3, 1, *places)
    small = AttentionHead(4, 3, places).double()
    small.load_state_dict(large.state_dict())
    features = torch.randn(2, 4, *size, dtype=torch.float64)
    means = [
        features[:, :, y : y + block, x : x + block].mean(dim=(2, 3))
        for y in range(0, size[0], block)
        for x in range(0, size[1], block)
    ]
    torch.testing.assert_close(large(features), small(torch.stack(means, dim=2).unflatten(2, places)))


def test_first_steps_change_no_weight_of_a_place_by_more_than_the_rate_for_a_mean():
    # The gradient of a weight is a mean's: the logit's gradient times what the place says, over the number of places.
    torch.manual_seed(0)
    head = AttentionHead(8, 3, (8, 8)).double()
    features = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    maps = head.classes(torch.relu(head.widen(features)))
    head(features).sum().backward()
    torch.testing.assert_close(head.places.weight.grad.squeeze(1), maps.sum(dim=0) / 64)


def test_every_class_weighs_its_own_map_only():
    head = AttentionHead(8, 3, (4, 4))
    with torch.no_grad():
        head.places.weight[1] = 0
    logits = head(torch.randn(2, 8, 4, 4))
    assert (logits[:, 1] == head.places.bias[1]).all()
    assert (logits[:, [0, 2]] != 0).all()


def test_without_activation_the_head_is_linear():
    head = AttentionHead(8, 3, (2, 2), "none").double()
    one, other = torch.randn(2, 1, 8, 2, 2, dtype=torch.float64)
    nothing = head(torch.zeros_like(one))
    torch.testing.assert_close(head(one + other) - nothing, head(one) - nothing + head(other) - nothing)


SMALL = ["small", "preact-resnet18", "preact-resnet32", "resnet29", "resnet44", "cifar-resnet34"]
LARGE = [
    "resnet18", "resnext50_32x4d", "efficientnet_b0", "convnext_tiny", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small",
]  # fmt: skip


@pytest.mark.parametrize("backbone", [*SMALL, *LARGE])
def test_networks_that_pool_a_map_take_it(backbone):
    network = networks.build(spec(backbone))
    assert isinstance(network, AttentionNetwork)
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    # Nothing of the linear layer that it replaces is left.
    assert not any("fc." in name or "body.network.head" in name for name in network.state_dict())


@pytest.mark.parametrize("backbone", ["small", "resnet18", "lite0"])
def test_all_but_the_head_is_the_network_as_it_was(backbone):
    pooled = networks.build(spec(backbone, size=64, head="")).eval()
    before = {name: value.clone() for name, value in pooled.state_dict().items()}
    network = networks.with_head(pooled, spec(backbone, size=64)).eval()
    kept = network.body.state_dict()
    assert len(kept) >= len(before) - 4  # but the linear layer, and what standardised for it
    for name, value in kept.items():
        assert any(torch.equal(value, other) for other in before.values() if other.shape == value.shape), name


def test_others_are_refused_in_one_line():
    refuses(networks.build, "--backbone cifar-net", "head=pool", spec=spec("cifar-net"))
    refuses(networks.build, "--backbone vit_b_16", "head=pool", spec=spec("vit_b_16"))
    frozen = NetworkSpec("timm:test_vit", 5, 64, views=1, head="attention")
    refuses(networks.build, "test_vit", "no map", "head=pool", spec=frozen)
