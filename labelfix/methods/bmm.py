"""BMM: a beta mixture over the losses says which labels are wrong while mixup training goes on (m-dyr-h).

What it is for: the default. It needs no trusted samples and no noise rate, and stands 20 to 80 % of
symmetric noise. Mixup training keeps the network from learning wrong labels; a two-component beta mixture
over the loss of every row gives the probability w that its label is wrong; from then on each row is trained
towards (1 - w) given + w predicted (hard bootstrapping), with a penalty that keeps all classes in use.

When it fails: noise that always swaps the same two classes gives losses that are not bimodal; a pretrained
network at a small learning rate learns wrong labels before the mixture sees them; nearly clean data is split
in two all the same, which is recognised and said, and then nothing is relabelled.

Source: Arazo, Ortego, Albert, O'Connor, McGuinness 2019, "Unsupervised Label Noise Modeling and Loss
Correction", with details from the authors' code (losses are tracked in evaluation mode on augmented images;
the network's guess comes from a second, unmixed forward in training mode; percentiles 5 and 95 normalise).

Differences, all deliberate: the minus sign of equation 13 covers both terms; the mixture is fitted on a
histogram, bounded, ordered by mean and evaluated exactly so that the posterior never falls as the loss rises;
the class prior is the smoothed frequency of the given labels, not uniform; an epoch has no remainder. The final
reading (`score_from=trajectory`) takes P, the predictions of the tracking passes averaged over epochs, and
pools two judges: the mixture, fitted on -log P(given) relative to its class, and the transition-aware posterior
of methods that model the given label. The paper's own score (`score_from=method`) is the mixture on the loss
averaged over the last five tracking passes.

Settings: `weights_from=batch` weighs each batch with an extra forward of the current network, as the authors do;
`epoch` reuses the posterior of the last tracking pass and saves that forward; `average` (the fast preset) fits
the mixture on the averaged predictions so far, which are less noisy than any one epoch's.

Presets: `paper`, the 300 epochs for CIFAR-10 and CIFAR-100 (learning rate to a tenth after 99 and 249
epochs, bootstrapping from 105 on); `fast`, 32 epochs for a CPU, whose gentler mixup and smaller batches were measured
on digits and on 5,000 CIFAR-10 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.batches import Batch, Labels
from labelfix.errors import InputError
from labelfix.evidence import (
    Evidence,
    Fit,
    class_relative_losses,
    transition_posterior,
)
from labelfix.losses import bootstrapped_targets, class_balance, mix, soft_cross_entropy
from labelfix.methods import base
from labelfix.methods.base import Method, Moment, Phase, Predict, setting
from labelfix.mixture import NoiseModel, mixture_belief, noise_posterior, pooled_reading

_CODE = "the authors' code"
_RECENT = 5
_WEIGHT_RANGE = (1e-4, 1 - 1e-4)
_CLEAN_NOISE_RATE = 0.02
_CLEAN_MEAN_GAP = 0.25
_CLEAN_DISAGREEMENT = 0.05


@dataclass(frozen=True)
class Settings(base.Settings):
    """Settings of BMM; the defaults are those of the fast preset."""

    warmup_epochs: int = setting(24, "epochs of mixup alone, before bootstrapping", source="105 in " + _CODE)
    bootstrap_epochs: int = setting(8, "epochs of dynamic bootstrapping", source="195 in " + _CODE)
    mixup_alpha: float = setting(
        0.2, "mixup shares are drawn from Beta(a, a)", source="measured for short runs; 32 in Arazo 2019, 3.3"
    )
    balance: float = setting(1.0, "weight of the class-balance penalty R", source="Arazo 2019, eq. 14")
    weights_from: str = setting(
        "average",
        "whose losses weigh a batch: an extra forward of it, the last tracking pass, or their average so far",
        source="batch in " + _CODE,
        choices=("batch", "epoch", "average"),
    )
    score_from: str = setting(
        "trajectory",
        "what the final mixture is fitted on: averaged predictions, or the last five losses",
        source="ours, measured",
        choices=("trajectory", "method"),
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("warmup_epochs", "bootstrap_epochs")

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        super().check()
        if not 0 < self.mixup_alpha < float("inf"):
            raise InputError(f"mixup_alpha={self.mixup_alpha}: must be a number over 0")
        if not 0 <= self.balance < float("inf"):
            raise InputError(f"balance={self.balance}: must be a number from 0 up")


class BMM(Method):
    """M-DYR-H: mixup, dynamic hard bootstrapping weighted by a beta mixture, class balance."""

    coefficients: torch.Tensor
    weights: torch.Tensor
    recent_losses: torch.Tensor
    mean_probs: torch.Tensor
    settings_type: ClassVar[type[base.Settings]] = Settings

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        device = labels.given.device
        num_rows = len(labels.given)
        self.register_buffer("coefficients", torch.zeros(7, device=device))
        self.register_buffer("weights", torch.zeros(num_rows, device=device))
        self.register_buffer("recent_losses", torch.zeros((_RECENT, num_rows), device=device))
        self.register_buffer("mean_probs", labels.class_prior.clone())

    @classmethod
    def presets(cls) -> dict[str, base.Settings]:
        """`fast` for a CPU, `paper` for the CIFAR schedule of the authors."""
        paper = Settings(
            batch_size=128,
            learning_rate=0.1,
            warmup_epochs=105,
            bootstrap_epochs=195,
            milestones=(99, 249),
            average_from=30,
            average_until=99,
            mixup_alpha=32.0,
            weights_from="batch",
        )
        return {"fast": Settings(), "paper": paper}

    def phases(self) -> tuple[Phase, ...]:
        """Mixup alone, then bootstrapping."""
        warmup = self.settings.warmup_epochs
        tracked = sum(self._is_tracked(epoch) for epoch in range(warmup))
        weighing = 1 if self.settings.weights_from == "batch" else 0
        return (
            Phase("mixup", warmup, forward_units=3 + tracked / warmup),
            Phase("bootstrap", self.settings.bootstrap_epochs, forward_units=5 + weighing),
        )

    def loss(self, when: Moment, batch: Batch) -> dict[str, torch.Tensor]:
        """Equation 13 with the class balance of equation 14; during warm-up plain mixup."""
        (x,) = batch.views
        given = F.one_hot(self.given[batch.rows], self.labels.num_classes).float()
        partner = torch.from_numpy(batch.rng.permutation(len(x))).to(x.device, non_blocking=True)
        share = float(batch.rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
        if when.phase.name == "mixup":
            logits = self.network(mix(x, x[partner], share)).float()
            return {"mixup": soft_cross_entropy(logits, mix(given, given[partner], share))}
        targets = bootstrapped_targets(given, self._guess(x), self._batch_weights(batch))
        logits = self.network(mix(x, x[partner], share)).float()
        return {
            "bootstrap": soft_cross_entropy(logits, mix(targets, targets[partner], share)),
            "balance": self.settings.balance
            * class_balance(self._mean_probs(logits), self.labels.class_prior),
        }

    def after_epoch(self, when: Moment, predict: Predict) -> dict[str, float]:
        """Track the loss of every row on augmented images in evaluation mode, and fit the mixture anew."""
        # The epoch that has just ended, not the one that starts at this very moment.
        ended = Moment(when.phase, when.epoch - 0.5)
        if not self._is_tracked(int(ended.epoch)):
            return {}
        logits = predict("weak")
        rows = torch.nonzero(self.given >= 0).squeeze(1)
        losses = F.cross_entropy(logits[rows], self.given[rows], reduction="none")
        self.remember(ended, rows, logits[rows])
        self.recent_losses[int(ended.epoch) % _RECENT, rows] = losses
        host_losses = losses.double().cpu().numpy()
        if not np.isfinite(host_losses).all():
            return {"flagged_share": float("nan")}
        if self.settings.weights_from == "average" and int(ended.epoch) >= self.settings.average_from:
            host_losses = self._average_losses(rows)
        model = NoiseModel.fit(host_losses)
        self.coefficients.copy_(model.coefficients())
        self.weights[rows] = torch.from_numpy(model.posterior(host_losses)).to(self.weights)
        report = {"flagged_share": float((self.weights[rows] > 0.5).float().mean())}
        if model.mixture is not None:
            clean, noisy = model.mixture.means
            report |= {"clean_mean": clean, "noisy_mean": noisy, "noisy_weight": model.mixture.weight[1]}
        return report

    def _is_tracked(self, epoch: int) -> bool:
        """Whether anything needs the losses of an epoch: the average, or the bootstrapping that follows."""
        return epoch >= min(self.settings.average_from, self.settings.warmup_epochs - 1)

    def evidence(self, predict: Predict) -> Evidence:
        """The pooled reading of the averaged predictions, or the paper's own score."""
        given = self.given.cpu().numpy()
        if self.settings.score_from == "trajectory":
            return trajectory_evidence(self.trajectory.double().cpu().numpy(), given)
        tracked = sum(self._is_tracked(epoch) for epoch in range(self.settings.epochs))
        losses = (self.recent_losses.double().sum(dim=0) / min(tracked, _RECENT)).cpu().numpy()
        probs = predict("plain").softmax(dim=1).cpu().numpy()
        return paper_evidence(np.where(given >= 0, losses, np.nan), probs, given)

    def _average_losses(self, rows: torch.Tensor) -> np.ndarray:
        """Class-relative losses (R,) float64 of the averaged predictions: less noisy than any one epoch's."""
        given = self.given[rows].cpu().numpy()
        return class_relative_losses(self.trajectory[rows].cpu().numpy(), given)

    def _guess(self, x: torch.Tensor) -> torch.Tensor:
        """One-hot prediction of the unmixed batch in training mode, which BatchNorm sees too (their code)."""
        with torch.no_grad():
            return F.one_hot(self.network(x).argmax(dim=1), self.labels.num_classes).float()

    def _batch_weights(self, batch: Batch) -> torch.Tensor:
        if self.settings.weights_from != "batch":
            return self.weights[batch.rows].clamp(*_WEIGHT_RANGE)
        self.network.eval()
        with torch.no_grad():
            logits = self.network(batch.views[0]).float()
        self.network.train()
        losses = F.cross_entropy(logits, self.given[batch.rows], reduction="none")
        return noise_posterior(losses, self.coefficients).clamp(*_WEIGHT_RANGE)

    def _mean_probs(self, logits: torch.Tensor) -> torch.Tensor:
        """Mean softmax of the batch; with many classes a moving mean, whose newest term has the gradient."""
        mean = logits.softmax(dim=1).mean(dim=0)
        if self.labels.num_classes <= len(logits) / 4:
            return mean
        moving = torch.lerp(mean, self.mean_probs, 0.9)
        self.mean_probs.copy_(moving.detach())
        return moving


