"""What can be chosen of joint optimisation: settings with their sources, and presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from labelfix.errors import InputError
from labelfix.methods.moving_labels import MovingLabelSettings
from labelfix.methods.settings import MethodSettings, setting

_PAPER = "the mixup paper, 4.2"
_CODE = "the code of Tanaka et al."
# Table 1 of the mixup paper: alpha, beta, learning rate of the first step, a of the second.
_CIFAR10 = {
    "sym10": (1.2, 0.8, 0.02, 0.5),
    "sym30": (1.2, 0.8, 0.03, 0.9),
    "sym50": (1.2, 0.8, 0.04, 2.0),
    "sym70": (1.2, 0.8, 0.08, 4.0),
    "sym90": (0.8, 0.4, 0.12, 8.0),
    "asym10": (0.8, 0.4, 0.03, 0.05),
    "asym20": (0.8, 0.4, 0.03, 0.6),
    "asym30": (0.8, 0.4, 0.03, 0.6),
    "asym40": (0.8, 0.4, 0.03, 0.8),
    "asym50": (0.8, 0.4, 0.03, 1.6),
}


@dataclass(frozen=True)
class Settings(MovingLabelSettings):
    """Settings of joint optimisation; the defaults are those of the fast preset."""

    correct_epochs: int = setting(
        33, "epochs of network and labels together, at `learning_rate`", source=f"200 in {_PAPER}"
    )
    finetune_epochs: int = setting(
        7, "epochs on the labels that came of it, which move no more", source=f"120 in {_PAPER}"
    )
    update_from: int = setting(
        8,
        "epochs on the given labels, before the labels are averaged anew after every epoch",
        source=f"measured on digits; 70 in {_PAPER}",
    )
    ring_epochs: int = setting(6, "last epochs that a label is the average of", source=f"10 in {_CODE}")
    average: str = setting(
        "ring",
        "what a label is the average of: the predictions of the last epochs, or of all so far",
        source=f"ring in {_CODE}; all for Clothing1M in {_PAPER}",
        choices=("ring", "all"),
    )
    labels: str = setting(
        "soft",
        "what the network is trained towards: the average itself, or its class",
        source=f"soft in {_CODE}; hard in algorithm 1 of the mixup paper",
        choices=("soft", "hard"),
    )
    balance: float = setting(1.2, "weight alpha of the class balance L_p", source="the mixup paper, table 1")
    entropy: float = setting(0.8, "weight beta of the entropy L_e", source="the mixup paper, table 1")
    prior: str = setting(
        "empirical",
        "class frequencies that L_p holds to: smoothed, of the given labels, or equal ones",
        source="ours, and Tanaka et al. for Clothing1M; uniform in the mixup paper, equation 6",
        choices=("empirical", "uniform"),
    )
    finetune: str = setting(
        "plain",
        "loss of the second step: cross-entropy of the images alone, or of the images and of mixed ones",
        source="Tanaka et al. 2018, measured; mixup in the mixup paper, algorithm 2",
        choices=("plain", "mixup"),
    )
    mixup_alpha: float = setting(
        2.0, "mixup shares of the second step are drawn from Beta(a, a)", source="the mixup paper, table 1"
    )
    warm_start: str = setting(
        "true",
        "whether the second step goes on with the weights of the first; else with the network's first weights",
        source=f"measured for short runs; false in {_CODE}, the mixup paper leaves it open",
        choices=("true", "false"),
    )
    finetune_rate: float = setting(
        0.005,
        "learning rate of the second step, before its first milestone",
        source=f"measured for short runs; 0.2 in {_PAPER}",
    )
    milestones: tuple[int, ...] = setting(
        (),
        "epochs of the second step, counted from its start, after which its learning rate falls by `decay`",
        source=f"none in 7 epochs; 40 and 80 of 120 in {_PAPER}",
    )
    phase_epochs: ClassVar[tuple[str, ...]] = ("correct_epochs", "finetune_epochs")

    def with_epochs(self, total: int) -> Self:
        """As of every method, with what lies inside a step scaled with that step.

        Raises:
            ValueError: fewer epochs than phases.
        """
        scaled = super().with_epochs(total)
        first = scaled.correct_epochs / self.correct_epochs
        second = scaled.finetune_epochs / self.finetune_epochs
        until = scaled.average_until
        if self.average_until <= self.correct_epochs:
            until = min(until, scaled.correct_epochs)  # a fresh network's first epochs must not slip in
        return replace(
            scaled,
            update_from=max(round(self.update_from * first), 1),
            ring_epochs=max(round(self.ring_epochs * first), 1),
            milestones=tuple(max(round(epoch * second), 1) for epoch in self.milestones),
            average_from=min(scaled.average_from, until - 1),
            average_until=until,
        )

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        super().check()
        for name in ("balance", "entropy", "finetune_rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 up")
        if not 0 < self.mixup_alpha < float("inf"):
            raise InputError(f"mixup_alpha={self.mixup_alpha}: must be a number over 0")
        if self.ring_epochs < 1:
            raise InputError(f"ring_epochs={self.ring_epochs}: must be at least 1")
        if not 1 <= self.update_from <= self.correct_epochs:
            raise InputError(
                f"update_from={self.update_from}: must be at least 1, and at most correct_epochs "
                f"({self.correct_epochs})"
            )


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: `fast` for a CPU, and those of the mixup paper."""
    tables = {f"paper-cifar10-{noise}": _cifar10(*row) for noise, row in _CIFAR10.items()}
    clothing = Settings(
        batch_size=32,
        learning_rate=8e-4,
        weight_decay=1e-3,
        correct_epochs=10,
        finetune_epochs=10,
        update_from=1,
        average="all",
        balance=2.4,
        entropy=0.8,
        finetune="mixup",
        mixup_alpha=0.8,
        warm_start="false",
        finetune_rate=5e-4,
        when_weak="go",
        final_share=0.0,
        milestones=(5,),
        average_from=0,
        average_until=10,
    )
    return {
        "fast": Settings(),
        "paper": tables["paper-cifar10-sym50"],
        **tables,
        "paper-clothing1m": clothing,
    }


def _cifar10(alpha: float, beta: float, rate: float, mixup_alpha: float) -> Settings:
    """200 and 120 epochs in batches of 128, with the numbers of a column of table 1."""
    return Settings(
        batch_size=128,
        learning_rate=rate,
        correct_epochs=200,
        finetune_epochs=120,
        update_from=70,
        ring_epochs=10,
        balance=alpha,
        entropy=beta,
        prior="uniform",
        finetune="mixup",
        mixup_alpha=mixup_alpha,
        warm_start="false",
        finetune_rate=0.2,
        when_weak="go",
        final_share=0.0,
        milestones=(40, 80),
        average_from=20,
        average_until=200,
    )
