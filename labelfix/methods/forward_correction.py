"""Forward correction: the loss is taken of predictions that went through an estimated matrix of label noise.

What it is for: the classical baseline for labels of one class that are mistaken for others in a steady way. A first
training on the given labels shows what a row that is surely of a class is given: one row a class makes the transition
matrix T. Then the network learns p such that T' p explains the given labels.

When it fails: T rests on one row a class; where no row is surely of a class, or the first training has learned wrong
labels by heart, it is far off. Noise that depends on the image has no place in it. The corrected loss learns slowly,
the more so the more labels are wrong: with the true matrix and half of the labels of 1,400 digits wrong, 45 % of the
test images are wrong after 330 steps from the first weights, and 6 % after 2,640 (docs/papers.md).

Source: Patrini, Rozza, Menon, Nock, Qu 2017, "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
Approach", theorem 2; a baseline of Yi et al. 2022, Arazo et al. 2019 and Jindal et
al. 2019.

Settings: `estimate_epochs` of cross-entropy come first, then `correct_epochs` of the corrected loss, with the weights
reached (`warm_start=true`) or the first ones. Row i of T is what the network says of the row with the largest
probability of class i below the share `anchor_quantile` of all rows (1: the largest of all). `summary.json` has T under
diagnostics as `estimated_transition`. `score_from=loss` ranks rows by the probability of the given label that the
trained network has; `trajectory` (default) by averaged predictions, as those of every method (docs/estimation.md).

Differences, all deliberate: the fast preset tunes the network of the first training on, for a short run has no time for
two. Rows that no image can be read of are no anchors.

Presets: `fast`, 30 epochs and 10 for a CPU; `paper`, 120 and 120 epochs for CIFAR-10 at .01, a tenth after 40 and 80,
the second time from the first weights. As other papers have it beside their methods: `paper-arazo`, 300 epochs at .1, T
after 75 of them, and on with the weights reached (Arazo et al. 2019, table 4); `paper-jindal`, the schedule and the
rates of NNAQC's network once for T and once more from the first weights (Jindal et al. 2019, table 1, where all rows
have the same network). With `--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is trained
too, `fast-tune` (6).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix import processes
from labelfix.methods import cross_entropy
from labelfix.methods.base import (
    Flag,
    MethodSettings,
    Phase,
    Predict,
    TrainState,
    score_from,
    setting,
)
from labelfix.methods.batch import Batch, Labels, to_device
from labelfix.methods.layer_rates import LayerRates, groups_by_rate, layer_rates
from labelfix.methods.schedules import step_decay

_PAPER = "Patrini et al. 2017"
_TINY = 1e-12


class Settings(MethodSettings):
    """Settings of forward correction."""

    estimate_epochs: int = setting(
        30,
        "epochs of cross-entropy, which the matrix is estimated from",
        source="ours; 120 in " + _PAPER,
        ge=1,
    )
    correct_epochs: int = setting(10, "epochs of the corrected loss", source=f"ours; 120 in {_PAPER}", ge=1)
    warm_start: Flag = setting(
        True, "whether the corrected loss goes on with the weights reached", source=f"ours; false in {_PAPER}"
    )
    anchor_quantile: float = setting(
        0.97,
        "share of rows below whose largest probability of a class its anchor is looked for",
        source=f"the code of {_PAPER}, for CIFAR-10; 1 for CIFAR-100",
        gt=0,
        le=1,
    )
    estimate_milestones: tuple[int, ...] = setting(
        (),
        "epochs of the first part after which its learning rate falls by `decay`",
        source=f"ours; 40 and 80 of 120 in {_PAPER}",
    )
    milestones: tuple[int, ...] = setting(
        (3,),
        "epochs of the second part, counted from its start, after which its learning rate falls by `decay`",
        source=f"ours; 40 and 80 of 120 in {_PAPER}",
    )
    layer_rates: LayerRates = layer_rates()
    score_from: Literal["loss", "trajectory"] = score_from("trajectory")

    phase_epochs: ClassVar[tuple[str, ...]] = ("estimate_epochs", "correct_epochs")

    def with_epochs(self, total: int) -> Self:
        """As of every method, with the milestones of a part scaled with it.

        Raises:
            ValueError: fewer epochs than phases.
        """
        scaled = super().with_epochs(total)
        first = scaled.estimate_epochs / self.estimate_epochs
        second = scaled.correct_epochs / self.correct_epochs
        changes = {
            "estimate_milestones": tuple(max(round(epoch * first), 1) for epoch in self.estimate_milestones),
            "milestones": tuple(max(round(epoch * second), 1) for epoch in self.milestones),
        }
        return scaled.model_copy(update=changes)

    @property
    def averaged(self) -> range:
        """As of every method; without `warm_start` not of the first network, nor of the second one's first epoch."""
        epochs = super().averaged
        first = self.estimate_epochs + (self.correct_epochs > 1)
        if self.warm_start or epochs.stop <= first:
            return epochs
        return range(max(epochs.start, first), epochs.stop)


