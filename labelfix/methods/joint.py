"""Joint optimisation: network and labels are learned in turn, then the network anew from the labels.

CARD
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.batches import Batch, Labels
from labelfix.evidence import Evidence
from labelfix.losses import class_balance, entropy, mean_probs, mix, soft_cross_entropy
from labelfix.methods import base
from labelfix.methods.base import Method, Moment, Phase, Predict
from labelfix.methods.joint_settings import Settings, presets
from labelfix.readings import both
from labelfix.schedules import step_decay

_TINY = 1e-12


class Joint(Method):
    """Labels that follow the averaged predictions of the epochs before, and a second training on what they became.

    `past`, in main memory wherever the network is, holds what the labels are averaged from. For `average=ring` it is
    (ring_epochs, N, K) float16, epoch e (from 1) in slot (e - 1) mod ring_epochs: a fifth of ten times N x K float32
    on the device. A probability loses at most 2^-11 of itself, or 2^-25 where that is more (below 6.1e-5); the average
    is taken in float32 and its rows are made to sum to 1. For `average=all` it is the sum (1, N, K) float64.
    """

    record: torch.Tensor
    targets: torch.Tensor
    mean_probs: torch.Tensor
    settings_type: ClassVar[type[base.Settings]] = Settings

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        num_classes = labels.num_classes
        is_uniform = settings.prior == "uniform"
        self.prior = (
            torch.full_like(labels.class_prior, 1 / num_classes) if is_uniform else labels.class_prior
        )
        one_hot = F.one_hot(self.given.clamp_min(0), num_classes).float()
        # Softmax of every row in this epoch, and the labels that the network is trained towards.
        self.register_buffer("record", torch.zeros_like(one_hot))
        self.register_buffer("targets", one_hot * (self.given >= 0).unsqueeze(1))
        self.register_buffer("mean_probs", self.prior.clone())
        # No buffer: it would follow the network to the device. The checkpoint has it as extra state.
        slots, dtype = (
            (settings.ring_epochs, torch.float16) if settings.average == "ring" else (1, torch.float64)
        )
        self.past = torch.zeros((slots, *one_hot.shape), dtype=dtype)

    @classmethod
    def presets(cls) -> dict[str, base.Settings]:
        """`fast` for a CPU, `paper` for CIFAR-10 with half of the labels drawn anew, and the other tables."""
        return presets()

    def get_extra_state(self) -> torch.Tensor:
        """What the labels are averaged from: part of the state that a restart needs."""
        return self.past

    def set_extra_state(self, state: torch.Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.past.copy_(state)

    def phases(self) -> tuple[Phase, ...]:
        """Labels and network in turn, then the network alone, by default from its first weights."""
        settings = self.settings
        units = 6 if settings.finetune == "mixup" else 3
        fresh = settings.warm_start == "false"
        return (
            Phase("correct", settings.correct_epochs, forward_units=3),
            Phase("finetune", settings.finetune_epochs, forward_units=units, fresh=fresh),
        )

    def learning_rate(self, when: Moment) -> float:
        """Constant while the labels move; step decay afterwards."""
        settings = self.settings
        into = when.epoch - settings.correct_epochs
        if into < 0:
            return settings.learning_rate
        return step_decay(into, settings.finetune_rate, settings.milestones, settings.decay)

    def loss(self, when: Moment, batch: Batch) -> dict[str, torch.Tensor]:
        """L_c + alpha L_p + beta L_e (equation 3), or L_c + L_mix (algorithm 2); the labels have no gradient."""
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        parts = {"classification": soft_cross_entropy(logits, self.targets[batch.rows])}
        if when.phase.name == "correct":
            self.record[batch.rows] = logits.detach().softmax(dim=1)
            parts["balance"] = self.settings.balance * class_balance(self._mean_probs(logits), self.prior)
            parts["entropy"] = self.settings.entropy * entropy(F.log_softmax(logits, dim=1)).mean()
        elif self.settings.finetune == "mixup":
            parts["mixup"] = self._mixup_loss(batch)
        return parts

    def _mixup_loss(self, batch: Batch) -> torch.Tensor:
        """L_mix of equation 9, in a forward of its own."""
        (x,), targets = batch.views, self.targets[batch.rows]
        partner = torch.from_numpy(batch.rng.permutation(len(x))).to(x.device, non_blocking=True)
        share = float(batch.rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
        logits = self.network(mix(x, x[partner], share)).float()
        return soft_cross_entropy(logits, mix(targets, targets[partner], share))

    def after_epoch(self, when: Moment, predict: Predict) -> dict[str, float]:
        """Keep the predictions of the epoch; from `update_from` on the labels are the average of those kept."""
        if when.phase.name != "correct":
            return {}
        done = round(when.epoch)
        if self.settings.average == "all":
            self.past += self.record.cpu()
        else:
            self.past[(done - 1) % len(self.past)] = self.record.cpu()
        if done < self.settings.update_from:
            return {}
        labels = self._averaged(done).to(self.targets)
        if self.settings.labels == "hard":
            labels = F.one_hot(labels.argmax(dim=1), self.labels.num_classes).to(labels)
        rows = self.given >= 0
        self.targets[rows] = labels[rows]
        changed = self.targets[rows].argmax(dim=1) != self.given[rows]
        return {"changed_share": float(changed.float().mean())}

    def evidence(self, predict: Predict) -> Evidence:
        """The labels as the first step left them, or averaged predictions, or both."""
        given = self.given.cpu().numpy()
        averaged = self.averaged_evidence()
        if self.settings.score_from == "trajectory":
            return averaged
        own = self._label_evidence(given, averaged)
        return own if self.settings.score_from == "method" else both(own, averaged)

    def _label_evidence(self, given: np.ndarray, averaged: Evidence) -> Evidence:
        """The average that the last labels are, also where they are its classes: a score needs its shades.

        Whether the labels are clean at all is for the averaged predictions to say.
        """
        beliefs = self._averaged(self.settings.correct_epochs).double().numpy()
        beliefs[given < 0] = np.nan
        others = beliefs.copy()
        others[np.arange(len(given)), np.maximum(given, 0)] = 0
        # The sum of the others, not 1 - own: nearly certain rows keep their order.
        noise = np.minimum(others.sum(axis=1), 1.0)
        return replace(averaged, noise=noise, probs=beliefs.astype(np.float32))

    def _averaged(self, done: int) -> torch.Tensor:
        """Mean (N, K) over the epochs kept after `done` epochs, rows that sum to 1; zeros for untrained rows."""
        total = torch.zeros(self.past.shape[1:], dtype=torch.promote_types(self.past.dtype, torch.float32))
        for epoch in self.past[:done]:
            total += epoch
        return total / total.sum(dim=1, keepdim=True).clamp_min(_TINY)

    def _mean_probs(self, logits: torch.Tensor) -> torch.Tensor:
        mean = mean_probs(logits, self.mean_probs)
        self.mean_probs.copy_(mean.detach())
        return mean
