"""From held-out predictions to findings: how many labels are wrong, which, and what they should be.

The one entry is `judge`. It fits the noise (`noise_model`), finds how sure that is (`noise_levels`), decides by what is
expected (`expected_counts`), and examines itself with labels put wrong on purpose (`controls`). Nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from labelfix.errors import InputError
from labelfix.estimation.controls import Controls, virtual_controls
from labelfix.estimation.expected_counts import best_expected_f1, changes_that_pay, without_emptied
from labelfix.estimation.noise_levels import Level, averaged, by_level, noise_levels, quantile
from labelfix.estimation.noise_model import NoiseModel, fit_noise_models
from labelfix.estimation.unmixing import normalised

# Of the contradictions that the model expects, what the surest rows must show: people mislabel what is hard to see more
# often, and so these less, CIFAR-10's by an eighth to a half. What the numbers are worth: tests/benchmarks/README.md.
_LEAST_OF_EXPECTED = 0.6
_LEAST_SUREST = 100  # rows: of fewer chance says too much
_LEAST_RIGHT = 0.5  # of what a network says that may correct labels
_TINY = np.finfo(np.float64).tiny
_LEAST_ERROR = 0.005  # of the rate, whatever it is
# Wrong labels that flags look for beyond those that are seen, as a share of these: people mislabel what is hard to see,
# and of their errors a half to three quarters are seen.
_UNSEEN = 0.6
_MORE_PROBABLE = 0.5  # than not: what is flagged where the network's errors may pass for wrong labels
_LEAST_CLASS_ROWS = 20  # from which on a class has a rate of its own


_MAY_BE = {
    "confidence": (0.5, 0.999),
    "least_gain": (0.0, 1.0),
    "clean_at_most": (0.0, 1.0),
    "model_error": (0.0, 10.0),
    "sure": (0.5, 0.999),
    "anchor_share": (0.001, 1.0),
}


@dataclass(frozen=True)
class Thresholds:
    """What is not estimated from the data.

    Attributes:
        confidence: of the intervals, and of the bound that the gain of corrections must keep; 0.5 to 1.
        least_gain: share of all labels that corrections must make right on balance, at their lower bound, to be made.
        clean_at_most: upper bound of the noise rate under which the labels count as clean.
        model_error: share by which the rate may be wrong because no model is right; it widens the interval.
        sure: belief from which a row is counted for the transition matrix.
        anchor_share: share of a class's own rows that show what a sure prediction of it looks like.
    """

    confidence: float = 0.9
    least_gain: float = 0.005
    clean_at_most: float = 0.02
    model_error: float = 0.2
    sure: float = 0.8
    anchor_share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what no judgement can rest on.

        Raises:
            InputError: naming the number and what it may be.
        """
        for name, (low, high) in _MAY_BE.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name}={getattr(self, name)}: must be a number from {low:g} to {high:g}")


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Judgement:
    """The findings; rows without a given label or a finite prediction have noise NaN, no flag, and keep their label.

    Attributes:
        noise: (N,) float64, probability that the given label is wrong.
        beliefs: (N, K) float64 about the true class with the given label known, rows sum to 1; of rows without a label
            the prediction with the noise taken out, NaN without a prediction.
        flagged: (N,) bool.
        corrected: (N,) int64, -1 where there is no given label.
        rate: share of wrong labels among the judged.
        rate_low, rate_high: its interval.
        class_rates: (K, 3) float64, the same of the rows given each class: share, low, high; NaN of fewer than 20 rows.
        flag_above: noise at and above which a row is flagged; the F1 of the flags is expected to be best there.
        gain: expected rise of label accuracy by the corrections; 0 where none is made.
        gain_low, gain_high: its bounds, of `confidence` each.
        found: one of "noisy", "clean", "unclear".
        reason: in plain words.
        kept_classes: (M,) int64, classes whose labels are kept since the corrections would have emptied them.
        controls: what became of labels that were put wrong on purpose; None where nothing was judged.
        levels: of the noise by which they were judged; none where nothing was.
    """

    noise: np.ndarray
    beliefs: np.ndarray
    flagged: np.ndarray
    corrected: np.ndarray
    rate: float
    rate_low: float
    rate_high: float
    class_rates: np.ndarray
    flag_above: float
    gain: float
    gain_low: float
    gain_high: float
    found: str
    reason: str
    kept_classes: np.ndarray
    controls: Controls | None
    levels: Sequence[Level] = ()


