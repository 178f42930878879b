"""Exports: the corrected labels in the format of the tool that comes next; one target per file.

A target is a module that offers what `labelfix.exports.base.Target` names. To add one: its file, and its name in
`labelfix.choices.EXPORTS`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.choices import EXPORTS, IMAGE_WAYS
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.exports.base import Export, Target, check_no_bytes, checked_out, is_folder, written
from labelfix.exports.hub import check_push, push_folder, write_card
from labelfix.exports.rows import (
    Choice,
    as_text,
    chosen_rows,
    differ,
    export_columns,
    shown_columns,
    shown_schema,
)
from labelfix.results.corrections import Corrections
from labelfix.results.decisions import Decisions
from labelfix.results.originals import read_originals

__all__ = ["TARGETS", "Choice", "export"]

TARGETS = {name: cast(Target, import_module(f"labelfix.exports.{name}")) for name in EXPORTS}


_TABLES = ("csv", "jsonl", "parquet")  # with the column review_status


def export(
    corrections: str | Path,
    *,
    to: str | None = None,
    out: str | Path | None = None,
    min_score: float | None = None,
    only_issues: bool = False,
    top: int | None = None,
    action: str = "relabel",
    decisions: str | Path | Sequence[str | Path] | None = None,
    keep_removed: bool = False,
    dedupe: str | None = None,
    source: Any = None,
    images: str | None = None,
    image_url_prefix: str | None = None,
    push: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the corrected labels, a row per valid sample with a given or verified label.

    A file that an export wrote is replaced as long as nobody has changed it; any other only with `overwrite`.

    Without `to` a CSV with exactly `file_name,label`. With csv, jsonl or parquet `file_name`, `label`,
    `given_label`, `noise_score`, `is_label_issue`, what the run saw of copies, outliers and bad
    images (`duplicate_group`, `outlier_score`, `image_issue`) and the source's own columns; one called `label` becomes
    `source_label`. `label` is always the corrected one. The other formats have what they have a place for: see
    their modules. Where a row may have several labels these are lists, in csv texts with semicolons (a lone one is none
    of the classes), and `added_labels` and `removed_labels` stand beside them. Images are the original files, never
    encoded again.

    Args:
        corrections: a corrections file or a run folder.
        to: a name in `TARGETS`.
        out: the file, with the extension of its format, or a new or empty folder; beside the corrections by
            default: `corrected.<extension>`, or the folder `corrected-<to>`.
        min_score: only rows with at least this noise score; excludes the next two.
        only_issues: only flagged rows.
        top: only so many rows, those with the highest noise scores, highest first.
        action: "relabel", or "drop" to leave flagged rows out (before the filters) that nobody has decided on.
        decisions: a decisions.csv of `labelfix review`, or a table like it, or several, the newest first: what a person
            decided outranks the method. Tables get the columns `reviewed_label` and `review_status`.
        keep_removed: tables with decisions only: keep the rows that were removed, without a label.
        dedupe: "keep-one": of copies (`duplicate_group`) only the first; "drop-conflicts": the same, and none of those
            whose labels contradict each other, as they would be exported. Before `top`. None: all.
        source: where the images are now, or the source in memory itself, for formats that hold images; for
            labelstudio the folder that its addresses name. By default where the run found them.
        images: how images come into a folder: "copy" (default), "hardlink" or "symlink". Whoever edits a linked
            image edits the original. Images that are no files are always written.
        image_url_prefix: labelstudio only: the address of the folder that file names start from.
        push: hf only, and a folder: the dataset on the Hugging Face hub that it is pushed to, OWNER/NAME, with a card
            that lists what changed; by the user's own login.
        overwrite: replace a file that is there, whoever wrote it; folders have to be new or empty all the same.
        dry_run: count, but write nothing.

    Returns:
        JSON-able. path, to, rows, changed (rows whose label is not the given one, if any), left_out, dry_run;
        missing_images (names of rows left out as their files are gone since the scan) for formats that hold images;
        escaped_cells for csv (None on a dry run), renamed_images and renamed_classes for folders of images,
        without_probs and out_of_sample for cleanlab.

    Raises:
        InputError: not a corrections file, an unknown target or action, decisions that do not fit, filters that
            exclude each other, an option that is not for this target, an `out` that must not be written, a source
            that is not the one that was scanned, images without an address, an image that cannot be read, a column
            that the format cannot hold, or no row at all for anything but a table.
    """
    choice = Choice(min_score, only_issues, top, action, dedupe=dedupe, keep_removed=keep_removed).checked()
    name = to if to is not None else "csv"
    if name not in TARGETS:
        raise InputError(f"--to {name}: it is one of {', '.join(TARGETS)}")
    target, opened = TARGETS[name], _checked_task(name, Corrections.open(corrections))
    path = checked_out(opened, TARGETS, name, out, source, decisions, overwrite=overwrite)
    _check_options(opened, name, path, images, source, image_url_prefix, overwrite=overwrite)
    choice = _decided(choice, to, decisions, opened)
    columns = export_columns(opened, choice, with_findings=to is not None) | {n: n for n in target.NEEDS}
    images_of = read_originals(opened, source) if target.HOLDS_IMAGES else None
    tally, schema = _Tally(images_of), shown_schema(opened, choice, columns)
    if target.IS_TEXT:
        check_no_bytes(schema, name)
    rows = Export(
        opened,
        schema,
        tally.counted(chosen_rows(opened, choice, columns), columns, target.NEEDS),
        source,
        images_of,
        is_reviewed=choice.decisions is not None,
        images=images or IMAGE_WAYS[0],
        image_url_prefix=image_url_prefix,
    )
    report = _written(name, path, rows, tally, push, dry_run=dry_run)
    return {
        "path": str(path),
        "to": name,
        **tally.counts(opened.num_rows),
        **report,
        "dry_run": dry_run,
    }


