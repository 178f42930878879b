"""The published methods: one paper a file, one line here.

A method's module docstring is its card; `labelfix methods NAME` prints it.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from labelfix.errors import InputError

if TYPE_CHECKING:
    from labelfix.methods.base import Method

_REGISTRY = {
    "bmm": ("labelfix.methods.bmm", "BMM"),
    "pencil": ("labelfix.methods.pencil", "Pencil"),
    "joint": ("labelfix.methods.joint", "Joint"),
    "meta": ("labelfix.methods.meta", "Meta"),
    "nnaqc": ("labelfix.methods.nnaqc", "NNAQC"),
    "cross-entropy": ("labelfix.methods.cross_entropy", "CrossEntropy"),
    "confident-learning": ("labelfix.methods.confident_learning", "ConfidentLearning"),
    "forward-correction": ("labelfix.methods.forward_correction", "ForwardCorrection"),
    "generalised-cross-entropy": ("labelfix.methods.generalised_cross_entropy", "GeneralisedCrossEntropy"),
    "bootstrapping": ("labelfix.methods.bootstrapping", "Bootstrapping"),
    "mixup": ("labelfix.methods.mixup", "Mixup"),
    "early-learning": ("labelfix.methods.early_learning", "EarlyLearning"),
}


def method_names() -> list[str]:
    """Names of all methods; imports no torch."""
    return list(_REGISTRY)


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: there is no such method.
    """
    if name not in _REGISTRY:
        raise InputError(f"--method {name}: unknown; choose one of {', '.join(_REGISTRY)}")
    module, attribute = _REGISTRY[name]
    return getattr(import_module(module), attribute)


def method_card(name: str) -> dict[str, Any]:
    """What a person should know of a method: purpose, card, settings (default, source, meaning) and presets."""
    chosen = method_class(name)
    card = inspect.getdoc(inspect.getmodule(chosen)) or ""
    return {
        "name": name,
        "purpose": _purpose(card),
        "summary": card.splitlines()[0],
        "card": card,
        "settings": chosen.settings_type.described(),
        "presets": list(chosen.presets()),
    }


def _purpose(card: str) -> str:
    """The first sentence of what a card says that its method is for, in one line."""
    text = " ".join(card.partition("What it is for: ")[2].split())
    return re.split(r"\.(?: |$)", text, maxsplit=1)[0]
