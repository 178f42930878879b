"""Which rows and columns of the corrections an export holds; read a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.choices import EXPORT_ACTIONS, EXPORT_DEDUPES
from labelfix.data.findings_schema import (
    MULTI_COLUMNS,
    RESERVED_COLUMNS,
    REVIEW_COLUMNS,
    REVIEW_STATUS,
    REVIEWED_LABEL,
)
from labelfix.data.verified_labels import PARTLY, REMOVE
from labelfix.errors import InputError
from labelfix.exports.base import without_views
from labelfix.exports.dedupe import COPY_COLUMNS, left_out
from labelfix.results.corrections import ROW_GROUP, Corrections, label_lists, label_states
from labelfix.results.decisions import Decisions

_DECISIVE = ("is_valid", "given_label", "corrected_label", "is_label_issue", "noise_score", "is_trusted")
_LABELS = ("given_label", "corrected_label", "image_issue")
_CHANGES = ("added_labels", "removed_labels")
_FINDINGS = ("given_label", "noise_score", "is_label_issue")
# Shown where a run has them.
_SEEN = ("duplicate_group", "outlier_score", "image_issue")


@dataclass(frozen=True)
class Choice:
    """Which rows to export: valid ones with a given, verified or reviewed label, and of those what the filters leave.

    Attributes:
        min_score: only rows with at least this noise score, in [0, 1]; no trusted ones, which nobody need look at.
        only_issues: only flagged rows.
        top: only so many rows with the highest noise scores, highest first; no trusted ones either.
        action: "relabel" keeps flagged rows, "drop" leaves out those that nobody has decided on, or not wholly, before
            any filter.
        decisions: of a person, which outrank the method; None for none.
        dedupe: "keep-one" or "drop-conflicts", see `dedupe.left_out`, before `top`; None keeps all copies.
        left_out: (n,) int64 sample_ids of copies that do not count, once they are known.
        keep_removed: whether rows that a person has removed stay, without a label.
    """

    min_score: float | None = None
    only_issues: bool = False
    top: int | None = None
    action: str = "relabel"
    decisions: Decisions | None = None
    dedupe: str | None = None
    left_out: np.ndarray | None = None
    keep_removed: bool = False

    def checked(self) -> Choice:
        """This choice, whose filters make sense, alone and together.

        Raises:
            InputError: names the option.
        """
        filters = {
            "--min-score": self.min_score is not None,
            "--only-issues": self.only_issues,
            "--top": self.top is not None,
        }
        given = [name for name, is_given in filters.items() if is_given]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} exclude each other; give one of them")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise InputError(f"--min-score {self.min_score}: noise scores go from 0 to 1")
        if self.top is not None and self.top < 1:
            raise InputError(f"--top {self.top}: export at least 1 row")
        if self.action not in EXPORT_ACTIONS:
            raise InputError(f"--action {self.action}: it is one of {', '.join(EXPORT_ACTIONS)}")
        if self.dedupe is not None and self.dedupe not in EXPORT_DEDUPES:
            raise InputError(f"--dedupe {self.dedupe}: it is one of {', '.join(EXPORT_DEDUPES)}")
        if self.action == "drop" and self.only_issues:
            raise InputError("--action drop leaves out what --only-issues asks for; give one of them")
        return self


def export_columns(corrections: Corrections, choice: Choice, *, with_findings: bool) -> dict[str, str]:
    """Names in the export, and the column of the corrections that each shows.

    Args:
        corrections: to export.
        choice: of the rows; with decisions there are columns `reviewed_label` and `review_status`.
        with_findings: also given label, score, flag, what was decided, and the pass-through columns.

    Raises:
        InputError: two columns would have the same name.
    """
    columns = {"file_name": "file_name", "label": "corrected_label"}
    if not with_findings:
        return columns
    columns |= {name: name for name in (*_FINDINGS, *(_CHANGES if corrections.is_multi else ()))}
    if choice.decisions is not None:
        columns |= {name: name for name in REVIEW_COLUMNS}
    columns |= {name: name for name in _SEEN if corrections.has_values(name)}
    for name in corrections.schema.names:
        if name in RESERVED_COLUMNS or (corrections.is_multi and name in MULTI_COLUMNS):
            continue
        shown = "source_label" if name == "label" else name
        if shown in columns:
            other = "'label' and 'source_label' would both be" if shown == "source_label" else "one more is"
            raise InputError(
                f"{corrections.path}: of the source's columns and those of the export {other} called {shown!r};"
                " rename it in the source"
            )
        columns[shown] = name
    return columns


def chosen_rows(
    corrections: Corrections, choice: Choice, columns: dict[str, str]
) -> Iterator[pa.RecordBatch]:
    """Yield the chosen rows, 1 to a row group at a time, with what decides beside what is shown.

    Rows come in input order, with `top` by falling noise score (ties in input order).
    """
    needed = sorted({*_DECISIVE, *columns.values()})
    if choice.dedupe is not None and corrections.has_values("duplicate_group"):
        # A removed row has no label that a copy could contradict, and does not stand for one.
        every = replace(choice, top=None, dedupe=None, keep_removed=False)
        whole = _batches(corrections, every, sorted({*_DECISIVE, *COPY_COLUMNS}))
        rows = (batch.filter(_mask(batch, every)) for batch in whole)
        choice = replace(choice, left_out=left_out(rows, choice.dedupe))
        needed = sorted({*needed, "sample_id"})
    if choice.top is None:
        for batch in _batches(corrections, choice, needed):
            chosen = batch.filter(_mask(batch, choice))
            # Readers such as `datasets` trip over a row group without rows.
            if len(chosen):
                yield chosen
        return
    ranked = _ranked(corrections, choice, choice.top)
    for first in range(0, len(ranked), ROW_GROUP):
        yield _taken(corrections, choice, ranked[first : first + ROW_GROUP], needed)


def shown_schema(corrections: Corrections, choice: Choice, columns: dict[str, str]) -> pa.Schema:
    """The schema of `shown_columns` of the batches of `chosen_rows`."""
    found = corrections.schema.remove_metadata()
    if choice.decisions is not None:
        kinds = pa.list_(pa.string()) if corrections.is_multi else pa.string(), pa.string()
        found = pa.schema([*found, *map(pa.field, REVIEW_COLUMNS, kinds)])
    return shown_columns(without_views(pa.RecordBatch.from_pylist([], schema=found)), columns).schema


def _batches(corrections: Corrections, choice: Choice, needed: list[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of the rows in order; decisions beside them, and in place of the corrected label."""
    if choice.decisions is None:
        yield from map(without_views, corrections.batches(needed))
        return
    first = 0
    for batch in map(
        without_views, corrections.batches([name for name in needed if name not in REVIEW_COLUMNS])
    ):
        reviewed, status = choice.decisions.of(first, len(batch))
        first += len(batch)
        corrected = as_text(batch.column("corrected_label"))
        corrected = pc.if_else(reviewed.is_valid(), reviewed, corrected)
        corrected = pc.if_else(_is(status, REMOVE), pa.scalar(None, corrected.type), corrected)
        decided = batch.set_column(
            batch.schema.get_field_index("corrected_label"), "corrected_label", corrected
        )
        if corrections.is_multi:
            decided = _with_changes(decided, corrections)
        yield decided.append_column(REVIEWED_LABEL, reviewed).append_column(REVIEW_STATUS, status)


