"""What a target offers, and what it is handed to write."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.atomic_files import atomic_path
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.exports.known import is_known, remember
from labelfix.output_paths import check_no_folder, check_place, naming
from labelfix.results.corrections import Corrections
from labelfix.results.protected_paths import check_protected


@dataclass(frozen=True)
class Export:
    """The rows to write, and what belongs to them.

    Attributes:
        corrections: where they come from.
        schema: of the batches.
        batches: the rows, once: the columns shown, labels as text, and those that the target needs.
        source: where the images are now, as the user says; None: where the run says.
        originals: the source, opened, for targets that hold images.
        is_reviewed: whether there are decisions: else columns called as theirs are the source's own.
        images: copy, hardlink or symlink.
        image_url_prefix: what to put before the file names to make addresses of them; None: the target's own.
    """

    corrections: Corrections
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    source: Any = None
    originals: Manifest | None = None
    is_reviewed: bool = False
    images: str = "copy"
    image_url_prefix: str | None = None

    @property
    def class_names(self) -> list[str]:
        """The K classes in their order."""
        return list(self.corrections.metadata["class_names"])

    @property
    def is_multi(self) -> bool:
        """Whether a row may have several labels: then label columns are lists."""
        return self.corrections.is_multi

    def class_lists(self, labels: pa.Array) -> pa.ListArray:
        """Class indices of lists of labels, list<int64>."""
        lengths = pc.fill_null(pc.list_value_length(labels), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        flat = pa.array(self.class_indices(pc.list_flatten(labels)), pa.int64())
        return pa.ListArray.from_arrays(pa.array(offsets), flat)

    def class_indices(self, labels: pa.Array) -> np.ndarray:
        """Class indices (n,) int64 of labels as text, none of them null."""
        found = pc.index_in(labels, value_set=pa.array(self.class_names, pa.string()))
        indices: np.ndarray = found.cast(pa.int64()).to_numpy()
        return indices


class Target(Protocol):
    """What every target's module offers.

    Attributes:
        SUFFIXES: the extensions that its `--out` can have, the default first; "" is a folder.
        NEEDS: columns of the corrections that it cannot do without; rows that have nothing there are left out.
        HOLDS_IMAGES: whether it writes the images themselves.
        IS_TEXT: whether it writes the source's own columns as text, which cannot hold raw bytes.
        TAKES_SEVERAL: whether an image may have several labels.
    """

    SUFFIXES: tuple[str, ...]
    NEEDS: tuple[str, ...]
    HOLDS_IMAGES: bool
    IS_TEXT: bool
    TAKES_SEVERAL: bool

    def write(self, path: Path, export: Export) -> dict[str, Any]:
        """Write to `path`, a new file or an empty folder; return the target's own part of the summary."""


