"""How right findings are: noise scores, flags and corrected labels against the truth, as plain numbers.

A metric that is undefined is None, with its reason beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

NUM_BINS = 10


class Metrics(NamedTuple):
    """Metrics by name, None where one is undefined; and why it is, by the same name."""

    values: dict[str, Any]
    reasons: dict[str, str]


def score_metrics(noise: np.ndarray, wrong: np.ndarray) -> Metrics:
    """How well noise scores rank the wrong labels first, and how near they are to probabilities.

    Args:
        noise: (n,) float in [0, 1], n at least 1; NaN where a row has no score.
        wrong: (n,) bool, whether the given label is wrong.

    Returns:
        noise_rate_true, average_precision, auroc, and what `calibration_metrics` returns.
    """
    reasons: dict[str, str] = {}
    metrics: dict[str, Any] = {
        "noise_rate_true": float(wrong.mean()),
        "average_precision": None,
        "auroc": None,
    }
    missing = int(np.isnan(noise).sum())
    reason = ""
    if missing:
        reason = f"{missing} of {len(noise)} rows have no noise score"
        metrics |= {"expected_calibration_error": None, "reliability": None}
        reasons.update(expected_calibration_error=reason, reliability=reason)
    else:
        metrics |= calibration_metrics(noise, wrong)
        if not wrong.any():
            reason = "no given label is wrong"
        elif wrong.all():
            reason = "every given label is wrong"
    if reason:
        reasons.update(average_precision=reason, auroc=reason)
        return Metrics(metrics, reasons)
    # Half a second to import, and only this needs it.
    from sklearn.metrics import average_precision_score, roc_auc_score

    metrics["average_precision"] = float(average_precision_score(wrong, noise))
    metrics["auroc"] = float(roc_auc_score(wrong, noise))
    return Metrics(metrics, reasons)


def calibration_metrics(noise: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """Whether, of the rows with a noise score around s, the share s is wrongly labelled.

    Source: Naeini, Cooper and Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning":
    the expected calibration error, over bins of equal width.

    Args:
        noise: (n,) float in [0, 1], n at least 1.
        wrong: (n,) bool, whether the given label is wrong.

    Returns:
        reliability: one dict for each of ten bins, in order: lower, upper (a score on the border of two bins
            belongs to the upper one), count, mean_score and share_wrong, None where the bin is empty.
        expected_calibration_error: sum of count / n |mean_score - share_wrong| over the bins, in [0, 1].
    """
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    # In the scores' own precision: 0.9 as float32 is less than 0.9.
    bins = np.searchsorted(edges[1:-1].astype(noise.dtype), noise, side="right")
    reliability = []
    error = 0.0
    for place in range(NUM_BINS):
        inside = bins == place
        count = int(inside.sum())
        score = float(noise[inside].mean(dtype=np.float64)) if count else None
        share = float(wrong[inside].mean()) if count else None
        if score is not None and share is not None:
            error += count / len(noise) * abs(score - share)
        reliability.append(
            {
                "lower": float(edges[place]),
                "upper": float(edges[place + 1]),
                "count": count,
                "mean_score": score,
                "share_wrong": share,
            }
        )
    return {"expected_calibration_error": error, "reliability": reliability}


def flag_metrics(flagged: np.ndarray, wrong: np.ndarray) -> Metrics:
    """How well flags find the wrong labels.

    Args:
        flagged: (n,) bool, n at least 1.
        wrong: (n,) bool, whether the given label is wrong.

    Returns:
        flagged (a count), flagged_share, precision, recall and f1.
    """
    found, flags, errors = int((flagged & wrong).sum()), int(flagged.sum()), int(wrong.sum())
    reasons: dict[str, str] = {}
    if not flags:
        reasons["precision"] = "nothing is flagged"
    if not errors:
        reasons["recall"] = "no given label is wrong"
    if not flags + errors:
        reasons["f1"] = "nothing is flagged and no given label is wrong"
    metrics = {
        "flagged": flags,
        "flagged_share": flags / len(flagged),
        "precision": found / flags if flags else None,
        "recall": found / errors if errors else None,
        "f1": 2 * found / (flags + errors) if flags + errors else None,
    }
    return Metrics(metrics, reasons)


def label_metrics(given: np.ndarray, corrected: np.ndarray, true: np.ndarray) -> Metrics:
    """How many labels are right before and after.

    Args:
        given: (n,) int64 class indices.
        corrected: (n,) int64, of the same classes.
        true: (n,) int64; negative where the true label is none of the classes.

    Returns:
        label_accuracy_given and label_accuracy_corrected in [0, 1]; changed, changed_right and changed_wrong,
        counts.
    """
    changed, right = corrected != given, corrected == true
    reasons: dict[str, str] = {}
    metrics: dict[str, Any] = {
        "label_accuracy_given": None,
        "label_accuracy_corrected": None,
        "changed": int(changed.sum()),
        "changed_right": int((changed & right).sum()),
        "changed_wrong": int((changed & ~right).sum()),
    }
    if len(true):
        metrics["label_accuracy_given"] = float((given == true).mean())
        metrics["label_accuracy_corrected"] = float(right.mean())
    else:
        reason = "no row has a true label"
        reasons.update(label_accuracy_given=reason, label_accuracy_corrected=reason)
    return Metrics(metrics, reasons)


def mean_rank(noise: np.ndarray) -> np.ndarray:
    """How suspect several runs together find each row: the mean over the runs of the rank of its noise score.

    Ranks compare where scores do not: 0.6 is much to one method and little to another.

    Args:
        noise: (M, n) float, a run in each row; NaN where it has no score.

    Returns:
        (n,) float64 in [0, 1], high = suspect. The rank of a row in a run is the share of the run's scored rows that
        have a lower score, those with the same one (itself among them) counting half. A run without a score for a row
        does not count there; NaN where none has one.
    """
    # Half a second to import, and only this needs it.
    import pandas as pd

    scores = pd.DataFrame(noise.T)
    ranks = (scores.rank() - 0.5) / scores.count()
    # Means of the same ranks in another order are the same again: what tied stays tied.
    return ranks.mean(axis=1).round(12).to_numpy()


def flag_counts(flagged: np.ndarray, wrong: np.ndarray) -> dict[str, list[Any]]:
    """What it says of a row that some of several runs flag it.

    Args:
        flagged: (M, n) bool, a run in each row.
        wrong: (n,) bool, whether the given label is wrong.

    Returns:
        Lists of M + 1. flagged_by: 0 to M; rows: how many are flagged by exactly so many runs; share_wrong: of those
        rows, in [0, 1], None where there are none.
    """
    runs = len(flagged)
    flagged_by = flagged.sum(axis=0)
    rows = np.bincount(flagged_by, minlength=runs + 1).tolist()
    errors = np.bincount(flagged_by[wrong], minlength=runs + 1).tolist()
    shares = [some / count if count else None for some, count in zip(errors, rows, strict=True)]
    return {"flagged_by": list(range(runs + 1)), "rows": rows, "share_wrong": shares}


def mean_average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the classes of the average precision of their scores; classes with rows of one kind only are left out.

    Args:
        scores: (n, K) float, high = has the class.
        positive: (n, K) bool.

    Returns:
        In 0..1; NaN where a score is not finite, or every class is left out.
    """
    known = np.flatnonzero(positive.any(axis=0) & ~positive.all(axis=0))
    if not len(known) or not np.isfinite(scores).all():
        return float("nan")
    from sklearn.metrics import average_precision_score

    return float(np.mean([average_precision_score(positive[:, k], scores[:, k]) for k in known]))
