"""Which rows are held out together when a method is trained several times: whole groups, even over the classes."""

from __future__ import annotations

import numpy as np

from labelfix.errors import InputError


def deal_folds(labels: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Deal rows to folds, class by class, round robin after a seeded shuffle.

    The round goes on from class to class, so that folds are of even size and a class with fewer rows than folds is
    no error. Rows of one group stay together; a group counts for the class of its first row.

    Args:
        labels: (N,) int64 class of each row, -1 for rows that are in no fold.
        groups: (N,) int64 group of each row; None where every row stands alone.
        folds: K, 2 or more.
        seed: of the shuffle.

    Returns:
        (N,) int64, the fold 0..K-1 in which a row is held out; -1 for none.

    Raises:
        InputError: fewer rows, or groups, than folds.
    """
    rows = np.flatnonzero(labels >= 0)
    held_together = np.arange(len(labels)) if groups is None else groups
    _, first, unit_of_row = np.unique(held_together[rows], return_index=True, return_inverse=True)
    if len(first) < folds:
        what = "rows" if groups is None else "groups"
        raise InputError(f"--folds {folds}: there are only {len(first)} {what} to hold out; use fewer folds")
    shuffled = np.random.default_rng(seed).permutation(len(first))
    order = shuffled[np.argsort(labels[rows][first][shuffled], kind="stable")]
    fold_of_unit = np.empty(len(first), np.int64)
    fold_of_unit[order] = np.arange(len(order)) % folds
    found = np.full(len(labels), -1)
    found[rows] = fold_of_unit[unit_of_row]
    return found
