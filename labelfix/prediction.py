"""predict(): the predictions of a trained classifier for other images, as one Parquet file, a row group at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from labelfix.atomic_files import atomic_path
from labelfix.data.findings_schema import LABEL_TYPE
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.data.readers.several_labels import column_names
from labelfix.device_errors import plain_device_errors
from labelfix.devices import resolve_device
from labelfix.errors import InputError
from labelfix.output_paths import check_new, check_no_folder, check_output
from labelfix.reporting import Reporter, Silent
from labelfix.results.classifier import HALF, NOT_FINITE, Classifier, load_classifier
from labelfix.results.corrections import (
    METADATA_KEY,
    ROW_GROUP,
    distribution_array,
    label_array,
    label_lists,
    number_lists,
)
from labelfix.training.batches import Source
from labelfix.training.predictions import batch_logits

DEFAULT_OUT = "predictions.parquet"
_CONFIDENCE = "confidence"


def predict(
    classifier: str | Path,
    source: Any,
    *,
    out: str | Path = DEFAULT_OUT,
    device: str = "auto",
    rows: int | None = None,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_columns: Sequence[str] | str | None = None,
    label_separator: str | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Label images with a trained classifier and write a row for each, in the order of the source.

    With a classifier for several labels an image the label columns are lists, and `confidence` is the smallest
    probability of what is said of a class.

    Columns: `sample_id`, `file_name`, `given_label` (null without one), `predicted_label`, `confidence` (probability of
    that label, 0 to 1), `predicted_probs` (one probability per class), `is_valid`, `error` (of images that cannot be
    read, and of all where the classifier diverged: these are not predicted), then the columns that the source passes
    through. The schema metadata `labelfix` (JSON) holds the class names and the method.

    Args:
        classifier: the classifier folder of a run, or the run folder; it needs nothing beside it.
        source: as of `scan`; labels may be missing, and every image in a folder is predicted, whatever its folders are.
        out: the Parquet file.
        device: auto, cpu, cuda, cuda:N or mps.
        rows: only the first so many rows.
        root: folder that a manifest's relative paths start from.
        image_column: of a manifest or Parquet file.
        label_column: of a manifest or Parquet file.
        label_columns: several labels a row, see `Manifest.read`; names with commas, a JSON list, or a sequence.
        label_separator: the same.
        overwrite: replace an existing file.
        reporter: shows progress and messages.

    Returns:
        JSON-able: path, rows, predicted, invalid (counts), class_names.

    Raises:
        InputError: no classifier, a bad source, or an `out` that must not be written.
    """
    reporter = reporter or Silent()
    target = Path(out)
    model = load_classifier(classifier)
    where = torch.device(resolve_device(device))
    manifest = Manifest.read(
        source,
        rows=rows,
        root=root,
        image_column=image_column,
        label_column=label_column,
        require_labels=False,
        every_image=True,
        **_several(model, label_columns, label_separator),
    )
    _check_out(target, manifest, overwrite=overwrite)
    for warning in manifest.warnings:
        reporter.message(f"warning: {warning}")
    store = ImageStore.open_or_build(
        manifest,
        model.spec.image_size,
        on_progress=lambda done, all_: reporter.progress("decode", done, all_),
        white=model.white,
    )
    with plain_device_errors(str(where)):
        predicted = _write(target, manifest, store, model, where, reporter)
    return {
        "path": str(target),
        "rows": manifest.num_rows,
        "predicted": predicted,
        "invalid": manifest.num_rows - predicted,
        "class_names": list(model.class_names),
    }


def _several(model: Classifier, columns: Sequence[str] | str | None, separator: str | None) -> dict[str, Any]:
    """How the given labels, which nothing rests on, are read; options for several need a classifier for several."""
    if model.task == "single":
        has_columns = columns is not None and len(columns) > 0
        if has_columns or separator is not None:
            option = "--label-columns" if has_columns else "--label-separator"
            raise InputError(f"{option}: this classifier gives an image one label; leave it out")
        return {"task": "auto"}
    return {"task": "auto", "label_columns": column_names(columns), "label_separator": separator}


