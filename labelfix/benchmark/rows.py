"""A finished run as a row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.benchmark.grid import Cell
from labelfix.benchmark.materials import Materials
from labelfix.benchmark.several_labels import CLEANLAB, cleanlab_states
from labelfix.data.parquet_file import open_parquet_file
from labelfix.estimation.metrics import flag_metrics, label_metrics, score_metrics
from labelfix.evaluation import NO_TRUTH, OPEN_SET, decode_marks, decode_truth, evaluate
from labelfix.json_files import Checks, is_count, is_flag, is_number, is_text, maybe, read_object
from labelfix.results.corrections import Corrections, eligible_in
from labelfix.results.run_folder import RunFolder
from labelfix.results.run_json import SCANNED, read_summary

_TEXT, _COUNT, _FLAG, _NUMBER = pa.string(), pa.int64(), pa.bool_(), pa.float64()
SCHEMA = pa.schema(
    [
        ("noise", _TEXT),
        ("method", _TEXT),
        ("seed", _COUNT),
        ("rows", _COUNT),
        ("rows_evaluated", _COUNT),
        ("copies_left_out", _COUNT),
        ("average_precision", _NUMBER),
        ("auroc", _NUMBER),
        ("precision", _NUMBER),
        ("recall", _NUMBER),
        ("f1", _NUMBER),
        ("flagged", _COUNT),
        ("label_accuracy_given", _NUMBER),
        ("label_accuracy_corrected", _NUMBER),
        ("changed", _COUNT),
        ("changed_right", _COUNT),
        ("changed_wrong", _COUNT),
        ("errors_removed", _NUMBER),
        ("test_accuracy", _NUMBER),
        ("test_accuracy_best", _NUMBER),
        ("test_map", _NUMBER),
        ("expected_calibration_error", _NUMBER),
        ("noise_rate_true", _NUMBER),
        ("noise_rate_estimated", _NUMBER),
        ("fit_ok", _FLAG),
        ("forward_units_per_row", _NUMBER),
        ("seconds", _NUMBER),
        ("seconds_total", _NUMBER),
        ("peak_memory_mb", _NUMBER),
        ("peak_gpu_memory_mb", _NUMBER),
        ("folds", _COUNT),
        ("cleanlab_average_precision", _NUMBER),
        ("cleanlab_precision", _NUMBER),
        ("cleanlab_recall", _NUMBER),
        ("cleanlab_f1", _NUMBER),
        ("cleanlab_label_accuracy", _NUMBER),
    ]
)
_KINDS = {_TEXT: is_text, _COUNT: is_count, _FLAG: is_flag, _NUMBER: is_number}
# What is kept of a finished row, and what a process notes.
SAVED: Checks = {
    "row": {
        **{field.name: maybe(_KINDS[field.type]) for field in SCHEMA},
        **{"noise": is_text, "method": is_text, "seed": is_count, "folds": is_count},
    },
    "made": SCANNED,
    "left_out_sha256": maybe(is_text),
}
_PROCESS: Checks = dict.fromkeys(("seconds_total", "peak_memory_mb", "peak_gpu_memory_mb"), maybe(is_number))


def make_row(cell: Cell, materials: Materials, folder: RunFolder, record: Path) -> dict[str, Any]:
    """What a finished run found, by the names of `SCHEMA`.

    Args:
        cell: which run.
        materials: its truth.
        folder: of the run.
        record: what its process noted of time and memory; it may be missing.
    """
    summary, config = read_summary(folder.path), folder.saved_config() or {}
    found = evaluate(folder.corrections, truth=materials.truth_of(cell), leave_out=materials.left_out)
    given, corrected = found["label_accuracy_given"], found["label_accuracy_corrected"]
    has_errors = given is not None and given < 1
    run = Corrections.open(folder.corrections)
    asked = cleanlab_states if run.is_multi else cleanlab_metrics
    row = {
        **found,
        "noise": cell.noise,
        "method": cell.method.text,
        "seed": cell.seed,
        "errors_removed": (corrected - given) / (1 - given) if has_errors else None,
        "test_accuracy": summary.get("test_accuracy"),
        "test_map": summary.get("test_map"),
        "test_accuracy_best": best_accuracy(folder.epochs),
        "forward_units_per_row": summary.get("forward_units_per_row"),
        "seconds": summary.get("training_seconds"),
        **read_process(record),
        "folds": config.get("config", {}).get("folds"),
        **asked(run, materials.truth_of(cell), materials.left_out),
    }
    return {name: row.get(name) for name in SCHEMA.names}


def best_accuracy(epochs: Path) -> float | None:
    """Accuracy on the test images after the epoch that is best on the validation rows, else on the test images.

    Without validation rows it is the highest of all epochs, chosen by what it is measured on, as Arazo et al. 2019 do.

    Args:
        epochs: epochs.parquet of the run; of folds the training on all rows counts.

    Returns:
        None where nothing was measured.
    """
    with open_parquet_file(epochs) as file:
        table = file.read()
    if "test_accuracy" not in table.column_names:
        return None
    table = table.filter(pc.is_null(table["fold"]))
    chosen_by = "validation_accuracy" if "validation_accuracy" in table.column_names else "test_accuracy"
    known = table.filter(pc.is_valid(table[chosen_by]))
    if not len(known):
        return None
    found: float | None = known["test_accuracy"][int(np.argmax(known[chosen_by].to_numpy()))].as_py()
    return found


def read_process(record: Path) -> dict[str, Any]:
    """What the process of a run noted of time and memory; empty where it noted nothing.

    Raises:
        InputError: it is not as labelfix writes it.
    """
    return read_object(record, _PROCESS, "delete it") or {}


def is_current(saved: Mapping[str, Any], materials: Materials) -> bool:
    """Whether a saved row is what its run would give now: the same rows left out, cleanlab asked where it is there.

    Args:
        saved: the row, and the left_out_sha256 that it was made with.
        materials: of this call.
    """
    row = saved["row"]
    unasked = (
        row["folds"] > 0 and row["cleanlab_label_accuracy"] is None and find_spec("cleanlab") is not None
    )
    counts_copies = row.get("copies_left_out") is not None
    return saved.get("left_out_sha256") == materials.trusted_sha256 and counts_copies and not unasked


def cleanlab_metrics(run: Corrections, truth: Path, left_out: np.ndarray) -> dict[str, float | None]:
    """How right cleanlab's own flags are, given the run's out-of-sample predictions.

    `cleanlab.filter.find_label_issues` and `cleanlab.rank.get_label_quality_scores` with their defaults, on the valid,
    labelled, untrusted rows; its suggestion for every flagged row is the class predicted. None throughout where the
    predictions are not out of sample, or without cleanlab.

    Source: Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels".

    Args:
        run: the findings.
        truth: Parquet file of the true labels, row by row.
        left_out: (n,) int64, rows that do not count.

    Returns:
        What `CLEANLAB` names, over the rows that `labelfix.evaluate` counts.
    """
    if not run.metadata["out_of_sample"] or find_spec("cleanlab") is None:
        return dict.fromkeys(CLEANLAB)
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    rows, given, probs = _predicted(run)
    true = true_labels(truth, run.metadata["class_names"])[rows]
    counted = (true != NO_TRUTH) & ~np.isin(rows, left_out) & ~run.has_copy()[rows]
    if not counted.any():
        return dict.fromkeys(CLEANLAB)
    # One process: a pool would cost more than it saves on what a bench holds.
    flagged = find_label_issues(given, probs, n_jobs=1)
    suggested = np.where(flagged, probs.argmax(axis=1), given)
    flags = flag_metrics(flagged[counted], (given != true)[counted]).values
    known = counted & (true != OPEN_SET)
    labels = label_metrics(given[known], suggested[known], true[known]).values
    noise = 1 - get_label_quality_scores(given, probs)
    ranked = score_metrics(noise[counted], (given != true)[counted]).values["average_precision"]
    found = (ranked, flags["precision"], flags["recall"], flags["f1"], labels["label_accuracy_corrected"])
    return dict(zip(CLEANLAB, found, strict=True))


def judged_rows(
    run: Corrections, truth: Path, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows that `labelfix.evaluate` counts: predictions (n, K), given classes (n,), and which are wrong (n,) bool.

    Args:
        run: the findings.
        truth: Parquet file of the true labels, row by row.
        left_out: (n,) int64, rows that do not count.
    """
    rows, given, probs = _predicted(run)
    true = true_labels(truth, run.metadata["class_names"])[rows]
    counted = (true != NO_TRUTH) & ~np.isin(rows, left_out) & ~run.has_copy()[rows]
    return probs[counted], given[counted], (given != true)[counted]


