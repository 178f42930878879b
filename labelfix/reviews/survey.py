"""Survey: the whole table in numbers, and which of its rows a page shows; one pass, a row group at a time."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.estimation.eligible import eligible_rows
from labelfix.results.corrections import Corrections

SCORE_BINS = 50
INVALID_SHOWN = 1_000
_COLUMNS = (
    "sample_id", "given_label", "noise_score", "is_label_issue", "corrected_label", "is_trusted", "is_valid",
)  # fmt: skip
_MULTI_COLUMNS = ("added_labels", "removed_labels", "class_noise_scores")


@dataclass(eq=False)
class Survey:
    """What a corrections file of N rows and K classes holds.

    Attributes:
        num_classes: K.
        most: how many rows to rank at most.
        counts: rows, judged, flagged, corrected, unlabelled, trusted, invalid.
        by_class: int64 (3, K), eligible, flagged and corrected rows by given label.
        noise_of_class: float64 (K,), sum of the noise scores of the eligible rows by given label.
        scored_of_class: int64 (K,), how many of these have a score.
        pairs: (given, corrected) labels of the corrected rows, with their numbers.
        scores: int64 (SCORE_BINS,), noise scores of the eligible rows in equal bins of [0, 1].
        flagged_scores: int64 (SCORE_BINS,), the same of the flagged rows.
        ranked: int64 (n,), sample_id of the most suspect rows: flagged ones first, then eligible ones, each by falling
            score, ties in input order.
        invalid: sample_id of the first rows that are not valid.
        proposals: SHA-256 over all scores and all proposed labels: the same for the same findings only.
    """

    num_classes: int
    most: int
    counts: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    invalid: list[int] = field(default_factory=list)
    proposals: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.by_class = np.zeros((3, self.num_classes), np.int64)
        self.noise_of_class = np.zeros(self.num_classes)
        self.scored_of_class = np.zeros(self.num_classes, np.int64)
        self.scores, self.flagged_scores = np.zeros((2, SCORE_BINS), np.int64)
        self.ranked = np.empty(0, np.int64)
        self._ranks = np.empty((2, 0))

    @classmethod
    def of(cls, corrections: Corrections, most: int) -> Survey:
        """Read what is needed of every row; `most` is how many rows to rank at most."""
        names = pa.array(corrections.metadata["class_names"], pa.string())
        is_multi = corrections.metadata["task"] == "multi"
        survey = cls(len(names), most)
        for batch in corrections.batches([*_COLUMNS, *(_MULTI_COLUMNS if is_multi else ())]):
            survey._add(batch, names, is_multi=is_multi)
        return survey

    @property
    def noise_by_class(self) -> list[float | None]:
        """Mean noise score of the eligible rows of each given label; None without rows, or where one has no score."""
        rows = zip(self.noise_of_class, self.by_class[0], self.scored_of_class, strict=True)
        return [float(total / count) if 0 < count == scored else None for total, count, scored in rows]

    def _add(self, batch: pa.RecordBatch, names: pa.Array, *, is_multi: bool) -> None:
        valid, trusted, flagged = (
            _mask(batch, name) for name in ("is_valid", "is_trusted", "is_label_issue")
        )
        labelled = batch.column("given_label").is_valid().to_numpy(zero_copy_only=False)
        score = batch.column("noise_score").to_numpy(zero_copy_only=False)
        kept = labelled & batch.column("corrected_label").is_valid().to_numpy(zero_copy_only=False)
        eligible = eligible_rows(valid, kept, trusted)
        changed = eligible & _changed(batch, is_multi=is_multi)
        self.counts += Counter(
            rows=len(batch),
            judged=int(eligible.sum()),
            flagged=int(flagged.sum()),
            corrected=int(changed.sum()),
            unlabelled=int((~labelled).sum()),
            trusted=int(trusted.sum()),
            invalid=int((~valid).sum()),
        )
        parents, classes = class_indices(batch.column("given_label"), names)
        for number, rows in enumerate((eligible, flagged, changed)):
            self.by_class[number] += np.bincount(classes[rows[parents]], minlength=self.num_classes)
        noise = _noise_of_label(batch, parents, classes) if is_multi else score[parents]
        counted = eligible[parents] & np.isfinite(noise)
        self.noise_of_class += np.bincount(classes[counted], noise[counted], self.num_classes)
        self.scored_of_class += np.bincount(classes[counted], minlength=self.num_classes)
        self.scores += _histogram(score[eligible])
        self.flagged_scores += _histogram(score[flagged])
        self._count_pairs(batch, changed)
        ids = batch.column("sample_id").to_numpy()
        self.invalid += ids[~valid][: INVALID_SHOWN - len(self.invalid)].tolist()
        self._rank(ids, flagged, np.where(flagged | eligible, score, np.nan))
        self._note_proposals(batch, score, flagged)

    def _count_pairs(self, batch: pa.RecordBatch, changed: np.ndarray) -> None:
        rows = pa.array(np.flatnonzero(changed))
        given, corrected = (
            _as_text(batch.column(f"{name}_label").take(rows)) for name in ("given", "corrected")
        )
        self.pairs.update(zip(given, corrected, strict=True))

    def _rank(self, ids: np.ndarray, flagged: np.ndarray, score: np.ndarray) -> None:
        known = np.isfinite(score)
        rows = np.concatenate([self.ranked, ids[known]])
        ranks = np.concatenate([self._ranks, [~flagged[known], -score[known]]], axis=1)
        best = np.lexsort((rows, ranks[1], ranks[0]))[: self.most]
        self.ranked, self._ranks = rows[best], ranks[:, best]

    def _note_proposals(self, batch: pa.RecordBatch, score: np.ndarray, flagged: np.ndarray) -> None:
        self.proposals.update(score.astype("<f4").tobytes())
        proposed = batch.column("corrected_label").take(pa.array(np.flatnonzero(flagged))).to_pylist()
        self.proposals.update(json.dumps(proposed).encode())


def class_indices(labels: pa.Array, names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The labels of n rows as class indices, a dictionary or a list of names for each row.

    Returns:
        (m,) int64 row of each label, ascending, and (m,) int64 its class; a row has none, one or (list) several.
    """
    if pa.types.is_dictionary(labels.type):
        # Row groups may number their dictionaries differently.
        places = pc.index_in(labels.dictionary, value_set=names).take(labels.indices)
        parents = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    else:
        places = pc.index_in(pc.list_flatten(labels), value_set=names)
        parents = pc.list_parent_indices(labels).to_numpy()
    return parents.astype(np.int64), places.drop_null().to_numpy().astype(np.int64)


