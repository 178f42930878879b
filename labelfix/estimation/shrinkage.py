"""A transition matrix from few rows: counts of labels by true class, shrunk as far as the classes are alike.

Empirical Bayes in two steps. How often a class is mislabelled: beta-binomial around the rate of all classes. Where its
wrong labels go: Dirichlet-multinomial around "to every other class alike". How strongly, the counts say themselves; the
second strength is a mixture over classes, so that a data set where half of the classes are swapped and the others not
needs no compromise between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, softmax

_STRENGTHS = np.geomspace(0.5, 1000, 13)  # rows that the prior is worth: from "as counted" to "all alike"
_MIXING_STEPS = 50
_ALIKE = 3000.0


@dataclass(frozen=True)
class Shrinkage:
    """How far the counts of a class are drawn towards what is usual.

    Attributes:
        rate: share of wrong labels over all classes.
        strength: rows that this rate is worth to each class.
        spread: (K, S) float64, rows sum to 1: for each class, how probable each strength of "everywhere alike" is.
    """

    rate: float
    strength: float
    spread: np.ndarray

    def transition(self, counts: np.ndarray) -> np.ndarray:
        """T (K, K) float64, rows that sum to 1, all positive: from true class to given class.

        Args:
            counts: (K, K) rows by true and given class, not negative; need not be whole numbers.
        """
        num_classes = len(counts)
        others, wrong, total = _parts(counts)
        error = (wrong + self.strength * self.rate) / (total + self.strength)
        if num_classes == 2:
            destinations = 1 - np.eye(2)
        else:
            weights = self.spread / (wrong[:, None] + _STRENGTHS)
            even = (weights @ _STRENGTHS) / (num_classes - 1)
            destinations = others * weights.sum(axis=1)[:, None] + even[:, None]
            np.fill_diagonal(destinations, 0)
        matrix = destinations * error[:, None]
        np.fill_diagonal(matrix, 1 - error)
        return matrix


def shrinkage(counts: np.ndarray) -> Shrinkage:
    """The strengths that make the counts of all classes most likely.

    Args:
        counts: (K, K) rows by true and given class, K at least 2.

    >>> swapped = np.array([[80.0, 20, 0, 0], [0, 90, 10, 0], [0, 0, 70, 30], [20, 0, 0, 80]])
    >>> shrinkage(swapped).transition(swapped).round(2)[2].tolist()
    [0.0, 0.0, 0.73, 0.27]
    >>> alike = np.array([[81.0, 7, 6, 6], [7, 79, 8, 6], [5, 7, 80, 8], [0, 1, 0, 4]])
    >>> shrinkage(alike).transition(alike).round(2)[3].tolist()
    [0.07, 0.07, 0.07, 0.8]
    """
    num_classes = len(counts)
    others, wrong, total = _parts(counts)
    rate = float((wrong.sum() + 0.1) / (total.sum() + 1))

    strengths = np.geomspace(2, _ALIKE, 25)[:, None]
    a, b = strengths * rate, strengths * (1 - rate)
    up = gammaln(a + wrong) + gammaln(b + total - wrong) + gammaln(strengths)
    likelihoods = (up - gammaln(a) - gammaln(b) - gammaln(strengths + total)).sum(axis=1)
    strength = float(strengths[likelihoods.argmax(), 0])
    off = ~np.eye(num_classes, dtype=bool)
    logs = np.empty((num_classes, len(_STRENGTHS)))
    for place, worth in enumerate(_STRENGTHS):
        a = worth / max(num_classes - 1, 1)
        cells = np.where(off, gammaln(a + others) - gammaln(a), 0.0).sum(axis=1)
        logs[:, place] = gammaln(worth) - gammaln(worth + wrong) + cells
    share = np.full(len(_STRENGTHS), 1 / len(_STRENGTHS))
    for _ in range(_MIXING_STEPS):
        spread = softmax(logs + np.log(share), axis=1)
        share = (spread.sum(axis=0) + 0.02) / (num_classes + 0.02 * len(_STRENGTHS))
    return Shrinkage(rate, strength, softmax(logs + np.log(share), axis=1))


def all_alike(counts: np.ndarray) -> Shrinkage:
    """The strongest: every class as often wrong as all are, and its wrong labels everywhere alike.

    >>> all_alike(np.array([[8.0, 2, 0], [0, 10, 0], [1, 0, 9]])).transition(np.zeros((3, 3))).round(2)[0].tolist()
    [0.9, 0.05, 0.05]
    """
    _, wrong, total = _parts(counts)
    spread = np.zeros((len(counts), len(_STRENGTHS)))
    spread[:, -1] = 1
    return Shrinkage(float((wrong.sum() + 0.1) / (total.sum() + 1)), _ALIKE, spread)


def _parts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of wrong labels (K, K), their sum (K,), and all rows (K,) of each true class."""
    others = counts.astype(np.float64)
    np.fill_diagonal(others, 0)
    return others, others.sum(axis=1), counts.sum(axis=1)
