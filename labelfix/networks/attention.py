"""The attention head: a map of each class over the image in place of global average pooling.

Source: Yi, Wang, Wu 2022, "PENCIL: Deep Learning with Noisy Labels", 3.7: a 1x1 convolution to more features, a 1x1
convolution to a map for every class, and a depthwise convolution as large as the map, which weighs what every place
says of a class. Ours: ReLU after the first (without it the three linear maps are one), four times the features up to
2,048 (the paper's example is 512 to 2,048), weights of the places that start as the mean over all of them and learn at
a rate that fits it, He's start of the first convolution, and larger maps averaged to 8 places a side or fewer (the
paper's example has 7).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.errors import InputError
from labelfix.networks.heads import TunedNetwork

HEADS = ("attention", "attention-none")
"""Names of `NetworkSpec.head`: with ReLU between its 1x1 convolutions, and without."""

_WIDENING, _WIDEST = 4, 2048
_MOST_PLACES = 8


class AttentionHead(nn.Module):
    """A map of features to logits: (B, D, H, W) to (B, K), for maps of one size only.

    Maps of over 8 places a side are averaged in blocks of b x b first, b the least that leaves no more, as the head
    would else cost more than the network below it (docs/several-labels.md). With D' = min(4 D, 2048), H' = ceil(H / b)
    and W' = ceil(W / b) there are D D' + D' + D' K + K + K H' W' + K parameters.

    A logit is the mean over the places of map times weight, and all weights start at 1. With weights of 1 / (H' W') and
    the sum the function would be the same, and the first steps at the network's rate many times the weights: on mosaics
    of digits a network learns as fast as with pooling this way, and slower than it that way.

    Args:
        num_features: D.
        num_classes: K.
        size: H and W.
        activation: "relu" or "none", between the two 1x1 convolutions.
    """

    def __init__(
        self, num_features: int, num_classes: int, size: tuple[int, int], activation: str = "relu"
    ) -> None:
        super().__init__()
        width = min(_WIDENING * num_features, _WIDEST)
        self.block = -(-max(size) // _MOST_PLACES)
        self.widen = nn.Conv2d(num_features, width, 1)
        self.activation = nn.ReLU(inplace=True) if activation == "relu" else nn.Identity()
        self.classes = nn.Conv2d(width, num_classes, 1)
        places = (-(-size[0] // self.block), -(-size[1] // self.block))
        self.places = nn.Conv2d(num_classes, num_classes, places, groups=num_classes)
        nn.init.kaiming_normal_(self.widen.weight, nonlinearity="relu" if activation == "relu" else "linear")
        nn.init.zeros_(self.widen.bias)  # type: ignore[arg-type]
        nn.init.ones_(self.places.weight)
        nn.init.zeros_(self.places.bias)  # type: ignore[arg-type]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D, H, W) to logits (B, K)."""
        if self.block > 1:
            features = F.avg_pool2d(features, self.block, ceil_mode=True)
        maps = self.classes(self.activation(self.widen(features)))
        return (maps * self.places.weight.squeeze(1)).mean(dim=(2, 3)) + self.places.bias


class AttentionNetwork(nn.Module):
    """A network up to its last map of features, under an attention head: (B, 3, S, S) to logits (B, K).

    Args:
        body: (B, 3, S, S) to (B, D, H, W).
        head: for such maps.
    """

    def __init__(self, body: nn.Module, head: AttentionHead) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to logits (B, K)."""
        return self.head(self.body(images))


class _Maps(nn.Module):
    """One of our own networks up to its last map, without its linear head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.head = nn.Identity()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.feature_map(images)  # type: ignore[operator]


class EncoderMaps(nn.Module):
    """An encoder of timm up to its last map: (B, 3, H, H) to (B, D, h, w)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, H) to (B, D, h, w)."""
        return self.encoder.forward_features(images)  # type: ignore[operator]


def with_attention(network: nn.Module, name: str, num_classes: int, image_size: int, head: str) -> nn.Module:
    """A network whose pooling and linear layer are replaced by an attention head; its other weights stay.

    The size of its map is found by a pass of one black image.

    Args:
        network: of `networks.build`.
        name: of its backbone, for messages.
        num_classes: K.
        image_size: side of its images in pixels.
        head: one of `HEADS`.

    Raises:
        InputError: it does not end in one map of features that is pooled.
    """
    body = _body(network)
    if body is None:
        raise InputError(
            f"--backbone {name}: it has no single map of features for an attention head; use --set head=pool, or small,"
            " a preact-resnet, or torchvision's resnet, resnext, efficientnet, convnext, densenet or mobilenet"
        )
    device = next(iter(network.state_dict().values())).device
    training = body.training
    with torch.no_grad():
        found = body.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    body.train(training)
    if found.ndim != 4:
        raise InputError(
            f"--encoder {name}: it gives no map of features for an attention head; use --set head=pool"
        )
    size = (int(found.shape[2]), int(found.shape[3]))
    activation = "relu" if head == HEADS[0] else "none"
    return AttentionNetwork(body, AttentionHead(int(found.shape[1]), num_classes, size, activation))


def _body(network: nn.Module) -> nn.Module | None:
    """The network up to its last map of features; None where it has none that is pooled."""
    if isinstance(network, TunedNetwork):
        return EncoderMaps(network.encoder) if hasattr(network.encoder, "forward_features") else None
    if hasattr(network, "feature_map"):
        return _Maps(network)
    # torchvision takes seconds to import: what is none of ours is of it.
    from torchvision.models import ConvNeXt, DenseNet, EfficientNet, MobileNetV2, MobileNetV3, ResNet

    if isinstance(network, ResNet):
        parts = [(name, part) for name, part in network.named_children() if name not in ("avgpool", "fc")]
        return nn.Sequential(OrderedDict(parts))
    if isinstance(network, DenseNet):
        return nn.Sequential(network.features, nn.ReLU(inplace=True))
    if isinstance(network, ConvNeXt):
        return nn.Sequential(network.features, network.classifier[0])
    return network.features if isinstance(network, EfficientNet | MobileNetV2 | MobileNetV3) else None
