"""Confident learning: cross-entropy in folds and cleanlab's label quality, the strongest peer.

What it is for: the strongest peer to compare with, cleanlab's ranking of predictions that never saw their row.
Cross-entropy is trained in 5 folds, so that every row is predicted by a network that never saw it; rows are ranked by 1
- cleanlab's label quality of those predictions (self-confidence, the probability of the given label; Northcutt, Jiang,
Chuang 2021, "Confident Learning"). How many are wrong, and so the values of the noise scores, is estimated as for every
method in folds (docs/estimation.md).

When it fails: it ranks by 1 - the probability of the given label, and a doubtful network doubts everything: hard
classes come first, wrong or right.

Settings: those of cross-entropy, but for `score_from`. It needs the extra `baselines`.

Presets: `fast`, 10 epochs a fold (5 folds of 10 epochs cost what 40 epochs on all rows do); `paper`, the 120 epochs of
plain cross-entropy in every fold. With `--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder
is trained too, `fast-tune` (6).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from labelfix.errors import InputError
from labelfix.estimation.evidence import scattered
from labelfix.methods.base import MethodSettings, setting
from labelfix.methods.cross_entropy import CrossEntropy


class ConfidentSettings(MethodSettings):
    """Settings of confident learning."""

    train_epochs: int = setting(
        10, "epochs of training in every fold", source="the passes of bmm over 5 folds", ge=1
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)
    score_from: ClassVar[str] = "loss"

    def check(self) -> None:
        """Refuse numbers that no run can have, and a missing cleanlab before anything is trained.

        Raises:
            InputError: naming the setting, or the extra to install.
        """
        super().check()
        if find_spec("cleanlab") is None:
            raise InputError(
                "--method confident-learning needs cleanlab: install it with pip install 'labelfix[baselines]'"
            )


class ConfidentLearning(CrossEntropy):
    """Cross-entropy in folds, scored by cleanlab's label quality."""

    settings_type: ClassVar[type[MethodSettings]] = ConfidentSettings
    default_folds: ClassVar[int] = 5
    packages: ClassVar[tuple[str, ...]] = ("cleanlab",)

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` with the schedule of plain cross-entropy's in every fold."""
        paper = CrossEntropy.presets()["paper"]
        shared = {name: getattr(paper, name) for name in ConfidentSettings.model_fields}
        fast = ConfidentSettings(milestones=(8,), average_from=3, average_until=10)
        return {"fast": fast, **fast.pretrained(), "paper": ConfidentSettings(**shared)}

    def score(self, probs: np.ndarray, given: np.ndarray) -> np.ndarray | None:
        """1 - cleanlab's label quality; NaN where there is none."""
        from cleanlab.rank import get_label_quality_scores

        rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
        return scattered(1 - get_label_quality_scores(given[rows], probs[rows]), rows, len(given))
