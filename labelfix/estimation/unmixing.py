"""What a network that has learned swapped classes would say without the swap (Richardson 1972, Lucy 1974)."""

from __future__ import annotations

import numpy as np

_STEPS = 8
_FLOOR = 0.01  # shared out evenly: no class is ruled out by unmixing alone
_TINY = 1e-12


def by_class(probs: np.ndarray) -> np.ndarray:
    """The same (R, K) float64, class by class in memory: sums over few classes of many rows are many times as fast."""
    return probs.astype(np.float64, order="F")


def normalised(weights: np.ndarray) -> np.ndarray:
    """Rows (R, K) scaled to sum to 1."""
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), _TINY)


def unmixed(probs: np.ndarray, mixing: np.ndarray, steps: int = _STEPS) -> np.ndarray:
    """Q (R, K) with mixing' q = probs as well as a few multiplicative steps from uniform make it, all positive.

    Args:
        probs: (R, K), rows sum to 1.
        mixing: (K, K), rows sum to 1, from true to given class.
        steps: how many.
    """
    q = np.full_like(probs, 1 / probs.shape[1])
    for _ in range(steps):
        # Products of the transposed: in the order in memory of what comes in.
        q *= (mixing @ (probs / np.maximum((mixing.T @ q.T).T, _TINY)).T).T
        q = normalised(q)
    return normalised(q + _FLOOR / probs.shape[1])
