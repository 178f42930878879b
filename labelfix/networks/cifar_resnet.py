"""The original residual networks (ReLU after the sum) for small images: ResNet-44 and ResNet-34 with a 3x3 stem.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2 and table 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.networks.initialisation import he_normal

_WIDTHS = (16, 32, 64)
_DEPTH = 7


class PaddedBlock(nn.Module):
    """Conv-BN-ReLU-conv-BN, ReLU after the sum; a shortcut without parameters.

    Where the shape changes, the shortcut takes every second pixel and appends channels of zeros (option A).

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output, no fewer.
        stride: of the first convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.added = channels_out - channels_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        shortcut = x
        if self.stride != 1 or self.added:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(shortcut + inner)


class ResNet44(nn.Module):
    """3x3 stem with BN-ReLU, three stages of seven blocks (16, 32, 64 channels), global average, linear head.

    0.659 million parameters and 0.194 GFLOP an image at 32 px, K = 10. Jindal et al. 2019 (NNAQC), section 4.2,
    cite it for CIFAR-100; the code whose settings they take (Patrini et al. 2017) has pre-activation blocks.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(_WIDTHS[0])
        blocks: list[nn.Module] = []
        channels = _WIDTHS[0]
        for stage, width in enumerate(_WIDTHS):
            for block in range(_DEPTH):
                blocks.append(PaddedBlock(channels, width, 2 if stage > 0 and block == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        return self.head(self.feature_map(images).mean(dim=(2, 3)))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, 64, H / 4, W / 4), what is averaged."""
        return self.blocks(F.relu(self.norm(self.stem(images))))


def cifar_resnet34(num_classes: int) -> nn.Module:
    """ResNet-34 as torchvision builds it, but with a 3x3 stem and no max pooling.

    21.3 million parameters and 2.32 GFLOP an image at 32 px, K = 10. Yi et al. (PENCIL), section 4.2, train
    a ResNet-34 on CIFAR-100.
    """
    # torchvision takes seconds to import: only who names this network waits for it.
    from torchvision.models import resnet34

    network = resnet34(num_classes=num_classes)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(
        network.conv1.weight, mode="fan_out", nonlinearity="relu"
    )  # as torchvision's others
    network.maxpool = nn.Identity()
    return network
