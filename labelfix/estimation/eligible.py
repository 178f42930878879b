"""Which rows count: the one rule by which a row is scored, flagged and evaluated."""

from __future__ import annotations

import numpy as np


def eligible_rows(valid: np.ndarray, labelled: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """The rows whose given label is in question.

    Args:
        valid: (N,) bool, rows with a readable image.
        labelled: (N,) bool, rows with a given label.
        trusted: (N,) bool, rows whose label a person has verified.

    Returns:
        (N,) bool.
    """
    return valid & labelled & ~trusted
