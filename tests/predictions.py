"""Averaged predictions whose true classes are known."""

from __future__ import annotations

import numpy as np


def rows_of(noisy_share, rows=3_000, classes=4, seed=0):
    """Averaged predictions of a good network; a share of the given labels is wrong, to any other class."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < noisy_share, (true + rng.integers(1, classes, rows)) % classes, true)
    probs = rng.dirichlet(np.ones(classes), rows) * 0.3
    probs[np.arange(rows), true] += 0.7
    return probs, given, true