def true_labels(truth: Path, class_names: list[str]) -> np.ndarray:
    """(N,) int64, see `decode_truth`.

    Rows join by their place: row i of every run of a bench is row i of its source, and of its truth.

    Args:
        truth: Parquet file with `true_label` and maybe `is_corrupted`: the bench's truth.parquet, or planted labels.
        class_names: of the run.
    """
    with open_parquet_file(truth) as file:
        there = file.schema_arrow.names
        table = file.read([name for name in ("true_label", "is_corrupted") if name in there])
    marks = "is_corrupted" in there
    is_corrupted = decode_marks(table["is_corrupted"]) if marks else np.zeros(len(table), dtype=bool)
    label = table["true_label"].combine_chunks().dictionary_encode()
    given = pc.fill_null(label.indices, -1).to_numpy()
    return decode_truth(given, label.dictionary.to_pylist(), is_corrupted, class_names)


def _predicted(run: Corrections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Valid, labelled, untrusted rows with a prediction: place and given class (n,), probabilities (n, K)."""
    classes = pa.array(run.metadata["class_names"], pa.string())
    rows, given, probs = [], [], []
    first = 0
    columns = ["given_label", "corrected_label", "predicted_probs", "is_trusted", "is_valid"]
    for batch in run.batches(columns):
        label, predicted = batch.column("given_label"), batch.column("predicted_probs")
        wanted = pc.and_(pa.array(eligible_in(batch)), pc.is_valid(predicted))
        rows.append(first + np.flatnonzero(wanted.to_numpy(zero_copy_only=False)))
        given.append(pc.index_in(pc.cast(label.filter(wanted), pa.string()), classes).to_numpy())
        probs.append(predicted.filter(wanted).flatten().to_numpy().reshape(-1, len(classes)))
        first += len(batch)
    return np.concatenate(rows), np.concatenate(given), np.concatenate(probs)
