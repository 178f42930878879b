"""The pooled posterior of averaged predictions, whichever method they come from.

Two estimates are pooled by what kind of noise it is, and held to how much of it there is; clean labels, and a network
too weak to correct any, are recognised before anything is changed. numpy in, `Evidence` out. How it was found, and
what else was tried: tests/benchmarks/README.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logsumexp, softmax

from labelfix.estimation.evidence import (
    Evidence,
    class_relative_losses,
    noise_concentration,
    ratio_score,
    sure_transition,
    transition_matrix,
    true_class_beliefs,
)
from labelfix.estimation.mixture import NoiseModel
from labelfix.estimation.mixture_posterior import described, mixture_belief, normalised
from labelfix.estimation.reliability import PosteriorEstimate, is_weak, posterior_fit

# Measured on digits and on 5,000 CIFAR-10 images with human, symmetric, asymmetric and pair noise, and clean.
_SURE = 0.9  # where the network's certainty starts that the given labels are held against
# Where its class is likely enough to count disagreements: their share is close to the noise rate.
_LIKELY = 0.6
# Concentration of the noise among sure rows: symmetric 0.1, human 0.2, pair and asymmetric over 0.7.
_SWAPPED = 0.4
_TRUST_POWER = 2
_SHARPENING = 2.5
_LEAST_GAP = 0.15
_ROWS_OF_A_LOOK = 20_000
_TINY = 1e-12
_MOST_SHIFT = 60.0  # of log-odds: any mean noise between 0 and 1 lies within
_LEAST_LOG_SCALE = -4.0


def posterior_evidence(
    probs: np.ndarray,
    given: np.ndarray,
    averaged_epochs: int,
    mixture: str = "beta",
    fitted: np.ndarray | None = None,
) -> Evidence:
    """The pooled posterior of averaged predictions, or of predictions of rows that were held out.

    Args:
        probs: (N, K) predictions; only finite rows with a given label count.
        given: (N,) int64, -1 for none.
        averaged_epochs: over how many epochs of training on these very rows they are averaged; 0 for rows that the
            network never saw.
        mixture: beta or gaussian.
        fitted: (N,) bool, the rows that the noise model is fitted on; default all.

    Returns:
        Belief of `pooled_posterior`, and noise 1 - the belief in the given label. The fit keeps every label where the
        labels look clean (they contradict the network no more often than its own doubt allows) and
        where the network is weak and had fewer than 20 epochs to remember the given labels, or fewer than 300 rows of a
        class to learn from that do not contradict it plainly.
    """
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    known = np.ones(len(rows), dtype=bool) if fitted is None else fitted[rows]
    found = pooled_posterior(probs[rows], given[rows], mixture, known)
    noise = 1 - found.beliefs[np.arange(len(rows)), given[rows]]
    diagnostics = {
        **described(found.model, found.losses, "loss relative to its class"),
        "reading": found.facts(),
    }
    fit = posterior_fit(found, averaged_epochs)
    return Evidence.of_rows(found.beliefs, noise, rows, len(given), fit, diagnostics)


def held_out_evidence(
    logits: np.ndarray, given: np.ndarray, fitted: np.ndarray, mixture: str = "beta"
) -> Evidence:
    """The pooled posterior of rows that a network never saw, once its certainty is what it should be.

    A network that is trained to the end is surer of such rows than it is right. One temperature, fitted on the given
    labels (Guo et al. 2017, "On Calibration of Modern Neural Networks", 4.2) and never below 1, takes that back.

    Args:
        logits: (N, K), NaN for rows that are left out.
        given: (N,) int64, -1 for none.
        fitted: (N,) bool, the rows that temperature and noise model are fitted on.
        mixture: beta or gaussian.
    """
    rows = np.flatnonzero(fitted & (given >= 0) & np.isfinite(logits).all(axis=1))
    scale = 1.0
    if len(rows):
        seen, labels = logits[rows].astype(np.float64), given[rows]

        def loss(log_scale: float) -> float:
            scaled = seen * np.exp(log_scale)
            return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(rows)), labels]).mean())

        scale = float(np.exp(minimize_scalar(loss, bounds=(_LEAST_LOG_SCALE, 0), method="bounded").x))
    return posterior_evidence(softmax(logits.astype(np.float64) * scale, axis=1), given, 0, mixture, fitted)


def pooled_posterior(
    probs: np.ndarray, given: np.ndarray, mixture: str = "beta", fitted: np.ndarray | None = None
) -> PosteriorEstimate:
    """Two estimates from the same predictions, pooled by what kind of noise it is and held to how much of it there is.

    The first compares the rows of a class: w of the mixture on the class-relative losses and the ratio score s,
    which keeps the order of the losses where w is flat, say that the given label is wrong with m = sqrt(w s), and
    the predictions q freed of blur say which label is right instead. The second is the posterior r proportional to
    q_j T[j, given], which knows which classes are taken for which. Where wrong labels go anywhere the first is the
    better one, where classes are swapped the second by far; so the belief is (1 - trust) first + trust r, and the
    trust grows from 0 to 1 with the concentration of the noise where the network is sure. T moves with it from that
    of all rows to that of the sure ones: where the network is not sure its own errors pass for swaps.

    Averages of predictions remember the given label: the belief is sharpened for that, and the odds of the given
    label are lowered by one factor for all rows, until the mean noise is no less than the share of disagreement
    among the rows where the network's class is likely, which was close to the planted rate wherever it was
    measured. Where the labels look clean the belief is r.

    Args:
        probs: (R, K) predictions.
        given: (R,) int64 in 0..K-1.
        mixture: beta or gaussian.
        fitted: (R,) bool, the rows that every parameter comes from; default all.
    """
    fitted = np.ones(len(given), dtype=bool) if fitted is None else fitted
    q = true_class_beliefs(probs, fitted)
    losses = class_relative_losses(probs, given, fitted)
    model = NoiseModel.fit(losses[fitted], mixture)
    sure_of, class_rows = sure_transition(q[fitted], given[fitted], _SURE)
    trust = min(noise_concentration(sure_of, class_rows) / _SWAPPED, 1.0) ** _TRUST_POWER
    transition = (1 - trust) * transition_matrix(q[fitted], given[fitted]) + trust * sure_of
    posterior = normalised(np.maximum(q * transition[:, given].T, _TINY))
    certainty, differs = q[fitted].max(axis=1), q[fitted].argmax(axis=1) != given[fitted]
    sure = certainty >= _SURE
    found = PosteriorEstimate(
        model=model,
        losses=losses[fitted],
        beliefs=posterior,
        sure_rows=int(sure.sum()),
        contradicted=_mean(differs[sure]),
        doubt=_mean(1 - certainty[sure]),
        disagreeing=_mean(differs),
        likely=_mean(certainty >= _LIKELY),
        noise_rate=_mean(differs[certainty >= _LIKELY]),
        likely_doubt=_mean(1 - certainty[certainty >= _LIKELY]),
    )
    if found.looks_clean:
        return found
    ratio = ratio_score(probs, given, fitted)
    # Components that lie on each other say nothing of a row.
    wrong = np.sqrt(model.posterior(losses) * ratio) if model.gap >= _LEAST_GAP else ratio
    others = q.copy()
    others[np.arange(len(given)), given] = 0
    # A row whose every alternative is ruled out leaves no mass to share: then any class will do.
    first = mixture_belief(wrong, normalised(others + _TINY), given)
    beliefs = normalised(((1 - trust) * first + trust * posterior) ** _SHARPENING)
    return replace(found, beliefs=_at_rate(beliefs, given, found.noise_rate, fitted))


def network_is_weak(probs: np.ndarray, given: np.ndarray) -> bool:
    """Whether a network is too weak to correct labels; see `is_weak` in reliability.py.

    Args:
        probs: (N, K) averaged predictions.
        given: (N,) int64, -1 for none; at most 20,000 rows, evenly spaced, are looked at.
    """
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    if not len(rows):
        return True
    rows = rows[:: -(-len(rows) // _ROWS_OF_A_LOOK)]
    q = true_class_beliefs(probs[rows])
    differs, likely = q.argmax(axis=1) != given[rows], q.max(axis=1) >= _LIKELY
    return is_weak(_mean(likely), _mean(differs), _mean(differs[likely]))


def _at_rate(beliefs: np.ndarray, given: np.ndarray, rate: float, fitted: np.ndarray) -> np.ndarray:
    """The beliefs with the odds of the given label lowered by one factor, so that mean noise is at least `rate`."""
    rows = np.arange(len(given))
    own = np.clip(beliefs[rows, given], 1e-9, 1 - 1e-9)
    odds = np.log1p(-own) - np.log(own)

    wanted = min(max(rate, 1e-6), 0.999)

    def excess(shift: float) -> float:
        return float(expit(odds[fitted] + shift).mean()) - wanted

    if excess(0) >= 0:
        return beliefs
    noise = expit(odds + brentq(excess, 0, _MOST_SHIFT))
    others = beliefs.copy()
    others[rows, given] = 0
    moved = normalised(others + _TINY) * noise[:, None]
    moved[rows, given] = 1 - noise
    return normalised(moved)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
