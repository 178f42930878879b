"""What methods share that move labels towards their network: whether to wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from labelfix import processes
from labelfix.estimation.evidence import Fit
from labelfix.estimation.weak_network import network_is_weak
from labelfix.methods.base import Predict, TrainState, setting
from labelfix.methods.batch import Labels
from labelfix.methods.own_model import HasOwnModel, OwnModelSettings

_MOVES = "_moves._extra_state"  # as checkpoints have always named it


_ROWS_OF_A_LOOK = 20_000


def looked_at(probs: np.ndarray, given: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """What tells whether a network is weak, of the rows of all processes that share them; of many rows some.

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        given: (N,) int64, -1 for none.
        others: more of the same rows, (N, ...) each.
    """
    if processes.count() == 1:
        return probs, given, *others
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    rows = rows[:: max(-(-len(rows) * processes.count() // _ROWS_OF_A_LOOK), 1)]
    return tuple(processes.gathered(values[rows]) for values in (probs, given, *others))


class MovingLabelSettings(OwnModelSettings):
    """Settings of every method that moves labels."""

    when_weak: Literal["wait", "go"] = setting(
        "wait",
        "whether labels stay as given while the network finds too few classes likely to be trusted with them",
        source="ours, measured; the papers go on",
    )


class MovingLabels(HasOwnModel):
    """A method whose labels follow its network, once that can be trusted with them.

    Labels that a weak network moves drag it along, and its averaged predictions then find nothing any more.

    Attributes:
        moves: whether labels may move by now; part of the state, and no buffer, which would wait for the device.
    """

    settings: MovingLabelSettings

    def __init__(self, network: nn.Module, labels: Labels, settings: MovingLabelSettings) -> None:
        super().__init__(network, labels, settings)
        self.moves = settings.when_weak == "go"

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of every module, with `moves` as a tensor."""
        return {**super().state_dict(*args, **kwargs), _MOVES: torch.tensor(self.moves)}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The inverse of `state_dict`."""
        tensors = dict(state_dict)
        self.moves = bool(tensors.pop(_MOVES))
        return super().load_state_dict(tensors, *args, **kwargs)

    def own_fit(self) -> Fit:
        """Of its own model, which knows no more than the given labels while none has moved."""
        if self.moves:
            return Fit()
        return Fit(
            ok=False, reason="the network stayed too weak for labels to move: its own model found nothing"
        )

    def may_move(self, probs: np.ndarray) -> bool:
        """Whether labels may move: from the first time on that the network is not weak.

        Args:
            probs: (N, K) its averaged predictions so far.
        """
        if not self.moves and not network_is_weak(*looked_at(probs, self.given.cpu().numpy())):
            self.moves = True
        return self.moves

    def probs_so_far(self, when: TrainState, predict: Predict) -> np.ndarray:
        """(N, K) averaged predictions, or the current ones where the window has not begun."""
        is_averaged = when.epoch > self.settings.average_from
        return (self.ensembled_probs if is_averaged else self.probs_of(predict("plain"))).cpu().numpy()