def shown_columns(batch: pa.RecordBatch, columns: dict[str, str]) -> pa.RecordBatch:
    """The columns of an export, labels as plain text."""
    arrays = [
        as_text(batch.column(name)) if name in _LABELS else batch.column(name) for name in columns.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def as_text(labels: pa.Array) -> pa.Array:
    """A label column as plain strings; lists of labels as they are."""
    return labels if pa.types.is_list(labels.type) else labels.cast(pa.string())


def differ(first: pa.Array, second: pa.Array) -> pa.Array:
    """Which of two label columns (n,) are not the same, bool; null is none of any."""
    if not pa.types.is_list(first.type):
        return pc.fill_null(pc.not_equal(first, second), True)
    pairs = zip(first.to_pylist(), second.to_pylist(), strict=True)
    return pa.array(
        [one is None or other is None or set(one) != set(other) for one, other in pairs], pa.bool_()
    )


def _with_changes(batch: pa.RecordBatch, corrections: Corrections) -> pa.RecordBatch:
    """The rows with the labels that are added and removed by what a person decided too."""
    names = pa.array(corrections.metadata["class_names"], pa.string())
    (before, given), (after, decided) = (
        label_states(batch.column(name), names) for name in ("given_label", "corrected_label")
    )
    for name, changed in zip(_CHANGES, (after & ~before, before & ~after), strict=True):
        place = batch.schema.get_field_index(name)
        if place >= 0:
            batch = batch.set_column(place, name, label_lists(changed, given & decided, names))
    return batch


def _is(status: pa.Array, decision: str) -> pa.Array:
    return pc.fill_null(pc.equal(status, decision), False)


def _mask(batch: pa.RecordBatch, choice: Choice) -> pa.Array:
    flagged = batch.column("is_label_issue")
    labelled = pc.or_(pc.is_valid(batch.column("given_label")), batch.column("is_trusted"))
    decided = pa.scalar(False)
    if choice.decisions is not None:
        decided = pc.is_valid(batch.column(REVIEWED_LABEL))
        labelled = pc.or_(labelled, decided)
        # Something of it is still open.
        decided = pc.and_(decided, pc.invert(_is(batch.column(REVIEW_STATUS), PARTLY)))
    mask = pc.and_(pc.and_(batch.column("is_valid"), labelled), pc.is_valid(batch.column("corrected_label")))
    if choice.keep_removed:
        mask = pc.or_(mask, _is(batch.column(REVIEW_STATUS), REMOVE))
    if choice.action == "drop":
        mask = pc.and_(mask, pc.or_(pc.invert(flagged), decided))
    if choice.left_out is not None:
        goes = np.isin(batch.column("sample_id").to_numpy(), choice.left_out)
        mask = pc.and_(mask, pa.array(~goes))
    if choice.only_issues:
        mask = pc.and_(mask, flagged)
    if choice.min_score is not None or choice.top is not None:
        mask = pc.and_(mask, pc.invert(batch.column("is_trusted")))
    if choice.min_score is not None:
        # Scores are float32: 0.9 has to be found by 0.9.
        least = pa.scalar(choice.min_score, pa.float32())
        mask = pc.and_(mask, pc.fill_null(pc.greater_equal(batch.column("noise_score"), least), False))
    if choice.top is not None:
        mask = pc.and_(mask, pc.is_valid(batch.column("noise_score")))
    return mask


def _ranked(corrections: Corrections, choice: Choice, count: int) -> np.ndarray:
    """Rows (n,) int64 of the `count` highest noise scores, highest first."""
    rows, scores = np.empty(0, np.int64), np.empty(0, np.float32)
    first = 0
    for batch in _batches(corrections, choice, [*_DECISIVE, "sample_id"]):
        found = np.flatnonzero(_mask(batch, choice).to_numpy(zero_copy_only=False))
        rows = np.concatenate([rows, first + found])
        scores = np.concatenate([scores, batch.column("noise_score").take(pa.array(found)).to_numpy()])
        best = np.argsort(-scores, kind="stable")[:count]
        rows, scores = rows[best], scores[best]
        first += len(batch)
    return rows


def _taken(corrections: Corrections, choice: Choice, rows: np.ndarray, needed: list[str]) -> pa.RecordBatch:
    """Some rows in the order asked for, found in one pass over the file."""
    ascending = np.sort(rows)
    parts, first = [], 0
    for batch in _batches(corrections, choice, needed):
        left, right = np.searchsorted(ascending, [first, first + len(batch)])
        parts.append(batch.take(pa.array(ascending[left:right] - first)))
        first += len(batch)
    # Row groups may number their dictionaries differently.
    table = pa.Table.from_batches(parts).unify_dictionaries()
    return table.take(pa.array(np.searchsorted(ascending, rows))).combine_chunks().to_batches()[0]