def _write(
    target: Path,
    manifest: Manifest,
    store: ImageStore,
    model: Classifier,
    device: torch.device,
    reporter: Reporter,
) -> int:
    """Write the file; how many rows are predicted."""
    schema, predicted = _schema(manifest, model), 0
    images = Source(store.images, model.augmentation(device), device)
    network = model.network.to(device)
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        first = 0
        for batch in manifest.batches(ROW_GROUP):
            part = slice(first, first + batch.num_rows)
            probs = np.full((batch.num_rows, len(model.class_names)), np.nan, dtype=np.float32)
            for some, found in batch_logits(network, images, first + np.flatnonzero(store.valid[part])):
                probs[some - first] = model.probs_of(found).cpu().numpy()
                reporter.progress("predict", int(some[-1]) + 1, manifest.num_rows)
            columns = [*_columns(manifest, store, model, batch, part, probs), *batch.columns[2:]]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema), row_group_size=ROW_GROUP)
            predicted += int(np.isfinite(probs).all(axis=1).sum())
            first = part.stop
    return predicted


def _check_out(out: Path, manifest: Manifest, *, overwrite: bool) -> None:
    check_no_folder(out, "name a .parquet file")
    if out.suffix.lower() != ".parquet":
        raise InputError(f"--out {out}: name a file that ends in .parquet")
    check_output(out, {"the source": manifest.places})
    check_new(out, "is there already; use --overwrite to replace it, or another name", overwrite=overwrite)
    if _CONFIDENCE in manifest.pass_through:
        raise InputError(
            f"{manifest.source}: the column {_CONFIDENCE!r} clashes with one of the predictions that has the same name;"
            " rename or remove it"
        )


def _schema(manifest: Manifest, model: Classifier) -> pa.Schema:
    given, labels = (
        LABEL_TYPE if task == "single" else pa.list_(pa.string()) for task in (manifest.task, model.task)
    )
    fields = [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string()),
        pa.field("given_label", given),
        pa.field("predicted_label", labels),
        pa.field(_CONFIDENCE, pa.float32()),
        pa.field("predicted_probs", pa.list_(pa.float32(), len(model.class_names))),
        pa.field("is_valid", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),
    ]
    facts = {
        "schema_version": 1,
        "labelfix_version": version("labelfix"),
        "method": model.method,
        "class_names": list(model.class_names),
        "source_fingerprint": manifest.fingerprint,
        **({} if model.task == "single" else {"task": model.task}),
    }
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True)
    return pa.schema([*fields, *manifest.pass_through_fields], metadata={METADATA_KEY: text.encode()})


def _columns(
    manifest: Manifest,
    store: ImageStore,
    model: Classifier,
    batch: pa.RecordBatch,
    part: slice,
    probs: np.ndarray,
) -> Iterator[pa.Array]:
    # Of images that cannot be read there are none, and a classifier that diverged has none that say anything.
    given, seen = manifest.given[part], np.isfinite(probs).all(axis=1)
    names, theirs = pa.array(model.class_names, pa.string()), pa.array(manifest.class_names, pa.string())
    yield pa.array(np.arange(part.start, part.stop))
    yield batch.column("file_name")
    if manifest.targets is None:
        yield label_array(given, given >= 0, theirs)
    else:
        yield label_lists(np.nan_to_num(manifest.targets[part]) >= HALF, given >= 0, theirs)
    if model.task == "multi":
        known = np.where(seen[:, None], probs, 0)
        yield label_lists(known >= HALF, seen, names)
        yield pa.array(np.maximum(known, 1 - known).min(axis=1), mask=~seen)
        yield number_lists(probs, seen)
    else:
        best = np.where(seen[:, None], probs, 0).argmax(axis=1)
        yield label_array(best, seen, names)
        yield pa.array(probs[np.arange(len(probs)), best], mask=~seen)
        yield distribution_array(probs, seen)
    yield pa.array(seen)
    errors = [
        None if ok else store.errors.get(row, NOT_FINITE) for row, ok in enumerate(seen, start=part.start)
    ]
    yield pa.array(errors, pa.string())
