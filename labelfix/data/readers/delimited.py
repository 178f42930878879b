"""Manifests of paths as CSV or TSV: every cell is text, nothing is inferred."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa

from labelfix.data.findings_schema import MULTI_COLUMNS
from labelfix.data.readers.labels import strip_labels
from labelfix.data.readers.marks import read_marks
from labelfix.data.readers.rows import (
    BATCH_ROWS,
    Columns,
    OpenedSource,
    Query,
    Rows,
    check_names,
    is_unicode,
    path_rows,
    pick_columns,
    root_of,
    strings,
)
from labelfix.data.readers.several_labels import class_values, split_texts
from labelfix.errors import InputError

_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}
SEPARATORS = ";\t\r\n"
# The wide ones begin formulas in East Asian locales.
_SIGN = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
_STARTS = re.compile(f"'*(?:{_SIGN}|[\t\r\n])")
INSIDE = f"([{SEPARATORS}]\"*)('*{_SIGN})"
_ESCAPED_INSIDE = re.compile(f"([{SEPARATORS}]\"*)'('*{_SIGN})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def open_delimited(query: Query) -> OpenedSource:
    """Open a .csv or .tsv file with a header; blank lines and rows without any text are skipped, the latter counted.

    So are columns without a name that hold nothing, as spreadsheets leave them at the right. Cells that labelfix's own
    csv export escaped are read back unescaped (.csv only).

    Raises:
        InputError: no header, a missing column, or the file cannot be read; from the rows also ragged ones,
            broken quotes and bytes that are no UTF-8.
    """
    names = _header(query.path)
    columns = pick_columns(names, query)
    warnings = columns.warnings(query.path)
    if query.task == "auto" and not query.is_surely_multi and MULTI_COLUMNS & {*columns.left_out}:
        warnings.append(
            f"{query.path} looks like an export of several labels, and each text is read as one; add"
            " --label-separator ';'"
        )
    return OpenedSource(
        path=query.path,
        root=root_of(query),
        read=lambda: _read(query, names, columns, warnings),
        extra=pa.schema([(name, pa.string()) for name in columns.extra]),
        warnings=warnings,
        is_multi=query.may_be_multi and query.is_surely_multi,
    )


def delimited_columns(path: Path, wanted: Sequence[str]) -> tuple[list[str], dict[str, pa.Array]]:
    """The names of all columns of a .csv or .tsv file, and those of the `wanted` ones that it has, as strings.

    Raises:
        InputError: as in `open_delimited`; a name that stands there twice.
    """
    names = _header(path)
    check_names(names, path)
    places = {name: names.index(name) for name in wanted if name in names}
    cells: dict[str, list[str]] = {name: [] for name in places}
    for record in _checked(path, len(names), []):
        for name, place in places.items():
            cells[name].append(record[place])
    return names, {name: strings(column, path, 0) for name, column in cells.items()}


def _header(path: Path) -> list[str]:
    header = next(_records(path), None)
    if header is None:
        raise InputError(f"{path} is empty: it needs a header line and a row per image")
    if not all(map(is_unicode, header[1])):
        raise InputError(f"{path}: the header is not valid UTF-8; save the file in UTF-8")
    _check_separator(path, header[1])
    names = header[1]
    while names and not names[-1].strip():
        names = names[:-1]
    return names


def _check_separator(path: Path, names: list[str]) -> None:
    """Refuse a header in one piece, as spreadsheets write it where the comma is the decimal sign."""
    wanted = "commas" if path.suffix.lower() == ".csv" else "tabs"
    for other, separator in _SEPARATORS.items():
        if len(names) == 1 and other in names[0] and separator != wanted:
            raise InputError(f"{path}: its columns are separated by {separator}; save it with {wanted}")


def _read(query: Query, names: list[str], columns: Columns, warnings: list[str]) -> Iterator[Rows]:
    records = _checked(query.path, len(names), warnings)
    first = 0
    while batch := list(islice(records, _wanted(query.rows, first))):
        table = dict(zip(names, zip(*batch, strict=True), strict=True))
        cells = {name: strings(table[name], query.path, first) for name in {*columns.extra, *columns.marks}}
        labels, values = pa.nulls(len(batch), pa.string()), None
        if columns.label is not None:
            labels = _labels(strings(table[columns.label], query.path, first), query)
        elif columns.labels:
            values = class_values(columns.labels, table.__getitem__, query.path, first)
        extra = tuple(cells[name] for name in columns.extra)
        marks = read_marks(columns.marks, cells.__getitem__, query.path, first)
        images = [None] * len(batch) if columns.image is None else table[columns.image]
        yield path_rows(images, labels, extra, query, first, marks, values)
        first += len(batch)


def _labels(texts: pa.Array, query: Query) -> pa.Array:
    """One label of each cell, or the several that it holds."""
    if not (query.may_be_multi and query.is_surely_multi):
        return strip_labels(texts)
    if query.label_separator is None:
        raise InputError(
            f"{query.path}: say how its labels are separated with --label-separator, such as ';'"
        )
    return split_texts(texts, query.label_separator)


def _wanted(rows: int | None, first: int) -> int:
    return BATCH_ROWS if rows is None else min(BATCH_ROWS, rows - first)


def _checked(path: Path, width: int, warnings: list[str]) -> Iterator[list[str]]:
    row = num_blank = 0
    for line, record in islice(_records(path), 1, None):
        text = "".join(record)  # the work of a row counts here, and a generator takes twice as long
        if not text or text.isspace():
            num_blank += 1
            continue
        if len(record) > width and not any(cell.strip() for cell in record[width:]):
            record = record[:width]
        if len(record) != width:
            raise InputError(
                f"{path}: row {row} (line {line}) has {len(record)} cells where the header has {width};"
                " correct it, or put cells with separators in quotes"
            )
        yield record
        row += 1
    if num_blank:
        warnings.append(f"{path}: {num_blank} rows hold nothing at all and are skipped")


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every record that is not blank, the header included."""
    comma = path.suffix.lower() == ".csv"
    try:
        # What is no UTF-8 becomes lone surrogates, so that the row can be named.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter="," if comma else "\t", strict=True)
            for record in _parsed(reader, path):
                if record:
                    yield reader.line_num, _unescaped(record) if comma else record
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _unescaped(record: list[str]) -> list[str]:
    return [unescape_cell(cell) if "'" in cell else cell for cell in record]


def _parsed(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise InputError(f"{path}: line {line} cannot be read ({error}); correct its quotes") from None


def escape_cell(text: str, *, is_first: bool = False) -> str:
    """Put an apostrophe before what a spreadsheet of any locale would run as a formula; plain numbers stay.

    What already has apostrophes before such a sign gets one more, so that
    `unescape_cell(escape_cell(text)) == text` for every text.

    Args:
        text: of the cell.
        is_first: whether it begins a line: there a number is escaped too, which `-1,2+A1` would go on from.
    """
    runs = _STARTS.match(text) and (is_first or not _NUMBER.fullmatch(text))
    return ("'" if runs else "") + re.sub(INSIDE, r"\1'\2", text)


def unescape_cell(text: str) -> str:
    """Take away the apostrophes that `escape_cell` put; any other text stays as it is."""
    inside = _ESCAPED_INSIDE.sub(r"\1\2", text)
    return inside[1:] if inside.startswith("'") and _STARTS.match(inside[1:]) else inside
