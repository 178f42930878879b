"""corrupt(): a source with planted label noise and its truth beside it, as one Parquet file that scans."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.data.manifest import Manifest
from labelfix.data.readers.several_labels import column_names
from labelfix.errors import InputError
from labelfix.noise.noise_file import NoiseFile, asked_of, read_noise_file
from labelfix.noise.open_set import foreign_images, open_foreign
from labelfix.noise.planting import EXACT, NoiseSpec, flip_rates, parse_noise, plant, realised_transition
from labelfix.noise.several_labels import Part, gives_confidences, is_for_several, parse_parts, plant_parts
from labelfix.noise.writing import check_columns, check_out, write_noisy
from labelfix.output_paths import check_output
from labelfix.reporting import Reporter, Silent

DEFAULT_OUT = "noisy.parquet"


def corrupt(
    source: Any,
    *,
    noise: str,
    exact: bool = False,
    open_set: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    rows: int | None = None,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_columns: Sequence[str] | str | None = None,
    label_separator: str | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Plant label noise in a source and write the result as one Parquet file.

    The file has the image (`file_name` relative to the file's own folder, or `image` with the bytes where a source
    holds them), `label` (noisy), `true_label`, `is_corrupted` and the source's pass-through columns. Unlabelled
    rows stay unlabelled, and rows of a test split keep their image and label, so that what is measured on them is
    right. With open-set noise a row whose image is replaced keeps its label and has no `true_label`.

    Args:
        source: class folders, a csv, tsv, jsonl or Parquet manifest, a folder of Parquet shards, or in memory (see
            `Manifest.read`).
        noise: kind and rate, such as "symmetric:0.4", or kind and file: "confusion:matrix.csv" (class names as
            header and first column; a row holds the shares of a true class, from 0 to 1, sum 1 within 1e-6), or
            "pair:rates.csv" (columns class and rate; also for symmetric and symmetric-exclusive). Either names
            every class once, in any order. Each row is drawn on its own; with ":exact" behind it, counts are exact.
            See `labelfix.noise.planting`; for "semantic:0.2" `labelfix.noise.semantic`.
        exact: the same as ":exact" behind the noise; noise of several labels a row is exact as it is.
        open_set: for "open-set:0.3", and for nothing else: the source of the images that come in. Its labels, if it
            has any, do not matter; images may lie in a folder without classes. Its image column is `image_column`
            where it has one of that name, else the usual ones.
        out: the file, ending in .parquet; `noisy.parquet` in the current folder by default.
        seed: of the draw, >= 0.
        rows: only the first so many rows.
        root: folder that a manifest's relative paths start from.
        image_column: of a manifest or Parquet file.
        label_column: of a manifest or Parquet file.
        label_columns: several labels a row, see `Manifest.read`; names with commas, a JSON list, or a sequence.
        label_separator: the same.
        overwrite: replace an existing file.
        reporter: gets progress and messages.

    Where a row may have several labels the noise is as in "dropped:0.2,added:0.05" (`labelfix.noise.several_labels`);
    `label` and `true_label` are lists then, and with confidences there is a column for each class in place of `label`.
    There are no rates and no matrix of classes, and `corrupted` counts rows, `dropped` and `added` the labels.

    Returns:
        JSON-able: path, noise, kind, rate (None with a file), noise_file_sha256 (None without), open_set (path or
        kind of the second source, None without), seed, rows, labelled, test_rows (labelled rows of a test split),
        corrupted (counts), realised_rate (share of the labelled rows that are of no test split), network (of semantic
        noise, else None: trained_rows, epochs, backbone, image_size, device and precision), class_names, class_rates
        (what the file asks of each class, for a matrix what it has off its diagonal; None without), transition_matrix
        (K x K, from true to noisy, as it came out, over the rows that have a true label and are of no test split) and
        warnings.

    Raises:
        InputError: bad source, noise, noise file or seed; an existing `out`; an `out` inside a source; a column
            of the source that has the name of one of ours; too few images in `open_set`.
    """
    if is_for_several(noise):
        columns: dict[str, Any] = {"root": root, "image_column": image_column, "label_column": label_column}
        several: dict[str, Any] = {
            "label_columns": column_names(label_columns),
            "label_separator": label_separator,
        }
        if open_set is not None:
            raise InputError(f"--open-set: --noise {noise} needs no second source; leave it out")
        parts = parse_parts(noise)
        source = _read_several(source, noise, rows=rows, **columns, **several)
        path = Path(out or DEFAULT_OUT)
        check_output(path, {"the source": source.places})
        check_out(path, overwrite=overwrite)
        return corrupt_several(source, noise, parts, path, seed=seed)
    if label_columns or label_separator is not None:
        option = "--label-columns" if label_columns else "--label-separator"
        raise InputError(
            f"{option}: --noise {noise} is for one label per row; for several use dropped:R,added:R"
        )
    spec = parse_noise(f"{noise}:{EXACT}" if exact and not noise.endswith(f":{EXACT}") else noise)
    _check_open_set(spec, open_set)
    file = read_noise_file(spec)
    path = Path(out if out is not None else DEFAULT_OUT)
    manifest = Manifest.read(
        source, rows=rows, root=root, image_column=image_column, label_column=label_column, task="auto"
    )
    _check_one_label(manifest, noise)
    foreign = None if open_set is None else open_foreign(open_set, manifest, image_column)
    other = {} if foreign is None else {"--open-set": foreign.places}
    check_output(path, {"the source": manifest.places, **other})
    check_out(path, overwrite=overwrite)
    return corrupt_manifest(manifest, spec, path, file=file, open_set=foreign, seed=seed, reporter=reporter)


