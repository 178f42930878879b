"""The pooled reading: what averaged predictions say of the rows, whichever method they come from.

Two judges are pooled by what kind of noise it is, and held to how much of it there is; clean labels, and a network too
weak to correct any, are recognised before anything is changed. numpy in, `Evidence` out. How it was found, and what
else was tried: tests/benchmarks/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logsumexp, softmax

from labelfix.evidence import (
    Evidence,
    Fit,
    class_relative_losses,
    noise_concentration,
    ratio_score,
    sure_transition,
    transition_matrix,
    true_class_beliefs,
)
from labelfix.mixture import NoiseModel
from labelfix.readings import described, mixture_belief, normalised, of_all_rows

# Measured on digits and on 5,000 CIFAR-10 images with human, symmetric, asymmetric and pair noise, and clean.
_SURE = 0.9  # where the network's certainty starts that the given labels are held against
# Where its class is likely enough to count disagreements: their share is close to the noise rate.
_LIKELY = 0.6
# Concentration of the noise among sure rows: symmetric 0.1, human 0.2, pair and asymmetric over 0.7.
_SWAPPED = 0.4
_TRUST_POWER = 2
_SHARPENING = 2.5
_LEAST_GAP = 0.15
# A network is weak where few rows have a likely class, or many of its disagreements lie where none is likely: digits
# 0.7 to 1 and 0 to 0.09, CIFAR-10 0.3 to 0.65 and 0.13 to 0.2, digits with labels at random 0.1 to 0.25 of likely
# rows. Averages of many epochs are safe all the same, as they remember the given label; fewer, or predictions of rows
# it never saw, are not.
_LEAST_LIKELY = 0.6
_WEAK = 0.1
_ENOUGH_EPOCHS = 20
# Of 100 photographs a class a weak network learns too little: its corrections of human labels cost up to 5 points of
# accuracy, of 200 from -4 to +1; of 300 they mend a little, of 500 plainly. Where it finds a class likely those labels
# contradict it up to 1.2 times as often as it expects; symmetric noise of 0.4, 1.3 to 2 times, is mended from 100 on.
_ENOUGH_ROWS = 300
_PLAIN_MARGIN = 1.3
_HELD_OUT_MARGIN = 2  # clean labels of digits under heavy pixel noise: 1.1 to 1.4
# 800 digits with 20 % noise learned by heart: 0.55; with clean labels over 0.9; photographs with semantic noise 0.3.
_MOSTLY_SURE = 0.7
_ROWS_OF_A_LOOK = 20_000
_TINY = 1e-12
_MOST_SHIFT = 60.0  # of log-odds: any mean noise between 0 and 1 lies within
_LEAST_LOG_SCALE = -4.0


def pooled_evidence(
    probs: np.ndarray,
    given: np.ndarray,
    averaged_epochs: int,
    mixture: str = "beta",
    fitted: np.ndarray | None = None,
) -> Evidence:
    """The pooled reading of averaged predictions, or of predictions of rows that were held out.

    Args:
        probs: (N, K) predictions; only finite rows with a given label count.
        given: (N,) int64, -1 for none.
        averaged_epochs: over how many epochs of training on these very rows they are averaged; 0 for rows that the
            network never saw.
        mixture: beta or gaussian.
        fitted: (N,) bool, the rows that the noise model is fitted on; default all.

    Returns:
        Belief of `pooled_reading`, and noise 1 - the belief in the given label. The fit keeps every label where the
        labels look clean (they contradict the network no more often than its own doubt allows) and
        where the network is weak and had fewer than 20 epochs to remember the given labels, or fewer than 300 rows of a
        class to learn from that do not contradict it plainly.
    """
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    known = np.ones(len(rows), dtype=bool) if fitted is None else fitted[rows]
    reading = pooled_reading(probs[rows], given[rows], mixture, known)
    noise = np.full(len(given), np.nan)
    noise[rows] = 1 - reading.beliefs[np.arange(len(rows)), given[rows]]
    beliefs = of_all_rows(reading.beliefs, rows, len(given))
    diagnostics = {
        **described(reading.model, reading.losses, "loss relative to its class"),
        "reading": reading.facts(),
    }
    return Evidence(noise, beliefs, _pooled_fit(reading, averaged_epochs), diagnostics)


def held_out_evidence(
    logits: np.ndarray, given: np.ndarray, fitted: np.ndarray, mixture: str = "beta"
) -> Evidence:
    """The pooled reading of rows that a network never saw, once its certainty is what it should be.

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
    return pooled_evidence(softmax(logits.astype(np.float64) * scale, axis=1), given, 0, mixture, fitted)


