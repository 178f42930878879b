"""Class folders: the top folder is the class, or the one below a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow as pa

from labelfix.data.readers.annotations import is_fiftyone, open_fiftyone
from labelfix.data.readers.arrow_files import is_saved_dataset, open_saved_dataset
from labelfix.data.readers.labels import strip_labels
from labelfix.data.readers.layout import UNLABELED, Branch, Layout, layout_of, nested_source
from labelfix.data.readers.manifests import (
    CLASSES,
    METADATA,
    Beside,
    manifests_in,
    open_beside,
    open_splits,
    split_manifests,
)
from labelfix.data.readers.marks import Marks
from labelfix.data.readers.parquet import open_shards, shards_in
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, strings
from labelfix.data.readers.tars import open_tars, tars_in
from labelfix.data.readers.tree import Skipped, entries, holds_image, images_below
from labelfix.errors import InputError
from labelfix.json_files import is_text, load_object


def open_folder(query: Query) -> OpenedSource:
    """Open a folder of class folders, of splits that hold some, of Parquet shards, or with a manifest of its images.

    Shards are Parquet files with no two class folders beside them. A `metadata.csv` (jsonl, parquet) that names the
    images and their labels is what counts; another manifest that does so where there are no two class folders. Rows of
    folders come in code-point order of their relative path. Hidden files and folders are ignored; links to folders are
    followed, but never round in a circle. Where labels are not required and there is no class folder, the images that
    lie directly in the folder are the rows, without labels.

    Raises:
        InputError: no class folder, splits and classes that cannot be told apart, or a folder that cannot be read; as
            `open_shards` and `open_manifest`.
    """
    path = query.path
    special = _of_another_tool(query)
    if special is not None:
        return special
    manifests = [] if query.every_image else manifests_in(query, path)
    if manifests and manifests[0].is_usable and manifests[0].path.stem == METADATA:
        return open_beside(query, path, manifests[0].path)
    shards = shards_in(path)
    if shards and sum(key.endswith("/") for key, _ in entries(path, "")) < 2:
        return open_shards(query, shards)
    tars = tars_in(path)
    if tars and not any(key.endswith("/") for key, _ in entries(path, "")):
        return open_tars(query, tars)
    if query.every_image:
        return _open_every_image(query)
    try:
        layout = layout_of(path, require_labels=query.require_labels, classes=_named_classes(path))
        described = _described_splits(query, layout)
        if described:
            return open_splits(query, described)
        if len(layout.classes) < 2 and any(each.is_usable for each in manifests):
            return _open_manifests(query, manifests)
        return _open_classes(query, layout, manifests, shards)
    except InputError:
        if not any(each.is_usable for each in manifests):
            raise
        return _open_manifests(query, manifests)


def _open_every_image(query: Query) -> OpenedSource:
    """Open all images of a tree, with the class of those whose folder can be told to be one.

    Raises:
        InputError: there is none, or a folder cannot be read.
    """
    try:
        layout = layout_of(query.path, require_labels=False, classes=_named_classes(query.path))
    except InputError:
        layout = Layout(())
    branches = layout.branches if len(layout.classes) > 1 else ()
    skipped = Skipped()
    warnings = list(_unused(query))
    if not holds_image(query.path):
        raise InputError(f"{query.path} is empty: no image is in it or its folders")

    def labelled() -> Iterator[tuple[str, str | None, str | None]]:
        names = _class_of_folder(query, layout)
        for key in images_below(query.path, "", skipped):
            yield key, _class_in(key, branches, names), None

    return OpenedSource(
        path=query.path,
        root=query.path,
        read=lambda: _batched(query, labelled(), skipped, warnings, has_splits=False),
        warnings=warnings,
    )


def _class_in(key: str, branches: tuple[Branch, ...], names: dict[str, str]) -> str | None:
    for branch in branches:
        top, slash, _ = key.removeprefix(branch.key).partition("/")
        if key.startswith(branch.key) and branch.has_classes and slash and top != UNLABELED:
            return names.get(top, top)
    return None


def _of_another_tool(query: Query) -> OpenedSource | None:
    """What FiftyOne or `datasets` wrote; None for any other folder.

    Raises:
        InputError: an export without images.
    """
    path = query.path
    if is_fiftyone(path):
        return open_fiftyone(query)
    if is_saved_dataset(path):
        return open_saved_dataset(query)
    if (path / "labels.npy").is_file() and (path / "pred_probs.npy").is_file():
        raise InputError(
            f"{path} is an export for cleanlab, which holds no images; scan what it was made from, and give this as"
            " --trusted if its labels are right"
        )
    return None


def _described_splits(query: Query, layout: Layout) -> list[tuple[Path, str]]:
    """The metadata.* in each of the splits, where all of them have one that names its images; else none."""
    found = []
    for branch in layout.branches:
        folder = query.path / branch.key
        some = manifests_in(query, folder) if branch.split is not None else []
        if not (some and some[0].is_usable and some[0].path.stem == METADATA):
            return []
        found.append((some[0].path, str(branch.split)))
    return found


def _open_manifests(query: Query, manifests: list[Beside]) -> OpenedSource:
    """Open the manifest that names the images, or those of all splits.

    Raises:
        InputError: there are several, and no one can tell which counts.
    """
    splits = split_manifests(manifests)
    if splits:
        return open_splits(query, splits)
    usable = [each.path for each in manifests if each.is_usable]
    if len(usable) > 1:
        names = ", ".join(repr(path.name) for path in usable[:5])
        raise InputError(f"{query.path}: {names} all name its images; scan one of them, such as {usable[0]}")
    return open_beside(query, query.path, usable[0])


def _open_classes(query: Query, layout: Layout, manifests: list[Beside], shards: list[Path]) -> OpenedSource:
    loose = sum(not key.endswith("/") for key, _ in entries(query.path, ""))
    if not layout.branches and loose and not query.require_labels:
        layout = replace(layout, branches=(Branch("", has_classes=False),))
    _check(query, layout, loose)
    warnings = [*layout.warnings, *_unused(query), *_not_read(query, manifests, shards)]
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


def _not_read(query: Query, manifests: list[Beside], shards: list[Path]) -> Iterator[str]:
    """Sentences for the tables that lie beside the class folders."""
    shards = [path for path in shards if path.stem != METADATA]
    if shards:
        yield f"{query.path}: {len(shards)} Parquet files lie beside the class folders and are ignored"
    for each in manifests:
        name = each.path.name
        if not each.names_images:
            yield f"{query.path}: {name} beside the folders names none of their images and is not read"
        elif not each.has_labels:
            yield f"{query.path}: {name} beside the folders has no labels and is not read"
        elif not each.agrees:
            yield (
                f"{query.path}: {name} beside the folders has other labels than their names and is not read; to use"
                f" them, scan {each.path}"
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


def _class_of_folder(query: Query, layout: Layout) -> dict[str, str]:
    """The class of each folder that is called otherwise, by the classes.json that our export writes beside them."""
    found = _named_classes(query.path)
    return found if layout.classes <= found.keys() else {}


def _named_classes(path: Path) -> dict[str, str]:
    if (path / CLASSES).is_file():
        with suppress(OSError, ValueError):
            found = load_object(path / CLASSES, {})
            if all(map(is_text, found.values())):
                return dict(found)
    return {}


def _read(query: Query, layout: Layout, warnings: list[str], *, has_splits: bool) -> Iterator[Rows]:
    skipped = Skipped()
    found = _rows(query, layout, skipped, warnings)
    yield from _batched(query, found, skipped, warnings, has_splits=has_splits)


def _batched(
    query: Query,
    found: Iterator[tuple[str, str | None, str | None]],
    skipped: Skipped,
    warnings: list[str],
    *,
    has_splits: bool,
) -> Iterator[Rows]:
    """Rows of keys, classes and splits; what was skipped on the way is named at the end."""
    wanted = islice(found, query.rows)
    first = 0
    while batch := list(islice(wanted, BATCH_ROWS)):
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
    names = _class_of_folder(query, layout)
    for branch in layout.branches:
        loose = 0
        found = sorted(entries(query.path / branch.key, branch.key), key=lambda pair: pair[0])
        for key, entry in found:
            if not branch.key and entry.name in layout.empty:
                continue
            if key.endswith("/"):
                is_class = branch.has_classes and entry.name != UNLABELED
                name = names.get(entry.name, entry.name) if is_class else None
                yield from ((image, name, branch.split) for image in images_below(entry.path, key, skipped))
            elif not branch.has_classes:
                yield key, None, branch.split
            else:
                loose += 1
        if loose and branch.key:
            warnings.append(
                f"{query.path}: {loose} images in {branch.key} lie in no class folder and are ignored"
            )
