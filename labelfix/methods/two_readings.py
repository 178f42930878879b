"""What methods share that can be read in two ways: by their own model of the rows, or by averaged predictions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from labelfix.errors import InputError
from labelfix.estimation.evidence import Evidence, mean_evidence
from labelfix.methods.base import Method, MethodSettings, Predict, setting


@dataclass(frozen=True)
class TwoPosteriorsSettings(MethodSettings):
    """Settings of every method that can be read in two ways."""

    score_from: str = setting(
        "both",
        "what the findings are read from: the method's own model, averaged predictions, or the mean of both",
        source="ours, measured",
        choices=("both", "method", "trajectory"),
    )
    final_share: float = setting(
        0.2, "weight of the trained network's predictions beside the averaged ones", source="ours, measured"
    )

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        super().check()
        if not 0 <= self.final_share <= 1:
            raise InputError(f"final_share={self.final_share}: must be a number from 0 to 1")


class TwoPosteriors(Method):
    """A method with a model of its own of what the labels are, beside its averaged predictions."""

    @property
    def has_own_posterior(self) -> bool:
        """Whether its own model has something to say."""
        return True

    def evidence(self, predict: Predict) -> Evidence:
        """Its own model, or averaged predictions (also where it has nothing to say), or the mean of both."""
        logits = predict("plain")
        averaged = self.averaged_evidence(logits, self.settings.final_share)
        if self.settings.score_from == "trajectory" or not self.has_own_posterior:
            return averaged
        own = self.own_evidence(averaged, logits)
        return own if self.settings.score_from == "method" else mean_evidence(own, averaged)

    @abstractmethod
    def own_evidence(self, averaged: Evidence, logits: torch.Tensor) -> Evidence:
        """What its own model says; fit and diagnostics of the averaged predictions, which know clean labels.

        Args:
            averaged: the pooled reading of the averaged predictions.
            logits: (N, K) of the trained network, NaN for rows without a valid image.
        """
