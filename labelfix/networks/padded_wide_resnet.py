"""Wide ResNet-28-10 whose shortcuts have no weights, with residuals around whole stages and around all of them.

Source: the network of Zhang et al. 2020's code, which is that of AutoAugment's (Cubuk et al. 2019): where the shape
changes, the shortcut is the input, averaged over the stride and with channels of zeros behind its own; the input of a
stage is added to its output in the same way, and the output of the stem to that of the last stage. The first block of
all takes its shortcut after BatchNorm and ReLU. Without them it is Zagoruyko and Komodakis 2016's (`preact_resnet`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.networks.initialisation import he_normal

_WIDTHS = (160, 320, 640)
_DEPTH = 4


class PaddedBlock(nn.Module):
    """BN-ReLU-conv twice, and `padded` of the input beside it.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: of the first convolution.
        activates_shortcut: the shortcut begins after the first BatchNorm and ReLU.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, activates_shortcut: bool = False
    ) -> None:
        super().__init__()
        self.channels_out, self.stride, self.activates_shortcut = channels_out, stride, activates_shortcut
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        activated = F.relu(self.norm1(x))
        found = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        return found + padded(activated if self.activates_shortcut else x, self.channels_out, self.stride)


def padded(x: torch.Tensor, channels: int, stride: int) -> torch.Tensor:
    """Means over squares of `stride` pixels, zeros as further channels behind: (B, C, H, W) to (B, channels, ., .)."""
    if stride > 1:
        x = F.avg_pool2d(x, stride, ceil_mode=True)
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


class PaddedWideResNet(nn.Module):
    """Stem of 16 channels, three stages of four blocks with 160, 320 and 640, BN-ReLU, global average, linear head.

    36.2 million parameters and 10.43 GFLOP an image at 32 px, K = 10.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels = 16
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        for stage, width in enumerate(_WIDTHS):
            first = PaddedBlock(channels, width, 2 if stage else 1, activates_shortcut=stage == 0)
            self.stages.append(
                nn.Sequential(first, *(PaddedBlock(width, width, 1) for _ in range(_DEPTH - 1)))
            )
            channels = width
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        return self.head(self.feature_map(images).mean(dim=(2, 3)))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to the last map of features (B, 640, H / 4, W / 4), what is averaged."""
        stem = x = self.stem(images)
        for place, (stage, width) in enumerate(zip(self.stages, _WIDTHS, strict=True)):
            x = stage(x) + padded(x, width, 2 if place else 1)
        return F.relu(self.norm(x + padded(stem, _WIDTHS[-1], 4)))
