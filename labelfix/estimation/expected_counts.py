"""Decisions by expected counts: which rows to flag, which labels to change, if beliefs mean what they say."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from labelfix.estimation.noise_levels import quantile


def best_expected_f1(noise: np.ndarray, unseen: float = 0.0) -> float:
    """The noise at and above which flags have the best F1 to be expected, if noise means what it says.

    1 where not even one wrong label is expected.

    Args:
        noise: (R,), 0 to 1.
        unseen: wrong labels that the noise does not show, as a share of those that it does.

    >>> best_expected_f1(np.array([0.9, 0.05, 0.6, 0.3, 0.01]))
    0.6
    >>> best_expected_f1(np.array([0.9, 0.05, 0.6, 0.3, 0.01]), unseen=1.0)
    0.3
    """
    if noise.sum() < 1:
        return 1.0
    ranked = np.sort(noise)[::-1]
    expected = 2 * np.cumsum(ranked) / (np.arange(1, len(ranked) + 1) + (1 + unseen) * ranked.sum())
    return float(ranked[expected.argmax()])


def changes_that_pay(
    margins: np.ndarray, weights: np.ndarray, confidence: float, least_gain: float
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Which rows to change (R,) bool, and the gain with its bounds.

    As many as have more to gain than to lose, surest first, while the lower bound of the whole gain stays above
    `least_gain`.

    Args:
        margins: (L, R), belief in the other label less that in the given one, at every level.
        weights: (L,) of the levels.
        confidence: of the bounds.
        least_gain: share of all rows.
    """
    num_rows = margins.shape[1]
    mean = weights @ margins
    order = np.argsort(-mean, kind="stable")[: int((mean > 0).sum())]
    changed = np.zeros(num_rows, dtype=bool)
    if not len(order):
        return changed, (0.0, 0.0, 0.0)
    at_level = np.cumsum(margins[:, order], axis=1) / num_rows
    gain = weights @ at_level
    tail = 1 - confidence
    # A change makes right, or makes wrong, or neither: its variance is below 1 - margin squared.
    doubt = float(ndtri(1 - tail)) * np.sqrt(np.cumsum(1 - np.minimum(mean[order], 1.0) ** 2)) / num_rows
    low = gain - np.hypot(gain - quantile(at_level, weights, tail), doubt)
    enough = np.flatnonzero(low > least_gain)
    if not len(enough):
        return changed, (0.0, 0.0, 0.0)
    last = enough[-1]
    changed[order[: last + 1]] = True
    high = gain[last] + np.hypot(quantile(at_level[:, last], weights, 1 - tail) - gain[last], doubt[last])
    return changed, (float(gain[last]), float(low[last]), float(high))


def without_emptied(
    labels: np.ndarray, corrected: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The corrections, but those of classes that they would empty; and these classes.

    >>> without_emptied(np.array([0, 1, 2, 2]), np.array([1, 2, 2, 2]), 3)
    (array([0, 1, 2, 2]), array([0, 1]))
    """
    had = np.bincount(labels, minlength=num_classes)
    kept = np.zeros(num_classes, dtype=bool)
    # A class that takes its rows back may have been all that another had.
    while (emptied := (had > 0) & (np.bincount(corrected, minlength=num_classes) == 0)).any():
        kept |= emptied
        corrected = np.where(emptied[labels], labels, corrected)
    return corrected, np.flatnonzero(kept)
