"""What a method finds about the rows, and the maths that takes it from averaged predictions; numpy only.

Names: N rows, K classes, `given` (N,) int64 with -1 for none, `probs` (N, K) rows that sum to 1. Rows
whose probabilities are NaN (never trained on, never predicted) stay NaN and are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

FloatArray = np.ndarray
"""Any floating numpy array; shapes stand in the docstrings."""

_ANCHOR_SHARE = 0.03
_DECONVOLUTION_STEPS = 50
_BLOCK_ROWS = 4_096
_LEAST_SURE = 10
_SPREAD_ROWS = 0.5
_TINY = 1e-12


@dataclass(frozen=True)
class Fit:
    """Whether the method's model of the noise can be believed.

    Attributes:
        ok: False when the fit failed; the verdicts then leave every label as it was given.
        reason: what was found, in plain words; empty when there is nothing to report.
        keeps_labels: True when nothing may be relabelled: the labels look (nearly) free of errors, or the network too
            weak to correct them. Suspects are flagged all the same.
    """

    ok: bool = True
    reason: str = ""
    keeps_labels: bool = False


@dataclass(frozen=True)
class Rule:
    """When a row is flagged, and when its label is corrected.

    Attributes:
        flag_above: noise score above which a row is flagged, 0 to 1.
        relabel_odds: how many times as probable as the given label another must be, 0 up, to replace it in a flagged
            row; infinite where none is.
        needs_other: whether another label than the given one must be the most probable in a flagged row.
        spares_classes: whether a class that the corrections would empty keeps its labels; else the fit has failed.
    """

    flag_above: float = 0.5
    relabel_odds: float = 4.0
    needs_other: bool = True
    spares_classes: bool = False

    def __str__(self) -> str:
        first, label = (
            (" and the most probable label is not the given one", "that")
            if self.needs_other
            else ("", "the most probable other")
        )
        odds = (
            "none is corrected"
            if self.relabel_odds == np.inf
            else f"corrected: flagged, and {label} label is at least {self.relabel_odds:.9g} times as probable as the"
            " given one, unless the labels look clean or the network is too weak to correct them"
        )
        spared = "; a class that this would empty keeps its labels" if self.spares_classes else ""
        # As many digits as the table has: it alone explains every flag.
        return f"flagged: noise_score > {self.flag_above:.9g}{first}; {odds}{spared}"


@dataclass(frozen=True)
class Evidence:
    """What a method believes after training.

    Attributes:
        noise: (N,) float64 in [0, 1], the estimated probability that the given label is wrong; NaN where
            the method has no estimate.
        probs: (N, K) float32, the belief about the true label with the given one taken into account.
        fit: whether the model behind it can be believed.
        diagnostics: JSON-able numbers for the summary (mixture parameters, histogram).
        rule: by which rows are flagged and labels corrected.
    """

    noise: FloatArray
    probs: FloatArray
    fit: Fit = field(default_factory=Fit)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    rule: Rule = Rule()

    @classmethod
    def of_rows(
        cls,
        beliefs: FloatArray,
        noise: FloatArray,
        rows: np.ndarray,
        num_rows: int,
        fit: Fit,
        diagnostics: dict[str, Any],
    ) -> Evidence:
        """From the beliefs and the noise of some rows; NaN for the others.

        Args:
            beliefs: (R, K) float64 about the true label.
            noise: (R,) float64.
            rows: (R,) int64, which rows these are.
            num_rows: N.
            fit: of the whole.
            diagnostics: of the whole.
        """
        probs = scattered(beliefs.astype(np.float32), rows, num_rows)
        return cls(scattered(noise, rows, num_rows), probs, fit, diagnostics)


def scattered(values: np.ndarray, rows: np.ndarray, num_rows: int) -> FloatArray:
    """Values of some rows (R,) or (R, K) as an array of all N, of the same dtype; NaN for the others."""
    everywhere = np.full((num_rows, *values.shape[1:]), np.nan, dtype=values.dtype)
    everywhere[rows] = values
    return everywhere


def others_mass(beliefs: FloatArray, given: np.ndarray) -> FloatArray:
    """Noise (R,) of beliefs (R, K) as the sum of all classes but the given one (R,) int64.

    Not 1 - the belief in it, which rounds nearly certain rows to the same number.
    """
    others = beliefs.copy()
    others[np.arange(len(given)), given] = 0
    return np.minimum(others.sum(axis=1), 1.0)


def mean_evidence(first: Evidence, second: Evidence) -> Evidence:
    """The mean of two posteriors of the same rows, noise and beliefs; fit and diagnostics of the second."""
    probs = (first.probs.astype(np.float64) + second.probs) / 2
    probs /= probs.sum(axis=1, keepdims=True)
    return replace(second, noise=(first.noise + second.noise) / 2, probs=probs.astype(np.float32))


def ratio_score(probs: FloatArray, given: np.ndarray, fitted: np.ndarray | None = None) -> FloatArray:
    """Noise score that compares a row's own probability with what is usual for its given class.

    s = t_g / (t_g + 2 P_g), with t_k the mean of P_k over the rows given k (1/K for a class without rows).

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        given: (N,) int64, -1 for none.
        fitted: (N,) bool, the rows that t comes from; default all.

    Returns:
        (N,) float64 in [0, 1]; NaN where there is no given label or no prediction.
    """
    rows, own, usual = _own_and_usual(probs, given, fitted)
    return scattered(usual / np.maximum(usual + 2.0 * own, _TINY), rows, len(given))


def class_relative_losses(
    probs: FloatArray, given: np.ndarray, fitted: np.ndarray | None = None
) -> FloatArray:
    """Loss of each row's given label, relative to what is usual for its class: -log(P_g / t_g).

    Some classes are harder for every row; a loss that is high for an easy class is usual for a hard one. t_k
    is the mean of P_k over the rows given k, as in `ratio_score`, which ranks the rows alike.

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        given: (N,) int64, -1 for none.
        fitted: (N,) bool, the rows that t comes from; default all.

    Returns:
        (N,) float64; NaN where there is no given label or no prediction.
    """
    rows, own, usual = _own_and_usual(probs, given, fitted)
    losses = np.log(np.maximum(usual, _TINY)) - np.log(np.maximum(own, _TINY))
    return scattered(losses, rows, len(given))


def transition_posterior(
    probs: FloatArray, given: np.ndarray, fitted: np.ndarray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Belief about the true label from predictions that model the *given* label.

    The predictions of a class as the network sees it, T0[j] = mean P over the 3 % of rows with the largest
    P_j, are taken out of each row by multiplicative steps q <- normalise(q * (T0 (P / (T0' q)))) from
    uniform, so that T0' q explains P. Then T[j, i] is the share of given label i among the rows weighted by
    q_j, and r_j is proportional to q_j T[j, given].

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        given: (N,) int64, -1 for none.
        fitted: (N,) bool, the rows that T0 and T come from; default all.

    Returns:
        r (N, K) float64, rows that sum to 1 (NaN where there is no given label or no prediction), and
        T (K, K) float64, rows that sum to 1.
    """
    rows = _usable(probs, given)
    labels = given[rows]
    known = None if fitted is None else fitted[rows]
    q = true_class_beliefs(probs[rows], known)
    transition = transition_matrix(q, labels) if known is None else transition_matrix(q[known], labels[known])
    joint = q * transition[:, labels].T
    posterior = joint / np.maximum(joint.sum(axis=1, keepdims=True), _TINY)
    return scattered(posterior, rows, len(given)), transition


