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
stages again from the network reached, with labels from the given ones, rates and steps `repeat_factor` times the last.

Differences, all deliberate: `label_step` is what lambda / (batch_size classes) comes to, so that labels move alike in
batches of any size; `rho` is alpha K: with `compat=paper` (equation 9) labels come to rest at (f + rho given) /
(1 + rho), and change class only where f prefers another by more than rho: never with the paper's rho of 1. The
authors' code takes the softmax of y once more there (`compat=reference`, as in the paper presets), which lets go of
the given label as y leaves it. Its learning rate is 0 after 40 epochs of the last stage (a whole-number division);
here it falls as the paper says. How much smaller a repeat's steps are, the paper does not say. An epoch has no
remainder, so no row misses its step.

Findings: the belief is the label distribution at the end of its last stage, without what the pull leaves at the given
label: (1 + rho) y - rho given, at least 0 (as it is with `compat=reference` or `classification_loss=kl`); noise is
1 - that of the given label (`score_from=method`, as in the paper presets). `trajectory` judges the averaged predictions
as those of every method (docs/estimation.md).

Presets: `fast`, 40 epochs for a CPU; `paper-cifar10-sym10`, `paper-cifar10-sym30`, `paper-cifar10-sym50`,
`paper-cifar10-sym70`, `paper-cifar10-sym90`, `paper-cifar10-asym10`, `paper-cifar10-asym20`, `paper-cifar10-asym30`,
`paper-cifar10-asym40` and `paper-cifar10-asym50`, 320 epochs by table 1, made for preact-resnet32; `paper`, the one for
50 % symmetric noise; `paper-cifar100`, for cifar-resnet34; `paper-cub200` and `paper-clothing1m`, for a pretrained
ResNet-50 at 224 px (`--backbone resnet50 --weights imagenet`): on CUB-200 with the alpha (0) and lambda (3000) that are
best in the paper, whose others are `--set rho=20` (alpha .1) and `label_step` of lambda / 3200; on Clothing1M with
lambda 3000, and 500 in the second half of the labels (`label_drop`). There the paper trains on a random subset with as
many images of every given class. A method cannot choose the rows it trains on: `balance_classes=true` keeps them all
and weighs their losses, so that every given class counts alike for the network; labels move unweighed. With
`--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is trained too, `fast-tune` (6).

Several labels a row (section 3.7 and 4.2, MS-COCO and Open Images): every class has a probability of its own, y =
sigmoid of a label logit that begins at 10 or -10, or exactly at a soft given value. The losses are class by class:
inverse KL plus `kl_weight` times KL (the paper uses both and names no weights), the compatibility with the given
values, soft or not, the binary entropy; the backbone learns by binary cross-entropy. They sum over the classes; the
paper's mean over them is `divide_by_classes=true`. `head=attention` takes the place of pooling: 1x1 convolutions to
four times the features (at most 2,048) and to a map of each class, and a depthwise one as large as the map; ReLU
between the first two (`head_activation=none`: as the paper reads), the mean over all places as its start, with weights
that learn as those of a mean do, He's start of the first, and averaging maps of over 8 places a side are ours.
`head_rate` is its own factor of the learning rate, `head_weight_decay` its own decay, `optimiser=rmsprop` that of Open
Images. A label logit has 20 to go where a single label's has 10: `label_step` is 20 / `labels_epochs` there. Classes
that the network is too weak for wait, each for itself, and so do those whose rows it does not surely rank before
others. The losses of hard labels being large at first, the rate while they move is .02 in `fast`: of .01, .02 and .05
the best on mosaics of digits (1,000, 24 epochs, two seeds; mean average precision .966, .972 and .972, average
precision of the scores .914, .921 and .906) and of Fashion-MNIST (one seed; .823, .839, .834 and .645, .665, .640).
`compat`, `classification_loss` and `balance_classes` are of one label a row. What is wrong is judged class by class, as
two classes are. Presets: `fast`, and with `--encoder` `fast-head` (pooling) and `fast-tune`; `paper` is
`paper-open-images`: EfficientNet-b0 at 224 px, batches of 128, RMSprop with momentum and smoothing .9, weight decay
4e-5, 35 / 65 / 60 epochs at .005, the last times .94 every 2 epochs, alpha = beta = .2, lambda = 300, which over 128
rows and its 250 classes is a step of .0094: it moves soft labels, and no hard one far; whether the paper's lambda is
meant so it does not say (300 / 128 with sums over classes). The five-fold rate of the head stands there for the
baseline, and here for PENCIL too. MS-COCO is only trained on without PENCIL, see the presets of `cross-entropy`.

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

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from scipy.special import softmax
from torch import nn

from labelfix.estimation.evidence import PAPER_RULE, Evidence, others_mass
from labelfix.methods.base import Flag, Method, MethodSettings, Phase, Predict, TrainState, setting
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.losses import compatibility, entropy, forward_kl, inverse_kl, label_gradient
from labelfix.methods.moving_labels import MovingLabels, MovingLabelSettings
from labelfix.methods.own_model import OwnModel
from labelfix.methods.schedules import linear_steps, step_decay

_PAPER = "Yi, Wang, Wu 2022"
# Table 1: learning rate, alpha, beta, lambda.
_CIFAR10 = {
    "sym10": (0.02, 0.1, 0.8, 200),
    "sym30": (0.03, 0.1, 0.8, 300),
    "sym50": (0.04, 0.1, 0.8, 400),
    "sym70": (0.08, 0.1, 0.8, 800),
    "sym90": (0.12, 0.1, 0.4, 1200),
    **dict.fromkeys(("asym10", "asym20", "asym30"), (0.06, 0.1, 0.4, 600)),
    "asym40": (0.03, 0.0, 0.4, 3000),
    "asym50": (0.03, 0.0, 0.4, 4000),
}


_FALLING = ("asym40", "asym50")


# 4.2: fine-tuning of a pretrained ResNet-50, with the alpha and lambda that are best of table 6 on CUB-200.
_CUB200 = {
    **{"batch_size": 16, "learning_rate": 2e-3, "labels_rate": 2e-3, "classifier_rate": 1e-3},
    **{"backbone_epochs": 35, "labels_epochs": 65, "classifier_epochs": 60, "milestones": (20, 40)},
    **{"rho": 0.0, "beta": 0.8, "label_step": 3000 / (16 * 200), "average_from": 10, "average_until": 100},
}
_CLOTHING1M = {
    **{"batch_size": 32, "learning_rate": 1.6e-3, "labels_rate": 8e-4, "classifier_rate": 5e-4},
    **{"backbone_epochs": 5, "labels_epochs": 10, "classifier_epochs": 10, "milestones": (5,)},
    **{"rho": 0.08 * 14, "beta": 0.8, "label_step": 3000 / (32 * 14), "label_drop": 500 / 3000},
    **{"weight_decay": 1e-3, "balance_classes": True, "average_from": 1, "average_until": 15},
}


class StageSettings(MovingLabelSettings):
    """Settings of PENCIL's three stages, however many labels a row has; the defaults are those of the fast preset."""

    backbone_epochs: int = setting(
        16, "epochs of cross-entropy on the given labels", source=f"70 in {_PAPER}, 4.2", ge=1
    )
    labels_epochs: int = setting(
        17, "epochs in which the label distributions move", source=f"130 in {_PAPER}, 4.2", ge=1
    )
    classifier_epochs: int = setting(
        7,
        "epochs on the label distributions as they then are; may be 0",
        source=f"120 in {_PAPER}, 4.2",
        ge=0,
    )
    repeats: int = setting(
        1,
        "times that the last two stages are gone through",
        source=f"{_PAPER}, 3.8; 2 or 3 are best there",
        ge=1,
    )
    repeat_factor: float = setting(
        0.9,
        "what learning rates and label steps are multiplied by with every repeat",
        source=f"ours; {_PAPER}, 4.6, says that they get a little smaller, and not by how much",
        gt=0,
        le=1,
    )
    labels_rate: float = setting(
        0.05,
        "learning rate while the labels move",
        source="measured; that of the backbone in " + _PAPER,
        ge=0,
    )
    classifier_rate: float = setting(
        0.005,
        "learning rate after that, before the first milestone",
        source=f"measured; 0.2 in {_PAPER}, 4.2",
        ge=0,
    )
    milestones: tuple[int, ...] = setting(
        (),
        "epochs of the last stage, counted from its start, after which the learning rate falls by `decay`",
        source=f"none in 7 epochs; 40 and 80 of 120 in {_PAPER}, 4.2",
    )
    label_step: float = setting(
        10 / 17,
        "step of the label logits in an epoch along a gradient that stays within 1 + rho",
        source=f"10 / labels_epochs is ours; lambda / (batch_size classes) in {_PAPER}, equation 30",
        ge=0,
    )
    label_decay: Literal["none", "linear"] = setting(
        "none",
        "whether the label step falls to 0 over the stage",
        source=f"linear for 40 and 50 % asymmetric noise in {_PAPER}, table 1",
    )
    label_drop: float = setting(
        1.0,
        "what the label step is multiplied by in the second half of the stage",
        source=f"none; 500 for 3000 on Clothing1M in {_PAPER}, 4.2",
        ge=0,
        le=1,
    )
    rho: float = setting(
        0.5,
        "pull to the given label (alpha times classes): labels move by more than this margin of the predictions",
        source=f"ours; 1 (0.1 times 10) in {_PAPER}, table 1",
        ge=0,
    )
    beta: float = setting(
        0.4, "weight of the entropy of the predictions", source=f"0.4 or 0.8 in {_PAPER}, table 1", ge=0
    )
    divide_by_classes: Flag = setting(
        False,
        "whether the losses of the label distributions are divided by the number of classes",
        source=f"ours, for learning rates that fit any number of classes; true in {_PAPER}, 3.6",
    )
    phase_epochs: ClassVar[tuple[str, ...]] = ("backbone_epochs", "labels_epochs")

    @property
    def round_epochs(self) -> int:
        """Epochs of one repeat: labels, then classifier."""
        return self.labels_epochs + self.classifier_epochs

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return self.backbone_epochs + self.repeats * self.round_epochs

    def with_epochs(self, total: int) -> Self:
        """As of every method; the label step grows as its epochs get fewer, so that labels move as far.

        Raises:
            ValueError: fewer epochs than one for the backbone and one for the labels of every repeat.
        """
        longest = (total - 1) // self.repeats
        if longest < 1:
            raise ValueError(f"{self.repeats + 1} phases need at least {self.repeats + 1} epochs")
        length = min(max(round(self.round_epochs * total / self.epochs), 1), longest)
        labels = max(round(self.labels_epochs * length / self.round_epochs), 1)
        scale = length / self.round_epochs
        changes = {
            "backbone_epochs": total - self.repeats * length,
            "labels_epochs": labels,
            "classifier_epochs": length - labels,
            "milestones": tuple(max(round(epoch * scale), 1) for epoch in self.milestones),
            "label_step": self.label_step * self.labels_epochs / labels,
        }
        return super().with_epochs(total).model_copy(update=changes)


class Settings(StageSettings):
    """Settings of PENCIL; the defaults are those of the fast preset."""

    classification_loss: Literal["inverse-kl", "kl"] = setting(
        "inverse-kl",
        "KL(prediction || label), or KL(label || prediction), which hardly moves a label",
        source=f"{_PAPER}, 4.5",
    )
    compat: Literal["paper", "reference"] = setting(
        "paper",
        "form of the compatibility loss; reference: with a second softmax over the label, as in the authors' code",
        source=f"{_PAPER}, equation 9",
    )
    balance_classes: Flag = setting(
        False,
        "whether rows are weighed so that every given class counts alike for the network",
        source=f"ours, for the class-balanced subset of Clothing1M in {_PAPER}, 4.2",
    )


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: `fast` for a CPU, and those of the paper's tables."""
    tables = {
        f"paper-cifar10-{noise}": _paper(
            *row, classes=10, label_decay="linear" if noise in _FALLING else "none"
        )
        for noise, row in _CIFAR10.items()
    }
    cifar100 = _paper(0.35, 0.1, 0.4, 10_000, classes=100)
    return {
        "fast": Settings(),
        **Settings().pretrained(
            head={"labels_rate": 0.005}, tune={"labels_rate": 0.02, "classifier_rate": 0.02}
        ),
        "paper": tables["paper-cifar10-sym50"],
        **tables,
        "paper-cifar100": cifar100,
        "paper-cub200": cifar100.model_copy(update=_CUB200),
        "paper-clothing1m": cifar100.model_copy(update=_CLOTHING1M),
    }


def _paper(
    rate: float,
    alpha: float,
    beta: float,
    step: float,
    *,
    classes: int,
    label_decay: Literal["none", "linear"] = "none",
) -> Settings:
    """70, 130 and 120 epochs in batches of 128, with the numbers of a row of table 1."""
    return Settings(
        batch_size=128,
        learning_rate=rate,
        labels_rate=rate,
        classifier_rate=0.2,
        backbone_epochs=70,
        labels_epochs=130,
        classifier_epochs=120,
        milestones=(40, 80),
        average_from=20,
        average_until=200,
        label_step=step / (128 * classes),
        label_decay=label_decay,
        rho=alpha * classes,
        beta=beta,
        compat="reference",
        divide_by_classes=True,
        when_weak="go",
        score_from="method",
    )


FIRST_LOGIT = 10.0


class Stages(MovingLabels):
    """The three stages: the backbone on the given labels, network and labels together, the network on what they became.

    Attributes:
        label_logits: (N, K) float32, of the label distributions.
    """

    label_logits: torch.Tensor
    settings: StageSettings
    row_axes: ClassVar[Mapping[str, int]] = {**Method.row_axes, "label_logits": 0}

    def __init__(self, network: nn.Module, labels: Labels, settings: StageSettings) -> None:
        super().__init__(network, labels, settings)
        self.register_buffer("label_logits", torch.empty_like(self.ensembled_probs))
        self._start_labels()

    def phases(self) -> tuple[Phase, ...]:
        """The backbone, then labels and classifier once for every repeat."""
        settings = self.settings
        stages = [("backbone", settings.backbone_epochs)]
        for repeat in range(1, settings.repeats + 1):
            suffix = "" if repeat == 1 else f"-{repeat}"
            stages += [(f"labels{suffix}", settings.labels_epochs)]
            stages += [(f"classifier{suffix}", settings.classifier_epochs)]
        return tuple(Phase(name, epochs, forward_units=3) for name, epochs in stages if epochs)

    def learning_rate(self, when: TrainState) -> float:
        """Constant while the labels move, with steps after; less with every repeat."""
        settings, stage = self.settings, stage_of(when)
        if stage == "backbone":
            return settings.learning_rate
        repeat, epoch = self._place(when)
        factor = settings.repeat_factor**repeat
        if stage == "labels":
            return factor * settings.labels_rate
        into = epoch - settings.labels_epochs
        return factor * step_decay(into, settings.classifier_rate, settings.milestones, settings.decay)

    def label_step(self, when: TrainState) -> float:
        """Step of the label logits in this epoch; less with every repeat."""
        settings = self.settings
        repeat, epoch = self._place(when)
        first = settings.repeat_factor**repeat * settings.label_step
        if 2 * int(epoch) >= settings.labels_epochs:
            first *= settings.label_drop
        last = first if settings.label_decay == "none" else 0.0
        return linear_steps(int(epoch), first, last, settings.labels_epochs)

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """Report how many labels have changed; the labels of the next repeat start from the given ones again."""
        if stage_of(when) == "backbone":
            if int(when.epoch) == self.settings.backbone_epochs:
                self.may_move(self.probs_so_far(when, predict))
            return {}
        report = {"changed_share": self.changed_share()}
        repeat, epoch = self._place(when)
        if epoch == 0 and repeat < self.settings.repeats:
            self._start_labels()
        return report

    @abstractmethod
    def changed_share(self) -> float:
        """Share of the labels that are others by now."""

    @abstractmethod
    def _start_labels(self) -> None:
        """Label logits as they begin; zeros where no label is given."""

    def _place(self, when: TrainState) -> tuple[int, float]:
        """The repeat, from 0, and the epochs done of it."""
        settings = self.settings
        repeat, epoch = divmod(when.epoch - settings.backbone_epochs, settings.round_epochs)
        return int(repeat), epoch


class Pencil(Stages, OwnModel):
    """Cross-entropy, then network and label distributions together, then the network on what they became."""

    class_weights: torch.Tensor
    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        counts = labels.counts
        alike = counts.sum() / (counts.clamp_min(1) * (counts > 0).sum())
        weights = alike if settings.balance_classes else torch.ones_like(alike)
        self.register_buffer("class_weights", weights, persistent=False)

    def current_labels(self) -> torch.Tensor:
        """The largest of every label distribution (4.4)."""
        return self.label_logits.argmax(dim=1)

    def label_movement(self, when: TrainState) -> tuple[torch.Tensor, float] | None:
        """While the labels move; not in the last epoch before a repeat, which gives them back."""
        settings = self.settings
        if stage_of(when) != "labels" or not self.moves:
            return None
        repeat, epoch = self._place(when)
        if int(epoch) + 1 == settings.round_epochs and repeat + 1 < settings.repeats:
            return None
        step = self.label_step(when)
        return (self.label_logits, step) if step else None

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR-10 with half of the labels drawn anew, and the other tables."""
        return presets()

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """The losses of the stage; while the labels move, those of the batch take their step here."""
        settings, stage, given = self.settings, stage_of(when), self.given[batch.rows]
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        log_probs = F.log_softmax(logits, dim=1)
        weights = self.class_weights[given]
        if stage == "backbone" or not self.moves:
            return {"cross_entropy": (weights * F.nll_loss(log_probs, given, reduction="none")).mean()}
        log_labels = F.log_softmax(self.label_logits[batch.rows], dim=1)
        divergence = inverse_kl if settings.classification_loss == "inverse-kl" else forward_kl
        scale = 1 / self.labels.num_classes if settings.divide_by_classes else 1.0
        parts = {"classification": scale * (weights * divergence(log_probs, log_labels)).mean()}
        if stage == "labels":
            pull = compatibility(log_labels, given, settings.compat).mean()
            parts["compatibility"] = scale * settings.rho * pull  # the network has no part in it
            parts["entropy"] = scale * settings.beta * (weights * entropy(log_probs)).mean()
            self._move_labels(when, batch.rows, log_probs.detach(), log_labels)
        return parts

    def _move_labels(
        self, when: TrainState, rows: torch.Tensor, log_probs: torch.Tensor, log_labels: torch.Tensor
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

    def changed_share(self) -> float:
        """Share of the rows whose largest entry is another than the given label."""
        rows = self.given >= 0
        return float((self.label_logits.argmax(dim=1) != self.given)[rows].float().mean())

    def own_evidence(self, logits: torch.Tensor) -> Evidence:
        """The label distributions without what the pull of the given label leaves in them however wrong it is."""
        given = self.given.cpu().numpy()
        settings, rows = self.settings, np.flatnonzero(given >= 0)
        own = np.arange(len(rows)), given[rows]
        beliefs = softmax(self.label_logits.cpu().double().numpy()[rows], axis=1)
        if settings.compat == "paper" and settings.classification_loss == "inverse-kl":
            # At rest y = (f + rho given) / (1 + rho): what is wanted is f.
            beliefs *= 1 + settings.rho
            beliefs[own] = np.maximum(beliefs[own] - settings.rho, 0)
            beliefs /= beliefs.sum(axis=1, keepdims=True)
        noise = others_mass(beliefs, given[rows])
        return Evidence.of_rows(beliefs, noise, rows, len(given), self.own_fit(), {}, PAPER_RULE)

    def _start_labels(self) -> None:
        """Equation 8 for every row (N, K); zeros where no label is given."""
        first = FIRST_LOGIT * (self.given >= 0).to(self.label_logits)
        self.label_logits.zero_().scatter_(1, self.given.clamp_min(0).unsqueeze(1), first.unsqueeze(1))


def stage_of(when: TrainState) -> str:
    """The name of the phase, whichever repeat it is of."""
    return when.phase.name.partition("-")[0]
