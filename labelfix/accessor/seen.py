"""What a frame says of its rows beside their labels: copies, leaks and outliers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelfix.accessor.rows import check_count, check_one_label, require
from labelfix.data.readers.marks import side_of
from labelfix.errors import InputError

GROUP, OUTLIER = "duplicate_group", "outlier_score"


def duplicates(frame: pd.DataFrame, *, contradicting: bool) -> pd.DataFrame:
    """See `FindingsAccessor.duplicates`."""
    require(frame, (GROUP, "given_label"), "duplicates")
    found = _grouped(frame)
    if contradicting:
        check_one_label(frame, "duplicates(contradicting=True)")
        labels = found["given_label"].astype(object).groupby(found[GROUP]).transform("nunique")
        found = found[labels > 1]
    return found


def leaks(frame: pd.DataFrame) -> pd.DataFrame:
    """See `FindingsAccessor.leaks`."""
    require(frame, (GROUP,), "leaks")
    if "split" not in frame.columns:
        raise InputError("leaks: the frame has no column 'split'; scan a source that has one")
    found = _grouped(frame)
    split = found["split"].astype(object).map(side_of)
    return found[split.groupby(found[GROUP]).transform("nunique") > 1]


def outliers(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """See `FindingsAccessor.outliers`."""
    require(frame, (OUTLIER,), "outliers")
    check_count(n, "outliers")
    scores = frame[OUTLIER].to_numpy(float)
    if not np.isfinite(scores).any():
        raise InputError("outliers: no row has an outlier_score; scan with --encoder or --features")
    rows = np.argsort(-np.where(np.isfinite(scores), scores, -1), kind="stable")[
        : min(n, np.isfinite(scores).sum())
    ]
    return frame.iloc[rows]


def _grouped(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a copy in this frame, copies beside each other."""
    group = frame[GROUP].to_numpy(float)
    rows = np.flatnonzero(np.isfinite(group))
    rows = rows[np.argsort(group[rows], kind="stable")]
    _, place, size = np.unique(group[rows], return_inverse=True, return_counts=True)
    return frame.iloc[rows[size[place] > 1]]
