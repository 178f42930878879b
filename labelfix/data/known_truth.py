"""Where a source carries the truth beside its labels, as a file with planted noise does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from labelfix.data.manifest import Manifest

TRUE, CORRUPTED = "true_label", "is_corrupted"


def column_of(manifest: Manifest, name: str) -> pa.ChunkedArray:
    """A pass-through column of a manifest, (N,)."""
    place = 2 + manifest.pass_through.index(name)
    chunks = [batch.column(place) for batch in manifest.batches()]
    return pa.chunked_array(chunks, manifest.pass_through_fields[place - 2].type)


def known_wrong(manifest: Manifest, rows: np.ndarray) -> int | None:
    """How many labels of some rows (n,) int64 are not what the column `true_label` says; None without that column.

    A row without a true label is wrong where `is_corrupted` is true: its image belongs to no class. Else nothing is
    known of it.
    """
    if TRUE not in manifest.pass_through:
        return None
    place = pa.array(rows)
    true = column_of(manifest, TRUE).take(place).to_pylist()
    corrupted = (
        column_of(manifest, CORRUPTED).take(place).to_pylist()
        if CORRUPTED in manifest.pass_through
        else [False] * len(rows)
    )
    wrong = 0
    for row, value, is_corrupted in zip(rows.tolist(), true, corrupted, strict=True):
        text = "" if value is None else str(value).strip()
        if text:
            wrong += manifest.class_map.get(text, text) != manifest.label_of(row)
        else:
            wrong += str(is_corrupted).lower() == "true"
    return wrong
