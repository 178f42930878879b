"""Joint optimisation: network and labels are learned in turn, then the network is tuned on the labels they became.

What it is for: labels that a good network can put right all together, at half of them wrong and more. It needs no
trusted samples and no noise rate. At a high, constant learning rate a network learns the easy rows first and does not
learn wrong labels by heart; so from `update_from` on every label is replaced, after every epoch, by the average of what
the network predicted of its row in the last epochs of training. The labels cost no pass of their own.

When it fails: labels follow a network that is wrong, and it then learns its own errors; at a learning rate that is
too low it has learned the wrong labels before the first update. L_p holds the classes to the frequencies of the given
labels: where the noise has moved rows from one class to another, it pulls against the corrections. Without L_p and
L_e labels stay too flat to be taken.

Source: Tanaka, Ikami, Yamasaki, Aizawa 2018, "Joint Optimization Framework for Learning with Noisy Labels", with
details from the authors' code, and a later improvement of it with mixup ("the mixup paper" in the settings: it adds
L_mix to the second step; equations and tables are counted as there; its code is not public).
First step: L = L_c + alpha L_p + beta L_e, means over the batch; L_c the cross-entropy to the labels as they are, L_p =
sum_k p_k log(p_k / mean f_k) with the class frequencies p, L_e the entropy of the predictions f. Every training
forward writes its softmax into a record; after epoch e, from 1, the record goes into slot (e - 1) mod `ring_epochs` of
a ring, and if e >= `update_from` the labels become the mean of the slots (of those there are, when fewer). Second
step: L_c to the labels as they ended (`finetune=plain`), or L_c + L_mix, which mixes images in a forward of its own
(`mixup`), with shares from Beta(`mixup_alpha`, `mixup_alpha`), one a batch.

Settings: `balance` is alpha, `entropy` is beta. `average=all` takes all epochs so far in place of the ring;
`labels=hard` the class of the average (algorithm 1 of the mixup paper, whose text and Tanaka et al. have soft ones).
`warm_start=false` begins the second step with the network's first weights, random or pretrained, and no momentum.
`learning_rate` holds for the first step, `finetune_rate` with `milestones` for the second.

Differences, all deliberate: class frequencies are those of the given labels, smoothed (`prior=uniform`, as in the
paper-cifar10 presets, is the paper's), and the batch mean has the value of a moving one, with its own gradient, where a
batch has fewer than four rows a class; the ring is float16 in main memory (class `Joint` says what that loses); an
epoch has no remainder, so no row misses its record; the row "lambda" of table 1 is read as the a of Beta(a, a), since a
share cannot be 8. In the fast preset labels wait (`when_weak=wait`) until enough rows have a likely class: those that a
weak network moves drag it along (below), and averages of what it then predicts find nothing any more. The paper presets
go on.

Findings: the belief is the average behind the last labels, noise 1 - that of the given label (`score_from=method`, as
in the paper presets). `trajectory` judges the averaged predictions as those of every method (docs/estimation.md).

Presets: `fast`, 40 epochs for a CPU; `paper-cifar10-sym10`, `paper-cifar10-sym30`, `paper-cifar10-sym50`,
`paper-cifar10-sym70`, `paper-cifar10-sym90`, `paper-cifar10-asym10`, `paper-cifar10-asym20`, `paper-cifar10-asym30`,
`paper-cifar10-asym40` and `paper-cifar10-asym50`, 200 and 120 epochs by table 1, made for preact-resnet32; `paper`, the
one for 50 % symmetric noise; `paper-tanaka`, that without mixup, the second step of Tanaka et al.; `paper-clothing1m`,
for a pretrained ResNet-50 at 224 px (`--backbone resnet50 --weights imagenet`): 10 epochs at 8e-4 with alpha 2.4, beta
.8 and labels from the first epoch on, the average of all so far; then 10 with mixup (a = .8) at 5e-4, a tenth after 5;
batches of 32, weight decay 1e-3. With `--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is
trained too, `fast-tune` (6).

How `fast` was found (all digits of scikit-learn, seed 0, symmetric-exclusive noise of .4: .600 of the given labels
right; share of labels right after corrections by `score_from=method` / of the network's own classes): 30 epochs with
labels from the 14th on and 5 of mixup from the first weights, .984 / .987; the same labels, with the weights tuned on
at .005, .984 / .993; 36 epochs and 4 plain ones at .005, .991 / .993; labels from the 8th epoch on, .992 / .994. There
alpha and beta of .4 and .2 give .960 / .988, of 2.4 and .8 .989 / .991; without either (first schedule) no label is
probable enough to be taken, .600 / .973. All these had a tenth of the gradient of L_p, that of the moving mean
itself; the preset comes to .994 / .991 so and to .993 / .992 with the whole gradient (pair noise of .3: .995 / .994 and
.995 / .995). On 5,000 photographs of CIFAR-10 with human labels (.824 right), where labels
had not learned to wait yet, the first updates stopped the network at .54 of the true labels; .54 of its own were right,
and the average precision of the averaged predictions came to .563. Waiting to the end it is .695.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from pydantic import model_validator
from torch import nn

from labelfix.errors import InputError
from labelfix.estimation.evidence import PAPER_RULE, Evidence, others_mass
from labelfix.methods.base import Flag, Method, MethodSettings, Phase, Predict, TrainState, setting
from labelfix.methods.batch import Batch, Labels, Prior, to_device
from labelfix.methods.losses import class_balance, entropy, mean_probs, mix, soft_cross_entropy
from labelfix.methods.moving_labels import MovingLabels, MovingLabelSettings
from labelfix.methods.own_model import OwnModel
from labelfix.methods.schedules import step_decay

_PAPER = "the mixup paper, 4.2"
_CODE = "the code of Tanaka et al."
# Table 1 of the mixup paper: alpha, beta, learning rate of the first step, a of the second.
_CIFAR10 = {
    "sym10": (1.2, 0.8, 0.02, 0.5),
    "sym30": (1.2, 0.8, 0.03, 0.9),
    "sym50": (1.2, 0.8, 0.04, 2.0),
    "sym70": (1.2, 0.8, 0.08, 4.0),
    "sym90": (0.8, 0.4, 0.12, 8.0),
    "asym10": (0.8, 0.4, 0.03, 0.05),
    **dict.fromkeys(("asym20", "asym30"), (0.8, 0.4, 0.03, 0.6)),
    "asym40": (0.8, 0.4, 0.03, 0.8),
    "asym50": (0.8, 0.4, 0.03, 1.6),
}


class Settings(MovingLabelSettings):
    """Settings of joint optimisation; the defaults are those of the fast preset."""

    correct_epochs: int = setting(
        33, "epochs of network and labels together, at `learning_rate`", source=f"200 in {_PAPER}", ge=1
    )
    finetune_epochs: int = setting(
        7, "epochs on the labels that came of it, which move no more", source=f"120 in {_PAPER}", ge=1
    )
    update_from: int = setting(
        8,
        "epochs on the given labels, before the labels are averaged anew after every epoch",
        source=f"measured on digits; 70 in {_PAPER}",
    )
    ring_epochs: int = setting(6, "last epochs that a label is the average of", source=f"10 in {_CODE}", ge=1)
    average: Literal["ring", "all"] = setting(
        "ring",
        "what a label is the average of: the predictions of the last epochs, or of all so far",
        source=f"ring in {_CODE}; all for Clothing1M in {_PAPER}",
    )
    labels: Literal["soft", "hard"] = setting(
        "soft",
        "what the network is trained towards: the average itself, or its class",
        source=f"soft in {_CODE}; hard in algorithm 1 of the mixup paper",
    )
    balance: float = setting(
        1.2, "weight alpha of the class balance L_p", source="the mixup paper, table 1", ge=0
    )
    entropy: float = setting(0.8, "weight beta of the entropy L_e", source="the mixup paper, table 1", ge=0)
    prior: Prior = setting(
        "empirical",
        "class frequencies that L_p holds to: smoothed, of the given labels, or equal ones",
        source="ours, and Tanaka et al. for Clothing1M; uniform in the mixup paper, equation 6",
    )
    finetune: Literal["plain", "mixup"] = setting(
        "plain",
        "loss of the second step: cross-entropy of the images alone, or of the images and of mixed ones",
        source="Tanaka et al. 2018, measured; mixup in the mixup paper, algorithm 2",
    )
    mixup_alpha: float = setting(
        2.0,
        "mixup shares of the second step are drawn from Beta(a, a)",
        source="the mixup paper, table 1",
        gt=0,
    )
    warm_start: Flag = setting(
        True,
        "whether the second step goes on with the weights of the first; else with the network's first weights",
        source=f"measured for short runs; false in {_CODE}, the mixup paper leaves it open",
    )
    finetune_rate: float = setting(
        0.005,
        "learning rate of the second step, before its first milestone",
        source=f"measured for short runs; 0.2 in {_PAPER}",
        ge=0,
    )
    milestones: tuple[int, ...] = setting(
        (),
        "epochs of the second step, counted from its start, after which its learning rate falls by `decay`",
        source=f"none in 7 epochs; 40 and 80 of 120 in {_PAPER}",
    )
    phase_epochs: ClassVar[tuple[str, ...]] = ("correct_epochs", "finetune_epochs")

    def with_epochs(self, total: int) -> Self:
        """As of every method, with what lies inside a step scaled with that step.

        Raises:
            ValueError: fewer epochs than phases.
        """
        scaled = super().with_epochs(total)
        first = scaled.correct_epochs / self.correct_epochs
        second = scaled.finetune_epochs / self.finetune_epochs
        until = scaled.average_until
        if self.average_until <= self.correct_epochs:
            until = min(until, scaled.correct_epochs)  # a fresh network's first epochs must not slip in
        changes = {
            "update_from": max(round(self.update_from * first), 1),
            "ring_epochs": max(round(self.ring_epochs * first), 1),
            "milestones": tuple(max(round(epoch * second), 1) for epoch in self.milestones),
            "average_from": min(scaled.average_from, until - 1),
            "average_until": until,
        }
        return scaled.model_copy(update=changes)

    @property
    def averaged(self) -> range:
        """As of every method; not of two networks: that of the second step is fresh without `warm_start`."""
        epochs = super().averaged
        if self.warm_start or epochs.start >= self.correct_epochs:
            return epochs
        return range(epochs.start, min(epochs.stop, self.correct_epochs))

    @model_validator(mode="after")
    def _check_update_from(self) -> Self:
        if not 1 <= self.update_from <= self.correct_epochs:
            raise InputError(
                f"--set update_from={self.update_from}: must be at least 1, and at most correct_epochs "
                f"({self.correct_epochs})"
            )
        return self


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: `fast` for a CPU, and those of the mixup paper."""
    tables = {f"paper-cifar10-{noise}": _cifar10(*row) for noise, row in _CIFAR10.items()}
    clothing = Settings(
        batch_size=32,
        learning_rate=8e-4,
        weight_decay=1e-3,
        correct_epochs=10,
        finetune_epochs=10,
        update_from=1,
        average="all",
        balance=2.4,
        entropy=0.8,
        finetune="mixup",
        mixup_alpha=0.8,
        warm_start=False,
        finetune_rate=5e-4,
        when_weak="go",
        score_from="method",
        milestones=(5,),
        average_from=0,
        average_until=10,
    )
    return {
        "fast": Settings(),
        **Settings().pretrained(head={"balance": 0.3, "entropy": 0.1}, tune={"finetune_rate": 0.02}),
        "paper": tables["paper-cifar10-sym50"],
        **tables,
        "paper-tanaka": tables["paper-cifar10-sym50"].changed({"finetune": "plain"}),
        "paper-clothing1m": clothing,
    }


