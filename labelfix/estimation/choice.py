"""Which of several methods to believe: those whose held-out predictions make the given labels likeliest.

Wrong labels do not spoil this comparison. Under its own fitted noise (`noise_model`) every network that never saw a row
says how probable the row's label is, right or wrong; the network that knows the true classes best, and is as sure as it
is right, makes the labels likeliest of all, since no other way of telling them has a better score on average (a proper
score; what is compared is out-of-sample, so that freedom is no advantage). Predictions of several methods may do
better together: they are pooled as long as that makes the labels likelier, the best alone first. (The discrete super
learner of van der Laan, Polley and Hubbard 2007 chooses so; adding one after the other is the ensemble selection of
Caruana et al. 2004.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from labelfix.estimation.judgement import DEFAULT_THRESHOLDS, Thresholds
from labelfix.estimation.noise_levels import log_evidence
from labelfix.estimation.noise_model import fit_noise_models

_TINY = 1e-9
_COST = 1.0  # nats that a method more has to bring: Akaike's price of one number


@dataclass(frozen=True)
class Choice:
    """Whose predictions are believed.

    Attributes:
        log_likelihood: of the given labels by each method's predictions, a row, in nats; by its name.
        taken: whose predictions are pooled, the likeliest alone first.
        pooled: log likelihood of their pool.
    """

    log_likelihood: dict[str, float]
    taken: tuple[str, ...]
    pooled: float

    @property
    def reason(self) -> str:
        """In plain words."""
        *some, last = self.taken
        who = f"{', '.join(some)} and {last} together make" if some else f"{last} makes"
        others = ", ".join(f"{name} {value:.3f}" for name, value in self.log_likelihood.items())
        return f"{who} the given labels of unseen rows likeliest ({others} nats a row alone)"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        rounded = {name: round(value, 6) for name, value in self.log_likelihood.items()}
        return {"log_likelihood": rounded, "taken": list(self.taken), "pooled": round(self.pooled, 6)}


def most_likely(
    predictions: Mapping[str, np.ndarray], given: np.ndarray, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Choice:
    """Choose among methods by their held-out predictions.

    >>> given = np.array([0, 1] * 50)
    >>> sees, guesses = np.where(np.eye(2)[given] > 0, 0.9, 0.1), np.full((100, 2), 0.5)
    >>> most_likely({"guesses": guesses, "sees": sees}, given).taken
    ('sees',)

    Args:
        predictions: (N, K) held-out probabilities of each method, NaN rows are left out; the same rows for all.
        given: (N,) int64, -1 for none.
        thresholds: of the fit of the noise.

    Returns:
        The same for rows and classes in any order. Of equals the one that comes first.

    Raises:
        ValueError: no predictions at all.
    """
    if not predictions:
        raise ValueError("there is nothing to choose from")

    def likelihood(names: Sequence[str]) -> float:
        return _log_likelihood(pool([predictions[name] for name in names]), given, thresholds)

    alone = {name: likelihood([name]) for name in predictions}
    ranked = sorted(alone, key=lambda name: -alone[name])
    taken, best = ranked[:1], alone[ranked[0]]
    judged = (given >= 0) & np.isfinite(next(iter(predictions.values()))).all(axis=1)
    price = _COST / max(1, int(judged.sum()))
    for name in ranked[1:]:
        found = likelihood([*taken, name])
        if found > best + price:
            taken, best = [*taken, name], found
    return Choice(alone, tuple(taken), best)


def pool(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """Geometric mean of probabilities (N, K), float64 rows that sum to 1; of one its own; NaN where one has none.

    >>> pool([np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])]).round(2).tolist()
    [[0.75, 0.25]]
    """
    if len(predictions) == 1:
        return predictions[0].astype(np.float64)
    total = np.zeros(predictions[0].shape)
    for probs in predictions:
        total += np.log(np.maximum(probs.astype(np.float64), _TINY))
    return softmax(total / len(predictions), axis=1)


def _log_likelihood(probs: np.ndarray, given: np.ndarray, thresholds: Thresholds) -> float:
    """Of the given labels of the rows with a prediction, a row; 0 without any."""
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    if not len(rows) or probs.shape[1] < 2:
        return 0.0
    seen, labels = probs[rows], given[rows]
    models = fit_noise_models(seen, labels, thresholds.sure, thresholds.anchor_share)
    return log_evidence(models, seen, labels) / len(rows)
