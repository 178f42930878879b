"""Depthwise convolutions in float32 inside mixed precision: the same parameters, names and float32 results."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from labelfix.networks import depthwise
from labelfix.networks.depthwise import depthwise_in_float32


@pytest.fixture
def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
    )


def gradients(network, images, *, enabled):
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        network(images).float().square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_only_depthwise_convolutions_leave_mixed_precision(small):
    seen = {}
    depthwise_in_float32(small)
    for name, layer in small.named_children():
        layer.register_forward_hook(
            lambda _, into, out, name=name: seen.update({name: (into[0].dtype, out.dtype)})
        )
    kernels = []
    plain = nn.Conv2d._conv_forward

    def watching(self, images, weight, bias):
        kernels.append((self.groups, images.dtype, torch.is_autocast_enabled("cpu")))
        return plain(self, images, weight, bias)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(nn.Conv2d, "_conv_forward", watching)
        small(torch.randn(2, 3, 8, 8))

    bf16, fp32 = torch.bfloat16, torch.float32
    assert kernels == [(1, fp32, True), (8, fp32, False), (4, bf16, True)]
    assert seen == {"0": (fp32, bf16), "1": (bf16, bf16), "2": (bf16, bf16)}


def test_parameters_names_and_float32_results_stay(small):
    images, before = torch.randn(2, 3, 8, 8), deepcopy(small)
    depthwise_in_float32(small)
    depthwise_in_float32(small)  # a second time changes nothing

    assert small.state_dict().keys() == before.state_dict().keys()
    assert torch.equal(small(images), before(images))
    found, expected = (gradients(each, images, enabled=False) for each in (small, before))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    small[1].weight.data.zero_()
    assert before[1].weight.abs().sum() > 0
    assert sum(isinstance(layer, depthwise._InFloat32) for layer in small.modules()) == 1


def test_a_copy_computes_with_its_own_parameters(small):
    depthwise_in_float32(small)
    copied = deepcopy(small)
    images = torch.randn(2, 3, 8, 8)
    before = small(images)
    copied[1].weight.data.zero_()
    assert torch.equal(small(images), before)
    assert not torch.equal(copied(images), before)
