"""What can be chosen of meta re-labelling: settings with their sources, and presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from labelfix.errors import InputError
from labelfix.methods.moving_labels import MovingLabelSettings
from labelfix.methods.settings import MethodSettings, setting

_PAPER = "Zhang et al. 2020"
_CODE = "the code of Zhang et al."


@dataclass(frozen=True)
class Settings(MovingLabelSettings):
    """Settings of meta re-labelling; the defaults are those of the fast preset."""

    train_epochs: int = setting(
        40, "epochs of training", source=f"measured; 387 in {_PAPER}, 200,000 steps of 100 rows"
    )
    warmup_epochs: int = setting(
        32,
        "first of them, with cross-entropy alone: guesses of a network that knows nothing teach nothing",
        source=f"ours, measured; none in {_PAPER}",
    )
    learning_rate: float = setting(
        0.05, "learning rate at the start of the first cycle", source=f"measured; 0.1 in {_CODE}"
    )
    cycles: int = setting(
        1,
        "cosine cycles of the learning rate after the warm-up, each 1.5 times as long and .9 times as high as the "
        "one before; 0 for steps at `milestones`",
        source=f"{_PAPER}, 5.1, whose 200,000 steps hold 13",
    )
    given_share: float = setting(
        0.9, "lambda_0: share of the given label in the look-ahead, beside the guess", source=f"{_PAPER}, 4.3"
    )
    look_ahead_rate: float = setting(0.1, "learning rate of the look-ahead, at all times", source=_CODE)
    temperature: float = setting(0.5, "tau: below 1 it sharpens the guesses", source=f"{_PAPER}, equation 3")
    logit_norm: str = setting(
        "true",
        "whether logits are divided by their root mean square before they become guesses or mixed predictions",
        source=f"{_CODE}; not in the paper",
        choices=("true", "false"),
    )
    guess_gradient: str = setting(
        "false",
        "whether the look-ahead follows the guesses as the weights move, for three passes more",
        source=f"ours; true in {_CODE}",
        choices=("true", "false"),
    )
    derivative: str = setting(
        "differences",
        "how the meta step takes its derivative: from two passes, to 1 to 3 %, or exactly from one with tangents",
        source="ours; on a CPU two passes are faster (tests/benchmarks/look_ahead.py)",
        choices=("differences", "forward-mode"),
    )
    mixup_weight: float = setting(
        1.0,
        "p: weight of the mixed images that are mostly untrusted",
        source=f"measured on a small network; 5 in {_PAPER}, 5.2",
    )
    consistency: float = setting(
        1.0,
        "k: weight of the agreement of weak and strong view",
        source=f"measured on a small network; 20 in {_PAPER}, 5.2",
    )
    ema_decay: float = setting(0.999, "decay a step of the averaged weights, which predict", source=_CODE)
    score_from: str = setting(
        "trajectory",
        "what the findings are read from: averaged predictions, the meta step's choices, or the mean of both",
        source="ours, measured",
        choices=("trajectory", "method", "both"),
    )
    average_from: int = setting(12, "first epoch of the averaged predictions", source="ours")
    average_until: int = setting(40, "epoch at which the averaging of predictions ends", source="ours")
    milestones: tuple[int, ...] = setting(
        (), "epochs after which the learning rate falls by `decay`, without cycles", source="ours"
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)

    def with_epochs(self, total: int) -> Self:
        """As of every method; the warm-up keeps its share, and leaves an epoch."""
        scaled = super().with_epochs(total)
        warmup = round(self.warmup_epochs * total / self.train_epochs)
        return replace(scaled, warmup_epochs=min(warmup, total - 1))

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        super().check()
        for name in ("given_share", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 to 1")
        for name in ("look_ahead_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)}: must be a number over 0")
        for name in ("mixup_weight", "consistency"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 up")
        if not 0 <= self.warmup_epochs < self.train_epochs:
            raise InputError(
                f"warmup_epochs={self.warmup_epochs}: must be 0 or more, and less than train_epochs "
                f"({self.train_epochs})"
            )
        if self.cycles < 0:
            raise InputError(f"cycles={self.cycles}: must be 0 or more")


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: `fast` for a CPU, `paper` for CIFAR with a Wide ResNet."""
    return {
        "fast": Settings(),
        "paper": Settings(
            batch_size=100,
            learning_rate=0.1,
            weight_decay=5e-4,
            train_epochs=387,
            warmup_epochs=0,
            cycles=13,
            guess_gradient="true",
            derivative="forward-mode",
            mixup_weight=5.0,
            consistency=20.0,
            ema_decay=0.999,
            when_weak="go",
            final_share=0.0,
            average_from=30,
            average_until=387,
        ),
    }
