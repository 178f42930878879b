"""Mixup: training on mixtures of two images and their labels, which are harder to learn by heart than labels.

What it is for: the baseline of training on mixed images alone, which by itself slows the learning of wrong labels.
Every image is mixed with another of its batch, and so are their labels; nothing else is known or asked of the noise.

When it fails: a large share of wrong labels is learned all the same, only later; with few classes at low resolution
mixed images can be too hard for a small network.

Source: Zhang, Cisse, Dauphin, Lopez-Paz 2018, "mixup: Beyond Empirical Risk Minimization"; a baseline of Arazo et al.
2019 (tables 2 to 6), whose warm-up it is too.

Settings: `mixup_alpha` is the a of Beta(a, a), from which one share a batch is drawn. The averaged predictions need
unmixed images: a pass over all rows after every epoch of their window. `score_from=loss` ranks rows by the probability
of the given label that the trained network has; `trajectory` (default) by these averages, as those of every method
(docs/estimation.md).

Presets: `fast`, the schedule of cross-entropy; `paper`, 300 epochs for CIFAR-10 with shares from Beta(32, 32), a tenth
of the rate after 99 and 249 (Arazo et al. 2019, table 2). With `--encoder`, `fast` is `fast-head` (20 epochs of a head)
or, where the encoder is trained too, `fast-tune` (6).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from labelfix.methods import cross_entropy
from labelfix.methods.base import MethodSettings, Phase, Predict, TrainState, setting
from labelfix.methods.batch import Batch, to_device
from labelfix.methods.losses import mix, soft_cross_entropy

_AT_ONCE = 1 << 24  # logits


class Settings(cross_entropy.RobustSettings):
    """Settings of mixup."""

    mixup_alpha: float = setting(
        1.0,
        "shares are drawn from Beta(a, a), one a batch",
        source="Zhang et al. 2018, CIFAR-10; 32 in Arazo 2019, 3.3",
        gt=0,
    )


class Mixup(cross_entropy.CrossEntropy):
    """Cross-entropy of mixed images to mixed labels."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for the mixup of Arazo et al. 2019, table 2."""
        paper = Settings(
            batch_size=128,
            learning_rate=0.1,
            train_epochs=300,
            milestones=(99, 249),
            average_from=30,
            average_until=99,
            mixup_alpha=32.0,
        )
        return {"fast": Settings(), **Settings().pretrained(), "paper": paper}

    def phases(self) -> tuple[Phase, ...]:
        """One phase, with a pass over all rows in each epoch of the averages."""
        return (Phase("train", self.settings.epochs, forward_units=3, tracking=len(self.settings.averaged)),)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross-entropy of m x + (1 - m) x' to m y + (1 - m) y', m of the batch and the partners a permutation."""
        (x,), given = batch.views, F.one_hot(self.given[batch.rows], self.labels.num_classes).float()
        partner = to_device(batch.rng.permutation(len(x)), x.device)
        share = float(batch.rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
        logits = self.network(mix(x, x[partner], share)).float()
        return {"mixup": soft_cross_entropy(logits, mix(given, given[partner], share))}

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """Add what the network says of unmixed images to the averages, a part at a time."""
        ended = TrainState(when.phase, when.epoch - 0.5)
        if int(ended.epoch) not in self.settings.averaged:
            return {}
        rows, logits = np.flatnonzero(self.given.cpu().numpy() >= 0), predict("weak")
        num_parts = -(-len(rows) * logits.shape[1] // _AT_ONCE)
        for part in np.array_split(rows, max(num_parts, 1)):
            some, found = (
                to_device(each, self.given.device) for each in (part, logits[torch.from_numpy(part)])
            )
            self.remember(ended, some, found)
        return {}
