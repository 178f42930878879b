"""What can be chosen of PENCIL: settings with their sources, and presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from labelfix.errors import InputError
from labelfix.methods.moving_labels import MovingLabelSettings
from labelfix.methods.settings import MethodSettings, setting

_PAPER = "Yi, Wang, Wu 2022"
# Table 1: learning rate, alpha, beta, lambda.
_CIFAR10 = {
    "sym10": (0.02, 0.1, 0.8, 200),
    "sym30": (0.03, 0.1, 0.8, 300),
    "sym50": (0.04, 0.1, 0.8, 400),
    "sym70": (0.08, 0.1, 0.8, 800),
    "sym90": (0.12, 0.1, 0.4, 1200),
    "asym10": (0.06, 0.1, 0.4, 600),
    "asym20": (0.06, 0.1, 0.4, 600),
    "asym30": (0.06, 0.1, 0.4, 600),
    "asym40": (0.03, 0.0, 0.4, 3000),
    "asym50": (0.03, 0.0, 0.4, 4000),
}
_FALLING = ("asym40", "asym50")


@dataclass(frozen=True)
class Settings(MovingLabelSettings):
    """Settings of PENCIL; the defaults are those of the fast preset."""

    backbone_epochs: int = setting(
        16, "epochs of cross-entropy on the given labels", source=f"70 in {_PAPER}, 4.2"
    )
    labels_epochs: int = setting(
        17, "epochs in which the label distributions move", source=f"130 in {_PAPER}, 4.2"
    )
    classifier_epochs: int = setting(
        7, "epochs on the label distributions as they then are; may be 0", source=f"120 in {_PAPER}, 4.2"
    )
    repeats: int = setting(
        1, "times that the last two stages are gone through", source=f"{_PAPER}, 3.8; 2 or 3 are best there"
    )
    labels_rate: float = setting(
        0.05, "learning rate while the labels move", source="measured; that of the backbone in " + _PAPER
    )
    classifier_rate: float = setting(
        0.005,
        "learning rate after that, before the first milestone",
        source=f"measured; 0.2 in {_PAPER}, 4.2",
    )
    milestones: tuple[int, ...] = setting(
        (),
        "epochs of the last stage, counted from its start, after which the learning rate falls by `decay`",
        source=f"none in 7 epochs; 40 and 80 of 120 in {_PAPER}, 4.2",
    )
    label_step: float = setting(
        10 / 17,
        "step of the label logits in an epoch along a gradient that stays within 1 + rho",
        source=f"10 / labels_epochs is ours; lambda / (batch_size classes) in {_PAPER}, equation 30",
    )
    label_decay: str = setting(
        "none",
        "whether the label step falls to 0 over the stage",
        source=f"linear for 40 and 50 % asymmetric noise in {_PAPER}, table 1",
        choices=("none", "linear"),
    )
    rho: float = setting(
        0.5,
        "pull to the given label (alpha times classes): labels move by more than this margin of the predictions",
        source=f"ours; 1 (0.1 times 10) in {_PAPER}, table 1",
    )
    beta: float = setting(
        0.4, "weight of the entropy of the predictions", source=f"0.4 or 0.8 in {_PAPER}, table 1"
    )
    classification_loss: str = setting(
        "inverse-kl",
        "KL(prediction || label), or KL(label || prediction), which hardly moves a label",
        source=f"{_PAPER}, 4.5",
        choices=("inverse-kl", "kl"),
    )
    compat: str = setting(
        "paper",
        "form of the compatibility loss; reference: with a second softmax over the label, as in the authors' code",
        source=f"{_PAPER}, equation 9",
        choices=("paper", "reference"),
    )
    divide_by_classes: str = setting(
        "false",
        "whether the losses of the label distributions are divided by the number of classes",
        source=f"ours, for learning rates that fit any number of classes; true in {_PAPER}, 3.6",
        choices=("true", "false"),
    )
    balance_classes: str = setting(
        "false",
        "whether rows are weighed so that every given class counts alike for the network",
        source=f"ours, for the class-balanced subset of Clothing1M in {_PAPER}, 4.2",
        choices=("true", "false"),
    )
    phase_epochs: ClassVar[tuple[str, ...]] = ("backbone_epochs", "labels_epochs")

    @property
    def round_epochs(self) -> int:
        """Epochs of one repeat: labels, then classifier."""
        return self.labels_epochs + self.classifier_epochs

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return self.backbone_epochs + self.repeats * self.round_epochs

    def with_epochs(self, total: int) -> Self:
        """As of every method; the label step grows as its epochs get fewer, so that labels move as far.

        Raises:
            ValueError: fewer epochs than one for the backbone and one for the labels of every repeat.
        """
        longest = (total - 1) // self.repeats
        if longest < 1:
            raise ValueError(f"{self.repeats + 1} phases need at least {self.repeats + 1} epochs")
        length = min(max(round(self.round_epochs * total / self.epochs), 1), longest)
        labels = max(round(self.labels_epochs * length / self.round_epochs), 1)
        scale = length / self.round_epochs
        return replace(
            super().with_epochs(total),
            backbone_epochs=total - self.repeats * length,
            labels_epochs=labels,
            classifier_epochs=length - labels,
            milestones=tuple(max(round(epoch * scale), 1) for epoch in self.milestones),
            label_step=self.label_step * self.labels_epochs / labels,
        )

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        for name in ("classifier_epochs", "labels_rate", "classifier_rate", "label_step", "rho", "beta"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)}: must be a number from 0 up")
        if self.repeats < 1:
            raise InputError(f"repeats={self.repeats}: must be at least 1")
        super().check()


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: `fast` for a CPU, and those of the paper's tables."""
    tables = {
        f"paper-cifar10-{noise}": _paper(
            *row, classes=10, label_decay="linear" if noise in _FALLING else "none"
        )
        for noise, row in _CIFAR10.items()
    }
    cifar100 = _paper(0.35, 0.1, 0.4, 10_000, classes=100)
    return {"fast": Settings(), "paper": tables["paper-cifar10-sym50"], **tables, "paper-cifar100": cifar100}


def _paper(
    rate: float, alpha: float, beta: float, step: float, *, classes: int, label_decay: str = "none"
) -> Settings:
    """70, 130 and 120 epochs in batches of 128, with the numbers of a row of table 1."""
    return Settings(
        batch_size=128,
        learning_rate=rate,
        labels_rate=rate,
        classifier_rate=0.2,
        backbone_epochs=70,
        labels_epochs=130,
        classifier_epochs=120,
        milestones=(40, 80),
        average_from=20,
        average_until=200,
        label_step=step / (128 * classes),
        label_decay=label_decay,
        rho=alpha * classes,
        beta=beta,
        compat="reference",
        divide_by_classes="true",
        when_weak="go",
        final_share=0.0,
    )
