"""How many wrong labels a review is expected to find, and what that rests on.

Noise scores that verified labels have calibrated are probabilities, and chance alone says how far a review can be from
their sum. Those of any other run are the method's own estimates, and nothing in the run says how far they are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfix.accessor.rows import ELIGIBLE_COLUMNS, METADATA, PATH, SUMMARY, check_count, require, suspects
from labelfix.errors import InputError
from labelfix.results.run_json import read_summary

_NORMAL_95 = 1.959964  # standard deviations on either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class ReviewBudget:
    """What a review of the most suspect rows is expected to find.

    Attributes:
        rows: that are looked at.
        expected_errors: wrong labels expected among them, 0 to `rows`.
        low: fewest of them that are likely, see `budget`.
        high: most of them.
        share_of_errors: of all wrong labels expected in the frame, the share that stands in these rows, 0 to 1; None
            where none is expected.
        rests_on: in plain words, what has to be true for these numbers to be right.
    """

    rows: int
    expected_errors: float
    low: int
    high: int
    share_of_errors: float | None
    rests_on: str


def budget(frame: pd.DataFrame, n: int) -> ReviewBudget:
    """See `FindingsAccessor.budget`."""
    require(frame, (*ELIGIBLE_COLUMNS, "noise_score"), "budget")
    check_count(n, "budget")
    noise = frame["noise_score"].to_numpy(float)[suspects(frame)]
    if not len(noise):
        raise InputError("budget: no valid, labelled, untrusted row of the frame has a noise score")
    looked_at = noise[:n]
    expected, all_errors = float(looked_at.sum()), float(noise.sum())
    summary = _summary(frame)
    low, high = interval(looked_at) if _is_calibrated(summary) else (0, len(looked_at))
    return ReviewBudget(
        rows=len(looked_at),
        expected_errors=round(expected, 2),
        low=low,
        high=high,
        share_of_errors=round(expected / all_errors, 4) if all_errors > 0 else None,
        rests_on=_rests_on(frame, summary),
    )


def interval(noise: np.ndarray) -> tuple[int, int]:
    """Fewest and most wrong labels that are likely among rows of some noise scores.

    The number of wrong labels among rows that are wrong with the probabilities p, each for itself, has a
    Poisson-binomial distribution: mean sum p, variance sum p (1 - p). These are the ends of its 95 % interval by the
    normal approximation, rounded outwards to whole rows.

    Args:
        noise: (n,) float64 noise scores, 0 to 1.

    Returns:
        Both, 0 to n.
    """
    mean, spread = float(noise.sum()), _NORMAL_95 * math.sqrt(float((noise * (1 - noise)).sum()))
    low, high = math.floor(round(mean - spread, 6)), math.ceil(round(mean + spread, 6))
    return max(0, low), min(len(noise), high)


def _is_calibrated(summary: dict[str, Any]) -> bool:
    return bool(_diagnostics(summary, "calibration").get("is_calibrated"))


def _rests_on(frame: pd.DataFrame, summary: dict[str, Any]) -> str:
    """What is known of how far the noise scores are probabilities, in one sentence."""
    calibration, trusted = _diagnostics(summary, "calibration"), _diagnostics(summary, "trusted")
    parts = ["the noise scores of the rows, read as the probability that a given label is wrong"]
    why = summary.get("fit_reason")
    if not frame.attrs.get(METADATA, {}).get("fit_ok", True):
        parts.append(f"the fit of this run failed{f' ({why})' if why else ''}, so do not rely on them")
    elif why:
        parts.append(f"the run doubts them itself: {why}")
    if _is_calibrated(summary):
        parts.append(f"they are {calibration['reason']}")
    elif summary:
        parts += ["they are the method's own estimates", calibration.get("reason") or "not calibrated"]
    else:
        parts.append("summary.json is not beside the corrections to say whether they are calibrated")
    if trusted.get("precision") is not None:
        parts.append(
            f"of {trusted['rows']} verified rows that were kept to check the findings {trusted['flagged']} were"
            f" flagged, {trusted['precision']:.0%} of them rightly"
        )
    if _is_calibrated(summary):
        parts.append("low to high is the 95 % that chance alone leaves open where the scores are right")
    else:
        parts.append("so low to high leaves everything open")
    return "; ".join(parts)


def _diagnostics(summary: dict[str, Any], part: str) -> dict[str, Any]:
    return (summary.get("diagnostics") or {}).get(part) or {}


def _summary(frame: pd.DataFrame) -> dict[str, Any]:
    """The summary.json of the run that the frame was read from, or what `score_labels` put there; empty without."""
    if SUMMARY in frame.attrs:
        return dict(frame.attrs[SUMMARY])
    if PATH not in frame.attrs:
        return {}
    return read_summary(Path(frame.attrs[PATH]).parent)
