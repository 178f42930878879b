"""What all sources of Arrow columns share: which column is what, and their batches as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.labels import check_label_type, column_labels
from labelfix.data.readers.marks import read_marks
from labelfix.data.readers.rows import (
    IMAGE_COLUMNS,
    Columns,
    OpenedSource,
    Query,
    Rows,
    check_names,
    path_rows,
    pick_columns,
    root_of,
)
from labelfix.data.readers.several_labels import class_values, column_lists, is_list, json_lists
from labelfix.errors import InputError
from labelfix.json_files import are, is_text

Batches = Callable[[list[str]], Iterator[pa.RecordBatch]]
# Rows without labels, of an image column struct{bytes, path} and the row that it starts at.
ByteRows = Callable[[pa.Array, int], Rows]

_MOST_CLASSES = 100_000
_MAGIC = (
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG", "png"),
    (8, b"WEBP", "webp"),
    (0, b"BM", "bmp"),
    (0, b"GIF8", "gif"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
)


def open_columns(query: Query, schema: pa.Schema, batches: Batches, byte_rows: ByteRows) -> OpenedSource:
    """Open a table: with image bytes where the image column is struct{bytes, path}, else of paths.

    Args:
        query: what to read.
        schema: names and types of the table's columns; class names in its `huggingface` metadata.
        batches: yields the named columns of all rows, in order.
        byte_rows: what to make of image bytes.

    Raises:
        InputError: a missing column, or an image or label column of a type that is neither.
    """
    schema, batches = _plain(schema, batches)
    columns = table_columns(query, schema)
    kind = pa.string() if columns.image is None else schema.field(columns.image).type
    holds_bytes = _is_image(kind)
    # What only names rows may be numbers.
    if query.has_images and not holds_bytes and not _is_text(kind):
        raise InputError(
            f"{query.path}: the image column {columns.image!r} holds {kind}, neither paths as text nor"
            f" struct{{bytes, path}}; name another with --image-column (usual: {', '.join(IMAGE_COLUMNS)})"
        )
    names, is_multi = None, query.may_be_multi and query.is_surely_multi
    if columns.label is not None:
        kind = schema.field(columns.label).type
        is_multi = is_multi or (query.may_be_multi and is_list(kind))
        if not (is_multi and is_list(kind)):
            check_label_type(kind, columns.label, query.path)
        names = class_names(schema, columns.label, query.path)
    return OpenedSource(
        path=query.path,
        root=root_of(query),
        read=lambda: _read(query, columns, names, batches, byte_rows if holds_bytes else None),
        extra=pa.schema([schema.field(name) for name in columns.extra]),
        class_names=names,
        warnings=columns.warnings(query.path),
        is_multi=is_multi,
    )


def _plain(schema: pa.Schema, batches: Batches) -> tuple[pa.Schema, Batches]:
    """The schema and its batches with texts and bytes in the types that all of Arrow can handle."""
    fields = [field.with_type(_plain_type(field.type)) for field in schema]
    if all(field.type == plain.type for field, plain in zip(schema, fields, strict=True)):
        return schema, batches
    plain = pa.schema(fields, schema.metadata)

    def cast(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        for batch in batches(wanted):
            yield batch.cast(pa.schema([plain.field(name) for name in batch.schema.names]))

    return plain, cast


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        parts = [kind.field(place) for place in range(kind.num_fields)]
        return pa.struct([part.with_type(_plain_type(part.type)) for part in parts])
    return kind


def table_columns(query: Query, schema: pa.Schema) -> Columns:
    """Which column of a table plays which part.

    Raises:
        InputError: a column is missing, repeated, or has the name of one of our own.
    """
    check_names(schema.names, query.path)
    picture = query.image_column or "image"
    if picture in schema.names and _is_image(schema.field(picture).type):
        if not query.has_images:
            return pick_columns([name for name in schema.names if name != picture], query)
        # The struct is the image, whatever other columns are called.
        query = replace(query, image_column=picture)
    return pick_columns(schema.names, query)


def image_struct(query: Query, schema: pa.Schema) -> str | None:
    """Name of the image column where it holds bytes; None where it holds paths."""
    image = table_columns(query, schema).image
    return image if image is not None and _is_image(schema.field(image).type) else None


def class_names(schema: pa.Schema, column: str, path: Path) -> tuple[str, ...] | None:
    """Class names of a ClassLabel column from the `huggingface` schema metadata; None without any.

    Raises:
        InputError: they are no texts, too many, empty or repeated.
    """
    kind, feature = schema.field(column).type, _feature(schema, column)
    if is_list(kind):
        # What `datasets` calls a List, or a Sequence, of ClassLabel.
        kind, inner = kind.value_type, feature.get("feature")
        feature = inner if isinstance(inner, dict) else {}
    if not pa.types.is_integer(kind):
        return None
    names = feature.get("names")
    if names is None:
        return None
    if not are(is_text)(names) or len(names) > _MOST_CLASSES:
        raise InputError(
            f"{path}: the class names of {column!r} in its huggingface metadata are no list of at most"
            f" {_MOST_CLASSES:,} texts; correct them, or take the metadata out"
        )
    stripped = tuple(name.strip() for name in names)
    if "" in stripped or len(set(stripped)) < len(stripped):
        shown = ", ".join(map(repr, stripped[:20])) + (", ..." if len(stripped) > 20 else "")
        raise InputError(f"{path}: the class names of {column!r} are empty or repeated: {shown}")
    return stripped


def image_rows(image: pa.Array, first: int) -> Rows:
    """Rows of image bytes: named by the struct's path, else by row number and what the bytes look like.

    Where there are no bytes, the image is the file at that path.
    """
    data = pc.struct_field(image, "bytes")
    fields = [image.type.field(i).name for i in range(image.type.num_fields)]
    inner_paths = pc.struct_field(image, "path").to_pylist() if "path" in fields else [None] * len(image)
    heads = pc.binary_slice(data, 0, 12).to_pylist()
    names = [
        path or f"row-{first + place:09d}.{extension_of(head)}"
        for place, (path, head) in enumerate(zip(inner_paths, heads, strict=True))
    ]
    sizes = pc.fill_null(pc.cast(pc.binary_length(data), pa.int64()), -1).to_numpy(zero_copy_only=False)
    nowhere = pa.nulls(len(image), pa.string())
    paths = pc.if_else(pc.is_null(data), pa.array(inner_paths, pa.string()), nowhere)
    paths = pc.if_else(pc.equal(paths, ""), nowhere, paths)
    return Rows(pa.array(names, pa.string()), paths, nowhere, sizes)


def picked(arrays: Iterable[pa.Array], wanted: np.ndarray) -> Iterator[list[Any]]:
    """The values of the `wanted` rows, ascending int64 (n,), of arrays that follow each other, in lists."""
    start = 0
    for array in arrays:
        left, right = np.searchsorted(wanted, [start, start + len(array)])
        if right > left:
            # Taking every row would copy them all for nothing.
            some = array if right - left == len(array) else array.take(pa.array(wanted[left:right] - start))
            yield some.to_pylist()
        start += len(array)


def unique_file_names(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """File names where each that stood in an earlier row gets its row number before the extension."""
    seen: set[str] = set()
    chunks = []
    row = 0
    for chunk in names.chunks:
        values = chunk.to_pylist()
        for place, name in enumerate(values):
            folder, slash, last = name.rpartition("/")
            stem, dot, extension = last.rpartition(".") if "." in last[1:] else (last, "", "")
            while values[place] in seen:
                stem = f"{stem}-{row:09d}"
                values[place] = f"{folder}{slash}{stem}{dot}{extension}"
            seen.add(values[place])
            row += 1
        chunks.append(pa.array(values, pa.string()))
    return pa.chunked_array(chunks, pa.string())


def _read(
    query: Query,
    columns: Columns,
    names: tuple[str, ...] | None,
    batches: Batches,
    byte_rows: ByteRows | None,
) -> Iterator[Rows]:
    named = (columns.image, columns.label, *columns.labels, *columns.extra, *columns.marks)
    first = 0
    for batch in batches(list(dict.fromkeys(name for name in named if name is not None))):
        if query.rows is not None:
            batch = batch.slice(0, query.rows - first)
        labels, values = pa.nulls(len(batch), pa.string()), None
        if columns.label is not None:
            labels = _labels(batch.column(columns.label), names, query, first)
        elif columns.labels:
            cells = partial(_cells, batch)
            values = class_values(columns.labels, cells, query.path, first)
        image = pa.nulls(len(batch), pa.string()) if columns.image is None else batch.column(columns.image)
        extra = tuple(batch.column(name) for name in columns.extra)
        marks = read_marks(columns.marks, batch.column, query.path, first)
        if byte_rows is not None:
            yield replace(
                byte_rows(image, first), labels=labels, extra=extra, marks=marks, class_values=values
            )
        else:
            texts = pc.cast(image, pa.string()).to_pylist()
            yield path_rows(texts, labels, extra, query, first, marks, values)
        first += len(batch)
        if first == query.rows:
            return


def _cells(batch: pa.RecordBatch, name: str) -> list[Any]:
    return batch.column(name).to_pylist()


def _labels(column: pa.Array, names: tuple[str, ...] | None, query: Query, first: int) -> pa.Array:
    """One label of each row, or the several that it holds."""
    if query.may_be_multi and is_list(column.type):
        return column_lists(column, names, query.path, first)
    texts = column_labels(column, names, query.path, first)
    if not (query.may_be_multi and query.is_surely_multi):
        return texts
    return json_lists(texts.to_pylist(), query.label_separator, query.path, first)


def extension_of(head: bytes | None) -> str:
    """The extension, without a dot, that the first bytes of an image ask for; "bin" where they say nothing."""
    for place, magic, extension in _MAGIC:
        if head is not None and head[place : place + len(magic)] == magic:
            return extension
    return "bin"


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    tests = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view
    return index >= 0 and any(test(kind.field(index).type) for test in tests)


def _feature(schema: pa.Schema, column: str) -> dict[str, Any]:
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        feature = json.loads(text)["info"]["features"][column]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return feature if isinstance(feature, dict) else {}
