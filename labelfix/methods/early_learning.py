"""Early-learning regularisation: the network is held to what it predicted before it learned wrong labels by heart.

What it is for: the baseline that keeps all labels as they are, but a network at its early answers. A
running mean t of the predictions of every row is its target, and a row costs more the further the prediction p leaves
it: cross-entropy + lambda log(1 - <p, t>).

When it fails: where the network is wrong early it stays so; with labels of one class that are mostly another's, its
early answers are those.

Source: Liu, Niles-Weed, Razavian, Fernandez-Granda 2020, "Early-Learning Regularization Prevents Memorization of Noisy
Labels", with details from the authors' code: probabilities are clamped to 1e-4 from either end before they enter the
running mean, where they are made to sum to 1, and the target of this very step is already in the loss.

Settings: `strength` is lambda, `target_decay` is beta. `score_from=loss` ranks rows by the probability of the given
label that the trained network has; `trajectory` (default) by averaged predictions, as those of every method
(docs/estimation.md).

Differences, all deliberate: an epoch has no remainder, so no row misses its target's step. ELR+, with two networks,
averaged weights and mixup, is not here.

Presets: `fast`, the schedule of cross-entropy; `paper`, 120 epochs for CIFAR-10 at .02, a hundredth after 40 and 80;
`paper-cifar100`, 150 epochs, a hundredth after 80 and 120, lambda 7, beta .9. With `--encoder`, `fast` is `fast-head`
(20 epochs of a head) or, where the encoder is trained too, `fast-tune` (6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.methods import cross_entropy
from labelfix.methods.base import Method, MethodSettings, TrainState, setting
from labelfix.methods.batch import Batch, Labels

_PAPER = "Liu et al. 2020"
_EDGE = 1e-4


class Settings(cross_entropy.RobustSettings):
    """Settings of early-learning regularisation."""

    strength: float = setting(3.0, "lambda: weight of the regularisation", source=f"{_PAPER}, CIFAR-10", ge=0)
    target_decay: float = setting(
        0.7,
        "beta: what a row's target keeps of itself at every visit",
        source=f"{_PAPER}, CIFAR-10",
        ge=0,
        lt=1,
    )


class EarlyLearning(cross_entropy.CrossEntropy):
    """Cross-entropy, and a cost of leaving the running mean of a row's predictions."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings
    targets: torch.Tensor
    row_axes: ClassVar[Mapping[str, int]] = {**Method.row_axes, "targets": 0}

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        self.register_buffer("targets", torch.zeros_like(self.ensembled_probs))

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, and the authors' schedules for CIFAR."""
        paper = Settings(
            batch_size=128,
            learning_rate=0.02,
            weight_decay=1e-3,
            train_epochs=120,
            milestones=(40, 80),
            decay=0.01,
            average_from=10,
            average_until=40,
        )
        cifar100 = {"train_epochs": 150, "milestones": (80, 120), "strength": 7.0, "target_decay": 0.9}
        return {
            "fast": Settings(),
            **Settings().pretrained(),
            "paper": paper,
            "paper-cifar100": paper.model_copy(update={**cifar100, "average_until": 80}),
        }

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross-entropy + lambda mean log(1 - <p, t>); the target takes its step here and has no gradient."""
        settings, given = self.settings, self.given[batch.rows]
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        probs = logits.softmax(dim=1).clamp(_EDGE, 1 - _EDGE)
        seen = probs.detach()
        seen = seen / seen.sum(dim=1, keepdim=True)
        targets = torch.lerp(seen, self.targets[batch.rows], settings.target_decay)
        self.targets[batch.rows] = targets
        agreement = (targets * probs).sum(dim=1)
        return {
            "cross_entropy": F.cross_entropy(logits, given),
            "early_learning": settings.strength * (1 - agreement).log().mean(),
        }
