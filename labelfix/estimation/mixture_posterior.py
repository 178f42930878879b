"""The posterior of a mixture over the losses, as evidence, and the maths that other posteriors share with it.

numpy in, `Evidence` out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labelfix.estimation.evidence import Evidence, Fit, transition_posterior
from labelfix.estimation.mixture import NoiseModel

_CLEAN_NOISE_RATE = 0.02
_CLEAN_MEAN_GAP = 0.25
_CLEAN_DISAGREEMENT = 0.05
_TINY = 1e-12
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
        noise w, ties broken by the rank of the loss, and the soft label (the target of equation 10); noise and
        belief of the transition-aware posterior on clean data, which the mixture cuts in two all the same.
    """
    rows = np.flatnonzero(given >= 0)
    guess, labels = probs[rows].astype(np.float64), given[rows]
    model = NoiseModel.fit(losses[rows], mixture)
    posterior = model.posterior(losses[rows])
    disagrees = guess.argmax(axis=1) != labels
    rate = float(((posterior > 0.5) & disagrees).mean())
    if model.gap < _CLEAN_MEAN_GAP and disagrees.mean() < _CLEAN_DISAGREEMENT:
        rate = 0.0  # one heap of losses cut in two, and a network that agrees with nearly every label
    fit = _paper_fit(model, rate)
    rank = np.empty(len(rows))
    rank[np.argsort(losses[rows], kind="stable")] = np.arange(len(rows)) / len(rows)
    wrong, beliefs = 0.999 * posterior + 0.001 * rank, mixture_belief(posterior, guess, labels)
    if fit.keeps_labels:
        beliefs, _ = transition_posterior(guess, labels)
        wrong = 1 - beliefs[np.arange(len(rows)), labels]
    diagnostics = described(model, losses[rows], "loss")
    return Evidence.of_rows(beliefs, wrong, rows, len(given), fit, diagnostics)


def mixture_belief(weights: np.ndarray, guess: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(1 - w) given + w guess, rows that sum to 1: weights (R,), guess (R, K), given (R,) int64."""
    belief = weights[:, None] * guess
    belief[np.arange(len(given)), given] += 1 - weights
    return belief / belief.sum(axis=1, keepdims=True)


def normalised(beliefs: np.ndarray) -> np.ndarray:
    """The rows of (R, K), made to sum to 1; a row of zeros stays one."""
    return beliefs / np.maximum(beliefs.sum(axis=1, keepdims=True), _TINY)


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


def _paper_fit(model: NoiseModel, noise_rate: float) -> Fit:
    if noise_rate < _CLEAN_NOISE_RATE:
        return Fit(
            keeps_labels=True,
            reason=f"the labels look clean (estimated noise {noise_rate:.1%}): none is changed",
        )
    if model.mixture is None:
        return Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    return Fit()
