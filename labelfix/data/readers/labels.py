"""Labels are text: how each kind of column becomes it, and the order of the classes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import InputError

_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
NO_LISTS = "multi-label sources are for `labelfix scan` (pencil or cross-entropy) and its runs; give one label per row"


def strip_labels(labels: pa.Array) -> pa.Array:
    """String labels without outer blanks; an empty one becomes null (unlabelled)."""
    stripped = pc.utf8_trim_whitespace(labels)
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in numeric order when every one is an integer, else in code-point order."""
    names = sorted(names)
    if all(_INTEGER.fullmatch(name) for name in names):
        names.sort(key=int)
    return tuple(names)


class Codes:
    """Texts on their way to numbers, batch by batch, in order of first appearance.

    Attributes:
        code_of: the number of each text so far.
    """

    def __init__(self) -> None:
        self.code_of: dict[str, int] = {}
        self._parts: list[np.ndarray] = []

    def add(self, texts: pa.Array) -> None:
        """Take the next texts; null is -1."""
        encoded = texts.dictionary_encode()
        known = [self.code_of.setdefault(name, len(self.code_of)) for name in encoded.dictionary.to_pylist()]
        indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        self._parts.append(np.array([*known, -1], np.int64)[indices])

    def codes(self) -> np.ndarray:
        """(N,) int64, -1 for null."""
        return np.concatenate(self._parts) if self._parts else np.empty(0, np.int64)

    def counts(self) -> dict[str, int]:
        """How many times there is each text."""
        codes = self.codes()
        found = np.bincount(codes[codes >= 0], minlength=len(self.code_of))
        return dict(zip(self.code_of, found.tolist(), strict=True))

    def indices(
        self, declared: tuple[str, ...] | None, class_map: Mapping[str, str]
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """The class names, declared ones or else in `class_order`, and (N,) int64 indices into them, read-only.

        `class_map` has the other name of those that are to go by one.
        """
        if declared is not None:
            names = tuple(dict.fromkeys(class_map.get(name, name) for name in declared))
        else:
            names = class_order({class_map.get(name, name) for name in self.code_of})
        place = {name: index for index, name in enumerate(names)}
        index_of = np.array([*(place[class_map.get(name, name)] for name in self.code_of), -1], np.int64)
        given = index_of[self.codes()]
        given.flags.writeable = False
        return names, given


def is_missing(value: Any) -> bool:
    """Whether a value in memory says that there is none: None, NaN, and pandas' own."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def json_label(value: Any, path: Path, row: int) -> str | None:
    """The text of a label in JSON, as `json_text` has it.

    Raises:
        InputError: a list or an object.
    """
    if isinstance(value, list):
        raise InputError(f"{path}: row {row} has a list of labels: {NO_LISTS}")
    return json_text(value, "label", path, row)


def json_text(value: Any, column: str, path: Path, row: int) -> str | None:
    """The text of a plain JSON value: strings as they are, numbers and booleans as JSON writes them; None for NaN.

    Raises:
        InputError: a list or an object.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None  # as a table of numbers says "nothing here"
    if isinstance(value, list | dict):
        raise InputError(
            f"{path}: the {column} of row {row} is {json.dumps(value)[:60]}; make it text or a number"
        )
    return json.dumps(value)


def label_texts(labels: Any, path: Path) -> list[str | None]:
    """The texts of labels in memory: a sequence, or an array (N,) or (N, 1), of what `label_text` takes.

    Raises:
        InputError: no sequence, or a value that is no label.
    """
    if getattr(labels, "ndim", 1) == 2 and labels.shape[1] == 1:
        labels = np.asarray(labels).reshape(-1)
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise InputError(f"{path}: the labels are a {type(labels).__name__}; make them a list or an array")
    return [label_text(value, path, row) for row, value in enumerate(values)]


def label_text(value: Any, path: Path, row: int) -> str | None:
    """The text of one label in memory, as `json_text` has it; None for NaN and for pandas' own missing values.

    Raises:
        InputError: neither text nor a number.
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, list | tuple):
        raise InputError(f"{path}: row {row} has a list of labels: {NO_LISTS}")
    if getattr(value, "size", None) == 1 or getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InputError(
                f"{path}: the label of row {row} is no UTF-8 ({value[:20]!r}); decode it yourself"
            ) from None
    if is_missing(value):
        return None
    if not isinstance(value, str | int | float):
        raise InputError(
            f"{path}: the label of row {row} is a {type(value).__name__}; make it text or an integer"
        )
    return json_text(value, "label", path, row)


def column_text(column: pa.Array, name: str, path: Path) -> pa.Array:
    """A plain Arrow column as strings; null where it holds none, or NaN.

    Raises:
        InputError: a type that is no text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        # NaN is how a table of numbers says "nothing here".
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowException:
        raise InputError(
            f"{path}: the column {name!r} holds {column.type}; make it text or integers, or rename it"
        ) from None


def column_labels(column: pa.Array, names: Sequence[str] | None, path: Path, first_row: int) -> pa.Array:
    """Labels of an Arrow column as stripped text, null where unlabelled.

    Args:
        column: strings, integers, booleans or floats, plain or dictionary-encoded.
        names: class names of an integer column; then null and -1 are unlabelled.
        path: the file, for messages.
        first_row: row of the first value, for messages.

    Raises:
        InputError: a type that is no label, or an index without a class name.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if names is not None and pa.types.is_integer(column.type):
        return strip_labels(_named(column, names, path, first_row))
    if pa.types.is_floating(column.type):
        # NaN is how a table of numbers says "nothing here".
        return pa.array(
            [None if x is None or math.isnan(x) else json.dumps(x) for x in column.to_pylist()], pa.string()
        )
    return strip_labels(pc.cast(column, pa.string()))


def check_label_type(kind: pa.DataType, column: str, path: Path) -> None:
    """Refuse a column type that cannot be a label.

    Raises:
        InputError: lists, and whatever is neither text, integer, boolean nor float.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        raise InputError(f"{path}: the label column {column!r} holds lists: {NO_LISTS}")
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_floating,
        pa.types.is_null,
    )
    if not any(test(kind) for test in tests):
        raise InputError(f"{path}: the label column {column!r} holds {kind}; make it text or integers")


def _named(column: pa.Array, names: Sequence[str], path: Path, first_row: int) -> pa.Array:
    indices = pc.fill_null(column, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    wrong = np.flatnonzero((indices < -1) | (indices >= len(names)))
    if len(wrong):
        raise InputError(
            f"{path}: row {first_row + wrong[0]} has label {indices[wrong[0]]}, but there are {len(names)}"
            " class names; correct the label, or the names in the schema metadata"
        )
    return pa.array(names, pa.string()).take(pa.array(indices, mask=indices < 0))
