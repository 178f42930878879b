"""How sure the fitted noise is: the model at other levels of noise, weighted by how likely they make the labels.

One number scales the odds of every wrong label in T; sharpness is fitted anew at each level, as less noise can be
explained by more doubt. The likelihoods, read as a posterior (beforehand the
labels are as probably clean as not, and any noise rate is as probable as another), give an interval of the
rate and of the gain of the corrections, without draws: the same for the same rows in any order. Where the network is
never sure enough to tell its doubts from wrong labels all levels are about as likely, and the interval says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import logsumexp, softmax

from labelfix.estimation.noise_model import NoiseModel, best_sharpness, evenly_spread, with_label

_COARSE = np.array([1e-3, 0.1, 0.25, 0.5, 0.75, 1.0, 1.33, 1.8, 3.0])
_FINE = 11
_CLEAN = 1e-4
_DROP = 5.0  # nats under the best: what lies farther out is 150 times less likely
_STRUCTURE_COST = 1.0  # nats a class that the unmixed form pays: Akaike's price of one number
_LEAST_WEIGHT = 1e-3
_BLOCK_ENTRIES = 4_000_000
_MOST_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Level:
    """One form of the model at one level of noise; the weights of all levels sum to 1.

    Attributes:
        model: what it is a level of.
        sharpness: fitted anew.
        transition: (K, K).
        weight: posterior.
        free_weight: posterior if no form had to pay for its freedom.
    """

    model: NoiseModel
    sharpness: float
    transition: np.ndarray
    weight: float
    free_weight: float

    def as_model(self) -> NoiseModel:
        """The model at this level."""
        return replace(self.model, sharpness=self.sharpness, transition=self.transition)

    def read(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Beliefs (R, K) about the true class of rows, from the logits of the model and their labels."""
        return with_label(softmax(self.sharpness * logits, axis=1), self.transition, labels)


def scaled(transition: np.ndarray, factor: float) -> np.ndarray:
    """T with the odds of a wrong label of every class times `factor`; where wrong labels go stays.

    >>> scaled(np.array([[0.8, 0.2], [0.5, 0.5]]), 0.25).round(3).tolist()
    [[0.941, 0.059], [0.2, 0.8]]
    """
    error = 1 - np.diag(transition)
    moved = error * factor / (1 - error + error * factor)
    changed = transition * (moved / np.maximum(error, 1e-300))[:, None]
    np.fill_diagonal(changed, 1 - moved)
    return changed


def noise_levels(
    models: Sequence[NoiseModel], probs: np.ndarray, given: np.ndarray, unseen: np.ndarray
) -> list[Level]:
    """Levels of all forms that cover the posterior of the noise.

    Args:
        models: fitted on these rows.
        probs: (R, K) finite held-out predictions.
        given: (R,) int64 in 0..K-1.
        unseen: (R,) bool, the rows by which forms are compared; or float64, for how many rows each counts.
    """
    found, heights, costs = _all_levels(models, probs, given)
    if not (unseen > 0).all():
        rows = np.flatnonzero(unseen)
        heights = _compared_on(found, heights, probs[rows], given[rows], unseen[rows])
    free, paid = softmax(heights), softmax(heights - costs)
    kept = np.maximum(free, paid) > _LEAST_WEIGHT
    free, paid = free * kept / free[kept].sum(), paid * kept / paid[kept].sum()
    return [
        Level(model, sharpness, transition, weight, free_weight)
        for (model, sharpness, transition, _), weight, free_weight, keep in zip(
            found, paid.tolist(), free.tolist(), kept, strict=True
        )
        if keep
    ]


def log_evidence(models: Sequence[NoiseModel], probs: np.ndarray, given: np.ndarray) -> float:
    """Log of the probability of the given labels, over all forms and levels as likely as they are beforehand.

    Args:
        models: fitted on these rows.
        probs: (R, K) finite held-out predictions.
        given: (R,) int64 in 0..K-1.
    """
    _, heights, costs = _all_levels(models, probs, given)
    return float(logsumexp(heights - costs))


def _all_levels(
    models: Sequence[NoiseModel], probs: np.ndarray, given: np.ndarray
) -> tuple[list[tuple[NoiseModel, float, np.ndarray, float]], np.ndarray, np.ndarray]:
    """All forms at all levels, without noise too: model, sharpness, transition, height; heights (L,); costs (L,)."""
    found = [(model, *each) for model in models for each in _levels_of(model, probs, given)]
    found.append((models[0], *_clean_level(models[0], probs, given)))
    heights = np.array([height for *_, height in found])
    costs = np.array(
        [0.0 if model.unmixed_by is None else _STRUCTURE_COST * probs.shape[1] for model, *_ in found]
    )
    return found, heights, costs


def _compared_on(
    found: Sequence[tuple[NoiseModel, float, np.ndarray, float]],
    heights: np.ndarray,
    probs: np.ndarray,
    given: np.ndarray,
    row_weights: np.ndarray,
) -> np.ndarray:
    """Heights (L,) of levels as they are within each form, and between forms as these explain other rows.

    For how many rows each of these counts is (R,) `row_weights`.
    """
    compared = heights.copy()
    for model in {id(model): model for model, *_ in found}.values():
        mine = np.array([each is model for each, *_ in found])
        best = np.flatnonzero(mine)[heights[mine].argmax()]
        _, sharpness, transition, _ = found[best]
        beliefs = softmax(sharpness * model.logits(probs), axis=1)
        explained = np.einsum("nk,kn->n", beliefs, transition.take(given, axis=1))
        compared[mine] += row_weights @ np.log(np.maximum(explained, 1e-300)) - heights[best]
    return compared