def _read_several(source: Any, noise: str, **options: Any) -> Manifest:
    try:
        return Manifest.read(source, task="multi", **options)
    except InputError:
        # Nobody has asked for a task here, but for noise of several labels a row.
        if Manifest.read(source, task="auto", **options).task == "single":
            said = f"--noise {noise}: {source} has one label a row; plant such as symmetric:0.4"
            raise InputError(said) from None
        raise


def _check_one_label(manifest: Manifest, noise: str) -> None:
    if manifest.task == "multi":
        raise InputError(
            f"--noise {noise} is for one label per row, and {manifest.source} has several; for these use"
            " dropped:R,added:R"
        )


def corrupt_several(
    manifest: Manifest,
    noise: str,
    parts: tuple[Part, ...],
    path: Path,
    *,
    seed: int,
    columns: Sequence[str] | None = None,
) -> dict[str, Any]:
    """`corrupt` for a source of several labels a row that is read already.

    Args:
        manifest: of the source; its labels are the truth.
        noise: what is planted, as it was given.
        parts: the same, read.
        path: the file, replaced where it is there.
        seed: of the draw, >= 0.
        columns: names of the columns that pass through; None for all.

    Raises:
        InputError: a column that has the name of one of ours.
    """
    assert manifest.targets is not None
    extra = manifest.pass_through if columns is None else columns
    tested = manifest.held_out & (manifest.given >= 0)
    hittable = np.where(manifest.held_out[:, None], np.float32("nan"), manifest.targets)
    noisy = np.where(manifest.held_out[:, None], manifest.targets, plant_parts(hittable, parts, seed))
    as_columns = gives_confidences(manifest.targets, parts)
    check_columns(manifest, extra, manifest.class_names if as_columns else ())
    write_noisy(path, manifest, noisy, manifest.targets, extra, None, as_columns=as_columns)
    labelled = int((manifest.given >= 0).sum())
    before, after = (np.nan_to_num(values) >= 0.5 for values in (manifest.targets, noisy))
    corrupted = int((before != after).any(axis=1).sum())
    return {
        "path": str(path),
        "noise": noise,
        "seed": seed,
        "rows": manifest.num_rows,
        "labelled": labelled,
        "test_rows": int(tested.sum()),
        "corrupted": corrupted,
        "dropped": int((before & ~after).sum()),
        "added": int((after & ~before).sum()),
        "realised_rate": corrupted / (labelled - int(tested.sum())),
        "class_names": list(manifest.class_names),
        "label_columns": list(manifest.class_names) if as_columns else None,
        "warnings": list(manifest.warnings),
    }


