"""The posterior of a mixture over the losses, as evidence, and what a summary keeps of the mixture.

numpy in, `Evidence` out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labelfix.estimation.evidence import PAPER_RULE, Evidence, Fit
from labelfix.estimation.mixture import NoiseModel

_BINS = 40  # of the histogram that a summary keeps


def paper_evidence(
    losses: np.ndarray, probs: np.ndarray, given: np.ndarray, mixture: str = "beta"
) -> Evidence:
    """The paper's posterior: w = p(noisy component | loss), soft label (1 - w) given + w predicted.

    Args:
        losses: (N,) float64, NaN for rows that were not trained on.
        probs: (N, K) predictions of the trained network.
        given: (N,) int64, -1 for none.
        mixture: beta or gaussian.

    Returns:
        noise w, ties broken by the rank of the loss, and the soft label (the target of equation 10).
    """
    rows = np.flatnonzero(given >= 0)
    guess, labels = probs[rows].astype(np.float64), given[rows]
    model = NoiseModel.fit(losses[rows], mixture)
    posterior = model.posterior(losses[rows])
    fit = (
        Fit()
        if model.mixture is not None
        else Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    )
    rank = np.empty(len(rows))
    rank[np.argsort(losses[rows], kind="stable")] = np.arange(len(rows)) / len(rows)
    wrong, beliefs = 0.999 * posterior + 0.001 * rank, mixture_belief(posterior, guess, labels)
    return Evidence.of_rows(
        beliefs, wrong, rows, len(given), fit, described(model, losses[rows], "loss"), PAPER_RULE
    )


def mixture_belief(weights: np.ndarray, guess: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(1 - w) given + w guess, rows that sum to 1: weights (R,), guess (R, K), given (R,) int64."""
    belief = weights[:, None] * guess
    belief[np.arange(len(given)), given] += 1 - weights
    return belief / belief.sum(axis=1, keepdims=True)


def described(model: NoiseModel, losses: np.ndarray, kind: str) -> dict[str, Any]:
    """The mixture and what it was fitted to, for the summary; empty where there is none.

    Args:
        model: of the losses.
        losses: (R,) float64.
        kind: what the losses are, in words.

    Returns:
        mixture: its components; loss_low and loss_high: the losses that its ends 0 and 1 stand for; loss_histogram: how
        many rows lie in each of 40 equal bins between them; loss_kind.
    """
    if model.mixture is None:
        return {}
    low, high = model.scale.low, model.scale.high
    counts, _ = np.histogram(losses, _BINS, (low, high))
    return {
        "mixture": model.mixture.components(),
        "loss_low": low,
        "loss_high": high,
        "loss_histogram": counts.tolist(),
        "loss_kind": kind,
    }
