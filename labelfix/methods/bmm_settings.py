"""What can be chosen of BMM: the paper's variants, settings with their sources, and presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from labelfix.errors import InputError
from labelfix.methods.settings import MethodSettings, setting

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


VARIANTS = {
    "m-dyr-h": Variant("static", "hard"),
    "m-dyr-s": Variant("static", "soft"),
    "md-dyr-h": Variant("dynamic", "hard"),
    "md-dyr-sh": Variant("dynamic", "hardening"),
    "dy-h": Variant("none", "hard"),
    "dy-s": Variant("none", "soft"),
    "st-h": Variant("none", "hard", weight=0.2),
    "st-s": Variant("none", "soft", weight=0.05),
}


@dataclass(frozen=True)
class Settings(MethodSettings):
    """Settings of BMM; the defaults are those of the fast preset."""

    variant: str = setting(
        "dy-h",
        "what is mixed, what the guess is and how it is weighed, by the paper's name",
        source="Arazo 2019, tables 1 to 3; measured for short runs",
        choices=tuple(VARIANTS),
    )
    warmup_epochs: int = setting(
        36, "epochs of mixup (or cross-entropy) alone, before bootstrapping", source="105 in " + _CODE
    )
    bootstrap_epochs: int = setting(
        4, "epochs after them, those of dynamic mixup included", source="195 in " + _CODE
    )
    dynamic_epochs: int = setting(
        1, "epochs of dynamic mixup alone before bootstrapping, md variants only", source="5 in " + _CODE
    )
    temperature_epochs: int = setting(
        2, "epochs of bootstrapping in which md-dyr-sh turns hard, a step an epoch", source="89 in " + _CODE
    )
    mixup_alpha: float = setting(
        0.2, "mixup shares are drawn from Beta(a, a)", source="measured for short runs; 32 in Arazo 2019, 3.3"
    )
    balance: float = setting(
        1.0, "weight of the class-balance penalty R, variants with mixup only", source="Arazo 2019, eq. 14"
    )
    prior: str = setting(
        "empirical",
        "class frequencies that R holds to: smoothed, of the given labels, or equal ones",
        source="ours; uniform in Arazo 2019, eq. 14",
        choices=("empirical", "uniform"),
    )
    mixture: str = setting(
        "beta",
        "what is fitted on the losses: two betas or two gaussians",
        source="Arazo 2019, 3.1",
        choices=("beta", "gaussian"),
    )
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
    final_share: float = setting(
        0.2, "weight of the trained network's predictions beside the averaged ones", source="ours, measured"
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
        return replace(scaled, dynamic_epochs=max(dynamic, 1), temperature_epochs=temperature)

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
        if not 0 <= self.final_share <= 1:
            raise InputError(f"final_share={self.final_share}: must be a number from 0 to 1")
        if self.temperature_epochs < 1:
            raise InputError(f"temperature_epochs={self.temperature_epochs}: must be at least 1")
        if self.recipe.mixup == "dynamic" and not 0 < self.dynamic_epochs < self.bootstrap_epochs:
            raise InputError(
                f"dynamic_epochs={self.dynamic_epochs}: {self.variant} needs at least 1, and fewer than "
                f"bootstrap_epochs ({self.bootstrap_epochs})"
            )


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
        weights_from="batch",
        final_share=0.0,
    )
    no_mixup = replace(
        paper,
        variant="dy-h",
        warmup_epochs=30,
        bootstrap_epochs=90,
        milestones=(30, 80, 110),
        average_from=5,
        average_until=30,
    )
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
        "fast-mixup": mixup,
        "paper": paper,
        "paper-cifar10-md-dyr-sh": replace(paper, variant="md-dyr-sh"),
        "paper-cifar10-dy-h": no_mixup,
        "paper-cifar100": paper,
    }