def _written(
    to: str, path: Path, rows: Export, tally: _Tally, push: str | None, *, dry_run: bool
) -> dict[str, Any]:
    """Write the rows, and push them, or only go through them; the target's own part of the summary."""
    check_push(to, path, push)
    if dry_run:
        for _ in rows.batches:
            pass
        report: dict[str, Any] = {"escaped_cells": None} if to == "csv" else {}
        _check_rows(to, tally)
    else:
        with written(TARGETS[to], path) as temporary:
            try:
                report = TARGETS[to].write(temporary, rows)
            except (
                pa.ArrowInvalid,
                OverflowError,
            ) as error:  # a date that no calendar has, a zone that is none
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise InputError(
                    f"--to {to}: a value in {rows.corrections.path} cannot be written ({reason}); use --to parquet"
                ) from None
            _check_rows(to, tally)
            if push is not None:
                found, num_rows = rows.corrections.metadata, rows.corrections.num_rows
                write_card(temporary, found, tally.rows, num_rows - tally.rows, tally.changes)
        if push is not None:
            report["pushed"] = push_folder(path, push)
    if TARGETS[to].HOLDS_IMAGES:
        report["missing_images"] = tally.missing
    return report | ({"without_probs": tally.incomplete} if to == "cleanlab" else {})


def _check_rows(to: str, tally: _Tally) -> None:
    """Refuse an export without rows, which only a table can be."""
    if not tally.rows and TARGETS[to].SUFFIXES[0] == "":
        left = f" ({tally.incomplete} lack what it needs)" if tally.incomplete else ""
        raise InputError(
            f"--to {to}: no row is left to write{left}; let the filters leave some, or scan again"
        )


