"""Hugging Face datasets: a folder for `load_dataset("imagefolder", data_dir=DIR)`, or one Parquet file with its images.

Labels are a ClassLabel with the class names of the run, or a Sequence of them where an image may have several. The
source's own columns come along, findings do not: what was corrected is the next source, and labelfix scans both as
they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.data.findings_schema import MULTI_COLUMNS, RESERVED_COLUMNS, REVIEW_COLUMNS
from labelfix.errors import InputError
from labelfix.exports.base import Export
from labelfix.exports.images import Original, originals

SUFFIXES: tuple[str, ...] = ("", ".parquet")
NEEDS: tuple[str, ...] = ("sample_id",)
HOLDS_IMAGES = True
IS_TEXT = False
TAKES_SEVERAL = True

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FILES_A_FOLDER = 10_000  # the most that the Hub takes well
_GROUP_ROWS, _GROUP_BYTES = 1000, 32 << 20


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write a folder, or a Parquet file where `path` is none.

    Raises:
        InputError: two columns would have the same name.
    """
    extra = _extra(export)
    if path.is_dir():
        _write_folder(path, export, extra)
    else:
        _write_file(path, export, extra)
    return {}


def _write_folder(path: Path, export: Export, extra: dict[str, str]) -> None:
    """`metadata.parquet`, and the images by sample_id: in another name `datasets` might see a split, such as test."""
    named = {} if "source_name" in extra else {"source_name": "file_name"}
    columns = {"file_name": pa.string(), "label": _label_type(export)}
    schema = _schema(export, columns, named | extra)
    with pq.ParquetWriter(path / "metadata.parquet", schema) as metadata:
        for batch in export.batches:
            rows = batch.column("sample_id").to_numpy()
            names = []
            file_names = batch.column("file_name").to_pylist()
            found = originals(export.originals, rows)
            for image, row, file_name in zip(found, rows, file_names, strict=True):
                folder = f"images/{row // _FILES_A_FOLDER:06d}"
                names.append(f"{folder}/{row:09d}{image.extension(file_name)}")
                if len(names) == 1 or not names[-2].startswith(folder):
                    (path / folder).mkdir(parents=True, exist_ok=True)
                image.write(path / names[-1], export.images)
            _write_rows(metadata, schema, pa.array(names, pa.string()), batch, export, named | extra)


def _write_file(path: Path, export: Export, extra: dict[str, str]) -> None:
    schema = _schema(export, {"image": _IMAGE, "label": _label_type(export)}, extra)
    with pq.ParquetWriter(path, schema) as writer:
        for batch in export.batches:
            found = originals(export.originals, batch.column("sample_id").to_numpy())
            first = 0
            for images in _groups(found):
                part = batch.slice(first, len(images))
                data = [pa.array(images, pa.binary()), part.column("file_name")]
                image = pa.StructArray.from_arrays(data, fields=list(_IMAGE))
                _write_rows(writer, schema, image, part, export, extra)
                first += len(images)


def _groups(found: Iterator[Original]) -> Iterator[list[bytes]]:
    """The bytes of the images in lists that are small enough for one row group."""
    images: list[bytes] = []
    weight = 0
    for image in found:
        images.append(image.read())
        weight += len(images[-1])
        if len(images) == _GROUP_ROWS or weight >= _GROUP_BYTES:
            yield images
            images, weight = [], 0
    if images:
        yield images


def _write_rows(
    writer: pq.ParquetWriter,
    schema: pa.Schema,
    first: pa.Array,
    batch: pa.RecordBatch,
    export: Export,
    extra: dict[str, str],
) -> None:
    column = batch.column("label")
    labels = (
        export.class_lists(column) if export.is_multi else pa.array(export.class_indices(column), pa.int64())
    )
    others = [batch.column(name) for name in extra.values()]
    writer.write_batch(pa.RecordBatch.from_arrays([first, labels, *others], names=schema.names).cast(schema))


def _label_type(export: Export) -> pa.DataType:
    return pa.list_(pa.int64()) if export.is_multi else pa.int64()


def _schema(export: Export, columns: dict[str, pa.DataType], extra: dict[str, str]) -> pa.Schema:
    label: dict[str, Any] = {"_type": "ClassLabel", "names": export.class_names}
    features: dict[str, Any] = {
        "label": {"_type": "Sequence", "feature": label} if export.is_multi else label
    }
    if "image" in columns:
        features["image"] = {"_type": "Image"}
    others = [export.schema.field(name).with_name(shown) for shown, name in extra.items()]
    metadata = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    return pa.schema([*columns.items(), *others], metadata={"huggingface": metadata})


def _extra(export: Export) -> dict[str, str]:
    """The source's own columns by the name that they have here.

    `datasets` takes a column of the name X_file_name for images X: such a one becomes X_file. `image` becomes
    source_image.
    """
    ours = (
        RESERVED_COLUMNS
        | (MULTI_COLUMNS if export.is_multi else set())
        | {"label"}
        | (set(REVIEW_COLUMNS) if export.is_reviewed else set())
    )
    extra: dict[str, str] = {}
    for name in export.schema.names:
        if name in ours:
            continue
        shown = "source_image" if name == "image" else re.sub(r"(^|_)file_name(s?)$", r"\1file\2", name)
        if shown in extra:
            raise InputError(
                f"--to hf: the source's columns {extra[shown]!r} and {name!r} would both be called {shown!r}; rename"
                " one in the source"
            )
        extra[shown] = name
    return extra
