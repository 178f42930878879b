"""Networks: `build` makes one from its specification; a name is all that a file has to remember."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from labelfix.errors import InputError
from labelfix.networks.encoders import is_encoder

if TYPE_CHECKING:
    from torch import nn

# Module and name of what makes each, given the number of classes; imported when it is built.
_OWN = {
    "small": ("small", "SmallNetwork"),
    "cifar-net": ("cifar_net", "CifarNet"),
    "mnist-net": ("mnist_net", "MnistNet"),
    "lc-cnn": ("low_capacity_cnn", "LowCapacityCnn"),
    "resnet29": ("bottleneck_resnet", "ResNet29"),
    "resnet44": ("cifar_resnet", "ResNet44"),
    "cifar-resnet34": ("cifar_resnet", "cifar_resnet34"),
    "preact-resnet18": ("preact_resnet", "preact_resnet18"),
    "preact-resnet32": ("preact_resnet", "preact_resnet32"),
    "wide-resnet28-10": ("preact_resnet", "wide_resnet28_10"),
    "wide-resnet28-10-padded": ("padded_wide_resnet", "PaddedWideResNet"),
}


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that `build` needs.

    Attributes:
        backbone: a name of `backbone_names()`, or of an encoder that has a linear head then.
        num_classes: K, length of the logits.
        image_size: side of the input in pixels.
        views: of an image that a frozen encoder sees: 1, or 2 with its mirror image; 0 for every other network.
        onnx_shape: bytes of the file of an ONNX encoder, and how many features it has; empty for every other network.
        head: empty for pooling and a linear layer, else one of `attention.HEADS`.
    """

    backbone: str
    num_classes: int
    image_size: int
    views: int = 0
    onnx_shape: Sequence[int] = ()
    head: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; what only some networks have is left out where it is empty."""
        return {name: value for name, value in asdict(self).items() if value}


def own_backbones() -> list[str]:
    """Our own networks; imports no torch."""
    return list(_OWN)


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
        InputError: an unknown backbone, or one that cannot be built for this image size, or not with this head.
    """
    network = _pooled(spec)
    # On a frozen encoder the head is there already: it decides what the encoder gives.
    return with_head(network, spec) if spec.head and not spec.views else network


def with_head(network: nn.Module, spec: NetworkSpec) -> nn.Module:
    """A network that `build` made without a head of `attention.HEADS` with that of its specification.

    Raises:
        InputError: it has no map of features that is pooled.
    """
    from labelfix.networks.attention import with_attention

    return with_attention(network, spec.backbone, spec.num_classes, spec.image_size, spec.head)


def _pooled(spec: NetworkSpec) -> nn.Module:
    """The network with its own pooling and a linear layer; a frozen encoder under the head of the specification."""
    if is_encoder(spec.backbone):
        from labelfix.networks.encoded import encoded_network

        return encoded_network(
            spec.backbone, spec.num_classes, spec.image_size, spec.views, tuple(spec.onnx_shape), spec.head
        )
    check_backbone(spec.backbone)
    if spec.backbone in _OWN:
        module, attribute = _OWN[spec.backbone]
        network: nn.Module = getattr(import_module(f"labelfix.networks.{module}"), attribute)(
            spec.num_classes
        )
        return network
    # torchvision takes seconds to import: only who names one of its networks waits for it.
    from labelfix.networks.torchvision_models import torchvision_network

    return torchvision_network(spec.backbone, spec.num_classes, spec.image_size)
