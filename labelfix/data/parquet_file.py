"""Opening Parquet that anybody may have made: what it unpacks to is looked at before any of it is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.errors import InputError

# Whatever the size of a file it may hold so much; beyond it so many times its size. Numbered names and equal labels, as
# tightly packed as there is a way to, are 16 rows a byte, and unpack to 80 times the file.
_FREE_ROWS = 5_000_000
_ROWS_PER_BYTE = 32
_FREE_BYTES = 256 << 20
_UNPACKED_PER_BYTE = 200
_CELL_BYTES = 256 << 20
_FIRST_ROWS = 64
_SHORT = 1 << 10
# A buffered reader keeps a column of a row group from being loaded whole.
_BUFFER = 1 << 20


def open_parquet_file(path: Path) -> pq.ParquetFile:
    """Open a Parquet file, to be read in batches; it is a context manager.

    Raises:
        InputError: its rows, a column or a cell take more than an honest file of its size can hold.
        pa.ArrowException: it is no Parquet, or damaged.
        OSError: it cannot be read.
    """
    status = os.stat(path)
    try:
        _check(path, status.st_size, status.st_mtime_ns)
        file = pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        _ = file.schema_arrow.names
    except UnicodeDecodeError:
        raise pa.ArrowInvalid("the name of a column is no UTF-8") from None
    return file


@lru_cache(maxsize=1 << 14)
def _check(path: Path, size: int, _changed: int) -> None:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        meta = file.metadata
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    rows = max(meta.num_rows, sum(group.num_rows for group in groups))
    if rows > max(_FREE_ROWS, _ROWS_PER_BYTE * size):
        raise InputError(
            f"{path} has {rows} rows in {size} bytes, which no table of images takes; write it again"
        )
    limit = max(_FREE_BYTES, _UNPACKED_PER_BYTE * size)
    for number, group in enumerate(groups):
        for place in range(group.num_columns):
            chunk = group.column(place)
            name = chunk.path_in_schema
            held = chunk.total_uncompressed_size
            if chunk.physical_type == "BYTE_ARRAY" and held > _CELL_BYTES * max(1, chunk.num_values):
                raise InputError(
                    f"{path}: a cell of the column {name!r} takes more than {_CELL_BYTES >> 20} MiB; leave it out"
                )
            if held <= limit < _dictionary_bytes(chunk) * chunk.num_values:
                held = max(held, _unpacked(path, number, chunk, limit))
            if held > limit:
                raise InputError(
                    f"{path}: the column {name!r} unpacks to {held >> 20} MiB from a file of {size} bytes, which no"
                    " images or labels do; write it again without that column, or in smaller row groups"
                )


def _dictionary_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    """At most so many bytes take the texts that stand in a chunk once and are repeated by number; 0 without any."""
    if chunk.physical_type != "BYTE_ARRAY" or not any("DICTIONARY" in name for name in chunk.encodings):
        return 0
    held = int(chunk.total_uncompressed_size)
    if not chunk.has_dictionary_page:
        return held
    # What is not packed any smaller, as images are not, is as large as it says; the rest may be the dictionary.
    packed = max(0, chunk.data_page_offset - chunk.dictionary_page_offset)
    return min(held, packed + max(0, held - chunk.total_compressed_size))


def longest_repeated(path: Path, meta: pq.FileMetaData, groups: Iterable[int], columns: Sequence[str]) -> int:
    """At most so many bytes takes a text or image of some columns that row groups hold once and repeat by number."""
    longest = 0
    for number in groups:
        group = meta.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if not any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in columns):
                continue
            held = _dictionary_bytes(chunk)
            # To look is cheap where texts are short, and reads them all where they are images.
            if held > _SHORT and chunk.total_uncompressed_size < _SHORT * chunk.num_values:
                held = _longest(path, number, chunk)
            longest = max(longest, held)
    return longest


def _unpacked(path: Path, group: int, chunk: pq.ColumnChunkMetaData, limit: int) -> int:
    """The bytes that a chunk takes with its repetitions, which are counted, not made; 0 where they are few."""
    if _longest(path, group, chunk) * chunk.num_values <= limit:
        return 0
    total = 0
    for values in _read_repeated(path, group, chunk, 1 << 16):
        lengths = pc.cast(pc.binary_length(values.dictionary), pa.int64())
        total += pc.sum(lengths.take(values.indices)).as_py() or 0
        if total > limit:
            break
    return total


def _longest(path: Path, group: int, chunk: pq.ColumnChunkMetaData) -> int:
    """Length in bytes of the longest text that a chunk repeats; its first rows come with all of those."""
    first = next(_read_repeated(path, group, chunk, _FIRST_ROWS), None)
    return 0 if first is None else pc.max(pc.binary_length(first.dictionary)).as_py() or 0


def _read_repeated(
    path: Path, group: int, chunk: pq.ColumnChunkMetaData, rows: int
) -> Iterator[pa.DictionaryArray]:
    """Yield a column of a row group by number, so many rows at a time: what is repeated is in memory once."""
    column = chunk.path_in_schema
    with pq.ParquetFile(path, read_dictionary=[column], buffer_size=_BUFFER, pre_buffer=False) as file:
        for batch in file.iter_batches(rows, row_groups=[group], columns=[column]):
            yield from _dictionaries(batch.column(0))


def _dictionaries(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The one leaf of a column that was read with its repetitions by number."""
    if pa.types.is_dictionary(array.type):
        yield array
    elif pa.types.is_struct(array.type):
        yield from _dictionaries(array.field(0))
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _dictionaries(array.flatten())
