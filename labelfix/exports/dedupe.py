"""Which copies an export leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

COPY_COLUMNS = ("sample_id", "duplicate_group")


def _alike(label: str | list[str] | None) -> str | None:
    """The same text for the same labels."""
    return json.dumps(sorted(label)) if isinstance(label, list) else label


def left_out(batches: Iterable[pa.RecordBatch], dedupe: str) -> np.ndarray:
    """The sample_ids (n,) int64, ascending, of the copies that are not exported.

    Args:
        batches: the rows that would be exported, with `COPY_COLUMNS` and the label that they would have.
        dedupe: "keep-one" leaves the first row of every group; "drop-conflicts" does too, but none of a group whose
            labels are not all the same.
    """
    parts: list[tuple[np.ndarray, np.ndarray, list[str]]] = []
    for batch in batches:
        known = batch.filter(batch.column("duplicate_group").is_valid())
        columns = (known.column(name).to_numpy() for name in COPY_COLUMNS)
        parts.append((*columns, list(map(_alike, known.column("corrected_label").to_pylist()))))
    if not parts:
        return np.empty(0, np.int64)
    rows, groups = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    labels = np.array([label for part in parts for label in part[2]], dtype=object)
    _, label = np.unique(labels.astype(str), return_inverse=True)
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    goes = np.ones(len(rows), dtype=bool)
    goes[first] = False
    if dedupe == "drop-conflicts":
        low, high = np.full(len(first), len(labels)), np.full(len(first), -1)
        np.minimum.at(low, place, label)
        np.maximum.at(high, place, label)
        goes |= (low < high)[place]
    return np.sort(rows[goes])
