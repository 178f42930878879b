"""Planted label noise: labels in, labels out; numpy only, no files.

    symmetric:R            round(R N) rows get a label drawn from all K classes: true rate R (K-1)/K
    symmetric-exclusive:R  round(R N) rows get a label drawn from the other classes: true rate R
    pair:R                 round(R n_k) rows of each class k become the next class in class order
    asymmetric:R           the CIFAR-10 pairs: round(R n_k) rows of truck, bird, deer, cat and dog

N counts the labelled rows, n_k those of class k. Which rows are hit depends on the seed and on how the rows
fall into classes, never on how the classes are numbered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelfix.errors import InputError

KINDS = ("symmetric", "symmetric-exclusive", "asymmetric", "pair")
CIFAR10_PAIRS = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}
_CIFAR10_NAMES = frozenset((*CIFAR10_PAIRS, "airplane", "automobile", "frog", "horse", "ship"))


@dataclass(frozen=True)
class NoiseSpec:
    """Which noise to plant.

    Attributes:
        kind: one of `KINDS`.
        rate: share in [0, 1] of the rows that the kind acts on.
    """

    kind: str
    rate: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.rate:g}"


def parse_noise(text: str) -> NoiseSpec:
    """Read `KIND:RATE`, such as `symmetric:0.4`.

    Raises:
        InputError: unknown kind, or a rate that is no number from 0 to 1.
    """
    kind, _, rate_text = text.partition(":")
    if kind not in KINDS:
        raise InputError(f"--noise {text}: unknown kind {kind!r}; it is one of {', '.join(KINDS)}")
    try:
        rate = float(rate_text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise InputError(f"--noise {text}: the rate has to be a number from 0 to 1, as in {kind}:0.4")
    return NoiseSpec(kind, rate)


def plant(labels: np.ndarray, class_names: Sequence[str], noise: NoiseSpec, seed: int) -> np.ndarray:
    """Draw noisy labels; the same seed gives the same labels.

    Args:
        labels: (N,) int64 in 0..K-1; -1 (unlabelled) stays.
        class_names: the K names, in class order.
        noise: kind and rate.
        seed: not negative.

    Returns:
        (N,) int64, a new array.

    Raises:
        InputError: fewer than two classes, a negative seed, or asymmetric noise on other classes than
            CIFAR-10's.
    """
    num_classes = len(class_names)
    if num_classes < 2:
        raise InputError(f"--noise {noise}: noise needs at least two classes, there are {num_classes}")
    if seed < 0:
        raise InputError(f"--seed {seed}: the seed has to be 0 or more")
    rng = np.random.default_rng(seed)
    # One shuffle of all labelled rows first: whatever is chosen next is the head of it.
    order = rng.permutation(np.flatnonzero(labels >= 0))
    if noise.kind in ("symmetric", "symmetric-exclusive"):
        return _shifted(labels, order, num_classes, noise, rng)
    return _mapped(labels, order, _targets(class_names, noise), noise.rate)


def realised_transition(true: np.ndarray, noisy: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how labels moved: T[j, i] is the share of class j that is labelled i.

    Args:
        true: (N,) int64, -1 for none.
        noisy: (N,) int64, -1 for none; rows without either are left out.
        num_classes: K.

    Returns:
        (K, K) float64, rows that sum to 1; a class without rows keeps its label.
    """
    known = (true >= 0) & (noisy >= 0)
    cells = true[known] * num_classes + noisy[known]
    counts = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    mass = counts.sum(axis=1, keepdims=True)
    return np.where(mass > 0, counts / np.maximum(mass, 1), np.eye(num_classes))


def _shifted(
    labels: np.ndarray, order: np.ndarray, num_classes: int, noise: NoiseSpec, rng: np.random.Generator
) -> np.ndarray:
    """Move the first round(R N) rows of `order` by a random number of classes, by 0 only if not exclusive."""
    smallest = 1 if noise.kind == "symmetric-exclusive" else 0
    hit = order[: round(noise.rate * len(order))]
    noisy = labels.copy()
    noisy[hit] = (labels[hit] + rng.integers(smallest, num_classes, len(hit))) % num_classes
    return noisy


def _mapped(labels: np.ndarray, order: np.ndarray, targets: dict[int, int], rate: float) -> np.ndarray:
    """Give the first round(R n_k) rows of each class in `order` the class's target."""
    noisy = labels.copy()
    for source, target in targets.items():
        members = order[labels[order] == source]
        noisy[members[: round(rate * len(members))]] = target
    return noisy


def _targets(class_names: Sequence[str], noise: NoiseSpec) -> dict[int, int]:
    if noise.kind == "pair":
        return {label: (label + 1) % len(class_names) for label in range(len(class_names))}
    if set(class_names) != _CIFAR10_NAMES or len(class_names) != len(_CIFAR10_NAMES):
        raise InputError(
            f"--noise {noise}: asymmetric noise is defined for CIFAR-10's ten class names only;"
            f" use pair:{noise.rate:g} (every class to the next one)"
        )
    index = {name: label for label, name in enumerate(class_names)}
    return {index[source]: index[target] for source, target in CIFAR10_PAIRS.items()}
