"""From evidence to the findings, whoever made the predictions: calibration, verdicts, verified labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelfix.data.verified_labels import Trusted
from labelfix.estimation.calibration import Calibration, calibrate
from labelfix.estimation.copies import judged_together
from labelfix.estimation.eligible import eligible_rows
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.held_out import recounted
from labelfix.estimation.verdicts import Verdicts, decide
from labelfix.results.around import Around
from labelfix.results.corrections import Findings

_MOST_NAMES = 3


@dataclass(frozen=True)
class Readable:
    """Which rows could be read.

    Attributes:
        valid: (N,) bool.
        errors: why a row could not, by row.
    """

    valid: np.ndarray
    errors: dict[int, str]


def conclude(
    evidence: Evidence,
    probs: np.ndarray,
    given: np.ndarray,
    readable: Readable,
    trusted: Trusted,
    class_names: Sequence[str],
    *,
    kept: np.ndarray | None = None,
    around: Around | None = None,
) -> Findings:
    """Calibrate the scores, decide on every row, and put verified labels in their place.

    Args:
        evidence: of the method, or of predictions that came from elsewhere.
        probs: (N, K) float32, the classifier's own view; NaN where it has none.
        given: (N,) int64 given labels, -1 for none.
        readable: which rows have an image that can be read.
        trusted: verified labels.
        class_names: the K classes.
        kept: (N,) bool, rows that keep their label; default none.
        around: what was seen of the rows beside their labels: copies are judged together. Default nothing.
    """
    scored = trusted.is_scored & readable.valid
    around = Around(np.full(len(given), -1)) if around is None else around
    evidence = judged_together(evidence, given, around.copies, np.where(trusted.is_scored, -1, trusted.label))
    calibration = calibrate(evidence.noise, scored, given != trusted.label)
    rule = evidence.rule
    if calibration.is_calibrated and not rule.needs_other:
        rule = recounted(rule, evidence.noise, calibration.noise)
    evidence = dataclasses.replace(evidence, noise=calibration.noise, rule=rule)
    seen = np.isfinite(probs).all(axis=1)
    predicted = np.where(seen, np.where(seen[:, None], probs, 0).argmax(axis=1), -1)
    eligible = eligible_rows(readable.valid, given >= 0, trusted.label >= 0)
    verdicts = decide(evidence, given, eligible, predicted, trusted.label, scored, kept)
    if len(verdicts.spared):
        verdicts = dataclasses.replace(verdicts, fit=_naming(verdicts, class_names))
    known = _verified(evidence, given, trusted.label)
    diagnostics = {**evidence.diagnostics, "calibration": _as_json(calibration)}
    if verdicts.on_scored is not None:
        diagnostics["trusted"] = verdicts.on_scored
    evidence = dataclasses.replace(known, diagnostics=diagnostics)
    return Findings(evidence, verdicts, probs, readable.valid, readable.errors, trusted.label, around)


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
