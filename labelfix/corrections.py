"""The output contract: schema, streaming writer and reader of corrections.parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import InputError
from labelfix.evidence import Evidence
from labelfix.manifest import Manifest
from labelfix.parquet_file import open_parquet_file
from labelfix.tables import atomic_path
from labelfix.verdicts import FLAG_RULE, Verdicts

FILE_NAME = "corrections.parquet"
METADATA_KEY = b"labelfix"
ROW_GROUP = 65_536
LABEL_TYPE = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Findings:
    """Everything the table says of the rows, N rows and K classes.

    Attributes:
        evidence: of the method.
        verdicts: flags and corrected labels.
        probs: (N, K) float32, the classifier's own view; NaN where it has none.
        valid: (N,) bool.
        errors: why a row is not valid, by row.
        trusted: (N,) int64 verified labels, -1 for none; None without any.
    """

    evidence: Evidence
    verdicts: Verdicts
    probs: np.ndarray
    valid: np.ndarray
    errors: dict[int, str]
    trusted: np.ndarray | None = None

    def is_trusted(self, rows: slice = slice(None)) -> np.ndarray:
        """Which of some rows a person has verified, bool."""
        valid = self.valid[rows]
        return np.zeros(len(valid), dtype=bool) if self.trusted is None else self.trusted[rows] >= 0

    def judged(self, given: np.ndarray) -> np.ndarray:
        """(N,) bool: the valid, labelled, untrusted rows, by given labels (N,)."""
        return self.valid & (given >= 0) & ~self.is_trusted()

    def noise_rate(self, given: np.ndarray) -> float | None:
        """Mean noise score over the judged rows; None where no row has a score."""
        noise = self.evidence.noise[self.judged(given)]
        return float(noise.mean()) if len(noise) and np.isfinite(noise).all() else None


def schema(manifest: Manifest, metadata: dict[str, Any]) -> pa.Schema:
    """The Arrow schema of corrections.parquet with its metadata, pass-through columns last."""
    probs = pa.list_(pa.float32(), len(manifest.class_names))
    fields = [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string()),
        pa.field("given_label", LABEL_TYPE),
        pa.field("noise_score", pa.float32()),
        pa.field("label_score", pa.float32()),
        pa.field("is_label_issue", pa.bool_(), nullable=False),
        pa.field("corrected_label", LABEL_TYPE),
        pa.field("corrected_confidence", pa.float32()),
        pa.field("label_distribution", probs),
        pa.field("predicted_label", LABEL_TYPE),
        pa.field("predicted_probs", probs),
        pa.field("is_trusted", pa.bool_(), nullable=False),
        pa.field("is_valid", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),
    ]
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True)
    return pa.schema([*fields, *manifest.pass_through_fields], metadata={METADATA_KEY: text.encode()})


def write(path: Path, manifest: Manifest, findings: Findings, metadata: dict[str, Any]) -> None:
    """Write the table atomically, one row group in memory at a time.

    Args:
        path: of the file.
        manifest: whose rows these are.
        findings: of all rows.
        metadata: of the run: method, seed, resumed_elsewhere.
    """
    metadata = {
        "schema_version": 1,
        "labelfix_version": version("labelfix"),
        "class_names": list(manifest.class_names),
        "task": manifest.task,
        "score_direction": "noise_score: high = suspect; label_score = 1 - noise_score",
        "flag_rule": FLAG_RULE,
        "fit_ok": findings.verdicts.fit.ok,
        "source_fingerprint": manifest.fingerprint,
        "out_of_sample": False,
        "noise_rate": findings.noise_rate(manifest.given),
        **metadata,
    }
    table_schema = schema(manifest, metadata)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, table_schema) as writer:
        first = 0
        for batch in manifest.batches(ROW_GROUP):
            rows = slice(first, first + batch.num_rows)
            # By position: a pass-through column may be called like one of the manifest's own.
            columns = [*_columns(manifest, findings, batch, rows), *batch.columns[2:]]
            chunk = pa.RecordBatch.from_arrays(columns, schema=table_schema)
            writer.write_batch(chunk, row_group_size=ROW_GROUP)
            first = rows.stop


def _columns(
    manifest: Manifest, findings: Findings, batch: pa.RecordBatch, rows: slice
) -> Iterator[pa.Array]:
    names = pa.array(manifest.class_names, pa.string())
    given, valid = manifest.given[rows], findings.valid[rows]
    probs = findings.probs[rows]
    seen = valid & np.isfinite(probs).all(axis=1)
    labelled, trusted = given >= 0, findings.is_trusted(rows)
    soft = np.where((labelled | trusted)[:, None], findings.evidence.probs[rows], probs)
    believed = valid & np.isfinite(soft).all(axis=1)
    noise = findings.evidence.noise[rows]
    scored = valid & labelled & np.isfinite(noise)
    corrected = findings.verdicts.corrected[rows]
    decided = believed & (corrected >= 0)
    confidence = soft[np.arange(len(soft)), np.maximum(corrected, 0)]
    score = np.clip(noise, 0, 1).astype(np.float32)
    yield pa.array(np.arange(rows.start, rows.start + len(given)))
    yield batch.column("file_name")
    yield label_array(given, labelled, names)
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


def label_array(indices: np.ndarray, known: np.ndarray, names: pa.Array) -> pa.DictionaryArray:
    """Class indices (n,) as a dictionary of class names; null where not known (n,) bool."""
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32), mask=~known), names)


def distribution_array(probs: np.ndarray, known: np.ndarray) -> pa.FixedSizeListArray:
    """Probabilities (n, K), made to sum to 1, as lists of float32; null where not known (n,) bool."""
    filled = np.where(known[:, None], probs, 0).astype(np.float32, copy=False)
    filled /= np.maximum(filled.sum(axis=1, keepdims=True, dtype=np.float64), 1e-12)
    return pa.FixedSizeListArray.from_arrays(filled.ravel(), probs.shape[1], mask=pa.array(~known))


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
            InputError: no such file, or not one that labelfix wrote.
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
        return cls(path, json.loads(metadata[METADATA_KEY]))

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the file."""
        return pq.read_schema(self.path)

    @property
    def num_rows(self) -> int:
        """N."""
        return int(pq.read_metadata(self.path).num_rows)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, at most a row group at a time."""
        with open_parquet_file(self.path) as file:
            yield from file.iter_batches(ROW_GROUP, columns=columns)


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