def check_no_bytes(schema: pa.Schema, to: str) -> None:
    """Refuse a column that holds raw bytes at any depth, which text cannot hold.

    Raises:
        InputError: names the target and the column.
    """
    for field in schema:
        if _holds_bytes(field.type):
            raise InputError(f"--to {to}: the column {field.name!r} holds raw bytes; use --to parquet")


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same values, views of text or bytes as plain ones: pyarrow can neither filter nor take views."""
    fields = [field.with_type(_without_views(field.type)) for field in batch.schema]
    return batch if fields == list(batch.schema) else batch.cast(pa.schema(fields))


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def utf8(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """What a string column (n,) holds, without a copy.

    Returns:
        All its text in UTF-8, uint8, and where in it each value starts and the last one ends, int32 (n + 1,).
    """
    _, offsets, data = column.buffers()
    if not len(column) or data is None:
        return np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int32)
    edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[edges[0] : edges[-1]], edges - edges[0]


def holds(text: np.ndarray, signs: bytes) -> bool:
    """Whether UTF-8 text, uint8, holds one of some ASCII signs."""
    return any((text == sign).any() for sign in signs)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_bytes(kind.storage_type)
    if any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields)):
        return True
    checks = ("is_binary", "is_large_binary", "is_fixed_size_binary", "is_binary_view")
    return any(getattr(pa.types, check)(kind) for check in checks)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pa.struct([field.with_type(_without_views(field.type)) for field in fields])
    return kind


def is_folder(target: Target, path: Path) -> bool:
    """Whether a target writes a folder at `path`, not a file."""
    return "" in target.SUFFIXES and path.suffix.lower() not in target.SUFFIXES[1:]


def checked_out(
    corrections: Corrections,
    targets: Mapping[str, Target],
    to: str,
    out: str | Path | None,
    source: Any,
    decisions: str | Path | Sequence[str | Path] | None,
    *,
    overwrite: bool,
) -> Path:
    """Where the target `to` writes; by default beside the corrections.

    Args:
        corrections: that are exported.
        targets: all of them, by name.
        to: the name of one.
        out: as the user says.
        source: where the images are now, as the user says; None: where the run found them.
        decisions: the files of a person's decisions.
        overwrite: whether a file there may be replaced that no export has written.

    Raises:
        InputError: a place of the wrong kind, one that holds something that is to stay, or one in the source.
    """
    target = targets[to]
    name = f"corrected-{to}" if target.SUFFIXES[0] == "" else f"corrected{target.SUFFIXES[0]}"
    out = corrections.path.parent / name if out is None else Path(out)
    with naming(out):
        _check_kind(targets[to], to, out)
        _check_ending(targets, to, out)
        check_protected(corrections, out, source, decisions)
        if out.is_file() and not (overwrite or is_known(out)):
            raise InputError(
                f"--out {out} is there already, and not as an export left it; use --overwrite to replace it, or"
                " another name"
            )
    return out


@contextmanager
def written(target: Target, path: Path) -> Iterator[Path]:
    """Yield a temporary file or folder for a target, and put it in its place at the end; on an error remove it.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    with (
        naming(path),
        _new_folder(path) if is_folder(target, path) else atomic_path(path) as temporary,
    ):
        yield temporary
        if temporary.is_file():
            remember(temporary)


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside the new one; inside of one that is there, which may be a disk or somebody's own."""
    path = path.resolve()
    is_there = path.is_dir()
    above = path if is_there else path.parent
    above.mkdir(parents=True, exist_ok=True)
    temporary = above / f".{path.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        # Once for all of them: flushing each of a million images by itself would take hours.
        os.sync()
        if is_there:
            _move_entries(temporary, path)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_entries(temporary: Path, path: Path) -> None:
    """Put all that is in a temporary folder into the one around it, which is empty but for that, or nothing of it."""
    if os.listdir(path) != [temporary.name]:
        raise InputError(f"--out {path} is no more empty; choose a new or empty folder")
    moved: list[Path] = []
    try:
        for entry in sorted(temporary.iterdir()):
            moved.append(entry.rename(path / entry.name))
    except BaseException:
        for entry in moved:
            entry.rename(temporary / entry.name)
        raise


def _check_kind(target: Target, to: str, out: Path) -> None:
    """Refuse a folder where a file goes, and the other way round; a folder has to be empty, so that nothing is lost."""
    check_place(out)
    if is_folder(target, out):
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"--out {out} is not empty; choose a new or empty folder")
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out} is a file, and {to} is a folder; choose a new or empty one")
    else:
        check_no_folder(out, f"name a file in it, as in {out / f'corrected{target.SUFFIXES[-1]}'}")


def _check_ending(targets: Mapping[str, Target], to: str, out: Path) -> None:
    """Refuse the extension of another format, and any but the own of a file: images and other data are to stay."""
    target, ending = targets[to], out.suffix.lower()
    if ending in target.SUFFIXES:
        return
    other = next((name for name, its in targets.items() if ending and ending in its.SUFFIXES), None)
    if other is not None:
        raise InputError(f"--out {out} would hold {to}; add --to {other}, or choose another name")
    if not is_folder(target, out):
        raise InputError(f"--out {out}: a file of {to} is called *{target.SUFFIXES[-1]}; choose such a name")
