"""Whether a network is too weak for labels to follow it, told from its averaged predictions while it trains."""

from __future__ import annotations

import numpy as np

# A network is weak where few rows have a likely class, or many of its disagreements lie where none is likely: digits
# 0.7 to 1 and 0 to 0.09, CIFAR-10 0.3 to 0.65 and 0.13 to 0.2, digits with labels at random 0.1 to 0.25 of likely rows.
_LIKELY = 0.6
_LEAST_LIKELY = 0.6
_WEAK = 0.1
_LEAST_CLASS_ROWS = 20  # of fewer it may be chance that the network takes none for their class
_ROWS_OF_A_LOOK = 20_000
_ANCHOR_SHARE = 0.03
_UNMIXING_STEPS = 50
_BLOCK_ROWS = 4_096
_TINY = 1e-12


def network_is_weak(probs: np.ndarray, given: np.ndarray) -> bool:
    """Whether few rows have a likely class, many disagreements lie among the rest, or a class is not learned at all.

    Labels of a class that no row is taken for yet would all become others at once, and the network never learn it.

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        given: (N,) int64, -1 for none; at most 20,000 rows, evenly spaced, are looked at.
    """
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    if not len(rows):
        return True
    rows = rows[:: -(-len(rows) // _ROWS_OF_A_LOOK)]
    q = unmixed(probs[rows].astype(np.float64))
    frequent = np.bincount(given[rows], minlength=q.shape[1]) >= _LEAST_CLASS_ROWS
    if not np.isin(np.flatnonzero(frequent), q.argmax(axis=1)).all():
        return True
    differs, likely = q.argmax(axis=1) != given[rows], q.max(axis=1) >= _LIKELY
    contradicted = float(differs[likely].mean()) if likely.any() else 0.0
    return float(likely.mean()) < _LEAST_LIKELY or float(differs.mean()) - contradicted > _WEAK


def unmixed(probs: np.ndarray) -> np.ndarray:
    """Predictions (R, K) without what the network adds of other classes to its surest rows of each class.

    Of each class the 3 % of rows with the largest probability say what it looks like to the network; a few
    multiplicative steps from uniform take that out of every row (Richardson 1972, Lucy 1974).
    """
    anchors = _anchors(probs)
    q = np.full(probs.shape, 1.0 / probs.shape[1])
    # Row by row it is the same sum; a block at a time the temporaries stay small, and in the processor's cache.
    for first in range(0, len(q), _BLOCK_ROWS):
        block, seen = q[first : first + _BLOCK_ROWS], probs[first : first + _BLOCK_ROWS]
        for _ in range(_UNMIXING_STEPS):
            explained = np.maximum(block @ anchors, _TINY)
            block *= (seen / explained) @ anchors.T
            block /= np.maximum(block.sum(axis=1, keepdims=True), _TINY)
    return q


def _anchors(probs: np.ndarray) -> np.ndarray:
    """(K, K): mean prediction over the rows that the network is surest belong to each class."""
    count = max(1, round(_ANCHOR_SHARE * len(probs)))
    anchors = np.empty((probs.shape[1], probs.shape[1]))
    for label in range(len(anchors)):
        # A stable order makes ties fall the same way on every run.
        top = np.argsort(-probs[:, label], kind="stable")[:count]
        anchors[label] = probs[top].mean(axis=0)
    return anchors
