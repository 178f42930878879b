"""What methods share that have a model of their own of what the labels are, beside their predictions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch

from labelfix.estimation.evidence import Evidence
from labelfix.methods.base import Method, MethodSettings, score_from

ScoreFrom = Literal["trajectory", "method"]


class OwnModelSettings(MethodSettings):
    """Settings of every method that has a model of its own."""

    score_from: ScoreFrom = score_from("trajectory")


class HasOwnModel(Method):
    """A method that may speak for itself, however many labels a row has."""

    settings: OwnModelSettings

    @property
    def speaks_for_itself(self) -> bool:
        """Whether the findings are those of its own model, as in its paper."""
        return self.settings.score_from == "method"


class OwnModel(HasOwnModel):
    """A method with a model of its own of what the labels are, one of a row."""

    @abstractmethod
    def own_evidence(self, logits: torch.Tensor) -> Evidence:
        """What its own model says of the rows that it trained on, with the paper's rule.

        Args:
            logits: (N, K) of the trained network, NaN for rows without a valid image.
        """
