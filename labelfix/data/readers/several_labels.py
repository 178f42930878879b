"""Several labels a row: how lists, separated texts and columns with a number for each class become (N, K) values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.labels import Codes, is_missing, json_text
from labelfix.errors import InputError

LISTS = pa.list_(pa.string())
_NOTHING = np.float32("nan")


def is_list(kind: pa.DataType | None) -> bool:
    """Whether a column holds lists."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return kind is not None and any(test(kind) for test in tests)


def holds_lists(values: Sequence[Any]) -> bool:
    """Whether the first of some Python values that is there is a list of labels: an array where it was Arrow's."""
    first = next((value for value in values if not is_missing(value)), None)
    return isinstance(first, list | tuple) or (isinstance(first, np.ndarray) and first.ndim == 1)


class ListCodes:
    """Lists of labels on their way to numbers, batch by batch; the counterpart of `labels.Codes` for several labels."""

    def __init__(self) -> None:
        self._codes = Codes()
        self._lengths: list[np.ndarray] = []

    def add(self, lists: pa.Array) -> None:
        """Take the next rows, list<string> without blanks or nulls; null is unlabelled."""
        lengths = pc.fill_null(pc.list_value_length(lists), -1)
        self._lengths.append(lengths.to_numpy(zero_copy_only=False).astype(np.int64))
        self._codes.add(pc.list_flatten(lists).cast(pa.string()))

    def counts(self) -> dict[str, int]:
        """How many rows have each label."""
        return self._codes.counts()

    def targets(
        self, declared: tuple[str, ...] | None, class_map: Mapping[str, str]
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """The class names, and (N, K) float32: 1 for the labels of a row, 0 for the others, NaN without any list.

        Args:
            declared: the classes in their own order; None for that of `class_order`.
            class_map: the other name of those that are to go by one.
        """
        names, classes = self._codes.indices(declared, class_map)
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, np.int64)
        rows = np.repeat(np.arange(len(lengths)), np.maximum(lengths, 0))
        found = np.zeros((len(lengths), len(names)), np.float32)
        found[rows, classes] = 1
        found[lengths < 0] = _NOTHING
        return names, found


