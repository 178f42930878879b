"""JSON lines: one object per row; text as it is, what JSON has no word for as null or text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import InputError

SUFFIX = ".jsonl"
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str).encode


def write(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
    """Write UTF-8 JSON lines; NaN and infinities become null, dates their ISO text.

    Raises:
        InputError: a column of raw bytes, which JSON cannot hold.
    """
    for field in schema:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            raise InputError(f"--to jsonl: the column {field.name!r} holds raw bytes; use --to parquet")
    # Column by column and then one pattern per row: several times as fast as an encoder call per row.
    keys = [_encode(name).replace("%", "%%") for name in schema.names]
    pattern = "{" + ", ".join(f"{key}: %s" for key in keys) + "}\n"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in batches:
            file.writelines(pattern % row for row in zip(*map(_texts, batch.columns), strict=True))
    return {}


def _texts(column: pa.Array) -> list[str]:
    """The JSON text of each value."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind):
        if not pa.types.is_float64(kind):
            # The shortest text that means the same number: 0.3, not 0.30000001192092896.
            column = column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
        return ["null" if value is None else repr(value) for value in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(column.cast(pa.string()), "null").to_pylist()
    if pa.types.is_nested(kind):
        return [_encode(_finite(value)) for value in column.to_pylist()]
    return [_encode(value) for value in column.to_pylist()]


def _finite(value: Any) -> Any:
    """A nested value without numbers that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
