"""BMM: a mixture over the losses says which labels are wrong while the network trains on.

What it is for: the default, without trusted samples or a noise rate, for 20 to 80 % of symmetric noise. A two-component
mixture over the loss of every row gives the probability w that its label is wrong; from then on each row is trained
towards (1 - w) given + w guess (dynamic bootstrapping). Mixup training, in most variants, keeps a network from learning
wrong labels by heart, with a penalty R that keeps all classes in use.

When it fails: a pretrained network at a small learning rate learns wrong labels before the mixture sees them; a
network that cannot learn the classes has no guess worth taking; nearly clean data is split in two all the same,
which is recognised and reported, and then nothing is relabelled.

Source: Arazo, Ortego, Albert, O'Connor, McGuinness 2019, "Unsupervised Label Noise Modeling and Loss
Correction", with details from the authors' code (losses are tracked in evaluation mode on augmented images;
the network's guess comes from a second, unmixed forward in training mode; percentiles 5 and 95 normalise).

Variants, by the names of the paper's tables (`variant=`): m-dyr-h is the paper's own, with the class itself as the
guess (hard); m-dyr-s takes the softmax (soft). md-dyr-h and md-dyr-sh mix images by how clean both rows are
(equation 15), alone for `dynamic_epochs` before bootstrapping; the guess of md-dyr-sh goes from soft to hard, its
temperature from 1 to 0.001 over `temperature_epochs`: for 85 % of wrong labels and more. dy-h and dy-s do without
mixup and R, as do st-h and st-s, whose w is .2 and .05 for every row: the paper's yardsticks (table 1).

Differences, all deliberate: the minus sign of equation 13 covers both terms; the mixture is fitted on a histogram,
bounded, ordered by mean and evaluated exactly so that the posterior never falls as the loss rises; the class prior is
the smoothed frequency of the given labels (`prior=uniform`, as in the paper presets, is the paper's); where a batch has
fewer than four rows a class the mean in R has the value of a moving one, with its own gradient; an epoch has no
remainder; m-dyr-s weighs both targets by the share of the images (equation 13), where the authors' code has a half
each; without mixup the guess is the same forward, and a soft one has its gradient (equation 10 to the letter). The md
variants take a half each, like that code, and before bootstrapping shares from Beta(32, 32) whatever `mixup_alpha` is.
The findings (`score_from=trajectory`) rest on the predictions averaged over epochs (of the tracking passes; without
mixup of the training forwards, which saves the passes), judged as those of every method (docs/estimation.md). The
paper's own (`score_from=method`, as in the paper presets) are the mixture on the loss averaged over the last five
tracking passes, flagged from a half on, and the label that is then most probable.

Settings: `weights_from=batch` weighs each batch with an extra forward of the current network, as the authors do;
`epoch` reuses the posterior of the last tracking pass and saves that forward; `average` (the fast presets) fits
the mixture on the averaged predictions so far, which are less noisy than any one epoch's. `mixture=gaussian` fits
two gaussians in place of the betas everywhere, as DivideMix does (the paper found them 5 points of AUC worse).

Presets: `fast`, 40 epochs of dy-h for a CPU, and `fast-mixup`, 34 of m-dyr-h, for small, easy data that a network
learns by heart; `paper`, the 300 epochs of m-dyr-h for CIFAR-10 (learning rate to a tenth after 99 and 249 epochs,
bootstrapping from 105 on), `paper-cifar100` and `paper-tinyimagenet`, the same; `paper-cifar10-m-dyr-s`, its soft form;
`paper-cifar10-md-dyr-h` and `paper-cifar10-md-dyr-sh`, dynamic mixup from 105 and bootstrapping from 110 on, for 80 %
of wrong labels and more, `paper-cifar100-md-dyr-sh` and `paper-tinyimagenet-md-dyr-sh`, the same; `paper-cifar10-dy-h`,
`paper-cifar10-dy-s`, `paper-cifar10-st-h` and `paper-cifar10-st-s`, 120 epochs without mixup (table 1). With
`--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is trained too, `fast-tune` (6).

How `fast` was found (5,000 CIFAR-10 images, average precision on human labels, one seed; the table stands in
tests/benchmarks/README.md): without mixup and tracking passes 40 epochs fit into 120 network passes a row instead of
30, .681 (34 epochs, 134 passes) to .693; 4 epochs of bootstrapping instead of 8, .697. A learning rate of .02 or
batches of 64 cost the baseline .016 to .019, a weight decay of 5e-4 costs .013. On digits, where mixup keeps the
network from memorising, going without costs corrections (.94 to .82 of the labels right with 40 % noise): hence
`fast-mixup`. It was found with a tenth of the gradient of R (that of the moving mean itself); the whole of it changes
little (digits, symmetric-exclusive noise of .4: average precision .9996 and .9996, .984 of the network's classes
right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from pydantic import model_validator
from torch import nn

from labelfix import processes
from labelfix.errors import InputError
from labelfix.estimation.evidence import Evidence, class_relative_losses
from labelfix.estimation.mixture import NoiseModel
from labelfix.estimation.mixture_posterior import described, paper_evidence
from labelfix.methods.base import Method, MethodSettings, Phase, Predict, TrainState, setting
from labelfix.methods.batch import Batch, Labels, Prior, to_device
from labelfix.methods.losses import (
    bootstrapped_targets,
    class_balance,
    clean_share,
    mean_probs,
    mix,
    noise_posterior,
    soft_cross_entropy,
)
from labelfix.methods.own_model import OwnModel, OwnModelSettings
from labelfix.methods.schedules import linear_steps

_CODE = "the authors' code"


@dataclass(frozen=True)
class Variant:
    """What a name of the paper's tables stands for.

    Attributes:
        mixup: none, static (one share a batch) or dynamic (a share for every row, by equation 15).
        guess: hard (one-hot), soft (softmax) or hardening (a softmax whose temperature falls).
        weight: w of every row; None for the posterior of the mixture.
    """

    mixup: str
    guess: str
    weight: float | None = None


VariantName = Literal["m-dyr-h", "m-dyr-s", "md-dyr-h", "md-dyr-sh", "dy-h", "dy-s", "st-h", "st-s"]
VARIANTS: dict[VariantName, Variant] = {
    "m-dyr-h": Variant("static", "hard"),
    "m-dyr-s": Variant("static", "soft"),
    "md-dyr-h": Variant("dynamic", "hard"),
    "md-dyr-sh": Variant("dynamic", "hardening"),
    "dy-h": Variant("none", "hard"),
    "dy-s": Variant("none", "soft"),
    "st-h": Variant("none", "hard", weight=0.2),
    "st-s": Variant("none", "soft", weight=0.05),
}


class Settings(OwnModelSettings):
    """Settings of BMM; the defaults are those of the fast preset."""

    variant: VariantName = setting(
        "dy-h",
        "what is mixed, what the guess is and how it is weighed, by the paper's name",
        source="Arazo 2019, tables 1 to 3; measured for short runs",
    )
    warmup_epochs: int = setting(
        36, "epochs of mixup (or cross-entropy) alone, before bootstrapping", source="105 in " + _CODE, ge=1
    )
    bootstrap_epochs: int = setting(
        4, "epochs after them, those of dynamic mixup included", source="195 in " + _CODE, ge=1
    )
    dynamic_epochs: int = setting(
        1, "epochs of dynamic mixup alone before bootstrapping, md variants only", source="5 in " + _CODE
    )
    temperature_epochs: int = setting(
        2,
        "epochs of bootstrapping in which md-dyr-sh turns hard, a step an epoch",
        source="89 in " + _CODE,
        ge=1,
    )
    mixup_alpha: float = setting(
        0.2,
        "mixup shares are drawn from Beta(a, a)",
        source="measured for short runs; 32 in Arazo 2019, 3.3",
        gt=0,
    )
    balance: float = setting(
        1.0,
        "weight of the class-balance penalty R, variants with mixup only",
        source="Arazo 2019, eq. 14",
        ge=0,
    )
    prior: Prior = setting(
        "empirical",
        "class frequencies that R holds to: smoothed, of the given labels, or equal ones",
        source="ours; uniform in Arazo 2019, eq. 14",
    )
    mixture: Literal["beta", "gaussian"] = setting(
        "beta", "what is fitted on the losses: two betas or two gaussians", source="Arazo 2019, 3.1"
    )
    weights_from: Literal["batch", "epoch", "average"] = setting(
        "average",
        "whose losses weigh a batch: an extra forward of it, the last tracking pass, or their average so far",
        source="batch in " + _CODE,
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("warmup_epochs", "bootstrap_epochs")

    @property
    def recipe(self) -> Variant:
        """What the variant stands for."""
        return VARIANTS[self.variant]

    @property
    def is_tracked(self) -> bool:
        """Whether every epoch ends with a pass over all rows.

        Without mixup the training forwards show every image as it is: where nothing else needs the pass, they do.
        """
        averaged = self.weights_from == "average" and self.score_from == "trajectory"
        return self.recipe.mixup != "none" or not averaged or self.average_from >= self.warmup_epochs

    @property
    def bootstrap_from(self) -> int:
        """First epoch of bootstrapping, from 0."""
        return self.warmup_epochs + (self.dynamic_epochs if self.recipe.mixup == "dynamic" else 0)

    def with_epochs(self, total: int) -> Self:
        """As of every method; dynamic mixup and the fall of the temperature are scaled too, to at least 1.

        Raises:
            ValueError: fewer epochs than phases.
        """
        scaled, scale = super().with_epochs(total), total / self.epochs
        if self.recipe.mixup == "dynamic" and scaled.bootstrap_epochs < 2:
            raise ValueError(f"{self.variant} has three phases, which need more epochs")
        dynamic = min(round(self.dynamic_epochs * scale), scaled.bootstrap_epochs - 1)
        temperature = max(round(self.temperature_epochs * scale), 1)
        return scaled.model_copy(
            update={"dynamic_epochs": max(dynamic, 1), "temperature_epochs": temperature}
        )

    @model_validator(mode="after")
    def _check_dynamic_epochs(self) -> Self:
        if self.recipe.mixup == "dynamic" and not 0 < self.dynamic_epochs < self.bootstrap_epochs:
            raise InputError(
                f"--set dynamic_epochs={self.dynamic_epochs}: {self.variant} needs at least 1, and fewer than "
                f"bootstrap_epochs ({self.bootstrap_epochs})"
            )
        return self


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: two fast ones for a CPU, `paper` for CIFAR-10, and the authors' other schedules."""
    paper = Settings(
        variant="m-dyr-h",
        batch_size=128,
        learning_rate=0.1,
        warmup_epochs=105,
        bootstrap_epochs=195,
        dynamic_epochs=5,
        temperature_epochs=89,
        milestones=(99, 249),
        average_from=30,
        average_until=99,
        mixup_alpha=32.0,
        prior="uniform",
        weights_from="batch",
        score_from="method",
    )
    no_mixup = {
        "variant": "dy-h",
        "warmup_epochs": 30,
        "bootstrap_epochs": 90,
        "milestones": (30, 80, 110),
        "average_from": 5,
        "average_until": 30,
    }
    unmixed = Settings(**{**dict(paper), **no_mixup})
    mixed = [name for name, recipe in VARIANTS.items() if recipe.mixup != "none" and name != paper.variant]
    plain = [name for name, recipe in VARIANTS.items() if recipe.mixup == "none"]
    mixup = Settings(
        variant="m-dyr-h",
        warmup_epochs=25,
        bootstrap_epochs=9,
        temperature_epochs=4,
        milestones=(26,),
        average_until=34,
    )
    return {
        "fast": Settings(),
        **Settings().pretrained(),
        "fast-mixup": mixup,
        "paper": paper,
        **{f"paper-cifar10-{name}": paper.changed({"variant": name}) for name in mixed},
        **{f"paper-cifar10-{name}": unmixed.changed({"variant": name}) for name in plain},
        "paper-cifar100": paper,
        "paper-cifar100-md-dyr-sh": paper.changed({"variant": "md-dyr-sh"}),
        "paper-tinyimagenet": paper,
        "paper-tinyimagenet-md-dyr-sh": paper.changed({"variant": "md-dyr-sh"}),
    }


