"""What a source says beside its labels: the truth, as a file with planted noise does, and which split rows are of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.manifest import Manifest
from labelfix.data.readers.marks import TESTED
from labelfix.data.verified_labels import SEPARATOR

TRUE, CORRUPTED = "true_label", "is_corrupted"


def column_of(manifest: Manifest, name: str) -> pa.ChunkedArray:
    """A pass-through column of a manifest, (N,)."""
    place = 2 + manifest.pass_through.index(name)
    chunks = [batch.column(place) for batch in manifest.batches()]
    return pa.chunked_array(chunks, manifest.pass_through_fields[place - 2].type)


def validation_rows(manifest: Manifest) -> np.ndarray:
    """(N,) bool: rows that are held out and whose split is none of a test."""
    if "split" not in manifest.pass_through:
        return manifest.held_out
    split = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column_of(manifest, "split"), pa.string())))
    is_tested = pc.is_in(split, value_set=pa.array(TESTED)).to_numpy()
    return manifest.held_out & ~is_tested


def true_classes(manifest: Manifest) -> np.ndarray | None:
    """(N,) int64: the class of the column `true_label` in a source of one label a row, -1 for none; None without it."""
    if TRUE not in manifest.pass_through or manifest.task != "single":
        return None
    place = {name: index for index, name in enumerate(manifest.class_names)}
    labels = [_labels(manifest, value) for value in column_of(manifest, TRUE).to_pylist()]
    known = [None if label is None else manifest.class_map.get(label[0], label[0]) for label in labels]
    return np.array([-1 if name is None else place.get(name, -1) for name in known], np.int64)


def known_wrong(manifest: Manifest, rows: np.ndarray) -> int | None:
    """How many labels of some rows (n,) int64 are not what the column `true_label` says; None without that column.

    A row without a true label is wrong where `is_corrupted` is true: its image belongs to no class. Else nothing is
    known of it. Where a row may have several labels it is wrong as soon as one of them is.
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
        labels = _labels(manifest, value)
        if labels is None:
            wrong += str(is_corrupted).lower() == "true"
        else:
            given = manifest.label_of(row)
            said = given if isinstance(given, list) else [given]
            wrong += {manifest.class_map.get(label, label) for label in labels} != set(said)
    return wrong


def _labels(manifest: Manifest, value: Any) -> list[str] | None:
    """The true labels of a row as they stand in a column; None without any that is known."""
    if isinstance(value, list) and manifest.task == "multi":
        found = value
    else:
        text = "" if value is None else str(value).strip()
        if not text:
            return None
        if manifest.task == "single":
            return [text]
        found = _listed(text, manifest.options.get("label_separator") or SEPARATOR)
    return [label for label in (str(each).strip() for each in found if each is not None) if label]


def _listed(text: str, separator: str) -> list[Any]:
    """The labels of a text: those of a JSON list, as a list of a .jsonl manifest passes through, or separated ones."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, list) else text.split(separator)
