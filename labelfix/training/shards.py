"""Which rows a process has where several make one scan: they are dealt once and stay, with all that is known of each.

So per-row memory is shared out, and travels only when it is saved or read in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from labelfix import processes
from labelfix.errors import InputError


@dataclass(frozen=True)
class Shard:
    """The rows of this process.

    Attributes:
        rows: (n,) int64, ascending; those that it owns and those that every process has.
        owned: (n,) bool, whether this process answers for the row.
        num_rows: N, of all processes.
    """

    rows: np.ndarray
    owned: np.ndarray
    num_rows: int

    def places(self, rows: np.ndarray) -> np.ndarray:
        """(m,) int64: where rows of all processes (R,) lie here, as far as they are owned."""
        return np.flatnonzero(self.owned & np.isin(self.rows, rows))

    def whole(self, values: torch.Tensor, axis: int = 0) -> torch.Tensor:
        """From (.., n, ..) of every process (.., N, ..) in main memory, in the first process; in others their own."""
        own = np.moveaxis(values.detach().cpu().numpy(), axis, 0)[self.owned]
        rows = processes.gathered(self.rows[self.owned], only_first=True)
        parts = processes.gathered(own, only_first=True)
        if processes.rank():
            return values
        found = np.empty_like(parts)
        found[rows] = parts
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(found, 0, axis)))

    def part(self, values: torch.Tensor, axis: int = 0) -> torch.Tensor:
        """The inverse of `whole`.

        Raises:
            ValueError: they are not of N rows.
        """
        if values.ndim <= axis or values.shape[axis] != self.num_rows:
            raise ValueError("the state is one of other rows")
        return values.index_select(axis, torch.from_numpy(self.rows))


def deal(labels: np.ndarray, everywhere: np.ndarray, seed: int) -> Shard | None:
    """The rows of this process: of every class as many as the others have, or one more or less.

    Args:
        labels: (N,) int64 that are trained towards, -1 for none.
        everywhere: (N,) bool, rows that every process has.
        seed: of the deal.

    Returns:
        None where this process is the only one.

    Raises:
        InputError: fewer than two rows to train on for each process.
    """
    number = processes.count()
    if number == 1:
        return None
    trained = int((labels >= 0).sum())
    if trained < 2 * number:
        raise InputError(
            f"{trained} valid labelled images are too few for {number} processes, which need 2 each: start fewer"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    owner = np.empty(len(labels), np.int64)
    owner[order] = np.arange(len(labels)) % number
    own = owner == processes.rank()
    rows = np.flatnonzero(own | everywhere)
    return Shard(rows, own[rows], len(labels))


def deal_evenly(num_rows: int) -> Shard | None:
    """The same of rows that are only measured on."""
    if processes.count() == 1:
        return None
    rows = np.arange(processes.rank(), num_rows, processes.count())
    return Shard(rows, np.ones(len(rows), dtype=bool), num_rows)
