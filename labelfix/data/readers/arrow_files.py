"""Datasets that `datasets` saved to disk: a folder of Arrow files, or one such folder for each split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.columns import image_rows, image_struct, open_columns, picked
from labelfix.data.readers.rows import OpenedSource, Query, check_names
from labelfix.errors import InputError
from labelfix.json_files import are, is_path, load_object

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_SPLIT = "split"
_Part = tuple[Path, str | None]  # an Arrow file, and the split that it is of


def is_saved_dataset(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote a folder."""
    return (folder / _SPLITS).is_file() or (
        (folder / _STATE).is_file() and (folder / "dataset_info.json").is_file()
    )


def open_saved_dataset(query: Query) -> OpenedSource:
    """Open a saved Dataset, or all splits of a DatasetDict, whose names become the column `split`.

    Raises:
        InputError: a file that is missing or damaged, splits with other columns, or what `open_columns` says.
    """
    parts = _parts(query.path)
    schemas = [_schema(path) for path, _ in parts]
    plain = [schema.remove_metadata() for schema in schemas]
    other = next((place for place, schema in enumerate(plain) if schema != plain[0]), None)
    if other is not None:
        raise InputError(
            f"{parts[other][0]}: its columns are not those of {parts[0][0]}; scan one of the splits"
        )
    schema = schemas[0]
    check_names(schema.names, query.path)
    adds_split = parts[0][1] is not None and _SPLIT not in schema.names
    if adds_split:
        schema = schema.append(pa.field(_SPLIT, pa.string()))
    query = replace(query, root=query.root or query.path)

    def batches(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        for path, split in parts:
            for batch in _batches(path):
                if adds_split:
                    batch = batch.append_column(_SPLIT, pa.array([split] * len(batch), pa.string()))
                yield batch.select(wanted)

    source = open_columns(query, schema, batches, image_rows)
    column = image_struct(query, schema)
    if column is None:
        return source
    stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path, _ in parts]
    return replace(source, image_bytes=lambda rows: _image_bytes(parts, column, rows), stamp=(column, *stamp))


def _parts(folder: Path) -> list[_Part]:
    """The Arrow files in their order."""
    if not (folder / _SPLITS).is_file():
        return [(path, None) for path in _files(folder)]
    try:
        splits = load_object(folder / _SPLITS, {"splits": are(is_path)})["splits"]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / _SPLITS} cannot be read ({error}); save the dataset again") from None
    return [(path, split) for split in splits for path in _files(folder / split)]


def _files(folder: Path) -> list[Path]:
    try:
        state = load_object(folder / _STATE, {})
        names = [part["filename"] for part in state["_data_files"]]
        if not names or state.get("_indices_data_files") or not are(is_path)(names):
            raise ValueError("it names no data files, or rows in another order")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / _STATE} cannot be read ({error}); save the dataset again") from None
    return [folder / Path(name).name for name in names]


def _schema(path: Path) -> pa.Schema:
    with _reading(path), pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        return reader.schema


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with _reading(path), pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            # Offsets that lead out of the file would be read all the same.
            batch.validate(full=True)
            yield batch


def _image_bytes(parts: list[_Part], column: str, wanted: np.ndarray) -> Iterator[list[bytes | None]]:
    """The bytes of the `wanted` rows, ascending int64 (n,), in lists."""
    data = (pc.struct_field(batch.column(column), "bytes") for path, _ in parts for batch in _batches(path))
    yield from picked(data, wanted)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as Arrow ({reason}); save the dataset again") from None
