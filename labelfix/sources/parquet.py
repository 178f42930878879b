"""Parquet sources: Hugging Face image files (bytes inside), and manifests of paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.errors import InputError
from labelfix.sources.labels import check_label_type, column_labels
from labelfix.sources.rows import (
    BATCH_ROWS,
    IMAGE_COLUMNS,
    Columns,
    Query,
    Rows,
    Source,
    path_rows,
    pick_columns,
    root_of,
)

_BATCH_BYTES = 64 << 20
_MAGIC = (
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG", "png"),
    (8, b"WEBP", "webp"),
    (0, b"BM", "bmp"),
    (0, b"GIF8", "gif"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
)


def open_parquet(query: Query) -> Source:
    """Open a Parquet file: with image bytes where the image column is struct{bytes, path}, else of paths.

    Raises:
        InputError: no Parquet file, a missing column, or an image or label column of a type that is neither.
    """
    with _reading(query.path), _open(query.path) as file:
        schema = file.schema_arrow
    picture = query.image_column or "image"
    holds_bytes = picture in schema.names and _is_image(schema.field(picture).type)
    if holds_bytes:
        # The struct is the image, whatever other columns are called.
        query = replace(query, image_column=picture)
    columns = pick_columns(schema.names, query)
    kind = schema.field(columns.image).type
    if not holds_bytes and not _is_text(kind):
        raise InputError(
            f"{query.path}: the image column {columns.image!r} holds {kind}, neither paths as text nor"
            f" struct{{bytes, path}}; name another with --image-column (usual: {', '.join(IMAGE_COLUMNS)})"
        )
    names = None
    if columns.label is not None:
        check_label_type(schema.field(columns.label).type, columns.label, query.path)
        names = _class_names(schema, columns.label, query.path)
    return Source(
        path=query.path,
        root=root_of(query),
        read=lambda: _read(query, columns, names, holds_bytes=holds_bytes),
        extra=pa.schema([schema.field(name) for name in columns.extra]),
        class_names=names,
        bytes_column=columns.image if holds_bytes else None,
    )


def image_bytes(path: Path, column: str, wanted: np.ndarray) -> Iterator[list[bytes | None]]:
    """The bytes of the `wanted` rows, in order, in lists; row groups without any are not read.

    Args:
        path: the Parquet file.
        column: its image column, struct{bytes, path}.
        wanted: (n,) int64, ascending.

    Raises:
        InputError: the file cannot be read.
    """
    start = 0
    with _reading(path), _open(path) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            left, right = np.searchsorted(wanted, [start, stop])
            if right > left:
                yield from _group_bytes(file, group, column, wanted[left:right] - start)
            start = stop


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
    query: Query, columns: Columns, names: tuple[str, ...] | None, *, holds_bytes: bool
) -> Iterator[Rows]:
    wanted = [columns.image, *([columns.label] if columns.label is not None else []), *columns.extra]
    first = 0
    with _reading(query.path), _open(query.path) as file:
        for batch in _batches(file, wanted, range(file.num_row_groups)):
            if query.rows is not None:
                batch = batch.slice(0, query.rows - first)
            labels = pa.nulls(len(batch), pa.string())
            if columns.label is not None:
                labels = column_labels(batch.column(columns.label), names, query.path, first)
            image = batch.column(columns.image)
            extra = tuple(batch.column(name) for name in columns.extra)
            if holds_bytes:
                yield _byte_rows(image, labels, extra, first)
            else:
                yield path_rows(pc.cast(image, pa.string()).to_pylist(), labels, extra, query, first)
            first += len(batch)
            if first == query.rows:
                return


def _byte_rows(image: pa.Array, labels: pa.Array, extra: tuple[pa.Array, ...], first: int) -> Rows:
    data = pc.struct_field(image, "bytes")
    fields = [image.type.field(i).name for i in range(image.type.num_fields)]
    said = pc.struct_field(image, "path").to_pylist() if "path" in fields else [None] * len(image)
    heads = pc.binary_slice(data, 0, 12).to_pylist()
    names = [
        path or f"row-{first + place:09d}.{_extension(head)}"
        for place, (path, head) in enumerate(zip(said, heads, strict=True))
    ]
    sizes = pc.fill_null(pc.cast(pc.binary_length(data), pa.int64()), -1).to_numpy(zero_copy_only=False)
    nowhere = pa.nulls(len(image), pa.string())
    return Rows(pa.array(names, pa.string()), nowhere, labels, sizes, extra)


def _extension(head: bytes | None) -> str:
    for place, magic, extension in _MAGIC:
        if head is not None and head[place : place + len(magic)] == magic:
            return extension
    return "bin"


def _group_bytes(
    file: pq.ParquetFile, group: int, column: str, wanted: np.ndarray
) -> Iterator[list[bytes | None]]:
    start = 0
    for batch in _batches(file, [column], [group]):
        left, right = np.searchsorted(wanted, [start, start + len(batch)])
        if right > left:
            data = pc.struct_field(batch.column(column), "bytes")
            # Taking every row would copy them all for nothing.
            some = data if right - left == len(batch) else data.take(pa.array(wanted[left:right] - start))
            yield some.to_pylist()
        start += len(batch)


def _batches(file: pq.ParquetFile, columns: list[str], groups: range | list[int]) -> Iterator[pa.RecordBatch]:
    """Batches of at most 65,536 rows and about 64 MiB, so that image bytes never fill the memory."""
    meta = file.metadata
    heaviest = max(
        (meta.row_group(i).total_byte_size / max(1, meta.row_group(i).num_rows) for i in groups), default=1
    )
    size = int(min(BATCH_ROWS, max(1, _BATCH_BYTES // max(1, heaviest))))
    return file.iter_batches(batch_size=size, columns=columns, row_groups=list(groups))


def _open(path: Path) -> pq.ParquetFile:
    # Buffered reading keeps a column of a row group from being loaded whole.
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as Parquet ({reason}); write it again") from None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and (
        pa.types.is_binary(kind.field(index).type) or pa.types.is_large_binary(kind.field(index).type)
    )


def _class_names(schema: pa.Schema, column: str, path: Path) -> tuple[str, ...] | None:
    """Class names of a ClassLabel column from the `huggingface` schema metadata; None without any."""
    if not pa.types.is_integer(schema.field(column).type):
        return None
    names = _feature(schema, column).get("names")
    if names is None:
        return None
    stripped = tuple(str(name).strip() for name in names)
    if "" in stripped or len(set(stripped)) < len(stripped):
        raise InputError(f"{path}: the class names of {column!r} are empty or repeated: {list(stripped)}")
    return stripped


def _feature(schema: pa.Schema, column: str) -> dict[str, Any]:
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        feature = json.loads(text)["info"]["features"][column]
    except (ValueError, KeyError, TypeError):
        return {}
    return feature if isinstance(feature, dict) else {}
