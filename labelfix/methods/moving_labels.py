"""What methods share that move labels towards their network: whether to wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from labelfix.estimation.posterior import network_is_weak
from labelfix.methods.base import Predict, TrainState, setting
from labelfix.methods.batch import Labels
from labelfix.methods.two_readings import TwoPosteriors, TwoPosteriorsSettings


@dataclass(frozen=True)
class MovingLabelSettings(TwoPosteriorsSettings):
    """Settings of every method that moves labels."""

    when_weak: str = setting(
        "wait",
        "whether labels stay as given while the network finds too few classes likely to be trusted with them",
        source="ours, measured; the papers go on",
        choices=("wait", "go"),
    )


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


class MovingLabels(TwoPosteriors):
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

    @property
    def has_own_posterior(self) -> bool:
        """Labels that have not moved say nothing."""
        return self.moves

    def may_move(self, probs: np.ndarray) -> bool:
        """Whether labels may move: from the first time on that the network is not weak.

        Args:
            probs: (N, K) its averaged predictions so far.
        """
        if not self.moves and not network_is_weak(probs, self.given.cpu().numpy()):
            self._moves.is_on = True
        return self.moves

    def probs_so_far(self, when: TrainState, predict: Predict) -> np.ndarray:
        """(N, K) averaged predictions, or where the window has not begun those of the moment."""
        is_averaged = when.epoch > self.settings.average_from
        return (self.ensembled_probs if is_averaged else predict("plain").softmax(dim=1)).cpu().numpy()