@dataclass
class _Tally:
    """Counts rows on their way to the file."""

    originals: Manifest | None = None
    rows: int = 0
    changed: int = 0
    incomplete: int = 0
    missing: list[str] = field(default_factory=list)
    changes: Counter[tuple[str | None, str]] = field(default_factory=Counter)

    def counts(self, num_rows: int) -> dict[str, int]:
        """What the summary says of `num_rows` rows."""
        return {"rows": self.rows, "changed": self.changed, "left_out": num_rows - self.rows}

    def counted(
        self, batches: Iterator[pa.RecordBatch], columns: dict[str, str], needs: tuple[str, ...]
    ) -> Iterator[pa.RecordBatch]:
        """The shown columns of the rows that have something in all columns that are needed."""
        for batch in batches:
            before = len(batch)
            for name in needs:
                if batch.column(name).null_count:
                    batch = batch.filter(pc.is_valid(batch.column(name)))
            self.incomplete += before - len(batch)
            batch = self._with_image(batch)
            given, corrected = (as_text(batch.column(name)) for name in ("given_label", "corrected_label"))
            self.rows += len(batch)
            is_changed = differ(given, corrected)
            self.changed += pc.sum(is_changed).as_py() or 0
            pairs = (_as_words(column.filter(is_changed)) for column in (given, corrected))
            self.changes.update(zip(*pairs, strict=True))
            yield shown_columns(batch, columns)

    def _with_image(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows whose image is still there, where images are written; the others are named."""
        gone = self.originals.gone if self.originals is not None else frozenset()
        if not gone:
            return batch
        is_gone = pa.array([row in gone for row in batch.column("sample_id").to_pylist()], pa.bool_())
        self.missing += batch.column("file_name").filter(is_gone).to_pylist()
        return batch.filter(pc.invert(is_gone))


def _as_words(labels: pa.Array) -> list[Any]:
    """Labels as text; several of a row with commas."""
    return [", ".join(label) if isinstance(label, list) else label for label in labels.to_pylist()]


def _checked_task(to: str, corrections: Corrections) -> Corrections:
    """The findings; refuse targets that have one label for an image where a row may have several.

    Raises:
        InputError: names those that take several.
    """
    if corrections.is_multi and not TARGETS[to].TAKES_SEVERAL:
        several = [name for name, target in TARGETS.items() if target.TAKES_SEVERAL]
        raise InputError(f"--to {to}: it has one label per image; for several use --to {', '.join(several)}")
    return corrections


def _check_options(
    opened: Corrections,
    to: str,
    path: Path,
    images: str | None,
    source: Any,
    image_url_prefix: str | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse options that are not for this target."""
    holders = ", ".join(
        name
        for name, other in TARGETS.items()
        if other.HOLDS_IMAGES and (other.TAKES_SEVERAL or not opened.is_multi)
    )
    _check_source(to, source, image_url_prefix, holders)
    if overwrite and is_folder(TARGETS[to], path):
        raise InputError(
            "--overwrite is for files, and --out of this format a new or empty folder; leave it out"
        )
    if image_url_prefix is not None and to != "labelstudio":
        raise InputError("--image-url-prefix is for --to labelstudio; leave it out")
    if images is None:
        return
    if images not in IMAGE_WAYS:
        raise InputError(f"--images {images}: it is one of {', '.join(IMAGE_WAYS)}")
    target = TARGETS[to]
    if not (target.HOLDS_IMAGES and is_folder(target, path)):
        raise InputError(f"--images {images} is for folders of images (--to {holders}); leave it out")


def _decided(choice: Choice, to: str | None, decisions: Any, corrections: Corrections) -> Choice:
    """The choice with what a person decided, if anybody did."""
    if choice.keep_removed and (not decisions or to not in _TABLES):
        raise InputError(f"--keep-removed is for --to {', '.join(_TABLES)} with --decisions; leave it out")
    return replace(choice, decisions=Decisions.read(decisions, corrections)) if decisions else choice


def _check_source(to: str, source: Any, image_url_prefix: str | None, holders: str) -> None:
    """Refuse a source that is not there, or that nothing would be done with; `holders` are targets that take one."""
    if source is None:
        return
    is_path = isinstance(source, str | os.PathLike)
    if is_path and not Path(source).expanduser().exists():
        raise InputError(f"--source {source} does not exist; check the path")
    if TARGETS[to].HOLDS_IMAGES or (to == "labelstudio" and is_path and image_url_prefix is None):
        return
    raise InputError(
        f"--source is for formats that hold images (--to {holders}), or its path for the addresses of labelstudio"
        " where there is no --image-url-prefix; leave it out"
    )