def paper_evidence(losses: np.ndarray, probs: np.ndarray, given: np.ndarray) -> Evidence:
    """The paper's reading: w = p(noisy component | loss), soft label (1 - w) given + w predicted.

    Args:
        losses: (N,) float64, NaN for rows that were not trained on.
        probs: (N, K) predictions of the trained network.
        given: (N,) int64, -1 for none.

    Returns:
        noise w, ties broken by the rank of the loss, and the soft label (the target of equation 10); noise and
        belief of the transition-aware posterior on clean data, which the mixture cuts in two all the same.
    """
    rows = np.flatnonzero(given >= 0)
    guess, labels = probs[rows].astype(np.float64), given[rows]
    model = NoiseModel.fit(losses[rows])
    posterior = model.posterior(losses[rows])
    disagrees = guess.argmax(axis=1) != labels
    rate = float(((posterior > 0.5) & disagrees).mean())
    if model.gap < _CLEAN_MEAN_GAP and disagrees.mean() < _CLEAN_DISAGREEMENT:
        rate = 0.0  # one heap of losses cut in two, and a network that agrees with nearly every label
    fit = _fit(model, rate)
    rank = np.empty(len(rows))
    rank[np.argsort(losses[rows], kind="stable")] = np.arange(len(rows)) / len(rows)
    wrong, beliefs = 0.999 * posterior + 0.001 * rank, mixture_belief(posterior, guess, labels)
    if fit.clean:
        beliefs, _ = transition_posterior(guess, labels)
        wrong = 1 - beliefs[np.arange(len(rows)), labels]
    return _spread(wrong, beliefs, given, fit, model)


