"""What the methods for several labels a row share: the head, its learning rate, and the optimiser."""

from __future__ import annotations

from typing import Any, Literal

from labelfix.methods.base import Method, MethodSettings, setting

_PAPER = "Yi, Wang, Wu 2022"


class MultiLabelSettings(MethodSettings):
    """Settings of every method where a row may have several labels."""

    head: Literal["attention", "pool"] = setting(
        "attention",
        "several labels a row: a map of each class over the image, or pooling and a linear layer",
        source=f"{_PAPER}, 3.7",
    )
    head_activation: Literal["relu", "none"] = setting(
        "relu",
        "several labels a row: between the two 1x1 convolutions of the attention head",
        source=f"ours; {_PAPER}, 3.7, names none, and without it both are one",
    )
    head_rate: float = setting(
        1.0,
        "several labels a row: what multiplies the learning rate in the attention head",
        source=f"ours; 5 in {_PAPER}, 4.2 (Open Images)",
        gt=0,
    )
    head_weight_decay: float = setting(
        1e-4,
        "several labels a row: weight decay of the attention head",
        source=f"that of all weights in {_PAPER}; .2, as of a linear head on a frozen encoder, makes its layers vanish",
        ge=0,
    )
    optimiser: Literal["sgd", "rmsprop"] = setting(
        "sgd",
        "several labels a row: what moves the weights; rmsprop with a smoothing of 0.9",
        source=f"sgd for MS-COCO and rmsprop for Open Images in {_PAPER}, 4.2",
    )

    @property
    def network_head(self) -> str:
        """As the settings say."""
        if self.head == "pool":
            return ""
        return "attention" if self.head_activation == "relu" else "attention-none"


class MultiLabelMethod(Method):
    """A method where a row may have several labels."""

    settings: MultiLabelSettings

    @property
    def optimiser(self) -> str:  # type: ignore[override]
        """As the settings say."""
        return self.settings.optimiser

    def param_groups(self) -> list[dict[str, Any]]:
        """The weights, and those of the attention head at a rate and with a decay of their own."""
        settings = self.settings
        if settings.head == "pool":
            return super().param_groups()
        head = list(self.network.head.parameters())  # type: ignore[union-attr]
        its = {id(parameter) for parameter in head}
        others = [parameter for parameter in self.parameters() if id(parameter) not in its]
        own = self.groups_by_decay(head, rate=settings.head_rate)
        for group in own:
            if group["weight_decay"]:  # else it is of what `weight_decay_on` leaves out
                group["weight_decay"] = settings.head_weight_decay
        return [*self.groups_by_decay(others), *own]
