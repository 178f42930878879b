"""How many given labels are wrong, told from predictions of networks that never saw the rows.

A held-out network that is right about an image has no say in whether somebody mistyped its label. So the share of
labels that contradict it falls as it grows surer, and stops falling at the share of wrong labels: what psychophysics
calls a lapse rate. The model says just that. A belief q about the true class is the prediction at one sharpness, and
the given label is drawn from T' q, T the transition matrix from true to given class:

    q_n = softmax(sharpness * (log p_n + bias)),    P(given label i of row n) = sum_j q_nj T_ji

Sharpness, bias and T are those that make the given labels most likely (expectation maximisation), T shrunk as in
`shrinkage`. A network of rows with clean labels needs no T: its doubts are in q. One that is weak but has its surest
rows right is told from noise by the same curve.

How p relates to q depends on the network: one that is calibrated on the wrong labels too has their share in its
predictions, a linear one hardly, and where classes are swapped a network learns the swap as if it were the class. So
three forms are fitted, which differ in what is taken out of p before it is sharpened: nothing; wrong labels that went
anywhere (the same amount for every class); or T itself, p = T' q solved for q by a few multiplicative steps (Richardson
1972, Lucy 1974). `noise_levels` weighs them by how likely they make the labels. T is counted on the rows where q is
sure, and in the third form `directions` settles which way swaps go; the bias is one number, by which a network shuns
rare classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from labelfix.estimation.directions import directed
from labelfix.estimation.shrinkage import Shrinkage, all_alike, shrinkage
from labelfix.estimation.unmixing import by_class, normalised, unmixed

_ROUNDS = 8
_STEPS_OF_A_ROUND = 8
_FLAT_RATE = (
    0.3  # where the search starts: from too much noise it comes down, from too little it may stay at none
)
_MUCH = (0.6, 0.85)  # other starts
_MOST_ENTRIES = 4_000_000  # that the fit looks at: 400,000 rows of 10 classes, 4,000 of 1,000
_LEAST_ANCHORS = 5
_MOST_ANCHORS = 0.2  # share of a class's rows: more would hold its unsure ones (tests/benchmarks/README.md)
# More wrong labels than right ones, and more to some classes than to others: so looks a network that confuses them.
_MOST_STRUCTURED = 0.5
_LEAST_SURE = 20  # rows a class on average: from fewer nobody knows where its wrong labels go
_BIAS_STEP = 0.5
_LEAST_PROB = 1e-7
_LEFT_OF_NOTHING = 0.01
_TINY = 1e-12


@dataclass(frozen=True)
class NoiseModel:
    """The fitted model.

    Attributes:
        sharpness: factor on the log of the predictions.
        bias: (K,) added to it: what a network that shuns rare classes owes to them; along their log frequency.
        transition: T (K, K) float64, from true class to given class, rows sum to 1.
        background: taken out of every prediction: what wrong labels that go anywhere add to each class.
        unmixed_by: (K, K), the matrix taken out instead; None in the two simpler forms.
        log_likelihood: of the given labels that it was fitted on, in nats.
        sure_rows: how many rows the transition matrix was counted on.
        rate: share of wrong labels that it expects.
    """

    sharpness: float
    bias: np.ndarray
    transition: np.ndarray
    background: float
    unmixed_by: np.ndarray | None
    log_likelihood: float
    sure_rows: float
    rate: float

    def logits(self, probs: np.ndarray) -> np.ndarray:
        """(R, K) float64, log of the beliefs before they are sharpened; with the bias, less its sharpness."""
        seen = normalised(np.maximum(by_class(probs), _LEAST_PROB))
        return _log_taken_out(seen, self.background, self.unmixed_by) + self.bias

    def beliefs(self, probs: np.ndarray) -> np.ndarray:
        """(R, K) float64, beliefs about the true class that do not know the given label."""
        return softmax(self.sharpness * self.logits(probs), axis=1)


def with_label(beliefs: np.ndarray, transition: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Beliefs (R, K) about the true class once the label (R,) int64 is known: q_j T[j, label], normalised.

    >>> swap = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> with_label(np.array([[0.5, 0.5]]), swap, np.array([1])).round(3).tolist()
    [[0.111, 0.889]]
    """
    return normalised(beliefs * transition.take(labels, axis=1).T)


