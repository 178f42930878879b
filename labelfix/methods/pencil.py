"""PENCIL: every label is a distribution that back-propagation corrects while the network trains on it.

What it is for: labels that a good network can put right one by one, without trusted samples or a noise rate. The
backbone learns the given labels at a high learning rate, too high to learn wrong ones by heart; then network and
labels move together, each towards the other; in the end the network is trained on what the labels have become.

When it fails: where the network is wrong the labels follow it (figures below); a backbone trained too long, or at
too low a rate, agrees with the wrong labels, and nothing moves. With the paper's alpha of .1 and 100 classes (`rho`
of 10, as in `paper-cifar100`) labels soften, and their largest entry never changes.

Source: Yi, Wang, Wu 2022, "PENCIL: Deep Learning with Noisy Labels", with details from the authors' code for the
earlier paper (Yi and Wu 2019). L = L_c / K + alpha L_o + beta / K L_e with L_c = KL(f || y) of the prediction f
and the label distribution y, L_o the compatibility with the given label, L_e the entropy of f. y is the softmax of
label logits that begin at 10 for the given class; each row's take one step a batch it is in, along the gradient at the
forward that the network learns from. They know no momentum and no weight decay. `repeats` goes through the last two
stages again from the network reached, with labels from the given ones and rates and steps a tenth smaller each time.

Differences, all deliberate: `label_step` is what lambda / (batch_size classes) comes to, so that labels move alike in
batches of any size; `rho` is alpha K: with `compat=paper` (equation 9) labels come to rest at (f + rho given) /
(1 + rho), and change class only where f prefers another by more than rho: never with the paper's rho of 1. The
authors' code takes the softmax of y once more there (`compat=reference`, as in the paper presets), which lets go of
the given label as y leaves it. Its learning rate is 0 after 40 epochs of the last stage (a whole-number division);
here it falls as the paper says. How much smaller a repeat's steps are, the paper does not say. An epoch has no
remainder, so no row misses its step.

Findings: the belief is the label distribution at the end of its last stage, without what the pull leaves at the given
label: (1 + rho) y - rho given, at least 0 (as it is with `compat=reference` or `classification_loss=kl`); noise is
1 - that of the given label (`score_from=method`). `trajectory` takes the pooled reading of the averaged predictions,
which also judges whether the labels are clean at all, `both` the mean of the two.

Presets: `fast`, 40 epochs for a CPU; `paper-cifar10-sym10`, `paper-cifar10-sym30`, `paper-cifar10-sym50`,
`paper-cifar10-sym70`, `paper-cifar10-sym90`, `paper-cifar10-asym10`, `paper-cifar10-asym20`, `paper-cifar10-asym30`,
`paper-cifar10-asym40` and `paper-cifar10-asym50`, 320 epochs by table 1, made for preact-resnet32; `paper`, the one
for 50 % symmetric noise; `paper-cifar100`, for cifar-resnet34. Others, for pretrained ResNet-50 at 224 px (epochs of
the stages; rates; batch; weight decay; alpha, beta, lambda): CUB-200, 35 / 65 / 60; .002, .002, .001 to a tenth after
20 and 40; 16; 1e-4; 0 or .1, .8, 1000 to 3000. Clothing1M, 5 / 10 / 10; .0016, .0008, .0005 to a tenth after 5; 32;
1e-3; .08, .8, 3000 and from the sixth epoch of the labels on 500 (here one step, or `label_decay=linear`). There the
paper trains on a random subset with as many images of every given class. A method cannot choose the rows it trains
on: `balance_classes=true` keeps them all and weighs their losses, so that every given class counts alike for the
network; labels move unweighed.

How `fast` was found (all digits of scikit-learn, one seed; share of label distributions whose largest entry is right,
with 40 % wrong anywhere / 30 % wrong in pairs / none): stages of 16, 17 and 7 epochs at rates of .05, .05 and .005,
.988 / .994 / .999. Losses divided by the number of classes, with a last rate of .05, .977 / .958 / 1; a rate of .02
while the labels move, .980 / .977 / 1: the undivided losses at the high rate mend most. On 3,000 photographs of
CIFAR-10 with human labels, .825 of them right, that network is too weak: .754 of the distributions are, and the
averaged predictions (average precision .624) find wrong labels better than the distributions (.469) or both (.588).
So in the fast preset labels wait (`when_weak=wait`) where at the end of the backbone too few rows have a likely class;
then the last stages are cross-entropy on the given labels. The paper presets go on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from scipy.special import softmax
from torch import nn

from labelfix.estimation.evidence import Evidence
from labelfix.methods.base import Moment, Phase, Predict
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.losses import compatibility, entropy, forward_kl, inverse_kl, label_gradient
from labelfix.methods.moving_labels import MovingLabels
from labelfix.methods.pencil_settings import Settings, presets
from labelfix.methods.schedules import linear_steps, step_decay
from labelfix.methods.settings import MethodSettings

_FIRST_LOGIT = 10.0
_REPEAT_FACTOR = 0.9


class Pencil(MovingLabels):
    """Cross-entropy, then network and label distributions together, then the network on what they became."""

    label_logits: torch.Tensor
    class_weights: torch.Tensor
    settings_type: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        self.register_buffer("label_logits", self._first_logits())
        counts = torch.bincount(self.given[self.given >= 0], minlength=labels.num_classes).float()
        alike = counts.sum() / (counts.clamp_min(1) * (counts > 0).sum())
        weights = alike if settings.balance_classes == "true" else torch.ones_like(alike)
        self.register_buffer("class_weights", weights, persistent=False)

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR-10 with half of the labels drawn anew, and the other tables."""
        return presets()

    def phases(self) -> tuple[Phase, ...]:
        """The backbone, then labels and classifier once for every repeat."""
        settings = self.settings
        stages = [("backbone", settings.backbone_epochs)]
        for repeat in range(1, settings.repeats + 1):
            suffix = "" if repeat == 1 else f"-{repeat}"
            stages += [(f"labels{suffix}", settings.labels_epochs)]
            stages += [(f"classifier{suffix}", settings.classifier_epochs)]
        return tuple(Phase(name, epochs, forward_units=3) for name, epochs in stages if epochs)

    def learning_rate(self, when: Moment) -> float:
        """Constant while the labels move, with steps after; a tenth less with every repeat."""
        settings, stage = self.settings, _stage(when)
        if stage == "backbone":
            return settings.learning_rate
        repeat, epoch = self._place(when)
        factor = _REPEAT_FACTOR**repeat
        if stage == "labels":
            return factor * settings.labels_rate
        into = epoch - settings.labels_epochs
        return factor * step_decay(into, settings.classifier_rate, settings.milestones, settings.decay)

    def label_step(self, when: Moment) -> float:
        """Step of the label logits in this epoch; a tenth less with every repeat."""
        settings = self.settings
        repeat, epoch = self._place(when)
        first = _REPEAT_FACTOR**repeat * settings.label_step
        last = first if settings.label_decay == "none" else 0.0
        return linear_steps(int(epoch), first, last, settings.labels_epochs)

    def loss(self, when: Moment, batch: Batch) -> dict[str, torch.Tensor]:
        """The losses of the stage; while the labels move, those of the batch take their step here."""
        settings, stage, given = self.settings, _stage(when), self.given[batch.rows]
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        log_probs = F.log_softmax(logits, dim=1)
        weights = self.class_weights[given]
        if stage == "backbone" or not self.moves:
            return {"cross_entropy": (weights * F.nll_loss(log_probs, given, reduction="none")).mean()}
        log_labels = F.log_softmax(self.label_logits[batch.rows], dim=1)
        divergence = inverse_kl if settings.classification_loss == "inverse-kl" else forward_kl
        scale = 1 / self.labels.num_classes if settings.divide_by_classes == "true" else 1.0
        parts = {"classification": scale * (weights * divergence(log_probs, log_labels)).mean()}
        if stage == "labels":
            pull = compatibility(log_labels, given, settings.compat).mean()
            parts["compatibility"] = scale * settings.rho * pull  # the network has no part in it
            parts["entropy"] = scale * settings.beta * (weights * entropy(log_probs)).mean()
            self._move_labels(when, batch.rows, log_probs.detach(), log_labels)
        return parts

    def _move_labels(
        self, when: Moment, rows: torch.Tensor, log_probs: torch.Tensor, log_labels: torch.Tensor
    ) -> None:
        """Equation 30, from the labels and predictions of the forward that the network learns from."""
        settings = self.settings
        gradient = label_gradient(
            log_probs,
            log_labels,
            self.given[rows],
            rho=settings.rho,
            loss=settings.classification_loss,
            compat=settings.compat,
        )
        self.label_logits[rows] -= self.label_step(when) * gradient

    def after_epoch(self, when: Moment, predict: Predict) -> dict[str, float]:
        """Say how many labels have changed; the labels of the next repeat start from the given ones again."""
        if _stage(when) == "backbone":
            if int(when.epoch) == self.settings.backbone_epochs:
                self.may_move(self.probs_so_far(when, predict))
            return {}
        rows = self.given >= 0
        changed = self.label_logits[rows].argmax(dim=1) != self.given[rows]
        report = {"changed_share": float(changed.float().mean())}
        repeat, epoch = self._place(when)
        if epoch == 0 and repeat < self.settings.repeats:
            self.label_logits.copy_(self._first_logits())
        return report

    def own_evidence(self, averaged: Evidence, logits: torch.Tensor) -> Evidence:
        """The label distributions without what the pull of the given label leaves in them however wrong it is.

        Whether the labels are clean at all is for the averaged predictions to say.
        """
        given = self.given.cpu().numpy()
        settings, rows = self.settings, np.flatnonzero(given >= 0)
        own = np.arange(len(rows)), given[rows]
        beliefs = softmax(self.label_logits.double().cpu().numpy()[rows], axis=1)
        if settings.compat == "paper" and settings.classification_loss == "inverse-kl":
            # At rest y = (f + rho given) / (1 + rho): what is wanted is f.
            beliefs *= 1 + settings.rho
            beliefs[own] = np.maximum(beliefs[own] - settings.rho, 0)
            beliefs /= beliefs.sum(axis=1, keepdims=True)
        others = beliefs.copy()
        others[own] = 0
        noise, probs = np.full(len(given), np.nan), np.full(self.label_logits.shape, np.nan, dtype=np.float32)
        noise[rows], probs[rows] = np.minimum(others.sum(axis=1), 1), beliefs
        return replace(averaged, noise=noise, probs=probs)

    def _first_logits(self) -> torch.Tensor:
        """Equation 8 for every row (N, K); zeros where no label is given."""
        one_hot = F.one_hot(self.given.clamp_min(0), self.labels.num_classes).float()
        return _FIRST_LOGIT * one_hot * (self.given >= 0).unsqueeze(1)

    def _place(self, when: Moment) -> tuple[int, float]:
        """The repeat, from 0, and the epochs done of it."""
        settings = self.settings
        repeat, epoch = divmod(when.epoch - settings.backbone_epochs, settings.round_epochs)
        return int(repeat), epoch


def _stage(when: Moment) -> str:
    """The name of the phase, whichever repeat it is of."""
    return when.phase.name.partition("-")[0]
