"""Copies: rows that show the same picture. They stay together, and no two of them are judged alone."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from labelfix.data.images.store import ImageStore


def exact_copies(store: ImageStore) -> np.ndarray:
    """The copies among the images, by the digest that decoding has made of each.

    Returns:
        (N,) int64: the first row that shows the same picture, for every row of which there are at least two; -1 for
        the others, and for rows without a readable image.
    """
    found = np.full(len(store.valid), -1)
    if store.facts is None:
        return found
    rows = np.flatnonzero(store.valid)
    _, first, place = np.unique(store.facts["digest"][rows], return_index=True, return_inverse=True)
    found[rows] = rows[first[place.reshape(-1)]]
    return without_single(found)


def num_shared(store: ImageStore, other: ImageStore) -> int:
    """How many images of a store show the same picture as one of another store of the same image size."""
    if store.facts is None or other.facts is None:
        return 0
    return int(np.isin(store.facts["digest"][store.valid], other.facts["digest"][other.valid]).sum())


def merged(groups: np.ndarray | None, copies: np.ndarray) -> np.ndarray | None:
    """Groups (N,) of rows that are held out together, with all copies of any of their rows.

    Args:
        groups: (N,) int64 of the source; None where every row stands alone.
        copies: (N,) int64, the first row of its copies, -1 for none.

    Returns:
        (N,) int64; None where every row stands alone.
    """
    if (copies < 0).all():
        return groups
    rows = np.arange(len(copies))
    of_copies = np.where(copies >= 0, copies, rows)
    if groups is None:
        return of_copies
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return connected(rows, first[place.reshape(-1)], of_copies)


def connected(rows: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The first row of all that hang together where row `rows[i]` and each `others[...][i]` do; (N,) for N rows.

    >>> connected(np.arange(5), np.array([0, 0, 2, 3, 2])).tolist()
    [0, 0, 2, 3, 2]
    """
    left = np.tile(rows, len(others))
    right = np.concatenate(others)
    size = len(rows)
    _, part = connected_components(
        coo_array((np.ones(len(left), np.int8), (left, right)), shape=(size, size)), directed=False
    )
    _, first = np.unique(part, return_index=True)
    return first[part].astype(np.int64)


def without_single(group: np.ndarray) -> np.ndarray:
    """Groups (N,), by their first row, without those of a single row."""
    sizes = np.bincount(group[group >= 0], minlength=len(group))
    return np.where((group >= 0) & (sizes[np.maximum(group, 0)] > 1), group, -1)
