"""The two-component beta mixture of Arazo et al. 2019 over the loss of every row, and what can be read with it.

Source: "Unsupervised Label Noise Modeling and Loss Correction", section 3.1, with the normalisation of the
authors' code. Differences, each measured on synthetic losses: the fit runs on a histogram (the figures are
the same to 1e-3 and it takes a hundredth of the time), its parameters are kept within bounds, the components
are ordered by mean, and the posterior is evaluated exactly and never falls as the loss rises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaln

from labelfix.evidence import (
    class_relative_losses,
    ratio_score,
    transition_posterior,
    true_class_beliefs,
)

_BINS = 5_000
_ITERATIONS = 10
_EDGE = 1e-3
_MIN_RANGE = 1e-6
_MIN_VARIANCE = 1e-6
_PARAMETER_BOUNDS = (1e-2, 1e3)
# Between the geometric mean (1/2) and the product (1) of two beliefs that are both under-confident: measured on
# digits, where flags between 0.5 and 0.8 were all right, and on asymmetric noise, where the product overshoots.
_POOL_EXPONENT = 0.85


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


@dataclass(frozen=True)
class NoiseModel:
    """A fitted mixture with the scale of its losses: from the loss of a row to p(wrong label).

    Attributes:
        scale: normalisation of the losses.
        mixture: the beta mixture; None when the losses hardly differ (every row then counts as clean).
    """

    scale: LossScale
    mixture: BetaMixture | None

    @classmethod
    def fit(cls, losses: np.ndarray) -> NoiseModel:
        """Fit on finite losses (N,); what lies outside percentiles 5 and 95 is left out.

        Losses that hardly differ, or fewer than two inside, make no mixture.
        """
        scale = LossScale.of(losses)
        if scale.is_flat:
            return cls(scale, None)
        inside = losses[(losses >= scale.low) & (losses <= scale.high)]
        if len(inside) < 2:
            return cls(scale, None)
        return cls(scale, fit_beta_mixture(scale.normalise(inside)))

    @property
    def gap(self) -> float:
        """Distance between the means of the two components, 0 to 1; 0 without a mixture."""
        return 0.0 if self.mixture is None else self.mixture.means[1] - self.mixture.means[0]

    def coefficients(self) -> torch.Tensor:
        """The posterior as seven numbers (float32), so that a batch is weighed on its device without a wait.

        In order: low, width, constant, da, db, smallest x, largest x of `noise_posterior`.
        """
        if self.mixture is None:
            return torch.tensor([0.0, 1.0, -float("inf"), 0.0, 0.0, _EDGE, 1 - _EDGE])
        (a0, a1), (b0, b1), (w0, w1) = self.mixture.alpha, self.mixture.beta, self.mixture.weight
        constant = np.log(w1) - np.log(w0) - betaln(a1, b1) + betaln(a0, b0)
        smallest, largest = _monotone_range(a1 - a0, b1 - b0)
        low = self.scale.low + 1e-5
        width = self.scale.high - low + 1e-6
        return torch.tensor([low, width, constant, a1 - a0, b1 - b0, smallest, largest], dtype=torch.float32)

    def posterior(self, losses: np.ndarray) -> np.ndarray:
        """Probability (N,) float64 in [0, 1] that a row of such a loss belongs to the noisy component."""
        coefficients = self.coefficients().to(torch.float64)
        return noise_posterior(torch.from_numpy(losses.astype(np.float64)), coefficients).numpy()


def noise_posterior(losses: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """p(noisy | loss) of a fitted mixture, non-decreasing in the loss.

    The log-odds are const + da log x + db log(1 - x). With da, db > 0 they fall again near 1, with both
    negative they fall from 0 on; x is therefore held on the rising side of their turning point da / (da + db).

    Args:
        losses: (B,) float.
        coefficients: (7,) of `NoiseModel.coefficients`, on the same device.

    Returns:
        (B,) in [0, 1].
    """
    low, width, constant, da, db, smallest, largest = coefficients.unbind()
    x = torch.minimum(torch.maximum((losses - low) / width, smallest), largest)
    return torch.sigmoid(constant + da * torch.log(x) + db * torch.log1p(-x))


def mixture_belief(weights: np.ndarray, guess: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(1 - w) given + w guess, rows that sum to 1: weights (R,), guess (R, K), given (R,) int64."""
    belief = weights[:, None] * guess
    belief[np.arange(len(given)), given] += 1 - weights
    return belief / belief.sum(axis=1, keepdims=True)


def pooled_reading(
    probs: np.ndarray, given: np.ndarray
) -> tuple[NoiseModel, np.ndarray, np.ndarray, np.ndarray]:
    """Two readings of predictions, pooled.

    The mixture reading fits the beta mixture on the class-relative losses: noise w s, with the ratio score s,
    which keeps the order of the losses where w is flat; belief (1 - w) given + w q. The other reading is the
    transition-aware posterior r: noise 1 - r_given, belief r. The mixture is the better judge of symmetric
    noise, the posterior of classes that are swapped; the mean of both noises, and the sharpened geometric mean
    of both beliefs, lose little to either.

    Args:
        probs: (R, K) predictions.
        given: (R,) int64 in 0..K-1.

    Returns:
        The fitted mixture; the posterior (R, K); the pooled noise (R,) in [0, 1]; the pooled belief about the
        true label (R, K), rows that sum to 1.
    """
    losses = class_relative_losses(probs, given)
    model = NoiseModel.fit(losses)
    weights = model.posterior(losses)
    posterior, _ = transition_posterior(probs, given)
    wrong = 1 - posterior[np.arange(len(given)), given]
    noise = (weights * ratio_score(probs, given) + wrong) / 2
    mixture = mixture_belief(weights, true_class_beliefs(probs), given)
    pooled = (mixture * posterior) ** _POOL_EXPONENT
    return model, posterior, noise, pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1e-12)


def _monotone_range(da: float, db: float) -> tuple[float, float]:
    smallest, largest = _EDGE, 1 - _EDGE
    if da > 0 and db > 0:
        largest = min(max(da / (da + db), smallest), largest)
    elif da < 0 and db < 0:
        smallest = min(max(da / (da + db), smallest), largest)
    return smallest, largest
