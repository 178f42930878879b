"""Settings of a method that know their meaning: checked, scaled to other epochs, set by text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_type_hints

from labelfix.errors import InputError
from labelfix.methods.schedules import scaled_epochs


def setting(default: Any, meaning: str, *, source: str, choices: tuple[str, ...] = ()) -> Any:
    """A field of a method's settings with its meaning, the source of its default, and its allowed values."""
    metadata = {"meaning": meaning, "source": source, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class MethodSettings:
    """Settings of every method; each method adds its own. Epochs are counted from 0 over the whole run."""

    batch_size: int = setting(
        32, "rows of a training step", source="measured on 5,000 images; 128 in the papers"
    )
    learning_rate: float = setting(
        0.05,
        "learning rate before the first milestone",
        source="measured with 32 rows; 0.1 in Arazo 2019, 4.1",
    )
    momentum: float = setting(0.9, "momentum of SGD", source="Arazo 2019, 4.1")
    weight_decay: float = setting(1e-4, "L2 penalty of all weights", source="Arazo 2019, 4.1")
    flip: str = setting(
        "auto",
        "mirror training images at random; auto: from 32 px up (smaller images are mostly glyphs)",
        source="the papers mirror CIFAR; auto is ours",
        choices=("auto", "true", "false"),
    )

    milestones: tuple[int, ...] = setting(
        (33,),
        "epochs after which the learning rate falls by the factor `decay`",
        source="measured; 99 and 249 of 300 in Arazo 2019, 4.1",
    )
    decay: float = setting(
        0.1, "what each milestone multiplies the learning rate by", source="Arazo 2019, 4.1"
    )
    average_from: int = setting(12, "first epoch of the averaged predictions", source="ours, measured")
    average_until: int = setting(
        40, "epoch at which the averaging of predictions ends", source="ours, measured"
    )

    phase_epochs: ClassVar[tuple[str, ...]]
    """Names of the settings that hold the epochs of each phase, in order."""

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(getattr(self, name) for name in self.phase_epochs)

    def with_epochs(self, total: int) -> Self:
        """The same schedule stretched or shrunk to `total` epochs.

        Raises:
            ValueError: fewer epochs than phases.
        """
        scale = total / self.epochs
        parts = scaled_epochs([getattr(self, name) for name in self.phase_epochs], total)
        until = min(max(round(self.average_until * scale), 1), total)
        changes: dict[str, Any] = {
            **dict(zip(self.phase_epochs, parts, strict=True)),
            "milestones": tuple(max(1, round(epoch * scale)) for epoch in self.milestones),
            "average_from": min(round(self.average_from * scale), until - 1),
            "average_until": until,
        }
        return dataclasses.replace(self, **changes)

    @property
    def averaged(self) -> range:
        """Epochs whose predictions are averaged, counted from 0."""
        return range(self.average_from, min(self.average_until, self.epochs))

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        for name in ("batch_size", *self.phase_epochs):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "momentum", "weight_decay", "decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 up")
        if not self.averaged or self.average_from < 0:
            raise InputError(
                f"average_from={self.average_from}: must be 0 or more, and before the last epoch and "
                f"average_until ({self.averaged.stop}); lower it, or scale everything with --epochs"
            )

    @classmethod
    def described(cls) -> list[dict[str, Any]]:
        """Name, type, default, meaning, source and choices of every setting."""
        hints = get_type_hints(cls)
        return [
            {"name": f.name, "type": _type_name(hints[f.name]), "default": f.default, **f.metadata}
            for f in dataclasses.fields(cls)
        ]

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """A copy with settings changed, by text as given with --set or by the values themselves.

        Raises:
            InputError: an unknown name, or a value of another type or outside its choices.
        """
        hints = get_type_hints(type(self))
        fields = {f.name: f for f in dataclasses.fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
            if name not in fields:
                raise InputError(f"--set {name}={text}: no such setting; there are {', '.join(fields)}")
            values[name] = _parsed(name, text, hints[name], fields[name].metadata["choices"])
        return dataclasses.replace(self, **values)


def _type_name(hint: Any) -> str:
    return (
        "whole numbers"
        if hint == tuple[int, ...]
        else {int: "whole number", float: "number"}.get(hint, "text")
    )


def _parsed(name: str, text: str, hint: Any, choices: tuple[str, ...]) -> Any:
    if choices and text not in choices:
        raise InputError(f"--set {name}={text}: choose one of {', '.join(choices)}")
    try:
        if hint == tuple[int, ...]:
            return tuple(int(part) for part in text.split(",") if part)
        return hint(text)
    except ValueError:
        raise InputError(f"--set {name}={text}: expected a {_type_name(hint)}") from None
