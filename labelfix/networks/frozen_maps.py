"""Maps of a frozen encoder: its features before pooling, for a head that looks at every place of the image."""

from __future__ import annotations

import torch
from torch import nn

from labelfix.errors import InputError
from labelfix.networks.attention import HEADS, AttentionHead, EncoderMaps
from labelfix.networks.encoders import feature_shape
from labelfix.networks.heads import FeatureHead

MOST_PLACES = 3
"""Of a map, in each direction: room and time grow with their number.

Mean average precision on 400 mosaics of clothes at 144 px after binary cross-entropy on 1,000 with wrong labels, lite0:
.412 with 1 by 1 places, .421 with 2, .415 with 3.
"""


class PooledMaps(nn.Module):
    """An encoder up to its last map, which is averaged down to at most 3 by 3 places: (B, 3, H, H) to (B, D, h, w).

    Args:
        encoder: of timm.
        size: h and w.
    """

    def __init__(self, encoder: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.maps = EncoderMaps(encoder)
        self.pool = nn.AdaptiveAvgPool2d(size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, H) to (B, D, h, w)."""
        return self.pool(self.maps(images))


def frozen_maps(encoder: nn.Module, name: str, image_size: int) -> PooledMaps:
    """An encoder that gives maps in place of vectors.

    Args:
        encoder: (B, 3, H, H) to (B, D).
        name: of it, for messages.
        image_size: H.

    Raises:
        InputError: it has no map.
    """
    shape = feature_shape(EncoderMaps(encoder), image_size) if hasattr(encoder, "forward_features") else ()
    if len(shape) != 3:
        raise InputError(
            f"--encoder {name}: it gives no map of features for an attention head; use --set head=pool"
        )
    return PooledMaps(encoder, (min(shape[1], MOST_PLACES), min(shape[2], MOST_PLACES)))


class MapHead(FeatureHead):
    """Standardised maps to logits by an attention head: (B, D, h, w) to (B, K).

    Args:
        shape: D, h and w.
        num_classes: K.
        name: one of `attention.HEADS`.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, name: str) -> None:
        super().__init__(shape)
        activation = "relu" if name == HEADS[0] else "none"
        self.head = AttentionHead(shape[0], num_classes, (shape[1], shape[2]), activation)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w) to logits (B, K)."""
        return self.head((maps - self.mean[:, None, None]) * self.scale[:, None, None])
