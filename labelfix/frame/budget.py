"""How many wrong labels a review is expected to find, and what that rests on."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labelfix.errors import InputError
from labelfix.frame.rows import JUDGED, METADATA, PATH, check_count, require, suspects

_NORMAL_95 = 1.959964  # standard deviations on either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class ReviewBudget:
    """What a review of the most suspect rows is expected to find.

    Attributes:
        rows: that are looked at.
        expected_errors: wrong labels expected among them, 0 to `rows`.
        low: fewest of them that chance leaves likely, see `budget`.
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
    """See `FindingsAccessor.budget`.

    The number of wrong labels among rows that are wrong with the probabilities p, each for itself, has a
    Poisson-binomial distribution: mean sum p, variance sum p (1 - p). `low` and `high` are its 95 % interval by the
    normal approximation, rounded outwards to whole rows.
    """
    require(frame, (*JUDGED, "noise_score"), "budget")
    check_count(n, "budget")
    noise = frame["noise_score"].to_numpy(float)[suspects(frame)]
    if not len(noise):
        raise InputError("budget: no valid, labelled, untrusted row of the frame has a noise score")
    looked_at = noise[:n]
    expected, all_errors = float(looked_at.sum()), float(noise.sum())
    spread = _NORMAL_95 * math.sqrt(float((looked_at * (1 - looked_at)).sum()))
    return ReviewBudget(
        rows=len(looked_at),
        expected_errors=round(expected, 2),
        low=max(0, math.floor(round(expected - spread, 6))),
        high=min(len(looked_at), math.ceil(round(expected + spread, 6))),
        share_of_errors=round(expected / all_errors, 4) if all_errors > 0 else None,
        rests_on=_rests_on(frame),
    )


def _rests_on(frame: pd.DataFrame) -> str:
    """What is known of how far the noise scores are probabilities, in one sentence."""
    said = _summary(frame)
    diagnostics = said.get("diagnostics", {})
    calibration, trusted = diagnostics.get("calibration", {}), diagnostics.get("trusted", {})
    parts = ["the noise scores of the rows, read as the probability that a given label is wrong"]
    if not frame.attrs.get(METADATA, {}).get("fit_ok", True):
        why = f" ({said['fit_reason']})" if said.get("fit_reason") else ""
        parts.append(f"the fit of this run failed{why}, so do not rely on them")
    if calibration.get("is_calibrated"):
        parts.append(f"they are {calibration['reason']}")
    else:
        parts.append(
            "they are the method's own estimates, which missed the true share of wrong labels by up to a fifth of it"
            " on 5,000 small images"
        )
        parts.append(
            calibration.get("reason")
            or "summary.json is not beside the corrections to say whether they are calibrated"
        )
    if trusted.get("precision") is not None:
        parts.append(
            f"of {trusted['rows']} verified rows that were kept to check the findings {trusted['flagged']} were"
            f" flagged, {trusted['precision']:.0%} of them rightly"
        )
    parts.append("low to high is the 95 % that chance alone leaves open where the scores are right")
    return "; ".join(parts)


def _summary(frame: pd.DataFrame) -> dict[str, Any]:
    """The summary.json of the run that the frame was read from; empty where it is not there."""
    if PATH not in frame.attrs:
        return {}
    try:
        said = json.loads((Path(frame.attrs[PATH]).parent / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
