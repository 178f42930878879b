"""What the losses and predictions of a run say of its rows: the paper's reading, and ours of averaged predictions.

Both fit a mixture (`mixture.NoiseModel`), weigh the given label against what the network says, and recognise
clean data before anything is changed. numpy in, `Evidence` out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labelfix.evidence import (
    Evidence,
    Fit,
    class_relative_losses,
    noise_concentration,
    ratio_score,
    transition_posterior,
    true_class_beliefs,
)
from labelfix.mixture import NoiseModel

_CLEAN_NOISE_RATE = 0.02
_CLEAN_MEAN_GAP = 0.25
_CLEAN_DISAGREEMENT = 0.05
# Measured on digits and on 5,000 CIFAR-10 images. Concentration of the noise there: symmetric 0.01, human 0.05,
# asymmetric 0.11 to 0.14, pair 0.6. The posterior alone is best on the last two, a quarter of it on human labels.
_SWAPPED = 0.11
_TRUST_POWER = 2
# Doubling to trebling the log-odds mends more labels on all of them and harms none.
_SHARPENING = 2.5
_TINY = 1e-12


def paper_evidence(
    losses: np.ndarray, probs: np.ndarray, given: np.ndarray, mixture: str = "beta"
) -> Evidence:
    """The paper's reading: w = p(noisy component | loss), soft label (1 - w) given + w predicted.

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
    fit = _fit(model, rate)
    rank = np.empty(len(rows))
    rank[np.argsort(losses[rows], kind="stable")] = np.arange(len(rows)) / len(rows)
    wrong, beliefs = 0.999 * posterior + 0.001 * rank, mixture_belief(posterior, guess, labels)
    if fit.clean:
        beliefs, _ = transition_posterior(guess, labels)
        wrong = 1 - beliefs[np.arange(len(rows)), labels]
    noise = np.full(len(given), np.nan)
    noise[rows] = wrong
    return Evidence(noise, _spread(beliefs, rows, len(given)), fit, _diagnostics(model))


def pooled_evidence(
    probs: np.ndarray, given: np.ndarray, mixture: str = "beta", fitted: np.ndarray | None = None
) -> Evidence:
    """The pooled reading of averaged predictions, or of predictions of rows that were held out.

    Args:
        probs: (N, K) predictions; only finite rows with a given label count.
        given: (N,) int64, -1 for none.
        mixture: beta or gaussian.
        fitted: (N,) bool, the rows that the noise model is fitted on; default all.

    Returns:
        Belief of `pooled_reading`; that of the transition-aware posterior alone on clean data. Noise is 1 - the
        belief in the given label.
    """
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    known = None if fitted is None else fitted[rows]
    model, posterior, beliefs = pooled_reading(probs[rows], given[rows], mixture, known)
    own = np.arange(len(rows)), given[rows]
    fit = _fit(model, float((1 - posterior[own]).mean()))
    if fit.clean:
        beliefs = posterior
    noise = np.full(len(given), np.nan)
    noise[rows] = 1 - beliefs[own]
    return Evidence(noise, _spread(beliefs, rows, len(given)), fit, _diagnostics(model))


def pooled_reading(
    probs: np.ndarray, given: np.ndarray, mixture: str = "beta", fitted: np.ndarray | None = None
) -> tuple[NoiseModel, np.ndarray, np.ndarray]:
    """Two judges of the same predictions, pooled by what kind of noise it is.

    The first compares the rows of a class: w of the mixture on the class-relative losses and the ratio score s,
    which keeps the order of the losses where w is flat, say that the given label is wrong with m = sqrt(w s), and
    the predictions freed of blur say which label is right instead. The second is the transition-aware posterior r,
    which knows which classes are taken for which. Where wrong labels go anywhere the first is the better judge,
    where classes are swapped the second by far; so the belief is (1 - trust) first + trust r, and the trust grows
    from 0 to 1 with the concentration of the noise. Averages of predictions remember the given label: the belief
    is sharpened for that.

    Args:
        probs: (R, K) predictions.
        given: (R,) int64 in 0..K-1.
        mixture: beta or gaussian.
        fitted: (R,) bool, the rows that every parameter comes from; default all.

    Returns:
        The fitted mixture; the posterior r (R, K); the pooled belief about the true label (R, K), rows that sum to 1.
    """
    fitted = np.ones(len(given), dtype=bool) if fitted is None else fitted
    losses = class_relative_losses(probs, given, fitted)
    model = NoiseModel.fit(losses[fitted], mixture)
    wrong = np.sqrt(model.posterior(losses) * ratio_score(probs, given, fitted))
    posterior, transition = transition_posterior(probs, given, fitted)
    others = true_class_beliefs(probs, fitted)
    others[np.arange(len(given)), given] = 0
    # A row whose every alternative is ruled out leaves no mass to share: then any class will do.
    first = mixture_belief(wrong, _normalised(others + _TINY), given)
    trust = min(noise_concentration(transition) / _SWAPPED, 1.0) ** _TRUST_POWER
    return model, posterior, _normalised(((1 - trust) * first + trust * posterior) ** _SHARPENING)


def mixture_belief(weights: np.ndarray, guess: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(1 - w) given + w guess, rows that sum to 1: weights (R,), guess (R, K), given (R,) int64."""
    belief = weights[:, None] * guess
    belief[np.arange(len(given)), given] += 1 - weights
    return belief / belief.sum(axis=1, keepdims=True)


def _normalised(beliefs: np.ndarray) -> np.ndarray:
    return beliefs / np.maximum(beliefs.sum(axis=1, keepdims=True), _TINY)


def _spread(beliefs: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
    """(N, K) float32 from the beliefs of some rows (R, K); NaN elsewhere."""
    probs = np.full((num_rows, beliefs.shape[1]), np.nan, dtype=np.float32)
    probs[rows] = beliefs
    return probs


def _fit(model: NoiseModel, noise_rate: float) -> Fit:
    if noise_rate < _CLEAN_NOISE_RATE:
        return Fit(
            clean=True, reason=f"the labels look clean (estimated noise {noise_rate:.1%}): none is changed"
        )
    if model.mixture is None:
        return Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    return Fit()


def _diagnostics(model: NoiseModel) -> dict[str, Any]:
    if model.mixture is None:
        return {}
    scale = model.scale
    return {"mixture": model.mixture.components(), "loss_low": scale.low, "loss_high": scale.high}
