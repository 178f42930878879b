"""Depthwise convolutions in float32 where a processor trains all else in bf16.

Torch's library for processors (oneDNN) lacks bf16 kernels for the gradients of some of them, 5 x 5 ones and those of
stride 2. What stands in takes 40 to 170 times as long as the way forward, together more than all else in a training
step of EfficientNet-Lite0 (tests/benchmarks/depthwise.py). In float32 there are kernels.
"""

from __future__ import annotations

import torch
from torch import nn


class _InFloat32(nn.Module):
    """Before a class of convolutions: theirs, kept out of automatic mixed precision."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            found: torch.Tensor = super().forward(images.float())
        return found.to(images.dtype)


def depthwise_in_float32(network: nn.Module) -> None:
    """Let the depthwise convolutions of a network compute in float32 also inside `torch.autocast`.

    Parameters and their names stay, and so does the type (B, C, H, W) that goes from layer to layer.
    """
    for layer in network.modules():
        is_depthwise = isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels
        if is_depthwise and not isinstance(layer, _InFloat32):
            layer.__class__ = type(type(layer).__name__, (_InFloat32, type(layer)), {})
