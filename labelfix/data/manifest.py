"""Manifest: the N rows of a source, as a memory-mapped Arrow table that no step has to hold in memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.cache import MANIFEST_PREFIX, cache_errors, cache_folder
from labelfix.data.class_names import look_alike_warning, merged, read_class_map
from labelfix.data.findings_schema import MULTI_COLUMNS
from labelfix.data.hub import hub_name, is_hub_address, load_hub
from labelfix.data.readers import (
    BATCH_ROWS,
    OpenedSource,
    Query,
    Rows,
    open_memory,
    open_source,
    picked,
    title_of,
    unique_file_names,
)
from labelfix.data.readers.addresses import is_address
from labelfix.data.readers.checks import (
    check_labels,
    check_one_label_per_path,
    check_trusted,
    check_two_classes,
    rare_classes,
    rare_labels,
    rows_alike,
)
from labelfix.data.readers.files import MISSING, Files, regular_file
from labelfix.data.readers.image_places import ImagePlaces
from labelfix.data.readers.keys import Keys
from labelfix.data.readers.labels import NO_LISTS, Codes
from labelfix.data.readers.marks import MarkedRows
from labelfix.data.readers.rows import clash
from labelfix.data.readers.several_labels import LISTS, ClassColumns, ListCodes, is_list, strata
from labelfix.data.remote import fetch
from labelfix.errors import InputError

Image = Path | bytes | None
_FETCHED_ROWS = 64
ImageBytes = Callable[[np.ndarray], Iterator[list[bytes | None]]]


@dataclass(frozen=True, eq=False)
class Manifest:
    """N rows in the order of the source; row i here is row i of every array and table.

    Attributes:
        source: absolute path of the folder or file; in memory what messages call it, such as "the DataFrame".
        name: the folder's name, or the file's without its extension; the dataset's on the hub; "memory" in memory.
        class_names: the K classes; class indices follow this order everywhere.
        given: (N,) int64, index into `class_names`, -1 where unlabelled; read-only. With several labels a row the
            rarest of them, K for none of them: by which rows are dealt out, and no label.
        is_trusted: (N,) bool, rows whose given label a person has verified; read-only.
        held_out: (N,) bool, rows that are never trained on: their split is test, val, dev or so; read-only.
        groups: (N,) int64, group of each row in order of first appearance, a row without one being a group of
            its own; read-only; None without the column.
        has_images: False for a table that was read without them.
        limit: the number of rows that `rows` asked for; None for all.
        task: "single" (one label per row), or "multi" (any number of them).
        fingerprint: SHA-256 (hex) over row order, file names, given labels and image sizes in bytes (pixels
            where they are in memory). No times and no absolute paths, so it stays when a dataset is copied or
            moved.
        image_key: SHA-256 (hex) over paths, sizes, modification times and the number of rows, or the Parquet
            files', or over pixels in memory; never labels. Pixels decoded under one key can be used again.
        num_linked_folders: how many folders of images are reached through a link below the root.
        warnings: sentences for the user.
        options: source (None in memory), root, image_column, label_column and class_map, and has_images where that is
            False: `Manifest.read(**options)` reads it again.
        pass_through: names of the columns that pass through to the output.
        places: files and folders of the source, in which nothing is written, see `output_paths.source_places`.
        gone: rows that are not in the source any more, see `taken`.
        removed: (N,) bool, rows that a person wants out of the data, see `without`; None for none.
        why_none: why there is no image where one is named, by row; filled when it is asked for.
        targets: (N, K) float32, 1 for the labels of a row and 0 for the others, or as sure as the source is of each;
            NaN rows unlabelled; read-only. None for one label a row.
    """

    source: Path
    name: str
    class_names: tuple[str, ...]
    given: np.ndarray
    is_trusted: np.ndarray
    held_out: np.ndarray
    groups: np.ndarray | None
    has_images: bool
    limit: int | None
    task: str
    fingerprint: str
    image_key: str
    num_linked_folders: int
    warnings: tuple[str, ...]
    options: dict[str, Any]
    pass_through: tuple[str, ...]
    places: tuple[Path, ...]
    _table: pa.Table  # file_name, path, then the pass-through columns
    _root: Path
    _image_bytes: ImageBytes | None
    _files: Files
    gone: frozenset[int] = frozenset()
    removed: np.ndarray | None = None
    _said: np.ndarray | None = None
    _said_targets: np.ndarray | None = None
    why_none: dict[int, str] = field(default_factory=dict)
    targets: np.ndarray | None = None

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        rows: int | None = None,
        root: str | Path | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        class_map: str | Path | Mapping[str, str] | None = None,
        merge_classes: bool = False,
        require_labels: bool = True,
        has_images: bool = True,
        every_image: bool = False,
        task: str = "single",
        label_separator: str | None = None,
        label_columns: Sequence[str] | None = None,
    ) -> Manifest:
        """Read a source: its rows and labels, not its pixels. An image that is not there is no error here.

        Args:
            source: a folder or a file that `labelfix.data.readers` reads, such as class folders or a manifest; a
                dataset on the Hugging Face hub (hf://datasets/NAME); or what `labelfix.data.readers.memory` reads:
                arrays, a DataFrame or a Dataset.
            rows: read only the first so many rows, at least 1.
            root: folder that relative paths of a manifest start from; default the manifest's own, for a
                DataFrame the current one.
            image_column: image column of a manifest; default the usual names.
            label_column: label column of a manifest; default the usual names.
            class_map: the names that classes are to go by, see `read_class_map`.
            merge_classes: whether classes that look alike are one: that with most rows.
            require_labels: False for sources that are only predicted or looked up: then the label column may
                be missing, and a single class is fine, also where is_trusted or split say more.
            has_images: False for a table of whatever, whose image column, if it has one, only names the rows.
            every_image: whether every image in a folder is a row, whatever its folders are.
            task: "single" for one label a row, others are refused; "multi" for several; "auto" for what it holds.
            label_separator: what stands between the labels of a row, in texts, which may be JSON lists too; not with
                "single".
            label_columns: columns with a number from 0 to 1 for a class each; not with "single".

        Raises:
            InputError: anything wrong with the source, one of its rows or an option; says the way out.
        """
        source, address = (load_hub(source), source) if is_hub_address(source) else (source, None)
        is_path = isinstance(source, str | os.PathLike)
        path = _absolute(source) if is_path else Path(title_of(source))
        start, several = (None if root is None else _absolute(root)), tuple(label_columns or ())
        query = Query(path, rows, start, image_column, label_column, require_labels, has_images, every_image)
        query = replace(query, task=task, label_separator=label_separator, label_columns=several)
        opened = _checked_task(query, open_source(query) if is_path else open_memory(source, query))
        (table, read_bytes), labels, keys, marked, image_places = _collect(opened, query, is_path=is_path)
        found = _class_map(path, labels, opened.class_names, class_map, merge=merge_classes)
        labelled, to_hash = _labelled(labels, opened.class_names, found.names)
        is_trusted, held_out, groups = marked.finished()
        manifest = cls(
            source=path,
            name=_name(path, address, is_path=is_path),
            **labelled,
            is_trusted=is_trusted,
            held_out=held_out,
            groups=groups,
            has_images=has_images,
            limit=rows,
            fingerprint=keys.fingerprint(table.column(0), labelled["class_names"], to_hash),
            image_key=keys.image_key(opened, len(table)),
            num_linked_folders=image_places.num_linked_folders,
            warnings=(*opened.warnings, *image_places.files.warnings(path)),
            options=_options(query, opened, found.names, str(path) if is_path else address, is_path=is_path),
            pass_through=tuple(opened.extra.names),
            places=image_places.all(),
            _table=table,
            _root=opened.root,
            _image_bytes=read_bytes,
            _files=image_places.files,
        )
        return manifest._checked(opened.one_class, found.warnings, marked, require_labels=require_labels)

    def _checked(
        self, one_class: str, about_classes: list[str], marked: MarkedRows, *, require_labels: bool
    ) -> Manifest:
        _check(self, one_class, require_labels=require_labels)
        if not require_labels:
            return self
        if self.targets is not None:
            rare = rare_labels(self.source, self.targets, self.held_out, self.class_names)
        else:
            rare = rare_classes(self.source, self.given, self.held_out, self.class_names)
        return replace(self, warnings=(*self.warnings, *about_classes, *marked.warnings(self.source), *rare))

    @property
    def num_rows(self) -> int:
        """Number of rows N."""
        return len(self.given)

    @property
    def num_links(self) -> int:
        """How many images are links to files."""
        return self._files.num_links

    @property
    def class_map(self) -> dict[str, str]:
        """The class that a label stands for which is called otherwise."""
        return dict(self.options["class_map"] or {})

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

    def name_of(self, path: str) -> str:
        """The file name that a path of the source has: relative to its root when inside it."""
        return self._files.name_of(path)

    @property
    def holds_images(self) -> bool:
        """Whether the images lie inside the source: they are no files."""
        return self._image_bytes is not None

    def label_of(self, row: int) -> str | list[str] | None:
        """The given label of a row, or the list of them; None without one."""
        if self.targets is not None and self.given[row] >= 0:
            return [self.class_names[label] for label in np.flatnonzero(self.targets[row] >= 0.5)]
        return None if self.given[row] < 0 else self.class_names[self.given[row]]

    def has_file(self, row: int) -> bool:
        """Whether there is something at the path of a row; at an address there always is."""
        path = self._table.column(1)[row].as_py()
        return path is not None and (is_address(path) or os.path.lexists(self._root / path))

    def without(self, removed: np.ndarray) -> Manifest:
        """The same rows, of which some (N,) bool have no label that anything is learned of or judged."""
        if not removed.any():
            return self
        given = np.where(removed, -1, self.given)
        given.flags.writeable = False
        targets = None
        if self.targets is not None:
            targets = np.where(removed[:, None], np.float32("nan"), self.targets)
            targets.flags.writeable = False
        return replace(
            self, given=given, removed=removed, targets=targets, _said=self.given, _said_targets=self.targets
        )

    @property
    def said(self) -> np.ndarray:
        """(N,) int64: `given` as the source says it, of removed rows too."""
        return self.given if self._said is None else self._said

    @property
    def said_targets(self) -> np.ndarray:
        """(N, K) float32: `targets` as the source says them, of removed rows too."""
        found = self.targets if self._said_targets is None else self._said_targets
        assert found is not None
        return found

    def taken(self, rows: np.ndarray) -> Manifest:
        """The same source with other rows: those at the places (n,) int64, -1 for rows that are gone.

        Of those no image is found, and no label; for looking up what else there is. Of a source that holds images none
        may be gone.
        """
        gone = rows < 0
        given = np.where(gone, -1, self.given[rows])
        table = self._table.take(pa.array(rows, mask=gone))
        held = self._image_bytes
        return replace(
            self,
            given=given,
            is_trusted=self.is_trusted[rows] & ~gone,
            held_out=self.held_out[rows] & ~gone,
            groups=None,
            targets=None if self.targets is None else self.targets[rows],
            gone=frozenset(np.flatnonzero(gone).tolist()),
            image_key=hashlib.sha256(self.image_key.encode() + rows.tobytes()).hexdigest(),
            why_none={},
            _table=table,
            _image_bytes=None if held is None else lambda asked: held(rows[asked]),
        )

    def images(self, first: int, stop: int) -> list[Image]:
        """The images of rows first..stop-1: absolute paths, or bytes; None where the source names none."""
        return [image for images in self._images(np.arange(first, stop)) for image in images]

    def image_chunks(self, size: int) -> Iterator[tuple[int, list[Image]]]:
        """Yield every image in row order, as (first row, at most `size` images), in one pass over the source."""
        first = 0
        for images in self._images(np.arange(self.num_rows)):
            for start in range(0, len(images), size):
                yield first + start, images[start : start + size]
            first += len(images)

    def sample_images(self, rows: np.ndarray) -> Iterator[Image]:
        """Yield the images of some rows, ascending (n,) int64, skipping what need not be read."""
        for images in self._images(rows):
            yield from images

    @property
    def holds_addresses(self) -> bool:
        """Whether there are images at addresses, see `labelfix.data.remote`."""
        return self._files.num_addresses > 0

    def _images(self, rows: np.ndarray) -> Iterator[list[Image]]:
        done = 0
        if self._image_bytes is not None:
            for found in self._image_bytes(rows):
                yield self._completed(rows[done : done + len(found)], [*found])
                done += len(found)
            return
        paths = self._table.column(1)
        for start in range(0, len(rows), 4096):
            some = rows[start : start + 4096]
            # One slice is cheaper than taking rows one by one, and rows are mostly consecutive.
            whole = some[-1] - some[0] + 1 == len(some)
            part = paths.slice(some[0], len(some)) if whole else paths.take(pa.array(some))
            texts = part.to_pylist()
            if self.holds_addresses:
                yield from self._fetched(some, texts)
            else:
                yield [None if path is None else self._root / path for path in texts]

    def _fetched(self, rows: np.ndarray, paths: list[str | None]) -> Iterator[list[Image]]:
        """The images at some paths or addresses, a few dozen at a time; what cannot be fetched is in `why_none`."""
        for start in range(0, len(paths), _FETCHED_ROWS):
            some = paths[start : start + _FETCHED_ROWS]
            fetched = fetch([path for path in some if path is not None and is_address(path)])
            images: list[Image] = []
            for row, path in zip(rows[start : start + len(some)].tolist(), some, strict=True):
                if path is not None and is_address(path):
                    content, reason = next(fetched)
                    images.append(content)
                    if content is None:
                        self.why_none[row] = reason
                else:
                    images.append(None if path is None else self._root / path)
            yield images

    def _completed(self, rows: np.ndarray, images: list[Image]) -> list[Image]:
        """Images of a table that are paths there instead of bytes."""
        for place, image in enumerate(images):
            path = self._table.column(1)[int(rows[place])].as_py() if image is None else None
            if path is not None:
                images[place] = regular_file(self._root / path)
                if images[place] is None:
                    self.why_none[int(rows[place])] = MISSING
        return images


def _absolute(path: str | Path) -> Path:
    # Links are kept: resolving them would put images outside of the folder they are named in.
    return Path(os.path.abspath(Path(path).expanduser()))


def _options(
    query: Query, opened: OpenedSource, names: dict[str, str], source: str | None, *, is_path: bool
) -> dict[str, Any]:
    """By which `Manifest.read` reads it again, wherever that is done.

    Raises:
        InputError: a source of nothing but images is to be read without them.
    """
    if not query.has_images and opened.holds_images:
        raise InputError(f"{query.path} is made of images; leave out --no-images")
    # The current folder, where a DataFrame's paths start, may be another when it is read again.
    has_root = query.root is not None or not (is_path or opened.holds_images)
    return {
        "source": source,
        "root": str(opened.root) if has_root else None,
        "image_column": query.image_column,
        "label_column": query.label_column,
        "class_map": names or None,
        **({} if query.has_images else {"has_images": False}),
        **({} if not opened.is_multi else _multi_options(query)),
    }


def _multi_options(query: Query) -> dict[str, Any]:
    columns = list(query.label_columns) or None
    return {"task": "multi", "label_separator": query.label_separator, "label_columns": columns}


def _labelled(
    labels: Codes | ListCodes | ClassColumns, declared: tuple[str, ...] | None, names: Mapping[str, str]
) -> tuple[dict[str, Any], np.ndarray]:
    """What a manifest holds of the labels, and the array that its fingerprint is over."""
    if isinstance(labels, Codes):
        class_names, given = labels.indices(declared, names)
        return {"class_names": class_names, "given": given, "task": "single"}, given
    class_names, targets = labels.targets(declared, names)
    given = strata(targets)
    targets.flags.writeable = given.flags.writeable = False
    return {"class_names": class_names, "given": given, "task": "multi", "targets": targets}, targets


def _checked_task(query: Query, opened: OpenedSource) -> OpenedSource:
    """The source; refuse options for several labels a row with one that has, or may have, only one.

    Of several labels a row the findings have columns of their own, whose names none of the source may have.
    """
    ours = [name for name in opened.extra.names if opened.is_multi and name in MULTI_COLUMNS]
    if ours:
        raise clash(query.path, ours[0])
    if query.is_surely_multi and not opened.is_multi and query.require_labels:
        given = "--task multi"
        if query.label_columns or query.label_separator is not None:
            given = "--label-columns" if query.label_columns else "--label-separator"
        why = NO_LISTS if not query.may_be_multi else "it has one label per row; leave the option out"
        raise InputError(f"{given}: {query.path}: {why}")
    return opened


def _collect(
    source: OpenedSource, query: Query, *, is_path: bool
) -> tuple[
    tuple[pa.Table, ImageBytes | None], Codes | ListCodes | ClassColumns, Keys, MarkedRows, ImagePlaces
]:
    """Write the rows to an Arrow file without a name, and map it; what reads spooled images comes beside it.

    Nothing is written before it is known that the cache lies outside of the source, whose places come last.
    """
    image_places = ImagePlaces(source, is_path=is_path, is_root_given=query.root is not None)
    batches = image_places.checked()
    first = list(islice(batches, 1))
    labels, keys, marked = _gathered(source, query), Keys(), MarkedRows()
    text = pa.string()
    images = [pa.field("", pa.binary())] if source.is_spooled else []
    schema = pa.schema([("file_name", text), ("path", text), *source.extra, *images])
    with _unlinked_file() as path:
        # The stream format: the file format cannot hold dictionaries that change from batch to batch.
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for rows in chain(first, batches):
                _add_labels(labels, rows)
                marked.add(rows.marks, len(rows.file_names))
                keys.add(rows)
                spooled = [rows.images] if source.is_spooled else []
                arrays = [rows.file_names, rows.paths, *rows.extra, *spooled]
                with cache_errors():
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    if (source.holds_images or not query.has_images) and pc.count_distinct(table.column(0)).as_py() < len(
        table
    ):
        table = table.set_column(0, schema.field(0), unique_file_names(table.column(0)))
    return _without_images(table, source), labels, keys, marked, image_places


def _gathered(source: OpenedSource, query: Query) -> Codes | ListCodes | ClassColumns:
    """What takes the labels of all rows."""
    if not source.is_multi:
        return Codes()
    return ClassColumns(query.label_columns) if query.label_columns else ListCodes()


def _add_labels(labels: Codes | ListCodes | ClassColumns, rows: Rows) -> None:
    if isinstance(labels, Codes):
        labels.add(rows.labels)
    elif isinstance(labels, ListCodes):
        # Without a label column there are nulls of another type.
        labels.add(rows.labels if is_list(rows.labels.type) else pa.nulls(len(rows.labels), LISTS))
    else:
        nothing = np.full((len(rows.file_names), len(labels.names)), np.nan, np.float32)
        labels.add(nothing if rows.class_values is None else rows.class_values)


def _name(path: Path, address: str | None, *, is_path: bool) -> str:
    if address is not None:
        return hub_name(address)
    return ((path.name if path.is_dir() else path.stem) or "source") if is_path else "memory"


class _ClassMap(NamedTuple):
    """The other name of every class that is to go by one, and sentences about names that are odd."""

    names: dict[str, str]
    warnings: list[str]


def _class_map(
    source: Path,
    labels: Codes | ListCodes | ClassColumns,
    declared: tuple[str, ...] | None,
    given: str | Path | Mapping[str, str] | None,
    *,
    merge: bool,
) -> _ClassMap:
    """What `given` and, with `merge`, the look-alikes among the classes make of their names."""
    class_map = read_class_map(given or {})
    counts = labels.counts()
    there = dict.fromkeys((*(declared or ()), *counts))
    unknown = [repr(name) for name in class_map if name not in there]
    warnings = [
        f"{source}: --class-map has other names for {', '.join(unknown[:10])}, which are no class of it"
    ]
    by_name: Counter[str] = Counter(dict.fromkeys((class_map.get(name, name) for name in there), 0))
    for name, count in counts.items():
        by_name[class_map.get(name, name)] += count
    if not merge:
        return _ClassMap(
            class_map, warnings[: bool(unknown)] + look_alike_warning(source, list(by_name), by_name)
        )
    again = merged(list(by_name), by_name)
    both = {name: again.get(class_map.get(name, name), class_map.get(name, name)) for name in there}
    names = class_map | {name: other for name, other in both.items() if name != other}
    return _ClassMap(names, warnings[: bool(unknown)])


def _without_images(table: pa.Table, source: OpenedSource) -> tuple[pa.Table, ImageBytes | None]:
    """The table without its spooled images, and what reads images that are no files."""
    if not source.is_spooled:
        return table, source.image_bytes
    last = table.num_columns - 1
    return table.remove_column(last), partial(picked, table.column(last).chunks)


@contextmanager
def _unlinked_file() -> Iterator[Path]:
    """A file in the cache that loses its name at the end; a mapping of it lives on."""
    with cache_errors():
        file = tempfile.NamedTemporaryFile(dir=cache_folder(), prefix=MANIFEST_PREFIX)  # noqa: SIM115
    with file:
        yield Path(file.name)


def _check(manifest: Manifest, one_class: str, *, require_labels: bool) -> None:
    path, given, names = manifest.source, manifest.given, manifest.class_names
    if manifest.num_rows == 0:
        raise InputError(f"{path} is empty: it holds no row")
    if manifest._image_bytes is None and manifest.has_images:
        same = given if manifest.targets is None else rows_alike(manifest.targets)
        check_one_label_per_path(
            path, manifest.file_names(), same, names if manifest.targets is None else None
        )
    if require_labels:
        check_trusted(path, given, manifest.is_trusted)
        if manifest.targets is not None:
            check_labels(path, manifest.targets, manifest.held_out, manifest.limit)
            return
        check_two_classes(path, given, manifest.held_out, names, manifest.limit, one_class)
