"""What methods share that learn from trusted samples, which come in a stream of their own beside the others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.methods.base import Method, MethodSettings, Phase
from labelfix.methods.batch import Labels


class TrustedStream(Method):
    """A method with a batch of trusted samples beside every other.

    Attributes:
        verified: (N,) int64, verified labels, -1 for none.
    """

    verified: torch.Tensor
    needs_trusted: ClassVar[bool] = True

    def __init__(self, network: nn.Module, labels: Labels, settings: MethodSettings) -> None:
        super().__init__(network, labels, settings)
        verified = torch.tensor(labels.trusted, device=self.given.device)
        self.register_buffer("verified", verified, persistent=False)

    def trusted_slices(self, phase: Phase, steps: int, rng: np.random.Generator) -> list[np.ndarray] | None:
        """As many trusted rows a step as there are others, every class as often as the next."""
        return balanced_slices(self.labels.trusted, steps, self.settings.batch_size, rng)

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """(B, K) float32 of labels (B,) int64."""
        return F.one_hot(labels, self.labels.num_classes).float()


def balanced_slices(trusted: np.ndarray, steps: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Trusted rows for every step of an epoch: classes in turn, and of each class its rows in turn.

    Args:
        trusted: (N,) int64, verified labels, -1 for none; at least one row is trusted.
        steps: of the epoch.
        size: rows a step.
        rng: for the orders.

    Returns:
        `steps` arrays (size,) int64; a row comes again only when the others of its class have had their turn.
    """
    all_rows = np.flatnonzero(trusted >= 0)
    _, first = np.unique(trusted[all_rows], return_index=True)
    classes = trusted[all_rows[np.sort(first)]]  # as they come, so that their numbers decide nothing
    rounds = -(-steps * size // len(classes))
    turns = np.empty((rounds, len(classes)), np.int64)
    for column, label in enumerate(classes):
        rows = np.flatnonzero(trusted == label)
        passes = [rng.permutation(rows) for _ in range(-(-rounds // len(rows)))]
        turns[:, column] = np.concatenate(passes)[:rounds]
    return list(rng.permuted(turns, axis=1).ravel()[: steps * size].reshape(steps, size))
