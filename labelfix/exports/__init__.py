"""Exports: the corrected labels in the format of the tool that comes next; one target per file.

A target is a module with `SUFFIX` and `write(path, schema, batches)`, which writes the batches to the path
and returns what it has to report. To add one: its file, and a line in `TARGETS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.corrections import Corrections
from labelfix.errors import InputError
from labelfix.exports import csv, jsonl, parquet
from labelfix.exports.rows import Choice, as_text, chosen_rows, export_columns, shown_columns, shown_schema
from labelfix.originals import scanned_source
from labelfix.tables import atomic_path

__all__ = ["TARGETS", "Choice", "export"]


class Target(Protocol):
    """What every target's module offers."""

    SUFFIX: str

    def write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        """Write the batches to `path`; return the target's own part of the summary."""


TARGETS: dict[str, Target] = {"csv": csv, "jsonl": jsonl, "parquet": parquet}


def export(
    corrections: str | Path,
    *,
    to: str | None = None,
    out: str | Path | None = None,
    min_score: float | None = None,
    only_issues: bool = False,
    top: int | None = None,
    action: str = "relabel",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the corrected labels, a row per valid labelled sample; an earlier export is replaced.

    Without `to` a CSV with exactly `file_name,label`. With it `file_name`, `label`, `given_label`,
    `noise_score`, `is_label_issue` and the source's own columns; one called `label` becomes `source_label`.
    `label` is always the corrected one.

    Args:
        corrections: a corrections file or a run folder.
        to: csv, jsonl or parquet.
        out: the file; `corrected.<extension>` beside the corrections by default.
        min_score: only rows with at least this noise score; excludes the next two.
        only_issues: only flagged rows.
        top: only so many rows, those with the highest noise scores, highest first.
        action: "relabel", or "drop" to leave flagged rows out (before the filters).
        dry_run: count, but write nothing.

    Returns:
        JSON-able. path, to, rows, changed (rows whose label is not the given one), left_out, dry_run; and
        escaped_cells for csv (None on a dry run).

    Raises:
        InputError: not a corrections file, an unknown target or action, filters that exclude each other, or
            an `out` that must not be written.
    """
    choice = Choice(min_score, only_issues, top, action)
    choice.check()
    name = to if to is not None else "csv"
    if name not in TARGETS:
        raise InputError(f"--to {name}: it is one of {', '.join(TARGETS)}")
    opened = Corrections.open(corrections)
    path = _checked_out(opened, name, None if out is None else Path(out))
    columns = export_columns(opened, choice, with_findings=to is not None)
    tally = _Tally()
    batches = tally.counted(chosen_rows(opened, choice, columns), columns)
    report: dict[str, Any] = {}
    if dry_run:
        for _ in batches:
            pass
        report = {"escaped_cells": None} if name == "csv" else {}
    else:
        with atomic_path(path) as temporary:
            report = TARGETS[name].write(temporary, shown_schema(opened, choice, columns), batches)
    return {
        "path": str(path),
        "to": name,
        "rows": tally.rows,
        "changed": tally.changed,
        "left_out": opened.num_rows - tally.rows,
        **report,
        "dry_run": dry_run,
    }


@dataclass
class _Tally:
    """Counts rows on their way to the file."""

    rows: int = 0
    changed: int = 0

    def counted(self, batches: Iterator[pa.RecordBatch], columns: dict[str, str]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            given, corrected = (as_text(batch.column(name)) for name in ("given_label", "corrected_label"))
            self.rows += len(batch)
            self.changed += pc.sum(pc.not_equal(given, corrected)).as_py() or 0
            yield shown_columns(batch, columns)


def _checked_out(corrections: Corrections, to: str, out: Path | None) -> Path:
    path = corrections.path.parent / f"corrected{TARGETS[to].SUFFIX}" if out is None else out
    if path.is_dir():
        raise InputError(
            f"--out {path} is a folder; name a file in it, as in {path / 'corrected'}{TARGETS[to].SUFFIX}"
        )
    for other, target in TARGETS.items():
        if other != to and path.suffix.lower() == target.SUFFIX:
            raise InputError(f"--out {path} would hold {to}; add --to {other}, or choose another name")
    place = path.resolve()
    if place == corrections.path.resolve():
        raise InputError(f"--out {path} is the corrections file itself; choose another name")
    source = scanned_source(corrections.path)
    if source is not None and (
        place == source.resolve() or (source.is_dir() and place.is_relative_to(source.resolve()))
    ):
        raise InputError(
            f"--out {path} lies in the source {source}, where nothing is written; choose another"
        )
    return path
