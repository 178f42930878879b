"""What a reader of a SOURCE is asked, and what it answers: batches of rows, as Arrow arrays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.findings_schema import MULTI_COLUMNS, RESERVED_COLUMNS, REVIEW_COLUMNS
from labelfix.data.readers.addresses import is_address, is_served, local_path
from labelfix.data.readers.marks import FASTAI, MARK_COLUMNS, NO_MARKS, Marks
from labelfix.errors import InputError
from labelfix.json_files import Checks, are, is_path, is_text, load_object, maybe
from labelfix.output_paths import is_run

BATCH_ROWS = 65_536
IMAGE_COLUMNS = ("file_name", "filepath", "filename", "path", "image")
LABEL_COLUMNS = ("label", "given_label", "class", "choice")
_SCANNED: Checks = {
    "source": maybe({
        "source": maybe(is_path),
        "root": maybe(is_path),
        "image_column": maybe(is_text),
        "label_column": maybe(is_text),
        "label_columns": maybe(are(is_text)),
        "label_separator": maybe(is_text),
        "task": maybe(is_text),
    })
}  # fmt: skip
# What tells a table of findings, ours or cleanlab's: the flag, and one of the others.
_FLAG = "is_label_issue"
_SHOWN_MARKS = ("split", "group")  # they pass through too
_FINDINGS = ("given_label", "noise_score", "label_score", "label_quality", "predicted_label")


@dataclass(frozen=True)
class Query:
    """What to read.

    Attributes:
        path: absolute path of the source, a file or a folder; in memory, what messages call it.
        rows: read the first so many rows only; None reads all.
        root: absolute folder that relative image paths start from; None is the manifest's own folder.
        image_column: name of the image column; None looks for the usual ones.
        label_column: name of the label column; None looks for the usual ones.
        require_labels: whether a source without a label column is an error.
        has_images: False for a table of whatever: then no image column is needed, and none is read; one of paths or
            ids names the rows.
        every_image: whether every image in a folder is a row, whatever its folders are.
        task: "single" for one label a row, "multi" for several, "auto" for what the labels are.
        label_separator: what stands between labels in a text.
        label_columns: names of the columns that hold a number from 0 to 1 for a class each, in place of a label column.
    """

    path: Path
    rows: int | None = None
    root: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    require_labels: bool = True
    has_images: bool = True
    every_image: bool = False
    task: str = "single"
    label_separator: str | None = None
    label_columns: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse options that fit no source.

        Raises:
            InputError: names the option.
        """
        if self.rows is not None and self.rows < 1:
            raise InputError(f"--rows {self.rows}: read at least 1 row, or leave the option out to read all")
        if self.root is not None and not self.root.is_dir():
            raise InputError(f"--root {self.root} is no folder; name the one that the image paths start from")
        if self.label_separator is not None and not self.label_separator.strip():
            raise InputError("--label-separator: it is blank; name the sign between labels, such as ';'")
        if self.label_columns and (self.label_column is not None or self.label_separator is not None):
            other = "--label-column" if self.label_column is not None else "--label-separator"
            raise InputError(f"--label-columns and {other} exclude each other; give one of them")
        if len(set(self.label_columns)) < len(self.label_columns):
            raise InputError("--label-columns: a column is named twice; name each once")

    @property
    def may_be_multi(self) -> bool:
        """Whether several labels a row are taken."""
        return self.task != "single"

    @property
    def is_surely_multi(self) -> bool:
        """Whether an option says that there are several labels a row."""
        return self.task == "multi" or bool(self.label_columns) or self.label_separator is not None


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a source.

    Attributes:
        file_names: string, one per row; "" where the image cell is empty.
        paths: string, the path as the source says it (absolute, or relative to the root); null without one.
        labels: string, stripped of outer blanks, or list<string> of such; null where unlabelled.
        sizes: (n,) int64, bytes of each image, where the images lie inside the source; None for files.
        extra: the pass-through columns, in the order of `OpenedSource.extra`.
        marks: which rows are verified, their split and their group.
        digests: uint8 (n, 32), SHA-256 of the pixels of each image, where the source is in memory; else None.
        images: binary, the images themselves where `OpenedSource.is_spooled`, null where there is none; else None.
        status: int64 (n, 2), size in bytes and modification time in ns of each file, -1 and 0 where there is none;
            None until somebody has looked.
        class_values: (n, K) float32, the numbers of `Query.label_columns`, NaN rows unlabelled; None without them.
    """

    file_names: pa.Array
    paths: pa.Array
    labels: pa.Array
    sizes: np.ndarray | None = None
    extra: tuple[pa.Array, ...] = ()
    marks: Marks = NO_MARKS
    digests: np.ndarray | None = None
    images: pa.Array | None = None
    status: np.ndarray | None = None
    class_values: np.ndarray | None = None


@dataclass(frozen=True)
class OpenedSource:
    """An opened source: what is known before its rows are read, and how to read them.

    Attributes:
        path: absolute path of the file or folder.
        root: folder that relative paths start from.
        read: yields the rows in order, in batches of at most 65,536; may be called again.
        extra: names and types of the pass-through columns.
        class_names: the classes in their own order, where the source declares one; else None.
        image_bytes: the bytes of some rows, ascending int64, in lists and in order, where the images lie inside
            the source; None where they are files or spooled.
        stamp: name, size and time of each Parquet file that holds images, and their column; empty where images
            are files, or in memory. As JSON takes it.
        is_spooled: whether `Rows.images` carry the images, to be kept while they are needed.
        warnings: filled when it is opened and read; whole sentences.
        one_class: what there is to say where the rows turn out to be of a single class: why, and the way out.
        is_multi: whether `Rows.labels` are lists, or there are `Rows.class_values`.
    """

    path: Path
    root: Path
    read: Callable[[], Iterator[Rows]]
    extra: pa.Schema = field(default_factory=lambda: pa.schema([]))
    class_names: tuple[str, ...] | None = None
    image_bytes: Callable[[np.ndarray], Iterator[list[bytes | None]]] | None = None
    stamp: tuple[object, ...] = ()
    is_spooled: bool = False
    warnings: list[str] = field(default_factory=list)
    one_class: str = ""
    is_multi: bool = False

    @property
    def holds_images(self) -> bool:
        """Whether the images lie inside the source: they are no files."""
        return self.image_bytes is not None or self.is_spooled


@dataclass(frozen=True)
class Columns:
    """Which column of a table plays which part.

    Attributes:
        image: of the images; None where a table without images has none.
        label: of the labels; None without one.
        extra: those that pass through.
        marks: those of is_trusted, split and group that are there, and fastai's is_valid.
        left_out: those of earlier findings, which do not pass through.
        labels: those that hold a number for a class each.
    """

    image: str | None
    label: str | None
    extra: tuple[str, ...]
    marks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def warnings(self, path: Path) -> list[str]:
        """Sentences for what is not taken for what its name says."""
        found = []
        if self.left_out:
            shown = ", ".join(map(repr, self.left_out))
            found.append(
                f"{path} holds earlier findings; the label is {self.label!r}, and {shown} are left out"
            )
        if FASTAI in self.marks:
            found.append(
                f"{path}: the column {FASTAI!r} is read as fastai's: rows where it is true are held out"
            )
        return found


def pick_columns(names: Sequence[str], query: Query) -> Columns:
    """Choose image, label, marking and pass-through columns among `names`.

    `is_trusted` is read and does not pass through; `split` and `group` are read and pass through. A table of earlier
    findings, ours or cleanlab's, is read without them.

    Raises:
        InputError: a column is missing, repeated, not supported, or has the name of one of our own.
    """
    check_names(names, query.path)
    image = _pick(names, query, query.image_column, IMAGE_COLUMNS, "image", required=query.has_images)
    label, classes = None, query.label_columns
    if classes:
        classes = _label_columns(names, query)
    else:
        label = _pick(names, query, query.label_column, LABEL_COLUMNS, "label", required=query.require_labels)
    holds_findings = _FLAG in names and any(name in names for name in _FINDINGS)
    taken = {image, label, *classes} | ({FASTAI} if not holds_findings and "split" not in names else set())
    if not holds_findings:
        # Of findings, the verified label is the corrected one, not the one that was given.
        taken.add("is_trusted")
    marks = [name for name in MARK_COLUMNS if name in names and name not in (image, label, *classes)]
    marks = [name for name in (*marks, FASTAI) if name in names and (name in taken or name in _SHOWN_MARKS)]
    others = [name for name in names if name not in taken]
    ours = RESERVED_COLUMNS | MULTI_COLUMNS | {*REVIEW_COLUMNS} if holds_findings else RESERVED_COLUMNS
    reserved = [name for name in others if name in ours]
    if reserved and not holds_findings:
        raise clash(query.path, reserved[0])
    extra = tuple(name for name in others if name not in reserved)
    return Columns(image, label, extra, tuple(marks), tuple(reserved), classes)


def clash(path: Path, name: str) -> InputError:
    """The refusal of a column that would pass through under the name of one of the findings."""
    return InputError(
        f"{path}: the column {name!r} clashes with one of corrections.parquet that has the same"
        " name; rename or remove it, or name it with --image-column or --label-column"
    )


def _label_columns(names: Sequence[str], query: Query) -> tuple[str, ...]:
    """Those of the classes; none where the table has none of them and needs no labels."""
    missing = [name for name in query.label_columns if name not in names]
    if missing and (query.require_labels or len(missing) < len(query.label_columns)):
        there = ", ".join(repr(name) for name in names) or "none"
        raise InputError(f"{query.path}: no column {missing[0]!r} (--label-columns); its columns are {there}")
    return () if missing else query.label_columns


def check_names(names: Sequence[str], path: Path) -> None:
    """Refuse a table where two columns have one name.

    Raises:
        InputError: names the column.
    """
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"{path}: the column {repeated[0]!r} stands there twice; rename one of them")


def _pick(
    names: Sequence[str], query: Query, wanted: str | None, usual: Sequence[str], part: str, *, required: bool
) -> str | None:
    there = ", ".join(repr(name) for name in names) or "none"
    if wanted is not None:
        if wanted in names:
            return wanted
        raise InputError(f"{query.path}: no column {wanted!r} (--{part}-column); its columns are {there}")
    for name in usual:
        if name in names:
            return name
    if required:
        raise InputError(
            f"{query.path}: no {part} column (one of {', '.join(usual)}); its columns are {there}:"
            f" name one with --{part}-column"
        )
    return None


def strings(values: Sequence[str | None], path: Path, first_row: int) -> pa.Array:
    """An Arrow string array of `values`.

    Readers decode bytes that are no UTF-8 to lone surrogates, which are found here.

    Raises:
        InputError: a value is no valid Unicode; names the row.
    """
    try:
        return pa.array(values, type=pa.string())
    except UnicodeEncodeError:
        place = next(i for i, value in enumerate(values) if value is not None and not is_unicode(value))
        save = "" if path.is_dir() else "save the manifest in UTF-8, or "
        raise InputError(
            f"{path}: row {first_row + place} is not valid UTF-8 ({ascii(values[place])[:100]}); {save}rename"
            " the image"
        ) from None


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8 (no lone surrogates)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def file_name(path: str | None, root: str) -> str:
    """The name of a row: relative to `root` when inside it, else as the manifest says; "" without a path."""
    if path is None:
        return ""
    if is_address(path):
        return path
    if path[0] != "/" and "./" not in path and "//" not in path:
        return path
    plain = os.path.normpath(path)
    inside = plain.removeprefix(root.rstrip("/") + "/") if plain.startswith("/") else plain
    return path if inside.startswith(("/", "../")) or inside in (".", "..") else inside


def path_rows(
    cells: Sequence[str | None],
    labels: pa.Array,
    extra: tuple[pa.Array, ...],
    query: Query,
    first_row: int,
    marks: Marks = NO_MARKS,
    values: np.ndarray | None = None,
) -> Rows:
    """Rows of a manifest of paths; a null or blank cell is an image that is not there.

    In a table without images the cells only name the rows, which go by their number where there is none.
    """
    root = root_of(query)
    paths = [cell if cell and not cell.isspace() else None for cell in cells]
    paths = [local_path(path, root) if path and is_served(path) else path for path in paths]
    names = [file_name(path, str(root)) for path in paths]
    if not query.has_images:
        names = [name or f"row-{row:09d}" for row, name in enumerate(names, first_row)]
        paths = [None] * len(names)
    names_text, paths_text = strings(names, query.path, first_row), strings(paths, query.path, first_row)
    return Rows(names_text, paths_text, labels, None, extra, marks, class_values=values)


def root_of(query: Query) -> Path:
    """The folder that relative paths of a manifest start from; in a run folder, that of what was scanned."""
    return query.root or run_root(query.path.parent) or query.path.parent


def run_root(folder: Path) -> Path | None:
    """Where the paths of what a run scanned start from; None for what is no run, or one of images in memory."""
    options = scanned_options(folder)
    if options is None:
        return None
    place = Path(options.get("root") or options["source"])
    return place if place.is_dir() else place.parent


def scanned_options(folder: Path) -> dict[str, Any] | None:
    """Source, root and columns of a run, by its config.json; None for what is no run, or one of images in memory."""
    try:
        facts = load_object(folder / "config.json", _SCANNED) if is_run(folder) else {}
    except (OSError, ValueError):
        return None
    options: dict[str, Any] = facts.get("source") or {}
    return options if options.get("source") else None
