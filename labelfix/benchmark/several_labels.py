"""What a bench makes of runs where a row may have several labels: states are judged, a row having a class or not."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.parquet_file import open_parquet_file
from labelfix.estimation.metrics import flag_metrics, label_metrics, score_metrics
from labelfix.evaluation import read_states
from labelfix.results.corrections import Corrections, label_states

CLEANLAB = (
    "cleanlab_average_precision",
    "cleanlab_precision",
    "cleanlab_recall",
    "cleanlab_f1",
    "cleanlab_label_accuracy",
)


def cleanlab_states(run: Corrections, truth: Path, left_out: np.ndarray) -> dict[str, float | None]:
    """How well cleanlab ranks and flags wrong states, given the run's out-of-sample predictions.

    `cleanlab.multilabel_classification` with its defaults: `rank.get_label_quality_scores_per_class` (self-confidence)
    and `filter.find_multilabel_issues_per_class`, on the valid, labelled, untrusted rows; its suggestion for a flagged
    state is the other one. None throughout where the predictions are not out of sample, or without cleanlab.

    Source: Thyagarajan, Snorrason, Northcutt, Mueller 2022, "Identifying Incorrect Annotations in Multi-Label
    Classification Data".

    Args:
        run: the findings.
        truth: Parquet file of the true labels, row by row.
        left_out: (n,) int64, rows that do not count.

    Returns:
        What `CLEANLAB` names, over the states that `labelfix.evaluate` counts.
    """
    if not run.metadata["out_of_sample"] or find_spec("cleanlab") is None:
        return dict.fromkeys(CLEANLAB)
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    found = read_states(run)
    true, known = true_states(truth, run.metadata["class_names"])
    rows = np.flatnonzero(found["eligible"] & np.isfinite(found["probs"]).all(axis=1))
    counted = known[rows] & ~np.isin(rows, left_out) & ~run.has_copy()[rows]
    if not counted.any():
        return dict.fromkeys(CLEANLAB)
    given, true, probs = found["given"][rows], true[rows], found["probs"][rows].astype(np.float64)
    lists = [np.flatnonzero(row).tolist() for row in given]
    noise = 1 - get_label_quality_scores_per_class(lists, probs)
    # One process: a pool would cost more than it saves on what a bench holds.
    flagged = np.asarray(find_multilabel_issues_per_class(lists, probs, n_jobs=1), bool)
    given, true, noise, flagged = (part[counted].ravel() for part in (given, true, noise, flagged))
    flags = flag_metrics(flagged, given != true).values
    labels = label_metrics(*(part.astype(np.int64) for part in (given, given ^ flagged, true))).values
    ranked = score_metrics(noise, given != true).values["average_precision"]
    figures = (ranked, flags["precision"], flags["recall"], flags["f1"], labels["label_accuracy_corrected"])
    return dict(zip(CLEANLAB, figures, strict=True))


def true_states(truth: Path, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) bool which classes rows have in truth, and (N,) bool where that is known, row by row.

    Args:
        truth: Parquet file with lists in `true_label`: the bench's truth.parquet, or planted labels.
        class_names: of the run.
    """
    with open_parquet_file(truth) as file:
        lists = file.read(["true_label"])["true_label"].combine_chunks()
    return label_states(lists, pa.array(class_names, pa.string()))


def states_of(
    runs: Sequence[Path], truth: Path, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What M runs say of the S states that count in all of them: wrong (S,) bool, noise (M, S), flagged (M, S) bool.

    Args:
        runs: their corrections files.
        truth: Parquet file of the true labels, row by row.
        left_out: (n,) int64, rows that do not count.
    """
    opened = [Corrections.open(run) for run in runs]
    tables: list[dict[str, Any]] = [read_states(run) for run in opened]
    names = opened[0].metadata["class_names"]
    true, known = true_states(truth, names)
    counts = known & ~np.isin(np.arange(len(known)), left_out)
    for run, table in zip(opened, tables, strict=True):
        counts &= table["eligible"] & ~run.has_copy()
    noise = np.stack([table["noise"][counts].ravel() for table in tables])
    above = [np.array(run.metadata.get("flag_above") or np.ones(len(names)), np.float32) for run in opened]
    flagged = [(table["noise"][counts] > above).ravel() for table, above in zip(tables, above, strict=True)]
    return (tables[0]["given"] != true)[counts].ravel(), noise, np.stack(flagged)
