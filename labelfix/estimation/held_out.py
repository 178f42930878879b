"""The evidence of held-out predictions: judged by what networks say that never saw the row, or as if they had not.

How many labels are wrong, and how sure a score is, comes from the held-out predictions alone. In which order rows stand
is, in folds, for both: predictions averaged over the training on a row remember its label, and yet rank better together
with those of networks that never saw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from labelfix.estimation.evidence import Evidence, Fit, Rule, others_mass, scattered
from labelfix.estimation.in_sample import as_told
from labelfix.estimation.judgement import DEFAULT_THRESHOLDS, Judgement, Thresholds, judge
from labelfix.estimation.noise_levels import Level
from labelfix.estimation.noise_levels import averaged as averaged_over

_TINY = 1e-9


def judged_evidence(
    probs: np.ndarray,
    given: np.ndarray,
    averaged: np.ndarray | None = None,
    score: np.ndarray | None = None,
    unseen: np.ndarray | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    levels: Sequence[Level] | None = None,
    another: np.ndarray | None = None,
) -> Evidence:
    """The evidence of held-out predictions, and the rule by which flags and corrections come of it.

    Args:
        probs: (N, K) held-out probabilities of the given labels; NaN rows are left out.
        given: (N,) int64, -1 for none.
        averaged: (N, K) predictions averaged over the training on the same rows, zeros where there are none; default
            none.
        score: (N,) by which rows are ranked and flagged instead; default by both predictions.
        unseen: (N,) rows that the network truly never saw, see `judge`; default all.
        thresholds: what is not estimated from the data.
        levels: of noise that was fitted on these rows and others (`together`); default fitted on these rows.
        another: (N, K) probabilities of another network that saw none of the rows, see `judge`; default none.
    """
    judged = judge(probs, given, thresholds, unseen, levels, another)
    rows = np.flatnonzero(np.isfinite(judged.noise))
    noise, beliefs, labels = judged.noise[rows], judged.beliefs[rows], given[rows]
    if averaged is not None and score is None:
        known = np.isfinite(averaged[rows]).all(axis=1) & (averaged[rows].sum(axis=1) > 0)
        seen = averaged[rows[known]].astype(np.float64)
        seen /= seen.sum(axis=1, keepdims=True)
        told = as_told(seen, probs[rows[known]], labels[known])
        beliefs[known] = _pooled(beliefs[known], averaged_over(judged.levels, told, labels[known]))
        # Among themselves: rows that no training was on have no second belief, which would lower their noise.
        noise[known] = _with_values(others_mass(beliefs[known], labels[known]), noise[known])
    beliefs = _with_noise(beliefs, noise, labels)
    changed = int((judged.corrected[rows] != labels).sum())
    # The verdict spares the classes that it would empty itself, once it has the order of both predictions.
    spared = int(np.isin(labels, judged.kept_classes).sum()) if changed else 0
    rule = _rule(beliefs.astype(np.float32), noise, labels, int(judged.flagged.sum()), changed + spared)
    if score is not None:
        # The beliefs stay: what is corrected is flagged by this order, and worth it by what is known.
        noise = _with_values(score[rows], noise)
    everywhere = judged.beliefs.copy()
    everywhere[rows] = beliefs
    return Evidence(
        scattered(noise, rows, len(given)),
        everywhere.astype(np.float32),
        Fit(reason=judged.reason, keeps_labels=not changed),
        _facts(judged),
        rule,
    )


def recounted(rule: Rule, before: np.ndarray, after: np.ndarray) -> Rule:
    """The rule that flags as many rows by noise `after` (N,) as this one does by noise `before` (N,)."""
    known = np.isfinite(before) & np.isfinite(after)
    return replace(rule, flag_above=_between(after[known], int((before[known] > rule.flag_above).sum())))


def _pooled(beliefs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Geometric mean (R, K) of two beliefs about rows: of held-out predictions, and of averaged ones."""
    pooled = np.sqrt((beliefs + _TINY) * (other + _TINY))
    return pooled / pooled.sum(axis=1, keepdims=True)


def _with_values(score: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The values of `noise` (R,) in the order of `score` (R,).

    >>> _with_values(np.array([5, 7, 6]), np.array([0.9, 0.1, 0.2]))
    array([0.1, 0.9, 0.2])
    """
    found = np.empty(len(noise))
    found[np.argsort(score, kind="stable")] = np.sort(noise)
    return found


def _with_noise(beliefs: np.ndarray, noise: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Beliefs (R, K) with 1 - noise in the given label, the others in proportion."""
    rows = np.arange(len(given))
    found = beliefs + _TINY
    found[rows, given] = 0
    found *= (noise / found.sum(axis=1))[:, None]
    found[rows, given] = 1 - noise
    return found


def _rule(
    beliefs: np.ndarray, noise: np.ndarray, given: np.ndarray, num_flagged: int, num_changed: int
) -> Rule:
    """The rule that flags, and of those corrects, so many of the rows; fewer where others are less probable."""
    rows = np.arange(len(given))
    flag_above = _between(noise, num_flagged)
    own = beliefs[rows, given].astype(np.float64)
    others = beliefs.copy()
    others[rows, given] = -1
    odds = np.where(noise > flag_above, others.max(axis=1) / np.maximum(own, _TINY), 0.0)
    # Where all that is more probable is taken, no larger number is needed.
    needed = _between(np.where(odds < 1, 0.0, odds), num_changed) if num_changed else np.inf
    is_all = num_changed >= (odds >= 1).sum() and num_changed > 0
    return Rule(flag_above, 1.0 if is_all else needed, needs_other=False, spares_classes=True)


def _between(values: np.ndarray, count: int) -> float:
    """A short number that `count` of the values are above, and what equals the last of them as float32; 1 for none.

    About half-way to the next value, so that rounding moves no row.

    >>> _between(np.array([0.1, 0.9, 0.5]), 1)
    0.7
    >>> _between(np.array([0.31234, 0.31237, 0.2]), 1)
    0.31235
    """
    if not count:
        return 1.0
    ranked = np.sort(values.astype(np.float32))[::-1].astype(np.float64)
    above = ranked[count - 1]
    below = float(max(ranked[ranked < above], default=0.0))
    middle, near = (above + below) / 2, (above - below) / 4
    short = (float(f"{middle:.{digits}g}") for digits in range(1, 10))
    return next((each for each in short if abs(each - middle) <= near), below)


def _facts(judged: Judgement) -> dict[str, Any]:
    """What the judgement says of the data set, for the summary."""
    facts: dict[str, Any] = {
        "estimate": {
            "finding": judged.found,
            "noise_rate": judged.rate,
            "noise_rate_low": judged.rate_low,
            "noise_rate_high": judged.rate_high,
            "noise_rate_by_class": [
                None if np.isnan(rates).any() else rates.round(6).tolist() for rates in judged.class_rates
            ],
            "gain": judged.gain,
            "gain_low": judged.gain_low,
            "gain_high": judged.gain_high,
        }
    }
    return facts if judged.controls is None else {**facts, "controls": asdict(judged.controls)}
