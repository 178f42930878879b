"""summary.json and epochs.parquet: what a run found in a few numbers, and how its training went."""

from __future__ import annotations

import math
import os
import platform
import resource
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from labelfix.data.images.issues import ISSUES
from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import transition_matrix
from labelfix.results.around import Around
from labelfix.results.copies import copies_summary
from labelfix.results.corrections import Findings
from labelfix.training.resume import DATA_WAIT
from labelfix.training.trainer import EpochReport, Trainer


def summarise(manifest: Manifest, findings: Findings, facts: dict[str, Any]) -> dict[str, Any]:
    """The content of summary.json.

    Args:
        manifest: of the source.
        findings: of all rows.
        facts: of the run: method, seed, seconds, hardware, network passes.

    Returns:
        JSON-able; rates in 0..1, null where there is nothing to estimate.
    """
    given, valid, fit = manifest.given, findings.valid, findings.verdicts.fit
    eligible = findings.eligible(given)
    around = Around(np.full(len(given), -1)) if findings.around is None else findings.around
    relabelled = eligible & (findings.verdicts.corrected != given)
    return {
        **facts,
        "fit_ok": fit.ok,
        "fit_reason": fit.reason,
        "noise_rate": findings.noise_rate(given),
        "noise_rate_by_class": _rates_by_class(manifest, findings, eligible),
        "class_names": list(manifest.class_names),
        "transition_matrix": _transition(findings, given, eligible),
        "counts": {
            "rows": manifest.num_rows,
            "judged": int(eligible.sum()),
            "flagged": int(findings.verdicts.flagged.sum()),
            "corrected": int(relabelled.sum()),
            "unlabelled": int((manifest.said < 0).sum()),
            "removed": 0 if manifest.removed is None else int(manifest.removed.sum()),
            "trusted": int(findings.is_trusted().sum()),
            "held_out": int(manifest.held_out.sum()),
            "invalid": int((~valid).sum()),
        },
        "image_issues": image_issue_counts(around),
        "copies": {**copies_summary(manifest, around.copies), **around.facts},
        "diagnostics": findings.evidence.diagnostics,
    }


# The method of a training, and the fold that it leaves out; None for the training on all rows.
Training = tuple[str, int | None]


def epochs_table(reports_of: Mapping[Training, list[EpochReport]]) -> pa.Table:
    """A row per training and epoch: epoch, fold, phase, learning_rate, loss parts, reported numbers, seconds.

    The fold is null in the training on all rows. Where methods were compared a column `method` comes first.

    Loss parts are named `loss_<part>`; what an epoch does not have is null.
    """
    reports = [report for some in reports_of.values() for report in some]
    methods = [method for (method, _), some in reports_of.items() for _ in some]
    folds = [fold for (_, fold), some in reports_of.items() for _ in some]
    losses = sorted({name for report in reports for name in report.losses})
    # How long an epoch waited is for the summary: a table of what was learned is the same whenever it is repeated.
    reported = sorted({name for report in reports for name in report.reported} - {DATA_WAIT})
    columns: dict[str, Any] = {"method": pa.array(methods, pa.string())} if len(set(methods)) > 1 else {}
    columns |= {
        "epoch": pa.array([r.epoch for r in reports], pa.int64()),
        "fold": pa.array(folds, pa.int64()),
        "phase": pa.array([r.phase for r in reports], pa.string()),
        "learning_rate": pa.array([r.learning_rate for r in reports], pa.float64()),
    }
    for name in losses:
        columns[f"loss_{name}"] = pa.array([r.losses.get(name) for r in reports], pa.float64())
    for name in reported:
        columns[name] = pa.array([r.reported.get(name) for r in reports], pa.float64())
    columns["elapsed_seconds"] = pa.array([r.elapsed_seconds for r in reports], pa.float64())
    return pa.table(columns)


def cost(
    trainer: Trainer, reports_of: Mapping[Training, list[EpochReport]], units_of_folds: int | None
) -> dict[str, Any]:
    """What all trainings of a run cost, and the accuracies that the last one came to.

    Args:
        trainer: after its last epoch, before it predicts anything.
        reports_of: as for `epochs_table`.
        units_of_folds: network passes of all folds together, in rows; None without folds.
    """
    rows, epochs = (
        trainer.num_trained_rows,
        next(some for (_, fold), some in reports_of.items() if fold is None),
    )
    seconds = sum(report.elapsed_seconds for some in reports_of.values() for report in some)
    # Each of K folds trains on K - 1 of K parts, and the exported classifier once more on all.
    of_folds = [len(some) for (_, fold), some in reports_of.items() if fold is not None]
    num_folds = len({fold for _, fold in reports_of} - {None})
    images = rows * (len(epochs) + (sum(of_folds) * (num_folds - 1) / num_folds if of_folds else 0))
    return {
        **units_per_row(
            trainer.position.forward_units / rows, None if units_of_folds is None else units_of_folds / rows
        ),
        "training_seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else None,
        "data_wait_seconds": _data_wait(reports_of),
        **_peak_memory(trainer.source.device),
        **_measured(epochs[-1]),
        "hardware": _hardware(trainer.source.device),
    }


def _measured(report: EpochReport) -> dict[str, float]:
    """What an epoch was measured to be worth; a network that diverged has no mean average precision, which is NaN."""
    return {
        name: value
        for name, value in report.reported.items()
        if name.endswith(("_accuracy", "_map")) and math.isfinite(value)
    }


def _data_wait(reports_of: Mapping[Training, list[EpochReport]]) -> float:
    """Seconds of all trainings in which their steps waited for images."""
    known = [report.reported.get(DATA_WAIT) for some in reports_of.values() for report in some]
    return round(sum(seconds for seconds in known if seconds is not None), 3)


def _peak_memory(device: torch.device) -> dict[str, int]:
    """The most bytes that this process, and on a GPU its tensors there, have held so far."""
    # Only macOS counts in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        found["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


def units_per_row(classifier: float, folds: float | None) -> dict[str, float]:
    """Network passes a trained row (3 for a forward with backward) of the trainings that the findings rest on.

    With folds that is all of them together, and the exported classifier's are a number of their own.
    """
    if folds is None:
        return {"forward_units_per_row": round(classifier, 2)}
    return {
        "forward_units_per_row": round(folds, 2),
        "classifier_forward_units_per_row": round(classifier, 2),
    }


def _hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": str(device), "name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def image_issue_counts(around: Around) -> dict[str, int]:
    """How many images have each issue."""
    found = np.full(0, -1) if around.image_issue is None else around.image_issue
    return {name: int((found == place).sum()) for place, name in enumerate(ISSUES)}


def _transition(findings: Findings, given: np.ndarray, eligible: np.ndarray) -> list[list[float]] | None:
    rows = eligible & np.isfinite(findings.evidence.probs).all(axis=1)
    if not rows.any():
        return None
    return transition_matrix(findings.evidence.probs[rows], given[rows]).round(6).tolist()


def _rates_by_class(manifest: Manifest, findings: Findings, eligible: np.ndarray) -> dict[str, float | None]:
    rates: dict[str, float | None] = {}
    for label, name in enumerate(manifest.class_names):
        noise = findings.evidence.noise[eligible & (manifest.given == label)]
        rates[name] = float(noise.mean()) if len(noise) and np.isfinite(noise).all() else None
    return rates
