"""Bootstrapping: a fixed share of every target is what the network itself predicts.

What it is for: the baseline that trusts its own predictions a little, with the same weight in every row. The target is
beta given + (1 - beta) guess, the guess the network's class (hard) or its softmax (soft).

When it fails: the weight is the same for right and wrong rows, so that at .8 a wrong label has four fifths of the
target and is learned in the end; a small beta collapses to a single class.

Source: Reed, Lee, Anguelov, Szegedy, Erhan, Rabinovich 2015, "Training Deep Neural Networks on Noisy Labels with
Bootstrapping"; a baseline of Arazo et al. 2019 (ST, table 1) and of Jindal et al. 2019 (table 1).

Settings: `guess` is hard or soft, `given_share` is beta: .8 for the hard and .95 for the soft form in the paper. The
soft form has the gradient of both of its factors. `bootstrap_from` is the epoch before which the loss is cross-entropy
(0 in Reed et al., 30 of 120 in Arazo et al.). `score_from=loss` ranks rows by the probability of the given label that
the trained network has; `trajectory` (default) by averaged predictions, as those of every method (docs/estimation.md).

Presets: `fast`, the schedule of cross-entropy with the hard form; `paper` and `paper-soft`, 120 epochs with
cross-entropy in the first 30 (ST-H and ST-S of Arazo et al. 2019, table 1, CIFAR-10). With `--encoder`, `fast` is
`fast-head` (20 epochs of a head) or, where the encoder is trained too, `fast-tune` (6).
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from labelfix.methods import cross_entropy
from labelfix.methods.base import MethodSettings, TrainState, setting
from labelfix.methods.batch import Batch
from labelfix.methods.losses import mix, soft_cross_entropy

_PAPER = "Reed et al. 2015"


class Settings(cross_entropy.RobustSettings):
    """Settings of bootstrapping with a fixed weight."""

    guess: Literal["hard", "soft"] = setting(
        "hard",
        "what stands beside the given label: the network's class, or its softmax",
        source=_PAPER,
    )
    given_share: float = setting(
        0.8,
        "beta: what the given label has of the target",
        source=f"{_PAPER}; .95 for the soft form",
        ge=0,
        le=1,
    )
    bootstrap_from: int = setting(
        0, "first epoch with guesses; cross-entropy before", source=f"{_PAPER}; 30 of 120 in Arazo 2019", ge=0
    )

    def with_epochs(self, total: int) -> Self:
        """As of every method; guesses begin at the same share of the run."""
        scaled = super().with_epochs(total)
        return scaled.model_copy(update={"bootstrap_from": round(self.bootstrap_from * total / self.epochs)})


class Bootstrapping(cross_entropy.CrossEntropy):
    """Cross-entropy to the given label and the network's own guess."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, and both forms by the schedule of Arazo et al. 2019, table 1."""
        schedule = cross_entropy.CrossEntropy.presets()["paper"]
        shared = {name: getattr(schedule, name) for name in cross_entropy.Settings.model_fields}
        paper = Settings(**{**shared, "score_from": "trajectory", "bootstrap_from": 30})
        soft = paper.model_copy(update={"guess": "soft", "given_share": 0.95})
        return {"fast": Settings(), **Settings().pretrained(), "paper": paper, "paper-soft": soft}

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """-sum_k (beta y + (1 - beta) g)_k log p_k, with the gradient of a soft guess g."""
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        given = F.one_hot(self.given[batch.rows], self.labels.num_classes).float()
        if int(when.epoch) < self.settings.bootstrap_from:
            return {"bootstrap": soft_cross_entropy(logits, given)}
        soft = logits.softmax(dim=1)
        hard = F.one_hot(logits.argmax(dim=1), self.labels.num_classes).float()
        guess = soft if self.settings.guess == "soft" else hard
        return {"bootstrap": soft_cross_entropy(logits, mix(given, guess, self.settings.given_share))}
