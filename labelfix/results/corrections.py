"""The output contract: schema, streaming writer and reader of corrections.parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.atomic_files import atomic_path
from labelfix.data.findings_schema import LATER_COLUMNS, findings_fields, multi_label_fields
from labelfix.data.images.issues import ISSUES
from labelfix.data.manifest import Manifest
from labelfix.data.parquet_file import open_parquet_file
from labelfix.errors import InputError
from labelfix.estimation.eligible import eligible_rows
from labelfix.estimation.evidence import Evidence
from labelfix.estimation.verdicts import Verdicts
from labelfix.json_files import (
    Checks,
    are_names,
    is_count,
    is_flag,
    is_share,
    is_text,
    maybe,
    parse_object,
)
from labelfix.results.around import Around

FILE_NAME = "corrections.parquet"
PRED_PROBS_METHOD = "pred-probs"  # of findings that rest on predictions from elsewhere
METADATA_KEY = b"labelfix"
ROW_GROUP = 65_536
_WAY_OUT = "scan again, or name another run"
_METADATA: Checks = {
    "schema_version": lambda value: value == 1,
    "labelfix_version": is_text,
    "class_names": are_names,
    "task": lambda value: value in ("single", "multi"),
    "method": is_text,
    "seed": is_count,
    "flag_rule": is_text,
    "fit_ok": is_flag,
    "noise_rate": maybe(is_share),
    "source_fingerprint": is_text,
    "out_of_sample": is_flag,
    "resumed_elsewhere": is_flag,
}


@dataclass(frozen=True)
class Findings:
    """Everything the table holds of the rows, N rows and K classes.

    Attributes:
        evidence: of the method.
        verdicts: flags and corrected labels.
        probs: (N, K) float32, the classifier's own view; NaN where it has none.
        valid: (N,) bool.
        errors: why a row is not valid, by row.
        trusted: (N,) int64 verified labels, -1 for none; None without any.
        around: what was seen of the rows beside their labels; None where nobody has looked.
        removed: (N,) bool, rows that no label fits, as a person says; None for none.
        said: (N,) int64 given labels as the source has them, where the removed rows count as having none.
    """

    evidence: Evidence
    verdicts: Verdicts
    probs: np.ndarray
    valid: np.ndarray
    errors: dict[int, str]
    trusted: np.ndarray | None = None
    around: Around | None = None
    removed: np.ndarray | None = None
    said: np.ndarray | None = None

    def is_trusted(self, rows: slice = slice(None)) -> np.ndarray:
        """Which of some rows a person has verified, bool."""
        valid = self.valid[rows]
        return np.zeros(len(valid), dtype=bool) if self.trusted is None else self.trusted[rows] >= 0

    def eligible(self, given: np.ndarray) -> np.ndarray:
        """(N,) bool: the eligible rows, by given labels (N,)."""
        return eligible_rows(self.valid, given >= 0, self.is_trusted())

    def noise_rate(self, given: np.ndarray) -> float | None:
        """Mean noise score over the eligible rows; None where no row has a score."""
        noise = self.evidence.noise[self.eligible(given)]
        return float(noise.mean()) if len(noise) and np.isfinite(noise).all() else None


def schema(class_names: Sequence[str], metadata: dict[str, Any], extra: Sequence[pa.Field] = ()) -> pa.Schema:
    """The Arrow schema of corrections.parquet with its metadata, pass-through columns (`extra`) last."""
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True)
    return pa.schema([*findings_fields(len(class_names)), *extra], metadata={METADATA_KEY: text.encode()})


def write(path: Path, manifest: Manifest, findings: Findings, metadata: dict[str, Any]) -> None:
    """Write the table atomically, one row group in memory at a time.

    Args:
        path: of the file.
        manifest: whose rows these are.
        findings: of all rows.
        metadata: of the run: method, seed, resumed_elsewhere.
    """
    known = {"task": manifest.task, "source_fingerprint": manifest.fingerprint, **metadata}
    table_schema = schema(
        manifest.class_names,
        full_metadata(manifest.class_names, manifest.given, findings, known),
        manifest.pass_through_fields,
    )
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, table_schema) as writer:
        first = 0
        for batch in manifest.batches(ROW_GROUP):
            rows = slice(first, first + batch.num_rows)
            found = columns(manifest.class_names, manifest.given, findings, batch.column("file_name"), rows)
            # By position: a pass-through column may be called like one of the manifest's own.
            chunk = pa.RecordBatch.from_arrays([*found, *batch.columns[2:]], schema=table_schema)
            writer.write_batch(chunk, row_group_size=ROW_GROUP)
            first = rows.stop


def table(
    class_names: Sequence[str], given: np.ndarray, findings: Findings, metadata: dict[str, Any]
) -> pa.Table:
    """The findings of rows without a source: named by their number, with no column of their own.

    Args:
        class_names: the K classes.
        given: (N,) int64 given labels, -1 for none.
        findings: of all rows.
        metadata: see `full_metadata`.
    """
    names = pa.array([f"row-{row:09d}" for row in range(len(given))], pa.string())
    found = columns(class_names, given, findings, names, slice(0, len(given)))
    return pa.Table.from_arrays(list(found), schema=schema(class_names, metadata))


def full_metadata(
    class_names: Sequence[str], given: np.ndarray, findings: Findings, metadata: dict[str, Any]
) -> dict[str, Any]:
    """The metadata of the table; JSON-able.

    Args:
        class_names: the K classes.
        given: (N,) int64 given labels, -1 for none.
        findings: of all rows.
        metadata: what only the run knows: task, source_fingerprint, method, seed, resumed_elsewhere; outranks the rest.
    """
    return {
        "schema_version": 1,
        "labelfix_version": version("labelfix"),
        "class_names": list(class_names),
        "score_direction": "noise_score: high = suspect; label_score = 1 - noise_score",
        "flag_rule": str(findings.evidence.rule),
        "fit_ok": findings.verdicts.fit.ok,
        "out_of_sample": False,
        "noise_rate": findings.noise_rate(given),
        **metadata,
    }


def columns(
    class_names: Sequence[str], given: np.ndarray, findings: Findings, file_names: pa.Array, rows: slice
) -> Iterator[pa.Array]:
    """The columns of some rows, in the order of `findings_fields`.

    Args:
        class_names: the K classes.
        given: (N,) int64 given labels of all rows, -1 for none.
        findings: of all rows.
        file_names: of these rows, string (n,).
        rows: which rows these are.
    """
    names = pa.array(class_names, pa.string())
    given, valid = given[rows], findings.valid[rows]
    probs = findings.probs[rows]
    seen = valid & np.isfinite(probs).all(axis=1)
    labelled, trusted = given >= 0, findings.is_trusted(rows)
    soft = np.where((labelled | trusted)[:, None], findings.evidence.probs[rows], probs)
    believed = valid & np.isfinite(soft).all(axis=1)
    noise = findings.evidence.noise[rows]
    scored = valid & labelled & np.isfinite(noise)
    corrected = findings.verdicts.corrected[rows]
    if findings.removed is not None:
        corrected = np.where(findings.removed[rows], -1, corrected)
    decided = believed & (corrected >= 0)
    confidence = soft[np.arange(len(soft)), np.maximum(corrected, 0)]
    score = np.clip(noise, 0, 1).astype(np.float32)
    yield pa.array(np.arange(rows.start, rows.start + len(given)))
    yield file_names
    said = given if findings.said is None else findings.said[rows]
    yield label_array(said, said >= 0, names)
    yield pa.array(score, mask=~scored)
    yield pa.array(1 - score, mask=~scored)
    yield pa.array(findings.verdicts.flagged[rows])
    yield label_array(corrected, corrected >= 0, names)
    yield pa.array(confidence.astype(np.float32), mask=~decided)
    yield distribution_array(soft, believed)
    yield label_array(np.where(seen[:, None], probs, 0).argmax(axis=1), seen, names)
    yield distribution_array(probs, seen)
    yield pa.array(trusted)
    yield pa.array(valid)
    yield error_array(findings.errors, rows.start, valid)
    around = Around(np.full(len(findings.valid), -1)) if findings.around is None else findings.around
    copies, nowhere = around.copies[rows], np.full(len(given), np.nan, np.float32)
    outlier = nowhere if around.outlier_score is None else around.outlier_score[rows]
    yield pa.array(copies, mask=copies < 0)
    yield pa.array(outlier, mask=~np.isfinite(outlier))
    issue = np.full(len(given), -1) if around.image_issue is None else around.image_issue[rows]
    yield label_array(issue, issue >= 0, pa.array(ISSUES, pa.string()))


def label_array(indices: np.ndarray, known: np.ndarray, names: pa.Array) -> pa.DictionaryArray:
    """Class indices (n,) as a dictionary of class names; null where not known (n,) bool."""
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32), mask=~known), names)


def distribution_array(probs: np.ndarray, known: np.ndarray) -> pa.FixedSizeListArray:
    """Probabilities (n, K), made to sum to 1, as lists of float32; null where not known (n,) bool."""
    filled = np.where(known[:, None], probs, 0).astype(np.float32, copy=False)
    filled /= np.maximum(filled.sum(axis=1, keepdims=True, dtype=np.float64), 1e-12)
    return pa.FixedSizeListArray.from_arrays(filled.ravel(), probs.shape[1], mask=pa.array(~known))


def label_lists(has: np.ndarray, known: np.ndarray, names: pa.Array) -> pa.ListArray:
    """The names of the classes that rows have (n, K) bool, list<string>; null where not known (n,) bool."""
    rows, classes = np.nonzero(has & known[:, None])
    ends = np.cumsum(np.bincount(rows, minlength=len(has)))
    # A missing offset makes a null of its row.
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32), mask=np.append(~known, False))
    return pa.ListArray.from_arrays(offsets, names.take(pa.array(classes)))


def label_states(labels: pa.Array, names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `label_lists`: (n, K) bool which classes rows have, and (n,) bool which are known."""
    found = np.zeros((len(labels), len(names)), bool)
    classes = pc.index_in(pc.list_flatten(labels), value_set=names)
    found[pc.list_parent_indices(labels).to_numpy(), classes.to_numpy(zero_copy_only=False)] = True
    return found, labels.is_valid().to_numpy(zero_copy_only=False)