def true_class_beliefs(probs: FloatArray, fitted: np.ndarray | None = None) -> FloatArray:
    """Q of `transition_posterior`: predictions freed of the blur that the network gives to sure rows too.

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        fitted: (N,) bool, the rows that T0 comes from; default all.

    Returns:
        (N, K) float64, rows that sum to 1; NaN rows stay NaN.
    """
    rows = np.isfinite(probs).all(axis=1)
    used = probs[rows].astype(np.float64)
    beliefs = _deconvolve(used, _anchor_rows(used if fitted is None else used[fitted[rows]]))
    return scattered(beliefs, rows, len(probs))


def transition_matrix(probs: FloatArray, given: np.ndarray) -> FloatArray:
    """T[j, i] = sum_n probs[n, j] [given_n = i] / sum_n probs[n, j]; a class without mass keeps its label.

    Args:
        probs: (N, K) finite beliefs about the true label.
        given: (N,) int64 in 0..K-1.

    Returns:
        (K, K) float64, rows that sum to 1: from true class j to given class i.
    """
    num_classes = probs.shape[1]
    counts = np.zeros((num_classes, num_classes))
    for label in range(num_classes):
        counts[:, label] = probs[given == label].sum(axis=0, dtype=np.float64)
    mass = counts.sum(axis=1, keepdims=True)
    return np.where(mass > _TINY, counts / np.maximum(mass, _TINY), np.eye(num_classes))


