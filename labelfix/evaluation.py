"""evaluate(): how right the findings of a run are, where the true labels are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.manifest import Manifest
from labelfix.data.readers import Query, open_source, scanned_options
from labelfix.data.verified_labels import SEPARATOR
from labelfix.errors import InputError
from labelfix.estimation.eligible import eligible_rows
from labelfix.estimation.metrics import (
    flag_metrics,
    label_metrics,
    mean_average_precision,
    score_metrics,
)
from labelfix.results.corrections import FILE_NAME, Corrections, label_states, number_rows
from labelfix.results.originals import source_options

_COLUMNS = [
    "file_name",
    "given_label",
    "noise_score",
    "is_label_issue",
    "corrected_label",
    "is_trusted",
    "is_valid",
]
# What a true label is that is none of the classes of the run.
NO_TRUTH = -1  # it is not known
OTHER_CLASS = -2
OPEN_SET = -3  # no label is right


def evaluate(
    corrections: str | Path,
    *,
    truth: str | Path,
    truth_column: str | None = None,
    leave_out: Sequence[int] | np.ndarray = (),
) -> dict[str, Any]:
    """Compare findings with true labels, over the valid, labelled, untrusted rows that have one and no copy.

    Copies (`duplicate_group`) do not count: one under its true label gives away that the other's is wrong.

    Rows are joined by file name where names are unique in both, else by row where the counts agree. A row
    with `is_corrupted` true and an empty true label counts as wrongly labelled, whatever its label, and is
    left out of label accuracy. One with `is_corrupted` true and a true label that is no class of the run counts as
    wrongly labelled throughout; without that mark it is refused, as it may be another spelling.

    Args:
        corrections: a corrections file or a run folder.
        truth: a source whose labels are the truth.
        truth_column: where they stand; default `true_label`, else `label` unless `truth` is what was scanned.
        leave_out: rows, by sample_id, that do not count, as those that another method was shown the truth of.

    Returns:
        JSON-able. rows, rows_evaluated, copies_left_out, joined_by; noise_rate_true (share of wrong given labels) and
        noise_rate_estimated; average_precision and auroc of the noise score; expected_calibration_error and
        reliability (ten bins: lower, upper, count, mean_score, share_wrong) of the same; precision, recall and
        f1 of the flags, flagged and flagged_share; label_accuracy_given, label_accuracy_corrected, changed,
        changed_right, changed_wrong. None where undefined, then `reasons` says why. Where a row may have several
        labels all of these count a state (a row has a class, or lacks it) where they else count a row, by
        `class_noise_scores`; rows_right_given and rows_right_corrected are the shares of rows whose labels are all
        right, mean_average_precision is that of `predicted_probs` over the classes.

    Raises:
        InputError: not a corrections file, no truth in `truth`, or rows that cannot be joined.
    """
    opened = Corrections.open(corrections)
    answers, column = _read_truth(opened, Path(truth).expanduser(), truth_column)
    if opened.is_multi:
        return _evaluate_multi(opened, answers, column, leave_out)
    findings = _read_findings(opened)
    place, joined_by = _join(findings.file_names, answers.file_names(), opened.path, answers.source)
    labels = _true_labels(answers, opened.metadata["class_names"])
    true = np.where(place >= 0, labels[place], NO_TRUTH)
    eligible = findings.eligible & (true != NO_TRUTH)
    eligible &= ~np.isin(np.arange(len(true)), leave_out)
    copies = eligible & opened.has_copy()
    eligible &= ~copies
    if not eligible.any() and copies.any():
        raise InputError(f"{opened.path}: every row with a true label has a copy, and copies do not count")
    if not eligible.any():
        raise InputError(
            f"{truth}: none of the valid, labelled, untrusted rows of {opened.path} has a true label"
        )
    wrong = (findings.given != true)[eligible]
    known = eligible & (true != OPEN_SET)
    parts = (
        score_metrics(findings.noise[eligible], wrong),
        flag_metrics(findings.flagged[eligible], wrong),
        label_metrics(findings.given[known], findings.corrected[known], true[known]),
    )
    return {
        **_compared(opened, answers, column, joined_by),
        "rows": len(true),
        "rows_evaluated": int(eligible.sum()),
        "copies_left_out": int(copies.sum()),
        "noise_rate_estimated": opened.metadata.get("noise_rate"),
        **{name: value for part in parts for name, value in part.values.items()},
        "reasons": {name: reason for part in parts for name, reason in part.reasons.items()},
    }


def _compared(opened: Corrections, answers: Manifest, column: str | None, joined_by: str) -> dict[str, Any]:
    """What is compared with what; JSON-able."""
    return {
        "corrections": str(opened.path),
        "truth": str(answers.source),
        "truth_column": column,
        "joined_by": joined_by,
        "method": opened.metadata.get("method"),
        "fit_ok": opened.metadata.get("fit_ok"),
    }


def _evaluate_multi(
    opened: Corrections, answers: Manifest, column: str | None, leave_out: Sequence[int] | np.ndarray
) -> dict[str, Any]:
    """The same where a row may have several labels: a state of a class in a row counts as a row does else."""
    names = opened.metadata["class_names"]
    found = read_states(opened)
    place, joined_by = _join(found["file_names"], answers.file_names(), opened.path, answers.source)
    true, known = _true_states(answers, names, place)
    eligible = found["eligible"] & known & ~np.isin(np.arange(len(place)), leave_out)
    copies = eligible & opened.has_copy()
    eligible &= ~copies
    if not eligible.any():
        raise InputError(
            f"{answers.source}: none of the valid, labelled, untrusted rows of {opened.path} has true labels, or all"
            " have copies, which do not count"
        )
    given, corrected, true, noise, probs = (
        part[eligible] for part in (found["given"], found["corrected"], true, found["noise"], found["probs"])
    )
    wrong = given != true
    flagged = noise > np.array(opened.metadata.get("flag_above") or np.ones(len(names)), np.float32)
    parts = (
        score_metrics(noise.ravel(), wrong.ravel()),
        flag_metrics(flagged.ravel(), wrong.ravel()),
        label_metrics(*(part.astype(np.int64).ravel() for part in (given, corrected, true))),
    )
    ranked = mean_average_precision(probs, true)
    return {
        **_compared(opened, answers, column, joined_by),
        "task": "multi",
        "rows": len(place),
        "rows_evaluated": int(eligible.sum()),
        "copies_left_out": int(copies.sum()),
        "noise_rate_estimated": opened.metadata.get("noise_rate"),
        **{name: value for part in parts for name, value in part.values.items()},
        "rows_right_given": float((given == true).all(axis=1).mean()),
        "rows_right_corrected": float((corrected == true).all(axis=1).mean()),
        "mean_average_precision": ranked if np.isfinite(ranked) else None,
        "reasons": {name: reason for part in parts for name, reason in part.reasons.items()},
    }


def read_states(opened: Corrections) -> dict[str, Any]:
    """File names; given, corrected (N, K) bool; noise and probs (N, K) float32, NaN for none; eligible (N,) bool."""
    names = pa.array(opened.metadata["class_names"], pa.string())
    columns = ["class_noise_scores", "predicted_probs", "is_trusted", "is_valid", "file_name"]
    batches = list(opened.batches(["given_label", "corrected_label", *columns]))

    def states(name: str) -> tuple[np.ndarray, np.ndarray]:
        parts = [label_states(batch.column(name), names) for batch in batches]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def numbers(name: str) -> np.ndarray:
        return np.concatenate([number_rows(batch.column(name)) for batch in batches])

    def flags(name: str) -> np.ndarray:
        return np.concatenate([batch.column(name).to_numpy(zero_copy_only=False) for batch in batches])

    (given, is_given), (corrected, is_corrected) = states("given_label"), states("corrected_label")
    return {
        "file_names": pa.chunked_array([batch.column("file_name") for batch in batches], pa.string()),
        "given": given,
        "corrected": corrected,
        "noise": numbers("class_noise_scores"),
        "probs": numbers("predicted_probs"),
        "eligible": eligible_rows(flags("is_valid"), is_given & is_corrected, flags("is_trusted")),
    }


def _true_states(answers: Manifest, names: list[str], place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) bool what the rows have in truth, by their place (N,) in the answers; (N,) bool where it is known."""
    assert answers.targets is not None
    strangers = [name for name in answers.class_names if name not in names]
    if strangers:
        raise InputError(
            f"{answers.source}: some of its rows have {_shown(strangers)}, no class of the run ({_shown(names)}); take"
            " those labels out"
        )
    known = ~np.isnan(answers.targets).any(axis=1)
    true = np.zeros((answers.num_rows, len(names)), bool)
    true[:, [names.index(name) for name in answers.class_names]] = np.nan_to_num(answers.targets) >= 0.5
    return true[place], known[place] & (place >= 0)


