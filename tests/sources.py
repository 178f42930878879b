"""Sources as files, and what the manifest made of them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["cat", "dog", "eel"]


def make_folder(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def write_hf(path, images, labels, *, names=NAMES, extra=None, feature=None, metadata=True):
    """A Parquet file as Hugging Face datasets writes it."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kind), "label": pa.array(labels), **(extra or {})}
    features = {"image": {"_type": "Image"}, "label": feature or {"names": names, "_type": "ClassLabel"}}
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def labels_of(manifest):
    return [manifest.class_names[i] if i >= 0 else None for i in manifest.given]


def extra_of(manifest):
    table = pa.Table.from_batches(list(manifest.batches()))
    return table.select(list(manifest.pass_through)).to_pydict()