def judge(
    probs: np.ndarray,
    given: np.ndarray,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    unseen: np.ndarray | None = None,
    levels: Sequence[Level] | None = None,
    another: np.ndarray | None = None,
) -> Judgement:
    """Findings from predictions of networks that never saw the rows.

    Args:
        probs: (N, K) held-out probabilities of the given labels, rows sum to 1; NaN rows are left out. K at least 2.
        given: (N,) int64, -1 for none.
        thresholds: see there.
        unseen: (N,) bool, rows that the network truly never saw, where the predictions of the others were only made
            like theirs (`in_sample`): what kind of noise it is, and whether the network is surer than it is right, is
            told from these; default all rows. Or float64, how many rows each stands for, 0 for others.
        levels: of noise that was fitted before, on these rows and others (`together`); default fitted on these rows.
        another: (N, K) probabilities of another network that truly saw none of the rows: it says which rows are surest,
            as of few unseen rows chance says too much; default the unseen rows by `probs`.

    Returns:
        The same for the same rows in any order, and with classes in any order.
    """
    num_rows, num_classes = probs.shape
    rows = np.flatnonzero((given >= 0) & np.isfinite(probs).all(axis=1))
    if not len(rows) or num_classes < 2:
        return _nothing(probs, given)
    seen, labels, row_weights = probs[rows], given[rows], _row_weights(unseen, rows)
    told = row_weights > 0
    levels = levels or _fitted_levels(seen, labels, row_weights, thresholds)
    weights = np.array([level.weight for level in levels])
    noise, other = _noise_and_other(beliefs := averaged(levels, seen, labels), labels)
    own, others = by_level(levels, seen, labels, other)
    sample = 0 if told.all() else int(row_weights.sum())
    model = levels[int(weights.argmax())].as_model()
    surest = _surest(model, seen, labels, row_weights, None if another is None else another[rows], thresholds)
    rate = surest.raised(_rate(1 - own, levels, thresholds, sample), thresholds.confidence)
    changed, gain = changes_that_pay(others - own, weights, thresholds.confidence, thresholds.least_gain)
    is_no_judge = _is_no_judge(seen[told], labels[told], rate[0], row_weights[told])
    flag_above = best_expected_f1(noise, _UNSEEN)
    if surest.are_too_few_contradicted or is_no_judge:
        changed, gain, rate = np.zeros_like(changed), (0.0, 0.0, 0.0), (rate[0], 0.0, rate[2])
        flag_above = max(flag_above, _MORE_PROBABLE)
    corrected, kept = without_emptied(labels, np.where(changed, other, labels), num_classes)
    found = _found(rate, gain := gain if (corrected != labels).any() else (0.0, 0.0, 0.0), thresholds)
    controls = virtual_controls(model, seen, labels, beliefs, flag_above)
    return Judgement(
        noise=_at(rows, noise, np.full(num_rows, np.nan)),
        beliefs=_at(rows, beliefs, _beliefs_without_label(model, probs)),
        flagged=_at(rows, noise >= flag_above, np.zeros(num_rows, dtype=bool)),
        corrected=_at(rows, corrected, given),
        rate=rate[0],
        rate_low=rate[1],
        rate_high=rate[2],
        class_rates=_class_rates(1 - own, labels, levels, thresholds, num_classes, sample),
        flag_above=flag_above,
        gain=gain[0],
        gain_low=gain[1],
        gain_high=gain[2],
        found=found,
        reason=_reason(found, rate, gain, controls, thresholds, is_no_judge=is_no_judge),
        kept_classes=kept,
        controls=controls,
        levels=levels,
    )