def evenly_spread(probs: np.ndarray, given: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows (R,) int64, evenly spread by label and certainty, whatever their order."""
    ranked = np.lexsort((probs.max(axis=1), given))
    return ranked[np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(np.int64)]


def fit_noise_models(
    probs: np.ndarray, given: np.ndarray, sure: float, anchor_share: float
) -> tuple[NoiseModel, ...]:
    """The three forms: predictions as they are, without an even background, and unmixed.

    The last one is left out where it would be fitted on too few rows of a class to know what a sure one looks like:
    where 5 rows are more than a fifth of a class on average. It would take a network's errors for swapped classes.
    So would any of them where few rows are sure (under 20 a class on average), or more than half of the labels look
    wrong: then classes differ in nothing, and the first two forms are all.

    Args:
        probs: (R, K) finite held-out predictions, rows sum to 1.
        given: (R,) int64 in 0..K-1.
        sure: belief from which a row counts in the transition matrix: where the network is less sure its own errors
            would pass for swaps.
        anchor_share: share of a class's own rows that show what a sure prediction of it looks like.
    """
    num_classes = probs.shape[1]
    rows = evenly_spread(probs, given, max(1, _MOST_ENTRIES // num_classes))
    # Sorted by label, so that counts are sums of neighbours.
    rows = rows[np.argsort(given[rows], kind="stable")]
    seen, labels = normalised(np.maximum(by_class(probs[rows]), _LEAST_PROB)), given[rows]
    flat = _flat(_FLAT_RATE, num_classes)
    models = [_fitted(seen, labels, flat, sure, "plain")]
    if models[0].sure_rows >= _LEAST_SURE * num_classes:
        models.append(_fitted(seen, labels, flat, sure, "even"))
        if max(anchor_share, _MOST_ANCHORS) * len(rows) >= _LEAST_ANCHORS * num_classes:
            start = _sure_transition(seen, labels, sure, anchor_share)
            models.append(_fitted(seen, labels, start, sure, "unmixed"))
        if max(model.rate for model in models) <= _MOST_STRUCTURED:
            return tuple(models)
    return tuple(_fitted_alike(seen, labels, sure, form) for form in ("plain", "even"))


def _flat(rate: float, num_classes: int) -> np.ndarray:
    """T (K, K) of wrong labels that go everywhere alike."""
    transition = np.full((num_classes, num_classes), rate / max(num_classes - 1, 1))
    np.fill_diagonal(transition, 1 - rate)
    return transition


def _fitted_alike(seen: np.ndarray, labels: np.ndarray, sure: float, form: str) -> NoiseModel:
    """The likeliest model in which classes differ in nothing, searched from little noise and from much."""
    num_classes = seen.shape[1]
    starts = [_flat(rate, num_classes) for rate in (_FLAT_RATE, *_MUCH)]
    found = [_fitted(seen, labels, start, sure, form, all_alike) for start in starts]
    return max(found, key=lambda model: model.log_likelihood)


def best_sharpness(
    logits: np.ndarray,
    labels: np.ndarray,
    transition: np.ndarray,
    around: float,
    width: float,
    steps: int = 10,
) -> tuple[float, float]:
    """The sharpness that makes labels likeliest, within a factor e^width of `around`, and their log likelihood."""
    # The largest is taken off once, whatever the sharpness.
    below, columns = logits - logits.max(axis=1, keepdims=True), transition.take(labels, axis=1).T

    def loss(log_sharpness: float) -> float:
        q = np.exp(np.exp(log_sharpness) * below)
        explained = (q * columns).sum(axis=1) / q.sum(axis=1)
        return -float(np.log(np.maximum(explained, 1e-300)).sum())

    middle = np.log(around)
    bounds = (middle - width, middle + width)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"maxiter": steps})
    return float(np.exp(found.x)), -float(found.fun)


def _fitted(
    seen: np.ndarray,
    labels: np.ndarray,
    start: np.ndarray,
    sure: float,
    form: str,
    shrink: Callable[[np.ndarray], Shrinkage] = shrinkage,
) -> NoiseModel:
    num_classes = seen.shape[1]
    transition, sharpness, bias = start, 1.2, np.zeros(num_classes)
    background, unmixed_by = 0.0, None
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    rate, rare = _FLAT_RATE, _rareness(labels, num_classes)
    for _ in range(_ROUNDS):
        if form == "even":
            background = rate / (num_classes - 1)
        elif form == "unmixed":
            unmixed_by = transition
        logits = _log_taken_out(seen, background, unmixed_by)
        sharpness, _ = best_sharpness(logits + bias, labels, transition, sharpness, 0.7)
        shrunk = None
        for _ in range(_STEPS_OF_A_ROUND):
            q = softmax(sharpness * (logits + bias), axis=1)
            known = with_label(q, transition, labels)
            of_class = known.sum(axis=0)
            known[q.max(axis=1) < sure] = 0
            counts = np.zeros_like(transition)
            counts[:, labels[starts]] = np.add.reduceat(known, starts, axis=0).T
            if counts.sum() >= num_classes:  # else it stays what it was, until beliefs have grown sharper
                shrunk = shrunk or shrink(counts)
                transition = shrunk.transition(counts)
            # Each class as often believed in without the labels as with them.
            owed = np.log((of_class + 1) / (q.sum(axis=0) + 1)) / sharpness
            bias = bias + _BIAS_STEP * (owed @ rare) * rare
        rate = float(of_class @ (1 - np.diag(transition)) / len(labels))
    if form == "unmixed":
        transition = unmixed_by = directed(transition, seen, labels, sharpness, bias)
        logits = _log_taken_out(seen, background, unmixed_by)
    sharpness, likelihood = best_sharpness(logits + bias, labels, transition, sharpness, 0.3)
    return NoiseModel(
        sharpness, bias, transition, background, unmixed_by, likelihood, float(counts.sum()), rate
    )


def _rareness(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) of length 1, or 0 where classes are equally frequent: how rare each class is, on a log scale.

    >>> _rareness(np.array([0, 0, 0, 0, 2]), 3).round(2).tolist()
    [-0.71, 0.0, 0.71]
    """
    rows = np.bincount(labels, minlength=num_classes)
    rare = np.zeros(num_classes)
    rare[rows > 0] = -np.log(rows[rows > 0])
    rare[rows > 0] -= rare[rows > 0].mean()
    return rare / max(float(np.linalg.norm(rare)), _TINY)


def _log_taken_out(seen: np.ndarray, background: float, unmixed_by: np.ndarray | None) -> np.ndarray:
    """Log of predictions (R, K) with the background or the mixing taken out; not of what is left of nothing."""
    if unmixed_by is not None:
        return np.log(unmixed(seen, unmixed_by))
    return np.log(np.maximum(seen - background, _LEFT_OF_NOTHING * seen))


def _sure_transition(seen: np.ndarray, labels: np.ndarray, sure: float, share: float) -> np.ndarray:
    """T (K, K) counted on the rows that surely belong to a class once the blur of sure rows is taken out."""
    num_classes = seen.shape[1]
    ones = np.eye(num_classes)
    scale, _ = best_sharpness(np.log(seen), labels, ones, 1.0, 2.0, steps=20)
    tempered = softmax(scale * np.log(seen), axis=1)
    wanted = np.maximum(_LEAST_ANCHORS, np.round(share * np.bincount(labels, minlength=num_classes)))
    anchors = np.empty((num_classes, num_classes))
    for label, count in enumerate(wanted.astype(np.int64)):
        top = np.argsort(-tempered[:, label], kind="stable")[:count]
        anchors[label] = tempered[top].mean(axis=0)
    q = unmixed(tempered, normalised(anchors), steps=30)
    best, known = q.argmax(axis=1), q.max(axis=1) >= sure
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (best[known], labels[known]), 1.0)
    return shrinkage(counts).transition(counts)
