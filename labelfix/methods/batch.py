"""What a method is given: the labels it may know, and the rows of one step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

_ALIGNED = 8  # bytes, of the largest type

Prior = Literal["empirical", "uniform"]
"""Class frequencies: those of the given labels, or equal ones."""


@dataclass(frozen=True)
class Labels:
    """All that a method may know of the labels.

    Attributes:
        given: (N,) int64 on the device, -1 for rows that are not trained on.
        class_prior: (K,) float32 on the device, frequencies of the given labels with add-one smoothing.
        trusted: (N,) int64 in main memory, verified labels for methods that learn from them separately, -1 for none.
        counts: (K,) float32 on the device, how often each class is given.
        targets: (N, K) float32 on the device, how sure each class of a row is, where it may have several; `given` then
            only says by -1 which rows are not trained on. None for one label a row.
    """

    given: torch.Tensor
    class_prior: torch.Tensor
    trusted: np.ndarray
    counts: torch.Tensor
    targets: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        given: np.ndarray,
        num_classes: int,
        device: torch.device,
        trusted: np.ndarray | None = None,
        targets: np.ndarray | None = None,
    ) -> Labels:
        """From given labels (N,) int64 with -1 for rows that are not trained on, and trusted ones, default none.

        `targets` are (N, K) float32 where a row may have several labels; `class_prior` then counts them all.
        """
        if targets is None:
            counts = np.bincount(given[given >= 0], minlength=num_classes)
        else:
            counts = targets[given >= 0].sum(axis=0, dtype=np.float64)
        smoothed = counts + 1.0
        prior = torch.tensor(smoothed / smoothed.sum(), dtype=torch.float32, device=device)
        return cls(
            torch.tensor(given, device=device),
            prior,
            np.full_like(given, -1) if trusted is None else trusted,
            torch.tensor(counts, dtype=torch.float32, device=device),
            None if targets is None else torch.tensor(targets, device=device),
        )

    def of_rows(self, rows: np.ndarray) -> Labels:
        """The labels of some rows (n,) int64; frequencies stay those of all."""
        places = to_device(rows, self.given.device)
        targets = None if self.targets is None else self.targets[places]
        return replace(self, given=self.given[places], trusted=self.trusted[rows], targets=targets)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_prior)

    def prior(self, kind: Prior) -> torch.Tensor:
        """(K,) float32 class frequencies to hold to: `empirical`, those of the given labels, or `uniform`."""
        if kind == "uniform":
            return torch.full_like(self.class_prior, 1 / self.num_classes)
        return self.class_prior


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Attributes:
        rows: (B,) int64 on the device, indices into every per-row array.
        views: the requested views, each (B, 3, H, H) float32 on the device.
        rng: host generator of this step, for the draws of a method (mixup).
        trusted: the batch of trusted rows that goes with it, weak views; None for methods without.
    """

    rows: torch.Tensor
    views: tuple[torch.Tensor, ...]
    rng: np.random.Generator
    trusted: Batch | None = None


def to_device(values: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Host values on the device, without a wait where that is a CUDA GPU; on the CPU the values themselves."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)  # only from pinned memory no copy waits
    return tensor.to(device)


def packed_to_device(device: torch.device, *values: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Several host arrays as `to_device` brings them, to a CUDA GPU in one copy: small ones cost a launch each."""
    if device.type != "cuda":
        return tuple(to_device(value, device) for value in values)
    ends = np.cumsum([-(-value.nbytes // _ALIGNED) * _ALIGNED for value in values])
    starts = [0, *map(int, ends[:-1])]
    packed = np.zeros(ends[-1], np.uint8)
    for start, value in zip(starts, values, strict=True):
        packed[start : start + value.nbytes] = np.frombuffer(value.tobytes(), np.uint8)
    together = to_device(packed, device)
    return tuple(
        together[start : start + value.nbytes].view(torch.from_numpy(value[:0]).dtype).view(value.shape)
        for start, value in zip(starts, values, strict=True)
    )