def sure_transition(
    beliefs: FloatArray, given: np.ndarray, certainty: float
) -> tuple[FloatArray, np.ndarray]:
    """T[j, i]: share of given label i among the rows that surely belong to class j.

    Rows that belong to j by a little, which a weak network has many of, would count its errors as label noise.

    Args:
        beliefs: (N, K) about the true label, finite.
        given: (N,) int64 in 0..K-1.
        certainty: least belief of a sure row; of a class with fewer than 10 such rows the 10 surest of those that
            belong to it rather than to another count.

    Returns:
        T (K, K) float64, rows that sum to 1, all positive: half a row is spread evenly over the given labels; a class
        without rows keeps its label. And the rows that each class was counted on, (K,) int64.
    """
    num_classes = beliefs.shape[1]
    used = np.zeros(num_classes, np.int64)
    best, sure = beliefs.argmax(axis=1), beliefs.max(axis=1) >= certainty
    counts = np.empty((num_classes, num_classes))
    for label in range(num_classes):
        rows = np.flatnonzero(sure & (best == label))
        if len(rows) < _LEAST_SURE:
            mine = np.flatnonzero(best == label)
            rows = mine[np.argsort(-beliefs[mine, label], kind="stable")[:_LEAST_SURE]]
        used[label] = len(rows)
        counts[label] = np.bincount(given[rows], minlength=num_classes) + _SPREAD_ROWS / num_classes
        counts[label, label] += not len(rows)
    return counts / counts.sum(axis=1, keepdims=True), used


def noise_concentration(transition: FloatArray, class_rows: np.ndarray | None = None) -> float:
    """How far wrong labels go to a few classes (pairs swapped) rather than to any: 0 for any, 1 for one each.

    For each true class the sum of squares of where its wrong labels go, from 1/(K-1) when they go everywhere alike
    to 1 when they go to a single class, scaled to 0..1; averaged over classes by their share of the wrong labels.

    Args:
        transition: (K, K), rows that sum to 1, from true class to given class.
        class_rows: (K,) rows of each true class; default as many of each.

    Returns:
        0 to 1; 0 with two classes, where there is no other class to go to, and without wrong labels.
    """
    off = transition * (1 - np.eye(len(transition)))
    mass = off.sum(axis=1)
    if len(transition) < 3 or mass.sum() < _TINY:
        return 0.0
    squares = ((off / np.maximum(mass, _TINY)[:, None]) ** 2).sum(axis=1)
    even = 1 / (len(transition) - 1)
    weight = mass if class_rows is None else mass * class_rows
    if weight.sum() < _TINY:
        return 0.0
    return float(np.clip((weight * (squares - even)).sum() / weight.sum() / (1 - even), 0, 1))


def _own_and_usual(
    probs: FloatArray, given: np.ndarray, fitted: np.ndarray | None
) -> tuple[np.ndarray, FloatArray, FloatArray]:
    """Rows with label and prediction (R,), their P_g (R,), and t_g, the mean P_g of their given class (R,)."""
    rows = _usable(probs, given)
    own = probs[rows, given[rows]].astype(np.float64)
    num_classes = probs.shape[1]
    known = np.ones(len(rows), dtype=bool) if fitted is None else fitted[rows]
    counts = np.bincount(given[rows][known], minlength=num_classes)
    sums = np.bincount(given[rows][known], weights=own[known], minlength=num_classes)
    usual = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0 / num_classes)
    return rows, own, usual[given[rows]]


def _usable(probs: FloatArray, given: np.ndarray) -> np.ndarray:
    return np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))


def _anchor_rows(probs: FloatArray) -> FloatArray:
    """(K, K): mean prediction over the rows that the network is surest belong to each class."""
    count = max(1, round(_ANCHOR_SHARE * len(probs)))
    num_classes = probs.shape[1]
    anchors = np.empty((num_classes, num_classes))
    for label in range(num_classes):
        # A stable order makes ties fall the same way on every run.
        top = np.argsort(-probs[:, label], kind="stable")[:count]
        anchors[label] = probs[top].mean(axis=0)
    return anchors


def _deconvolve(probs: FloatArray, anchors: FloatArray) -> FloatArray:
    q = np.full(probs.shape, 1.0 / probs.shape[1])
    # Row by row it is the same sum; a block at a time the temporaries stay small, and in the processor's cache.
    for first in range(0, len(q), _BLOCK_ROWS):
        block, seen = q[first : first + _BLOCK_ROWS], probs[first : first + _BLOCK_ROWS]
        for _ in range(_DECONVOLUTION_STEPS):
            explained = np.maximum(block @ anchors, _TINY)
            block *= (seen / explained) @ anchors.T
            block /= np.maximum(block.sum(axis=1, keepdims=True), _TINY)
    return q
