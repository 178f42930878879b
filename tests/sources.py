"""Sources as files, and what the manifest made of them."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["cat", "dog", "eel"]
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def make_folder(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def write_rows(path, rows):
    """A source of the kind that the suffix names, from dicts with the same keys; values as Python has them."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path


def write_hf(path, images, labels, *, names=NAMES, extra=None, metadata=True, row_group_size=None):
    """A Parquet file as Hugging Face datasets writes it."""
    columns = {"image": pa.array(images, PICTURE), "label": pa.array(labels), **(extra or {})}
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def labels_of(manifest):
    return [manifest.class_names[i] if i >= 0 else None for i in manifest.given]


def extra_of(manifest):
    table = pa.Table.from_batches(list(manifest.batches()))
    return table.select(list(manifest.pass_through)).to_pydict()
