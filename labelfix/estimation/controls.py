"""Virtual controls: labels put wrong on purpose, as a laboratory's positive controls, to see what becomes of them.

A network that never saw a row does not depend on its label. So any wrong label can be put to any held-out row, and read
as the given ones are read. Nothing is drawn: every other label of every row counts, weighted by how probable it is that
this label is the wrong one, and the row's true class by the belief in it. (Elkan and Noto 2008, and the threshold
samples of Pleiss et al. 2020, are the nearest relatives.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelfix.estimation.noise_levels import blocks
from labelfix.estimation.noise_model import NoiseModel, evenly_spread

_MOST_WORK = 200_000_000


@dataclass(frozen=True)
class Controls:
    """What became of the labels that were put wrong, shares from 0 to 1.

    Attributes:
        found: of those put wrong as the data set's own errors go, how many are flagged.
        restored: how many of these would get their true label back.
        found_anywhere: flagged of those put wrong to any class alike: easier, where errors go to similar classes.
        found_hardest: flagged of those put to the class that fits the image next best: no error is harder to see.
    """

    found: float
    restored: float
    found_anywhere: float
    found_hardest: float


def virtual_controls(
    model: NoiseModel, probs: np.ndarray, given: np.ndarray, beliefs: np.ndarray, flag_above: float
) -> Controls:
    """Put every other label to the rows and count what is flagged and what is restored.

    Args:
        model: fitted on these rows.
        probs: (R, K) finite held-out predictions.
        given: (R,) int64; only spreads the rows where there are too many to read all.
        beliefs: (R, K) about the true class, which a control label must differ from.
        flag_above: noise above which a row is flagged.
    """
    num_classes = probs.shape[1]
    rows = evenly_spread(probs, given, max(1, _MOST_WORK // num_classes**2))
    wrong = model.transition.copy()
    np.fill_diagonal(wrong, 0)
    wrong /= wrong.sum(axis=1, keepdims=True)
    sums = np.zeros(4)
    for part in blocks(len(rows), num_classes**2):
        q, truth = model.beliefs(probs[rows[part]]), beliefs[rows[part]]
        noise, other, is_other_likelier = _read(q, model.transition)
        found = noise >= flag_above
        at = np.arange(len(q))[:, None]
        like_errors = truth @ wrong
        restored = is_other_likelier * truth[at, other] * wrong[other, np.arange(num_classes)]
        next_best = np.where(np.eye(num_classes, dtype=bool)[truth.argmax(axis=1)], -1, q).argmax(axis=1)
        sums += (
            (like_errors * found).sum(),
            restored.sum(),
            ((1 - truth) / (num_classes - 1) * found).sum(),
            found[at[:, 0], next_best].sum(),
        )
    return Controls(*np.clip(sums / len(rows), 0, 1).tolist())


def _read(q: np.ndarray, transition: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every label (B, K) put to a row: its noise, the likeliest other class, whether that one is likelier."""
    joint = q[:, :, None] * transition[None]  # row, true class, label
    own = np.einsum("njj->nj", joint).copy()
    total = joint.sum(axis=1)
    np.einsum("njj->nj", joint)[...] = -1
    other = joint.argmax(axis=1)
    return 1 - own / np.maximum(total, 1e-300), other, joint.max(axis=1) > own
