"""Manifest: the N rows of a source, as a memory-mapped Arrow table that no step has to hold in memory."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import InputError
from labelfix.sources import BATCH_ROWS, Query, Rows, Source, image_bytes, open_source, unique_file_names
from labelfix.sources.labels import class_order

Image = Path | bytes | None


def cache_folder() -> Path:
    """The cache: the folder in LABELFIX_CACHE, else `labelfix` in the user's cache folder; made if missing.

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(os.environ.get("LABELFIX_CACHE") or platformdirs.user_cache_dir("labelfix")).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be made ({error.strerror}); set LABELFIX_CACHE to another"
        ) from None
    return folder


@dataclass(frozen=True, eq=False)
class Manifest:
    """N rows in the order of the source; row i here is row i of every array and table.

    Attributes:
        source: absolute path of the folder or file.
        name: the folder's name, or the file's without its extension.
        class_names: the K classes; class indices follow this order everywhere.
        given: (N,) int64, index into `class_names`, -1 where unlabelled; read-only.
        task: "single" (one label per row).
        fingerprint: SHA-256 (hex) over row order, file names, given labels and image sizes in bytes. No times
            and no absolute paths, so it stays when a dataset is copied or moved.
        image_key: SHA-256 (hex) over paths, sizes, modification times and the number of rows, or the Parquet
            file's; never labels. Pixels decoded under one key can be used again.
        warnings: sentences for the user.
        options: source, root, image_column and label_column: `Manifest.read(**options)` reads it again.
        pass_through: names of the columns that pass through to the output.
    """

    source: Path
    name: str
    class_names: tuple[str, ...]
    given: np.ndarray
    task: str
    fingerprint: str
    image_key: str
    warnings: tuple[str, ...]
    options: dict[str, str | None]
    pass_through: tuple[str, ...]
    _table: pa.Table  # file_name, path, then the pass-through columns
    _root: Path
    _bytes_column: str | None

    @classmethod
    def read(
        cls,
        source: str | Path,
        *,
        rows: int | None = None,
        root: str | Path | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        require_labels: bool = True,
    ) -> Manifest:
        """Read a source: its rows and labels, not its pixels. An image that is not there is no error here.

        Args:
            source: a folder of class folders, or a .csv, .tsv, .jsonl or .parquet file.
            rows: read only the first so many rows, at least 1.
            root: folder that relative paths of a manifest start from; default the manifest's own.
            image_column: image column of a manifest; default the usual names.
            label_column: label column of a manifest; default the usual names.
            require_labels: False for sources that are only predicted or looked up: then the label column may
                be missing, and a single class is fine.

        Raises:
            InputError: anything wrong with the source, one of its rows or an option; says the way out.
        """
        path = _absolute(source)
        base = None if root is None else _absolute(root)
        opened = open_source(Query(path, rows, base, image_column, label_column, require_labels))
        table, labels, keys = _collect(opened)
        class_names, given = labels.finish(opened.class_names)
        manifest = cls(
            source=path,
            name=(path.name if path.is_dir() else path.stem) or "source",
            class_names=class_names,
            given=given,
            task="single",
            fingerprint=keys.fingerprint(table.column(0), class_names, given),
            image_key=keys.image_key(opened, len(table)),
            warnings=(*opened.warnings, *(_rare(class_names, given, path) if require_labels else ())),
            options={
                "source": str(path),
                "root": None if base is None else str(base),
                "image_column": image_column,
                "label_column": label_column,
            },
            pass_through=tuple(opened.extra.names),
            _table=table,
            _root=opened.root,
            _bytes_column=opened.bytes_column,
        )
        _check(manifest, rows, require_labels)
        return manifest

    @property
    def num_rows(self) -> int:
        """Number of rows N."""
        return len(self.given)

    @property
    def pass_through_fields(self) -> list[pa.Field]:
        """The Arrow fields of the pass-through columns, in order."""
        return list(self._table.schema)[2:]

    def batches(self, size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield consecutive batches of `size` rows (the last may be shorter).

        Columns, by position: file_name (string), given (int64, -1 unlabelled), then the pass-through columns,
        one of which may itself be called "given".
        """
        for first in range(0, self.num_rows, size):
            part = self._table.slice(first, size).combine_chunks()
            given = pa.array(self.given[first : first + size])
            columns = [part.column(0), given, *part.columns[2:]]
            fields = [pa.field("file_name", pa.string()), pa.field("given", pa.int64())]
            schema = pa.schema([*fields, *self.pass_through_fields])
            yield from pa.Table.from_arrays(columns, schema=schema).to_batches()

    def file_names(self) -> pa.ChunkedArray:
        """The file names, string (N,): relative to the source's root, POSIX slashes; memory-mapped."""
        return self._table.column(0)

    def images(self, first: int, stop: int) -> list[Image]:
        """The images of rows first..stop-1: absolute paths, or bytes; None where the source names none."""
        return [image for images in self._images(np.arange(first, stop)) for image in images]

    def image_chunks(self, size: int) -> Iterator[tuple[int, list[Image]]]:
        """Yield every image in row order, as (first row, at most `size` images), reading the source once."""
        first = 0
        for images in self._images(np.arange(self.num_rows)):
            for start in range(0, len(images), size):
                yield first + start, images[start : start + size]
            first += len(images)

    def sample_images(self, rows: np.ndarray) -> Iterator[Image]:
        """Yield the images of some rows, ascending (n,) int64, skipping what need not be read."""
        for images in self._images(rows):
            yield from images

    def _images(self, rows: np.ndarray) -> Iterator[list[Image]]:
        if self._bytes_column is not None:
            for found in image_bytes(self.source, self._bytes_column, rows):
                yield [*found]
            return
        paths = self._table.column(1)
        for start in range(0, len(rows), 4096):
            some = rows[start : start + 4096]
            # One slice is cheaper than taking rows one by one, and rows are mostly consecutive.
            whole = some[-1] - some[0] + 1 == len(some)
            part = paths.slice(some[0], len(some)) if whole else paths.take(pa.array(some))
            yield [None if path is None else self._root / path for path in part.to_pylist()]


class _Labels:
    """Label texts on their way to class indices, which are known only when all texts are."""

    def __init__(self) -> None:
        self.codes: list[np.ndarray] = []
        self.code_of: dict[str, int] = {}

    def add(self, labels: pa.Array) -> None:
        encoded = labels.dictionary_encode()
        known = [self.code_of.setdefault(name, len(self.code_of)) for name in encoded.dictionary.to_pylist()]
        indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        self.codes.append(np.array([*known, -1], np.int64)[indices])

    def finish(self, declared: tuple[str, ...] | None) -> tuple[tuple[str, ...], np.ndarray]:
        names = declared if declared is not None else class_order(self.code_of)
        place = {name: index for index, name in enumerate(names)}
        index_of = np.array([*(place[name] for name in self.code_of), -1], np.int64)
        given = index_of[np.concatenate(self.codes)] if self.codes else np.empty(0, np.int64)
        given.flags.writeable = False
        return names, given


class _Keys:
    """The two hashes, fed row by row."""

    def __init__(self) -> None:
        self.sizes = hashlib.sha256()
        self.times = hashlib.sha256()
        self.paths = _TextHash()

    def add(self, rows: Rows, root: Path) -> None:
        if rows.sizes is None:
            sizes, times = _stat(rows.paths, root)
            self.times.update(times.tobytes())
            self.paths.add(rows.paths)
        else:
            sizes = rows.sizes
        self.sizes.update(np.ascontiguousarray(sizes, dtype="<i8").tobytes())

    def fingerprint(self, names: pa.ChunkedArray, class_names: tuple[str, ...], given: np.ndarray) -> str:
        text = _TextHash()
        for chunk in names.chunks:
            text.add(chunk)
        labels = hashlib.sha256(np.ascontiguousarray(given, dtype="<i8").tobytes())
        return _hash_json(
            [len(given), list(class_names), text.digest(), labels.hexdigest(), self.sizes.hexdigest()]
        )

    def image_key(self, source: Source, num_rows: int) -> str:
        if source.bytes_column is not None:
            status = source.path.stat()
            return _hash_json(
                [num_rows, source.path.name, source.bytes_column, status.st_size, status.st_mtime_ns]
            )
        return _hash_json([num_rows, self.paths.digest(), self.sizes.hexdigest(), self.times.hexdigest()])


def _absolute(path: str | Path) -> Path:
    # Links are kept: resolving them would put images outside of the folder they are named in.
    return Path(os.path.abspath(Path(path).expanduser()))


def _collect(source: Source) -> tuple[pa.Table, _Labels, _Keys]:
    """Write the rows to an Arrow file without a name, and map it."""
    labels, keys = _Labels(), _Keys()
    text = pa.string()
    schema = pa.schema([("file_name", text), ("path", text), *source.extra])
    with _unlinked_file() as path:
        # The stream format: the file format cannot hold dictionaries that change from batch to batch.
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for rows in source.read():
                labels.add(rows.labels)
                keys.add(rows, source.root)
                arrays = [rows.file_names, rows.paths, *rows.extra]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    if source.bytes_column is not None and pc.count_distinct(table.column(0)).as_py() < len(table):
        table = table.set_column(0, schema.field(0), unique_file_names(table.column(0)))
    return table, labels, keys


@contextmanager
def _unlinked_file() -> Iterator[Path]:
    """A file in the cache that loses its name at the end; a mapping of it lives on."""
    folder = cache_folder()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="manifest-", suffix=".arrow") as file:
            yield Path(file.name)
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error}); set LABELFIX_CACHE to another"
        ) from None


