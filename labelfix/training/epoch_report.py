"""What an epoch of training says: a row of epochs.parquet."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from labelfix.json_files import Checks, by_name, is_count, is_number, is_text, maybe, wrong_key


@dataclass(frozen=True)
class EpochReport:
    """One row of epochs.parquet.

    Attributes:
        epoch: from 1, over the whole run.
        phase: its name.
        learning_rate: of the last step.
        losses: mean of each part of the loss over the steps.
        reported: what the method said after the epoch.
        elapsed_seconds: of the epoch.
    """

    epoch: int
    phase: str
    learning_rate: float
    losses: dict[str, float]
    reported: dict[str, float]
    elapsed_seconds: float

    @property
    def is_finite(self) -> bool:
        """False when training has diverged."""
        return all(math.isfinite(value) for value in self.losses.values())

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; a number that is not finite becomes None."""
        return {name: _finite(value) for name, value in asdict(self).items()}

    @classmethod
    def all_from_json(cls, values: Any) -> list[EpochReport]:
        """The inverse of `to_json` for a list of them.

        Raises:
            ValueError: something else.
        """
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise ValueError("the reports are no list of objects")
        wrong = [value for value in values if value.keys() != _CHECKS.keys() or wrong_key(value, _CHECKS)]
        if wrong:
            raise ValueError("a report of an epoch is of another kind")
        return [cls._from_json(value) for value in values]

    @classmethod
    def _from_json(cls, value: dict[str, Any]) -> EpochReport:
        nan = float("nan")
        parts = {k: {n: nan if v is None else v for n, v in value[k].items()} for k in ("losses", "reported")}
        return cls(**{**value, **parts})


def _is_float(value: Any) -> bool:
    """A finite number of any size, as the loss of a training that is about to diverge."""
    return isinstance(value, float) or is_number(value)


_CHECKS: Checks = {
    "epoch": is_count,
    "phase": is_text,
    "learning_rate": is_number,
    "losses": by_name(maybe(_is_float)),
    "reported": by_name(maybe(_is_float)),
    "elapsed_seconds": is_number,
}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
