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
    "mixmatch": ("labelfix.methods.mixmatch", "MixMatch"),
}

# What takes the place of a method where a row may have several labels.
_MULTI_LABEL = {
    "pencil": ("labelfix.methods.pencil_multi_label", "MultiLabelPencil"),
    "cross-entropy": ("labelfix.methods.binary_cross_entropy", "BinaryCrossEntropy"),
}

# What `auto` compares, by the task; the first is what it is where nothing is compared. Others are left out as each of
# them costs a training, and meta and mixmatch as they need verified labels.
AUTO = "auto"
_CANDIDATES = {"single": ("bmm", "cross-entropy", "nnaqc"), "multi": ("pencil",)}


def method_names() -> list[str]:
    """Names of all methods; imports no torch."""
    return list(_REGISTRY)


def multi_label_methods() -> list[str]:
    """Names of the methods for several labels a row; imports no torch."""
    return list(_MULTI_LABEL)


def auto_methods(task: str) -> tuple[str, ...]:
    """What `auto` compares, the first being what it is where nothing is compared; imports no torch."""
    return _CANDIDATES[task]


def method_class(name: str, task: str = "single") -> type[Method]:
    """The class of a method for a task: "single" for one label a row, "multi" for several; of `auto` where it is one.

    Raises:
        InputError: there is no such method, or it takes one label a row only.
    """
    name = _CANDIDATES[task][0] if name == AUTO else name
    if name not in _REGISTRY:
        raise InputError(f"--method {name}: unknown; choose one of {', '.join((AUTO, *_REGISTRY))}")
    if task == "multi" and name not in _MULTI_LABEL:
        raise InputError(
            f"--method {name}: it takes one label per row; for multi-label sources use --method"
            f" {' or '.join(_MULTI_LABEL)}"
        )
    module, attribute = (_MULTI_LABEL if task == "multi" else _REGISTRY)[name]
    return getattr(import_module(module), attribute)


def method_card(name: str) -> dict[str, Any]:
    """What a person should know of a method: purpose, card, settings (default, source, meaning) and presets.

    Raises:
        InputError: there is no such method; `auto` is none of its own.
    """
    if name not in _REGISTRY:
        auto = f" ({AUTO} compares {', '.join(auto_methods('single'))})" if name == AUTO else ""
        raise InputError(f"--method {name}: no method{auto}; choose one of {', '.join(_REGISTRY)}")
    chosen = method_class(name)
    card = inspect.getdoc(inspect.getmodule(chosen)) or ""
    settings, presets = chosen.settings_type.described(), list(chosen.presets())
    if name in _MULTI_LABEL:
        several = method_class(name, "multi")
        known = {setting["name"] for setting in settings}
        settings += [setting for setting in several.settings_type.described() if setting["name"] not in known]
        presets += [preset for preset in several.presets() if preset not in presets]
    return {
        "name": name,
        "purpose": _purpose(card),
        "summary": card.splitlines()[0],
        "card": card,
        "settings": settings,
        "presets": presets,
    }


def _purpose(card: str) -> str:
    """The first sentence of what a card says that its method is for, in one line."""
    text = " ".join(card.partition("What it is for: ")[2].split())
    return re.split(r"\.(?: |$)", text, maxsplit=1)[0]
