"""Class folders: the top folder is the class, or the one below a split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from labelfix.data.readers.labels import strip_labels
from labelfix.data.readers.layout import UNLABELED, Branch, Layout, layout_of, nested_source
from labelfix.data.readers.marks import Marks
from labelfix.data.readers.parquet import open_shards, shards_in
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, strings
from labelfix.data.readers.tree import Skipped, entries, images_below
from labelfix.errors import InputError


def open_folder(query: Query) -> OpenedSource:
    """Open a folder of class folders, of splits that hold some, or of Parquet shards.

    Shards are Parquet files with no two class folders beside them. Rows come in code-point order of their relative
    path. Hidden files and folders are ignored; links to folders are followed, but never round in a circle. Where
    labels are not required and there is no class folder, the images that lie directly in the folder are the rows,
    without labels.

    Raises:
        InputError: no class folder, splits and classes that cannot be told apart, or a folder that cannot be read; as
            `open_shards`.
    """
    top = list(entries(query.path, ""))
    num_folders = sum(key.endswith("/") for key, _ in top)
    loose = len(top) - num_folders
    shards = shards_in(query.path)
    if shards and num_folders < 2:
        return open_shards(query, shards)
    layout = layout_of(query.path, require_labels=query.require_labels)
    if not layout.branches and loose and not query.require_labels:
        layout = Layout((Branch("", has_classes=False),), layout.warnings)
    _check(query, layout, loose)
    warnings = [*layout.warnings, *_unused(query)]
    if shards:
        warnings.append(
            f"{query.path}: {len(shards)} Parquet files lie beside the class folders and are ignored"
        )
    if layout.branches[0].has_classes and loose:
        warnings.append(f"{query.path}: {loose} images lie in no class folder and are ignored")
    has_splits = any(branch.split is not None for branch in layout.branches)
    return OpenedSource(
        path=query.path,
        root=query.path,
        read=lambda: _read(query, layout, warnings, has_splits=has_splits),
        extra=pa.schema([("split", pa.string())] if has_splits else []),
        warnings=warnings,
        one_class=_why_one_class(query, layout),
    )


def _check(query: Query, layout: Layout, loose: int) -> None:
    path = query.path
    if layout.branches:
        return
    folders = [entry for key, entry in entries(path, "") if key.endswith("/")]
    if len(folders) == 1 and shards_in(path / folders[0].name):
        raise InputError(
            f"{path} holds no class folders: scan {path / folders[0].name}, which holds Parquet shards"
        )
    if loose:
        around = nested_source(path)
        other = "" if around is None else f"; to scan it with the classes beside it: scan {around}"
        raise InputError(
            f"{path}: its images lie in no class folder; put them in {path}/<class>/, or scan a manifest{other}"
        )
    left_out = f"; no image lies in {layout.left_out}" if layout.left_out else ""
    raise InputError(
        f"{path} is empty: no class folders with images (SOURCE/<class>/*.jpg) are in it{left_out}"
    )


def _why_one_class(query: Query, layout: Layout) -> str:
    """What to say where the images turn out to be of a single class."""
    if layout.left_out:
        return f"; no image lies in {layout.left_out}"
    inside = nested_source(query.path)
    return "" if inside is None else f"; the class folders may be those in it: scan {inside}"


def _unused(query: Query) -> Iterator[str]:
    for option, value in (
        ("--root", query.root),
        ("--image-column", query.image_column),
        ("--label-column", query.label_column),
    ):
        if value is not None:
            yield f"{query.path} is a folder of images: {option} is for manifests and ignored"


def _read(query: Query, layout: Layout, warnings: list[str], *, has_splits: bool) -> Iterator[Rows]:
    skipped = Skipped()
    keys = islice(_rows(query, layout, skipped, warnings), query.rows)
    first = 0
    while batch := list(islice(keys, BATCH_ROWS)):
        names = strings([key for key, _, _ in batch], query.path, first)
        labels = strip_labels(strings([label for _, label, _ in batch], query.path, first))
        splits = pa.array([split for _, _, split in batch], pa.string())
        marks = Marks(split=splits) if has_splits else Marks()
        yield Rows(names, names, labels, extra=(splits,) if has_splits else (), marks=marks)
        first += len(batch)
    if skipped.total:
        warnings.append(
            f"{query.path}: {skipped.total} files in its folders are no images by their names and are skipped"
            f" ({skipped.shown()})"
        )


def _rows(
    query: Query, layout: Layout, skipped: Skipped, warnings: list[str]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Key, class and split of every image."""
    for branch in layout.branches:
        loose = 0
        found = sorted(entries(query.path / branch.key, branch.key), key=lambda pair: pair[0])
        for key, entry in found:
            if not branch.key and entry.name in layout.empty:
                continue
            if key.endswith("/"):
                name = entry.name if branch.has_classes and entry.name != UNLABELED else None
                yield from ((image, name, branch.split) for image in images_below(entry.path, key, skipped))
            elif not branch.has_classes:
                yield key, None, branch.split
            else:
                loose += 1
        if loose and branch.key:
            warnings.append(
                f"{query.path}: {loose} images in {branch.key} lie in no class folder and are ignored"
            )
