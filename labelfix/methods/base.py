"""What every method shares: phases, and the contract with the trainer."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from labelfix.estimation.evidence import Evidence
from labelfix.estimation.posterior import held_out_evidence, pooled_evidence
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.schedules import step_decay
from labelfix.methods.settings import MethodSettings

Predict = Callable[[str], torch.Tensor]
"""predict(view) -> logits (N, K) float32 on the device, eval mode; NaN for rows without a valid image."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one loss.

    Attributes:
        name: shown in epochs.parquet.
        epochs: its length.
        forward_units: network passes a row and epoch, tracking included: 1 for a forward, 3 with backward.
        extra_units: those of them, a row and step, that are no forward of the network: a backward pass alone, tangents.
        views: the views of every batch, in order.
        fresh: whether it starts with the network's first weights (random or pretrained) and without momentum.
        ema_decay: decay a step of the exponential moving average of the weights that `predict` and the classifier
            take; 0 for the weights themselves.
    """

    name: str
    epochs: int
    forward_units: float
    views: tuple[str, ...] = ("weak",)
    fresh: bool = False
    ema_decay: float = 0.0
    extra_units: int = 0


@dataclass(frozen=True)
class Moment:
    """Where training stands.

    Attributes:
        phase: the current one.
        epoch: epochs done since the start of the run, as a float that moves with every step.
        velocity: momentum of the optimiser by parameter name, none before the first step; not to be changed.
    """

    phase: Phase
    epoch: float
    velocity: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)


class Method(nn.Module, ABC):
    """One paper: its phases, its loss, and what it says of the rows afterwards.

    Everything that must survive a restart is a parameter or a buffer. A method knows no file, no table and
    no class name.

    Args:
        network: (B, 3, H, H) to logits (B, K); on the device.
        labels: of all rows.
        settings: of the method's `settings_type`.
    """

    settings_type: ClassVar[type[MethodSettings]]
    default_folds: ClassVar[int] = 0
    """Folds of a scan that asks for none; 0 for a single training."""
    needs_trusted: ClassVar[bool] = False
    """Whether it learns from trusted samples: then a scan must have some."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What its results depend on beside the packages of every run."""

    network: nn.Module
    trajectory: torch.Tensor
    given: torch.Tensor

    def __init__(self, network: nn.Module, labels: Labels, settings: Any) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.settings = settings
        self.register_buffer("given", labels.given, persistent=False)
        # Running mean of the softmax of each row, the best detector that costs nothing (see `remember`).
        shape = (len(labels.given), labels.num_classes)
        self.register_buffer("trajectory", torch.zeros(shape, device=labels.given.device))

    @classmethod
    @abstractmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """Complete settings by name; `fast` and `paper` are always there."""

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The phases of a run, in order."""

    def learning_rate(self, when: Moment) -> float:
        """Step decay at the milestones of the settings."""
        settings = self.settings
        return step_decay(when.epoch, settings.learning_rate, settings.milestones, settings.decay)

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters by their weight decay, as SGD takes them. Default: all with that of the settings."""
        return [{"params": list(self.parameters()), "weight_decay": self.settings.weight_decay}]

    def trusted_slices(self, phase: Phase, steps: int, rng: np.random.Generator) -> list[np.ndarray] | None:
        """Rows of the trusted batch that goes with each step of an epoch, as `Batch.trusted`. Default: none.

        Args:
            phase: of the epoch.
            steps: of the epoch.
            rng: for the draw.
        """
        return None

    @abstractmethod
    def loss(self, when: Moment, batch: Batch) -> dict[str, torch.Tensor]:
        """Forward and loss of a batch: named scalar parts, whose sum is minimised."""

    def after_epoch(self, when: Moment, predict: Predict) -> dict[str, float]:
        """What a method does between epochs; returns numbers for epochs.parquet. Default: nothing."""
        return {}

    @abstractmethod
    def evidence(self, predict: Predict) -> Evidence:
        """What the method believes of the rows it trained on."""

    def averaged_evidence(
        self, final: torch.Tensor | None = None, share: float = 0.0, mixture: str = "beta"
    ) -> Evidence:
        """The pooled reading of the averaged predictions.

        Args:
            final: (N, K) logits of the trained network, whose softmax counts with weight `share`; default none.
            share: 0 to 1.
            mixture: beta or gaussian.
        """
        probs = self.trajectory.double()
        if final is not None:
            probs = torch.lerp(probs, final.softmax(dim=1).double(), share)
        epochs = len(self.settings.averaged)
        return pooled_evidence(probs.cpu().numpy(), self.given.cpu().numpy(), epochs, mixture)

    def held_out_evidence(self, logits: np.ndarray, given: np.ndarray, fitted: np.ndarray) -> Evidence:
        """What the method believes of rows that its network never saw, from their logits alone.

        Default: the pooled reading, whatever the network models: of a network that models the given label it takes
        the labels' noise out, of one that models the true label there is none to take out.

        Args:
            logits: (N, K), NaN for rows that are left out.
            given: (N,) int64, -1 for none.
            fitted: (N,) bool, the rows that the noise model is fitted on: those rows themselves, or the trained ones.
        """
        return held_out_evidence(logits, given, fitted)

    def remember(self, when: Moment, rows: torch.Tensor, logits: torch.Tensor) -> None:
        """Add the softmax of some rows to their running mean, within the window of the settings.

        The window runs from `average_from` to `average_until`: from when the network has learned the easy rows
        to before it learns the wrong ones. Every row must pass once an epoch.

        Args:
            when: the moment.
            rows: (B,) int64.
            logits: (B, K) of unmixed views.
        """
        epoch = int(when.epoch)
        if epoch in self.settings.averaged:
            mean = self.trajectory[rows]
            probs = logits.detach().float().softmax(dim=1)
            self.trajectory[rows] = torch.lerp(mean, probs, 1.0 / (epoch - self.settings.average_from + 1))
