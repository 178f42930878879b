"""JSON lines: one object per row; text as it is, what JSON has no word for as null or text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.exports.base import Export, holds, is_text, utf8

SUFFIXES: tuple[str, ...] = (".jsonl",)
NEEDS: tuple[str, ...] = ()
HOLDS_IMAGES = False
IS_TEXT = True
TAKES_SEVERAL = True

_PART = 8192  # rows; what is joined has to stay under 2 GiB
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str).encode


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write UTF-8 JSON lines; NaN and infinities become null, dates their ISO text."""
    keys = [f"{_encode(name)}: " for name in export.schema.names]
    with path.open("wb") as file:
        for batch in export.batches:
            for part in parts(batch):
                columns = [piece for pair in zip(keys, part.columns, strict=True) for piece in (", ", *pair)]
                file.write(joined(["{", *columns[1:], "}\n"]))
    return {}


def parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in pieces that `joined` can take."""
    for first in range(0, len(batch), _PART):
        yield batch.slice(first, _PART)


def joined(pieces: list[str | pa.Array]) -> memoryview:
    """The UTF-8 text of all rows: in each the pieces one after the other, values of columns as JSON.

    Column by column: several times as fast as an encoder call per row.
    """
    texts = [piece if isinstance(piece, str) else json_texts(piece) for piece in pieces]
    text, _ = utf8(pc.binary_join_element_wise(*texts, ""))
    return text.data


def json_texts(column: pa.Array) -> pa.Array:
    """The JSON text of each value, string; null where JSON has no word for it."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if is_text(kind):
        return _quoted(column.cast(pa.string()))
    if pa.types.is_floating(kind):
        return pa.array(_numbers(column), pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(column.cast(pa.string()), "null")
    if pa.types.is_nested(kind):
        return pa.array([_encode(_finite(value)) for value in column.to_pylist()], pa.string())
    return pa.array([_encode(value) for value in column.to_pylist()], pa.string())


def _quoted(column: pa.Array) -> pa.Array:
    text, _ = utf8(column)
    if (text < ord(" ")).any() or holds(text, b'"\\'):
        return pa.array([_encode(value) for value in column.to_pylist()], pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', column, '"', ""), "null")


def _numbers(column: pa.Array) -> list[str]:
    if not pa.types.is_float64(column.type):
        # The shortest text that means the same number: 0.3, not 0.30000001192092896.
        column = column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
    return ["null" if value is None else repr(value) for value in column.to_pylist()]


def _finite(value: Any) -> Any:
    """A nested value without numbers that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