_RECENT = 5
_TRACKED_AT_ONCE = 1 << 24  # logits
_WEIGHT_RANGE = (1e-4, 1 - 1e-4)
_DYNAMIC_ALPHA = 32.0
_TEMPERATURES = (1.0, 1e-3)


class BMM(OwnModel):
    """Bootstrapping weighed by a mixture over the losses, with or without mixup and class balance."""

    coefficients: torch.Tensor
    weights: torch.Tensor
    recent_losses: torch.Tensor
    mean_probs: torch.Tensor
    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings
    row_axes: ClassVar[Mapping[str, int]] = {**Method.row_axes, "weights": 0, "recent_losses": 1}

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        device = labels.given.device
        num_rows = len(labels.given)
        self.prior = labels.prior(settings.prior)
        self.register_buffer("coefficients", torch.zeros(9, device=device))
        self.register_buffer("weights", torch.zeros(num_rows, device=device))
        self.register_buffer("recent_losses", torch.zeros((_RECENT, num_rows), device=device))
        self.register_buffer("mean_probs", self.prior.clone())

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for the CIFAR schedule of the authors, and their other schedules."""
        return presets()

    def phases(self) -> tuple[Phase, ...]:
        """Mixup (or cross-entropy) alone, dynamic mixup alone in the md variants, then bootstrapping."""
        settings, recipe = self.settings, self.settings.recipe
        warmup = settings.warmup_epochs
        tracked = [settings.is_tracked and self._is_looked_at(epoch) for epoch in range(settings.epochs)]
        weighing = 1 if settings.weights_from == "batch" and recipe.weight is None else 0
        dynamic = settings.bootstrap_from - warmup
        first = "cross-entropy" if recipe.mixup == "none" else "mixup"
        looking = 0 if recipe.mixup == "none" else 1
        phases = (
            Phase(first, warmup, forward_units=3, tracking=sum(tracked[:warmup])),
            Phase(
                "dynamic-mixup",
                dynamic,
                forward_units=3 + weighing,
                tracking=sum(tracked[warmup : settings.bootstrap_from]),
            ),
            Phase(
                "bootstrap",
                settings.bootstrap_epochs - dynamic,
                forward_units=3 + looking + weighing,
                tracking=sum(tracked[settings.bootstrap_from :]),
            ),
        )
        return tuple(phase for phase in phases if phase.epochs)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Equation 13 with the class balance of equation 14, or equation 10; before bootstrapping no guess."""
        given = F.one_hot(self.given[batch.rows], self.labels.num_classes).float()
        if self.settings.recipe.mixup == "none":
            return self._plain_loss(when, batch, given)
        return self._mixed_loss(when, batch, given)

    def _plain_loss(self, when: TrainState, batch: Batch, given: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.network(batch.views[0]).float()
        if not self.settings.is_tracked:
            self.remember(when, batch.rows, logits)
        if when.phase.name == "cross-entropy":
            return {"cross_entropy": soft_cross_entropy(logits, given)}
        targets = bootstrapped_targets(given, self._guess(when, logits), self._noise(batch))
        return {"bootstrap": soft_cross_entropy(logits, targets)}

    def _mixed_loss(self, when: TrainState, batch: Batch, given: torch.Tensor) -> dict[str, torch.Tensor]:
        (x,), name = batch.views, when.phase.name
        partner = to_device(batch.rng.permutation(len(x)), x.device)
        # Until bootstrapping the guess is the given label, and in plain mixup every row counts as clean.
        guess = self._unmixed_guess(when, x) if name == "bootstrap" else given
        noise = torch.zeros_like(given[:, 0]) if name == "mixup" else self._noise(batch)
        targets = bootstrapped_targets(given, guess, noise)
        own, share = self._shares(when, batch.rng, noise, noise[partner])
        logits = self.network(mix(x, x[partner], own)).float()
        loss = soft_cross_entropy(logits, mix(targets, targets[partner], share))
        if name != "bootstrap":
            return {name.replace("-", "_"): loss}
        balance = class_balance(self._mean_probs(logits), self.prior)
        return {"bootstrap": loss, "balance": self.settings.balance * balance}

    def _shares(
        self, when: TrainState, rng: np.random.Generator, noise: torch.Tensor, partner_noise: torch.Tensor
    ) -> tuple[float | torch.Tensor, float]:
        """What a row's own image, and its own target, have of the mixture; the partner has the rest."""
        if self.settings.recipe.mixup == "static" or when.phase.name == "mixup":
            share = float(rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
            return share, share
        own = clean_share(noise, partner_noise).view(-1, 1, 1, 1)
        return own, 0.5 if when.phase.name == "bootstrap" else float(rng.beta(_DYNAMIC_ALPHA, _DYNAMIC_ALPHA))

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """Take the loss of every row, on augmented images in evaluation mode, and fit the mixture anew."""
        # The epoch that has just ended, not the one that starts now.
        ended = TrainState(when.phase, when.epoch - 0.5)
        if not self._is_looked_at(int(ended.epoch)):
            return {}
        given, device = self.given.cpu().numpy(), self.given.device
        rows = np.flatnonzero(given >= 0)
        if self.settings.is_tracked:
            self._track(ended, rows, predict("weak"))
        losses = self.recent_losses[int(ended.epoch) % _RECENT].cpu().double().numpy()[rows]
        if self.settings.weights_from == "average" and int(ended.epoch) >= self.settings.average_from:
            # Of the averaged predictions: less noisy than any one epoch's.
            averaged = self.ensembled_probs.cpu().numpy()[rows]
            losses = class_relative_losses(averaged, given[rows], processes.total)
        of_all = processes.gathered(losses)
        if not np.isfinite(of_all).all():
            return {"flagged_share": float("nan")}
        model = NoiseModel.fit(of_all, self.settings.mixture)
        weights = torch.from_numpy(model.posterior(losses)).float()
        self.coefficients.copy_(to_device(torch.from_numpy(model.coefficients()).float(), device))
        self.weights[to_device(rows, device)] = to_device(weights, device)
        report = {"flagged_share": float((weights > 0.5).float().mean())}
        if model.mixture is not None:
            clean, noisy = model.mixture.means
            report |= {"clean_mean": clean, "noisy_mean": noisy, "noisy_weight": model.mixture.weight[1]}
        return report

    def _track(self, ended: TrainState, rows: np.ndarray, logits: torch.Tensor) -> None:
        """Keep the losses and predictions of a tracking pass (their code, one after every epoch).

        A part at a time: the device has no room for predictions of all rows.
        """
        device, num_parts = self.given.device, -(-len(rows) * logits.shape[1] // _TRACKED_AT_ONCE)
        for part in np.array_split(rows, max(num_parts, 1)):
            some, found = to_device(part, device), to_device(logits[torch.from_numpy(part)], device)
            losses = F.cross_entropy(found, self.given[some], reduction="none")
            self.recent_losses[int(ended.epoch) % _RECENT, some] = losses
            self.remember(ended, some, found)

    def _is_looked_at(self, epoch: int) -> bool:
        """Whether anything needs the losses of an epoch: the average, or the bootstrapping that follows."""
        return epoch >= min(self.settings.average_from, self.settings.warmup_epochs - 1)

    def own_evidence(self, logits: torch.Tensor) -> Evidence:
        """The mixture on the loss averaged over the last five tracking passes."""
        given = self.given.cpu().numpy()
        tracked = sum(self._is_looked_at(epoch) for epoch in range(self.settings.epochs))
        losses = (self.recent_losses.cpu().double().sum(dim=0) / min(tracked, _RECENT)).numpy()
        probs = logits.softmax(dim=1).numpy()
        return paper_evidence(np.where(given >= 0, losses, np.nan), probs, given, self.settings.mixture)

    def diagnostics(self, logits: torch.Tensor) -> dict[str, Any]:
        """The mixture on the losses of the averaged predictions, which weighed the last batches."""
        given = self.given.cpu().numpy()
        rows = np.flatnonzero(given >= 0)
        losses = class_relative_losses(self.ensembled_probs.cpu().numpy()[rows], given[rows])
        return described(NoiseModel.fit(losses, self.settings.mixture), losses, "loss relative to its class")

    def _unmixed_guess(self, when: TrainState, x: torch.Tensor) -> torch.Tensor:
        """Of a forward of its own, without gradient, in training mode, which BatchNorm sees too (their code)."""
        with torch.no_grad():
            return self._guess(when, self.network(x).float())

    def _guess(self, when: TrainState, logits: torch.Tensor) -> torch.Tensor:
        """What the network predicts (B, K): its class for the hard form, else its softmax at the temperature."""
        if self.settings.recipe.guess == "hard":
            return F.one_hot(logits.argmax(dim=1), self.labels.num_classes).float()
        return (logits / self._temperature(when)).softmax(dim=1)

    def _temperature(self, when: TrainState) -> float:
        """1, or what md-dyr-sh has come down to, an equal step every epoch of bootstrapping."""
        settings = self.settings
        if settings.recipe.guess == "soft":
            return 1.0
        done = int(when.epoch) - settings.bootstrap_from
        return linear_steps(done, *_TEMPERATURES, settings.temperature_epochs)

    def _noise(self, batch: Batch) -> torch.Tensor:
        """Weights w of the rows (B,), by the current network, the last fit, or fixed."""
        if self.settings.recipe.weight is not None:
            return torch.full((len(batch.rows),), self.settings.recipe.weight, device=self.weights.device)
        if self.settings.weights_from != "batch":
            return self.weights[batch.rows].clamp(*_WEIGHT_RANGE)
        self.network.eval()
        with torch.no_grad():
            logits = self.network(batch.views[0]).float()
        self.network.train()
        losses = F.cross_entropy(logits, self.given[batch.rows], reduction="none")
        return noise_posterior(losses, self.coefficients).clamp(*_WEIGHT_RANGE)

    def _mean_probs(self, logits: torch.Tensor) -> torch.Tensor:
        mean = mean_probs(logits, self.mean_probs)
        self.mean_probs.copy_(mean.detach())
        return mean