def _stat(paths: pa.Array, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Size in bytes and modification time in ns of each file; -1 and 0 where there is none."""
    found = []
    base = f"{root}/"
    for path in paths.to_pylist():
        try:
            # Joined by hand: this line runs once a row.
            status = os.stat(path if path[:1] == "/" else base + path) if path else None
        except (OSError, ValueError):
            status = None
        found.append((-1, 0) if status is None else (status.st_size, status.st_mtime_ns))
    table = np.array(found, "<i8").reshape(-1, 2)
    return table[:, 0], table[:, 1]


class _TextHash:
    """A hash over strings and their lengths, so that no two lists look alike, in batches of any size."""

    def __init__(self) -> None:
        self.lengths = hashlib.sha256()
        self.text = hashlib.sha256()

    def add(self, texts: pa.Array) -> None:
        lengths = pc.fill_null(pc.cast(pc.binary_length(texts), pa.int64()), -1)
        self.lengths.update(
            np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False), dtype="<i8").tobytes()
        )
        self.text.update("".join(text for text in texts.to_pylist() if text is not None).encode())

    def digest(self) -> str:
        return self.lengths.hexdigest() + self.text.hexdigest()


def _hash_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _check(manifest: Manifest, rows: int | None, require_labels: bool) -> None:
    path = manifest.source
    if manifest.num_rows == 0:
        raise InputError(f"{path} is empty: it holds no row")
    if manifest._bytes_column is None:
        _check_one_label_per_path(manifest)
    if not require_labels:
        return
    found = np.unique(manifest.given[manifest.given >= 0])
    more = f" among the first {rows} rows; raise --rows" if rows is not None else "; at least two are needed"
    if len(found) == 0:
        raise InputError(f"{path} holds no label{more}")
    if len(found) == 1:
        raise InputError(f"{path} holds a single class, {manifest.class_names[found[0]]!r}{more}")


def _check_one_label_per_path(manifest: Manifest) -> None:
    names = manifest.file_names()
    if pc.count_distinct(names).as_py() == len(names):
        return
    table = pa.table({"name": names, "given": manifest.given})
    table = table.filter(pc.and_(pc.greater_equal(table["given"], 0), pc.not_equal(table["name"], "")))
    groups = table.group_by("name").aggregate([("given", "min"), ("given", "max")])
    twice = groups.filter(pc.not_equal(groups["given_min"], groups["given_max"])).sort_by("name")
    if len(twice):
        row = twice.slice(0, 1).to_pylist()[0]
        labels = [manifest.class_names[row[key]] for key in ("given_min", "given_max")]
        raise InputError(
            f"{manifest.source}: {row['name']!r} has two labels, {labels[0]!r} and {labels[1]!r}; keep one"
        )


def _rare(class_names: tuple[str, ...], given: np.ndarray, path: Path) -> list[str]:
    counts = np.bincount(given[given >= 0], minlength=len(class_names))
    rare = [repr(name) for name, count in zip(class_names, counts, strict=True) if count < 2]
    if not rare:
        return []
    shown = ", ".join(rare[:20]) + (f" and {len(rare) - 20} more" if len(rare) > 20 else "")
    return [f"{path}: fewer than 2 samples in {'class' if len(rare) == 1 else 'the classes'} {shown}"]
