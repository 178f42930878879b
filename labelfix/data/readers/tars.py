"""WebDataset shards: tar files in which files of one name belong together, such as 0001.jpg and 0001.cls."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from labelfix.data.readers.labels import json_text, strip_labels
from labelfix.data.readers.marks import Marks
from labelfix.data.readers.parquet import split_of
from labelfix.data.readers.rows import BATCH_ROWS, LABEL_COLUMNS, OpenedSource, Query, Rows, strings
from labelfix.data.readers.tree import EXTENSIONS
from labelfix.errors import InputError

SUFFIX = ".tar"
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LABELS = ("cls", "label", "txt")
_MOST_LABEL_BYTES = 1 << 16
_READ_AT_ONCE = 256


class _Sample(NamedTuple):
    """An image in a shard: which one, where in it, how long; its name, and its label with what said so."""

    shard: int
    offset: int
    size: int
    name: str
    label: str | None
    told_by: str


def tars_in(folder: Path) -> list[Path]:
    """The visible tar files that lie directly in a folder, in code-point order of their names.

    Raises:
        InputError: the folder cannot be read, or they are compressed.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    found = [folder / name for name in names if name.lower().endswith(SUFFIX)]
    packed = next((name for name in names if name.lower().endswith(_PACKED)), None)
    if packed is not None and not found:
        check_packed(folder / packed)
    return found


def check_packed(path: Path) -> None:
    """Refuse a compressed tar, in which no image can be found without unpacking all before it.

    Raises:
        InputError: it is one.
    """
    if path.name.lower().endswith(_PACKED):
        raise InputError(
            f"{path} is compressed: unpack it (tar -xf {path.name}), and scan the folder or the .tar in it"
        )


def open_tars(query: Query, shards: Sequence[Path]) -> OpenedSource:
    """Open tar files as one source: their images in order, each with the label beside it that has its name.

    A label is the text in a file .cls, .label or .txt, or in a .json under a usual name. Where no shard holds labels,
    it is the folder in the tar, else, with several tars, the name of the tar. Shards named after several splits give
    the column `split`.

    Raises:
        InputError: a file that is no tar, or a label that is too long or no text.
    """
    samples, told_by = _labelled(list(_samples(shards)), shards)
    warnings = [f"{query.path}: labels are {told_by}"] if told_by else []
    if query.rows is not None:
        samples = samples[: query.rows]
    splits = [split_of(path) for path in shards]
    has_splits = len(set(splits)) > 1 and None not in splits
    places = np.array([sample[:3] for sample in samples], np.int64).reshape(-1, 3)
    stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in shards]
    return OpenedSource(
        path=query.path,
        root=query.path if query.path.is_dir() else query.path.parent,
        read=lambda: _read(query, samples, splits, has_splits=has_splits),
        extra=pa.schema([("split", pa.string())] if has_splits else []),
        image_bytes=lambda rows: _image_bytes(shards, places, rows),
        stamp=("tar", *stamp),
        warnings=warnings,
    )


def _read(
    query: Query, samples: list[_Sample], splits: list[str | None], *, has_splits: bool
) -> Iterator[Rows]:
    for first in range(0, len(samples), BATCH_ROWS):
        some = samples[first : first + BATCH_ROWS]
        names = strings([sample.name for sample in some], query.path, first)
        labels = strip_labels(strings([sample.label for sample in some], query.path, first))
        split = pa.array([splits[sample.shard] for sample in some], pa.string())
        rows = Rows(
            names, pa.nulls(len(some), pa.string()), labels, np.array([s.size for s in some], np.int64)
        )
        yield replace(rows, extra=(split,), marks=Marks(split=split)) if has_splits else rows


def _samples(shards: Sequence[Path]) -> Iterator[_Sample]:
    for shard, path in enumerate(shards):
        with _reading(path), tarfile.open(path, "r:") as tar:
            labels: dict[str, str | None] = {}
            images: list[tuple[str, tarfile.TarInfo]] = []
            for member in tar:
                folder, name = os.path.split(member.name)
                if not member.isreg() or name.startswith("."):
                    continue
                stem, _, ending = name.partition(".")
                key = f"{folder}/{stem}"
                if os.path.splitext(name)[1].lower() in EXTENSIONS:
                    images.append((key, member))
                elif ending.lower() in _LABELS or ending.lower() == "json":
                    label = _label(path, tar, member, is_json=ending.lower() == "json")
                    labels[key] = labels.get(key) or label
            for key, member in images:
                label = labels.get(key)
                told_by = "beside" if label is not None else ""
                yield _Sample(shard, member.offset_data, member.size, member.name, label, told_by)


def _label(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, *, is_json: bool) -> str | None:
    if member.size > _MOST_LABEL_BYTES:
        raise InputError(f"{path}: the label {member.name!r} has {member.size} bytes; write its text alone")
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    try:
        text = data.decode()
        if not is_json:
            return text.strip() or None
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {member.name!r} is no label ({error}); write it in UTF-8") from None
    if not isinstance(content, dict):
        return json_text(content, "label", path, 0)
    name = next((name for name in LABEL_COLUMNS if name in content), None)
    return None if name is None else json_text(content[name], "label", path, 0)


def _labelled(samples: list[_Sample], shards: Sequence[Path]) -> tuple[list[_Sample], str]:
    """The samples with labels from where there are some; and what those are, where nothing lies beside the images."""
    if any(sample.told_by for sample in samples):
        return samples, ""
    tops = [sample.name.removeprefix("./").rpartition("/")[0].split("/")[0] for sample in samples]
    if len(Counter(top for top in tops if top)) > 1:
        labelled = zip(samples, tops, strict=True)
        return [
            sample._replace(label=top or None) for sample, top in labelled
        ], "the folders in the tar files"
    if len(shards) > 1:
        return [
            sample._replace(label=shards[sample.shard].stem) for sample in samples
        ], "the names of the tar files"
    return samples, ""


def _image_bytes(
    shards: Sequence[Path], places: np.ndarray, wanted: np.ndarray
) -> Iterator[list[bytes | None]]:
    """The bytes of the `wanted` rows, ascending int64 (n,), in lists; `places` (N, 3) are shard, offset and size."""
    for start in range(0, len(wanted), _READ_AT_ONCE):
        some = places[wanted[start : start + _READ_AT_ONCE]]
        found: list[bytes | None] = []
        for shard in np.unique(some[:, 0]).tolist():
            with _reading(shards[shard]), shards[shard].open("rb") as file:
                for _, offset, size in some[some[:, 0] == shard].tolist():
                    file.seek(offset)
                    found.append(file.read(size))
        yield found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as tar ({reason}); write it again, or unpack it") from None
