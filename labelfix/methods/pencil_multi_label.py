"""PENCIL where a row may have several labels: every class has a probability that back-propagation corrects.

Its card is part of that of PENCIL (`methods/pencil.py`).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import nn

from labelfix.estimation.evidence import PAPER_RULE, Evidence, Fit
from labelfix.estimation.one_class import tells_apart
from labelfix.estimation.weak_network import network_is_weak
from labelfix.methods.base import MethodSettings, TrainState, setting
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.binary_losses import (
    binary_cross_entropy,
    binary_entropy,
    binary_inverse_kl,
    binary_kl,
    binary_label_gradient,
    first_label_logits,
)
from labelfix.methods.moving_labels import looked_at
from labelfix.methods.multi_label import MultiLabelMethod, MultiLabelSettings
from labelfix.methods.pencil import FIRST_LOGIT, Stages, StageSettings, stage_of

_OPEN_IMAGES_CLASSES = 250
_EVERY_OTHER = tuple(range(2, 60, 2))


class Settings(StageSettings, MultiLabelSettings):
    """Settings of PENCIL for several labels a row; the defaults are those of the fast preset."""

    label_step: float = setting(
        20 / 17,
        "step of the label logits in an epoch along a gradient that stays within 1 + rho",
        source="20 / labels_epochs is ours: a logit has 20 to go; lambda / (batch_size classes) in Yi, Wang, Wu 2022",
        ge=0,
    )
    labels_rate: float = setting(
        0.02,
        "learning rate while the labels move",
        source="measured; that of the backbone in Yi, Wang, Wu 2022",
        ge=0,
    )
    kl_weight: float = setting(
        1.0,
        "several labels a row: weight of KL(label || prediction) beside KL(prediction || label)",
        source="both in Yi, Wang, Wu 2022, 4.2, which names no weights",
        ge=0,
    )


class MultiLabelPencil(MultiLabelMethod, Stages):
    """Binary cross-entropy, then network and label probabilities together, then the network on what they became."""

    moving: torch.Tensor
    given_targets: torch.Tensor
    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        # Which classes may move, as numbers, so that a step need not wait for the device.
        start = 1.0 if settings.when_weak == "go" else 0.0
        self.register_buffer("moving", torch.full_like(labels.class_prior, start))

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, and Open Images of Yi, Wang, Wu 2022, 4.2."""
        images = Settings(
            batch_size=128,
            learning_rate=0.005,
            labels_rate=0.005,
            classifier_rate=0.005,
            weight_decay=4e-5,
            optimiser="rmsprop",
            head_rate=5.0,
            head_weight_decay=4e-5,
            backbone_epochs=35,
            labels_epochs=65,
            classifier_epochs=60,
            milestones=_EVERY_OTHER,
            decay=0.94,
            average_from=10,
            average_until=100,
            label_step=300 / (128 * _OPEN_IMAGES_CLASSES),
            rho=0.2,
            beta=0.2,
            divide_by_classes=True,
            when_weak="go",
            score_from="method",
        )
        fast = Settings()
        pretrained = fast.pretrained(
            head={"head": "pool", "head_weight_decay": 0.01, "labels_rate": 0.005},
            tune={"labels_rate": 0.02, "classifier_rate": 0.02},
        )
        return {"fast": fast, **pretrained, "paper": images, "paper-open-images": images}

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """The losses of the stage; while the labels move, those of the batch take their step here."""
        settings, stage, given = self.settings, stage_of(when), self.given_targets[batch.rows]
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        scale = 1 / self.labels.num_classes if settings.divide_by_classes else 1.0
        if stage == "backbone" or not self.moves:
            return {"cross_entropy": scale * binary_cross_entropy(logits, given).mean()}
        labels = self.label_logits[batch.rows]
        parts = {"classification": scale * binary_inverse_kl(logits, labels).mean()}
        if settings.kl_weight:
            parts["forward_classification"] = settings.kl_weight * scale * binary_kl(logits, labels).mean()
        if stage == "labels":
            pull = binary_cross_entropy(labels, given).mean()
            parts["compatibility"] = scale * settings.rho * pull  # the network has no part in it
            parts["entropy"] = scale * settings.beta * binary_entropy(logits).mean()
            gradient = binary_label_gradient(
                logits.detach(), labels, given, rho=settings.rho, kl_weight=settings.kl_weight
            )
            self.label_logits[batch.rows] -= self.label_step(when) * self.moving * gradient
        return parts

    def may_move(self, probs: np.ndarray) -> bool:
        """Which classes may move, and whether there is any: those that the network is not too weak for.

        It must also surely rank rows that are given a class before others. Where few rows have a class, a network that
        is unsure of all of them would take it from nearly every one.

        Args:
            probs: (N, K) its averaged predictions so far.
        """
        if self.settings.when_weak == "go":
            return True
        probs, given, targets = looked_at(probs, self.given.cpu().numpy(), self.given_targets.cpu().numpy())
        states = np.where((given >= 0)[:, None], targets >= 0.5, -1)
        may = [
            tells_apart(one, state, state >= 0)
            and not network_is_weak(np.stack([1 - one, one], axis=1), state)
            for one, state in zip(probs.T, states.T, strict=True)
        ]
        self.moving.copy_(torch.tensor(may, dtype=torch.float32))
        self.moves = any(may)
        return self.moves

    def changed_share(self) -> float:
        """Share of the states of classes in rows that are others than given."""
        rows = self.given >= 0
        return float(((self.label_logits >= 0) != (self.given_targets >= 0.5))[rows].float().mean())

    def own_evidence_of(self, label: int) -> Evidence:
        """What its own labels say of one class, a question with the answers 0 and 1, by the paper's rule."""
        given, rho = self.given.cpu().numpy(), self.settings.rho
        rows = np.flatnonzero(given >= 0)
        target = self.given_targets[:, label].cpu().double().numpy()[rows]
        belief = self.label_logits[:, label].cpu().double().sigmoid().numpy()[rows]
        if not self.settings.kl_weight:
            # At rest y = (f + rho given) / (1 + rho): what is wanted is f.
            belief = np.clip((1 + rho) * belief - rho * target, 0, 1)
        beliefs, noise = np.stack([1 - belief, belief], axis=1), np.where(target >= 0.5, 1 - belief, belief)
        fit = self.own_fit()
        if fit.ok and not self.moving[label]:
            fit = Fit(
                ok=False, reason="the network does not tell the rows of this class: its labels stay as given"
            )
        return Evidence.of_rows(beliefs, noise, rows, len(given), fit, {}, PAPER_RULE)

    def _start_labels(self) -> None:
        """What is given, soft values exactly (N, K); zeros where no label is given."""
        first = first_label_logits(self.given_targets, FIRST_LOGIT)
        self.label_logits.copy_(torch.where((self.given >= 0).unsqueeze(1), first, 0.0))
