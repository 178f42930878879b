"""The file of corrupt(): where it may lie, and its rows, a piece at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.atomic_files import atomic_path
from labelfix.data.manifest import Image, Manifest
from labelfix.errors import InputError
from labelfix.noise.open_set import ForeignImages
from labelfix.output_paths import check_new, check_no_folder
from labelfix.results.corrections import label_lists

_ADDED = ("label", "true_label", "is_corrupted")
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_HUGGING_FACE = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()}
_PIECE_ROWS = 65_536
_PIECE_BYTES = 64 << 20


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an `out` that must not be written, whatever is read.

    Args:
        out: the file.
        overwrite: whether it may be there already.

    Raises:
        InputError: it is no .parquet file, or there already.
    """
    if out.suffix.lower() != ".parquet":
        raise InputError(f"--out {out}: the result is a Parquet file; give it a name that ends in .parquet")
    check_no_folder(out, f"name a file in it, as in {out / 'noisy.parquet'}")
    check_new(out, "exists already; choose another, or add --overwrite", overwrite=overwrite)


def check_columns(
    manifest: Manifest, extra: Sequence[str], classes: Sequence[str] = (), foreign: Manifest | None = None
) -> None:
    """Refuse pass-through columns that are called as one of ours, or as a class that has a column.

    Args:
        manifest: of the rows.
        extra: names of the columns that pass through.
        classes: that have a column each.
        foreign: of the images that come in; None for none.

    Raises:
        InputError: naming the column.
    """
    holds_bytes = any(_holds_bytes(source) for source in (manifest, foreign) if source is not None)
    for field in _fields(manifest, extra):
        # A second picture would be taken for the image when the file is scanned.
        is_picture = field.name == "image" and (holds_bytes or pa.types.is_struct(field.type))
        if field.name in (*_ADDED, *classes) or is_picture:
            raise InputError(
                f"{manifest.source}: the column {field.name!r} would pass through, but the result has one of"
                " that name; rename or remove it, or name it with --image-column or --label-column"
            )


