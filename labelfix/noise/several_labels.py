"""Planted noise where a row may have several labels: values in, values out; numpy only, no files.

    dropped:R    round(R n) of the n labels that rows have are taken away
    added:R      round(R m) of the m classes that labelled rows lack are given to them
    softened:R   round(R (n + m)) of all these become confidences: .6, .7, .8 or .9 where they were 1, and 1 less that
                 where they were 0, so that none says something else than before

Several go together, separated by commas, in the order in which they stand. What is hit depends on the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelfix.errors import InputError
from labelfix.noise.planting import generator

KINDS = ("dropped", "added", "softened")
_CONFIDENCES = np.array([0.6, 0.7, 0.8, 0.9], np.float32)


@dataclass(frozen=True)
class Part:
    """One kind of noise with its share, in [0, 1]."""

    kind: str
    rate: float


def is_for_several(text: str) -> bool:
    """Whether a noise is one of these, by its first word."""
    return text.partition(":")[0].strip() in KINDS


def parse_parts(text: str) -> tuple[Part, ...]:
    """Read `dropped:0.2,added:0.05`.

    Raises:
        InputError: another kind, a kind that stands there twice, or a rate that is no number from 0 to 1.
    """
    parts = []
    for word in text.split(","):
        kind, _, value = word.strip().partition(":")
        try:
            rate = float(value)
        except ValueError:
            rate = np.nan
        if kind not in KINDS or not 0 <= rate <= 1:
            raise InputError(
                f"--noise {text}: for several labels a row it is {', '.join(KINDS)} with rates from 0 to 1, as in"
                " dropped:0.2,added:0.05"
            )
        parts.append(Part(kind, rate))
    if len({part.kind for part in parts}) < len(parts):
        raise InputError(f"--noise {text}: a kind stands there twice; give each once")
    return tuple(parts)


def gives_confidences(targets: np.ndarray, parts: tuple[Part, ...]) -> bool:
    """Whether values (N, K) with this noise are more than yes and no, so that lists of labels cannot hold them."""
    return any(part.kind == "softened" for part in parts) or bool(((targets > 0) & (targets < 1)).any())


def plant_parts(targets: np.ndarray, parts: tuple[Part, ...], seed: int) -> np.ndarray:
    """(N, K) float32 values with noise.

    Args:
        targets: (N, K) float32 in [0, 1], NaN rows unlabelled; those count as having a class from a half on.
        parts: what to plant.
        seed: of the draw, >= 0.

    Raises:
        InputError: a negative seed.
    """
    rng = generator(seed)
    noisy = targets.copy()
    has = np.nan_to_num(targets) >= 0.5
    labelled = ~np.isnan(targets)
    for part in parts:
        of_kind = {"dropped": has, "added": labelled & ~has, "softened": labelled}[part.kind]
        places = np.flatnonzero(of_kind)
        hit = rng.permutation(places)[: round(part.rate * len(places))]
        if part.kind == "softened":
            sure = rng.choice(_CONFIDENCES, len(hit))
            noisy.flat[hit] = np.where(noisy.flat[hit] >= 0.5, sure, 1 - sure)
        else:
            noisy.flat[hit] = 0.0 if part.kind == "dropped" else 1.0
    return noisy