def _mask(batch: pa.RecordBatch, name: str) -> np.ndarray:
    mask: np.ndarray = batch.column(name).to_numpy(zero_copy_only=False)
    return mask


def _changed(batch: pa.RecordBatch, *, is_multi: bool) -> np.ndarray:
    if is_multi:
        added, removed = (
            pc.fill_null(pc.list_value_length(batch.column(name)), 0) for name in _MULTI_COLUMNS[:2]
        )
        changed = pc.greater(pc.add(added, removed), 0)
    else:
        given, corrected = (
            batch.column(name).cast(pa.string()) for name in ("given_label", "corrected_label")
        )
        changed = pc.fill_null(pc.not_equal(given, corrected), False)
    mask: np.ndarray = changed.to_numpy(zero_copy_only=False)
    return mask


def _noise_of_label(batch: pa.RecordBatch, parents: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The class noise score of each given label, NaN for rows without scores."""
    column = batch.column("class_noise_scores")
    known = column.is_valid().to_numpy(zero_copy_only=False)
    scores = np.full((len(batch), column.type.list_size), np.nan)
    scores[known] = column.drop_null().flatten().to_numpy().reshape(-1, column.type.list_size)
    of_label: np.ndarray = scores[parents, classes]
    return of_label


def _histogram(scores: np.ndarray) -> np.ndarray:
    return np.histogram(scores[np.isfinite(scores)], SCORE_BINS, (0, 1))[0]


def _as_text(labels: pa.Array) -> list[str]:
    return [", ".join(label) if isinstance(label, list) else label for label in labels.to_pylist()]
