"""The nearest neighbours of every row in feature space, of a million rows too.

Rows are compared by the cosine of their centred features. Where there are many, they are first cut down to the
directions in which they vary most (principal components) and sorted into cells (k-means); neighbours are looked for in
the cells nearest to a row's own, and what is found is measured in all dimensions. (The inverted file of Sivic and
Zisserman 2003, "Video Google", and of Jégou, Douze and Schmid 2011.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

_DIMENSIONS = 96  # in which neighbours are looked for
_SAMPLE_ROWS = 20_000  # from which directions and cells are learned
_ALL_PAIRS_UP_TO = 12_000  # rows of which every pair is looked at
_ROWS_OF_A_CELL = 400
_CELLS_LOOKED_AT = 8
_ROUNDS = 6
_BLOCK_ROWS = 2_048
_PAIRS_AT_ONCE = _BLOCK_ROWS * _ALL_PAIRS_UP_TO  # of one cell, which a pile of rows that look alike can swell

Rows = Callable[["slice | np.ndarray"], np.ndarray]
"""Gives the features (n, D) of some rows, a slice or (n,) int64."""


def neighbours(features: Rows, num_rows: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of each row, and how far they are.

    Exact up to 12,000 rows; beyond that the nearest of all is missed for about one row in a hundred, and copies, which
    lie in the same cell as a rule, hardly ever.

    Args:
        features: of the rows, finite.
        num_rows: N, at least 2.
        count: k, how many neighbours; N - 1 where there are fewer.

    Returns:
        (N, k) int64 rows, nearest first, -1 where no more were found, and (N, k) float32 distances between unit
        vectors: 0 for the same direction, 1.41 for a right angle, 2 for the opposite one.
    """
    count = min(count, num_rows - 1)
    centre = _mean(features, num_rows)
    directions = _directions(features, num_rows, centre)
    short = np.empty((num_rows, directions.shape[1]), np.float32)
    for part in _blocks(num_rows):
        short[part] = _unit((features(part).astype(np.float32) - centre) @ directions)
    rows = np.full((num_rows, count), -1)
    for own, candidates in _cells(short):
        for part in _blocks(len(own), min(_BLOCK_ROWS, max(_PAIRS_AT_ONCE // len(candidates), 1))):
            best = _best(short, own, part, candidates, count)
            rows[own[part], : best.shape[1]] = best
    return _measured(features, centre, rows)


def _blocks(num_rows: int, size: int = _BLOCK_ROWS) -> Iterator[slice]:
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _mean(features: Rows, num_rows: int) -> np.ndarray:
    total = sum(features(part).sum(axis=0, dtype=np.float64) for part in _blocks(num_rows))
    return np.asarray(total / num_rows, np.float32)


def _sample(num_rows: int) -> np.ndarray:
    return np.linspace(0, num_rows - 1, min(num_rows, _SAMPLE_ROWS)).round().astype(np.int64)


def _directions(features: Rows, num_rows: int, centre: np.ndarray) -> np.ndarray:
    """(D, d): the principal directions of a sample, orthonormal; all of them where D is small."""
    dimensions = len(centre)
    if dimensions <= _DIMENSIONS:
        return np.eye(dimensions, dtype=np.float32)
    scatter = np.zeros((dimensions, dimensions))
    step = max(1, num_rows // _SAMPLE_ROWS)
    for part in _blocks(num_rows):
        some = _unit(features(part)[::step].astype(np.float32) - centre)
        scatter += some.T @ some
    return np.linalg.eigh(scatter)[1][:, : -_DIMENSIONS - 1 : -1].astype(np.float32)


def _cells(short: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of a cell, and the rows among which their neighbours are looked for: first the cell's own."""
    num_rows = len(short)
    if num_rows <= _ALL_PAIRS_UP_TO:
        yield np.arange(num_rows), np.arange(num_rows)
        return
    centres = _centres(short[_sample(num_rows)], -(-num_rows // _ROWS_OF_A_CELL))
    cell = np.concatenate([(short[part] @ centres.T).argmax(axis=1) for part in _blocks(num_rows)])
    ranked = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=len(centres)))
    members = np.split(ranked, ends[:-1])
    for number, own in enumerate(members):
        if len(own):
            likeness = centres @ centres[number]
            likeness[number] = np.inf
            near = np.argsort(-likeness, kind="stable")[:_CELLS_LOOKED_AT]
            yield own, np.concatenate([members[other] for other in near])


def _centres(sample: np.ndarray, count: int) -> np.ndarray:
    """(C, d) of unit length: a few rounds of k-means by cosine, from evenly spread rows; no cell is left empty."""
    centres = sample[np.linspace(0, len(sample) - 1, min(count, len(sample))).round().astype(np.int64)]
    for _ in range(_ROUNDS):
        cell = np.concatenate([(sample[part] @ centres.T).argmax(axis=1) for part in _blocks(len(sample))])
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, sample)
        filled = np.bincount(cell, minlength=len(centres)) > 0
        centres = np.where(filled[:, None], _unit(sums), centres)
    return centres


def _best(short: np.ndarray, own: np.ndarray, part: slice, candidates: np.ndarray, count: int) -> np.ndarray:
    """(n, k or fewer): the candidates most like each of the rows `own[part]`, in any order, and not itself."""
    likeness = short[own[part]] @ short[candidates].T
    # The rows of the cell are the first candidates.
    likeness[np.arange(len(likeness)), np.arange(part.start, part.stop)] = -np.inf
    count = min(count, len(candidates) - 1)
    if count == len(candidates) - 1:
        return candidates[np.argsort(-likeness, axis=1)[:, :count]]
    return candidates[np.argpartition(likeness, -count, axis=1)[:, -count:]]


def _measured(features: Rows, centre: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours (N, k) by their distance in all dimensions, nearest first, and these distances."""
    distances = np.full(rows.shape, np.inf, np.float32)
    for part in _blocks(len(rows)):
        own, found = _unit(features(part).astype(np.float32) - centre), rows[part]
        for place in range(rows.shape[1]):
            known = found[:, place] >= 0
            others = _unit(features(found[known, place]).astype(np.float32) - centre)
            distances[part][known, place] = np.linalg.norm(own[known] - others, axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)
