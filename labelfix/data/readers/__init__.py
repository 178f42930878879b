"""Readers of sources, one per kind: class folders, CSV/TSV and JSON-lines manifests, Parquet, data in memory.

`open_source` picks the reader of a path, `open_memory` that of an object; every reader answers with an
`OpenedSource`, which yields `Rows`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labelfix.data.readers.columns import picked, unique_file_names
from labelfix.data.readers.delimited import escape_cell, unescape_cell
from labelfix.data.readers.folders import open_folder
from labelfix.data.readers.manifests import open_manifest
from labelfix.data.readers.memory import open_memory, title_of
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, scanned_options
from labelfix.errors import InputError
from labelfix.output_paths import FINDINGS, is_run

__all__ = [
    "BATCH_ROWS",
    "OpenedSource",
    "Query",
    "Rows",
    "escape_cell",
    "open_memory",
    "open_source",
    "picked",
    "scanned_options",
    "title_of",
    "unescape_cell",
    "unique_file_names",
]


def open_source(query: Query) -> OpenedSource:
    """Open a folder of class folders or of Parquet shards, a run folder, or a manifest by its extension.

    Of a run, or its corrections, what it scanned is opened again.

    Raises:
        InputError: the source is not there, of no known kind, or not readable; or an option is wrong.
    """
    query.check()
    if query.path.name == FINDINGS and is_run(query.path.parent):
        query = replace(query, path=query.path.parent)
    if query.path.is_dir():
        return _open_scanned(query) if is_run(query.path) else open_folder(query)
    if not query.path.exists():
        raise InputError(f"{query.path} does not exist; check the path of the source")
    if not query.path.is_file():
        raise InputError(f"{query.path} is no regular file; a source is a folder or a manifest file")
    return open_manifest(query)


def _open_scanned(query: Query) -> OpenedSource:
    """Open what a run scanned, with its own columns where none are named."""
    options = scanned_options(query.path)
    if options is None:
        raise InputError(
            f"{query.path} is a run of images in memory, or has lost its config.json; scan its source"
        )
    source = Path(options["source"])
    if not source.exists() or is_run(source):
        raise InputError(
            f"{query.path} is a run over {source}, which is not there; scan the source where it is now"
        )
    again = replace(
        query,
        path=source,
        root=query.root or (Path(options["root"]) if options.get("root") and not source.is_dir() else None),
        image_column=query.image_column or options.get("image_column"),
        label_column=query.label_column or options.get("label_column"),
    )
    opened = open_source(again)
    opened.warnings.insert(0, f"{query.path} is a run: what it scanned, {source}, is scanned again")
    return opened