def write_noisy(
    path: Path,
    manifest: Manifest,
    noisy: np.ndarray,
    true: np.ndarray,
    extra: Sequence[str],
    foreign: ForeignImages | None,
    *,
    as_columns: bool = False,
) -> None:
    """Write every row of a manifest: image, both labels, whether they differ, and columns that pass through.

    Args:
        path: the file, written atomically.
        manifest: of the rows.
        noisy: (N,) int64, -1 for none; or (N, K) float32 of several labels a row, NaN rows for none.
        true: the same.
        extra: names of the columns that pass through.
        foreign: images that take the place of the manifest's; where they or the manifest's are no files, the bytes
            of all go into the file.
        as_columns: whether several labels a row become a column of numbers for each class, and no list.
    """
    holds_bytes = _holds_bytes(manifest) or (foreign is not None and foreign.holds_bytes)
    fields = [
        pa.field("image", _PICTURE) if holds_bytes else pa.field("file_name", pa.string()),
        *_label_fields(noisy, manifest.class_names, as_columns=as_columns),
        pa.field("is_corrupted", pa.bool_(), nullable=False),
        *_fields(manifest, extra),
    ]
    schema = pa.schema(fields, metadata=_HUGGING_FACE if holds_bytes else None)
    places = [2 + manifest.pass_through.index(name) for name in extra]
    # A path with .. in it climbs from where a folder really is, not from the link that leads there.
    start = path.parent.resolve()
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for first, images, batch in _pieces(manifest, foreign, holds_bytes=holds_bytes):
            rows = slice(first, first + len(images))
            columns = [
                _pictures(images, _names(first, batch.column(0), foreign))
                if holds_bytes
                else _relative_paths(images, start),
                *_labels(noisy[rows], true[rows], manifest.class_names, as_columns=as_columns),
                *(batch.column(place) for place in places),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _label_fields(noisy: np.ndarray, names: Sequence[str], *, as_columns: bool) -> list[pa.Field]:
    """Of the labels with noise, and of the true ones."""
    kind = pa.string() if noisy.ndim == 1 else pa.list_(pa.string())
    own = [pa.field(name, pa.float32()) for name in names] if as_columns else [pa.field("label", kind)]
    return [*own, pa.field("true_label", kind)]


def _labels(
    noisy: np.ndarray, true: np.ndarray, names: Sequence[str], *, as_columns: bool
) -> Iterator[pa.Array]:
    """The columns of `_label_fields`, and whether both are not the same."""
    if noisy.ndim == 1:
        yield from (_texts(labels, names) for labels in (noisy, true))
        yield pa.array(noisy != true)
        return
    known = ~np.isnan(true).any(axis=1)
    before, after = (np.nan_to_num(values) >= 0.5 for values in (true, noisy))
    if as_columns:
        yield from (pa.array(values, pa.float32(), from_pandas=True) for values in noisy.T)
    else:
        yield label_lists(after, known, pa.array(names, pa.string()))
    yield label_lists(before, known, pa.array(names, pa.string()))
    yield pa.array((before != after).any(axis=1))


def _holds_bytes(manifest: Manifest) -> bool:
    """Whether the images lie inside the source, or elsewhere: the first one that is there tells."""
    if manifest.holds_addresses:
        return True
    for _, images in manifest.image_chunks(1):
        if images[0] is not None:
            return isinstance(images[0], bytes)
    return False


def _fields(manifest: Manifest, extra: Sequence[str]) -> list[pa.Field]:
    return [manifest.pass_through_fields[manifest.pass_through.index(name)] for name in extra]


def _pieces(
    manifest: Manifest, foreign: ForeignImages | None, *, holds_bytes: bool
) -> Iterator[tuple[int, list[Image], pa.RecordBatch]]:
    """First row, images as they are written and other columns of consecutive rows, some 64 MiB at most."""
    for first, own, batch in _aligned(manifest):
        images = own if foreign is None else _replaced(first, own, foreign)
        if not holds_bytes:
            yield first, [*images], batch
            continue
        piece: list[Image] = []
        weight = done = 0
        for image in images:
            data = _contents(image)
            piece.append(data)
            weight += len(data or b"")
            if weight >= _PIECE_BYTES:
                yield first + done, piece, batch.slice(done, len(piece))
                done, weight, piece = done + len(piece), 0, []
        if piece:
            yield first + done, piece, batch.slice(done)


def _aligned(manifest: Manifest) -> Iterator[tuple[int, list[Image], pa.RecordBatch]]:
    """First row, images and other columns of consecutive rows; how many, the batches of the source decide."""
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


def _replaced(first: int, images: list[Image], foreign: ForeignImages) -> Iterator[Image]:
    for row, image in enumerate(images, first):
        yield foreign.image(row, image)


def _contents(image: Image) -> bytes | None:
    """The bytes of an image; None for a file that cannot be read, which a scan then tells."""
    if not isinstance(image, Path):
        return image
    try:
        return image.read_bytes() if image.is_file() else None
    except OSError:
        return None


def _names(first: int, names: pa.Array, foreign: ForeignImages | None) -> pa.Array:
    if foreign is None:
        return names
    found = [foreign.name(row, name) for row, name in enumerate(names.to_pylist(), first)]
    return pa.array(found, pa.string())


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
        # Beyond a link, .. leads to another place than the text says.
        folder = os.path.realpath(folder)
    way = os.path.relpath(folder, start)
    return "" if way == "." else f"{way}/"


def _pictures(images: list[Image], names: pa.Array) -> pa.StructArray:
    return pa.StructArray.from_arrays([pa.array(images, pa.binary()), names], fields=list(_PICTURE))


def _texts(labels: np.ndarray, class_names: Sequence[str]) -> pa.Array:
    return pa.array(class_names, pa.string()).take(pa.array(labels, mask=labels < 0))
