"""Class folders: the top folder is the class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from labelfix.data.readers.labels import strip_labels
from labelfix.data.readers.parquet import SPLITS, open_shards, shards_in
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, strings
from labelfix.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
UNLABELED = "_unlabeled"


def open_folder(query: Query) -> OpenedSource:
    """Open a folder of class folders, or of Parquet shards: Parquet files and no two class folders beside them.

    Rows come in code-point order of their relative path. Hidden files and folders are ignored; links to
    folders are followed, but never round in a circle. Where labels are not required and there is no class
    folder, the images that lie directly in the folder are the rows, without labels.

    Raises:
        InputError: no class folder, nothing but splits, or a folder that cannot be read; as `open_shards`.
    """
    top = list(_entries(query.path, ""))
    folders = sorted(key.rstrip("/") for key, _ in top if key.endswith("/"))
    loose = sum(not key.endswith("/") for key, _ in top)
    shards = shards_in(query.path)
    if shards and len(folders) < 2:
        return open_shards(query, shards)
    _check(query, folders, loose)
    warnings: list[str] = []
    if shards:
        warnings.append(
            f"{query.path}: {len(shards)} Parquet files lie beside the class folders and are ignored"
        )
    if folders and loose:
        warnings.append(f"{query.path}: {loose} images lie in no class folder and are ignored")
    for option, value in (
        ("--root", query.root),
        ("--image-column", query.image_column),
        ("--label-column", query.label_column),
    ):
        if value is not None:
            warnings.append(f"{query.path} is a folder of images: {option} is for manifests and ignored")
    return OpenedSource(
        path=query.path,
        root=query.path,
        read=lambda: _read(query, with_folders=bool(folders)),
        warnings=warnings,
    )


def _check(query: Query, folders: list[str], loose: int) -> None:
    path = query.path
    if folders and all(name.lower() in SPLITS for name in folders):
        by_rank = {name.lower(): name for name in folders}
        first = next(by_rank[name] for name in SPLITS if name in by_rank)
        raise InputError(f"{path} holds splits: scan {path / first}")
    if len(folders) == 1 and shards_in(path / folders[0]):
        raise InputError(
            f"{path} holds no class folders: scan {path / folders[0]}, which holds Parquet shards"
        )
    if folders or (loose and not query.require_labels):
        return
    if loose:
        raise InputError(
            f"{path}: its images lie in no class folder; put them in {path}/<class>/, or scan a manifest"
        )
    raise InputError(f"{path} is empty: no class folders with images (SOURCE/<class>/*.jpg) are in it")


def _read(query: Query, *, with_folders: bool) -> Iterator[Rows]:
    keys = islice(_keys(query.path, with_folders), query.rows)
    first = 0
    while batch := list(islice(keys, BATCH_ROWS)):
        names = strings(batch, query.path, first)
        classes = [_class(key) for key in batch]
        yield Rows(names, names, strip_labels(strings(classes, query.path, first)))
        first += len(batch)


def _class(key: str) -> str | None:
    folder, slash, _ = key.partition("/")
    return folder if slash and folder != UNLABELED else None


def _keys(top: Path, with_folders: bool) -> Iterator[str]:
    for key, entry in sorted(_entries(top, ""), key=lambda pair: pair[0]):
        if key.endswith("/"):
            yield from _walk(entry, key, frozenset())
        elif not with_folders:
            yield key


def _walk(folder: os.DirEntry[str], prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        status = folder.stat()
    except OSError as error:
        raise InputError(f"{folder.path} cannot be read: {error.strerror}") from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for key, entry in sorted(_entries(Path(folder.path), prefix), key=lambda pair: pair[0]):
        if key.endswith("/"):
            yield from _walk(entry, key, above | {here})
        else:
            yield key


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads back to itself; with an image's name it is an invalid row


def _entries(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Visible folders (key ends with a slash) and images of one folder.

    Whatever has the name of an image is a row, also a folder: it comes out as invalid instead of missing.
    """
    try:
        found = list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in found:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield f"{prefix}{entry.name}/", entry
        if os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield f"{prefix}{entry.name}", entry