def trajectory_evidence(probs: np.ndarray, given: np.ndarray) -> Evidence:
    """The pooled reading of averaged predictions.

    Args:
        probs: (N, K) averaged predictions; only rows with a given label count.
        given: (N,) int64, -1 for none.

    Returns:
        Noise and belief of `pooled_reading`; those of the transition-aware posterior alone on clean data.
    """
    rows = np.flatnonzero(given >= 0)
    model, posterior, wrong, beliefs = pooled_reading(probs[rows], given[rows])
    posterior_noise = 1 - posterior[np.arange(len(rows)), given[rows]]
    fit = _fit(model, float(posterior_noise.mean()))
    if fit.clean:
        wrong, beliefs = posterior_noise, posterior
    return _spread(wrong, beliefs, given, fit, model)


def _spread(
    wrong: np.ndarray, beliefs: np.ndarray, given: np.ndarray, fit: Fit, model: NoiseModel
) -> Evidence:
    """Evidence of all N rows from what the R labelled ones say: wrong (R,), beliefs (R, K)."""
    rows = np.flatnonzero(given >= 0)
    noise = np.full(len(given), np.nan)
    probs = np.full((len(given), beliefs.shape[1]), np.nan, dtype=np.float32)
    noise[rows], probs[rows] = wrong, beliefs
    return Evidence(noise, probs, fit, _diagnostics(model))


def _fit(model: NoiseModel, noise_rate: float) -> Fit:
    if noise_rate < _CLEAN_NOISE_RATE:
        return Fit(
            clean=True, reason=f"the labels look clean (estimated noise {noise_rate:.1%}): none is changed"
        )
    if model.mixture is None:
        return Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    return Fit()


def _diagnostics(model: NoiseModel) -> dict[str, Any]:
    if model.mixture is None:
        return {}
    mixture = model.mixture
    components = {
        name: {"alpha": a, "beta": b, "weight": w, "mean": m}
        for name, a, b, w, m in zip(
            ("clean", "noisy"), mixture.alpha, mixture.beta, mixture.weight, mixture.means, strict=True
        )
    }
    return {"mixture": components, "loss_low": model.scale.low, "loss_high": model.scale.high}
