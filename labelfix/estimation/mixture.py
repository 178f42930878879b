"""Two-component mixtures over the loss of every row: the beta mixture of Arazo et al. 2019, or two gaussians.

Source: "Unsupervised Label Noise Modeling and Loss Correction", section 3.1, with the normalisation of the
authors' code. Differences, each measured on synthetic losses: the fit runs on a histogram (the figures are
the same to 1e-3 and it takes a hundredth of the time), its parameters are kept within bounds, the components
are ordered by mean, and the posterior is evaluated exactly and never falls as the loss rises. The gaussians
are scikit-learn's, fitted with the settings of DivideMix (Li et al. 2020) on the same normalised losses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from scipy.special import betaln, expit

_BINS = 5_000
_ITERATIONS = 10
_EDGE = 1e-3
_MIN_RANGE = 1e-6
_MIN_VARIANCE = 1e-6
_PARAMETER_BOUNDS = (1e-2, 1e3)
_WHOLE = (_EDGE, 1 - _EDGE)
_NAMES = ("clean", "noisy")


@dataclass(frozen=True)
class LossScale:
    """How a loss becomes a number x in (0, 1): percentiles 5 and 95 of the losses, as in the authors' code.

    Attributes:
        low: loss that is taken for 0.
        high: loss that is taken for 1.
    """

    low: float
    high: float

    @classmethod
    def of(cls, losses: np.ndarray) -> LossScale:
        """Percentiles of finite losses (N,)."""
        low, high = np.percentile(losses, [5, 95])
        return cls(float(low), float(high))

    @property
    def is_flat(self) -> bool:
        """True when the losses hardly differ, so that no mixture can be fitted."""
        return not self.high - self.low >= _MIN_RANGE

    def normalise(self, losses: np.ndarray) -> np.ndarray:
        """Map losses (N,) to float64 in [1e-3, 1 - 1e-3]."""
        low = self.low + 1e-5
        return np.clip((losses - low) / (self.high - low + 1e-6), _EDGE, 1 - _EDGE)


@dataclass(frozen=True)
class LogOdds:
    """log p(noisy | x) / p(clean | x) = constant + log_x log x + log_1mx log(1 - x) + slope x + bend x^2.

    Attributes:
        constant: and with log_x, log_1mx, slope and bend the factor of each term.
        smallest: a smaller x counts as this: the odds would rise again towards 0.
        largest: a larger x counts as this: the odds would fall again towards 1.
    """

    constant: float
    log_x: float = 0.0
    log_1mx: float = 0.0
    slope: float = 0.0
    bend: float = 0.0
    smallest: float = _EDGE
    largest: float = 1 - _EDGE


@dataclass(frozen=True)
class BetaMixture:
    """Two beta components; component 0 has the smaller mean and is the clean one.

    Attributes:
        alpha: first shape parameter of (clean, noisy).
        beta: second shape parameter of (clean, noisy).
        weight: mixing weights of (clean, noisy), sum 1.
    """

    alpha: tuple[float, float]
    beta: tuple[float, float]
    weight: tuple[float, float]

    @property
    def means(self) -> tuple[float, float]:
        """Mean of the clean and of the noisy component, each in (0, 1)."""
        clean, noisy = (a / (a + b) for a, b in zip(self.alpha, self.beta, strict=True))
        return clean, noisy

    def log_odds(self) -> LogOdds:
        """Of noisy against clean: const + da log x + db log(1 - x), which turns at da / (da + db) if at all."""
        (a0, a1), (b0, b1), (w0, w1) = self.alpha, self.beta, self.weight
        da, db = a1 - a0, b1 - b0
        rising = _rising(da / (da + db), is_peak=da > 0) if da * db > 0 else _WHOLE
        constant = float(np.log(w1) - np.log(w0) - betaln(a1, b1) + betaln(a0, b0))
        return LogOdds(constant, log_x=da, log_1mx=db, smallest=rising[0], largest=rising[1])

    def components(self) -> dict[str, dict[str, float]]:
        """Parameters of both components by name, as plain numbers."""
        parts = zip(_NAMES, self.alpha, self.beta, self.weight, self.means, strict=True)
        return {name: {"alpha": a, "beta": b, "weight": w, "mean": m} for name, a, b, w, m in parts}


@dataclass(frozen=True)
class GaussianMixture:
    """Two gaussian components; component 0 has the smaller mean and is the clean one.

    Attributes:
        means: of (clean, noisy), each in (0, 1).
        variance: of (clean, noisy), at least 5e-4.
        weight: mixing weights of (clean, noisy), sum 1.
    """

    means: tuple[float, float]
    variance: tuple[float, float]
    weight: tuple[float, float]

    def log_odds(self) -> LogOdds:
        """Of noisy against clean: a quadratic in x, which turns at -slope / (2 bend) unless both are equally wide."""
        (m0, m1), (v0, v1), (w0, w1) = self.means, self.variance, self.weight
        slope, bend = m1 / v1 - m0 / v0, (1 / v0 - 1 / v1) / 2
        rising = _rising(-slope / (2 * bend), is_peak=bend < 0) if bend else _WHOLE
        constant = float(np.log(w1 / w0) + (np.log(v0 / v1) + m0**2 / v0 - m1**2 / v1) / 2)
        return LogOdds(constant, slope=slope, bend=bend, smallest=rising[0], largest=rising[1])

    def components(self) -> dict[str, dict[str, float]]:
        """Parameters of both components by name, as plain numbers."""
        parts = zip(_NAMES, self.variance, self.weight, self.means, strict=True)
        return {name: {"variance": v, "weight": w, "mean": m} for name, v, w, m in parts}


def fit_beta_mixture(x: np.ndarray) -> BetaMixture:
    """Fit two beta components by ten EM steps from the authors' start, on a histogram of x.

    Args:
        x: (N,) float in (0, 1), normalised losses.

    Returns:
        The mixture, components ordered by mean.
    """
    bins = (x * _BINS).astype(np.int32)
    counts = np.bincount(bins, minlength=_BINS)
    used = counts > 0
    mass = counts[used].astype(np.float64)
    # The mean of a bin's values stands for them: exact where many rows share the edge value.
    points = np.bincount(bins, weights=x, minlength=_BINS)[used] / mass
    log_x, log_1mx = np.log(points), np.log1p(-points)
    alpha, beta = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    weight = np.array([0.5, 0.5])
    for _ in range(_ITERATIONS):
        log_pdf = (alpha - 1)[:, None] * log_x + (beta - 1)[:, None] * log_1mx - betaln(alpha, beta)[:, None]
        joint = np.maximum(weight[:, None] * np.exp(log_pdf), 1e-12)
        responsibility = joint / joint.sum(axis=0) * mass
        total = responsibility.sum(axis=1)
        mean = responsibility @ points / total
        variance = (responsibility * (points - mean[:, None]) ** 2).sum(axis=1) / total
        concentration = mean * (1 - mean) / np.maximum(variance, _MIN_VARIANCE) - 1
        alpha = np.clip(mean * concentration, *_PARAMETER_BOUNDS)
        beta = np.clip(alpha * (1 - mean) / mean, *_PARAMETER_BOUNDS)
        weight = total / total.sum()
    order = np.argsort(alpha / (alpha + beta), kind="stable")
    first, second = (int(k) for k in order)
    return BetaMixture(
        (float(alpha[first]), float(alpha[second])),
        (float(beta[first]), float(beta[second])),
        (float(weight[first]), float(weight[second])),
    )


def fit_gaussian_mixture(x: np.ndarray) -> GaussianMixture:
    """Fit two gaussian components with scikit-learn, at most ten EM steps, as DivideMix does (Li et al. 2020).

    Args:
        x: (N,) float in (0, 1), normalised losses.

    Returns:
        The mixture, components ordered by mean.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Estimator

    estimator = Estimator(2, max_iter=_ITERATIONS, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten steps are meant
        estimator.fit(x[:, None])
    means, variance = estimator.means_[:, 0], estimator.covariances_[:, 0, 0]
    first, second = (int(k) for k in np.argsort(means, kind="stable"))
    return GaussianMixture(
        (float(means[first]), float(means[second])),
        (float(variance[first]), float(variance[second])),
        (float(estimator.weights_[first]), float(estimator.weights_[second])),
    )


_FITS: dict[str, Callable[[np.ndarray], BetaMixture | GaussianMixture]] = {
    "beta": fit_beta_mixture,
    "gaussian": fit_gaussian_mixture,
}


@dataclass(frozen=True)
class NoiseModel:
    """A fitted mixture with the scale of its losses: from the loss of a row to p(wrong label).

    Attributes:
        scale: normalisation of the losses.
        mixture: beta or gaussian; None when the losses hardly differ (every row then counts as clean).
    """

    scale: LossScale
    mixture: BetaMixture | GaussianMixture | None

    @classmethod
    def fit(cls, losses: np.ndarray, mixture: str = "beta") -> NoiseModel:
        """Fit a mixture, beta or gaussian, on finite losses (N,) without those outside percentiles 5 and 95.

        Losses that hardly differ, or fewer than two inside, make no mixture.
        """
        scale = LossScale.of(losses)
        if scale.is_flat:
            return cls(scale, None)
        inside = losses[(losses >= scale.low) & (losses <= scale.high)]
        if len(inside) < 2 or np.ptp(inside) < _MIN_RANGE:
            return cls(scale, None)
        return cls(scale, _FITS[mixture](scale.normalise(inside)))

    @property
    def gap(self) -> float:
        """Distance between the means of the two components, 0 to 1; 0 without a mixture."""
        return 0.0 if self.mixture is None else self.mixture.means[1] - self.mixture.means[0]

    def coefficients(self) -> np.ndarray:
        """The posterior as nine numbers (9,) float32, so that a batch is weighed on its device without a wait.

        In order: low and width of the scale, then the fields of `LogOdds`.
        """
        if self.mixture is None:
            return np.array([0.0, 1.0, *astuple(LogOdds(-float("inf")))], np.float32)
        low = self.scale.low + 1e-5
        width = self.scale.high - low + 1e-6
        return np.array([low, width, *astuple(self.mixture.log_odds())], np.float32)

    def posterior(self, losses: np.ndarray) -> np.ndarray:
        """Probability (N,) float64 in [0, 1] that a row of such a loss belongs to the noisy component.

        It never falls as the loss rises. The log-odds of two components may turn: fall again near 1, or fall from 0
        on. x is therefore held on the rising side of their turning point.
        """
        coefficients = self.coefficients().astype(np.float64)
        low, width, constant, log_x, log_1mx, slope, bend, smallest, largest = coefficients
        x = np.clip((losses.astype(np.float64) - low) / width, smallest, largest)
        log_odds = constant + log_x * np.log(x) + log_1mx * np.log1p(-x) + (slope + bend * x) * x
        return np.asarray(expit(log_odds))


def _rising(turn: float, *, is_peak: bool) -> tuple[float, float]:
    """Where the log-odds rise: up to their peak, or from their trough on, held inside the edges."""
    turn = min(max(turn, _EDGE), 1 - _EDGE)
    return (_EDGE, turn) if is_peak else (turn, 1 - _EDGE)
