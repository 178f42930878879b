"""What can be chosen of NNAQC: settings with their sources, and presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labelfix.errors import InputError
from labelfix.methods.settings import MethodSettings, setting
from labelfix.methods.two_readings import TwoReadingsSettings

_PAPER = "Jindal et al. 2019"


@dataclass(frozen=True)
class Settings(TwoReadingsSettings):
    """Settings of NNAQC; the defaults are those of the fast preset."""

    train_epochs: int = setting(40, "epochs of training", source="those of bmm; 45 in MatConvNet's example")
    alpha: float = setting(
        0.9, "weight of the noise-aware loss; the quasi-clustering loss has the rest", source=f"{_PAPER}, 4.1"
    )
    beta: float = setting(
        0.9, "weight of the side that `qc_weight_on` names; the other has the rest", source=f"{_PAPER}, 4.1"
    )
    qc_weight_on: str = setting(
        "label",
        "side of quasi-clustering that beta weighs; prediction as printed, which collapses at low alpha",
        source=f"ours, measured, and by {_PAPER}, table 5; prediction by its 3.1",
        choices=("label", "prediction"),
    )
    noise_layer: str = setting(
        "nonlinear",
        "what makes noisy from clean probabilities: a softmax of W q, or for contrast the mean of W's softmax rows",
        source=f"{_PAPER}, equation 3; linear by its equation 5 and table 1, Trace",
        choices=("nonlinear", "linear"),
    )
    first_flips: float = setting(
        5e-4, "share of wrong labels that the noise layer starts from", source="ours; the paper does not say"
    )
    layer_decay: float = setting(
        0.003,
        "L2 penalty of the nonlinear layer at a learning rate of 0.1, with 10 classes and up to 1,500 steps",
        source="ours, measured; the paper does not say",
    )
    trace: float = setting(
        1.0,
        "weight of the mean diagonal of the linear layer, which is pulled down",
        source=f"ours, measured on digits; a cost on the trace in {_PAPER}, 2",
    )
    dropout: float = setting(
        0.0,
        "share of the noise layer's outputs that are dropped in training",
        source=f"{_PAPER}, 4.1, without and with (Regu. NNAQC); the share is not stated",
    )
    score_from: str = setting(
        "trajectory",
        "what the findings are read from: averaged predictions, the noise model, or the mean of both",
        source="ours, measured",
        choices=("trajectory", "method", "both"),
    )
    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        super().check()
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 to 1")
        for name in ("layer_decay", "trace"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 up")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout}: must be a number from 0 up, and below 1")
        if not 0 < self.first_flips < 0.5:
            raise InputError(f"first_flips={self.first_flips}: must be a number over 0, and below 0.5")


def presets() -> dict[str, MethodSettings]:
    """`fast` for a CPU, its contrast with a linear layer, and MatConvNet's schedule for CIFAR-10 (4.1)."""
    paper = Settings(
        batch_size=100,
        train_epochs=45,
        milestones=(30, 40),
        average_from=5,
        average_until=30,
        final_share=0.0,
    )
    return {
        "fast": Settings(),
        "paper": paper,
        "fast-linear": Settings(noise_layer="linear", first_flips=0.05),
    }