def _row_weights(unseen: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """(R,) float64, for how many rows each counts; 1 where nobody says it of any.

    Unequal weights are worth fewer rows than there are, (sum w)^2 / sum w^2 (Kish 1965): for so many they count in all.
    """
    found = np.ones(len(rows)) if unseen is None else unseen[rows].astype(np.float64)
    return found * (found.sum() / (found**2).sum()) if found.any() else np.ones(len(rows))


def _fitted_levels(
    seen: np.ndarray, labels: np.ndarray, row_weights: np.ndarray, thresholds: Thresholds
) -> Sequence[Level]:
    models = fit_noise_models(seen, labels, thresholds.sure, thresholds.anchor_share)
    return noise_levels(models, seen, labels, row_weights)


def _at(rows: np.ndarray, values: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    """(N,) or (N, K) values at these rows, as they were elsewhere."""
    placed = elsewhere.copy()
    placed[rows] = values
    return placed


def _noise_and_other(beliefs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noise (R,), summed so that small ones keep their digits, and the likeliest other class (R,)."""
    others = beliefs.copy()
    others[np.arange(len(labels)), labels] = 0
    noise = np.minimum(others.sum(axis=1), 1.0)
    others[np.arange(len(labels)), labels] = -1
    return noise, others.argmax(axis=1)


def _rate(
    noise: np.ndarray, levels: Sequence[Level], thresholds: Thresholds, sample: int = 0
) -> tuple[float, float, float]:
    """Share of wrong labels, and bounds that hold it: doubt about level and form, and about each row.

    Above it, a form counts as much as it explains, whatever it has to pay elsewhere: swapped classes are not ruled out
    because they would be costly.

    Args:
        noise: (L, R) at every level.
        levels: L of them.
        thresholds: confidence of the interval, and the share of the rate by which any model may be wrong.
        sample: rows left out of training, where what the others say was only made like what these say: the rate is then
            theirs. 0 where every row was.
    """
    by_level = noise.mean(axis=1)
    weights, free = (
        np.array(each) for each in zip(*((one.weight, one.free_weight) for one in levels), strict=True)
    )
    tail, mean = (1 - thresholds.confidence) / 2, float(weights @ by_level)
    row = weights @ noise
    variance = ((row * (1 - row)).sum() + 1) / noise.shape[1] ** 2
    if sample:
        variance += mean * (1 - mean) / sample
    spread = float(ndtri(1 - tail) * np.sqrt(variance))
    spread = float(np.hypot(spread, thresholds.model_error * mean + _LEAST_ERROR))
    low = float(quantile(by_level, weights, tail))
    high = max(float(quantile(by_level, each, 1 - tail)) for each in (weights, free))
    below, above = np.hypot(mean - low, spread), np.hypot(high - mean, spread)
    return mean, max(0.0, mean - float(below)), min(1.0, mean + float(above))


def _class_rates(
    noise: np.ndarray,
    labels: np.ndarray,
    levels: Sequence[Level],
    thresholds: Thresholds,
    num_classes: int,
    sample: int,
) -> np.ndarray:
    """(K, 3): rate and bounds of the rows given each class, see `_rate`; NaN of classes with few rows."""
    found = np.full((num_classes, 3), np.nan)
    for label in range(num_classes):
        rows = np.flatnonzero(labels == label)
        if len(rows) >= _LEAST_CLASS_ROWS:
            found[label] = _rate(noise[:, rows], levels, thresholds, sample * len(rows) // len(labels))
    return found


@dataclass(frozen=True)
class _Surest:
    """What the labels of the surest rows of each class say.

    Attributes:
        count: of these rows.
        contradicted: share of them whose label is another than the likeliest.
        expected: the share that the model expects.
    """

    count: int
    contradicted: float
    expected: float

    def raised(self, rate: tuple[float, float, float], confidence: float) -> tuple[float, float, float]:
        """The rate with its bounds, of which the upper one is what is seen here, where that is plainly more.

        A network that has learned the wrong labels as well as the right ones explains them without any noise: then only
        its surest rows, which it should be right about, tell that there may be some.
        """
        mean, low, high = rate
        doubt = np.sqrt(max(high * (1 - high), 1e-9) / self.count)
        is_above = self.contradicted > high + float(ndtri(confidence)) * doubt
        return mean, low, self.contradicted if is_above else high

    @property
    def are_too_few_contradicted(self) -> bool:
        """Whether the noise that the model sees elsewhere is missing here, where it would show best.

        Then the network is surer than it is right, and its own errors pass for noise. Somewhat fewer are usual: people
        mislabel what is hard to see more often.
        """
        return self.contradicted < _LEAST_OF_EXPECTED * self.expected


def _is_no_judge(
    seen: np.ndarray, labels: np.ndarray, rate: float, row_weights: np.ndarray | None = None
) -> bool:
    """Whether a network may be wrong more often than right, or than the labels are: it should correct none.

    Where it agrees with a share of the labels, and so many of these are wrong, it is right about that share over 1 -
    rate. The doubts of one that has learned little look like noise.
    """
    agreement = float(np.average(seen.argmax(axis=1) == labels, weights=row_weights))
    doubt = np.sqrt(max(agreement * (1 - agreement), 1e-9) / len(labels))
    return bool((agreement - doubt) / max(1 - rate, 1e-9) < max(_LEAST_RIGHT, rate))


def _surest(
    model: NoiseModel,
    seen: np.ndarray,
    labels: np.ndarray,
    row_weights: np.ndarray,
    another: np.ndarray | None,
    thresholds: Thresholds,
) -> _Surest:
    """The rows of every class that a network which never saw them is surest of, by the lead of the likeliest class.

    Args:
        model: of the noise.
        seen: (R, K) predictions, of which it expects contradictions.
        labels: (R,) given.
        row_weights: (R,) for how many rows each counts that was not seen, 0 for others.
        another: (R, K) of another network that saw none of the rows, NaN where it says nothing; None without one.
        thresholds: which share of the rows.
    """
    known = np.zeros(len(labels), dtype=bool) if another is None else np.isfinite(another).all(axis=1)
    if another is not None and known.any():
        seen, labels, row_weights = seen[known], labels[known], np.ones(int(known.sum()))
        logits = np.log(np.maximum(another[known].astype(np.float64), _TINY))
    else:
        seen, labels, row_weights = (each[row_weights > 0] for each in (seen, labels, row_weights))
        logits = model.logits(seen)
    share = max(thresholds.anchor_share, _LEAST_SUREST / len(labels))
    # By the lead, as beliefs round to 1.
    best, leading = logits.argmax(axis=1), np.partition(logits, -2, axis=1)[:, -2:]
    ranked = np.lexsort((leading[:, 0] - leading[:, 1], best))
    place = np.arange(len(best)) - np.searchsorted(best[ranked], best[ranked])
    size = np.bincount(best)[best[ranked]]
    rows = ranked[place < np.maximum(share * size, 1)]
    expected = 1 - np.einsum("nk,kn->n", model.beliefs(seen[rows]), model.transition[:, best[rows]])
    contradicted, expected = (
        float(np.average(each, weights=row_weights[rows])) for each in (labels[rows] != best[rows], expected)
    )
    return _Surest(len(rows), contradicted, expected)


def _beliefs_without_label(model: NoiseModel, probs: np.ndarray) -> np.ndarray:
    beliefs = np.full(probs.shape, np.nan)
    finite = np.isfinite(probs).all(axis=1)
    beliefs[finite] = model.beliefs(probs[finite])
    return beliefs


def _found(rate: tuple[float, float, float], gain: tuple[float, float, float], thresholds: Thresholds) -> str:
    if gain[1] > 0:
        return "noisy"
    return "clean" if rate[2] <= thresholds.clean_at_most else "unclear"


def _reason(
    found: str,
    rate: tuple[float, float, float],
    gain: tuple[float, float, float],
    controls: Controls,
    thresholds: Thresholds,
    *,
    is_no_judge: bool,
) -> str:
    sure = f"{thresholds.confidence:.0%} sure"
    if found == "clean":
        return f"the labels look clean: at most {rate[2]:.1%} of them are wrong ({sure}); none is changed"
    if is_no_judge:
        return (
            "too weak to say: the network is right too rarely to judge labels, of which it can only say that at most "
            f"{rate[2]:.1%} are wrong ({sure}); none is changed; more epochs, a stronger network or more rows would "
            "help"
        )
    seen = (
        f"of 100 labels put wrong on purpose {100 * controls.found:.0f} are found and {100 * controls.restored:.0f} "
        "would be restored"
    )
    wrong = f"{rate[0]:.1%} of the labels look wrong ({rate[1]:.1%} to {rate[2]:.1%}, {sure})"
    if found == "noisy":
        return f"{wrong}; corrections make {gain[0]:.1%} more of them right (at least {gain[1]:.1%}); {seen}"
    return (
        f"too weak to say: {wrong}, and no set of corrections is {sure} to make labels better; none is changed; "
        f"{seen}; a stronger network or more rows would help"
    )


def _nothing(probs: np.ndarray, given: np.ndarray) -> Judgement:
    none = np.full(len(given), np.nan)
    beliefs = normalised(np.where(np.isfinite(probs).all(axis=1, keepdims=True), probs, np.nan))
    return Judgement(
        noise=none,
        beliefs=beliefs,
        flagged=np.zeros(len(given), dtype=bool),
        corrected=given.copy(),
        rate=0.0,
        rate_low=0.0,
        rate_high=1.0,
        class_rates=np.full((probs.shape[1], 3), np.nan),
        flag_above=1.0,
        gain=0.0,
        gain_low=0.0,
        gain_high=0.0,
        found="unclear",
        reason="no label was judged: none is given to a row that a network which never saw it could read",
        kept_classes=np.zeros(0, dtype=np.int64),
        controls=None,
    )
