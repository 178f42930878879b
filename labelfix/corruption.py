"""corrupt(): a source with planted label noise and its truth beside it, as one Parquet file that scans."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import InputError
from labelfix.manifest import Image, Manifest
from labelfix.noise import NoiseSpec, flip_rates, parse_noise, plant, realised_transition
from labelfix.sources import unescape_cell
from labelfix.tables import atomic_path

DEFAULT_OUT = "noisy.parquet"
_ADDED = ("label", "true_label", "is_corrupted")
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_HUGGING_FACE = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()}
_PIECE_ROWS = 65_536


class _NoiseFile(NamedTuple):
    """A CSV file as read: its header, and line number and cells of each record below."""

    path: Path
    sha256: str
    header: list[str]
    records: list[tuple[int, list[str]]]


def corrupt(
    source: Any,
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
        source: class folders, a csv, tsv, jsonl or Parquet manifest, a folder of Parquet shards, or in memory (see
            `Manifest.read`).
        noise: kind and rate, such as "symmetric:0.4", or kind and file: "confusion:matrix.csv" (class names as
            header and first column; a row holds the shares of a true class, from 0 to 1, sum 1 within 1e-6), or
            "pair:rates.csv" (columns class and rate; also for symmetric and symmetric-exclusive). Either names
            every class once, in any order. See `labelfix.noise`.
        out: the file, ending in .parquet; `noisy.parquet` in the current folder by default.
        seed: of the draw, >= 0.
        rows: only the first so many rows.
        root: folder that a manifest's relative paths start from.
        image_column: of a manifest or Parquet file.
        label_column: of a manifest or Parquet file.
        overwrite: replace an existing file.

    Returns:
        JSON-able: path, noise, kind, rate (None with a file), noise_file_sha256 (None without), seed, rows, labelled,
        corrupted (counts), realised_rate (share of the labelled rows), class_names, class_rates (what the file
        asks of each class, for a matrix what it has off its diagonal; None without), transition_matrix (K x K,
        from true to noisy, as it came out) and warnings.

    Raises:
        InputError: bad source, noise, noise file or seed; an existing `out`; an `out` inside the source; a column
            of the source that has the name of one of ours.
    """
    spec = parse_noise(noise)
    file = None if spec.file is None else _read_noise_file(spec, spec.file)
    path = _checked_out(
        Path(out if out is not None else DEFAULT_OUT),
        Path(source).expanduser() if isinstance(source, str | os.PathLike) else None,
        overwrite=overwrite,
    )
    manifest = Manifest.read(
        source, rows=rows, root=root, image_column=image_column, label_column=label_column
    )
    asked = None if file is None else _asked(file, spec, manifest.class_names)
    noisy = plant(manifest.given, manifest.class_names, spec, seed, asked)
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
        "noise_file_sha256": None if file is None else file.sha256,
        "seed": seed,
        "rows": manifest.num_rows,
        "labelled": labelled,
        "corrupted": corrupted,
        "realised_rate": corrupted / labelled,
        "class_names": list(manifest.class_names),
        "class_rates": None if asked is None else flip_rates(asked).tolist(),
        "transition_matrix": realised_transition(manifest.given, noisy, len(manifest.class_names)).tolist(),
        "warnings": list(manifest.warnings),
    }


def _read_noise_file(noise: NoiseSpec, name: str) -> _NoiseFile:
    """Read a CSV file of a noise; cells that labelfix's own csv export escaped are unescaped, as in a source."""
    path = Path(os.path.expanduser(name))
    try:
        data = path.read_bytes()
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        # Blank lines have no cells.
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise InputError(f"--noise {noise}: cannot be read: {error.strerror}; name a CSV file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not valid UTF-8; save the file in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path} cannot be read ({error}); correct its quotes") from None
    records = [(line, [unescape_cell(cell).strip() for cell in cells]) for line, cells in lines]
    header = records[0][1] if records else []
    for line, cells in records[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {line} ({cells[0]!r}) has {len(cells)} cells where the header has {len(header)};"
                " correct it, or put class names with commas in quotes"
            )
    return _NoiseFile(path, hashlib.sha256(data).hexdigest(), header, records[1:])


def _asked(file: _NoiseFile, noise: NoiseSpec, class_names: Sequence[str]) -> np.ndarray:
    """What the file asks for, in class order: (K, K) shares for confusion, else (K,) rates."""
    is_matrix = noise.kind == "confusion"
    if not is_matrix and file.header != ["class", "rate"]:
        raise InputError(f"{file.path}: the header has to be class,rate, with a row per class below")
    headed = [("the header", name) for name in file.header[1:]]
    columns = _places(file.path, headed, "header", class_names) if is_matrix else [0]
    lines = [(f"line {line}", cells[0]) for line, cells in file.records]
    rows = _places(file.path, lines, "first column", class_names)
    asked = np.empty((len(rows), len(columns)))
    for row, (line, cells) in zip(rows, file.records, strict=True):
        where = f"{file.path}: line {line}, class {cells[0]!r}"
        shares = [_share(*named, where) for named in zip(cells[1:], file.header[1:], strict=True)]
        total = math.fsum(shares) if is_matrix else 1.0
        if round(abs(total - 1), 9) > 1e-6:
            raise InputError(f"{where}: the row sums to {total:.9g}; the shares of a class have to sum to 1")
        asked[row, columns] = np.array(shares) / total
    return asked if is_matrix else asked[:, 0]


def _places(path: Path, named: list[tuple[str, str]], part: str, class_names: Sequence[str]) -> list[int]:
    """Class index of each name, found somewhere in a part of the file; every class has to be there, once."""
    index = {name: label for label, name in enumerate(class_names)}
    found: dict[str, int] = {}
    for where, name in named:
        if name not in index:
            raise InputError(
                f"{path}: {where} names the class {name!r}, which the source does not have; correct or remove it"
            )
        if name in found:
            raise InputError(f"{path}: {where} names the class {name!r} a second time; keep one of the two")
        found[name] = index[name]
    missing = [name for name in class_names if name not in found]
    if missing:
        raise InputError(f"{path}: the {part} lacks the class {missing[0]!r}; it has to name every class")
    return list(found.values())


def _share(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise InputError(f"{where}, column {column!r}: {cell!r} is no number from 0 to 1; correct it")
    return value


def _checked_out(out: Path, source: Path | None, *, overwrite: bool) -> Path:
    """`out` itself, when it may be written."""
    if out.suffix.lower() != ".parquet":
        raise InputError(f"--out {out}: the result is a Parquet file; give it a name that ends in .parquet")
    if source is not None and out.resolve() == source.resolve():
        raise InputError(f"--out {out} is the source itself; choose another file")
    if source is not None and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
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
