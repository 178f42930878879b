"""What the pooled posterior found in the predictions of a network, and whether labels may be corrected from it.

How it was measured: tests/benchmarks/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelfix.estimation.evidence import Fit
from labelfix.estimation.mixture import NoiseModel

# A network is weak where few rows have a likely class, or many of its disagreements lie where none is likely: digits
# 0.7 to 1 and 0 to 0.09, CIFAR-10 0.3 to 0.65 and 0.13 to 0.2, digits with labels at random 0.1 to 0.25 of likely
# rows. Averages of many epochs are safe all the same, as they remember the given label; fewer, or predictions of rows
# it never saw, are not.
_LEAST_LIKELY = 0.6
_WEAK = 0.1
_ENOUGH_EPOCHS = 20
# Of 100 photographs a class a weak network learns too little: its corrections of human labels cost up to 5 points of
# accuracy, of 200 from -4 to +1; of 300 they mend a little, of 500 plainly. Where it finds a class likely those labels
# contradict it up to 1.2 times as often as it expects; symmetric noise of 0.4, 1.3 to 2 times, is mended from 100 on.
_ENOUGH_ROWS = 300
_PLAIN_MARGIN = 1.3
_HELD_OUT_MARGIN = 2  # clean labels of digits under heavy pixel noise: 1.1 to 1.4
# 800 digits with 20 % noise learned by heart: 0.55; with clean labels over 0.9; photographs with semantic noise 0.3.
_MOSTLY_SURE = 0.7


@dataclass(frozen=True)
class PosteriorEstimate:
    """What `pooled_posterior` finds in the predictions of R rows.

    Attributes:
        model: the mixture on the class-relative losses.
        losses: those of the fitted rows.
        beliefs: (R, K) float64 about the true label, rows that sum to 1.
        sure_rows: how many rows the network is sure of.
        contradicted: share of those whose given label is another than the network's; 0 of none.
        doubt: how often the network expects to be wrong there: the mean of 1 - its certainty; 0 of none.
        disagreeing: share of all rows whose given label is another than the network's.
        likely: share of all rows where the network's class is likely.
        noise_rate: share of those whose given label is another.
        likely_doubt: how often the network expects to be wrong there.
    """

    model: NoiseModel
    losses: np.ndarray
    beliefs: np.ndarray
    sure_rows: int
    contradicted: float
    doubt: float
    disagreeing: float
    likely: float
    noise_rate: float
    likely_doubt: float

    def facts(self) -> dict[str, float]:
        """What the verdicts on the whole run rest on, for the summary."""
        names = ("sure_rows", "contradicted", "doubt", "disagreeing", "likely", "noise_rate", "likely_doubt")
        return {name: getattr(self, name) for name in names}

    @property
    def looks_clean(self) -> bool:
        """Whether the labels contradict the network, where it is sure and where a class is likely, within its doubt.

        Photographs that it does not know by heart show label noise first where it is sure; digits that it has learned
        by heart, with their wrong labels, first where a class is only likely.
        """
        return self.contradicted <= self.doubt and self.noise_rate <= self.likely_doubt

    @property
    def is_weak(self) -> bool:
        """Whether few rows have a likely class, or many disagreements lie among the rest: then errors are its own."""
        return is_weak(self.likely, self.disagreeing, self.noise_rate)

    @property
    def rows_of_a_class(self) -> float:
        """Rows per class that the posterior rests on, on average."""
        return len(self.losses) / self.beliefs.shape[1]

    @property
    def has_few_rows(self) -> bool:
        """Whether a weak network had too few rows for its corrections, unless the labels contradict it plainly."""
        return self.rows_of_a_class < _ENOUGH_ROWS and self.noise_rate <= _PLAIN_MARGIN * self.likely_doubt


def is_weak(likely: float, disagreeing: float, noise_rate: float) -> bool:
    """Whether a network is too weak to correct labels; shares as in `PosteriorEstimate`, 0 to 1."""
    return likely < _LEAST_LIKELY or disagreeing - noise_rate > _WEAK


def posterior_fit(found: PosteriorEstimate, averaged_epochs: int) -> Fit:
    """Whether the labels are kept as they are, and why.

    Args:
        found: in the predictions.
        averaged_epochs: over how many epochs of training on these very rows they are averaged; 0 for rows that the
            network never saw.
    """
    if found.sure_rows and found.looks_clean:
        return Fit(keeps_labels=True, reason=_why_clean(found))
    if found.model.mixture is None:
        return Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    if not found.sure_rows:
        return Fit(
            keeps_labels=True, reason="the network is sure of no row: none is changed; train for more epochs"
        )
    if not averaged_epochs and found.contradicted <= _HELD_OUT_MARGIN * found.doubt:
        reason = (
            "too few labels contradict the networks that never saw them "
            f"({found.contradicted:.1%} where those are sure, and they expect to be wrong in {found.doubt:.1%}): "
            "suspects are flagged, none is changed"
        )
        return Fit(keeps_labels=True, reason=reason)
    if found.is_weak and (averaged_epochs < _ENOUGH_EPOCHS or found.has_few_rows):
        return Fit(keeps_labels=True, reason=_why_weak(found, averaged_epochs))
    return Fit()


def _why_clean(found: PosteriorEstimate) -> str:
    reason = (
        f"the labels look clean (where the network is sure {found.contradicted:.1%} contradict it, and it "
        f"expects to be wrong in {found.doubt:.1%}): none is changed"
    )
    share = found.sure_rows / len(found.losses)
    if share < _MOSTLY_SURE:
        reason += f"; it is sure of {share:.0%} of the rows only, and errors among the others may not show"
    return reason


def _why_weak(found: PosteriorEstimate, averaged_epochs: int) -> str:
    if not averaged_epochs:
        learned = "never saw these rows"
    elif averaged_epochs < _ENOUGH_EPOCHS:
        learned = f"was watched for {averaged_epochs} epochs only"
    else:
        learned = f"had only {found.rows_of_a_class:.0f} rows of a class to learn from"
    return (
        f"the network is too weak to correct labels (it disagrees with {found.disagreeing:.0%} of them, and with "
        f"{found.noise_rate:.0%} where it finds a class likely) and {learned}: suspects are flagged, none is changed"
    )
