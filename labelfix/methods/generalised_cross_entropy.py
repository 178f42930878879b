"""Generalised cross-entropy: a loss that stops pulling where the network finds the given label improbable.

What it is for: a baseline between cross-entropy and the mean absolute error, robust without any model of the noise.
Each row costs (1 - p^q) / q with the probability p of its given label: nearly cross-entropy at small q, and at q = 1 a
cost that no single row can dominate. It needs no trusted samples and no noise rate, and no pass more than
cross-entropy.

When it fails: with many classes, or a large q, the network learns slowly or not at all: nearly all probabilities are
small at first, and small probabilities have small gradients. Noise that is most of a class wins.

Source: Zhang, Sabuncu 2018, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels".

Settings: `q` is the paper's. With `truncate_from` the rows whose given label has a probability of `threshold` at most
are left out from that epoch on (the paper's truncated loss, by its alternating search),
and the choice is made anew every `truncate_every` epochs, by a pass over all rows. `score_from=loss` ranks rows by the
probability of the given label that the trained network has; `trajectory` (default) by averaged predictions, as those
of every method (docs/estimation.md).

Differences, all deliberate: an epoch has no remainder; rows are chosen by the network as it is, not by the best so far
on a validation set.

Presets: `fast`, the schedule of cross-entropy; `paper`, 120 epochs for CIFAR-10 at .01, a tenth after 40 and 80;
`paper-truncated`, the same with the truncated loss from the 40th epoch on. With `--encoder`, `fast` is `fast-head` (20
epochs of a head) or, where the encoder is trained too, `fast-tune` (6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from labelfix.methods import cross_entropy
from labelfix.methods.base import Method, MethodSettings, Phase, Predict, TrainState, setting
from labelfix.methods.batch import Batch, Labels, to_device
from labelfix.methods.losses import generalised_cross_entropy

_PAPER = "Zhang, Sabuncu 2018"


class Settings(cross_entropy.RobustSettings):
    """Settings of generalised cross-entropy."""

    q: float = setting(
        0.7,
        "between cross-entropy (towards 0) and mean absolute error (1)",
        source=_PAPER,
        gt=0,
        le=1,
    )
    truncate_from: int = setting(
        0,
        "epoch from which rows with an improbable given label are left out; 0: none ever is",
        source=f"40 of 120 in {_PAPER}, for the truncated loss",
        ge=0,
    )
    truncate_every: int = setting(10, "epochs after which these rows are chosen anew", source=_PAPER, ge=1)
    threshold: float = setting(
        0.5,
        "k: probability of the given label up to which a row is left out",
        source=_PAPER,
        ge=0,
        lt=1,
    )

    def with_epochs(self, total: int) -> Self:
        """As of every method; the truncation begins and returns at the same shares of the run."""
        scaled, scale = super().with_epochs(total), total / self.epochs
        first = max(round(self.truncate_from * scale), 1) if self.truncate_from else 0
        changes = {"truncate_from": first, "truncate_every": max(round(self.truncate_every * scale), 1)}
        return scaled.model_copy(update=changes)

    def is_chosen_after(self, epochs: int) -> bool:
        """Whether rows are chosen when so many epochs are done: none would be trained by a choice after the last."""
        since = epochs - self.truncate_from
        return 0 < self.truncate_from <= epochs < self.epochs and since % self.truncate_every == 0


class GeneralisedCrossEntropy(cross_entropy.CrossEntropy):
    """The loss L_q, and its truncated form."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings
    is_kept: torch.Tensor
    row_axes: ClassVar[Mapping[str, int]] = {**Method.row_axes, "is_kept": 0}

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        # v of the truncated loss: rows that still count.
        self.register_buffer("is_kept", torch.ones(len(labels.given), device=labels.given.device))

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, and the two losses of the paper on CIFAR-10."""
        paper = Settings(
            batch_size=128,
            learning_rate=0.01,
            train_epochs=120,
            milestones=(40, 80),
            average_from=10,
            average_until=40,
        )
        truncated = paper.model_copy(update={"truncate_from": 40})
        return {"fast": Settings(), **Settings().pretrained(), "paper": paper, "paper-truncated": truncated}

    def phases(self) -> tuple[Phase, ...]:
        """One phase, and a pass over all rows wherever they are chosen."""
        epochs = self.settings.epochs
        chosen = sum(self.settings.is_chosen_after(done) for done in range(1, epochs + 1))
        return (Phase("train", epochs, forward_units=3, tracking=chosen),)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean of v L_q(p) + (1 - v) L_q(k), v in {0, 1}; v is 1 before the truncation begins."""
        settings = self.settings
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        losses = generalised_cross_entropy(logits, self.given[batch.rows], settings.q)
        kept, most = self.is_kept[batch.rows], (1 - settings.threshold**settings.q) / settings.q
        return {"generalised": (kept * losses + (1 - kept) * most).mean()}

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """Choose the rows that count in the next epochs."""
        if not self.settings.is_chosen_after(round(when.epoch)):
            return {}
        given, probs = self.given.cpu().numpy(), predict("plain").softmax(dim=1).numpy()
        own = probs[np.arange(len(given)), np.maximum(given, 0)]
        # A row whose image could not be read is no row of the training.
        kept = np.where((given >= 0) & np.isfinite(own), own > self.settings.threshold, True)
        self.is_kept.copy_(to_device(torch.from_numpy(kept.astype(np.float32)), self.given.device))
        return {"kept_share": float(kept[given >= 0].mean())}
