"""How many wrong labels a review is expected to find, and what that rests on.

Scores that no verified labels have calibrated promise too much. Measured on 5,000 CIFAR-10 images whose true labels are
known (`labelfix bench`, `fast` presets, two seeds, human labels and symmetric and asymmetric noise of 40 %), a review
of the n most suspect rows found at least this share of the wrong labels expected:

    n                               100     200     400     800
    bmm                            0.86    0.79    0.75    0.72
    joint                          0.78    0.77    0.73    0.74
    pencil                         0.86    0.79    0.75    0.81
    meta                           0.92    0.86    0.80    0.80
    nnaqc                          0.66    0.63    0.63    0.60
    cross-entropy                  0.19    0.25    0.30    0.39
    cross-entropy, trajectory      0.52    0.70    0.80    0.80

At most it found 1.10 of them, and 1.31 in all 5,000 rows. Of runs that left every label as it was, and said why
(`fit_reason`), it found nothing where the labels were clean, 0.13 to 23 times what was expected under semantic noise,
and 0.24 to 1.02 with `confident-learning` under the other noises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfix.accessor.rows import ELIGIBLE_COLUMNS, METADATA, PATH, check_count, require, suspects
from labelfix.errors import InputError
from labelfix.results.run_json import read_summary

_NORMAL_95 = 1.959964  # standard deviations on either side that hold 95 % of a normal distribution
# Of the wrong labels that uncalibrated scores promise, the least and the most that were there: see above.
_LEAST_FOUND, _LEAST_FOUND_BY_BASELINES, _MOST_FOUND = 0.6, 0.19, 1.31
_BASELINES = ("cross-entropy", "confident-learning")


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
    least, most = _found_of_promised(frame, summary)
    low, high = interval(looked_at, least, most)
    return ReviewBudget(
        rows=len(looked_at),
        expected_errors=round(expected, 2),
        low=low,
        high=high,
        share_of_errors=round(expected / all_errors, 4) if all_errors > 0 else None,
        rests_on=_rests_on(frame, summary, least, most),
    )


def interval(noise: np.ndarray, least: float = 1.0, most: float = 1.0) -> tuple[int, int]:
    """Fewest and most wrong labels that are likely among rows of some noise scores.

    The number of wrong labels among rows that are wrong with the probabilities p, each for itself, has a
    Poisson-binomial distribution: mean sum p, variance sum p (1 - p). The fewest are the lower end of its 95 % interval
    by the normal approximation if the scores are so much too high that p is `least` times each of them; the most are
    `most` times the upper end if they are p. Both are rounded outwards to whole rows.

    Args:
        noise: (n,) float64 noise scores, 0 to 1.
        least: of what the scores promise, the least share that may be there, 0 to 1.
        most: the largest share, at least 1; infinite where nothing is known.

    Returns:
        Both, 0 to n.
    """
    fewer = least * noise
    low = float(fewer.sum()) - _NORMAL_95 * math.sqrt(float((fewer * (1 - fewer)).sum()))
    high = float(noise.sum()) + _NORMAL_95 * math.sqrt(float((noise * (1 - noise)).sum()))
    ceiling = len(noise) if math.isinf(most) else min(len(noise), math.ceil(round(most * high, 6)))
    return max(0, math.floor(round(low, 6))), ceiling


def _found_of_promised(frame: pd.DataFrame, summary: dict[str, Any]) -> tuple[float, float]:
    """The least and the largest share of what the scores promise that was measured to be there.

    1 and 1 for calibrated scores; 0 and infinite where nothing is known or the run doubts itself.
    """
    run = frame.attrs.get(METADATA, {})
    if _diagnostics(summary, "calibration").get("is_calibrated"):
        return 1.0, 1.0
    if not summary or not run.get("fit_ok", True) or summary.get("fit_reason"):
        return 0.0, math.inf
    return _LEAST_FOUND_BY_BASELINES if run.get("method") in _BASELINES else _LEAST_FOUND, _MOST_FOUND


def _rests_on(frame: pd.DataFrame, summary: dict[str, Any], least: float, most: float) -> str:
    """What is known of how far the noise scores are probabilities, in one sentence."""
    calibration, trusted = _diagnostics(summary, "calibration"), _diagnostics(summary, "trusted")
    parts = ["the noise scores of the rows, read as the probability that a given label is wrong"]
    why = summary.get("fit_reason")
    if not frame.attrs.get(METADATA, {}).get("fit_ok", True):
        parts.append(f"the fit of this run failed{f' ({why})' if why else ''}, so do not rely on them")
    elif why:
        parts.append(f"the run doubts them itself: {why}")
    if calibration.get("is_calibrated"):
        parts.append(f"they are {calibration['reason']}")
    elif summary:
        parts += [_own_estimates(least), calibration.get("reason") or "not calibrated"]
    else:
        parts.append("summary.json is not beside the corrections to say whether they are calibrated")
    if trusted.get("precision") is not None:
        parts.append(
            f"of {trusted['rows']} verified rows that were kept to check the findings {trusted['flagged']} were"
            f" flagged, {trusted['precision']:.0%} of them rightly"
        )
    if least == most:
        parts.append("low to high is the 95 % that chance alone leaves open where the scores are right")
    elif least:
        parts.append(f"low allows for that, high for {most - 1:.0%} more than expected, and both for chance")
    else:
        parts.append("so low to high leaves everything open")
    return "; ".join(parts)


def _own_estimates(least: float) -> str:
    """What reviews found of the wrong labels that uncalibrated scores promised."""
    measured = "they are the method's own estimates: measured on 5,000 small images, a review"
    if least:
        return (
            f"{measured} of 100 to 800 suspects found as little as {least:.0%} of the wrong labels expected"
        )
    return (
        f"{measured} after a run that left every label as it was found none of the wrong labels expected where the"
        " labels were clean, and up to 23 times as many where the network errs as they do"
    )


def _diagnostics(summary: dict[str, Any], part: str) -> dict[str, Any]:
    return (summary.get("diagnostics") or {}).get(part) or {}


def _summary(frame: pd.DataFrame) -> dict[str, Any]:
    """The summary.json of the run that the frame was read from; empty where it is not there."""
    if PATH not in frame.attrs:
        return {}
    return read_summary(Path(frame.attrs[PATH]).parent)
