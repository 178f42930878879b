"""From a trained method to the findings: its evidence, that of rows it never saw, calibration, verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.estimation.calibration import Calibration, calibrate
from labelfix.estimation.eligible import eligible_rows
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.held_out import judged_evidence, recounted
from labelfix.estimation.verdicts import Verdicts, decide
from labelfix.results.corrections import Findings
from labelfix.training.folds import CrossFit
from labelfix.training.setup import held_out_rows, training_labels
from labelfix.training.trainer import EpochReport, Trainer

_ENOUGH_HELD_OUT = 1_000
_MOST_NAMES = 3


def find(
    manifest: Manifest,
    store: ImageStore,
    trusted: Trusted,
    trainer: Trainer,
    last_reports: Sequence[EpochReport],
    crossed: CrossFit | None = None,
) -> Findings:
    """Evidence, verdicts and the classifier's own view of every row.

    Args:
        manifest: of the source.
        store: its images.
        trusted: its verified labels.
        trainer: after its last epoch.
        last_reports: of the last epoch of every training.
        crossed: predictions of the folds' networks, None without folds; rows in no fold take the trainer's logits.
    """
    plain = trainer.predict("plain")
    logits = plain.cpu().numpy()
    if crossed is not None:
        logits = np.where((crossed.fold_of_row >= 0)[:, None], crossed.logits, logits)
    probs = softmax(logits.astype(np.float64), axis=1).astype(np.float32)
    kept = np.zeros(manifest.num_rows, dtype=bool)
    diverged = next((report for report in last_reports if not report.is_finite), None)
    if diverged is None and np.isfinite(probs[store.valid]).all():
        if crossed is None:
            evidence = trainer.method.evidence(
                lambda view: plain if view == "plain" else trainer.predict(view)
            )
            evidence, kept = _with_held_out(evidence, manifest, store, trusted, trainer, logits)
        else:
            evidence = _of_folds(manifest, store, trainer, crossed, logits)
            kept = _of_unknown_class(
                manifest, training_labels(manifest, store.valid, trusted), crossed.fold_of_row
            )
    else:
        epoch = last_reports[-1].epoch if diverged is None else diverged.epoch
        reason = f"training diverged in epoch {epoch}; give a lower --set learning_rate"
        nothing = np.full(manifest.num_rows, np.nan)
        evidence = Evidence(nothing, np.full(probs.shape, np.nan, np.float32), Fit(ok=False, reason=reason))
    scored = trusted.is_scored & store.valid
    calibration = calibrate(evidence.noise, scored, manifest.given != trusted.label)
    rule = evidence.rule
    if calibration.is_calibrated and crossed is not None:
        rule = recounted(rule, evidence.noise, calibration.noise)
    evidence = dataclasses.replace(evidence, noise=calibration.noise, rule=rule)
    seen = np.isfinite(probs).all(axis=1)
    predicted = np.where(seen, np.where(seen[:, None], probs, 0).argmax(axis=1), -1)
    eligible = eligible_rows(store.valid, manifest.given >= 0, trusted.label >= 0)
    verdicts = decide(evidence, manifest.given, eligible, predicted, trusted.label, scored, kept)
    if len(verdicts.spared):
        verdicts = dataclasses.replace(verdicts, fit=_naming(verdicts, manifest.class_names))
    known = _verified(evidence, manifest.given, trusted.label)
    diagnostics = {**evidence.diagnostics, "calibration": _as_json(calibration)}
    if verdicts.on_scored is not None:
        diagnostics["trusted"] = verdicts.on_scored
    evidence = dataclasses.replace(known, diagnostics=diagnostics)
    return Findings(evidence, verdicts, probs, store.valid, store.errors, trusted.label)


def _with_held_out(
    evidence: Evidence,
    manifest: Manifest,
    store: ImageStore,
    trusted: Trusted,
    trainer: Trainer,
    logits: np.ndarray,
) -> tuple[Evidence, np.ndarray]:
    """The evidence with that of rows which no network was trained on (`split`), from their logits.

    And those of them (N,) bool that keep their label: all, where the posterior fitted on them would correct none.
    """
    held_out = held_out_rows(manifest, store.valid, manifest.given)
    if not held_out.any():
        return evidence, held_out
    trained = training_labels(manifest, store.valid, trusted)
    given = np.where(held_out, manifest.given, trained)
    # A few rows are too few for a noise model: then that of the trained rows is used.
    fitted = held_out if held_out.sum() >= _ENOUGH_HELD_OUT else (trained >= 0)
    shown = np.where((held_out | fitted)[:, None], logits, np.nan)
    found = trainer.method.held_out_evidence(shown, given, fitted)
    whole = dataclasses.replace(
        evidence,
        noise=np.where(held_out, found.noise, evidence.noise),
        probs=np.where(held_out[:, None], found.probs, evidence.probs).astype(np.float32),
    )
    # For few rows the model comes from rows that the network was trained on, and it cannot predict a new class.
    unsure = found.fit.keeps_labels or not found.fit.ok or not fitted[held_out].any()
    return whole, held_out & (unsure | _of_unknown_class(manifest, trained, None))


def _of_folds(
    manifest: Manifest, store: ImageStore, trainer: Trainer, crossed: CrossFit, logits: np.ndarray
) -> Evidence:
    """The evidence of rows that were held out: of the folds, and of `split`."""
    held_out = (crossed.fold_of_row >= 0) | held_out_rows(manifest, store.valid, manifest.given)
    given = np.where(held_out, manifest.given, -1)
    probs = np.where(held_out[:, None], softmax(logits.astype(np.float64), axis=1), np.nan)
    averaged = trainer.method.ensembled_probs.cpu().numpy()
    return judged_evidence(probs, given, averaged, trainer.method.held_out_score(probs, given))


def _of_unknown_class(manifest: Manifest, trained: np.ndarray, fold_of_row: np.ndarray | None) -> np.ndarray:
    """(N,) bool, rows whose given class no row had on which their network was trained: it knows nothing of it."""
    folds = np.full(len(trained), -1) if fold_of_row is None else fold_of_row
    unknown = np.zeros(len(trained), dtype=bool)
    for label in range(len(manifest.class_names)):
        of_class = manifest.given == label
        holding = np.unique(folds[trained == label])
        if len(holding) == 0:
            unknown |= of_class
        elif len(holding) == 1 and holding[0] >= 0:
            unknown |= of_class & (folds == holding[0])
    return unknown


def _naming(verdicts: Verdicts, names: Sequence[str]) -> Fit:
    """The fit, which also names the classes that keep their labels."""
    shown = [repr(names[label]) for label in verdicts.spared[:_MOST_NAMES]]
    more = [f"{left} more"] if (left := len(verdicts.spared) - len(shown)) else []
    who = ", ".join([*shown, *more])
    reason = f"{verdicts.fit.reason}; corrections would leave no row of {who}: those labels are kept"
    return dataclasses.replace(verdicts.fit, reason=reason)


def _verified(evidence: Evidence, given: np.ndarray, label: np.ndarray) -> Evidence:
    """The evidence with verified labels in place of what the method estimates."""
    rows = np.flatnonzero(label >= 0)
    noise, probs = evidence.noise.copy(), evidence.probs.copy()
    noise[rows] = np.where(given[rows] < 0, np.nan, given[rows] != label[rows])
    probs[rows] = np.eye(probs.shape[1], dtype=np.float32)[label[rows]]
    return dataclasses.replace(evidence, noise=noise, probs=probs)


def _as_json(calibration: Calibration) -> dict[str, Any]:
    return {
        "is_calibrated": calibration.is_calibrated,
        "reason": calibration.reason,
        "brier_before": calibration.brier_before,
        "brier_after": calibration.brier_after,
    }
