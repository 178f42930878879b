"""What a method finds about the rows, and the maths that takes it from averaged predictions; numpy only.

Names: N rows, K classes, `given` (N,) int64 with -1 for none, `probs` (N, K) rows that sum to 1. Rows
whose probabilities are NaN (never trained on, never predicted) stay NaN and are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FloatArray = np.ndarray
"""Any floating numpy array; shapes stand in the docstrings."""

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


PAPER_RULE = Rule(relabel_odds=1.0)
"""Of the methods' own findings: flagged from a noise of a half on, and corrected to the most probable label."""


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
        rule: Rule = Rule(),
    ) -> Evidence:
        """From the beliefs and the noise of some rows; NaN for the others.

        Args:
            beliefs: (R, K) float64 about the true label.
            noise: (R,) float64.
            rows: (R,) int64, which rows these are.
            num_rows: N.
            fit: of the whole.
            diagnostics: of the whole.
            rule: of the whole.
        """
        probs = scattered(beliefs.astype(np.float32), rows, num_rows)
        return cls(scattered(noise, rows, num_rows), probs, fit, diagnostics, rule)


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


def class_relative_losses(
    probs: FloatArray, given: np.ndarray, total: Callable[[np.ndarray], np.ndarray] = lambda own: own
) -> FloatArray:
    """Loss of each row's given label, relative to what is usual for its class: -log(P_g / t_g).

    Some classes are harder for every row; a loss that is high for an easy class is usual for a hard one. t_k is the
    mean of P_k over the rows given k.

    Args:
        probs: (N, K) averaged predictions, NaN rows ignored.
        given: (N,) int64, -1 for none.
        total: from sums (K,) over these rows to those over all, where there are more rows elsewhere.

    Returns:
        (N,) float64; NaN where there is no given label or no prediction.
    """
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    labels = given[rows]
    own = probs[rows, labels].astype(np.float64)
    num_classes = probs.shape[1]
    counts = total(np.bincount(labels, minlength=num_classes))
    sums = total(np.bincount(labels, weights=own, minlength=num_classes))
    usual = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0 / num_classes)[labels]
    losses = np.log(np.maximum(usual, _TINY)) - np.log(np.maximum(own, _TINY))
    return scattered(losses, rows, len(given))


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
