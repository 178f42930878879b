"""Cross-entropy: plain training on the given labels as they are, the baseline that every method has to beat.

What it is for: the baseline that every method has to beat, and a quick look. It trains on the given labels as they are;
rows whose label the network finds improbable are suspects.

When it fails: trained to the end of a low learning rate the network learns the wrong labels too, and its last-epoch
loss says little (the reason why the other methods exist).

Settings: `score_from=loss` (default) ranks rows by the loss of the trained network; `score_from=trajectory` by the
predictions averaged during the high-learning-rate part, a strong baseline of its own. Either way the estimates of how
many labels are wrong, and of what they should be, are those of every method (docs/estimation.md).

Several labels a row: `cross-entropy` is binary cross-entropy of every class, summed over the classes, on soft given
values as they are; `head=attention` (as of `pencil`) or `head=pool`. Its presets are the baselines of Yi, Wang, Wu
2022, 4.2: `paper-ms-coco` (60 epochs at .01, a tenth after 20 and 40, batches of 24, SGD; `paper` is this),
`paper-open-images` (90 epochs at .05 times .94 every 2 epochs, batches of 128, RMSprop, the head at five times the
rate) and `paper-open-images-pool` (without the head, at .1).

Presets: `fast`, the schedule of bmm's fast preset without its extra passes; `paper`, 120 epochs with the milestones of
Arazo et al. 2019, table 1 (CIFAR-10). With `--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the
encoder is trained too, `fast-tune` (6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from labelfix.methods.base import Method, MethodSettings, Phase, TrainState, score_from, setting
from labelfix.methods.batch import Batch


class Settings(MethodSettings):
    """Settings of cross-entropy."""

    train_epochs: int = setting(40, "epochs of training", source="those of bmm", ge=1)
    score_from: Literal["loss", "trajectory"] = score_from("loss", source="the baselines of the papers")

    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)


class RobustSettings(Settings):
    """Settings of what trains as cross-entropy does with another loss: findings rest on averaged predictions."""

    score_from: Literal["loss", "trajectory"] = score_from("trajectory")


class CrossEntropy(Method):
    """Cross-entropy on the given labels; what trains alike but for the loss inherits the rest."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings
    when_compared: ClassVar[Mapping[str, Any]] = {"score_from": "trajectory"}

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for the schedule of Arazo et al. 2019, table 1."""
        return {
            "fast": Settings(),
            **Settings().pretrained(),
            "paper": Settings(
                batch_size=128,
                learning_rate=0.1,
                train_epochs=120,
                milestones=(30, 80, 110),
                average_from=5,
                average_until=30,
            ),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase("train", self.settings.train_epochs, forward_units=3),)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of the weak view."""
        logits = self.network(batch.views[0])
        self.remember(when, batch.rows, logits)
        return {"cross_entropy": F.cross_entropy(logits, self.given[batch.rows])}

    def score(self, probs: np.ndarray, given: np.ndarray) -> np.ndarray | None:
        """1 - p(given), or with `score_from=trajectory` what is best known.

        Args:
            probs: (N, K), NaN for rows that are left out.
            given: (N,) int64, -1 for none.
        """
        if self.settings.score_from == "trajectory":
            return None
        own = probs[np.arange(len(given)), np.maximum(given, 0)].astype(np.float64)
        return np.where(given >= 0, 1 - own, np.nan)
