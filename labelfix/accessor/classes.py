"""Findings counted class by class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelfix.accessor.rows import ELIGIBLE_COLUMNS, class_indices, class_names, eligible, require
from labelfix.errors import InputError
from labelfix.estimation.evidence import transition_matrix


def confusion(frame: pd.DataFrame, *, normalize: bool) -> pd.DataFrame:
    """See `FindingsAccessor.confusion`."""
    require(frame, ELIGIBLE_COLUMNS, "confusion")
    names = class_names(frame, "confusion")
    given = class_indices(frame, "given_label", "confusion")
    corrected = class_indices(frame, "corrected_label", "confusion")
    rows = eligible(frame) & (corrected >= 0)
    cells = np.bincount(given[rows] * len(names) + corrected[rows], minlength=len(names) ** 2)
    counts = _table(cells.reshape(len(names), len(names)), names, "given_label", "corrected_label")
    return counts.div(counts.sum(axis=1), axis=0) if normalize else counts


def noise_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """See `FindingsAccessor.noise_matrix`."""
    require(frame, (*ELIGIBLE_COLUMNS, "label_distribution"), "noise_matrix")
    names = class_names(frame, "noise_matrix")
    given = class_indices(frame, "given_label", "noise_matrix")
    rows = np.flatnonzero(eligible(frame) & frame["label_distribution"].notna().to_numpy())
    beliefs = frame["label_distribution"].to_numpy(object)[rows]
    wrong = next((row for row, belief in zip(rows, beliefs, strict=True) if len(belief) != len(names)), None)
    if wrong is not None:
        raise InputError(
            f"noise_matrix: the label_distribution of row {wrong} has another length than there are classes"
            f" ({len(names)}); ask a frame of labelfix.read_corrections, or rows of one"
        )
    probs = np.concatenate([np.empty(0, np.float32), *beliefs]).reshape(len(rows), len(names))
    return _table(transition_matrix(probs, given[rows]), names, "true_label", "given_label")


def class_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """See `FindingsAccessor.class_summary`."""
    needed = ("noise_score", "is_label_issue", "corrected_confidence")
    require(frame, (*ELIGIBLE_COLUMNS, *needed), "class_summary")
    names = class_names(frame, "class_summary")
    given = class_indices(frame, "given_label", "class_summary")
    corrected = class_indices(frame, "corrected_label", "class_summary")
    rows = eligible(frame)
    sums = {
        "rows": np.ones(len(frame)),
        "noise_rate": frame["noise_score"].to_numpy(float),
        "flagged": frame["is_label_issue"].to_numpy(float),
        "corrected": (corrected != given).astype(float),
        "mean_confidence": frame["corrected_confidence"].to_numpy(float),
    }
    found = {
        name: np.bincount(given[rows], weights=values[rows], minlength=len(names))
        for name, values in sums.items()
    }
    table = pd.DataFrame(found, index=pd.Index(names, name="given_label"))
    for name in ("noise_rate", "mean_confidence"):
        table[name] /= table["rows"]
    kept = rows & (corrected >= 0)
    table.insert(4, "rows_after", np.bincount(corrected[kept], minlength=len(names)))
    return table.astype(dict.fromkeys(("rows", "flagged", "corrected"), np.int64))


def _table(cells: np.ndarray, names: list[str], rows: str, columns: str) -> pd.DataFrame:
    """(K, K) cells with class names on both sides."""
    return pd.DataFrame(cells, index=pd.Index(names, name=rows), columns=pd.Index(names, name=columns))
