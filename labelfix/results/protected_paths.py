"""What no export or page replaces or writes into: the source and its images, the run and what a person decided."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.data.readers import Query, open_source
from labelfix.data.readers.image_places import folders_of
from labelfix.errors import InputError
from labelfix.output_paths import check_output, holding, identity, source_places
from labelfix.results.corrections import METADATA_KEY, Corrections
from labelfix.results.decisions import decision_files
from labelfix.results.originals import scanned_source, source_options, verified_and_test

_LONGEST_HEADER = 1 << 16


def check_protected(
    corrections: Corrections, out: Path, source: Any, decisions: str | Path | Sequence[str | Path] | None
) -> None:
    """Refuse to write where something lies that has to stay.

    Args:
        corrections: that are exported.
        out: a file or folder, there or not.
        source: where the images are now, as the user gives it.
        decisions: the files of a person's decisions.

    Raises:
        InputError: `out` is the corrections, the decisions, a file of a run or one that it was given, holds other
            findings or decisions, or lies in the source.
    """
    if identity(out) == identity(corrections.path):
        raise InputError(f"--out {out} is the corrections file itself; choose another name")
    given = list(verified_and_test(corrections.path).items())
    given += [("--decisions", file) for file in decision_files(decisions) if file.is_file()]
    for option, place in given:
        if holding(out, [place]) is not None:
            where = f"lies in {place}, the source of" if place.is_dir() else "is the file of"
            raise InputError(f"--out {out} {where} {option}; choose another name")
    if out.is_file():
        _check_work(out)
    check_output(out, {"the source": _places(corrections, source)})


def _places(corrections: Corrections, source: Any) -> Iterator[Path]:
    """Where nothing is written: the source that was scanned, and the one that is named now, with their images."""
    options = source_options(corrections.path)
    named = Path(source).expanduser().absolute() if isinstance(source, str | os.PathLike) else None
    sources = [place for place in (scanned_source(corrections.path), named) if place is not None]
    folders: set[str] = set()
    for batch in corrections.batches(["file_name"]):
        folders |= folders_of(batch.column(0))
    if options.get("root") is not None:
        root, scanned = Path(options["root"]), scanned_source(corrections.path)
        yield from source_places(scanned, root, folders, is_root_given=scanned is not None)
    for place in sources:
        base = place if place.is_dir() else place.parent
        yield from source_places(place, base, folders if _names_are_paths(corrections.path, place) else ())


def _check_work(out: Path) -> None:
    """Refuse to replace findings of any run, and decisions of a person; a file that cannot be read is neither."""
    try:
        if out.suffix.lower() == ".parquet":
            if METADATA_KEY in (pq.read_schema(out).metadata or {}):
                raise InputError(f"--out {out} holds findings of labelfix; choose another name")
            return
        with out.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(_LONGEST_HEADER)
        names = json.loads(first) if first.startswith("{") else next(csv.reader([first]), [])
    except (OSError, ValueError, csv.Error, pa.ArrowInvalid):
        return
    if "decision" in names:
        raise InputError(f"--out {out} holds what a person decided; choose another name")


def holds_images(corrections: Path, source: Any) -> bool:
    """Whether the images of a run lie inside its source, and are no files; False where that cannot be found out.

    Args:
        corrections: the file.
        source: where the images are now, as the user gives it.

    Raises:
        InputError: the source is there, but can no more be read.
    """
    options = source_options(corrections)
    place = source if isinstance(source, str | os.PathLike) else options.get("source")
    if place is None:
        return bool(options) and options.get("root") is None
    path = Path(place).expanduser()
    if not (path.is_dir() or (path.is_file() and path.suffix.lower() in (".parquet", ".tar"))):
        return False
    columns = options.get("image_column"), options.get("label_column")
    return open_source(Query(path, None, None, *columns, require_labels=False, task="auto")).holds_images


def _names_are_paths(corrections: Path, source: Path) -> bool:
    try:
        return not holds_images(corrections, source)
    except InputError:
        return True  # it has changed since; then more is protected, not less
