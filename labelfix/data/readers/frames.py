"""Tables in memory: DataFrames of paths (pandas, polars, Arrow tables), and Hugging Face Datasets."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.columns import image_rows, image_struct, open_columns
from labelfix.data.readers.labels import label_texts
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, check_names, pick_columns
from labelfix.data.readers.several_labels import holds_lists, json_lists
from labelfix.errors import InputError

_BATCH_IMAGES = 1000


def open_dataframe(frame: Any, query: Query) -> OpenedSource:
    """Open a pandas DataFrame: a manifest, whose relative paths start at the root or the current folder, or images.

    Raises:
        InputError: a column is missing, or holds what no column of a table can hold.
    """
    query = replace(query, root=query.root or Path.cwd())
    names = [str(name) for name in frame.columns]
    check_names(names, query.path)
    columns = pick_columns(names, query)
    frame = frame.head(query.rows) if query.rows is not None else frame
    arrays = []
    for place, name in enumerate(names):
        values = frame.iloc[:, place]
        if values.dtype == object and name == columns.image:
            values = [os.fspath(x) if isinstance(x, os.PathLike) else x for x in values]
        elif values.dtype == object and name == columns.label:
            is_multi = query.may_be_multi and holds_lists(values.tolist())
            lists = json_lists(values.tolist(), query.label_separator, query.path, 0) if is_multi else None
            values = label_texts(values, query.path) if lists is None else lists
        arrays.append(_array(values, name, query.path))
    return _open(pa.Table.from_arrays(arrays, names), query)


def open_table(table: Any, query: Query) -> OpenedSource:
    """Open a polars DataFrame or an Arrow table: a manifest as `open_dataframe` reads it, or one with image bytes.

    Raises:
        InputError: a column is missing, or holds what no column of a table can hold.
    """
    query = replace(query, root=query.root or Path.cwd())
    if not isinstance(table, pa.Table):
        try:
            table = table.to_arrow()
        except Exception as error:  # polars has errors of its own for what Arrow cannot hold
            raise InputError(
                f"{query.path}: it cannot become an Arrow table ({' '.join(str(error).split())[:200]}); make its"
                " columns text or numbers"
            ) from None
    check_names(table.column_names, query.path)
    return _open(table, query)


def _open(table: pa.Table, query: Query) -> OpenedSource:
    column = image_struct(query, table.schema)
    rows = image_rows if column is None else _hashed_rows
    source = open_columns(query, table.schema, lambda wanted: _batches(table.select(wanted)), rows)
    if column is None:
        return source

    def image_bytes(wanted: np.ndarray) -> Iterator[list[bytes | None]]:
        for start in range(0, len(wanted), _BATCH_IMAGES):
            some = table.column(column).take(pa.array(wanted[start : start + _BATCH_IMAGES]))
            yield _bytes_of(some.combine_chunks())

    return replace(source, image_bytes=image_bytes)


def open_hub_dataset(dataset: Any, query: Query) -> OpenedSource:
    """Open a Hugging Face Dataset, read as it lies in its Arrow files: its images are not decoded here.

    Raises:
        InputError: a missing column, or an image or label column of a type that is neither.
    """
    query = replace(query, root=query.root or Path.cwd())
    schema = dataset.features.arrow_schema
    check_names(schema.names, query.path)
    plain = dataset.with_format("arrow")

    def batches(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        for table in plain.select_columns(wanted).iter(_BATCH_IMAGES):
            yield from _batches(table.combine_chunks())

    source = open_columns(query, schema, batches, _hashed_rows)
    column = image_struct(query, schema)
    if column is None:
        return source
    return replace(source, image_bytes=lambda rows: _image_bytes(plain.select_columns([column]), rows))


def _array(values: Any, name: str, path: Path) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: the column {name!r} cannot be read ({reason}); make it text, or leave it out"
        ) from None


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from table.to_batches(max_chunksize=BATCH_ROWS)


def _hashed_rows(image: pa.Array, first: int) -> Rows:
    """Rows of images in memory: named by row number alone, distinguished by their bytes."""
    names = [f"row-{row:09d}" for row in range(first, first + len(image))]
    nowhere = pa.nulls(len(image), pa.string())
    digests = [hashlib.sha256(data or b"").digest() for data in _bytes_of(image)]
    table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return Rows(pa.array(names, pa.string()), nowhere, nowhere, digests=table)


def _image_bytes(images: Any, wanted: np.ndarray) -> Iterator[list[bytes | None]]:
    """The bytes of the `wanted` rows, ascending int64 (n,), of a Dataset of one column, in lists."""
    for start in range(0, len(wanted), _BATCH_IMAGES):
        some = wanted[start : start + _BATCH_IMAGES]
        first, stop = int(some[0]), int(some[-1]) + 1
        table = images[first:stop] if stop - first == len(some) else images[some.tolist()]
        yield _bytes_of(table.column(0).combine_chunks())


def _bytes_of(image: pa.StructArray) -> list[bytes | None]:
    """The bytes of each image; a Dataset of local files has their paths instead."""
    data = pc.struct_field(image, "bytes").to_pylist()
    has_paths = image.type.get_field_index("path") >= 0
    paths = pc.struct_field(image, "path").to_pylist() if has_paths else [None] * len(image)
    return [_file(path) if found is None else found for found, path in zip(data, paths, strict=True)]


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        if os.path.isfile(path):
            return Path(path).read_bytes()
    return None
