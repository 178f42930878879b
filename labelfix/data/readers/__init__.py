"""Readers of sources, one per kind: class folders, CSV/TSV and JSON-lines manifests, Parquet, data in memory.

`open_source` picks the reader of a path, `open_memory` that of an object; every reader answers with an
`OpenedSource`, which yields `Rows`.
"""

from __future__ import annotations

from labelfix.data.readers.columns import picked, unique_file_names
from labelfix.data.readers.delimited import escape_cell, open_delimited, unescape_cell
from labelfix.data.readers.folders import open_folder
from labelfix.data.readers.jsonl import open_jsonl
from labelfix.data.readers.memory import open_memory, title_of
from labelfix.data.readers.parquet import open_parquet
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows
from labelfix.errors import InputError

__all__ = [
    "BATCH_ROWS",
    "OpenedSource",
    "Query",
    "Rows",
    "escape_cell",
    "open_memory",
    "open_source",
    "picked",
    "title_of",
    "unescape_cell",
    "unique_file_names",
]

_READERS = {".csv": open_delimited, ".tsv": open_delimited, ".jsonl": open_jsonl, ".parquet": open_parquet}


def open_source(query: Query) -> OpenedSource:
    """Open a folder of class folders or of Parquet shards, or a manifest by its extension.

    Raises:
        InputError: the source is not there, of no known kind, or not readable; or an option is wrong.
    """
    query.check()
    if query.path.is_dir():
        return open_folder(query)
    if not query.path.exists():
        raise InputError(f"{query.path} does not exist; check the path of the source")
    if not query.path.is_file():
        raise InputError(f"{query.path} is no regular file; a source is a folder or a manifest file")
    reader = _READERS.get(query.path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{query.path} is no source; scan a folder of class folders or one of {', '.join(_READERS)}"
        )
    return reader(query)