class ClassColumns:
    """Columns with a number from 0 to 1 for each class on their way to (N, K); as `ListCodes`.

    Args:
        names: of the columns, which are the classes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._parts: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Take the next rows (n, K) float32, NaN where unlabelled."""
        self._parts.append(values)

    def counts(self) -> dict[str, int]:
        """How many rows have each class at a half or more."""
        whole = self._whole()
        return {name: int((whole[:, k] >= 0.5).sum()) for k, name in enumerate(self.names)}

    def targets(
        self, declared: tuple[str, ...] | None, class_map: Mapping[str, str]
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """As of `ListCodes`, with the columns in their order; of classes that go by one name the larger counts."""
        called = [class_map.get(name, name) for name in self.names]
        names = tuple(dict.fromkeys(called))
        whole = self._whole()
        found = np.stack(
            [whole[:, [k for k, other in enumerate(called) if other == name]].max(axis=1) for name in names],
            axis=1,
        )
        return names, found

    def _whole(self) -> np.ndarray:
        empty = np.empty((0, len(self.names)), np.float32)
        return np.concatenate(self._parts) if self._parts else empty


def labels_in(text: str, separator: str) -> list[str]:
    """The labels of a text, blanks around them included: between separators, or those of a JSON list of texts.

    Such a list can hold any name, one with the separator too; a list of anything else is a text as others are.
    """
    listed = _json_texts(text)
    return text.split(separator) if listed is None else listed


def _json_texts(text: str) -> list[str] | None:
    """What a JSON list of texts holds; None of any other text."""
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            if isinstance(found, list) and all(isinstance(each, str) for each in found):
                return found
    return None


def list_text(labels: Sequence[str], separator: str) -> str:
    """The text of one or more labels that `labels_in` reads: between separators, or as a JSON list if it has to be."""
    text = separator.join(labels)
    return text if labels_in(text, separator) == [*labels] else json.dumps([*labels], ensure_ascii=False)


def column_names(given: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """The columns that `--label-columns` names; None without any.

    Those of a sequence, of a text with commas, or of a JSON list of texts, which can hold any name.
    """
    if not isinstance(given, str):
        return None if given is None else tuple(given)
    listed = _json_texts(given)
    return tuple(filter(None, map(str.strip, given.split(",")))) if listed is None else tuple(listed)


def columns_text(names: Sequence[str]) -> str:
    """The text of some columns that `column_names` reads: with commas, or as a JSON list if it has to be."""
    text = ",".join(names)
    return text if column_names(text) == tuple(names) else json.dumps([*names], ensure_ascii=False)


def split_texts(texts: pa.Array, separator: str) -> pa.Array:
    """Texts as lists of `labels_in`: an empty one is unlabelled, a lone separator an image with none of the classes."""
    lists = [
        None if text is None or not text.strip() else labels_in(text, separator) for text in texts.to_pylist()
    ]
    return plain_lists(lists)


def plain_lists(lists: Sequence[Sequence[str | None] | None]) -> pa.Array:
    """Lists of labels without outer blanks, empty ones and repetitions, list<string>; None stays null."""
    found = []
    for labels in lists:
        stripped = None if labels is None else [label.strip() for label in labels if label is not None]
        found.append(None if stripped is None else list(dict.fromkeys(filter(None, stripped))))
    return pa.array(found, LISTS)


def json_lists(values: Sequence[Any], separator: str | None, path: Path, first_row: int) -> pa.Array:
    """The lists of labels of JSON objects or values in memory: lists of texts or numbers, or separated texts.

    Raises:
        InputError: a value that is neither, or a list in a list; names the row.
    """
    found: list[Sequence[str | None] | None] = []
    for row, value in enumerate(values, first_row):
        if isinstance(value, list | tuple | np.ndarray):
            found.append([json_text(_plain(each), "label", path, row) for each in value])
        elif is_missing(value):
            found.append(None)
        elif separator is not None and isinstance(value, str):
            found.append(labels_in(value, separator) if value.strip() else None)
        else:
            raise InputError(
                f"{path}: row {row} has {str(value)[:60]!r} where a list of labels belongs; make it a list, or say how"
                " labels are separated with --label-separator"
            )
    return plain_lists(found)


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 else value


def column_lists(column: pa.Array, names: Sequence[str] | None, path: Path, first_row: int) -> pa.Array:
    """The lists of labels of an Arrow column of lists.

    Args:
        column: lists of texts or integers.
        names: class names of lists of integers; None without any.
        path: the file, for messages.
        first_row: row of the first value, for messages.

    Raises:
        InputError: lists of something else, or an index without a class name.
    """
    values = column.to_pylist()
    if names is None:
        return json_lists(values, None, path, first_row)
    for row, labels in enumerate(values, first_row):
        bad = [label for label in labels or () if label is None or not 0 <= label < len(names)]
        if bad:
            raise InputError(
                f"{path}: row {row} has label {bad[0]}, but there are {len(names)} class names; correct the label, or"
                " the names in the schema metadata"
            )
    return plain_lists([None if labels is None else [names[label] for label in labels] for labels in values])


def class_values(
    names: Sequence[str], cells: Callable[[str], Sequence[Any]], path: Path, first_row: int
) -> np.ndarray:
    """(n, K) float32 from columns of numbers from 0 to 1; NaN for a row whose cells are all empty.

    Args:
        names: of the columns.
        cells: the values of one, texts or numbers, None where empty.
        path: the file, for messages.
        first_row: row of the first value, for messages.

    Raises:
        InputError: no number from 0 to 1, or a row where only some cells are empty.
    """
    found = np.stack([_numbers(cells(name), name, path, first_row) for name in names], axis=1)
    empty = np.isnan(found)
    partly = np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1))
    if len(partly):
        name = names[int(empty[partly[0]].argmax())]
        raise InputError(
            f"{path}: row {first_row + partly[0]} has nothing in the column {name!r}, but numbers in others; write 0"
            " for a class that it has not, or leave all of them empty where it is unlabelled"
        )
    return found.astype(np.float32)


def _numbers(values: Sequence[Any], name: str, path: Path, first_row: int) -> np.ndarray:
    found = np.full(len(values), np.nan)
    for place, value in enumerate(values):
        text = str(value).strip().lower() if value is not None else ""
        if text in ("", "nan"):
            continue
        number = {"true": 1.0, "false": 0.0}.get(text)
        try:
            number = float(text) if number is None else number
        except ValueError:
            number = math.nan
        if not 0 <= number <= 1:
            raise InputError(
                f"{path}: row {first_row + place} has {str(value)[:60]!r} in the column {name!r}; --label-columns takes"
                " numbers from 0 to 1"
            )
        found[place] = number
    return found


def strata(targets: np.ndarray) -> np.ndarray:
    """(N,) int64: the rarest class of each row, K for none of them, -1 unlabelled; by which rows are dealt out evenly.

    Args:
        targets: (N, K) float32, NaN rows unlabelled.
    """
    labelled = ~np.isnan(targets).any(axis=1)
    if not targets.shape[1]:
        return np.where(labelled, 0, -1)
    positive = np.where(labelled[:, None], targets, 0) >= 0.5
    order = np.argsort(positive.sum(axis=0), kind="stable")
    first = positive[:, order].argmax(axis=1)
    rarest = np.where(positive.any(axis=1), order[first], targets.shape[1])
    return np.where(labelled, rarest, -1)
