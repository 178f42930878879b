"""Trusted: labels that a person has verified, from the column is_trusted and from a --trusted file."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import InputError
from labelfix.manifest import Manifest
from labelfix.sources.delimited import delimited_columns
from labelfix.sources.jsonl import jsonl_columns
from labelfix.sources.parquet import parquet_columns

MIN_DIFFERENT = 20  # verified labels that differ from the given ones, from which half of the file is scored

_READERS = {
    ".csv": delimited_columns,
    ".tsv": delimited_columns,
    ".jsonl": jsonl_columns,
    ".parquet": parquet_columns,
}
_COLUMNS = ("sample_id", "file_name", "label", "decision")
_COUNTS = ("accept", "keep", "change")
_SKIP = "skip"
_WHOLE = re.compile(r"([0-9]{1,18})(?:\.0+)?")


@dataclass(frozen=True, eq=False)
class Trusted:
    """Verified labels, row by row of a manifest.

    Attributes:
        label: (N,) int64 verified class index, -1 where the row is not trusted; read-only.
        is_scored: (N,) bool, trusted rows that are treated as ordinary rows with their given label, so that
            findings can be checked on them; read-only. Where 20 or more rows of the file differ from their given
            label, these are its 2nd, 4th, ... row of each verified class by sample_id, among those that have a
            given label and are trained on; else none.
        sha256: hexadecimal SHA-256 of the --trusted file; "" without one.
    """

    label: np.ndarray
    is_scored: np.ndarray
    sha256: str

    @classmethod
    def of(cls, manifest: Manifest, path: str | Path | None) -> Trusted:
        """The trusted rows of a manifest: those it marks itself, and those of a --trusted file, which outranks it.

        Args:
            manifest: the source.
            path: .csv, .tsv, .jsonl or .parquet with `sample_id` or `file_name`, `label`, and maybe `decision`:
                accept, keep and change count, skip does not. Rows join by sample_id where that column is there.
                Rows beyond the manifest's `limit` are skipped. None: no file.

        Raises:
            InputError: anything wrong with the file or one of its rows; says the way out.
        """
        label = np.where(manifest.is_trusted, manifest.given, -1)
        is_scored = np.zeros(manifest.num_rows, bool)
        sha256 = ""
        if path is not None:
            file = Path(os.path.abspath(Path(path).expanduser()))
            rows, verified, sha256 = _read(file, manifest)
            label[rows] = verified
            is_scored[_scored(rows, verified, manifest)] = True
        label.flags.writeable = is_scored.flags.writeable = False
        return cls(label, is_scored, sha256)


@dataclass(frozen=True)
class _Entries:
    """The rows of a trusted file that count.

    Attributes:
        path: the file.
        rows: the row of each entry in the file, from 0.
        labels: its label; None where empty.
        sample_ids: text; None without the column.
        file_names: text, None where empty; None without the column.
    """

    path: Path
    rows: list[int]
    labels: list[str | None]
    sample_ids: list[str | None] | None
    file_names: list[str | None] | None


def _read(path: Path, manifest: Manifest) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows of the manifest, their verified classes, both (n,) int64, and the SHA-256 of the file."""
    sha256 = _hash(path)
    entries = _entries(path)
    places = _by_name(entries, manifest) if entries.sample_ids is None else _by_id(entries, manifest)
    index = {name: number for number, name in enumerate(manifest.class_names)}
    found: dict[int, tuple[int, int]] = {}
    for entry, (row, label) in enumerate(zip(entries.rows, entries.labels, strict=True)):
        place = int(places[entry])
        if place < 0:
            continue
        if label is None:
            raise InputError(f"{path}: row {row} has no label; give it one, or take the row out")
        if label not in index:
            raise InputError(
                f"{path}: row {row} has the label {label!r}, which is no class of {manifest.source}"
                f" ({_shown(manifest.class_names)}); correct it, or take the row out"
            )
        first, known = found.setdefault(place, (row, index[label]))
        if known != index[label]:
            raise InputError(
                f"{path}: rows {first} and {row} give one sample two labels,"
                f" {manifest.class_names[known]!r} and {label!r}; keep one"
            )
    if not found:
        raise InputError(
            f"{path}: none of its rows is among the first {manifest.limit} of {manifest.source}; raise --rows"
        )
    rows = np.array(list(found), np.int64)
    return rows, np.array([label for _, label in found.values()], np.int64), sha256


