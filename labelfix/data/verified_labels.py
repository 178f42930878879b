"""Trusted: labels that a person has verified, from the column is_trusted and from a --trusted file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelfix.data.manifest import Manifest
from labelfix.data.verified_files import Known, read_verified, sha256_of
from labelfix.errors import InputError

MIN_DIFFERENT = 20  # verified labels that differ from the given ones, from which half of the file is scored


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
            sha256 = sha256_of(file, "--trusted")
            rows, verified = _read(file, manifest)
            label[rows] = verified
            is_scored[_scored(rows, verified, manifest)] = True
        label.flags.writeable = is_scored.flags.writeable = False
        return cls(label, is_scored, sha256)


def _read(path: Path, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the manifest and their verified classes, both (n,) int64."""
    known = Known(
        str(manifest.source),
        manifest.class_names,
        manifest.file_names(),
        manifest.name_of,
        is_cut=manifest.limit == manifest.num_rows,
    )
    found = read_verified(path, known)
    counts = found.labels >= 0
    if not counts.any():
        some = f"none of its rows is among the first {manifest.limit} of {manifest.source}; raise --rows"
        none = "it holds no row that counts; leave out --trusted"
        raise InputError(f"{path} verifies nothing: {some if found.num_left_out else none}")
    return found.rows[counts], found.labels[counts]


def _scored(rows: np.ndarray, verified: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Rows among (n,) `rows` that are treated as ordinary ones, see `Trusted.is_scored`."""
    given = manifest.given[rows]
    if ((given >= 0) & (given != verified)).sum() < MIN_DIFFERENT:
        return np.empty(0, np.int64)
    usable = (given >= 0) & ~manifest.held_out[rows]
    by_class = [np.sort(rows[usable & (verified == label)])[1::2] for label in np.unique(verified)]
    return np.concatenate(by_class)