def estimated_transition(probs: np.ndarray, quantile: float) -> np.ndarray:
    """T (Patrini et al. 2017): row i is the prediction for the row with the largest p_i below a quantile of all p_i.

    Args:
        probs: (N, K) float64, rows that sum to 1.
        quantile: share of rows below whose p_i is looked for; 1 for the largest of all.

    Returns:
        (K, K) float64, T[i, j] the probability that a row of class i is given label j; rows that sum to 1.
    """
    anchors = []
    for of_class in probs.T:
        order = np.argsort(of_class, kind="stable")
        anchors.append(order[max(int(np.ceil(quantile * len(order))) - 1, 0)])
    return probs[anchors]


class ForwardCorrection(cross_entropy.CrossEntropy):
    """Cross-entropy of T' p, T estimated from a training of its own."""

    settings: Settings  # type: ignore[assignment]
    settings_type: ClassVar[type[MethodSettings]] = Settings
    transition: torch.Tensor

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        self.register_buffer("transition", torch.eye(labels.num_classes, device=labels.given.device))

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR-10, and the rows that two papers set beside their own."""
        paper = Settings(
            batch_size=128,
            learning_rate=0.01,
            estimate_epochs=120,
            correct_epochs=120,
            estimate_milestones=(40, 80),
            milestones=(40, 80),
            warm_start=False,
            average_from=130,
            average_until=240,
        )
        arazo = {
            **{"learning_rate": 0.1, "estimate_epochs": 75, "correct_epochs": 225, "warm_start": True},
            **{"estimate_milestones": (), "milestones": (24, 174), "average_from": 30, "average_until": 99},
        }
        jindal = {
            **{"batch_size": 100, "learning_rate": 0.05, "layer_rates": "matconvnet"},
            **{"estimate_epochs": 45, "correct_epochs": 45},
            **{"estimate_milestones": (30, 40), "milestones": (30, 40)},
            **{"average_from": 50, "average_until": 90},
        }
        return {
            "fast": Settings(),
            **Settings().pretrained(tune={"estimate_milestones": ()}),
            "paper": paper,
            "paper-arazo": paper.changed(arazo),
            "paper-jindal": paper.changed(jindal),
        }

    def param_groups(self) -> list[dict[str, Any]]:
        """The network, by its rates."""
        return groups_by_rate(self, self.settings.layer_rates)

    def phases(self) -> tuple[Phase, ...]:
        """Cross-entropy, then the corrected loss, from the weights reached or the first ones."""
        settings = self.settings
        return (
            Phase("estimate", settings.estimate_epochs, forward_units=3, tracking=1),
            Phase("correct", settings.correct_epochs, forward_units=3, fresh=not settings.warm_start),
        )

    def learning_rate(self, when: TrainState) -> float:
        """Step decay in each part."""
        settings, into = self.settings, when.epoch - self.settings.estimate_epochs
        if into < 0:
            return step_decay(
                when.epoch, settings.learning_rate, settings.estimate_milestones, settings.decay
            )
        return step_decay(into, settings.learning_rate, settings.milestones, settings.decay)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross-entropy, or -log (T' p)_given (theorem 2)."""
        given, logits = self.given[batch.rows], self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        if when.phase.name == "estimate":
            return {"cross_entropy": F.cross_entropy(logits, given)}
        noisy = logits.softmax(dim=1) @ self.transition
        return {"forward": F.nll_loss(noisy.clamp_min(_TINY).log(), given)}

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """At the end of the first part, T from its network."""
        if round(when.epoch) != self.settings.estimate_epochs:
            return {}
        given, probs = self.given.cpu().numpy(), predict("plain").double().softmax(dim=1).numpy()
        rows = (given >= 0) & np.isfinite(probs).all(axis=1)
        found = estimated_transition(processes.gathered(probs[rows]), self.settings.anchor_quantile)
        self.transition.copy_(to_device(torch.from_numpy(found).float(), self.given.device))
        return {"kept_mass": float(np.diag(found).mean())}

    def diagnostics(self, logits: torch.Tensor) -> dict[str, Any]:
        """T, as it was estimated."""
        return {"estimated_transition": self.transition.cpu().double().numpy().round(6).tolist()}
