"""What a network that has learned swapped classes would say without the swap (Richardson 1972, Lucy 1974)."""

from __future__ import annotations

import numpy as np

_STEPS = 8
_FLOOR = 0.01  # shared out evenly: no class is ruled out by unmixing alone
_TINY = 1e-12


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
    q = np.full(probs.shape, 1 / probs.shape[1])
    for _ in range(steps):
        q *= (probs / np.maximum(q @ mixing, _TINY)) @ mixing.T
        q = normalised(q)
    return normalised(q + _FLOOR / probs.shape[1])