def averaged(levels: Sequence[Level], probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Beliefs (R, K) about the true class with the given label known, averaged over the levels."""
    beliefs = np.zeros(probs.shape)
    for part in blocks(*probs.shape):
        for level, logits in _with_logits(levels, probs[part]):
            beliefs[part] += level.weight * level.read(logits, given[part])
    return beliefs


def by_level(
    levels: Sequence[Level], probs: np.ndarray, given: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Belief in the given label, and in another (R,) int64, at every level: (L, R) each."""
    own, others = (np.empty((len(levels), len(given))) for _ in range(2))
    for part in blocks(*probs.shape):
        rows = np.arange(len(given[part]))
        for place, (level, logits) in enumerate(_with_logits(levels, probs[part])):
            beliefs = level.read(logits, given[part])
            own[place, part], others[place, part] = beliefs[rows, given[part]], beliefs[rows, other[part]]
    return own, others


def _with_logits(levels: Sequence[Level], probs: np.ndarray) -> Iterator[tuple[Level, np.ndarray]]:
    """Each level with the logits of its model, which neighbours share."""
    model, logits = None, np.empty(0)
    for level in levels:
        if level.model is not model:
            model, logits = level.model, level.model.logits(probs)
        yield level, logits


def _clean_level(model: NoiseModel, probs: np.ndarray, given: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Sharpness, transition and log likelihood without noise: as probable beforehand as all rates together."""
    rows = evenly_spread(probs, given, max(1, _MOST_ENTRIES // probs.shape[1]))
    transition = scaled(model.transition, _CLEAN)
    logits = model.logits(probs[rows])
    sharpness, likelihood = best_sharpness(logits, given[rows], transition, model.sharpness, 1.0)
    return sharpness, transition, likelihood * len(given) / len(rows)


def _levels_of(
    model: NoiseModel, probs: np.ndarray, given: np.ndarray
) -> list[tuple[float, np.ndarray, float]]:
    """Sharpness, transition, and log of likelihood times spacing, at levels evenly spaced in the noise rate."""
    rows = evenly_spread(probs, given, max(1, _MOST_ENTRIES // probs.shape[1]))
    logits, labels = model.logits(probs[rows]), given[rows]
    # Fitted on fewer rows, the curve is flatter than all rows would make it.
    worth = len(given) / len(rows)

    def at(factor: float) -> tuple[float, float, float, np.ndarray]:
        transition = scaled(model.transition, factor)
        sharpness, likelihood = best_sharpness(logits, labels, transition, model.sharpness, 1.0)
        posterior = with_label(softmax(sharpness * logits, axis=1), transition, labels)
        rate = 1 - float(posterior[np.arange(len(labels)), labels].mean())
        return rate, likelihood * worth, sharpness, transition

    coarse = [at(factor)[:2] for factor in _COARSE]
    rates, likelihoods = np.array(coarse).T
    rates, kept = np.unique(np.maximum.accumulate(rates), return_index=True)
    if len(rates) < 2:
        _, likelihood, sharpness, transition = at(1.0)
        return [(sharpness, transition, likelihood)]
    dense = np.linspace(rates[0], rates[-1], 2000)
    height = PchipInterpolator(rates, likelihoods[kept])(dense)
    near = dense[height >= height.max() - _DROP]
    factors = np.exp(PchipInterpolator(rates, np.log(_COARSE[kept]))(np.linspace(near[0], near[-1], _FINE)))
    fine = [at(factor) for factor in factors]
    spacing = np.maximum(np.gradient(np.array([rate for rate, *_ in fine])), 1e-9)
    return [
        (sharpness, transition, likelihood + float(np.log(space)))
        for (_, likelihood, sharpness, transition), space in zip(fine, spacing, strict=True)
    ]


def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Weighted quantile over the first axis of `values` (L, ...), linear between the middles of the weights.

    >>> float(quantile(np.array([3.0, 1.0, 2.0]), np.array([0.25, 0.5, 0.25]), 0.25))
    1.0
    """
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0)
    weight = weights[order]
    middle = np.cumsum(weight, axis=0) - weight / 2
    place = np.clip((middle < share).sum(axis=0), 1, max(len(values) - 1, 1))[None]
    if len(values) == 1:
        return ranked[0]
    low, high = (np.take_along_axis(middle, each, axis=0)[0] for each in (place - 1, place))
    part = np.clip((share - low) / np.maximum(high - low, 1e-300), 0, 1)
    below, above = (np.take_along_axis(ranked, each, axis=0)[0] for each in (place - 1, place))
    return below + part * (above - below)


def blocks(num_rows: int, num_classes: int) -> list[slice]:
    """Slices of rows that hold a few million entries each."""
    size = max(1, _BLOCK_ENTRIES // num_classes)
    return [slice(first, first + size) for first in range(0, num_rows, size)]
