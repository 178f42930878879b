"""From evidence to verdicts: which rows are flagged, which labels are corrected; one rule for all methods.

The rule: a labelled row is flagged when its noise score is over a threshold. A flagged row takes the most probable
other label when that is enough times as probable as the given one; else it keeps its label and is left to a person.
The numbers come with the evidence: of predictions of rows that the network never saw they are found by putting wrong
labels to them (`judgement`), elsewhere they are 0.5 and four times. Where the fit failed nothing is flagged;
where the labels look clean, or the network is too weak to correct them, nothing is relabelled. A trusted row takes
its verified label and is never flagged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.metrics import flag_metrics, label_metrics


@dataclass(frozen=True)
class Verdicts:
    """The findings of one run.

    Attributes:
        flagged: (N,) bool.
        corrected: (N,) int64, the label to use from now on; -1 where there is none.
        fit: the fit of the evidence after the safeguards.
        on_scored: how right the rule was on the rows that were kept to check it: rows, wrong, and the metrics of
            `labelfix.estimation.metrics` for flags and labels; None without such rows.
        spared: (M,) int64, classes that keep their labels as the corrections would have emptied them.
    """

    flagged: np.ndarray
    corrected: np.ndarray
    fit: Fit
    on_scored: dict[str, Any] | None = None
    spared: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def decide(
    evidence: Evidence,
    given: np.ndarray,
    eligible: np.ndarray,
    predicted: np.ndarray,
    trusted: np.ndarray | None = None,
    scored: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> Verdicts:
    """Apply the verdict rule and its safeguards.

    Args:
        evidence: of the method, one entry per row.
        given: (N,) int64 given labels, -1 for none.
        eligible: (N,) bool, rows that are valid, labelled and not trusted.
        predicted: (N,) int64, the classifier's label, -1 where it has none; unlabelled rows take it.
        trusted: (N,) int64 verified labels, -1 for none; these rows take them, whatever the evidence. Default none.
        scored: (N,) bool, trusted rows whose evidence was made without their verified label: there the rule must not
            do harm, or the fit has failed. Default none.
        kept: (N,) bool, rows that may be flagged but keep their label, whatever the fit of the others. Default none.

    Returns:
        Flags and corrected labels; a failed fit flags nothing and keeps every given label.
    """
    trusted = np.full(len(given), -1) if trusted is None else trusted
    scored = np.zeros(len(given), dtype=bool) if scored is None else scored
    fit = _checked(evidence, eligible)
    flagged, corrected = _rule(evidence, fit, given, eligible | scored)
    corrected = corrected if kept is None else np.where(kept, given, corrected)
    spared = np.zeros(0, dtype=np.int64)
    if evidence.rule.spares_classes:
        corrected, spared = _with_spared(given, corrected, eligible, trusted, evidence.probs.shape[1])
    on_scored = _measured(flagged[scored], given[scored], corrected[scored], trusted[scored])
    before, after = given[scored] == trusted[scored], corrected[scored] == trusted[scored]
    emptied = _emptied(given, corrected, eligible, trusted, evidence.probs.shape[1])
    if after.sum() < before.sum():
        reason = (
            f"of {len(before)} verified rows {before.sum()} were given the right label and {after.sum()} would have it"
            " after the corrections"
        )
        fit = Fit(ok=False, reason=reason)
    elif len(emptied):
        reason = f"the corrections would leave {len(emptied)} of the classes without a row"
        fit = Fit(ok=False, reason=reason)
    if not fit.ok:
        flagged, corrected = np.zeros(len(given), dtype=bool), given
    corrected = np.where(given >= 0, corrected, predicted)
    labels = np.where(trusted >= 0, trusted, corrected)
    return Verdicts(flagged & eligible, labels, fit, on_scored, spared if fit.ok else spared[:0])


def _measured(
    flagged: np.ndarray, given: np.ndarray, corrected: np.ndarray, true: np.ndarray
) -> dict[str, Any] | None:
    """Metrics of the rule on some rows, before the safeguards that these rows themselves decide."""
    if not len(true):
        return None
    wrong = given != true
    labels = label_metrics(given, corrected, true).values
    return {"rows": len(true), "wrong": int(wrong.sum()), **flag_metrics(flagged, wrong).values, **labels}


def _rule(
    evidence: Evidence, fit: Fit, given: np.ndarray, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flags (N,) bool and labels (N,) int64 by the rule alone, over the eligible rows."""
    if not fit.ok:
        return np.zeros(len(given), dtype=bool), given
    flagged, best, sure = _apply(evidence, given, eligible)
    return flagged, given if fit.keeps_labels else np.where(flagged & sure, best, given)