@dataclass(frozen=True)
class _Findings:
    """What evaluation needs of the corrections, N rows; labels are indices into the run's class names."""

    file_names: pa.ChunkedArray
    given: np.ndarray
    corrected: np.ndarray
    noise: np.ndarray
    flagged: np.ndarray
    eligible: np.ndarray


def _read_findings(opened: Corrections) -> _Findings:
    names = pa.array(opened.metadata["class_names"], pa.string())
    batches = list(opened.batches(_COLUMNS))
    file_names = pa.chunked_array([batch.column("file_name") for batch in batches], pa.string())

    def column(name: str) -> np.ndarray:
        parts = [batch.column(name) for batch in batches]
        if name in ("given_label", "corrected_label"):
            parts = [pc.fill_null(pc.index_in(pc.cast(part, pa.string()), names), -1) for part in parts]
        arrays = [part.to_numpy(zero_copy_only=False) for part in parts]
        return np.concatenate(arrays) if arrays else np.empty(0)

    given = column("given_label")
    valid, trusted = column("is_valid").astype(bool), column("is_trusted").astype(bool)
    # Of a row that a person has removed nothing is corrected, whatever its label.
    eligible = eligible_rows(valid, (given >= 0) & (column("corrected_label") >= 0), trusted)
    flagged = column("is_label_issue").astype(bool)
    return _Findings(file_names, given, column("corrected_label"), column("noise_score"), flagged, eligible)


