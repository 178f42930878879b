"""Planted label noise: labels in, labels out; numpy only, no files.

`plant` draws these kinds, each row on its own:

    symmetric:R            a row gets with probability R a label drawn from all K classes: true rate R (K-1)/K
    symmetric-exclusive:R  a row gets with probability R a label drawn from the other classes: true rate R
    pair:R                 a row becomes with probability R the next class in class order
    asymmetric:R           the CIFAR-10 pairs: a row of truck, bird, deer, cat or dog moves with probability R
    simplex:R              a row gets with probability R a label drawn from shares of the other classes that are
                           themselves drawn, once a class: true rate R (NNAQC, eq. 1)
    confusion:FILE         a row gets a label drawn from the row of a matrix that is its class's

With `:exact` behind the rate or file so many rows are hit instead: round(R N) for symmetric and symmetric-exclusive,
round(R n_k) of each class k for the others, R of `confusion` what a matrix has off its diagonal.

These need images too, and are planted in `labelfix.noise.corruption`:

    semantic:S             a network trained on the share S of each class relabels all other rows; semantic:S:NETWORK
                           names it, as `--backbone` does
    open-set:R             round(R N) rows, N those with a readable image, get an image of another source

N counts the labelled rows, n_k those of class k. symmetric, symmetric-exclusive and pair also take a rate for each
class, from a file; `:exact` then is round(R_k n_k) rows of each class k. Which rows are hit depends on the seed and on
how the rows fall into classes, never on how the classes are numbered; nor does what simplex and confusion draw, for
they go by the names of the classes.

Sources: each row on its own in PENCIL, Zhang et al. 2020 and Arazo et al. 2019 (their codes), exact counts in Tanaka et
al. 2018 and DivideMix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelfix.errors import InputError

DRAWN_KINDS = ("symmetric", "symmetric-exclusive", "pair", "asymmetric", "simplex", "confusion")
KINDS = (*DRAWN_KINDS, "semantic", "open-set")
EXACT = "exact"
_WITH_CLASS_RATES = ("symmetric", "symmetric-exclusive", "pair")
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
    """Which noise to plant: a rate for all classes, or a file that says it for each.

    Attributes:
        kind: one of `KINDS`.
        rate: share in [0, 1] of the rows that the kind acts on, for `semantic` of those that are trained on, then
            neither 0 nor 1; None with a file.
        file: of the matrix of `confusion`, or of a rate for each class; None with a rate.
        is_exact: whether the rate is a count of rows, for `DRAWN_KINDS` alone; else it is each row's probability.
        backbone: the network of `semantic`; None for that which a scan would take.
    """

    kind: str
    rate: float | None = None
    file: str | None = None
    is_exact: bool = False
    backbone: str | None = None

    def __str__(self) -> str:
        value = f"{self.rate:g}" if self.file is None else self.file
        ends = (EXACT if self.is_exact else None, self.backbone)
        return ":".join([self.kind, value, *(end for end in ends if end)])


def parse_noise(text: str) -> NoiseSpec:
    """Read `KIND:RATE`, such as `symmetric:0.4`, or `KIND:FILE`, such as `pair:rates.csv`, maybe with `:exact` behind.

    Raises:
        InputError: unknown kind, `confusion` without a file, what is neither a number from 0 to 1 (for `semantic`
            between them) nor, where the kind takes a rate for each class, the name of a .csv file, or `:exact` behind
            a kind that always is.
    """
    kind, _, value = text.partition(":")
    if kind not in KINDS:
        raise InputError(f"--noise {text}: unknown kind {kind!r}; it is one of {', '.join(KINDS)}")
    value, is_exact = (
        (value.removesuffix(f":{EXACT}"), True) if value.endswith(f":{EXACT}") else (value, False)
    )
    if is_exact and kind not in DRAWN_KINDS:
        raise InputError(f"--noise {text}: {kind} always counts its rows exactly; leave out :{EXACT}")
    if kind == "confusion":
        if not value:
            raise InputError(f"--noise {text}: name the file of the matrix, as in confusion:matrix.csv")
        return NoiseSpec(kind, file=value, is_exact=is_exact)
    takes_file = kind in _WITH_CLASS_RATES
    if takes_file and value.lower().endswith(".csv"):
        return NoiseSpec(kind, file=value, is_exact=is_exact)
    backbone = None
    if kind == "semantic":
        value, _, backbone = value.partition(":")
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if kind == "semantic" and not 0 < rate < 1:
        raise InputError(
            f"--noise {text}: the share of the rows to train on has to be a number between 0 and 1, as in semantic:0.2"
        )
    if not 0 <= rate <= 1:
        raise InputError(
            f"--noise {text}: the rate has to be a number from 0 to 1, as in {kind}:0.4"
            + (", or a .csv file with the columns class and rate" if takes_file else "")
        )
    return NoiseSpec(kind, rate, is_exact=is_exact, backbone=backbone or None)


def plant(
    labels: np.ndarray,
    class_names: Sequence[str],
    noise: NoiseSpec,
    seed: int,
    asked: np.ndarray | None = None,
) -> np.ndarray:
    """Draw noisy labels; the same seed gives the same labels.

    Args:
        labels: (N,) int64 in 0..K-1; -1 (unlabelled) stays.
        class_names: the K names, in class order.
        noise: one of `DRAWN_KINDS`, and its rate.
        seed: not negative.
        asked: what `noise.file` says, float64 in class order: (K,) rates in [0, 1], or for `confusion` (K, K)
            shares in [0, 1] from true (row) to noisy class, rows that sum to 1. None without a file.

    Returns:
        (N,) int64, a new array.

    Raises:
        InputError: fewer than two classes, a negative seed, or asymmetric noise on other classes than
            CIFAR-10's.
    """
    num_classes = len(class_names)
    if num_classes < 2:
        raise InputError(f"--noise {noise}: noise needs at least two classes, there are {num_classes}")
    assert noise.kind in DRAWN_KINDS
    assert (asked is None) == (noise.file is None)
    rng = generator(seed)
    rates = np.full(num_classes, noise.rate, np.float64) if asked is None else flip_rates(asked)
    if noise.kind in ("symmetric", "symmetric-exclusive"):
        hit = _hit(labels, rates, noise, rng, of_each=asked is not None)
        return _shifted(labels, hit, num_classes, noise, rng)
    shares = _shares(class_names, noise, seed, asked)
    hit = _hit(labels, np.where(shares.any(axis=1), rates, 0), noise, rng, of_each=True)
    return _drawn(labels, hit, shares, _by_name(class_names), rng)


def generator(seed: int) -> np.random.Generator:
    """What draws the noise of a seed.

    Raises:
        InputError: a negative seed.
    """
    if seed < 0:
        raise InputError(f"--seed {seed}: the seed has to be 0 or more")
    return np.random.default_rng(seed)


def share_of_classes(labels: np.ndarray, share: float, num_classes: int, seed: int) -> np.ndarray:
    """Draw round(share n_k) rows of each class k that has any, but at least one.

    Args:
        labels: (N,) int64 in 0..K-1, -1 for rows that are not drawn.
        share: 0 to 1.
        num_classes: K.
        seed: not negative.

    Returns:
        (n,) int64, rows in ascending order.

    Raises:
        InputError: a negative seed.
    """
    order = generator(seed).permutation(np.flatnonzero(labels >= 0))
    return np.sort(_heads(labels, order, np.full(num_classes, share), least=1))


def flip_rates(asked: np.ndarray) -> np.ndarray:
    """What a noise file asks of each class: (K,) rates as they are, or what a (K, K) matrix has off its diagonal."""
    return asked if asked.ndim == 1 else _off_diagonal(asked).sum(axis=1)


def simplex_shares(class_names: Sequence[str], seed: int) -> np.ndarray:
    """Draw Delta of NNAQC, eq. 1: to which of the other classes the wrong labels of each class go.

    The noisy labels then follow (1 - R) I + R Delta. (The paper draws columns; with its own
    phi_ij = p(y' = j | y = i) those are the rows here.) The draw depends on nothing but the seed and the names.

    Args:
        class_names: the K names, at least two.
        seed: not negative.

    Returns:
        (K, K) float64, a zero diagonal; the rest of each row is uniform on the simplex of the K - 1 other
        classes, Dirichlet(1, ..., 1), and sums to 1.
    """
    num_classes = len(class_names)
    by_name = _by_name(class_names)
    # A stream of its own, so that it does not depend on the rows.
    (rng,) = np.random.default_rng(seed).spawn(1)
    drawn = np.zeros((num_classes, num_classes))
    drawn[~np.eye(num_classes, dtype=bool)] = rng.dirichlet(np.ones(num_classes - 1), num_classes).ravel()
    shares = np.empty_like(drawn)
    shares[np.ix_(by_name, by_name)] = drawn
    return shares


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


def _hit(
    labels: np.ndarray, rates: np.ndarray, noise: NoiseSpec, rng: np.random.Generator, *, of_each: bool
) -> np.ndarray:
    """The rows that the noise hits: each with the rate of its class, or exact counts, `of_each` class or of all."""
    rows = np.flatnonzero(labels >= 0)
    if not noise.is_exact:
        return rows[rng.random(len(rows)) < rates[labels[rows]]]
    # One shuffle of all labelled rows first: whatever is chosen next is the head of it.
    order = rng.permutation(rows)
    return _heads(labels, order, rates) if of_each else order[: round(rates[0] * len(order))]


def _heads(labels: np.ndarray, order: np.ndarray, rates: np.ndarray, least: int = 0) -> np.ndarray:
    """The first round(R_k n_k) rows of each class k in `order`, or `least` if that is more, and in that order."""
    of_row = labels[order]
    counts = np.bincount(of_row, minlength=len(rates))
    grouped = np.argsort(of_row, kind="stable")
    place = np.empty_like(grouped)
    place[grouped] = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    return order[place < np.maximum(np.rint(rates * counts), least)[of_row]]


def _shifted(
    labels: np.ndarray, hit: np.ndarray, num_classes: int, noise: NoiseSpec, rng: np.random.Generator
) -> np.ndarray:
    """Move the rows `hit` by a random number of classes, by 0 only if not exclusive."""
    smallest = 1 if noise.kind == "symmetric-exclusive" else 0
    noisy = labels.copy()
    noisy[hit] = (labels[hit] + rng.integers(smallest, num_classes, len(hit))) % num_classes
    return noisy


def _drawn(
    labels: np.ndarray, hit: np.ndarray, shares: np.ndarray, by_name: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a label for the rows `hit` from the shares of their class; classes take turns by name."""
    noisy = labels.copy()
    of_hit = labels[hit]
    for label in by_name:
        members = hit[of_hit == label]
        if len(members):
            noisy[members] = rng.choice(by_name, len(members), p=shares[label, by_name])
    return noisy


def _shares(class_names: Sequence[str], noise: NoiseSpec, seed: int, asked: np.ndarray | None) -> np.ndarray:
    """Of the rows of each class that are hit, the (K, K) share that gets each label; a class that stays has none."""
    if noise.kind == "simplex":
        return simplex_shares(class_names, seed)
    if noise.kind == "confusion":
        assert asked is not None
        off, rates = _off_diagonal(asked), flip_rates(asked)[:, None]
        return np.divide(off, rates, out=np.zeros_like(off), where=rates > 0)
    if noise.kind == "pair":
        return np.roll(np.eye(len(class_names)), 1, axis=1)
    if set(class_names) != _CIFAR10_NAMES or len(class_names) != len(_CIFAR10_NAMES):
        raise InputError(
            f"--noise {noise}: asymmetric noise is defined for CIFAR-10's ten class names only;"
            f" use pair:{noise.rate:g} (every class to the next one) or confusion:FILE (a matrix of your own)"
        )
    index = {name: label for label, name in enumerate(class_names)}
    shares = np.zeros((len(class_names), len(class_names)))
    for source, target in CIFAR10_PAIRS.items():
        shares[index[source], index[target]] = 1
    return shares


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.where(np.eye(len(matrix), dtype=bool), 0, matrix)


def _by_name(class_names: Sequence[str]) -> np.ndarray:
    """(K,) int64, the classes in code-point order of their names."""
    return np.array(sorted(range(len(class_names)), key=class_names.__getitem__))
