"""Suspects: the rows that a page shows, each as the words and numbers that its card needs."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.findings_schema import LATER_COLUMNS, MULTI_COLUMNS, RESERVED_COLUMNS
from labelfix.data.parquet_file import open_parquet_file
from labelfix.results.corrections import Corrections, label_states, number_rows
from labelfix.results.originals import source_options
from labelfix.reviews.noticed import Noticed
from labelfix.reviews.survey import class_indices

_Pair = tuple[tuple[int, ...], tuple[int, ...]]
_LIKELY = 10  # a digit key for each
_DIGITS = 4
_MOST_TEXT = 2_000  # characters of a cell
# Few enough that a thousand probabilities a row take little memory.
_ROWS_AT_ONCE = 8_192
_COLUMNS = (
    "sample_id", "file_name", "given_label", "noise_score", "is_label_issue", "corrected_label",
    "corrected_confidence", "label_distribution", "predicted_label",
)  # fmt: skip

Sample = dict[str, Any]


def read_samples(corrections: Corrections, rows: np.ndarray, noticed: Noticed) -> list[Sample]:
    """The rows with these sample_ids, int64 (n,), in that order, ready for the page but for href and thumb.

    Of a table without images they come with the source's own columns.
    """
    names = pa.array(corrections.metadata["class_names"], pa.string())
    is_multi = corrections.metadata["task"] == "multi"
    there = corrections.schema.names
    seen = [name for name in LATER_COLUMNS if name in there]
    ours = RESERVED_COLUMNS | (MULTI_COLUMNS if is_multi else set())
    own = [] if has_images(corrections) else [name for name in there if name not in ours]
    columns = [*_COLUMNS, *seen, *own, *(["class_noise_scores"] if is_multi else [])]
    above = np.array(corrections.metadata.get("flag_above") or np.ones(len(names)), np.float32)
    found: dict[int, Sample] = {}
    for batch in batches_of(corrections, rows, columns):
        others = batch.select([*seen, *own]).to_pylist()
        samples = _samples(batch, names)
        if is_multi:
            samples = map(operator.or_, samples, _changes(batch, names, above))
        for sample, other in zip(samples, others, strict=True):
            group, outlier = (other.get(name) for name in ("duplicate_group", "outlier_score"))
            found[sample["id"]] = sample | {
                "group": group,
                "outlier": None if outlier is None else round(outlier, _DIGITS),
                "issue": other.get("image_issue"),
                **noticed.marks(group, outlier),
                "columns": [[name, str(other[name])[:_MOST_TEXT]] for name in own if other[name] is not None],
            }
    return [found[row] for row in rows.tolist()]


def has_images(corrections: Corrections) -> bool:
    """Whether the source has images; else its columns are shown."""
    return source_options(corrections.path).get("has_images") is not False


def batches_of(corrections: Corrections, rows: np.ndarray, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows with these sample_ids (n,) in input order; row groups without any are not read."""
    wanted = np.sort(rows)
    with open_parquet_file(corrections.path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum([0, *sizes])
        for group, (first, stop) in enumerate(pairwise(ends)):
            left, right = np.searchsorted(wanted, [first, stop])
            if left == right:
                continue
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                left, right = np.searchsorted(wanted, [first, first + len(batch)])
                batch = corrections.checked(batch, first)
                yield batch.take(pa.array(wanted[left:right] - first))
                first += len(batch)


def ordered(samples: list[Sample], sort: str) -> list[Sample]:
    """Samples, most suspect first, in the order that a page opens with.

    Args:
        samples: by falling noise score.
        sort: "score" leaves them; "class" goes by given label; "confusion" puts the most frequent pair of given and
            suggested label first, and rows without a suggestion last. Within a class or a pair the order stays.
    """
    if sort == "class":
        return sorted(samples, key=lambda sample: _as_tuple(sample["given"]))
    if sort == "confusion":
        number = Counter(map(_pair, samples))
        return sorted(samples, key=lambda sample: _place(_pair(sample), number))
    return samples


def _pair(sample: Sample) -> _Pair:
    return _as_tuple(sample["given"]), _as_tuple(sample["suggested"])


def _place(pair: _Pair, number: Counter[_Pair]) -> tuple[bool, int, _Pair]:
    return pair[0] == pair[1], -number[pair], pair


def _as_tuple(label: int | list[int]) -> tuple[int, ...]:
    return tuple(label) if isinstance(label, list) else (label,)


def _samples(batch: pa.RecordBatch, names: pa.Array) -> Iterator[Sample]:
    """The rows; of rows with several labels `_changes` says what is suggested."""
    is_multi = not pa.types.is_dictionary(batch.schema.field("given_label").type)
    plain = [batch.column(name).to_pylist() for name in ("sample_id", "file_name", "is_label_issue")]
    numbers = [_rounded(batch.column(name)) for name in ("noise_score", "corrected_confidence")]
    labels = [
        _labels(batch.column(name), names, is_multi=is_multi)
        for name in ("given_label", "corrected_label", "predicted_label")
    ]
    likely = _likely(batch.column("label_distribution"))
    for row in zip(*plain, *numbers, *labels, likely, strict=True):
        sample_id, file_name, flagged, score, confidence, given, corrected, predicted, best = row
        suggested = corrected if is_multi else _suggested(given, corrected, predicted, best, flagged=flagged)
        yield {
            "id": sample_id,
            "file": file_name,
            "given": given,
            "corrected": corrected,
            "suggested": suggested,
            "score": score,
            # In what is suggested, which need not be what the method dared to correct to.
            "confidence": confidence if is_multi else dict(best).get(suggested, confidence),
            "flagged": flagged,
            "likely": best,
            "added": [],
            "removed": [],
        }


def _changes(batch: pa.RecordBatch, names: pa.Array, above: np.ndarray) -> Iterator[Sample]:
    """What is suggested of rows with several labels: the corrections, and the other answer for each flagged class.

    Args:
        batch: rows of a table.
        names: the K classes.
        above: (K,) float32, the noise score of a class above which it is flagged.
    """
    given, corrected = (
        label_states(batch.column(f"{name}_label"), names)[0] for name in ("given", "corrected")
    )
    row_is_flagged = batch.column("is_label_issue").to_numpy(zero_copy_only=False)
    flagged = (number_rows(batch.column("class_noise_scores")) > above) & row_is_flagged[:, None]
    suggested = np.where(flagged, ~given, corrected)
    probs = number_rows(batch.column("label_distribution"))
    sure = np.where(suggested, probs, 1 - probs).min(axis=1).astype(np.float64).round(_DIGITS)
    masks = (suggested, suggested & ~given, given & ~suggested)
    for row, confidence in enumerate(sure.tolist()):
        labels = [np.flatnonzero(mask[row]).tolist() for mask in masks]
        yield {
            **dict(zip(("suggested", "added", "removed"), labels, strict=True)),
            "confidence": None if math.isnan(confidence) else confidence,
        }


def _suggested(
    given: int, corrected: int, predicted: int | None, likely: list[tuple[int, float]], *, flagged: bool
) -> int:
    """What to accept: the correction; where a flagged row has none the most likely of the other classes.

    A row that is not flagged has the method's trust: nothing else is suggested for it.
    """
    if not flagged:
        return corrected
    others = [corrected, *(label for label, _ in likely), predicted]
    return next((label for label in others if label not in (given, None)), corrected)


def _labels(column: pa.Array, names: pa.Array, *, is_multi: bool) -> list[Any]:
    """A class index or None for each row; multi-label: a list of them."""
    parents, classes = class_indices(column, names)
    lists: list[list[int]] = [[] for _ in range(len(column))]
    for parent, label in zip(parents.tolist(), classes.tolist(), strict=True):
        lists[parent].append(label)
    return lists if is_multi else [labels[0] if labels else None for labels in lists]


def _likely(column: pa.Array) -> list[list[tuple[int, float]]]:
    """The most probable classes of each row with their probabilities, falling; none where the row has none."""
    known = column.is_valid().to_numpy(zero_copy_only=False)
    probs = column.drop_null().flatten().to_numpy().reshape(-1, column.type.list_size)
    best = np.argsort(-probs, axis=1, kind="stable")[:, :_LIKELY]
    shares = np.take_along_axis(probs, best, axis=1).astype(np.float64).round(_DIGITS)
    found = (
        list(zip(labels, some, strict=True))
        for labels, some in zip(best.tolist(), shares.tolist(), strict=True)
    )
    return [next(found) if is_known else [] for is_known in known]


def _rounded(column: pa.Array) -> list[float | None]:
    return [None if value is None else round(value, _DIGITS) for value in column.to_pylist()]