def corrupt_manifest(
    manifest: Manifest,
    noise: NoiseSpec,
    path: Path,
    *,
    file: NoiseFile | None,
    open_set: Manifest | None = None,
    seed: int,
    columns: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """`corrupt` for a source that is read already: plant and write, and tell the same of it.

    Args:
        manifest: of the source; its labels are the truth.
        noise: what to plant.
        path: the file, replaced where it is there.
        file: that of the noise, read; None for a noise without one.
        open_set: the second source of open-set noise, else None.
        seed: of the draw, >= 0.
        columns: names of the columns that pass through; None for all.
        reporter: gets progress and messages.

    Raises:
        InputError: noise that does not fit the source, or a column that has the name of one of ours.
    """
    reporter = reporter or Silent()
    hittable = np.where(manifest.held_out, -1, manifest.given)
    extra = manifest.pass_through if columns is None else columns
    check_columns(manifest, extra, foreign=open_set)
    asked = None if file is None else asked_of(file, noise, manifest.class_names)
    noisy, network = _noisy_labels(manifest, hittable, noise, asked, seed, reporter)
    incoming = (
        nullcontext() if open_set is None else foreign_images(manifest, open_set, noise, seed, reporter)
    )
    true = manifest.given.copy()
    with incoming as foreign:
        if foreign is not None:
            true[foreign.rows] = -1
        write_noisy(path, manifest, noisy, true, extra, foreign)
    labelled = int((manifest.given >= 0).sum())
    tested = int((manifest.held_out & (manifest.given >= 0)).sum())
    corrupted = int((noisy != true).sum())
    trained = ~manifest.held_out
    return {
        "path": str(path),
        "noise": str(noise),
        "kind": noise.kind,
        "rate": noise.rate,
        "noise_file_sha256": None if file is None else file.sha256,
        "open_set": None if open_set is None else str(open_set.source),
        "seed": seed,
        "rows": manifest.num_rows,
        "labelled": labelled,
        "test_rows": tested,
        "corrupted": corrupted,
        "realised_rate": corrupted / (labelled - tested),
        "network": network,
        "class_names": list(manifest.class_names),
        "class_rates": None if asked is None else flip_rates(asked).tolist(),
        "transition_matrix": realised_transition(
            true[trained], noisy[trained], len(manifest.class_names)
        ).tolist(),
        "warnings": [*manifest.warnings, *(open_set.warnings if open_set is not None else ())],
    }


def _noisy_labels(
    manifest: Manifest,
    hittable: np.ndarray,
    noise: NoiseSpec,
    asked: np.ndarray | None,
    seed: int,
    reporter: Reporter,
) -> tuple[np.ndarray, dict[str, Any] | None]:
    """(N,) int64 noisy labels, -1 where there is none, and what to report of the network of semantic noise.

    `hittable` (N,) int64 holds the labels of the rows that noise may hit, -1 for all others.
    """
    if noise.kind == "semantic":
        # Here, because it imports torch.
        from labelfix.noise.semantic import relabel

        return relabel(manifest, noise, seed, reporter)
    if noise.kind == "open-set":
        return manifest.given, None
    planted = plant(hittable, manifest.class_names, noise, seed, asked)
    return np.where(hittable >= 0, planted, manifest.given), None


def _check_open_set(noise: NoiseSpec, open_set: Any) -> None:
    if noise.kind == "open-set" and open_set is None:
        raise InputError(f"--noise {noise} takes images of a second source; name it with --open-set SOURCE")
    if noise.kind != "open-set" and open_set is not None:
        raise InputError(
            f"--open-set: --noise {noise} needs no second source; leave it out, or plant --noise open-set:0.3"
        )
