"""Networks: `build` makes one from its specification; a name is all that a file has to remember."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from labelfix.errors import InputError
from labelfix.networks.bottleneck_resnet import ResNet29
from labelfix.networks.cifar_net import CifarNet
from labelfix.networks.cifar_resnet import ResNet44, cifar_resnet34
from labelfix.networks.preact_resnet import preact_resnet18, preact_resnet32, wide_resnet28_10
from labelfix.networks.small import SmallNetwork

_OWN: dict[str, Callable[[int], nn.Module]] = {
    "small": SmallNetwork,
    "cifar-net": CifarNet,
    "resnet29": ResNet29,
    "resnet44": ResNet44,
    "cifar-resnet34": cifar_resnet34,
    "preact-resnet18": preact_resnet18,
    "preact-resnet32": preact_resnet32,
    "wide-resnet28-10": wide_resnet28_10,
}


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that `build` needs.

    Attributes:
        backbone: a name of `backbone_names()`.
        num_classes: K, length of the logits.
        image_size: side of the input in pixels.
    """

    backbone: str
    num_classes: int
    image_size: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def backbone_names() -> list[str]:
    """Our own networks first, then torchvision's classifiers."""
    from labelfix.networks.torchvision_models import torchvision_names

    return [*_OWN, *torchvision_names()]


def check_backbone(name: str) -> None:
    """Refuse a network that does not exist.

    Raises:
        InputError: an unknown name.
    """
    if name not in _OWN and name not in backbone_names():
        own = ", ".join(_OWN)
        raise InputError(
            f"--backbone {name}: unknown; choose auto, {own} or a torchvision classifier such as resnet50"
        )


def build(spec: NetworkSpec) -> nn.Module:
    """A freshly initialised network: (B, 3, H, H) float32 to logits (B, K).

    Raises:
        InputError: an unknown backbone, or one that cannot be built for this image size.
    """
    check_backbone(spec.backbone)
    if spec.backbone in _OWN:
        return _OWN[spec.backbone](spec.num_classes)
    # torchvision takes seconds to import: only who names one of its networks waits for it.
    from labelfix.networks.torchvision_models import torchvision_network

    return torchvision_network(spec.backbone, spec.num_classes, spec.image_size)
