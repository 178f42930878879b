"""What a network says of rows that it was trained on, as if it had never seen their labels.

Training on a row moves its prediction towards the given label, right or wrong. How far is measured: a random part of
the rows is left out of the training and predicted all the same. Drawn at random, their labels fit the predictions as
all rows' labels would have done had nobody trained on them. So the log-odds of the given label are moved, quantile by
quantile, from their distribution over the trained rows to that over the rows left out. The order of the rows stays,
and so do the proportions among the other classes. Of a class that rows have or lack, either is moved by itself.

One number for all rows, as measured on labels planted wrong before training, fails: a network that learns wrong labels
by heart gives those far more than right ones, which have little left to gain (tests/benchmarks/README.md).

Chance may leave out more of the wrong labels than there are elsewhere, or fewer. Where another network is at hand that
saw none of the rows, as a linear probe in folds, it tells: rows left out are weighted so that what it says of them is
distributed as what it says of all (post-stratification, Holt and Smith 1979).
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
        left_out: (N,) bool, rows with a label that were left out at random, predicted in the same epochs; or float64,
            how many rows each of them stands for (`post_stratification_weights`), 0 for others.
        by_label: whether the rows of each label are moved by themselves, as where most lack a class and few have it.

    Returns:
        (N, K) float64; as they are where no row was left out, or none of the same label.
    """
    found = probs.astype(np.float64)
    for rows in _parts(found, given, by_label=by_label):
        trained, others = rows[left_out[rows] == 0], rows[left_out[rows] > 0]
        if len(trained) and len(others):
            odds = _log_odds(found[trained], given[trained])
            matched = _matched(odds, _log_odds(found[others], given[others]), left_out[others])
            found[trained] = _with_odds(found[trained], given[trained], matched)
    return found


def post_stratification_weights(
    left_out: np.ndarray, given: np.ndarray, told: np.ndarray, *, by_label: bool = False
) -> np.ndarray:
    """How many rows each row that was left out stands for, by what a network says of all that saw none of them.

    Rows are as likely to be wrong as others of which it gives their label the same odds, by quantiles.

    >>> told = np.repeat([[0.9, 0.1], [0.2, 0.8]], 30, axis=0)
    >>> found = post_stratification_weights(np.arange(60) % 30 < np.repeat([12, 8], 30), np.zeros(60, np.int64), told)
    >>> found[[0, 29, 30]].round(2).tolist()
    [0.83, 0.0, 1.25]

    Args:
        left_out: (N,) bool.
        given: (N,) int64, -1 for none.
        told: (N, K) of the other network; of rows with NaN it says nothing, and they stand for as many as any.
        by_label: as for `as_held_out`.

    Returns:
        (N,) float64, 0 for rows that were not left out and 1 in the mean of the others.
    """
    found = left_out * ((given >= 0).sum() / max(left_out.sum(), 1))
    for rows in _parts(told, given, by_label=by_label):
        is_left_out, odds = left_out[rows], _log_odds(told[rows].astype(np.float64), given[rows])
        if not is_left_out.any():
            continue
        own = odds[is_left_out]
        # Edges that are values of rows left out: there is one of them at least in every stratum.
        edges = np.quantile(own, np.linspace(0, 1, _num_quantiles(len(own)) + 1)[1:-1], method="higher")
        stratum = np.searchsorted(np.unique(edges[edges > own.min()]), odds, side="right")
        found[rows] = is_left_out * (np.bincount(stratum) / np.bincount(stratum, is_left_out))[stratum]
    return found * (left_out.sum() / max(found.sum(), _TINY))


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


def _parts(probs: np.ndarray, given: np.ndarray, *, by_label: bool) -> list[np.ndarray]:
    """The rows with a label and a prediction, all together or those of each label by themselves."""
    usable = (given >= 0) & np.isfinite(probs).all(axis=1)
    if not by_label:
        return [np.flatnonzero(usable)]
    return [np.flatnonzero(usable & (given == label)) for label in range(probs.shape[1])]


def _num_quantiles(rows: int) -> int:
    """By how many quantiles the distribution of so many rows is described."""
    return min(max(rows // _ROWS_OF_A_QUANTILE, 1), _MOST_QUANTILES)


def _matched(values: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values (R,) moved so that their distribution is that of the wanted ones (H,); beyond the last means as there.

    >>> _matched(np.linspace(0.0, 10, 101), np.linspace(0.0, 5, 40), np.ones(40))[[0, 50, 100]].round(1).tolist()
    [-0.6, 2.5, 5.6]

    Args:
        values: (R,).
        wanted: (H,).
        weights: (H,) above 0, of the wanted ones.
    """
    count = min(_num_quantiles(len(wanted)), len(values))
    here, there = _part_means(values, np.ones(len(values)), count), _part_means(wanted, weights, count)
    inside = np.clip(values, here[0], here[-1])
    return np.interp(inside, here, there) + values - inside


def _part_means(values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Means (count,) of parts of equal weight, ascending; rows at the border of two count for both in part.

    >>> _part_means(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), 2).tolist()
    [1.5, 2.5]
    """
    order = np.argsort(values, kind="stable")
    share = weights[order] / weights.sum()
    summed = (
        np.concatenate([[0.0], np.cumsum(share)]),
        np.concatenate([[0.0], np.cumsum(share * values[order])]),
    )
    return np.diff(np.interp(np.linspace(0, 1, count + 1), *summed)) * count
