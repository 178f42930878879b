"""What the methods of a bench say together: how many flag a row, and how well their mean rank finds the wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.benchmark.rows import true_labels
from labelfix.benchmark.several_labels import states_of
from labelfix.estimation.metrics import flag_counts, mean_rank, score_metrics
from labelfix.evaluation import NO_TRUTH
from labelfix.results.corrections import Corrections, eligible_in

SCHEMA = pa.schema(
    [
        ("noise", pa.string()),
        ("seed", pa.int64()),
        ("methods", pa.list_(pa.string())),
        ("rows_evaluated", pa.int64()),
        ("average_precision_mean_rank", pa.float64()),
        ("best_method", pa.string()),
        ("best_average_precision", pa.float64()),
        ("auroc_mean_rank", pa.float64()),
        ("best_auroc", pa.float64()),
        ("flagged_by", pa.list_(pa.int64())),
        ("rows", pa.list_(pa.int64())),
        ("share_wrong", pa.list_(pa.float64())),
    ]
)
_COLUMNS = ["given_label", "corrected_label", "noise_score", "is_label_issue", "is_trusted", "is_valid"]


def make_agreement(
    rows: Sequence[dict[str, Any]], runs: Sequence[Path], truth: Path, left_out: np.ndarray
) -> dict[str, Any]:
    """What M methods say together under one noise with one seed, by the names of `SCHEMA`.

    Args:
        rows: of the table, M of them.
        runs: their corrections files.
        truth: Parquet file of the true labels, row by row.
        left_out: (n,) int64, rows that do not count.

    Returns:
        noise, seed, methods (M texts) and rows_evaluated, the rows that `labelfix.evaluate` counts in every run;
        average precision and AUROC of the mean rank, see `labelfix.estimation.metrics.mean_rank`, and the best that a
        single method has; best_method, whose average precision that is; and what
        `labelfix.estimation.metrics.flag_counts` returns. None where undefined. Where a row may have several labels all
        of these count the states of the classes in the rows.
    """
    of_runs = states_of if Corrections.open(runs[0]).is_multi else _labels_of
    wrong, noise, flagged = of_runs(runs, truth, left_out)
    together = score_metrics(mean_rank(noise), wrong).values
    ranked = [row for row in rows if row["average_precision"] is not None]
    best = max(ranked, key=lambda row: row["average_precision"], default=None)
    return {
        "noise": rows[0]["noise"],
        "seed": rows[0]["seed"],
        "methods": [row["method"] for row in rows],
        "rows_evaluated": len(wrong),
        "average_precision_mean_rank": together["average_precision"],
        "best_method": best and best["method"],
        "best_average_precision": best and best["average_precision"],
        "auroc_mean_rank": together["auroc"],
        "best_auroc": max((row["auroc"] for row in ranked), default=None),
        **flag_counts(flagged, wrong),
    }


def _labels_of(
    runs: Sequence[Path], truth: Path, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `states_of` of the rows that count, where each has one label."""
    given, counts, noise, flagged = _read(runs)
    true = true_labels(truth, Corrections.open(runs[0]).metadata["class_names"])
    counts &= (true != NO_TRUTH) & ~np.isin(np.arange(len(true)), left_out)
    return (given != true)[counts], noise[:, counts], flagged[:, counts]


def _read(runs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Given class, and whether a row is eligible and without a copy in all runs, (N,); noise score and flag, (M, N)."""
    opened = [Corrections.open(run) for run in runs]
    tables = [pa.Table.from_batches(run.batches(_COLUMNS)) for run in opened]
    names = pa.array(opened[0].metadata["class_names"], pa.string())
    label = pc.cast(tables[0]["given_label"], pa.string())
    eligible = np.logical_and.reduce([eligible_in(table) for table in tables])
    # A copy under another label is an answer key.
    eligible &= ~np.logical_or.reduce([run.has_copy() for run in opened])
    noise = np.stack([table["noise_score"].to_numpy() for table in tables])
    flagged = np.stack([table["is_label_issue"].to_numpy() for table in tables])
    return pc.fill_null(pc.index_in(label, names), -1).to_numpy(), eligible, noise, flagged
