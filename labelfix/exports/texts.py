"""Columns of text, looked at all at once: a call for each value would take most of the time of an export."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from labelfix.errors import InputError


def check_no_bytes(schema: pa.Schema, to: str) -> None:
    """Refuse a column that holds raw bytes at any depth, which text cannot hold.

    Raises:
        InputError: names the target and the column.
    """
    for field in schema:
        if _holds_bytes(field.type):
            raise InputError(f"--to {to}: the column {field.name!r} holds raw bytes; use --to parquet")


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same values, views of text or bytes as plain ones: pyarrow can neither filter nor take views."""
    fields = [field.with_type(_without_views(field.type)) for field in batch.schema]
    return batch if fields == list(batch.schema) else batch.cast(pa.schema(fields))


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def utf8(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """What a string column (n,) holds, without a copy.

    Returns:
        All its text in UTF-8, uint8, and where in it each value starts and the last one ends, int32 (n + 1,).
    """
    _, offsets, data = column.buffers()
    if not len(column) or data is None:
        return np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int32)
    edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[edges[0] : edges[-1]], edges - edges[0]


def holds(text: np.ndarray, signs: bytes) -> bool:
    """Whether UTF-8 text, uint8, holds one of some ASCII signs."""
    return any((text == sign).any() for sign in signs)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_bytes(kind.storage_type)
    if any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields)):
        return True
    checks = ("is_binary", "is_large_binary", "is_fixed_size_binary", "is_binary_view")
    return any(getattr(pa.types, check)(kind) for check in checks)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pa.struct([field.with_type(_without_views(field.type)) for field in fields])
    return kind
