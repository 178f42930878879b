"""Small tables of text: some columns of a csv, tsv, jsonl or Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from labelfix.data.readers.annotations import json_columns
from labelfix.data.readers.delimited import delimited_columns
from labelfix.data.readers.jsonl import jsonl_columns
from labelfix.data.readers.parquet import parquet_columns
from labelfix.errors import InputError

_READERS = {
    ".jsonl": jsonl_columns,
    ".json": json_columns,
    ".parquet": parquet_columns,
}
_SEPARATED = (".csv", ".tsv")
TABLES = ", ".join([*_SEPARATED, *_READERS])


def text_columns(
    path: Path, wanted: Sequence[str], option: str, *, lists: bool = False
) -> tuple[list[str], dict[str, pa.Array]]:
    """The names of all columns of a table, and those of the `wanted` ones that it has, as strings (n,).

    With `lists` cells may be lists, which become JSON texts; csv and tsv have none.

    Raises:
        InputError: of no supported kind, which begins with the option; or what its reader says.
    """
    check_table(path, option)
    if path.suffix.lower() in _SEPARATED:
        return delimited_columns(path, wanted)
    return _READERS[path.suffix.lower()](path, wanted, lists=lists)


def check_table(path: Path, option: str) -> None:
    """Refuse a file of another kind.

    Raises:
        InputError: begins with the option.
    """
    if path.suffix.lower() not in (*_SEPARATED, *_READERS):
        raise InputError(f"{option} {path}: such a file is one of {TABLES}")
