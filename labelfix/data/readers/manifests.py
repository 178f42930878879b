"""Manifests as files: which reader a file has, and those that lie in a folder of images and name them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.annotations import open_json
from labelfix.data.readers.delimited import open_delimited
from labelfix.data.readers.files import Files
from labelfix.data.readers.jsonl import open_jsonl
from labelfix.data.readers.marks import SPLITS
from labelfix.data.readers.parquet import open_parquet
from labelfix.data.readers.rows import OpenedSource, Query, Rows
from labelfix.data.readers.tars import SUFFIX, check_packed, open_tars
from labelfix.errors import InputError

READERS = {
    ".csv": open_delimited,
    ".tsv": open_delimited,
    ".jsonl": open_jsonl,
    ".json": open_json,
    ".parquet": open_parquet,
}
METADATA = "metadata"
CLASSES = "classes.json"  # says which class a folder is, see the export to class folders
_ROWS_LOOKED_AT = 1000


@dataclass(frozen=True)
class Beside:
    """A manifest in a folder of images.

    Attributes:
        path: of the file.
        names_images: whether half of its first rows or more lead to files.
        has_labels: whether one of those has a label.
        agrees: whether those labels are the names of the folders that the images lie in.
    """

    path: Path
    names_images: bool = False
    has_labels: bool = False
    agrees: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether it says what the images are."""
        return self.names_images and self.has_labels


def open_manifest(query: Query) -> OpenedSource:
    """Open a manifest by its extension.

    Raises:
        InputError: another extension, or what its reader says.
    """
    suffix = query.path.suffix.lower()
    if suffix == SUFFIX:
        return open_tars(query, [query.path])
    reader = READERS.get(suffix)
    if reader is None:
        check_packed(query.path)
        raise InputError(
            f"{query.path} is no source; scan a folder of class folders or one of {', '.join(READERS)}, {SUFFIX}"
        )
    return reader(query)


def manifests_in(query: Query, folder: Path) -> list[Beside]:
    """The manifests that lie directly in a folder, metadata.* first; Parquet files only under that name.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in READERS and path.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    found = [path for path in found if path.name != CLASSES and not path.name.startswith(".")]
    found = [path for path in found if path.suffix.lower() != ".parquet" or path.stem == METADATA]
    found.sort(key=lambda path: (path.stem != METADATA, path.name))
    return [_looked_at(query, folder, path) for path in found]


def open_beside(query: Query, folder: Path, manifest: Path) -> OpenedSource:
    """Open a manifest whose relative paths start at the folder that it lies in, unless there is a root."""
    opened = open_manifest(replace(query, path=manifest, root=query.root or folder))
    note = f"{query.path}: images and labels are those that {manifest.relative_to(query.path)} names"
    return replace(opened, path=query.path, warnings=_with(opened.warnings, note))


def open_splits(query: Query, parts: Sequence[tuple[Path, str]]) -> OpenedSource:
    """Open several manifests as one, each with its split; their relative paths start where each of them lies.

    Args:
        query: of the folder that holds them all.
        parts: path and split of each.

    Raises:
        InputError: they differ in their columns; as `open_manifest` for each.
    """
    opened = [open_manifest(replace(query, path=path, root=path.parent, rows=None)) for path, _ in parts]
    first = opened[0]
    for (path, _), other in zip(parts, opened, strict=True):
        if (other.extra, other.class_names, other.is_multi) != (
            first.extra,
            first.class_names,
            first.is_multi,
        ):
            raise InputError(
                f"{path}: its columns or classes are not those of {parts[0][0]}; give both the same, or scan one"
            )
    if "split" in first.extra.names:
        raise InputError(
            f"{parts[0][0]}: its column 'split' and the name of its file both say what it is; rename one"
        )
    shown = ", ".join(str(path.relative_to(query.path)) for path, _ in parts)
    warnings = [f"{query.path}: images, labels and splits are those that {shown} name"]
    return OpenedSource(
        path=query.path,
        root=query.path,
        read=lambda: _joined(query, parts, opened, warnings),
        extra=first.extra.append(pa.field("split", pa.string())),
        class_names=first.class_names,
        warnings=warnings,
        is_multi=first.is_multi,
    )


def split_manifests(manifests: Sequence[Beside]) -> list[tuple[Path, str]]:
    """Those called like a split, where more than one names images and all of those are called so; else none."""
    usable = [each.path for each in manifests if each.names_images]
    is_split = len(usable) > 1 and all(path.stem.lower() in SPLITS for path in usable)
    return [(path, path.stem.lower()) for path in usable] if is_split else []


def _with(warnings: list[str], note: str) -> list[str]:
    # The reader fills this very list while it reads.
    warnings.insert(0, note)
    return warnings


def _joined(
    query: Query, parts: Sequence[tuple[Path, str]], opened: Sequence[OpenedSource], warnings: list[str]
) -> Iterator[Rows]:
    left = np.inf if query.rows is None else query.rows
    for (path, split), source in zip(parts, opened, strict=True):
        prefix = str(path.parent.relative_to(query.path)).removeprefix(".")
        for rows in source.read():
            some = _cut(rows, int(min(left, len(rows.file_names))))
            left -= len(some.file_names)
            splits = pa.array([split] * len(some.file_names), pa.string())
            yield replace(
                some,
                file_names=_below(prefix, some.file_names),
                paths=_below(prefix, some.paths),
                extra=(*some.extra, splits),
                marks=replace(some.marks, split=splits),
            )
            if not left:
                return
        warnings += source.warnings


def _below(prefix: str, paths: pa.Array) -> pa.Array:
    """Relative paths below a folder; absolute ones, addresses and those that are not there as they are."""
    if not prefix:
        return paths
    is_elsewhere = pc.or_(pc.match_substring_regex(paths, "^/|://"), pc.equal(paths, ""))
    return pc.if_else(is_elsewhere, paths, pc.binary_join_element_wise(prefix, paths, "/"))


def _cut(rows: Rows, count: int) -> Rows:
    if count == len(rows.file_names):
        return rows
    marks = rows.marks
    return replace(
        rows,
        file_names=rows.file_names[:count],
        paths=rows.paths[:count],
        labels=rows.labels[:count],
        class_values=None if rows.class_values is None else rows.class_values[:count],
        extra=tuple(column[:count] for column in rows.extra),
        marks=replace(
            marks,
            trusted=None if marks.trusted is None else marks.trusted[:count],
            group=None if marks.group is None else marks.group[:count],
        ),
    )


def _looked_at(query: Query, folder: Path, path: Path) -> Beside:
    look = replace(query, path=path, root=query.root or folder, rows=_ROWS_LOOKED_AT, require_labels=False)
    try:
        opened = open_manifest(look)
        if opened.holds_images:
            return Beside(path)
        rows = next(iter(opened.read()), None)
    except InputError:
        return Beside(path)
    if rows is None or not len(rows.file_names):
        return Beside(path)
    found = Files(opened.root).found(rows)
    assert found.status is not None
    labels = rows.labels.to_pylist()
    names = found.file_names.to_pylist()
    agrees = all(
        label is None or label in name.split("/")[:-1] for label, name in zip(labels, names, strict=True)
    )
    return Beside(path, bool((found.status[:, 0] >= 0).mean() >= 0.5), any(labels), agrees)
