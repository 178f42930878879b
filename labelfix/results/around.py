"""What can be seen of every row beside its label: which show the same, which belong to none, which are bad images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelfix.data.copies import connected, exact_copies, num_shared, without_single
from labelfix.data.images.issues import image_issues
from labelfix.data.images.store import ImageStore
from labelfix.estimation.neighbours import Rows, neighbours
from labelfix.estimation.surroundings import NEIGHBOURS, look_around


@dataclass(frozen=True)
class Around:
    """What was seen of N rows.

    Attributes:
        copies: (N,) int64, the first row that shows the same, -1 for none.
        outlier_score: (N,) float32, 0 to 1, NaN for rows that are not valid; None without features.
        image_issue: (N,) int64, place in `ISSUES`, -1 for none; None where nobody has looked at the images.
        facts: of the search for near copies, and how many pictures are in --test too, for the summary. JSON-able.
    """

    copies: np.ndarray
    outlier_score: np.ndarray | None = None
    image_issue: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ImageStore, features: Rows | None, test_store: ImageStore | None = None) -> Around:
        """Look at the pictures, and at their features where there are some.

        Args:
            store: the decoded images.
            features: of the rows; finite where a row is valid. None for none.
            test_store: images that are only measured on; None for none.
        """
        exact, issues = exact_copies(store), image_issues(store)
        shared: dict[str, Any] = {} if test_store is None else {"in_test": num_shared(store, test_store)}
        if features is None:
            return cls(exact, None, issues, shared)
        # Of exact copies one is enough; the others would hide who else is near.
        rows = np.flatnonzero(store.valid & ((exact < 0) | (exact == np.arange(len(exact)))))
        if len(rows) < 2:
            return cls(exact, None, issues, shared)
        found = look_around(*neighbours(lambda some: features(rows[some]), len(rows), NEIGHBOURS))
        near = np.arange(len(exact))
        near[rows] = np.where(found.copies >= 0, rows[found.copies], rows)
        together = connected(np.arange(len(exact)), near, np.where(exact >= 0, exact, np.arange(len(exact))))
        scores = None
        if found.outlier_score is not None:
            scores = np.full(len(exact), np.nan, np.float32)
            scores[rows] = found.outlier_score
            scores = np.where(exact >= 0, scores[exact], scores)
        return cls(without_single(np.where(store.valid, together, -1)), scores, issues, shared | found.facts)
