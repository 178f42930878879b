"""corrupt(): a source with planted label noise and its truth beside it, as one Parquet file that scans."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import InputError
from labelfix.manifest import Image, Manifest
from labelfix.noise import parse_noise, plant, realised_transition
from labelfix.tables import atomic_path

DEFAULT_OUT = "noisy.parquet"
_ADDED = ("label", "true_label", "is_corrupted")
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_HUGGING_FACE = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()}
_PIECE_ROWS = 65_536


def corrupt(
    source: str | Path,
    *,
    noise: str,
    out: str | Path | None = None,
    seed: int = 0,
    rows: int | None = None,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Plant label noise in a source and write the result as one Parquet file.

    The file has the image (`file_name` relative to the file's own folder, or `image` with the bytes where the
    source holds them), `label` (noisy), `true_label`, `is_corrupted` and the source's pass-through columns.
    Unlabelled rows stay unlabelled.

    Args:
        source: class folders, or a csv, tsv, jsonl or Parquet manifest.
        noise: kind and rate, such as "symmetric:0.4"; see `labelfix.noise`.
        out: the file, ending in .parquet; `noisy.parquet` in the current folder by default.
        seed: of the draw, >= 0.
        rows: only the first so many rows.
        root: folder that a manifest's relative paths start from.
        image_column: of a manifest or Parquet file.
        label_column: of a manifest or Parquet file.
        overwrite: replace an existing file.

    Returns:
        JSON-able: path, noise, kind, rate, seed, rows, labelled, corrupted (counts), realised_rate (share of
        the labelled rows), class_names, transition_matrix (K x K, from true to noisy) and warnings.

    Raises:
        InputError: bad source, noise or seed; an existing `out`; an `out` inside the source; a column of the
            source that has the name of one of ours.
    """
    spec = parse_noise(noise)
    path = _checked_out(
        Path(out if out is not None else DEFAULT_OUT), Path(source).expanduser(), overwrite=overwrite
    )
    manifest = Manifest.read(
        source, rows=rows, root=root, image_column=image_column, label_column=label_column
    )
    noisy = plant(manifest.given, manifest.class_names, spec, seed)
    holds_bytes = _holds_bytes(manifest)
    extra = _extra_fields(manifest, holds_bytes=holds_bytes)
    _write(path, manifest, noisy, extra, holds_bytes=holds_bytes)
    labelled = int((manifest.given >= 0).sum())
    corrupted = int((noisy != manifest.given).sum())
    return {
        "path": str(path),
        "noise": str(spec),
        "kind": spec.kind,
        "rate": spec.rate,
        "seed": seed,
        "rows": manifest.num_rows,
        "labelled": labelled,
        "corrupted": corrupted,
        "realised_rate": corrupted / labelled,
        "class_names": list(manifest.class_names),
        "transition_matrix": realised_transition(manifest.given, noisy, len(manifest.class_names)).tolist(),
        "warnings": list(manifest.warnings),
    }


def _checked_out(out: Path, source: Path, *, overwrite: bool) -> Path:
    """`out` itself, when it may be written."""
    if out.suffix.lower() != ".parquet":
        raise InputError(f"--out {out}: the result is a Parquet file; give it a name that ends in .parquet")
    if out.resolve() == source.resolve():
        raise InputError(f"--out {out} is the source itself; choose another file")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"--out {out} lies inside the source {source}, which is never written to; choose another"
        )
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file in it, as in {out / DEFAULT_OUT}")
    if out.exists() and not overwrite:
        raise InputError(f"--out {out} exists already; choose another, or add --overwrite")
    return out


def _holds_bytes(manifest: Manifest) -> bool:
    """Whether the images lie inside the source: the first one that is there tells."""
    for _, images in manifest.image_chunks(1):
        if images[0] is not None:
            return isinstance(images[0], bytes)
    return False


def _extra_fields(manifest: Manifest, *, holds_bytes: bool) -> list[pa.Field]:
    """Names and types of the pass-through columns, none of them called as one of ours."""
    fields = list(next(manifest.batches(1)).schema)[2:]
    for field in fields:
        # A second picture would be taken for the image when the file is scanned.
        is_picture = field.name == "image" and (holds_bytes or pa.types.is_struct(field.type))
        if field.name in _ADDED or is_picture:
            raise InputError(
                f"{manifest.source}: the column {field.name!r} would pass through, but the result has one of"
                " that name; rename or remove it, or name it with --image-column or --label-column"
            )
    return fields


def _write(
    path: Path, manifest: Manifest, noisy: np.ndarray, extra: list[pa.Field], *, holds_bytes: bool
) -> None:
    image = pa.field("image", _PICTURE) if holds_bytes else pa.field("file_name", pa.string())
    fields = [
        image,
        pa.field("label", pa.string()),
        pa.field("true_label", pa.string()),
        pa.field("is_corrupted", pa.bool_(), nullable=False),
        *extra,
    ]
    schema = pa.schema(fields, metadata=_HUGGING_FACE if holds_bytes else None)
    # A path with .. in it climbs from where a folder really is, not from the link that leads there.
    start = path.parent.resolve()
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for first, images, batch in _pieces(manifest):
            rows = slice(first, first + len(images))
            given = manifest.given[rows]
            columns = [
                _pictures(images, batch.column(0)) if holds_bytes else _relative_paths(images, start),
                _texts(noisy[rows], manifest.class_names),
                _texts(given, manifest.class_names),
                pa.array(noisy[rows] != given),
                *batch.columns[2:],
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _pieces(manifest: Manifest) -> Iterator[tuple[int, list[Image], pa.RecordBatch]]:
    """First row, images and other columns of consecutive rows; how many, the source's own reading decides."""
    batches = manifest.batches(_PIECE_ROWS)
    batch, start = next(batches), 0
    for first, images in manifest.image_chunks(_PIECE_ROWS):
        done = 0
        while done < len(images):
            if first + done == start + len(batch):
                start += len(batch)
                batch = next(batches)
            offset = first + done - start
            count = min(len(images) - done, len(batch) - offset)
            yield first + done, images[done : done + count], batch.slice(offset, count)
            done += count


def _relative_paths(images: list[Image], start: Path) -> pa.Array:
    paths = []
    for image in images:
        folder, name = os.path.split(str(image))
        paths.append(None if image is None else _relative_folder(folder, start) + name)
    return pa.array(paths, pa.string())


@lru_cache(maxsize=1024)
def _relative_folder(folder: str, start: Path) -> str:
    """The way from `start` to `folder`, ending in a slash unless it is empty."""
    if ".." in folder.split("/"):
        # Beyond a link, .. leads elsewhere than the text says.
        folder = os.path.realpath(folder)
    way = os.path.relpath(folder, start)
    return "" if way == "." else f"{way}/"


def _pictures(images: list[Image], names: pa.Array) -> pa.StructArray:
    return pa.StructArray.from_arrays([pa.array(images, pa.binary()), names], fields=list(_PICTURE))


def _texts(labels: np.ndarray, class_names: Sequence[str]) -> pa.Array:
    return pa.array(class_names, pa.string()).take(pa.array(labels, mask=labels < 0))