def _cifar10(alpha: float, beta: float, rate: float, mixup_alpha: float) -> Settings:
    """200 and 120 epochs in batches of 128, with the numbers of a column of table 1."""
    return Settings(
        batch_size=128,
        learning_rate=rate,
        correct_epochs=200,
        finetune_epochs=120,
        update_from=70,
        ring_epochs=10,
        balance=alpha,
        entropy=beta,
        prior="uniform",
        finetune="mixup",
        mixup_alpha=mixup_alpha,
        warm_start=False,
        finetune_rate=0.2,
        when_weak="go",
        score_from="method",
        milestones=(40, 80),
        average_from=20,
        average_until=200,
    )


_TINY = 1e-12


class Joint(MovingLabels, OwnModel):
    """Labels that follow the averaged predictions of the epochs before, and a second training on what they became.

    `past`, in main memory wherever the network is, holds what the labels are averaged from. For `average=ring` it is
    (ring_epochs, N, K) float16, epoch e (from 1) in slot (e - 1) mod ring_epochs: a fifth of ten times N x K float32
    on the device. A probability loses at most 2^-11 of itself, or 2^-25 where that is more (below 6.1e-5); the average
    is taken in float32 and its rows are made to sum to 1. For `average=all` it is the sum (1, N, K) float64.
    """

    record: torch.Tensor
    targets: torch.Tensor
    mean_probs: torch.Tensor
    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings
    row_axes: ClassVar[Mapping[str, int]] = {**Method.row_axes, "record": 0, "targets": 0, "_extra_state": 1}

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        self.prior = labels.prior(settings.prior)
        # Softmax of every row in this epoch, and the labels that the network is trained towards.
        self.register_buffer("record", torch.zeros_like(self.ensembled_probs))
        is_given = (self.given >= 0).float().unsqueeze(1)
        targets = torch.zeros_like(self.record).scatter_(1, self.given.clamp_min(0).unsqueeze(1), is_given)
        self.register_buffer("targets", targets)
        self.register_buffer("mean_probs", self.prior.clone())
        # No buffer: it would follow the network to the device. The checkpoint has it as extra state.
        slots, dtype = (
            (settings.ring_epochs, torch.float16) if settings.average == "ring" else (1, torch.float64)
        )
        self.past = torch.zeros((slots, *targets.shape), dtype=dtype)

    def current_labels(self) -> torch.Tensor:
        """The largest of every label by now."""
        return self.targets.argmax(dim=1)

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR-10 with half of the labels drawn anew, and the other tables."""
        return presets()

    def get_extra_state(self) -> torch.Tensor:
        """What the labels are averaged from: part of the state that a restart needs."""
        return self.past

    def set_extra_state(self, state: torch.Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.past.copy_(state)

    def phases(self) -> tuple[Phase, ...]:
        """Labels and network in turn, then the network alone, from its first weights or those that it has."""
        settings = self.settings
        units = 6 if settings.finetune == "mixup" else 3
        fresh = not settings.warm_start
        return (
            Phase("correct", settings.correct_epochs, forward_units=3),
            Phase("finetune", settings.finetune_epochs, forward_units=units, fresh=fresh),
        )

    def learning_rate(self, when: TrainState) -> float:
        """Constant while the labels move; step decay afterwards."""
        settings = self.settings
        into = when.epoch - settings.correct_epochs
        if into < 0:
            return settings.learning_rate
        return step_decay(into, settings.finetune_rate, settings.milestones, settings.decay)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
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
        partner = to_device(batch.rng.permutation(len(x)), x.device)
        share = float(batch.rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
        logits = self.network(mix(x, x[partner], share)).float()
        return soft_cross_entropy(logits, mix(targets, targets[partner], share))

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
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
        averaged = self._averaged(done)
        if not self.may_move(averaged.numpy()):
            return {"changed_share": 0.0}
        # In main memory, and there is no array of all rows on the device but the labels themselves.
        given, labels = self.given.cpu(), averaged.to(self.targets.dtype)
        if self.settings.labels == "hard":
            is_given = (given >= 0).to(labels).unsqueeze(1)
            labels = torch.zeros_like(labels).scatter_(1, labels.argmax(dim=1, keepdim=True), is_given)
        self.targets.copy_(labels)
        changed = (labels.argmax(dim=1) != given)[given >= 0]
        return {"changed_share": float(changed.float().mean())}

    def own_evidence(self, logits: torch.Tensor) -> Evidence:
        """The average that the last labels are, also where they are its classes: a score needs its shades."""
        given = self.given.cpu().numpy()
        rows = np.flatnonzero(given >= 0)
        beliefs = self._averaged(self.settings.correct_epochs).double().numpy()[rows]
        noise = others_mass(beliefs, given[rows])
        return Evidence.of_rows(beliefs, noise, rows, len(given), self.own_fit(), {}, PAPER_RULE)

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