@dataclass(frozen=True)
class Reading:
    """What `pooled_reading` finds in the predictions of R rows.

    Attributes:
        model: the mixture on the class-relative losses.
        losses: those of the fitted rows.
        beliefs: (R, K) float64 about the true label, rows that sum to 1.
        sure_rows: how many rows the network is sure of.
        contradicted: share of those whose given label is another than the network's; 0 of none.
        doubt: how often the network expects to be wrong there: the mean of 1 - its certainty; 0 of none.
        disagreeing: share of all rows whose given label is another than the network's.
        likely: share of all rows where the network's class is likely.
        noise_rate: share of those whose given label is another.
        likely_doubt: how often the network expects to be wrong there.
    """

    model: NoiseModel
    losses: np.ndarray
    beliefs: np.ndarray
    sure_rows: int
    contradicted: float
    doubt: float
    disagreeing: float
    likely: float
    noise_rate: float
    likely_doubt: float

    def facts(self) -> dict[str, float]:
        """What the verdicts on the whole run rest on, for the summary."""
        names = ("sure_rows", "contradicted", "doubt", "disagreeing", "likely", "noise_rate", "likely_doubt")
        return {name: getattr(self, name) for name in names}

    @property
    def looks_clean(self) -> bool:
        """Whether the labels contradict the network, where it is sure and where a class is likely, within its doubt.

        Photographs that it does not know by heart show label noise first where it is sure; digits that it has learned
        by heart, with their wrong labels, first where a class is only likely.
        """
        return self.contradicted <= self.doubt and self.noise_rate <= self.likely_doubt

    @property
    def is_weak(self) -> bool:
        """Whether few rows have a likely class, or many disagreements lie elsewhere: then the errors are its own."""
        return _is_weak(self.likely, self.disagreeing, self.noise_rate)

    @property
    def rows_of_a_class(self) -> float:
        """Rows per class that the reading rests on, on average."""
        return len(self.losses) / self.beliefs.shape[1]

    @property
    def has_few_rows(self) -> bool:
        """Whether a weak network had too few rows for its corrections, unless the labels contradict it plainly."""
        return self.rows_of_a_class < _ENOUGH_ROWS and self.noise_rate <= _PLAIN_MARGIN * self.likely_doubt


def pooled_reading(
    probs: np.ndarray, given: np.ndarray, mixture: str = "beta", fitted: np.ndarray | None = None
) -> Reading:
    """Two judges of the same predictions, pooled by what kind of noise it is and held to how much of it there is.

    The first compares the rows of a class: w of the mixture on the class-relative losses and the ratio score s,
    which keeps the order of the losses where w is flat, say that the given label is wrong with m = sqrt(w s), and
    the predictions q freed of blur say which label is right instead. The second is the posterior r proportional to
    q_j T[j, given], which knows which classes are taken for which. Where wrong labels go anywhere the first is the
    better judge, where classes are swapped the second by far; so the belief is (1 - trust) first + trust r, and the
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
    reading = Reading(
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
    if reading.looks_clean:
        return reading
    ratio = ratio_score(probs, given, fitted)
    # Components that lie on each other say nothing of a row.
    wrong = np.sqrt(model.posterior(losses) * ratio) if model.gap >= _LEAST_GAP else ratio
    others = q.copy()
    others[np.arange(len(given)), given] = 0
    # A row whose every alternative is ruled out leaves no mass to share: then any class will do.
    first = mixture_belief(wrong, normalised(others + _TINY), given)
    beliefs = normalised(((1 - trust) * first + trust * posterior) ** _SHARPENING)
    return replace(reading, beliefs=_at_rate(beliefs, given, reading.noise_rate, fitted))


def network_is_weak(probs: np.ndarray, given: np.ndarray) -> bool:
    """Whether a network is too weak to correct labels; see `Reading.is_weak`.

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
    return _is_weak(_mean(likely), _mean(differs), _mean(differs[likely]))


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


def _is_weak(likely: float, disagreeing: float, noise_rate: float) -> bool:
    return likely < _LEAST_LIKELY or disagreeing - noise_rate > _WEAK


def _pooled_fit(reading: Reading, averaged_epochs: int) -> Fit:
    if reading.sure_rows and reading.looks_clean:
        return Fit(keeps_labels=True, reason=_why_clean(reading))
    if reading.model.mixture is None:
        return Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    if not reading.sure_rows:
        return Fit(
            keeps_labels=True, reason="the network is sure of no row: none is changed; train for more epochs"
        )
    if not averaged_epochs and reading.contradicted <= _HELD_OUT_MARGIN * reading.doubt:
        reason = (
            "too few labels contradict the networks that never saw them "
            f"({reading.contradicted:.1%} where those are sure, and they expect to be wrong in {reading.doubt:.1%}): "
            "suspects are flagged, none is changed"
        )
        return Fit(keeps_labels=True, reason=reason)
    if reading.is_weak and (averaged_epochs < _ENOUGH_EPOCHS or reading.has_few_rows):
        return Fit(keeps_labels=True, reason=_why_weak(reading, averaged_epochs))
    return Fit()


def _why_clean(reading: Reading) -> str:
    reason = (
        f"the labels look clean (where the network is sure {reading.contradicted:.1%} contradict it, and it "
        f"expects to be wrong in {reading.doubt:.1%}): none is changed"
    )
    share = reading.sure_rows / len(reading.losses)
    if share < _MOSTLY_SURE:
        reason += f"; it is sure of {share:.0%} of the rows only, and errors among the others may not show"
    return reason


def _why_weak(reading: Reading, averaged_epochs: int) -> str:
    if not averaged_epochs:
        learned = "never saw these rows"
    elif averaged_epochs < _ENOUGH_EPOCHS:
        learned = f"was watched for {averaged_epochs} epochs only"
    else:
        learned = f"had only {reading.rows_of_a_class:.0f} rows of a class to learn from"
    return (
        f"the network is too weak to correct labels (it disagrees with {reading.disagreeing:.0%} of them, and with "
        f"{reading.noise_rate:.0%} where it finds a class likely) and {learned}: suspects are flagged, none is changed"
    )
