"""The plain convolutional network of NNAQC's CIFAR-10 experiments: four convolutions without BatchNorm.

Source: the CIFAR-10 example of MatConvNet (a port of Caffe's "quick" network), which Jindal et al. 2019 (NNAQC)
train for section 4.2. There a weight learns at a tenth, a bias at twice the rate of the schedule (0.05), and the
last layer at a tenth of either. Without BatchNorm it wants small rates: on 3,500 CIFAR-10 images, 6 epochs with
momentum 0.9, held-out accuracy is 0.47 at a rate of 0.02 or 0.01, 0.40 at 0.05 and 0.29 at 0.1 (one seed).
"""

from __future__ import annotations

import torch
from torch import nn

from labelfix.networks.initialisation import he_normal

_SIDE = 4  # of the map that the last convolution reads whole: 32 px halved three times


class CifarNet(nn.Module):
    """5x5 convolutions to 32, 32 and 64 channels, each halved by 3x3 pooling; 4x4 to 64; linear head.

    0.146 million parameters and 0.0247 GFLOP an image at 32 px, K = 10. The first pooling takes the maximum, before
    ReLU, the others the mean, after it; a window over the border counts only the pixels inside. From images of
    another size, 8 px at least, the maps are averaged down to (or repeated up to) the 4x4 that the fourth
    convolution reads. MatConvNet draws the first weights for whitened bytes, here they fit inputs of variance one;
    the head's have its standard deviation of 0.05.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 5, padding=2),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.AdaptiveAvgPool2d(_SIDE),
            nn.Conv2d(64, 64, _SIDE),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.head = nn.Linear(64, num_classes)
        he_normal(self)
        nn.init.normal_(self.head.weight, std=0.05)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        return self.head(self.features(images))
