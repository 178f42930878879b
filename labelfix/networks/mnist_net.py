"""The plain convolutional network of NNAQC's MNIST experiments: three convolutions, one ReLU, no BatchNorm.

Source: the MNIST example of MatConvNet (a LeNet), which Jindal et al. 2019 (NNAQC) train for section 4.2. There grey
images have one channel and weights are drawn for bytes; here they have three and fit inputs of variance one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.networks.initialisation import he_normal

_SMALLEST = 28  # px, of MNIST
_SIDE = 4  # of the map that the third convolution reads whole


class MnistNet(nn.Module):
    """5x5 convolutions to 20 and 50 channels, unpadded, each halved by 2x2 pooling; 4x4 to 500, ReLU, linear head.

    0.432 million parameters and 0.008 GFLOP an image at 32 px, K = 10. Pixels of images under 28 px are repeated; of
    larger ones the maps are averaged down to the 4x4 that the third convolution reads.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 20, 5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(_SIDE),
            nn.Conv2d(50, 500, _SIDE),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.head = nn.Linear(500, num_classes)
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        if images.shape[-1] < _SMALLEST:
            images = F.adaptive_avg_pool2d(images, _SMALLEST)
        return self.head(self.features(images))
