"""Noticed: rows worth a look whatever their noise score: copies that contradict each other or leak, outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.marks import side_of
from labelfix.results.corrections import Corrections

OUTLIER_FROM = 0.9
_GROUP, _OUTLIER, _SPLIT = "duplicate_group", "outlier_score", "split"


@dataclass(frozen=True)
class Noticed:
    """What was seen of N rows.

    Attributes:
        contradicting: (G,) int64, ascending: the groups of copies that were not all given the same label.
        leaking: (G,) int64, ascending: those that lie on several sides of a split.
        rows: (n,) int64, the rows of these groups, copies beside each other, then outliers, farthest first.
    """

    contradicting: np.ndarray
    leaking: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, corrections: Corrections) -> Noticed:
        """Read what the run has seen; nothing where it has not looked, and of rows with several labels."""
        nothing = np.empty(0, np.int64)
        known = [name for name in (_GROUP, _OUTLIER) if corrections.has_values(name)]
        if not known or corrections.metadata["task"] == "multi":
            return cls(nothing, nothing, nothing)
        split = [_SPLIT] if _SPLIT in corrections.schema.names else []
        columns = [*known, *split, "given_label", "is_valid"]
        table = pa.Table.from_batches(list(corrections.batches(columns))).unify_dictionaries()
        valid = table["is_valid"].to_numpy()
        group = np.full(len(table), -1)
        if _GROUP in known:
            group = np.where(valid, pc.fill_null(table[_GROUP], -1).to_numpy(), -1)
        contradicting = _several(group, _codes(table["given_label"]))
        leaking = _several(group, _sides(table[_SPLIT])) if split else nothing
        copies = np.flatnonzero(np.isin(group, np.union1d(contradicting, leaking)))
        copies = copies[np.argsort(group[copies], kind="stable")]
        score = np.zeros(len(table))
        if _OUTLIER in known:
            score = np.where(valid, pc.fill_null(table[_OUTLIER], 0).to_numpy(), 0)
        odd = np.flatnonzero(score >= np.float32(OUTLIER_FROM))
        odd = odd[np.argsort(-score[odd], kind="stable")]
        return cls(contradicting, leaking, np.concatenate([copies, odd[~np.isin(odd, copies)]]))

    def marks(self, group: int | None, outlier: float | None) -> dict[str, Any]:
        """What a page says of a row, by its group and its outlier score."""
        return {
            "two_labels": group is not None and bool(np.isin(group, self.contradicting)),
            "leak": group is not None and bool(np.isin(group, self.leaking)),
            "odd": outlier is not None and outlier >= OUTLIER_FROM,
        }


def _codes(labels: pa.ChunkedArray) -> np.ndarray:
    """(N,) int64 of each label, -1 for none."""
    encoded = labels.combine_chunks()
    return pc.fill_null(pc.cast(encoded.indices, pa.int64()), -1).to_numpy(zero_copy_only=False)


def _sides(split: pa.ChunkedArray) -> np.ndarray:
    """(N,) int64: 0 for training, 1 for test, 2 for validation."""
    names = pc.cast(split, pa.string()).combine_chunks().dictionary_encode()
    sides = [("train", "test", "validation").index(side_of(name)) for name in names.dictionary.to_pylist()]
    place = pc.fill_null(pc.cast(names.indices, pa.int64()), -1).to_numpy(zero_copy_only=False)
    return np.array([*sides, 0], np.int64)[place]


def _several(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The groups (G,) whose rows do not all have the same value; rows with -1 for either do not count."""
    counts = (group >= 0) & (value >= 0)
    found, place = np.unique(group[counts], return_inverse=True)
    low, high = np.full(len(found), np.iinfo(np.int64).max), np.full(len(found), -1)
    np.minimum.at(low, place.reshape(-1), value[counts])
    np.maximum.at(high, place.reshape(-1), value[counts])
    return found[low < high]
