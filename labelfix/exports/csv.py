"""CSV: a header and a line per row; cells that a spreadsheet would run are escaped and counted.

Texts with a comma, semicolon, tab, quote or line break stand in quotes: no reader of quotes splits them. Several labels
of a row stand between semicolons, or are a JSON list where one of them has a semicolon.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import WriteOptions, write_csv

from labelfix.data.readers import escape_cell
from labelfix.data.readers.delimited import INSIDE, SEPARATORS
from labelfix.data.readers.several_labels import list_text
from labelfix.exports.base import Export, holds, is_text, utf8

SUFFIXES: tuple[str, ...] = (".csv",)
NEEDS: tuple[str, ...] = ()
HOLDS_IMAGES = False
IS_TEXT = True
TAKES_SEVERAL = True
SEPARATOR = ";"  # between the labels of a row
_WHOLE = ("label", "given_label", "reviewed_label")
_LABEL_LISTS = (*_WHOLE, "added_labels", "removed_labels")
# The last one begins the UTF-8 of wide signs.
_MAY_RUN = b"'=+-@\t\r\n\xef"
_NEEDS_QUOTES = b'",' + SEPARATORS.encode()


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write a CSV file; quotes only in stretches of rows where some cell needs them.

    Returns:
        escaped_cells: how many cells, header included, got an apostrophe so that no spreadsheet runs them.
    """
    schema = export.schema
    escaped = 0
    with path.open("wb") as file:
        names = [escape_cell(name) for name in schema.names]
        escaped += sum(name != cell for name, cell in zip(schema.names, names, strict=True))
        file.write(_header(names))
        for batch in export.batches:
            columns = []
            for place, (name, column) in enumerate(zip(schema.names, batch.columns, strict=True)):
                if export.is_multi and name in _LABEL_LISTS:
                    column = _joined(column, empty=SEPARATOR if name in _WHOLE else "")
                cells, count = _cells(column, is_first=not place)
                columns.append(cells)
                escaped += count
            file.write(_lines(pa.RecordBatch.from_arrays(columns, names=schema.names)))
    return {"escaped_cells": escaped}


def _joined(lists: pa.Array, empty: str) -> pa.Array:
    """Lists of labels as text; what stands for an empty one tells it from an empty cell, which is unlabelled."""
    texts = [
        None if labels is None else list_text(labels, SEPARATOR) if labels else empty
        for labels in lists.to_pylist()
    ]
    return pa.array(texts, pa.string())


def _header(names: list[str]) -> bytes:
    quoted = any(sign in name for name in names for sign in _NEEDS_QUOTES.decode())
    line = io.StringIO()
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerow(
        names
    )
    return line.getvalue().encode()


def _lines(batch: pa.RecordBatch) -> bytes:
    texts = [column for column in batch.columns if pa.types.is_string(column.type)]
    quoted = any(holds(utf8(text)[0], _NEEDS_QUOTES) for text in texts)
    # Arrow's "needed" puts quotes round every text; without them a file reads better and is smaller.
    options = WriteOptions(include_header=False, quoting_style="needed" if quoted else "none")
    sink = pa.BufferOutputStream()
    write_csv(batch, sink, options)
    return sink.getvalue()


def _cells(column: pa.Array, *, is_first: bool) -> tuple[pa.Array, int]:
    """A column as CSV can hold it, and how many of its cells were escaped."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_nested(kind):
        column = _texts(column, lambda value: json.dumps(value, ensure_ascii=False, default=str))
    elif is_text(kind):
        column = column.cast(pa.string())
    elif pa.types.is_duration(kind) or pa.types.is_float16(kind):
        column = _texts(column, str)
    else:
        return column, 0
    return _escaped(column, is_first=is_first)


def _texts(column: pa.Array, text_of: Any) -> pa.Array:
    return pa.array([None if value is None else text_of(value) for value in column.to_pylist()], pa.string())


def _escaped(column: pa.Array, *, is_first: bool) -> tuple[pa.Array, int]:
    # Few cells hold such a sign where it could matter; only those are looked at one by one.
    text, edges = utf8(column)
    if not len(text):
        return column, 0
    first = text[np.minimum(edges[:-1], len(text) - 1)]
    starts_so = np.isin(first, np.frombuffer(_MAY_RUN, np.uint8)) & (edges[1:] > edges[:-1])
    suspect = pa.array(starts_so)
    if holds(text, SEPARATORS.encode()):
        suspect = pc.or_(suspect, pc.fill_null(pc.match_substring_regex(column, INSIDE), False))
    suspect = pc.and_(suspect, pc.is_valid(column))
    cells = column.filter(suspect).to_pylist()
    safe = [escape_cell(cell, is_first=is_first) for cell in cells]
    count = sum(cell != escaped for cell, escaped in zip(cells, safe, strict=True))
    if not count:
        return column, 0
    return pc.replace_with_mask(column, suspect, pa.array(safe, pa.string())), count