def _hash(path: Path) -> str:
    if path.suffix.lower() not in _READERS:
        raise InputError(f"--trusted {path}: a trusted file is one of {', '.join(_READERS)}")
    if not path.exists():
        raise InputError(f"--trusted {path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"--trusted {path} is no regular file; name one of {', '.join(_READERS)}")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"--trusted {path} cannot be read: {error.strerror}") from None


def _entries(path: Path) -> _Entries:
    names, cells = _READERS[path.suffix.lower()](path, _COLUMNS)
    there = ", ".join(map(repr, names)) or "none"
    if "label" not in cells:
        raise InputError(f"{path}: no column 'label'; its columns are {there}: name the verified labels so")
    if not {"sample_id", "file_name"} & set(cells):
        raise InputError(
            f"{path}: no column 'sample_id' or 'file_name'; its columns are {there}: add one of the two"
        )
    rows = list(range(len(cells["label"])))
    if "decision" in cells:
        decisions = [(text or "").strip().lower() for text in cells["decision"].to_pylist()]
        rows = [row for row in rows if _does_count(decisions[row], path, row)]
    if not rows:
        raise InputError(f"{path} verifies nothing: it holds no row that counts; leave out --trusted")
    texts = {name: column.take(pa.array(rows)).to_pylist() for name, column in cells.items()}
    labels = [(text or "").strip() or None for text in texts["label"]]
    return _Entries(path, rows, labels, texts.get("sample_id"), texts.get("file_name"))


def _does_count(decision: str, path: Path, row: int) -> bool:
    if decision not in (*_COUNTS, _SKIP):
        raise InputError(
            f"{path}: row {row} has the decision {decision!r}; write one of {', '.join((*_COUNTS, _SKIP))}"
        )
    return decision != _SKIP


def _by_id(entries: _Entries, manifest: Manifest) -> np.ndarray:
    """(n,) int64 row of the manifest for each entry; -1 beyond its limit."""
    assert entries.sample_ids is not None
    path, last = entries.path, manifest.num_rows - 1
    places = np.empty(len(entries.rows), np.int64)
    for entry, (row, text) in enumerate(zip(entries.rows, entries.sample_ids, strict=True)):
        number = _WHOLE.fullmatch((text or "").strip())
        place = int(number[1]) if number else -1
        if number is None or (place > last and not _is_cut(manifest)):
            raise InputError(
                f"{path}: row {row} has the sample_id {text or ''!r}; {manifest.source} has the rows 0 to {last}"
            )
        places[entry] = place if place <= last else -1
    if entries.file_names is not None:
        _check_names(entries, places, manifest)
    return places


def _check_names(entries: _Entries, places: np.ndarray, manifest: Manifest) -> None:
    """Refuse a sample_id whose row has another file name than the file says."""
    assert entries.file_names is not None
    names = manifest.file_names().take(pa.array(places, mask=places < 0)).to_pylist()
    for row, place, name, said in zip(entries.rows, places, names, entries.file_names, strict=True):
        if place >= 0 and said and said != name and manifest.name_of(said) != name:
            raise InputError(
                f"{entries.path}: row {row} says {said!r}, but sample_id {place} of {manifest.source} is"
                f" {name!r}; is it of another source? Correct one, or take one of the two columns out"
            )


def _by_name(entries: _Entries, manifest: Manifest) -> np.ndarray:
    """(n,) int64 row of the manifest for each entry; -1 where its name is not among the first rows."""
    assert entries.file_names is not None
    path = entries.path
    for row, name in zip(entries.rows, entries.file_names, strict=True):
        if not name:
            raise InputError(f"{path}: row {row} has no file_name; give it one, or take the row out")
    said = [name for name in entries.file_names if name]
    plain = [manifest.name_of(name) for name in said]
    found = _find({*said, *plain}, manifest)
    places = np.empty(len(said), np.int64)
    for entry, (row, name, other) in enumerate(zip(entries.rows, said, plain, strict=True)):
        place, count = found.get(name) or found.get(other) or (-1, 0)
        if count > 1:
            raise InputError(
                f"{path}: row {row}: {count} rows of {manifest.source} are called {name!r}; name rows by sample_id"
            )
        if count == 0 and not _is_cut(manifest):
            raise InputError(
                f"{path}: row {row}: {manifest.source} has no {name!r}; write file names as they stand in"
                " corrections.parquet, or name rows by sample_id"
            )
        places[entry] = place
    return places


def _find(wanted: set[str], manifest: Manifest) -> dict[str, tuple[int, int]]:
    """The last row that has each name, and how many have it; names that none has are left out."""
    names = pa.array(sorted(wanted), pa.string())
    last, count = np.full(len(names), -1), np.zeros(len(names), np.int64)
    start = 0
    for chunk in manifest.file_names().chunks:
        place = pc.fill_null(pc.index_in(chunk, value_set=names), -1).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(place >= 0)
        last[place[rows]] = start + rows
        count += np.bincount(place[rows], minlength=len(names))
        start += len(chunk)
    found = zip(names.to_pylist(), last.tolist(), count.tolist(), strict=True)
    return {name: (row, times) for name, row, times in found if times}


def _is_cut(manifest: Manifest) -> bool:
    """Whether the source may have rows that were not read."""
    return manifest.limit == manifest.num_rows


def _scored(rows: np.ndarray, verified: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Rows among (n,) `rows` that are treated as ordinary ones, see `Trusted.is_scored`."""
    given = manifest.given[rows]
    if ((given >= 0) & (given != verified)).sum() < MIN_DIFFERENT:
        return np.empty(0, np.int64)
    usable = (given >= 0) & ~manifest.held_out[rows]
    by_class = [np.sort(rows[usable & (verified == label)])[1::2] for label in np.unique(verified)]
    return np.concatenate(by_class)


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
