"""What a source says of its rows beside image and label: verified, held out, of one group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.labels import Codes, column_text, strip_labels
from labelfix.errors import InputError

MARK_COLUMNS = ("is_trusted", "split", "group")
FASTAI = "is_valid"  # true for rows of the validation set
_TRAINED = ("train", "training")
TESTED = ("test", "testing")
HELD_OUT = ("val", "valid", "validation", "dev", *TESTED)
SPLITS = (*_TRAINED, *HELD_OUT)  # the first that is there is the one to train on


def side_of(split: object) -> str:
    """The side of a split that a row lies on: "test", "validation", or "train" for all else.

    >>> [side_of(split) for split in ("testing", " Dev ", "train", None)]
    ['test', 'validation', 'train', 'train']
    """
    name = str(split).strip().lower()
    if name in TESTED:
        return "test"
    return "validation" if name in HELD_OUT else "train"


# Numbers with a missing value among them are written as 1.0 by most tools.
_YES = ("true", "1", "yes", "1.0")
_NO = ("false", "0", "no", "0.0", "")


@dataclass(frozen=True)
class Marks:
    """The marks of consecutive rows; None where the source has no such column.

    Attributes:
        trusted: (n,) bool, rows whose given label a person has verified.
        split: string, lower case without outer blanks; null where empty.
        group: string without outer blanks; null where empty.
    """

    trusted: np.ndarray | None = None
    split: pa.Array | None = None
    group: pa.Array | None = None


NO_MARKS = Marks()


def read_marks(columns: Sequence[str], cells: Callable[[str], pa.Array], path: Path, first_row: int) -> Marks:
    """The marks of a batch.

    Args:
        columns: those of `MARK_COLUMNS` that the source has, and maybe `FASTAI`.
        cells: the values of a column in this batch; text, integers, booleans or floats.
        path: the file, for messages.
        first_row: row of the first value, for messages.

    Raises:
        InputError: a column that cannot become text, or a value of is_trusted that is neither true nor false.
    """
    texts = {name: strip_labels(column_text(cells(name), name, path)) for name in columns}
    trusted, split, valid = texts.get("is_trusted"), texts.get("split"), texts.get(FASTAI)
    if valid is not None:
        is_held_out = pa.array(_booleans(valid, FASTAI, path, first_row))
        split = pc.if_else(is_held_out, pa.scalar("valid"), pa.scalar("train"))
    return Marks(
        trusted=None if trusted is None else _booleans(trusted, "is_trusted", path, first_row),
        split=None if split is None else pc.utf8_lower(split),
        group=texts.get("group"),
    )


class MarkedRows:
    """The marks of all rows, gathered batch by batch."""

    def __init__(self) -> None:
        self._trusted: list[np.ndarray] = []
        self._held_out: list[np.ndarray] = []
        self._splits: set[str] = set()
        self._groups: Codes | None = None

    def add(self, marks: Marks, count: int) -> None:
        """Take the marks of the next `count` rows."""
        nowhere = np.zeros(count, bool)
        self._trusted.append(nowhere if marks.trusted is None else marks.trusted)
        self._held_out.append(nowhere if marks.split is None else _is_in(marks.split, HELD_OUT))
        if marks.split is not None:
            self._splits.update(pc.drop_null(pc.unique(marks.split)).to_pylist())
        if marks.group is not None:
            self._groups = self._groups or Codes()
            self._groups.add(marks.group)

    def finished(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The marks of all N rows, read-only; call it once, it joins the batches.

        Returns:
            Which rows are trusted (N,) bool; which are held out by their split, see `HELD_OUT`, (N,) bool;
            and groups (N,) int64: 0, 1, ... in order of first appearance, None without the column. A row without a
            group is a group of its own.
        """
        return _frozen(self._trusted, bool), _frozen(self._held_out, bool), self._group_codes()

    def _group_codes(self) -> np.ndarray | None:
        if self._groups is None:
            return None
        codes = self._groups.codes()
        alone = np.flatnonzero(codes < 0)
        codes[alone] = len(self._groups.code_of) + np.arange(len(alone))
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return _frozen([rank[inverse]], np.int64)

    def warnings(self, path: Path) -> list[str]:
        """A sentence when the split column has values that are neither trained rows nor held out ones."""
        other = sorted(self._splits.difference(HELD_OUT, _TRAINED))
        if not other:
            return []
        shown = ", ".join(map(repr, other[:5])) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        return [
            f"{path}: the split column holds {shown}: these rows are trained on"
            f" (only {', '.join(HELD_OUT)} are held out)"
        ]


def _frozen(parts: list[np.ndarray], kind: type) -> np.ndarray:
    whole = np.concatenate(parts) if parts else np.empty(0, kind)
    whole.flags.writeable = False
    return whole


def _is_in(texts: pa.Array, values: Sequence[str]) -> np.ndarray:
    found: np.ndarray = pc.is_in(texts, value_set=pa.array(values)).to_numpy(zero_copy_only=False)
    return found


def _booleans(texts: pa.Array, name: str, path: Path, first_row: int) -> np.ndarray:
    known = pc.utf8_lower(pc.fill_null(texts, ""))
    trusted = _is_in(known, _YES)
    wrong = np.flatnonzero(~trusted & ~_is_in(known, _NO))
    if len(wrong):
        value = texts[int(wrong[0])].as_py()
        raise InputError(f"{path}: row {first_row + wrong[0]} has {name} {value[:60]!r}; write true or false")
    return trusted
