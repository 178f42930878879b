"""Binary cross-entropy, what plain cross-entropy is where a row may have several labels.

Its card is part of that of cross-entropy (`methods/cross_entropy.py`).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from labelfix.methods import cross_entropy
from labelfix.methods.base import MethodSettings, Phase, TrainState
from labelfix.methods.batch import Batch
from labelfix.methods.binary_losses import binary_cross_entropy
from labelfix.methods.multi_label import MultiLabelMethod, MultiLabelSettings

_EVERY_OTHER = tuple(range(2, 90, 2))


class Settings(MultiLabelSettings, cross_entropy.Settings):
    """Settings of binary cross-entropy."""


class BinaryCrossEntropy(MultiLabelMethod):
    """Binary cross-entropy on the given labels, soft ones as they are."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, and the baselines of Yi, Wang, Wu 2022, 4.2."""
        fast = Settings()
        coco = Settings(
            batch_size=24,
            learning_rate=0.01,
            train_epochs=60,
            milestones=(20, 40),
            average_from=5,
            average_until=20,
        )
        images = Settings(
            batch_size=128,
            learning_rate=0.05,
            weight_decay=4e-5,
            optimiser="rmsprop",
            train_epochs=90,
            milestones=_EVERY_OTHER,
            decay=0.94,
            average_from=5,
            average_until=45,
            head_rate=5.0,
            head_weight_decay=4e-5,
        )
        return {
            "fast": fast,
            **fast.pretrained(head={"head": "pool", "head_weight_decay": 0.01}),
            "paper": coco,
            "paper-ms-coco": coco,
            "paper-open-images": images,
            "paper-open-images-pool": images.model_copy(update={"head": "pool", "learning_rate": 0.1}),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase("train", self.settings.train_epochs, forward_units=3),)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Binary cross-entropy of the weak view: the sum over the classes, the mean over the rows."""
        assert self.given_targets is not None
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        return {"cross_entropy": binary_cross_entropy(logits, self.given_targets[batch.rows]).mean()}

    def score(self, probs: np.ndarray, given: np.ndarray) -> np.ndarray | None:
        """As of cross-entropy, for one class: probabilities (N, 2) of lacking and having it, given 0 or 1.

        Args:
            probs: (N, 2), NaN for rows that are left out.
            given: (N,) int64, -1 for none.
        """
        if self.settings.score_from == "trajectory":
            return None
        own = probs[np.arange(len(given)), np.maximum(given, 0)].astype(np.float64)
        return np.where(given >= 0, 1 - own, np.nan)