def _read_truth(opened: Corrections, truth: Path, column: str | None) -> tuple[Manifest, str | None]:
    """The manifest whose labels are the truth, and the name of its truth column (None for class folders)."""
    options = source_options(opened.path)
    scanned = options.get("source")
    is_scanned = scanned is not None and _read_place(Path(scanned)).resolve() == _read_place(truth).resolve()
    image_column = options.get("image_column") if is_scanned else None
    names = _column_names(truth, image_column)
    columns = _class_columns(options, names, column, is_scanned=is_scanned)
    column = ", ".join(columns) if columns else _truth_column(truth, names, column, is_scanned=is_scanned)
    # Absolute paths get the names that they have in the run.
    root = None if names is None else _names_root(options)
    try:
        manifest = Manifest.read(
            truth,
            root=root,
            image_column=image_column,
            label_column=None if columns else column,
            class_map=options.get("class_map"),
            require_labels=False,
            **_as_scanned(opened, options, columns),
        )
    except InputError as error:
        raise InputError(str(error).replace("--label-column", "--truth-column")) from None
    return manifest, column


def _read_place(truth: Path) -> Path:
    """Where a source is read: of a run, or its findings, what it scanned; else the path itself."""
    options = scanned_options(truth.parent if truth.name == FILE_NAME else truth)
    return truth if options is None else Path(options["source"])


def _class_columns(
    options: dict[str, Any], names: list[str] | None, column: str | None, *, is_scanned: bool
) -> list[str]:
    """The columns of the classes where another manifest answers by them, as the run read its own; empty for none."""
    columns = list(options.get("label_columns") or ())
    is_asked = column is not None or is_scanned or names is None or "true_label" in names
    return [] if is_asked or not set(columns) <= set(names or ()) else columns


