"""Copies of one image are judged together: they have one true label, whatever they were given."""

from __future__ import annotations

import dataclasses

import numpy as np

from labelfix.estimation.evidence import Evidence, others_mass

_TINY = 1e-12


def judged_together(evidence: Evidence, given: np.ndarray, copies: np.ndarray, known: np.ndarray) -> Evidence:
    """The evidence with one belief about the true label for all copies of an image.

    That is the geometric mean of what is believed of each of them: every given label counts once, and no two copies
    can seem to deserve each other's label. Where one of them was verified the others have its label.

    Args:
        evidence: row by row.
        given: (N,) int64 given labels, -1 for none.
        copies: (N,) int64, the first row of its copies, -1 for none.
        known: (N,) int64 verified labels, -1 for none.
    """
    rows = np.flatnonzero((copies >= 0) & np.isfinite(evidence.probs).all(axis=1))
    if not len(rows):
        return evidence
    group, place = np.unique(copies[rows], return_inverse=True)
    place = place.reshape(-1)
    beliefs = _pooled(evidence.probs[rows].astype(np.float64), place, len(group))
    verified = _verified(copies, known, group)
    beliefs[verified >= 0] = np.eye(beliefs.shape[1])[verified[verified >= 0]]
    probs, noise = evidence.probs.copy(), evidence.noise.copy()
    probs[rows] = beliefs[place]
    labelled = np.flatnonzero((given[rows] >= 0) & np.isfinite(evidence.noise[rows]))
    noise[rows[labelled]] = others_mass(beliefs[place[labelled]], given[rows[labelled]])
    return dataclasses.replace(evidence, noise=noise, probs=probs)


def _pooled(probs: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """(G, K): geometric mean of the beliefs (R, K) of each group, rows that sum to 1; `place` (R,) is a row's group."""
    logs = np.zeros((count, probs.shape[1]))
    np.add.at(logs, place, np.log(probs + _TINY))
    logs /= np.bincount(place, minlength=count)[:, None]
    beliefs = np.exp(logs - logs.max(axis=1, keepdims=True))
    return beliefs / beliefs.sum(axis=1, keepdims=True)


def _verified(copies: np.ndarray, known: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(G,) the verified label of each group; -1 for none, or several that contradict each other."""
    rows = np.flatnonzero((copies >= 0) & (known >= 0))
    low = np.full(len(copies), np.iinfo(np.int64).max)
    high = np.full(len(copies), -1)
    np.minimum.at(low, copies[rows], known[rows])
    np.maximum.at(high, copies[rows], known[rows])
    return np.where(low[group] == high[group], high[group], -1)
