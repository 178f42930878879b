"""ResNet-29: a small pre-activation residual network of bottlenecks.

Source: version 2, n = 3, of the ResNet in Keras' CIFAR-10 example, which Zhang et al. 2020 (IEG), section 5.2, say
they follow. Its shortcut convolutions read the input as it is, not the activated input. Convolutions here have no
bias: Keras' have one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.networks.initialisation import he_normal

_STEM = 16
_WIDTHS = (64, 128, 256)
_DEPTH = 3


class Bottleneck(nn.Module):
    """BN-ReLU-conv three times (1x1, 3x3, 1x1); the shortcut is the input, or a 1x1 convolution of it.

    Args:
        channels_in: channels of the input.
        channels_mid: channels inside.
        channels_out: channels of the output; where they differ from the input's, the shortcut is a convolution.
        stride: of the first convolution.
        activate: the block starts with BN-ReLU; without, its input is already activated.
    """

    def __init__(
        self, channels_in: int, channels_mid: int, channels_out: int, stride: int, *, activate: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in) if activate else None
        self.conv1 = nn.Conv2d(channels_in, channels_mid, 1, stride, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_mid)
        self.conv2 = nn.Conv2d(channels_mid, channels_mid, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_mid)
        self.conv3 = nn.Conv2d(channels_mid, channels_out, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        inner = self.conv1(x if self.norm1 is None else F.relu(self.norm1(x)))
        inner = self.conv2(F.relu(self.norm2(inner)))
        return shortcut + self.conv3(F.relu(self.norm3(inner)))


class ResNet29(nn.Module):
    """3x3 stem with BN-ReLU, three stages of three bottlenecks (16 to 64, 64 to 128, 128 to 256), BN-ReLU, head.

    0.841 million parameters and 0.196 GFLOP an image at 32 px, K = 10. Inside a stage the bottlenecks are as wide
    as the stage's input, and each stage after the first halves the resolution.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(_STEM)
        blocks: list[nn.Module] = []
        channels = inside = _STEM
        for stage, width in enumerate(_WIDTHS):
            for block in range(_DEPTH):
                stride = 2 if stage > 0 and block == 0 else 1
                # The stem has activated the input of the very first block.
                blocks.append(Bottleneck(channels, inside, width, stride, activate=len(blocks) > 0))
                channels = width
            inside = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        return self.head(self.feature_map(images).mean(dim=(2, 3)))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, 256, H / 4, W / 4), what is averaged."""
        activated = F.relu(self.stem_norm(self.stem(images)))
        return F.relu(self.norm(self.blocks(activated)))
