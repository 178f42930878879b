"""What methods share that move labels towards their network: whether to wait for it, and which beliefs to read."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from labelfix.batches import Labels
from labelfix.errors import InputError
from labelfix.evidence import Evidence
from labelfix.methods.base import Method, Moment, Predict
from labelfix.methods.settings import MethodSettings, setting
from labelfix.pooling import network_is_weak
from labelfix.readings import both


@dataclass(frozen=True)
class MovingLabelSettings(MethodSettings):
    """Settings of every method that moves labels."""

    when_weak: str = setting(
        "wait",
        "whether labels stay as given while the network finds too few classes likely to be trusted with them",
        source="ours, measured; the papers go on",
        choices=("wait", "go"),
    )
    score_from: str = setting(
        "both",
        "what the findings are read from: the moved labels, averaged predictions, or the mean of both",
        source="ours",
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


class Switch(nn.Module):
    """A yes or no that is part of a method's state; in main memory, so that asking waits for no device."""

    def __init__(self, *, is_on: bool) -> None:
        super().__init__()
        self.is_on = is_on

    def get_extra_state(self) -> torch.Tensor:
        """As a tensor, for the checkpoint."""
        return torch.tensor(self.is_on)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.is_on = bool(state)


class MovingLabels(Method):
    """A method whose labels follow its network, once that can be trusted with them.

    Labels that a weak network moves drag it along, and its averaged predictions then find nothing any more.
    """

    def __init__(self, network: nn.Module, labels: Labels, settings: Any) -> None:
        super().__init__(network, labels, settings)
        self._moves = Switch(is_on=settings.when_weak == "go")

    @property
    def moves(self) -> bool:
        """Whether labels may move by now."""
        return self._moves.is_on

    def may_move(self, probs: np.ndarray) -> bool:
        """Whether labels may move: from the first time on that the network is not weak.

        Args:
            probs: (N, K) its averaged predictions so far.
        """
        if not self.moves and not network_is_weak(probs, self.given.cpu().numpy()):
            self._moves.is_on = True
        return self.moves

    def probs_so_far(self, when: Moment, predict: Predict) -> np.ndarray:
        """(N, K) averaged predictions, or where the window has not begun those of the moment."""
        is_averaged = when.epoch > self.settings.average_from
        return (self.trajectory if is_averaged else predict("plain").softmax(dim=1)).cpu().numpy()

    def evidence(self, predict: Predict) -> Evidence:
        """The moved labels, or averaged predictions (also where none has moved), or both."""
        averaged = self.averaged_evidence(predict("plain"), self.settings.final_share)
        if self.settings.score_from == "trajectory" or not self.moves:
            return averaged
        own = self.label_evidence(averaged)
        return own if self.settings.score_from == "method" else both(own, averaged)

    @abstractmethod
    def label_evidence(self, averaged: Evidence) -> Evidence:
        """What the moved labels say; fit and diagnostics of the averaged predictions, which know clean labels."""
