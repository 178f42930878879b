"""What the runs of a bench share: the truth, the planted labels, the test images, in files of the bench's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.atomic_files import write_json, write_table
from labelfix.benchmark.grid import CLEAN, GIVEN, Cell
from labelfix.benchmark.plain import MARK, lists_of, mark_of, write_plain
from labelfix.data.known_truth import column_of, validation_rows
from labelfix.data.manifest import Manifest
from labelfix.data.readers.parquet import shards_in
from labelfix.data.verified_labels import Trusted
from labelfix.errors import InputError
from labelfix.evaluation import check_classes
from labelfix.json_files import is_text, maybe, read_object
from labelfix.methods import method_class
from labelfix.noise.corruption import corrupt_manifest, corrupt_several
from labelfix.noise.noise_file import NoiseFile, read_noise_file
from labelfix.noise.planting import NoiseSpec, parse_noise
from labelfix.noise.several_labels import gives_confidences, is_for_several, parse_parts
from labelfix.output_paths import check_no_file, check_no_links, check_output
from labelfix.reporting import Reporter
from labelfix.scan_plan import read_test

# Columns that a scan reads; any other might be called as one that planting adds.
_PASSED = ("split", "group")


@dataclass(frozen=True, eq=False)
class Materials:
    """The source of a bench with its true labels, and what is made from it.

    Attributes:
        out: folder of the bench.
        source: of the bench.
        manifest: the source with its true labels.
        options: rows, root and image_column of the source.
        columns: by which options labels are read, by noise, `clean` and `given`.
        truth: manifest of the true labels, row by row, by the file names of the source.
        left_out: (n,) int64, trusted rows, which no evaluation counts.
        trusted: their labels, for methods that need some; None without --trusted.
        trusted_sha256: of the --trusted file; empty without one.
        test: images with true labels that are only measured on; None without any.
    """

    out: Path
    source: Path
    manifest: Manifest
    options: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]]
    truth: Path
    left_out: np.ndarray
    trusted: Path | None
    trusted_sha256: str
    test: Path | None

    def scanned(self, cell: Cell) -> tuple[Path, dict[str, Any]]:
        """What a run scans, and the options to read it with."""
        if cell.noise in self.columns:
            return self.source, {**self.options, **self.columns[cell.noise]}
        targets = self.manifest.targets
        as_columns = targets is not None and gives_confidences(targets, parse_parts(cell.noise))
        return self._planted(cell), {"label_columns": self.manifest.class_names} if as_columns else {}

    def truth_of(self, cell: Cell) -> Path:
        """The manifest that a run is evaluated against."""
        return self.truth if cell.noise in self.columns else self._planted(cell)

    def _planted(self, cell: Cell) -> Path:
        return self.out / "noisy" / f"{cell.labels}.parquet"


def gather(
    source: Path,
    out: Path,
    *,
    truth_column: str | None,
    label_column: str | None,
    lists: Mapping[str, Any],
    cells: Sequence[Cell],
    trusted: str | Path | None,
    test: str | Path | None,
    **options: Any,
) -> Materials:
    """Read the source, check that it has true labels, and write truth, test images and trusted labels.

    Args:
        source: path of class folders or of a manifest.
        out: folder of the bench.
        truth_column: of the true labels; None where the label column is the truth.
        label_column: of the given labels; None for the usual names.
        lists: how several labels a row are read: label_columns and label_separator.
        cells: the runs, whose noises and methods must be for what the source holds.
        trusted: file of verified labels.
        test: source of labelled images; None for the held-out rows of the source.
        options: rows, root and image_column.

    Raises:
        InputError: a source, column or file that does not fit; noise or a method for one label a row where there are
            several, or the other way round; a folder that is no bench of this source.
    """
    given = {"label_column": label_column, **lists}
    # The true labels stand in one column, also where the given ones have one for each class.
    asked = given if truth_column is None else {**given, "label_column": truth_column, "label_columns": None}
    manifest = _read_truth(source, truth_column, asked, options)
    _check_task(cells, manifest)
    verified = Trusted.of(manifest, trusted)
    _check_out(out, manifest)
    tested = _test_images(test, manifest, asked, options)
    other = {} if tested is None else {"--test": tested[0].places}
    check_output(out, {"the source": manifest.places, **other})
    truth = out / "truth.parquet"
    if not truth.is_file():
        write_table(truth, _truth_table(manifest))
    known = np.flatnonzero(verified.label >= 0)
    left_out = np.flatnonzero((verified.label >= 0) | verified.removed)
    # Methods that are given them take one label a row.
    feeds = trusted is not None and manifest.task == "single"
    if feeds:
        names = pa.array(manifest.class_names, pa.string()).take(pa.array(verified.label[known]))
        write_table(out / "trusted.parquet", pa.table({"sample_id": known, "label": names}))
    return Materials(
        out=out,
        source=source,
        manifest=manifest,
        options=options,
        columns={CLEAN: asked, GIVEN: given},
        truth=truth,
        left_out=left_out,
        trusted=out / "trusted.parquet" if feeds else None,
        trusted_sha256=verified.sha256,
        test=None if tested is None else _write_test(out / "test.parquet", *tested),
    )


def _read_truth(
    source: Path, truth_column: str | None, asked: Mapping[str, Any], options: Mapping[str, Any]
) -> Manifest:
    if truth_column is not None and source.is_dir() and not shards_in(source):
        raise InputError(
            f"--truth-column {truth_column}: {source} is a folder of classes, which has no columns; leave it out,"
            " the folders are the truth"
        )
    try:
        return Manifest.read(source, task="auto", **asked, **options)
    except InputError as error:
        wrong = str(error) if truth_column is None else str(error).replace("--label-column", "--truth-column")
        raise InputError(wrong) from None


def _check_task(cells: Sequence[Cell], manifest: Manifest) -> None:
    """Refuse methods, and noise to plant, that are for another number of labels a row than the source has.

    Raises:
        InputError: naming the first.
    """
    is_multi = manifest.task == "multi"
    for cell in cells:
        if is_multi:
            method_class(cell.method.name, "multi")
        if cell.noise not in (CLEAN, GIVEN) and is_for_several(cell.noise) != is_multi:
            held, way = (
                ("several labels", "dropped:0.2,added:0.05") if is_multi else ("one label", "symmetric:0.4")
            )
            raise InputError(f"--noise {cell.noise}: {manifest.source} has {held} a row; plant such as {way}")


def check_given(
    source: Path,
    truth_column: str | None,
    label_column: str | None,
    lists: Mapping[str, Any],
    **options: Any,
) -> None:
    """Refuse `given` where nothing is known of the given labels, or no run could know a true one.

    Raises:
        InputError: no truth column, one that is the label column, or one with classes that the given labels lack.
    """
    if truth_column is None:
        raise InputError(
            "--noise given: without --truth-column nothing is known of the labels; name the column of true labels,"
            " or bench clean and planted noise"
        )
    given = Manifest.read(source, label_column=label_column, task="auto", **lists, **options)
    asked = {**lists, "label_columns": None, "label_column": truth_column, "task": given.task}
    try:
        truth = Manifest.read(source, require_labels=False, **asked, **options)
    except InputError as error:
        raise InputError(str(error).replace("--label-column", "--truth-column")) from None
    if truth_column not in given.pass_through and truth.fingerprint == given.fingerprint:
        raise InputError(
            f"--noise given: {truth_column!r} is the label column too; name that of the given labels with"
            " --label-column"
        )
    if truth.task == "single":
        check_classes(truth, given.class_names, whose="the given labels", cells=repr(truth_column))


def plant_noise(materials: Materials, cells: list[Cell], reporter: Reporter | None = None) -> None:
    """Plant the noise of every run that has no labels yet, once whatever its method.

    Semantic noise takes a training each; one that is killed leaves nothing behind, and the next call does it again.

    Args:
        materials: of the bench; noise is planted on its true labels.
        cells: the runs.
        reporter: gets progress and messages.

    Raises:
        InputError: noise that does not fit the classes, or a noise file that is another than it was.
    """
    wanted = {cell.labels: cell for cell in cells if cell.noise not in materials.columns}
    columns = [name for name in materials.manifest.pass_through if name in _PASSED]
    planned = []
    for name, cell in wanted.items():
        path = materials.out / "noisy" / f"{name}.parquet"
        if is_for_several(cell.noise):
            if not path.is_file():
                parts = parse_parts(cell.noise)
                corrupt_several(materials.manifest, cell.noise, parts, path, seed=cell.seed, columns=columns)
            continue
        noise = parse_noise(cell.noise)
        file = read_noise_file(noise)
        if not _is_planted(path, noise, file):
            planned.append((noise, path, file, cell.seed))
    for noise, path, file, seed in planned:
        facts = corrupt_manifest(
            materials.manifest, noise, path, file=file, seed=seed, columns=columns, reporter=reporter
        )
        write_json(path.with_suffix(".json"), facts)


def _truth_table(manifest: Manifest) -> pa.Table:
    columns = {
        "file_name": manifest.file_names(),
        "true_label": _true_labels(manifest),
    }
    if "is_corrupted" in manifest.pass_through:
        columns["is_corrupted"] = column_of(manifest, "is_corrupted")
    return pa.table(columns).replace_schema_metadata({MARK: manifest.fingerprint.encode()})


def _true_labels(manifest: Manifest) -> pa.Array:
    """Texts, or lists of them."""
    if manifest.task == "multi":
        return lists_of(manifest, np.arange(manifest.num_rows))
    labels = pa.array(manifest.given, mask=manifest.given < 0)
    return pa.array(manifest.class_names, pa.string()).take(labels)


def _check_out(out: Path, manifest: Manifest) -> None:
    check_no_file(out)
    if not out.is_dir() or all(path.match(".truth.parquet.*.tmp") for path in out.iterdir()):
        return
    check_no_links(out, ("noisy", "rows", "runs"))
    found = mark_of(out / "truth.parquet")
    if found is None:
        raise InputError(
            f"--out {out} holds files that are no bench of labelfix; choose an empty or new folder"
        )
    if found != manifest.fingerprint:
        raise InputError(
            f"--out {out} holds a bench of other images or true labels; give the same SOURCE, --truth-column and"
            " --rows, or another --out"
        )


def _test_images(
    test: str | Path | None, manifest: Manifest, asked: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Manifest, np.ndarray] | None:
    """The manifest of the test images and its labelled rows (n,) int64: of `test`, else the held-out rows.

    Rows of a validation split are test images only where there are no others: an epoch may be chosen by them.
    """
    if test is None:
        held_out = manifest.held_out & (manifest.given >= 0)
        tested = held_out & ~validation_rows(manifest)
        rows = np.flatnonzero(tested if tested.any() else held_out)
        return (manifest, rows) if len(rows) else None
    columns = {"root": options["root"], "image_column": options["image_column"], **asked}
    found = read_test(test, manifest, **columns, task=manifest.task)
    return found, np.flatnonzero(found.given >= 0)


def _write_test(path: Path, manifest: Manifest, rows: np.ndarray) -> Path:
    mark = hashlib.sha256(manifest.fingerprint.encode() + rows.tobytes()).hexdigest()
    if mark_of(path) != mark:
        write_plain(path, manifest, rows, mark)
    return path


def _is_planted(path: Path, noise: NoiseSpec, file: NoiseFile | None) -> bool:
    facts = read_object(
        path.with_suffix(".json"),
        {"noise_file_sha256": maybe(is_text)},
        "delete it, and the noise is planted again",
    )
    if facts is None:
        return False
    if facts.get("noise_file_sha256") != (None if file is None else file.sha256):
        raise InputError(
            f"--noise {noise}: the file is another than the one that {path} was made with; choose another --out"
        )
    return path.is_file()
