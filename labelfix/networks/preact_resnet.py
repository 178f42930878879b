"""Pre-activation residual networks for small images.

Source: He et al. 2016, "Identity Mappings in Deep Residual Networks" (BatchNorm and ReLU before each
convolution), in the 18-layer layout of He et al. 2015 with a 3x3 stem instead of 7x7 and pooling, as the
label-noise papers use it at 32 px.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice; where the shape changes, the shortcut is a 1x1 convolution of the activated input.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        activated = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(activated))))


class PreActResNet(nn.Module):
    """Stem, stages of blocks, BN-ReLU, global average, linear head.

    Args:
        num_classes: K.
        widths: channels of each stage; the first keeps the resolution, each further one halves it.
        depths: blocks of each stage.
    """

    def __init__(self, num_classes: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                blocks.append(PreActBlock(channels, width, 2 if stage > 0 and block == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        features = F.relu(self.norm(self.blocks(self.stem(images))))
        return self.head(features.mean(dim=(2, 3)))


def preact_resnet18(num_classes: int) -> PreActResNet:
    """PreAct ResNet-18, widths 64 to 512: 11.2 million parameters and 1.11 GFLOP an image at 32 px, K = 10."""
    return PreActResNet(num_classes, (64, 128, 256, 512), (2, 2, 2, 2))
