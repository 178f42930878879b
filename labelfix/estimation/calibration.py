"""Noise scores made into probabilities, where enough verified labels say how often a score is right.

Platt's scaling: the logit of the score goes through a logistic regression on the rows whose label a person has
verified. It keeps the order of the rows, and its two numbers can be fitted on a few dozen of them, where an isotonic
fit makes steps.

Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; methods of scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST = 10
_FOLDS = 5
_EDGE = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Noise scores after calibration, and what it rests on.

    Attributes:
        noise: (N,) float64 in [0, 1]; as it came where `is_calibrated` is False.
        is_calibrated: whether the scores were changed.
        reason: why, in plain words.
        brier_before: mean squared error of the scores on the verified rows; None where not measured.
        brier_after: the same after calibration, each row by a fit that had not seen it; None where not measured.
    """

    noise: np.ndarray
    is_calibrated: bool
    reason: str
    brier_before: float | None = None
    brier_after: float | None = None


def calibrate(noise: np.ndarray, scored: np.ndarray, wrong: np.ndarray) -> Calibration:
    """Calibrate noise scores on the rows whose label was verified and whose score is still the method's own.

    The calibrated scores are taken only if they are better on rows that their fit had not seen, and rise with the
    scores before.

    Args:
        noise: (N,) float64 in [0, 1], NaN where there is no score.
        scored: (N,) bool, the verified rows.
        wrong: (N,) bool, whether the given label of a verified row is wrong.

    Returns:
        The scores of all rows; unchanged under 10 wrong or 10 right verified rows.
    """
    if not scored.any():
        reason = (
            "not calibrated: that takes a --trusted file with 20 or more labels that differ from the given ones, half "
            "of it kept from training (--check-trusted)"
        )
        return Calibration(noise, is_calibrated=False, reason=reason)
    rows = np.flatnonzero(scored & np.isfinite(noise))
    target = wrong[rows]
    count = int(target.sum())
    if min(count, len(rows) - count) < _LEAST:
        reason = (
            f"not calibrated: {count} wrong and {len(rows) - count} right labels among the verified rows that were "
            f"kept for it, {_LEAST} of each are needed (--trusted)"
        )
        return Calibration(noise, is_calibrated=False, reason=reason)
    # Half a second to import, and few runs need it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = LogisticRegression()
    features = _logit(noise)[:, None]
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    unseen = cross_val_predict(model, features[rows], target, cv=folds, method="predict_proba")[:, 1]
    before = float(np.mean((noise[rows] - target) ** 2))
    after = float(np.mean((unseen - target) ** 2))
    model.fit(features[rows], target)
    if model.coef_[0, 0] <= 0:
        reason = "not calibrated: on the verified rows a higher score does not mean a wrong label more often"
        return Calibration(noise, is_calibrated=False, reason=reason, brier_before=before, brier_after=after)
    if after >= before:
        reason = "not calibrated: the scores fit the verified rows as well as they can"
        return Calibration(noise, is_calibrated=False, reason=reason, brier_before=before, brier_after=after)
    calibrated = noise.copy()
    known = np.isfinite(noise)
    calibrated[known] = model.predict_proba(features[known])[:, 1]
    reason = f"calibrated on {len(rows)} verified rows, {count} of them wrongly labelled"
    return Calibration(calibrated, is_calibrated=True, reason=reason, brier_before=before, brier_after=after)


def _logit(noise: np.ndarray) -> np.ndarray:
    inside = np.clip(noise, _EDGE, 1 - _EDGE)
    return np.log(inside) - np.log1p(-inside)
