"""torchvision's image classifiers by name."""

from __future__ import annotations

from functools import cache
from typing import Any

import torchvision
from torch import nn

from labelfix.errors import InputError

# Their training forward returns more than logits, or they take no ordinary batch of images.
_EXCLUDED_PREFIXES = ("quantized_",)
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


@cache
def torchvision_names() -> tuple[str, ...]:
    """Names of torchvision's image classifiers, sorted."""
    names = torchvision.models.list_models(module=torchvision.models)
    return tuple(sorted(name for name in names if not name.startswith(_EXCLUDED_PREFIXES)))


def torchvision_network(name: str, num_classes: int, image_size: int) -> nn.Module:
    """A torchvision classifier with K logits for images of so many pixels, randomly initialised.

    Raises:
        InputError: a network that cannot be built for this size.
    """
    options: dict[str, Any] = {}
    if name in _WITH_AUXILIARY_HEADS:
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": image_size}
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise InputError(f"--backbone {name} cannot be built for {image_size} px ({error})") from None
