"""`--method auto`: train the folds of several methods, and go on with those whose predictions are believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from labelfix import processes
from labelfix.config import ScanConfig
from labelfix.estimation.choice import Choice, most_likely, pool
from labelfix.estimation.judgement import Thresholds
from labelfix.training.folds import CrossFit
from labelfix.training.trainer import EpochReport


@dataclass(frozen=True)
class Compared:
    """The folds of all methods, and what came of them.

    Attributes:
        config: of the method that trains the classifier: the one believed most.
        crossed: pooled predictions of the methods that are believed.
        fits: of each method, by its name.
        choice: why; None where there was nothing to choose.
    """

    config: ScanConfig
    crossed: CrossFit
    fits: dict[str, CrossFit]
    choice: Choice | None

    @property
    def taken(self) -> tuple[str, ...]:
        """The methods that are believed."""
        return (self.config.method,) if self.choice is None else self.choice.taken

    @property
    def reports(self) -> dict[tuple[str, int | None], list[EpochReport]]:
        """Of the epochs of every fold, by the method and the fold."""
        return {
            (method, fold): some
            for method, found in self.fits.items()
            for fold, some in found.reports.items()
        }


def compare(
    configs: Sequence[ScanConfig], given: np.ndarray, fit: Callable[[ScanConfig], CrossFit]
) -> Compared:
    """Fit the folds of every method, and choose by how likely their predictions make the labels that were held out.

    Args:
        configs: of a method each, alike but for that; the folds hold out the same rows.
        given: (N,) int64 that were trained towards, -1 for none.
        fit: trains the folds of one.

    Returns:
        A method that diverged is not chosen, unless all of them did.
    """
    fits = {config.method: fit(config) for config in configs}
    # Of several processes the first alone has the predictions of all rows.
    choice = processes.from_first(lambda: _chosen(fits, given, configs[0].thresholds))
    taken = (configs[0].method,) if choice is None else choice.taken
    best = next(config for config in configs if config.method == taken[0])
    crossed = replace(fits[best.method], forward_units=sum(found.forward_units for found in fits.values()))
    if len(taken) > 1:
        together = pool([_probs(fits[name]) for name in taken])
        crossed = replace(crossed, logits=np.log(np.maximum(together, 1e-30)).astype(np.float32))
    return Compared(best, crossed, fits, choice)


def _chosen(fits: Mapping[str, CrossFit], given: np.ndarray, thresholds: Thresholds) -> Choice | None:
    """Among those that have not diverged; None where there is one method, or none is left."""
    probs = {name: _probs(found) for name, found in fits.items() if found.is_finite}
    if len(fits) == 1 or not probs:
        return None
    return most_likely(probs, given, thresholds)


def _probs(found: CrossFit) -> np.ndarray:
    # Of every method at once: no more than single precision is kept.
    return softmax(found.logits.astype(np.float64), axis=1).astype(np.float32)
