"""What a network says of rows that it was trained on, as if it had never seen their labels.

Training on a row moves its prediction towards the given label, right or wrong. How far is measured: a random part of
the rows is left out of the training and predicted all the same. Drawn at random, their labels fit the predictions as
all rows' labels would have done had nobody trained on them. So the log-odds of the given label are moved, quantile by
quantile, from their distribution over the trained rows to that over the rows left out. The order of the rows stays,
and so do the proportions among the other classes. Of a class that rows have or lack, either is moved by itself.

One number for all rows, as measured on labels planted wrong before training, fails: a network that learns wrong labels
by heart gives those far more than right ones, which have little left to gain (tests/benchmarks/README.md).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from labelfix.estimation.evidence import others_mass

_ROWS_OF_A_QUANTILE = 10
_MOST_QUANTILES = 20
_TINY = 1e-9


def as_held_out(
    probs: np.ndarray, given: np.ndarray, left_out: np.ndarray, *, by_label: bool = False
) -> np.ndarray:
    """Predictions of all rows as a network would make them that knew no label of theirs.

    Args:
        probs: (N, K) averaged over training; NaN rows are left alone.
        given: (N,) int64 that the rows were trained on, -1 for none.
        left_out: (N,) bool, rows with a label that were left out at random, predicted in the same epochs.
        by_label: whether the rows of each label are moved by themselves, as where most lack a class and few have it.

    Returns:
        (N, K) float64; as they are where no row was left out, or none of the same label.
    """
    found = probs.astype(np.float64)
    usable = (given >= 0) & np.isfinite(found).all(axis=1)
    parts = [given == label for label in range(probs.shape[1])] if by_label else [usable]
    for part in parts:
        trained, others = np.flatnonzero(part & usable & ~left_out), np.flatnonzero(part & usable & left_out)
        if len(trained) and len(others):
            odds = _log_odds(found[trained], given[trained])
            matched = _matched(odds, _log_odds(found[others], given[others]))
            found[trained] = _with_odds(found[trained], given[trained], matched)
    return found


def as_told(averaged: np.ndarray, probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Averaged predictions in their own order, with the odds of the given label that held-out ones have.

    Among the rows of each given label, as a network remembers right and wrong labels of each in another measure.

    >>> remembered = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    >>> told = np.array([[0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    >>> as_told(remembered, told, np.array([0, 0, 1])).round(2).tolist()
    [[0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]

    Args:
        averaged: (R, K) float64 over the training on the rows.
        probs: (R, K) of networks that never saw them.
        given: (R,) int64.
    """
    odds, wanted = _log_odds(averaged, given), _log_odds(probs.astype(np.float64), given)
    moved = np.empty(len(given))
    # Sorted by label first: what is sorted alike on both sides is matched.
    moved[np.lexsort((odds, given))] = wanted[np.lexsort((wanted, given))]
    return _with_odds(averaged, given, moved)


def _with_odds(probs: np.ndarray, given: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Predictions (R, K) with these log-odds (R,) of the given label, the others in proportion."""
    own, at = expit(odds), (np.arange(len(given)), given)
    moved = np.maximum(probs, _TINY)
    moved[at] = 0
    moved *= ((1 - own) / moved.sum(axis=1))[:, None]
    moved[at] = own
    return moved


def _log_odds(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Of the given label (R,) against all others; both are at least a billionth."""
    own = probs[np.arange(len(given)), given]
    return np.log(np.maximum(own, _TINY)) - np.log(np.maximum(others_mass(probs, given), _TINY))


def _matched(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values (R,) moved so that their distribution is that of the wanted ones (H,); beyond the last means as there.

    >>> _matched(np.linspace(0.0, 10, 101), np.linspace(0.0, 5, 40))[[0, 50, 100]].round(1).tolist()
    [-0.7, 2.5, 5.6]
    """
    count = min(max(len(wanted) // _ROWS_OF_A_QUANTILE, 1), _MOST_QUANTILES, len(values))
    here, there = (
        np.array([part.mean() for part in np.array_split(np.sort(each), count)]) for each in (values, wanted)
    )
    inside = np.clip(values, here[0], here[-1])
    return np.interp(inside, here, there) + values - inside
