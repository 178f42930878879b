"""Plain cross-entropy: the baseline that every method has to beat.

What it is for: a yardstick, and a quick look. It trains on the given labels as they are; rows whose label the
network finds improbable are suspects.

When it fails: trained to the end of a low learning rate the network learns the wrong labels too, and its
last-epoch loss says little (the reason why the other methods exist).

Settings: `score_from=loss` (default) ranks rows by the loss of the trained network; `score_from=trajectory`
takes the mean of the ratio score and of the transition-aware posterior over the predictions averaged during
the high-learning-rate part, a strong baseline of its own. Either way the label distribution is the
transition-aware posterior of the predictions behind the score, because the network models the given label.

Presets: `fast`, the schedule of bmm's fast preset without its extra passes; `paper`, 120 epochs with the
milestones of Arazo et al. 2019, table 1 (CIFAR-10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from labelfix.batches import Batch
from labelfix.evidence import Evidence, ratio_score, transition_posterior
from labelfix.methods import base
from labelfix.methods.base import Method, Moment, Phase, Predict, setting


@dataclass(frozen=True)
class Settings(base.Settings):
    """Settings of cross-entropy."""

    train_epochs: int = setting(40, "epochs of training", source="those of bmm")
    score_from: str = setting(
        "loss",
        "what ranks the rows: the last-epoch loss, or the averaged predictions",
        source="the baselines of the papers",
        choices=("loss", "trajectory"),
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)


class CrossEntropy(Method):
    """Cross-entropy on the given labels."""

    settings_type: ClassVar[type[base.Settings]] = Settings

    @classmethod
    def presets(cls) -> dict[str, base.Settings]:
        """`fast` for a CPU, `paper` for the schedule of Arazo et al. 2019, table 1."""
        return {
            "fast": Settings(),
            "paper": Settings(
                batch_size=128,
                learning_rate=0.1,
                train_epochs=120,
                milestones=(30, 80, 110),
                average_from=5,
                average_until=30,
            ),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase("train", self.settings.train_epochs, forward_units=3),)

    def loss(self, when: Moment, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of the weak view."""
        logits = self.network(batch.views[0])
        self.remember(when, batch.rows, logits)
        return {"cross_entropy": F.cross_entropy(logits, self.given[batch.rows])}

    def evidence(self, predict: Predict) -> Evidence:
        """1 - p(given) of the trained network, or the trajectory score; the posterior as distribution."""
        given = self.given.cpu().numpy()
        if self.settings.score_from == "trajectory":
            probs = np.where((given >= 0)[:, None], self.trajectory.cpu().numpy(), np.nan)
        else:
            probs = predict("plain").softmax(dim=1).cpu().numpy()
        posterior, transition = transition_posterior(probs, given)
        own = np.arange(len(given)), np.maximum(given, 0)
        if self.settings.score_from == "trajectory":
            noise = (ratio_score(probs, given) + 1 - posterior[own]) / 2
        else:
            noise = 1.0 - probs[own].astype(np.float64)
        noise = np.where(given >= 0, noise, np.nan)
        return Evidence(noise, posterior.astype(np.float32), diagnostics={"transition": transition.tolist()})
