"""What a network says of rows that it was trained on, as if it had never seen their labels.

Training on a row moves its prediction towards the given label, right or wrong. How far is measured: a random part of
the rows is left out of the training and predicted all the same. Drawn at random, their labels fit the predictions as
all rows' labels would have done had nobody trained on them. So the log-odds of the given label are moved, quantile by
quantile, from their distribution over the trained rows to that over the rows left out. The order of the rows stays,
and so do the proportions among the other classes.

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


def as_held_out(probs: np.ndarray, given: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Predictions of all rows as a network would make them that knew no label of theirs.

    Args:
        probs: (N, K) averaged over training; NaN rows are left alone.
        given: (N,) int64 that the rows were trained on, -1 for none.
        left_out: (N,) bool, rows with a label that were left out at random, predicted in the same epochs.

    Returns:
        (N, K) float64; as they are where no row was left out.
    """
    found = probs.astype(np.float64)
    usable = (given >= 0) & np.isfinite(found).all(axis=1)
    trained, others = np.flatnonzero(usable & ~left_out), np.flatnonzero(usable & left_out)
    if not len(trained) or not len(others):
        return found
    odds = _log_odds(found[trained], given[trained])
    own = expit(_matched(odds, _log_odds(found[others], given[others])))
    moved = np.maximum(found[trained], _TINY)
    at = np.arange(len(trained)), given[trained]
    moved[at] = 0
    moved *= ((1 - own) / moved.sum(axis=1))[:, None]
    moved[at] = own
    found[trained] = moved
    return found


def _log_odds(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Of the given label (R,) against all others; both are at least a billionth."""
    own = probs[np.arange(len(given)), given]
    return np.log(np.maximum(own, _TINY)) - np.log(np.maximum(others_mass(probs, given), _TINY))


def _matched(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values (R,) moved so that their distribution is that of the wanted ones (H,); beyond the last means as there.

    >>> _matched(np.linspace(0.0, 10, 101), np.linspace(0.0, 5, 40))[[0, 50, 100]].round(1).tolist()
    [-0.6, 2.5, 5.6]
    """
    count = min(max(len(wanted) // _ROWS_OF_A_QUANTILE, 1), _MOST_QUANTILES, len(values))
    here, there = (
        np.array([part.mean() for part in np.array_split(np.sort(each), count)]) for each in (values, wanted)
    )
    inside = np.clip(values, here[0], here[-1])
    return np.interp(inside, here, there) + values - inside
