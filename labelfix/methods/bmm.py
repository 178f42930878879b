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
the class prior is the smoothed frequency of the given labels, not uniform; an epoch has no remainder; the
final mixture is fitted on -log P(given), P being the predictions of the tracking passes averaged over the
high-learning-rate part (`score_from=trajectory`), where the paper's own score (`score_from=method`) takes
the loss averaged over the last five tracking passes.

Settings: `weights_from=batch` weighs each batch with an extra forward of the current network, as the authors
do; `epoch` reuses the posterior of the last tracking pass and saves that forward.

Presets: `paper`, the 300 epochs for CIFAR-10 and CIFAR-100 (learning rate to a tenth after 99 and 249
epochs, bootstrapping from 105 on); `fast`, a first short schedule for a CPU.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from labelfix.batches import Batch, Labels
from labelfix.evidence import Evidence, Fit
from labelfix.losses import bootstrapped_targets, class_balance, mix, soft_cross_entropy
from labelfix.methods import base
from labelfix.methods.base import Method, Moment, Phase, Predict, setting
from labelfix.mixture import NoiseModel, noise_posterior

_CODE = "the authors' code"
_RECENT = 5
_WEIGHT_RANGE = (1e-4, 1 - 1e-4)
_CLEAN_NOISE_RATE = 0.02
_CLEAN_MEAN_GAP = 0.25
_CLEAN_DISAGREEMENT = 0.05


@dataclass(frozen=True)
class Settings(base.Settings):
    """Settings of BMM; the defaults are those of the fast preset."""

    warmup_epochs: int = setting(10, "epochs of mixup alone, before bootstrapping", source="105 in " + _CODE)
    bootstrap_epochs: int = setting(20, "epochs of dynamic bootstrapping", source="195 in " + _CODE)
    mixup_alpha: float = setting(32.0, "mixup shares are drawn from Beta(a, a)", source="Arazo 2019, 3.3")
    balance: float = setting(1.0, "weight of the class-balance penalty R", source="Arazo 2019, eq. 14")
    weights_from: str = setting(
        "epoch",
        "whose losses weigh a batch: an extra forward of it, or the last tracking pass",
        source="batch in " + _CODE,
        choices=("batch", "epoch"),
    )
    score_from: str = setting(
        "trajectory",
        "what the final mixture is fitted on: averaged predictions, or the last five losses",
        source="ours, measured",
        choices=("trajectory", "method"),
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("warmup_epochs", "bootstrap_epochs")


class BMM(Method):
    """M-DYR-H: mixup, dynamic hard bootstrapping weighted by a beta mixture, class balance."""

    Settings: ClassVar[type[base.Settings]] = Settings

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
            warmup_epochs=105, bootstrap_epochs=195, milestones=(99, 249), average_from=30, weights_from="batch"
        )
        return {"fast": Settings(), "paper": paper}

    def phases(self) -> tuple[Phase, ...]:
        """Mixup alone, then bootstrapping."""
        weighing = 1 if self.settings.weights_from == "batch" else 0
        return (
            Phase("mixup", self.settings.warmup_epochs, forward_units=4),
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
            "balance": self.settings.balance * class_balance(self._mean_probs(logits), self.labels.class_prior),
        }

    def after_epoch(self, when: Moment, predict: Predict) -> dict[str, float]:
        """Track the loss of every row on augmented images in evaluation mode, and fit the mixture anew."""
        logits = predict("weak")
        rows = torch.nonzero(self.given >= 0).squeeze(1)
        losses = F.cross_entropy(logits[rows], self.given[rows], reduction="none")
        # The epoch that has just ended, not the one that starts at this very moment.
        ended = Moment(when.phase, when.epoch - 0.5)
        self.remember(ended, rows, logits[rows])
        self.recent_losses[int(ended.epoch) % _RECENT, rows] = losses
        host_losses = losses.double().cpu().numpy()
        if not np.isfinite(host_losses).all():
            return {"flagged_share": float("nan")}
        model = NoiseModel.fit(host_losses)
        self.coefficients.copy_(model.coefficients())
        self.weights[rows] = noise_posterior(losses, self.coefficients)
        report = {"flagged_share": float((self.weights[rows] > 0.5).float().mean())}
        if model.mixture is not None:
            clean, noisy = model.mixture.means
            report |= {"clean_mean": clean, "noisy_mean": noisy, "noisy_weight": model.mixture.weight[1]}
        return report

    def evidence(self, predict: Predict) -> Evidence:
        """Posterior of the final mixture and (1 - w) given + w predicted, over the averaged predictions."""
        given = self.given.cpu().numpy()
        rows = np.flatnonzero(given >= 0)
        probs = self.trajectory.cpu().numpy().astype(np.float64)
        return bmm_evidence(self._final_losses(probs, given), probs, given, rows)

    def _final_losses(self, probs: np.ndarray, given: np.ndarray) -> np.ndarray:
        if self.settings.score_from == "method":
            return self.recent_losses[: self.settings.epochs].mean(dim=0).cpu().numpy()
        own = probs[np.arange(len(given)), np.maximum(given, 0)]
        return -np.log(np.maximum(own, 1e-12))

    def _guess(self, x: torch.Tensor) -> torch.Tensor:
        """One-hot prediction of the unmixed batch in training mode, which BatchNorm sees too (their code)."""
        with torch.no_grad():
            return F.one_hot(self.network(x).argmax(dim=1), self.labels.num_classes).float()

    def _batch_weights(self, batch: Batch) -> torch.Tensor:
        if self.settings.weights_from == "epoch":
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


