"""What methods share that have two posteriors: of their own model of the rows, and of averaged predictions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch

from labelfix.estimation.evidence import Evidence, mean_evidence
from labelfix.methods.base import Method, MethodSettings, Predict, score_from, setting

ScoreFrom = Literal["both", "method", "trajectory"]


class TwoPosteriorsSettings(MethodSettings):
    """Settings of every method that has two posteriors."""

    score_from: ScoreFrom = score_from("both")
    final_share: float = setting(
        0.2,
        "weight of the trained network's predictions beside the averaged ones",
        source="ours, measured",
        ge=0,
        le=1,
    )


class TwoPosteriors(Method):
    """A method with a model of its own of what the labels are, beside its averaged predictions."""

    settings: TwoPosteriorsSettings

    @property
    def has_own_posterior(self) -> bool:
        """Whether its own model has a posterior by now."""
        return True

    def evidence(self, predict: Predict) -> Evidence:
        """Its own model, or averaged predictions (also where that has no posterior), or the mean of both."""
        logits = predict("plain")
        averaged = self.averaged_evidence(logits, self.settings.final_share)
        if self.settings.score_from == "trajectory" or not self.has_own_posterior:
            return averaged
        own = self.own_evidence(averaged, logits)
        return own if self.settings.score_from == "method" else mean_evidence(own, averaged)

    @abstractmethod
    def own_evidence(self, averaged: Evidence, logits: torch.Tensor) -> Evidence:
        """The posterior of its own model; fit and diagnostics of the averaged predictions, which know clean labels.

        Args:
            averaged: the pooled posterior of the averaged predictions.
            logits: (N, K) of the trained network, NaN for rows without a valid image.
        """