def number_lists(values: np.ndarray, known: np.ndarray) -> pa.FixedSizeListArray:
    """Numbers (n, K) as lists of float32; null where not known (n,) bool."""
    filled = np.where(known[:, None], values, 0).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(filled.ravel(), values.shape[1], mask=pa.array(~known))


def number_rows(lists: pa.FixedSizeListArray) -> np.ndarray:
    """The inverse of `number_lists`: (n, K) float32, NaN rows where there is none."""
    known = lists.is_valid().to_numpy(zero_copy_only=False)
    found = np.full((len(lists), lists.type.list_size), np.nan, np.float32)
    found[known] = lists.drop_null().flatten().to_numpy().reshape(-1, lists.type.list_size)
    return found


def error_array(errors: dict[int, str], first: int, valid: np.ndarray) -> pa.Array:
    """Why rows are not valid, string (n,), null where they are: `errors` by row, from row `first` on."""
    if valid.all():
        return pa.nulls(len(valid), pa.string())
    return pa.array([errors.get(row) for row in range(first, first + len(valid))], pa.string())


@dataclass(frozen=True)
class Corrections:
    """An open corrections file: never a table in memory.

    Attributes:
        path: of the file.
        metadata: what the writer noted of the run (JSON object).
    """

    path: Path
    metadata: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Corrections:
        """Open a corrections file, or the one of a run folder.

        Raises:
            InputError: no such file, or not one that labelfix wrote, or its columns or metadata were changed since.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise InputError(f"{path}: no such corrections file; name a corrections.parquet or a run folder")
        try:
            with open_parquet_file(path) as file:
                found = file.schema_arrow
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: cannot be read as Parquet ({error})") from error
        metadata = found.metadata or {}
        # Predictions have the key too, but find nothing wrong.
        if METADATA_KEY not in metadata or "is_label_issue" not in found.names:
            raise InputError(
                f"{path}: not written by labelfix scan; name a corrections.parquet or a run folder"
            )
        try:
            opened = cls(path, parse_object(metadata[METADATA_KEY], _METADATA))
            opened._check_schema(found)
        except ValueError as error:
            raise InputError(f"{path} is not as labelfix writes it: {error}; {_WAY_OUT}") from None
        return opened

    @property
    def is_multi(self) -> bool:
        """Whether a row may have several labels."""
        return bool(self.metadata["task"] == "multi")

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the file."""
        return pq.read_schema(self.path)

    @property
    def num_rows(self) -> int:
        """N."""
        return int(pq.read_metadata(self.path).num_rows)

    def has_values(self, name: str) -> bool:
        """Whether a column is there and not null in every row, by the statistics of the file."""
        file = pq.read_metadata(self.path)
        places = {file.schema.column(place).path.split(".")[0]: place for place in range(file.num_columns)}
        if name not in places:
            return False
        groups = [file.row_group(number) for number in range(file.num_row_groups)]
        known = [group.column(places[name]).statistics for group in groups]
        return any(
            found is None or found.null_count < group.num_rows
            for found, group in zip(known, groups, strict=True)
        )

    def has_copy(self) -> np.ndarray:
        """(N,) bool, the rows that show the same as another; none in a run of before they were looked for."""
        if not self.has_values("duplicate_group"):
            return np.zeros(self.num_rows, dtype=bool)
        parts = [batch.column(0).is_valid() for batch in self.batches(["duplicate_group"])]
        return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, at most a row group at a time.

        Raises:
            InputError: they cannot be read, or hold what labelfix does not write, see `checked`.
        """
        first = 0
        try:
            with open_parquet_file(self.path) as file:
                for batch in file.iter_batches(ROW_GROUP, columns=columns):
                    batch.validate(full=True)  # text that is no UTF-8, say
                    yield self.checked(batch, first)
                    first += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.path}: cannot be read as Parquet ({error}); {_WAY_OUT}") from None

    def checked(self, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """The same rows, of which the first is row `first`.

        Raises:
            InputError: a sample_id that is not its row, no flag, a label that is no class, a number that is no
                probability.
        """
        for name in set(batch.schema.names) & _VALUES.keys():
            column = batch.column(name)
            if name == "sample_id":
                right = np.array_equal(_numbers(column), np.arange(first, first + len(column)))
            else:
                right = _VALUES[name](column, self.metadata["class_names"])
            if not right:
                where = f"rows {first} to {first + len(batch) - 1} of the column {name!r}"
                raise InputError(f"{self.path} is not as labelfix writes it: see {where}; {_WAY_OUT}")
        return batch

    def _check_schema(self, found: pa.Schema) -> None:
        fields = multi_label_fields if self.is_multi else findings_fields
        kinds = {field.name: field.type for field in fields(len(self.metadata["class_names"]))}
        for name, kind in kinds.items():
            # Runs of before it was written are whole without it.
            if name in LATER_COLUMNS and name not in found.names:
                continue
            if found.names.count(name) != 1 or found.field(name).type != kind:
                raise ValueError(f"it has no column {name!r} of {kind}")


def eligible_in(rows: pa.RecordBatch | pa.Table) -> np.ndarray:
    """(n,) bool: the eligible rows, by the columns is_valid, given_label, corrected_label and is_trusted."""
    # A row that a person has removed has a given label, but none that would be right.
    labelled = pc.and_(pc.is_valid(rows["given_label"]), pc.is_valid(rows["corrected_label"]))
    masks = (rows["is_valid"], labelled, rows["is_trusted"])
    return eligible_rows(*(mask.to_numpy(zero_copy_only=False) for mask in masks))


def _numbers(column: pa.Array) -> np.ndarray:
    """A column without nulls as numbers, or the values of its lists; those that are null are left out."""
    known = column.drop_null()
    found: np.ndarray = (known.flatten() if pa.types.is_nested(known.type) else known).to_numpy(
        zero_copy_only=False
    )
    return found


def _are_probabilities(column: pa.Array, _class_names: list[str]) -> bool:
    """Whether all numbers are from 0 to 1, but for rounding; NaN is not."""
    numbers = _numbers(column)
    return not len(numbers) or bool(numbers.min() >= 0 and numbers.max() <= _MOST)


def _are_rows(column: pa.Array, _class_names: list[str]) -> bool:
    numbers = _numbers(column)
    return not len(numbers) or bool(numbers.min() >= 0)


def _are_flags(column: pa.Array, _class_names: list[str]) -> bool:
    return not column.null_count


def _are_labels(column: pa.Array, class_names: list[str]) -> bool:
    labels = column.dictionary if pa.types.is_dictionary(column.type) else column.flatten()
    return not pc.index_in(labels, value_set=pa.array(class_names, pa.string())).null_count


def _are_file_names(column: pa.Array, _class_names: list[str]) -> bool:
    return not column.null_count and not pc.any(pc.match_substring(column, "\0")).as_py()


_MOST = 1.001
_VALUES = {
    "sample_id": _are_flags,
    "file_name": _are_file_names,
    **dict.fromkeys(
        ("given_label", "corrected_label", "predicted_label", "added_labels", "removed_labels"), _are_labels
    ),
    **dict.fromkeys(("is_label_issue", "is_trusted", "is_valid"), _are_flags),
    "duplicate_group": _are_rows,
    "image_issue": lambda column, _: _are_labels(column, list(ISSUES)),
    **dict.fromkeys(
        ("noise_score", "label_score", "corrected_confidence", "outlier_score"), _are_probabilities
    ),
    **dict.fromkeys(("label_distribution", "predicted_probs", "class_noise_scores"), _are_probabilities),
}


def find_corrections(path: str | Path) -> tuple[Path, str | None]:
    """Resolve what a user calls CORRECTIONS: a corrections file, a run folder, or a bare file name.

    A bare name that does not exist here is looked up in the newest finished run under `runs/`. A run is
    finished when its corrections are there and its `checkpoint/` is not; the newest has the latest
    corrections.

    Returns:
        The path of the file, and a line for the user where it had to be looked up (else None).

    Raises:
        InputError: neither here nor in a run.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            unfinished = (path / "checkpoint").is_dir()
            hint = "the run is unfinished, start the same scan again" if unfinished else "scan first"
            raise InputError(f"{path} holds no {FILE_NAME}: {hint}, or name another run folder")
        return path / FILE_NAME, None
    if path.exists():
        return path, None
    if path.name != str(path):
        raise InputError(f"{path}: no such corrections file; name a corrections.parquet or a run folder")
    runs = [file.parent for file in Path("runs").glob(f"*/{FILE_NAME}")]
    finished = [run for run in runs if not (run / "checkpoint").exists()]
    if not finished:
        raise InputError(f"{path} is not here and no run in runs/ is finished; name a run folder, or scan")
    newest = max(finished, key=lambda run: ((run / FILE_NAME).stat().st_mtime_ns, run.name))
    if not (newest / path).is_file():
        raise InputError(f"{path} is neither here nor in the newest finished run {newest}; name a run folder")
    return newest / path, f"using {newest / path}, from the newest finished run"