def _as_scanned(opened: Corrections, options: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """How several labels a row are read: from columns of the classes, else lists or texts, separated as the run's.

    Where a run has read no texts: semicolons, as in what labelfix writes.
    """
    if not opened.is_multi:
        return {}
    if columns:
        return {"task": "multi", "label_columns": columns}
    return {"task": "multi", "label_separator": options.get("label_separator") or SEPARATOR}


def _column_names(truth: Path, image_column: str | None) -> list[str] | None:
    """Names of the pass-through columns of a manifest or of Parquet shards; None for folders of images."""
    query = Query(truth.absolute(), image_column=image_column, require_labels=False, task="auto")
    opened = open_source(query)
    place = _read_place(truth)
    is_folder_of_images = place.is_dir() and not opened.holds_images and not any(place.glob("*.parquet"))
    return None if is_folder_of_images else list(opened.extra.names)


def _truth_column(
    truth: Path, names: list[str] | None, column: str | None, *, is_scanned: bool
) -> str | None:
    """`column`, else true_label, else label where that is not the given one; None for class folders."""
    if names is None and column is not None:
        raise InputError(f"--truth-column {column}: {truth} is a folder of classes, which has no columns")
    if column is not None:
        return column
    if names is not None and "true_label" in names:
        return "true_label"
    if is_scanned and _read_place(truth) != truth:
        raise InputError(
            f"--truth {truth} is a run, read as what it scanned, so its labels are the given ones; name a manifest or"
            " folder of true labels, or export the run once it is reviewed and name that"
        )
    if is_scanned:
        raise InputError(
            f"--truth {truth} is what was scanned, so its labels are the given ones; name the column of true"
            " labels with --truth-column, or another manifest"
        )
    return None if names is None else "label"


def _names_root(options: dict[str, Any]) -> Path | None:
    if not options.get("source"):
        return None
    source = Path(options["source"])
    root = Path(options.get("root") or (source if source.is_dir() else source.parent))
    return root if root.is_dir() else None


def decode_truth(
    labels: np.ndarray, names: Sequence[str], is_corrupted: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """True labels as classes of a run.

    Args:
        labels: (N,) int64, index into `names`; -1 for none.
        names: of the classes of the truth.
        is_corrupted: (N,) bool; a row that is marked so and has no true label is one where no label is right.
        class_names: of the run.

    Returns:
        (N,) int64, index into `class_names`, or NO_TRUTH, OTHER_CLASS or OPEN_SET.
    """
    index = {name: label for label, name in enumerate(class_names)}
    true = np.array([index.get(name, OTHER_CLASS) for name in names] + [NO_TRUTH])[labels]
    true[(true == NO_TRUTH) & is_corrupted] = OPEN_SET
    return true


def decode_marks(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) bool: which values of a column `is_corrupted` are true."""
    # Text manifests have no booleans; "true" and "1" are how they are written there.
    texts = pc.utf8_lower(pc.cast(column, pa.string()))
    return np.asarray(pc.is_in(texts, value_set=pa.array(["true", "1"])), dtype=bool)


def _true_labels(truth: Manifest, class_names: list[str]) -> np.ndarray:
    """(N,) int64, see `decode_truth`."""
    if not set(truth.class_names) & set(class_names):
        raise InputError(
            f"{truth.source}: none of its labels ({_shown(truth.class_names)}) is a class of the run"
            f" ({_shown(class_names)}); name the column of true labels with --truth-column"
        )
    check_classes(truth, class_names, whose="the run", cells="labels")
    return decode_truth(truth.given, truth.class_names, _is_corrupted(truth), class_names)


def check_classes(truth: Manifest, class_names: Sequence[str], *, whose: str, cells: str) -> None:
    """Refuse true labels that are no class: they may be spelled otherwise.

    Args:
        truth: rows that are marked `is_corrupted` may be of any class, as planted noise may leave one without a label.
        class_names: those that there are.
        whose: they are.
        cells: what to leave empty.

    Raises:
        InputError: naming the classes, and how many rows are of them.
    """
    unmarked = truth.given[(truth.given >= 0) & ~_is_corrupted(truth)]
    strange = unmarked[~np.isin(np.array(truth.class_names), class_names)[unmarked]]
    if len(strange):
        strangers = [truth.class_names[label] for label in np.unique(strange)]
        raise InputError(
            f"{truth.source}: {len(strange)} of its rows are of {_shown(strangers)}, no class of {whose}"
            f" ({_shown(class_names)}); leave those rows out, or their {cells} empty"
        )


def _is_corrupted(truth: Manifest) -> np.ndarray:
    if "is_corrupted" not in truth.pass_through:
        return np.zeros(truth.num_rows, dtype=bool)
    place = 2 + truth.pass_through.index("is_corrupted")
    return np.concatenate([decode_marks(batch.column(place)) for batch in truth.batches()])


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")


def _join(ours: pa.ChunkedArray, theirs: pa.ChunkedArray, path: Path, truth: Path) -> tuple[np.ndarray, str]:
    """(N,) int64: for each row of ours its row in the truth, -1 for none; and by what they were joined."""
    ours, theirs = _named(ours), _named(theirs)
    if _is_unique(ours) and _is_unique(theirs):
        place = pc.fill_null(pc.index_in(ours, value_set=theirs, skip_nulls=True), -1).to_numpy()
        if (place < 0).all():
            raise InputError(
                f"{truth} has no file name in common with {path}; name the manifest that was scanned, or one"
                " with the same file names"
            )
        return place, "file_name"
    if len(ours) != len(theirs):
        raise InputError(
            f"{truth} cannot be joined with {path}: file names repeat, and it has {len(theirs)} rows, not"
            f" {len(ours)}; make the file names unique, or give one row per row"
        )
    return np.arange(len(ours)), "row"


def _named(names: pa.ChunkedArray) -> pa.Array:
    """File names with null where there is none."""
    whole = names.combine_chunks()
    return pc.if_else(pc.equal(whole, ""), pa.scalar(None, pa.string()), whole)


def _is_unique(names: pa.Array) -> bool:
    return bool(pc.count_distinct(names).as_py() == len(names) - names.null_count)
