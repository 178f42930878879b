"""Classes whose labels err alike are judged together, where a row may have several.

Each class is a question of its own (`one_class`), and what is known of its noise comes from the rows that have it,
which may be few. But people who leave out every fifth label often do so whatever the class. So one noise is fitted to
the answers for all classes, beside that of each class, and holds for all of them where it makes the given answers
likelier than the others do, of which each pays for two numbers of its own: how often the class is missing, and how
often it is said without being there. What it is worth: docs/several-labels.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelfix.estimation.noise_levels import Level, log_evidence, noise_levels
from labelfix.estimation.noise_model import NoiseModel, evenly_spread, fit_noise_models

_COST = 2.0  # nats of a class's own noise: Akaike's price of two numbers
_MOST_ANSWERS = 50_000  # that a fit looks at; more say the same, and cost more
_LEAST = 5  # rows of either state: of fewer the probabilities of a class are not calibrated


@dataclass(frozen=True)
class SharedNoise:
    """Noise that was fitted on the answers for several classes.

    Attributes:
        held_out: by predictions that are made without the row; None where every class has its own.
        averaged: by predictions that are averaged over the training; None likewise, or without such predictions.
    """

    held_out: Sequence[Level] | None = None
    averaged: Sequence[Level] | None = None


APART = SharedNoise()


def shared_noise(
    held_out: np.ndarray,
    averaged: np.ndarray | None,
    given: np.ndarray,
    unseen: np.ndarray,
    sure: float,
    anchor_share: float,
) -> SharedNoise:
    """The noise of all classes together, or `APART` where each errs in its own way.

    Args:
        held_out: (N, K) calibrated probabilities of having each class, as of networks that never saw the row; NaN for
            rows without.
        averaged: (N, K) the same averaged over the training; None without.
        given: (N, K) int64, 1 for rows that have a class by their given labels, 0 for others, -1 for rows without.
        unseen: (N, K) bool, the rows by which forms of the noise are compared.
        sure: see `fit_noise_models`.
        anchor_share: see there.
    """
    usable = (given >= 0) & np.isfinite(held_out)
    counts = (usable & (given == 1)).sum(axis=0), (usable & (given == 0)).sum(axis=0)
    usable &= np.minimum(*counts) >= _LEAST
    classes = np.flatnonzero(usable.any(axis=0))
    if len(classes) < 2:
        return APART

    def fitted(probs: np.ndarray, labels: np.ndarray) -> tuple[NoiseModel, ...]:
        return fit_noise_models(probs, labels, sure, anchor_share)

    place = np.flatnonzero(usable)
    probs, labels = _two(held_out.flat[place]), given.flat[place]
    rows = np.sort(evenly_spread(probs, labels, _MOST_ANSWERS))
    place, probs, labels = place[rows], probs[rows], labels[rows]
    models, of_class = fitted(probs, labels), place % given.shape[1]
    each = [(probs[mine], labels[mine]) for label in classes if (mine := of_class == label).any()]
    apart = sum(log_evidence(fitted(*mine), *mine) - _COST for mine in each)
    if apart > log_evidence(models, probs, labels) - _COST:
        return APART
    told = unseen.flat[place]
    levels = noise_levels(models, probs, labels, told if told.any() else np.ones(len(place), bool))
    if averaged is None:
        return SharedNoise(levels)
    known = np.isfinite(averaged.flat[place])
    seen, labels = _two(averaged.flat[place[known]]), labels[known]
    return SharedNoise(levels, noise_levels(fitted(seen, labels), seen, labels, np.ones(len(labels), bool)))


def _two(probs: np.ndarray) -> np.ndarray:
    """(R, 2) of lacking and of having a class, from (R,) of having it."""
    return np.stack([1 - probs, probs], axis=1)