def bmm_evidence(losses: np.ndarray, probs: np.ndarray, given: np.ndarray, rows: np.ndarray) -> Evidence:
    """The findings of BMM from final losses and averaged predictions.

    Args:
        losses: (N,) float, one per row; only `rows` count.
        probs: (N, K) averaged predictions.
        given: (N,) int64, -1 for none.
        rows: (R,) the rows that were trained on.

    Returns:
        noise w(1 - P_given) with ties broken by the loss, and the soft label (1 - w) given + w P.
    """
    noise = np.full(len(given), np.nan)
    soft = np.full(probs.shape, np.nan, dtype=np.float32)
    if not np.isfinite(losses[rows]).all():
        return Evidence(noise, soft, Fit(ok=False, reason="the losses are not finite: training diverged"))
    model = NoiseModel.fit(losses[rows])
    posterior = model.posterior(losses[rows])
    belief = posterior[:, None] * probs[rows]
    belief[np.arange(len(rows)), given[rows]] += 1 - posterior
    soft[rows] = belief / belief.sum(axis=1, keepdims=True)
    wrong = 1 - soft[rows, given[rows]].astype(np.float64)
    rank = np.empty(len(rows))
    rank[np.argsort(losses[rows], kind="stable")] = np.arange(len(rows)) / max(len(rows), 1)
    noise[rows] = 0.999 * wrong + 0.001 * rank
    disagreement = float((probs[rows].argmax(axis=1) != given[rows]).mean())
    return Evidence(noise, soft, _fit(model, wrong, disagreement), _diagnostics(model))


def _fit(model: NoiseModel, wrong: np.ndarray, disagreement: float) -> Fit:
    if model.mixture is None:
        return Fit(ok=False, reason="all rows have the same loss: no mixture can be fitted")
    clean, noisy = model.mixture.means
    rate = float(wrong.mean())
    if rate < _CLEAN_NOISE_RATE or (noisy - clean < _CLEAN_MEAN_GAP and disagreement < _CLEAN_DISAGREEMENT):
        return Fit(clean=True, reason=f"the labels look clean (estimated noise {rate:.1%}): none is changed")
    return Fit()


def _diagnostics(model: NoiseModel) -> dict[str, Any]:
    if model.mixture is None:
        return {}
    return {"mixture": dataclasses.asdict(model.mixture), "loss_scale": dataclasses.asdict(model.scale)}
