"""Labels are text: how each kind of column becomes it, and the order of the classes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import InputError

_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
NO_LISTS = "multi-label sources are not supported yet; give one label per row"


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


def json_label(value: Any, path: Path, row: int) -> str | None:
    """The text of a label in JSON: strings as they are, numbers and booleans as JSON writes them.

    Raises:
        InputError: a list or an object.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        raise InputError(f"{path}: row {row} has a list of labels: {NO_LISTS}")
    if isinstance(value, dict):
        raise InputError(f"{path}: the label of row {row} is an object; make it text or a number")
    return json.dumps(value)


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
