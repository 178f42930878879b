"""Pre-activation residual networks for small images, of basic blocks: PreAct ResNet-18 and -32, WRN-28-10.

Source: He et al. 2016, "Identity Mappings in Deep Residual Networks" (BatchNorm and ReLU before each
convolution). A 3x3 stem takes the place of ImageNet's 7x7 and pooling, as in the label-noise papers at 32 px.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.networks.initialisation import he_normal


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice; the shortcut is the input, or a 1x1 convolution of the activated input.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: of the first convolution.
        project: the shortcut is a convolution; where the shape changes it is one anyway.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, project: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if project or stride != 1 or channels_in != channels_out:
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
        stem: channels of the first convolution.
        widths: channels of each stage; the first keeps the resolution, each further one halves it.
        depth: blocks of each stage.
        project: the first block of every stage has a convolution as its shortcut, also where no shape changes.
    """

    def __init__(
        self, num_classes: int, *, stem: int, widths: tuple[int, ...], depth: int, project: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        channels = stem
        for stage, width in enumerate(widths):
            for block in range(depth):
                first = block == 0
                stride = 2 if stage > 0 and first else 1
                blocks.append(PreActBlock(channels, width, stride, project=project and first))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        return self.head(self.feature_map(images).mean(dim=(2, 3)))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to the last map of features (B, D, H', W'), what is averaged."""
        return F.relu(self.norm(self.blocks(self.stem(images))))


def preact_resnet18(num_classes: int) -> PreActResNet:
    """PreAct ResNet-18, widths 64 to 512: 11.2 million parameters and 1.11 GFLOP an image at 32 px, K = 10.

    Source: the 18 layers of He et al. 2015, table 1; Arazo et al. 2019, section 4.1, train it.
    """
    return PreActResNet(num_classes, stem=64, widths=(64, 128, 256, 512), depth=2)


def preact_resnet32(num_classes: int) -> PreActResNet:
    """PreAct ResNet-32, widths 32 to 128: 1.86 million parameters and 0.553 GFLOP an image at 32 px, K = 10.

    Source: the code of Tanaka et al. 2018, where the first block of every stage has a convolution as shortcut;
    Yi et al. (PENCIL), section 4.2, take the network over.
    """
    return PreActResNet(num_classes, stem=32, widths=(32, 64, 128), depth=5, project=True)


def wide_resnet28_10(num_classes: int) -> PreActResNet:
    """Wide ResNet-28-10 without dropout: 36.5 million parameters and 10.49 GFLOP an image at 32 px, K = 10.

    Source: Zagoruyko and Komodakis 2016, table 1 with depth 28 and width 10. Zhang et al. 2020 (IEG), section 5.2,
    name it; their code has a variant with other shortcuts (`padded_wide_resnet`).
    """
    return PreActResNet(num_classes, stem=16, widths=(160, 320, 640), depth=4)
