"""The small convolutional network of NNAQC's CIFAR-100 experiments ("LC-CNN"): two convolutions, two dense layers.

Source: Jindal et al. 2019 (NNAQC), 4.2: two convolutions, each with ReLU and max pooling, two fully connected layers
and a softmax. The paper states no width, no kernel and no schedule: these are ours, as usual in networks of this form.
"""

from __future__ import annotations

import torch
from torch import nn

from labelfix.networks.initialisation import he_normal

_SIDE = 8  # of the map that the first dense layer reads: 32 px halved twice


class LowCapacityCnn(nn.Module):
    """5x5 convolutions to 64 and 64 channels, each with ReLU and 2x2 pooling; dense to 384 and 192, ReLU; linear head.

    1.756 million parameters and 0.066 GFLOP an image at 32 px, K = 10. From images of another size the maps are
    averaged down to (or repeated up to) the 8x8 that the first dense layer reads.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(_SIDE),
            nn.Flatten(),
            nn.Linear(64 * _SIDE**2, 384),
            nn.ReLU(inplace=True),
            nn.Linear(384, 192),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(192, num_classes)
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, K)."""
        return self.head(self.features(images))
