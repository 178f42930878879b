"""Columns of text, looked at all at once: a call for each value would take most of the time of an export."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from labelfix.errors import InputError


def check_no_bytes(schema: pa.Schema, to: str) -> None:
    """Refuse a column of raw bytes, which text cannot hold.

    Raises:
        InputError: names the target and the column.
    """
    for field in schema:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            raise InputError(f"--to {to}: the column {field.name!r} holds raw bytes; use --to parquet")


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
