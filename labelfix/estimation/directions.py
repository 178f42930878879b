"""Which of two classes that are swapped is mislabelled as the other.

Counts of sure rows see that two classes are taken for each other, but where a network has learned the swap they hardly
see which way: its predictions of the rows that are rightly called horses and of the deer that are called horses grow
alike. What tells is how well the predictions can be explained once the swap is taken out of them (`unmixed`): taken out
the wrong way, nothing is left for some rows. So for each pair of classes the part of its wrong labels that goes either
way is searched by the likelihood of the given labels, one pair after the other, those with most wrong labels first;
how many there are stays as it was counted.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from labelfix.estimation.unmixing import by_class, unmixed

_LEAST_SWAPPED = 0.05  # share of two classes' rows, added up: under it little can be gained or lost
_MOST_PAIRS = 50
_STEPS = 10
_COST = 1.0  # nats that a pair has to bring: Akaike's price of one number
_TOUCHED = 0.02  # belief in either class from which on a row is looked at


def directed(
    transition: np.ndarray, seen: np.ndarray, labels: np.ndarray, sharpness: float, bias: np.ndarray
) -> np.ndarray:
    """T (K, K) with the wrong labels between two classes going the way that makes the labels likeliest.

    Args:
        transition: T (K, K) from true to given class, rows sum to 1.
        seen: (R, K) held-out predictions, positive, rows sum to 1.
        labels: (R,) int64 in 0..K-1.
        sharpness: of the beliefs, see `noise_model`.
        bias: (K,) of the beliefs.
    """
    found = transition.copy()
    swapped = np.triu(found + found.T, 1)
    for place in np.argsort(-swapped, axis=None, kind="stable")[:_MOST_PAIRS]:
        pair = divmod(int(place), len(found))
        if swapped[pair] < _LEAST_SWAPPED:
            break
        rows = np.flatnonzero(seen[:, pair].sum(axis=1) >= _TOUCHED)
        found = _best_direction(found, pair, by_class(seen[rows]), labels[rows], sharpness, bias)
    return found


def _best_direction(
    transition: np.ndarray,
    pair: tuple[int, int],
    seen: np.ndarray,
    labels: np.ndarray,
    sharpness: float,
    bias: np.ndarray,
) -> np.ndarray:
    """T as it is, or with another part of the pair's wrong labels going either way where that is likelier."""

    def loss(tried: np.ndarray) -> float:
        q = softmax(sharpness * (np.log(unmixed(seen, tried)) + bias), axis=1)
        return -float(
            np.log(np.maximum(np.einsum("nk,nk->n", q, tried.take(labels, axis=1).T), 1e-300)).sum()
        )

    best = minimize_scalar(
        lambda share: loss(_with_share(transition, pair, share)),
        bounds=(0, 1),
        method="bounded",
        options={"maxiter": _STEPS},
    )
    is_better = best.fun < loss(transition) - _COST
    return _with_share(transition, pair, float(best.x)) if is_better else transition


def _with_share(transition: np.ndarray, pair: tuple[int, int], share: float) -> np.ndarray:
    """T with this share of the wrong labels between two classes going from the first to the second.

    >>> _with_share(np.array([[0.9, 0.1], [0.3, 0.7]]), (0, 1), 0.75).round(2).tolist()
    [[0.7, 0.3], [0.1, 0.9]]
    """
    one, other = pair
    both = transition[one, other] + transition[other, one]
    changed = transition.copy()
    for (true, given), part in ((pair, share), ((other, one), 1 - share)):
        kept = transition[true, true] + transition[true, given]
        changed[true, given] = min(part * both, 0.95 * kept)
        changed[true, true] = kept - changed[true, given]
    return changed
