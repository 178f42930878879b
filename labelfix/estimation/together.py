"""Classes whose labels err alike are judged together, where a row may have several.

Each class is a question of its own (`one_class`), and what is known of its noise comes from the rows that have it,
which may be few. But people who leave out every fifth label often do so whatever the class. So one noise is fitted to
the answers for all classes, beside that of each class, and holds for all of them where it makes the given answers
likelier than the others do, of which each pays for two numbers of its own: how often the class is missing, and how
often it is said without being there. What it is worth: docs/several-labels.md.
"""

from __future__ import annotations

import numpy as np

from labelfix.estimation.noise_levels import Level, log_evidence, noise_levels
from labelfix.estimation.noise_model import NoiseModel, evenly_spread, fit_noise_models
from labelfix.estimation.one_class import has_both

_COST = 2.0  # nats of a class's own noise: Akaike's price of two numbers
_MOST_ANSWERS = 50_000  # that a fit looks at; more say the same, and cost more


def shared_noise(
    probs: np.ndarray, given: np.ndarray, unseen: np.ndarray, sure: float, anchor_share: float
) -> list[Level] | None:
    """The noise of all classes together, None where each errs in its own way.

    Args:
        probs: (N, K) calibrated probabilities of having each class, as of networks that never saw the row; NaN for rows
            without.
        given: (N, K) int64, 1 for rows that have a class by their given labels, 0 for others, -1 for rows without.
        unseen: (N, K) float64, how many rows each stands for by which forms of the noise are compared; 0 for others.
        sure: see `fit_noise_models`.
        anchor_share: see there.
    """
    usable = (given >= 0) & np.isfinite(probs)
    usable &= [has_both(given[rows, label]) for label, rows in enumerate(usable.T)]
    classes = np.flatnonzero(usable.any(axis=0))
    if len(classes) < 2:
        return None

    def fitted(seen: np.ndarray, labels: np.ndarray) -> tuple[NoiseModel, ...]:
        return fit_noise_models(seen, labels, sure, anchor_share)

    place = np.flatnonzero(usable)
    seen, labels = _two(probs.flat[place]), given.flat[place]
    rows = np.sort(evenly_spread(seen, labels, _MOST_ANSWERS))
    place, seen, labels = place[rows], seen[rows], labels[rows]
    models, of_class = fitted(seen, labels), place % given.shape[1]
    each = [(seen[mine], labels[mine]) for label in classes if (mine := of_class == label).any()]
    apart = sum(log_evidence(fitted(*mine), *mine) - _COST for mine in each)
    if apart > log_evidence(models, seen, labels) - _COST:
        return None
    told = unseen.flat[place]
    return noise_levels(models, seen, labels, told if told.any() else np.ones(len(place)))


def _two(probs: np.ndarray) -> np.ndarray:
    """(R, 2) of lacking and of having a class, from (R,) of having it."""
    return np.stack([1 - probs, probs], axis=1)