def _apply(
    evidence: Evidence, given: np.ndarray, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flags (N,) bool, most probable label (N,) int64, and whether that label is probable enough (N,) bool."""
    rule, rows = evidence.rule, np.arange(len(given))
    usable = eligible & np.isfinite(evidence.noise) & np.isfinite(evidence.probs).all(axis=1)
    probs = np.where(usable[:, None], evidence.probs, 0.0)
    own = probs[rows, np.maximum(given, 0)]
    best = probs.argmax(axis=1)
    # As stored, so that the table alone explains every flag.
    noise = np.where(usable, evidence.noise, 0.0).astype(np.float32)
    flagged = usable & (noise > rule.flag_above)
    if rule.needs_other:
        flagged &= best != given
    else:
        probs[rows, np.maximum(given, 0)] = -1
        best = probs.argmax(axis=1)
    # Not multiplied out: infinite odds of a label that is ruled out are no number.
    sure = probs[rows, best] / rule.relabel_odds >= own
    return flagged, best, sure


def _checked(evidence: Evidence, eligible: np.ndarray) -> Fit:
    """The fit as the method saw it, unless the scores show that it failed."""
    if not evidence.fit.ok:
        return evidence.fit
    if not eligible.any():
        return Fit(
            keeps_labels=True, reason="no row is eligible: no label is given, usable and not yet verified"
        )
    noise = evidence.noise[eligible]
    if not np.isfinite(noise).all() or not np.isfinite(evidence.probs[eligible]).all():
        return Fit(ok=False, reason="the network's outputs are not finite: training diverged")
    is_one_sided = len(noise) > 0 and bool((noise > evidence.rule.flag_above).all())
    # Flags by expected counts may be all rows, where nothing tells the rows apart.
    if evidence.fit.keeps_labels and not (is_one_sided and evidence.rule.spares_classes):
        return evidence.fit
    if len(noise) > 1 and np.ptp(noise) < 1e-6:
        return Fit(ok=False, reason="every row has the same noise score: there is nothing to rank rows by")
    if is_one_sided:
        return Fit(ok=False, reason="every row counts as wrongly labelled: the noise model is one-sided")
    return evidence.fit


def _with_spared(
    given: np.ndarray, corrected: np.ndarray, eligible: np.ndarray, trusted: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The corrections but those that would empty a class, and these classes (M,)."""
    spared = np.zeros(0, dtype=np.int64)
    # A class that takes its rows back may have been all that another had.
    while len(emptied := _emptied(given, corrected, eligible, trusted, num_classes)):
        spared = np.union1d(spared, emptied)
        corrected = np.where(np.isin(given, emptied), given, corrected)
    return corrected, spared


def _emptied(
    given: np.ndarray, corrected: np.ndarray, eligible: np.ndarray, trusted: np.ndarray, num_classes: int
) -> np.ndarray:
    """Classes (M,) with eligible rows before the corrections, and with no row after them."""
    had = np.bincount(given[eligible], minlength=num_classes)
    has = np.bincount(np.concatenate([corrected[eligible], trusted[trusted >= 0]]), minlength=num_classes)
    return np.flatnonzero((had > 0) & (has == 0))
