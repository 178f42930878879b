"""Parquet sources, one file or a folder of shards: Hugging Face image files, and manifests of paths."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.data.parquet_file import longest_repeated, open_parquet_file
from labelfix.data.readers.columns import (
    class_names,
    image_rows,
    image_struct,
    open_columns,
    picked,
    table_columns,
)
from labelfix.data.readers.labels import column_labels, column_text
from labelfix.data.readers.marks import SPLITS
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, check_names
from labelfix.data.readers.several_labels import column_lists, is_list
from labelfix.errors import InputError

_BATCH_BYTES = 64 << 20
_MOST_BYTES = 256 << 20
_NUMBERED = re.compile(r"(.+)-[0-9]+-of-[0-9]+")
_FIRST_WORD = re.compile(r"[a-z]*")


def open_parquet(query: Query) -> OpenedSource:
    """Open a Parquet file: with image bytes where the image column is struct{bytes, path}, else of paths.

    Raises:
        InputError: no Parquet file, a missing column, or an image or label column of a type that is neither.
    """
    return _open_files(query, [query.path])


def shards_in(folder: Path) -> list[Path]:
    """The visible Parquet files that lie directly in a folder, in code-point order of their names.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() == ".parquet" and path.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted((path for path in found if not path.name.startswith(".")), key=lambda path: path.name)


def open_shards(query: Query, shards: list[Path]) -> OpenedSource:
    """Open a folder of Parquet files as one: the rows of the first, then those of the second, and so on.

    Relative paths in them start at the folder, unless there is a root.

    Raises:
        InputError: the shards are of several splits, or differ in their columns; as `open_parquet` for each.
    """
    by_path = {path: split_of(path) for path in shards}
    splits = sorted({split for split in by_path.values() if split is not None})
    if len(splits) > 1:
        order = [*SPLITS, *splits, None]
        first = min(shards, key=lambda path: order.index(by_path[path]))
        raise InputError(
            f"{query.path} holds splits ({', '.join(splits)}): move the shards of each into a folder of its own,"
            f" or scan a single one, such as {first}"
        )
    return _open_files(replace(query, root=query.root or query.path), shards)


def parquet_columns(
    path: Path, wanted: Sequence[str], *, lists: bool = False
) -> tuple[list[str], dict[str, pa.Array]]:
    """The names of all columns of a Parquet file, and those of the `wanted` ones that it has, as strings.

    Integers with class names in the schema metadata become those names, `lists` JSON texts.

    Raises:
        InputError: no Parquet file, a name that stands there twice, or a column that cannot become text.
    """
    with _reading(path), open_parquet_file(path) as file:
        schema = file.schema_arrow
        check_names(schema.names, path)
        table = file.read([name for name in wanted if name in schema.names])
    cells = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        names = class_names(schema, name, path)
        if lists and is_list(column.type):
            values = column_lists(column, names, path, 0).to_pylist()
            cells[name] = pa.array([None if one is None else json.dumps(one) for one in values], pa.string())
            continue
        cells[name] = (
            column_text(column, name, path) if names is None else column_labels(column, names, path, 0)
        )
    return schema.names, cells


def _open_files(query: Query, files: list[Path]) -> OpenedSource:
    schema = _common_schema(query, files)
    source = open_columns(query, schema, lambda names: _batches_of(files, names), image_rows)
    source = replace(source, read=_guarded(query.path, source.read))
    column = image_struct(query, schema)
    if column is None:
        return source
    return replace(
        source, image_bytes=lambda rows: _image_bytes(files, column, rows), stamp=_stamp(files, column)
    )


def split_of(path: Path) -> str | None:
    """The split that the name of a shard speaks of, as in train-00000-of-00002 or test.parquet."""
    name = path.stem.lower()
    numbered = _NUMBERED.fullmatch(name)
    if numbered is not None:
        return numbered[1]
    word = _FIRST_WORD.match(name)
    return word[0] if word is not None and word[0] in SPLITS else None


def _common_schema(query: Query, files: list[Path]) -> pa.Schema:
    """The schema of the first file, which all others have to share."""
    common = _schema(files[0])
    label = table_columns(query, common).label
    for path in files[1:]:
        schema = _schema(path)
        check_names(schema.names, path)
        for name in dict.fromkeys((*common.names, *schema.names)):
            kinds = [s.field(name).type if name in s.names else "nothing" for s in (common, schema)]
            if kinds[0] != kinds[1]:
                raise InputError(
                    f"{path}: the column {name!r} holds {kinds[1]}, but {kinds[0]} in {files[0].name}; write the"
                    " shards again with the same columns, or scan a single one"
                )
        if label is not None and class_names(schema, label, path) != class_names(common, label, files[0]):
            raise InputError(
                f"{path}: the class names of {label!r} are not those of {files[0].name}; write the shards again"
                " with the same class names, or scan a single one"
            )
    return common


def _schema(path: Path) -> pa.Schema:
    with _reading(path), open_parquet_file(path) as file:
        return file.schema_arrow


def _stamp(files: list[Path], column: str) -> tuple[object, ...]:
    found = [(path.name, path.stat()) for path in files]
    return (column, *([name, status.st_size, status.st_mtime_ns] for name, status in found))


def _guarded(path: Path, read: Callable[[], Iterator[Rows]]) -> Callable[[], Iterator[Rows]]:
    """Turn text that is no text, found only when it is decoded, into an error in one line."""

    def guarded() -> Iterator[Rows]:
        with _reading(path):
            yield from read()

    return guarded


def _image_bytes(files: list[Path], column: str, wanted: np.ndarray) -> Iterator[list[bytes | None]]:
    """The bytes of the `wanted` rows, ascending int64 (n,), in lists; row groups without any are not read."""
    start = 0
    for path in files:
        with _reading(path), open_parquet_file(path) as file:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                left, right = np.searchsorted(wanted, [start, stop])
                if right > left:
                    batches = _batches(path, file, [column], [group])
                    data = (pc.struct_field(batch.column(column), "bytes") for batch in batches)
                    yield from picked(data, wanted[left:right] - start)
                start = stop


def _batches_of(files: list[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for path in files:
        with _reading(path), open_parquet_file(path) as file:
            yield from _batches(path, file, columns, range(file.num_row_groups))


def _batches(
    path: Path, file: pq.ParquetFile, columns: list[str], groups: range | list[int]
) -> Iterator[pa.RecordBatch]:
    """Batches of at most 65,536 rows and about 64 MiB, so that image bytes never fill the memory."""
    meta = file.metadata
    heaviest = max(
        (meta.row_group(i).total_byte_size / max(1, meta.row_group(i).num_rows) for i in groups), default=1
    )
    size = int(min(BATCH_ROWS, max(1, _BATCH_BYTES // max(1, heaviest))))
    # What is written once and repeated may be all that a batch holds.
    repeated = longest_repeated(path, meta, groups, columns)
    at_once = min(size, max(1, _MOST_BYTES // max(1, repeated)))
    some: list[pa.RecordBatch] = []
    weight = 0
    for batch in file.iter_batches(batch_size=at_once, columns=columns, row_groups=list(groups)):
        some.append(batch)
        weight += batch.nbytes
        if weight >= _BATCH_BYTES or len(some) * at_once >= size:
            yield from _as_one(some)
            some, weight = [], 0
    yield from _as_one(some)


def _as_one(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return batches if len(batches) < 2 else pa.Table.from_batches(batches).combine_chunks().to_batches()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as Parquet ({reason}); write it again") from None
