"""What the neighbours of a row tell: that it is a near copy of one of them, or that it belongs to none.

Around a row its neighbours lie about as points that were thrown at random: the volume within which the j-th lies, over
that of the k-th, does not depend on how dense they lie there. How fast volumes grow with the distance, the intrinsic
dimension, is estimated from the farther neighbours, which no copy is among (Levina and Bickel 2005, "Maximum Likelihood
Estimation of Intrinsic Dimension"). So it is known how often a neighbour that is no copy lies as near as one does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtr

NEIGHBOURS = 10
FALSE_PAIRS = 0.001  # that are expected for each row
_LEAST_ROWS = 100  # fewer say nothing of what is usual
_LEAST_SPREAD = 0.05  # where all are about as far, in many dimensions, a twentieth more is nothing special
_TINY = 1e-12


@dataclass(frozen=True)
class Surroundings:
    """What was found around N rows.

    Attributes:
        copies: (N,) int64, the first row of its near copies, -1 for none.
        outlier_score: (N,) float32, 0 to 1: how probable it is that a row so far from its neighbours is none of the
            usual ones; None where there are too few rows to tell.
        dimension: intrinsic dimension of the rows.
        copy_share: a neighbour nearer than this share of the distance of the 10th counts as a copy.
    """

    copies: np.ndarray
    outlier_score: np.ndarray | None
    dimension: float
    copy_share: float

    @property
    def facts(self) -> dict[str, float | None]:
        """The numbers, for the summary."""
        known = np.isfinite(self.dimension)
        return {
            "dimension": round(self.dimension, 2) if known else None,
            "copy_share": round(self.copy_share, 4) if known else None,
        }


def look_around(rows: np.ndarray, distances: np.ndarray, false_pairs: float = FALSE_PAIRS) -> Surroundings:
    """Near copies and outliers.

    Args:
        rows: (N, k) int64 nearest neighbours, nearest first, -1 for none.
        distances: (N, k) of theirs, infinite for none.
        false_pairs: expected number of pairs that are taken for copies and are none, for each row.
    """
    num_rows = len(rows)
    known = np.isfinite(distances).all(axis=1) & (distances[:, -1] > _TINY)
    if num_rows < _LEAST_ROWS or known.sum() < _LEAST_ROWS:
        return Surroundings(np.full(num_rows, -1), None, np.nan, 0.0)
    dimension = _dimension(distances[known])
    share = float((1 - (1 - false_pairs) ** (1 / (distances.shape[1] - 1))) ** (1 / dimension))
    last = distances[:, -1]
    # All ten neighbours may be copies: then they lie on the row itself, or in a pile of which the row sees no end.
    usual = share * np.median(last[known])
    within = np.where(_in_piles(rows, last <= usual), usual, np.where(known, share * last, _TINY))
    return Surroundings(_copies(rows, distances, within), _outliers(distances, known), dimension, share)


def _dimension(distances: np.ndarray) -> float:
    """The median over the rows, each from the farther half of its neighbours (R, k): a censored exponential."""
    count = distances.shape[1] - 1
    logs = np.log(distances[:, -1:] / np.maximum(distances[:, :-1], _TINY))[:, ::-1]  # rising
    farther = -(-count // 2)
    total = logs[:, :farther].sum(axis=1) + (count - farther) * logs[:, farther - 1]
    return float(np.median(farther / np.maximum(total, _TINY)))


def _in_piles(rows: np.ndarray, crowded: np.ndarray) -> np.ndarray:
    """Rows (N,) bool that are copies of more rows than neighbours (N, k) are known of each.

    They are crowded: all their neighbours lie as near as copies do around the median row. So do rows of a dense place;
    but there rows that are less crowded are among the neighbours of some, and around a pile of copies there are none.
    """
    left = np.repeat(np.flatnonzero(crowded), rows.shape[1])
    part = _together(left, rows[crowded].ravel(), len(rows))
    has_others = np.bincount(part, ~crowded) > 0
    return crowded & ~has_others[part]


def _together(left: np.ndarray, right: np.ndarray, num_rows: int) -> np.ndarray:
    """(N,) number of the part that a row belongs to, where each row `left[i]` hangs together with `right[i]`."""
    pairs = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(num_rows, num_rows))
    return np.asarray(connected_components(pairs, directed=False)[1])


def _copies(rows: np.ndarray, distances: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Pairs that each is near to the other, by its own measure, and what hangs together through them."""
    num_rows, count = rows.shape
    left, right, flat = np.repeat(np.arange(num_rows), count), rows.ravel(), distances.ravel()
    near = (right >= 0) & (flat <= np.minimum(within[left], within[right]))
    part = _together(left[near], right[near], num_rows)
    _, first, size = np.unique(part, return_index=True, return_counts=True)
    return np.where(size[part] > 1, first[part], -1).astype(np.int64)


def _outliers(distances: np.ndarray, known: np.ndarray) -> np.ndarray:
    """1 - the expected over the actual number of rows at least so far from their 10th neighbour (Storey 2002).

    What is usual is a normal distribution of the logarithm, from its median and the spread below it, where no outlier
    is.
    """
    logs = np.log(np.maximum(distances[:, -1], _TINY))
    usual = logs[known]
    middle, low = np.quantile(usual, [0.5, 0.1])
    spread = max((middle - low) / 1.2816, _LEAST_SPREAD)
    far = np.where(np.isfinite(logs), (logs - middle) / spread, -np.inf)
    order = np.argsort(-far, kind="stable")
    expected = len(far) * ndtr(-far[order])
    score = 1 - np.minimum(expected / np.arange(1, len(far) + 1), 1)
    # Who lies farther is no less of an outlier.
    found = np.empty(len(far), np.float32)
    found[order] = np.maximum.accumulate(score[::-1])[::-1]
    return found
