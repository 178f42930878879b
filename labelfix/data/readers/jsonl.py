"""Manifests of paths as JSON lines, one object a line, and what else comes as such objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelfix.data.readers.labels import json_label, json_text, strip_labels
from labelfix.data.readers.marks import read_marks
from labelfix.data.readers.rows import (
    BATCH_ROWS,
    Columns,
    OpenedSource,
    Query,
    Rows,
    path_rows,
    pick_columns,
    root_of,
    strings,
)
from labelfix.data.readers.several_labels import class_values, is_list, json_lists
from labelfix.errors import InputError

Records = Callable[[], Iterator[dict[str, Any]]]
_PROBLEMS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def open_jsonl(query: Query) -> OpenedSource:
    """Open a .jsonl file; blank lines are skipped, a key that a row lacks is null.

    The file is read twice: once for the types of its pass-through columns, once for its rows. A column keeps
    its natural Arrow type where one type holds for every row, otherwise it becomes JSON text.

    Raises:
        InputError: a line that is no JSON object, a missing column, or the file cannot be read.
    """
    return open_records(query, lambda: _records(query.path))


def open_records(
    query: Query,
    records: Records,
    class_names: tuple[str, ...] | None = None,
    warnings: Sequence[str] = (),
) -> OpenedSource:
    """Open what comes as JSON objects, one for each image.

    Args:
        query: what to read.
        records: yields the objects; called twice.
        class_names: the classes in their own order, where they have one.
        warnings: of who made the objects.

    Raises:
        InputError: a missing column, or what `records` raises.
    """
    types = _column_types(query, records)
    if not types:
        raise InputError(f"{query.path} is empty: it needs one JSON object per image")
    columns = pick_columns(list(types), query)
    extra = pa.schema([(name, types[name] or pa.string()) for name in columns.extra])
    as_text = frozenset(name for name in columns.extra if types[name] is None)
    label_type = None if columns.label is None else types[columns.label]
    is_multi = query.may_be_multi and (query.is_surely_multi or is_list(label_type))
    return OpenedSource(
        path=query.path,
        root=root_of(query),
        read=lambda: _read(query, records, columns, extra, as_text, is_multi=is_multi),
        extra=extra,
        class_names=class_names,
        warnings=[*warnings, *columns.warnings(query.path)],
        is_multi=is_multi,
    )


def jsonl_columns(
    path: Path, wanted: Sequence[str], *, lists: bool = False
) -> tuple[list[str], dict[str, pa.Array]]:
    """The keys of a .jsonl file, and those of the `wanted` ones that it has, as string columns; `lists` as JSON.

    Raises:
        InputError: a line that is no JSON object, a value that is a list or an object, or the file cannot be
            read.
    """
    return record_columns(path, _records(path), wanted, lists=lists)


def record_columns(
    path: Path, records: Iterable[dict[str, Any]], wanted: Sequence[str], *, lists: bool = False
) -> tuple[list[str], dict[str, pa.Array]]:
    """The keys of JSON objects, and those of the `wanted` ones that they have, as string columns; `lists` as JSON.

    Raises:
        InputError: a value that is a list or an object, or what `records` raises.
    """
    names: dict[str, None] = {}
    cells: dict[str, list[str | None]] = {name: [] for name in wanted}
    for row, record in enumerate(records):
        names.update(dict.fromkeys(record))
        for name, column in cells.items():
            value = record.get(name)
            if lists and isinstance(value, list):
                texts = [json_text(each, name, path, row) for each in value]
                value = json.dumps([text for text in texts if text is not None])
            column.append(json_text(value, name, path, row))
    return list(names), {name: strings(cells[name], path, 0) for name in wanted if name in names}


def _read(
    query: Query,
    records: Records,
    columns: Columns,
    extra: pa.Schema,
    as_text: frozenset[str],
    *,
    is_multi: bool,
) -> Iterator[Rows]:
    path = query.path
    for first, batch in _batches(query, records):
        cells: list[str | None] = [None] * len(batch)
        if columns.image is not None:
            cells = [
                _image_cell(record.get(columns.image), path, first + i) for i, record in enumerate(batch)
            ]
        labels, values = pa.nulls(len(batch), pa.string()), None
        if columns.labels:
            values = class_values(columns.labels, partial(_values, batch), path, first)
        elif columns.label is not None:
            cells_of_label = [record.get(columns.label) for record in batch]
            labels = _labels(cells_of_label, query, first, is_multi=is_multi)
        others = tuple(_column(batch, column, path, first, column.name in as_text) for column in extra)
        texts = {name: _texts(batch, name, path, first) for name in columns.marks}
        marks = read_marks(columns.marks, texts.__getitem__, path, first)
        yield path_rows(cells, labels, others, query, first, marks, values)


def _values(batch: list[dict[str, Any]], name: str) -> list[Any]:
    return [record.get(name) for record in batch]


def _labels(cells: list[Any], query: Query, first: int, *, is_multi: bool) -> pa.Array:
    if is_multi:
        return json_lists(cells, query.label_separator, query.path, first)
    texts = [json_label(cell, query.path, first + i) for i, cell in enumerate(cells)]
    return strip_labels(strings(texts, query.path, first))


def _column(batch: list[dict[str, Any]], field: pa.Field, path: Path, first: int, as_text: bool) -> pa.Array:
    values = [record.get(field.name) for record in batch]
    if as_text:
        values = [None if x is None else json.dumps(x, ensure_ascii=False) for x in values]
    if pa.types.is_string(field.type):
        return strings(values, path, first)
    return pa.array(values, type=field.type)


def _texts(batch: list[dict[str, Any]], name: str, path: Path, first: int) -> pa.Array:
    texts = [json_text(record.get(name), name, path, first + i) for i, record in enumerate(batch)]
    return strings(texts, path, first)


def _image_cell(value: Any, path: Path, row: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{path}: the image of row {row} is {json.dumps(value)[:60]}; it must be a path as text")


def _column_types(query: Query, records: Records) -> dict[str, pa.DataType | None]:
    """Arrow type of every key, in order of first appearance; None where no one type holds all values."""
    types: dict[str, pa.DataType | None] = {}
    for _, batch in _batches(query, records):
        for name in dict.fromkeys(key for record in batch for key in record):
            known = types.get(name, pa.null())
            types[name] = None if known is None else _wider(known, [record.get(name) for record in batch])
    return types


def _wider(known: pa.DataType, values: list[Any]) -> pa.DataType | None:
    """The type that holds `values` and everything of type `known` without loss; None where none does."""
    try:
        # The values themselves are converted too: inference alone lets integers beyond the type pass.
        kind = pa.array(values, type=pa.infer_type(values)).type
        merged = pa.unify_schemas(
            [pa.schema([("x", known)]), pa.schema([("x", kind)])], promote_options="permissive"
        )
    except _PROBLEMS:
        return None
    return merged.field("x").type


def _batches(query: Query, records: Records) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    wanted = islice(records(), query.rows)
    first = 0
    while batch := list(islice(wanted, BATCH_ROWS)):
        yield first, batch
        first += len(batch)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    row = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for line, text in enumerate(file, 1):
                if not text.isspace():
                    yield _record(text, path, row, line)
                    row += 1
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _record(text: str, path: Path, row: int, line: int) -> dict[str, Any]:
    try:
        text.encode()
        record = json.loads(text)
        if "\\u" in text:  # half a character can hide in an escape
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{path}: row {row} (line {line}) is not valid UTF-8; save the file in UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{path}: row {row} (line {line}) is no JSON ({reason}); correct the line") from None
    if not isinstance(record, dict):
        raise InputError(
            f'{path}: row {row} (line {line}) is no JSON object; write {{"file_name": ..., "label": ...}}'
        )
    return record
