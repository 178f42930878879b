"""Rows of a manifest as a Parquet file of our own, with a mark by which it is known again."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.atomic_files import atomic_path
from labelfix.data.known_truth import column_of
from labelfix.data.manifest import Manifest
from labelfix.results.corrections import label_lists

MARK = b"labelfix-bench"
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PIECE_ROWS = 1_024


def write_plain(path: Path, manifest: Manifest, rows: np.ndarray, mark: str = "") -> None:
    """Write rows of a manifest so that they scan without options: image, label, and split and group where there are.

    Args:
        path: the Parquet file.
        manifest: of the rows.
        rows: (n,) int64, ascending.
        mark: kept in the file's metadata.
    """
    found = (image for image in manifest.sample_images(rows) if image is not None)
    holds_bytes = manifest.holds_addresses or isinstance(next(found, None), bytes)
    extra = [field for field in manifest.pass_through_fields if field.name in ("split", "group")]
    picture = pa.field("image", _PICTURE) if holds_bytes else pa.field("file_name", pa.string())
    # As class numbers with their names: texts would lose the order of the classes, which `pair` noise follows.
    features = {"label": {"names": list(manifest.class_names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), MARK: mark.encode()}
    kind, is_multi = pa.int64(), manifest.task == "multi"
    if is_multi:
        kind, metadata = pa.list_(pa.string()), {MARK: mark.encode()}
    schema = pa.schema([picture, pa.field("label", kind), *extra], metadata=metadata)
    names = manifest.file_names().take(pa.array(rows))
    given = manifest.given[rows]
    labels = lists_of(manifest, rows) if is_multi else pa.array(given, mask=given < 0)
    marks = [column_of(manifest, field.name).take(pa.array(rows)) for field in extra]
    images = manifest.sample_images(rows)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for first in range(0, len(rows), _PIECE_ROWS):
            piece = list(islice(images, _PIECE_ROWS))
            part = slice(first, first + len(piece))
            if holds_bytes:
                pairs = zip(piece, names[part].to_pylist(), strict=True)
                pictures = pa.array([_picture(image, name) for image, name in pairs], _PICTURE)
            else:
                pictures = pa.array([None if image is None else str(image) for image in piece], pa.string())
            columns = [pictures, labels[part], *(column[part] for column in marks)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def lists_of(manifest: Manifest, rows: np.ndarray) -> pa.ListArray:
    """What some rows (n,) int64 are labelled where they may have several labels, as lists of texts."""
    assert manifest.targets is not None
    targets = manifest.targets[rows]
    known = ~np.isnan(targets).any(axis=1)
    return label_lists(np.nan_to_num(targets) >= 0.5, known, pa.array(manifest.class_names, pa.string()))


def _picture(image: Path | bytes | None, name: str) -> dict[str, Any]:
    is_file = isinstance(image, Path)
    return {"bytes": None if is_file else image, "path": str(image) if is_file else name}


def mark_of(path: Path) -> str | None:
    """What was written into the metadata of a file of ours; None for anything else."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return metadata[MARK].decode() if MARK in metadata else None
