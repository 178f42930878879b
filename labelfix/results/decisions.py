"""Decisions: what a person decided on the suspects in a decisions.csv, which outranks the method."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from labelfix.data.verified_labels import (
    DECISIONS,
    DECISIONS_ON_LISTS,
    REMOVE,
    SEPARATOR,
    SKIP,
    Known,
    Verified,
    read_verified,
    sha256_of,
)
from labelfix.errors import InputError
from labelfix.results.corrections import Corrections, label_lists

_KEPT = DECISIONS.index("keep")


@dataclass(frozen=True, eq=False)
class Decisions:
    """A person's decisions on some rows of a run.

    Attributes:
        rows: (n,) int64 sample_id, ascending.
        labels: (n,) int64 class index, -1 where the decision is to skip or to remove.
        codes: (n,) int64 index into `DECISIONS_ON_LISTS`.
        class_names: of the run.
        states: (n, K) bool, the classes of the rows where they may have several; None for one label a row.
    """

    rows: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    class_names: tuple[str, ...]
    states: np.ndarray | None = None

    @classmethod
    def read(cls, path: str | Path | Sequence[str | Path], corrections: Corrections) -> Decisions:
        """Read `sample_id,file_name,decision,label`, as the review page downloads it (csv, tsv, jsonl or Parquet).

        The decision is accept, keep, change, remove or skip; of rows with several labels also partly, where some of
        the suggested changes are decided on and the label has the others as the method has them. Rows join by sample_id
        where that column is there, and then their file_name has to be the right one; else by file_name. Of
        several files the first that speaks of a row counts: the newest comes first.

        Raises:
            InputError: an unknown row, class or decision; two decisions on one row of a file; keep with another label
                than the given one; a row that has no findings because its image is broken.
        """
        read = [cls._read(file, corrections) for file in decision_files(path)]
        rows, first = np.unique(np.concatenate([each.rows for each in read]), return_index=True)
        labels, codes = (
            np.concatenate([getattr(each, name) for each in read]) for name in ("labels", "codes")
        )
        states = None
        if corrections.is_multi:
            states = np.concatenate([each.states for each in read if each.states is not None])[first]
        return cls(rows, labels[first], codes[first], read[0].class_names, states)

    @classmethod
    def _read(cls, file: Path, corrections: Corrections) -> Decisions:
        sha256_of(file, "--decisions")
        names = tuple(corrections.metadata["class_names"])
        found = read_verified(file, _known(corrections, names))
        if found.decisions is None:
            raise InputError(
                f"{file}: no column 'decision'; write one of {', '.join(DECISIONS)} in every row"
            )
        codes = np.array([DECISIONS_ON_LISTS.index(decision) for decision in found.decisions], np.int64)
        order = np.argsort(found.rows)
        states = found.states[order] if corrections.is_multi else None
        decisions = cls(found.rows[order], found.labels[order], codes[order], names, states)
        _check(decisions, found, order, corrections, file)
        return decisions

    def of(self, first: int, count: int) -> tuple[pa.Array, pa.Array]:
        """What was decided on rows first..first+count-1, both string (count,); the first lists of labels of several.

        Returns:
            `reviewed_label`, null where nothing was decided, or to skip or remove; `review_status`, what was decided,
            null where there is none.
        """
        left, right = np.searchsorted(self.rows, [first, first + count])
        places = self.rows[left:right] - first
        labels, codes = np.full(count, -1), np.full(count, -1)
        labels[places], codes[places] = self.labels[left:right], self.codes[left:right]
        if self.states is not None:
            states = np.zeros((count, len(self.class_names)), bool)
            states[places] = self.states[left:right]
            lists = label_lists(states, labels >= 0, pa.array(self.class_names, pa.string()))
            return lists, _named(codes, DECISIONS_ON_LISTS)
        return _named(labels, self.class_names), _named(codes, DECISIONS)


def decision_files(given: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """The absolute paths of the files of decisions that a user names, none or one or several."""
    files = [given] if isinstance(given, str | os.PathLike) else list(given or ())
    return [Path(os.path.abspath(Path(file).expanduser())) for file in files]


def _named(indices: np.ndarray, names: tuple[str, ...]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(indices, mask=indices < 0))


def _known(corrections: Corrections, class_names: tuple[str, ...]) -> Known:
    batches = corrections.batches(["file_name"])
    file_names = pa.chunked_array([batch.column(0) for batch in batches], pa.string())
    separators = (SEPARATOR,) if corrections.is_multi else ()
    return Known(str(corrections.path), class_names, file_names, str, separators=separators)


def _check(
    decisions: Decisions, found: Verified, order: np.ndarray, corrections: Corrections, file: Path
) -> None:
    """Refuse decisions that contradict the rows that they are about."""
    lines, first = np.array(found.lines)[order], 0
    for batch in corrections.batches(["given_label", "is_valid"]):
        left, right = np.searchsorted(decisions.rows, [first, first + len(batch)])
        places = pa.array(decisions.rows[left:right] - first)
        given = batch.column("given_label").take(places)
        valid = batch.column("is_valid").take(places)
        for place, name, is_valid in zip(
            range(left, right), given.to_pylist(), valid.to_pylist(), strict=True
        ):
            _check_one(decisions, place, name, f"{file}: row {lines[place]}", is_valid=is_valid)
        first += len(batch)


def _check_one(
    decisions: Decisions, place: int, given: str | list[str] | None, where: str, *, is_valid: bool
) -> None:
    sample_id, code, label = decisions.rows[place], decisions.codes[place], decisions.labels[place]
    if DECISIONS_ON_LISTS[code] not in (SKIP, REMOVE) and not is_valid:
        raise InputError(
            f"{where} decides on sample {sample_id}, whose image is not valid; take the row out, or skip it"
        )
    if decisions.states is not None:
        own = [decisions.class_names[label] for label in np.flatnonzero(decisions.states[place])]
        if code == _KEPT and own != (given or []):
            raise InputError(
                f"{where} keeps {', '.join(map(repr, own)) or 'no label'}, but sample {sample_id} was given other"
                " labels; is it of another run? Write change, or the given labels"
            )
        return
    if code == _KEPT and decisions.class_names[label] != given:
        shown = "no label" if given is None else repr(given)
        raise InputError(
            f"{where} keeps {decisions.class_names[label]!r}, but sample {sample_id} was given {shown}; is it of"
            " another run? Write change, or the given label"
        )
