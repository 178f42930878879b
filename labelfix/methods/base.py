"""What every method shares: phases, and the contract with the trainer."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, cast, get_args, get_origin

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from pydantic.fields import FieldInfo
from torch import nn

from labelfix.errors import InputError
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.schedules import scaled_epochs, step_decay, warmup_cosine

FAST_HEAD, FAST_TUNE = "fast-head", "fast-tune"
"""What the preset `fast` means where a head on features is trained, and where a pretrained network is."""

Flag = Annotated[bool, PlainSerializer(lambda value: "true" if value else "false")]
"""A yes or no, which a user writes and reads as true or false."""


_HEAD_EPOCHS, _TUNE_EPOCHS = 20, 6
_HEAD = {"batch_size": 128, "learning_rate": 0.005, "weight_decay": 0.2, "milestones": (), "average_from": 5}
_TUNE = {"batch_size": 50, "learning_rate": 0.02, "schedule": "cosine", "milestones": (), "average_from": 2}


def setting(
    default: Any,
    meaning: str,
    *,
    source: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    """A field of a method's settings with its meaning, the source of its default, and its limits."""
    return Field(
        default, description=meaning, json_schema_extra={"source": source}, ge=ge, gt=gt, le=le, lt=lt
    )


def score_from(default: str, source: str = "ours, measured") -> Any:
    """The setting `score_from`, which means the same for every method; its values are those the method has."""
    meaning = (
        "what the findings rest on: predictions averaged over epochs (trajectory), or the method's own model, with the "
        "rule of its paper (method); loss: the order of the rows by the last loss"
    )
    return setting(default, meaning, source=source)


class MethodSettings(BaseModel):
    """Settings of every method; each method adds its own. Epochs are counted from 0 over the whole run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    batch_size: int = setting(
        32, "rows of a training step", source="measured on 5,000 images; 128 in the papers", ge=1
    )
    learning_rate: float = setting(
        0.05,
        "learning rate before the first milestone",
        source="measured with 32 rows; 0.1 in Arazo 2019, 4.1",
        ge=0,
    )
    momentum: float = setting(0.9, "momentum of SGD", source="Arazo 2019, 4.1", ge=0)
    weight_decay: float = setting(
        1e-4, "L2 penalty of the weights that `weight_decay_on` names", source="Arazo 2019, 4.1", ge=0
    )
    weight_decay_on: Literal["all", "kernels"] = setting(
        "all",
        "weights that decay: all, or the kernels of convolutions and linear maps alone, no biases and no BatchNorm",
        source="all in the papers' codes, kernels for one network of Zhang et al. 2020",
    )
    flip: Literal["auto"] | Flag = setting(
        "auto",
        "mirror training images at random; auto: from 32 px up (smaller images are mostly glyphs)",
        source="the papers mirror CIFAR; auto is ours",
    )

    crop_padding: float = setting(
        0.125,
        "what random crops pad on every side, as a share of the side (images under 96 px)",
        source="4 of 32 px in the papers; 2 in Zhang et al. 2020",
        ge=0,
        le=0.5,
    )

    milestones: tuple[int, ...] = setting(
        (33,),
        "epochs after which the learning rate falls by the factor `decay`",
        source="measured; 99 and 249 of 300 in Arazo 2019, 4.1",
    )
    decay: float = setting(
        0.1, "what each milestone multiplies the learning rate by", source="Arazo 2019, 4.1", ge=0
    )
    schedule: Literal["steps", "cosine"] = setting(
        "steps",
        "cosine: the learning rate also rises over the first tenth of a training, and falls to 0 along a cosine",
        source="steps in the papers; cosine where a pretrained network is trained, measured",
    )
    average_from: int = setting(12, "first epoch of the averaged predictions", source="ours, measured")
    average_until: int = setting(
        40, "epoch at which the averaging of predictions ends", source="ours, measured"
    )

    phase_epochs: ClassVar[tuple[str, ...]]
    """Names of the settings that hold the epochs of each phase, in order."""

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(getattr(self, name) for name in self.phase_epochs)

    def with_epochs(self, total: int) -> Self:
        """The same schedule stretched or shrunk to `total` epochs.

        Raises:
            ValueError: fewer epochs than phases.
        """
        scale = total / self.epochs
        parts = scaled_epochs([getattr(self, name) for name in self.phase_epochs], total)
        until = min(max(round(self.average_until * scale), 1), total)
        changes: dict[str, Any] = {
            **dict(zip(self.phase_epochs, parts, strict=True)),
            "milestones": tuple(max(1, round(epoch * scale)) for epoch in self.milestones),
            "average_from": min(round(self.average_from * scale), until - 1),
            "average_until": until,
        }
        return self.model_copy(update=changes)

    @property
    def network_head(self) -> str:
        """What takes the place of pooling and a linear layer in the network, see `NetworkSpec.head`; empty for none."""
        return ""

    @property
    def averaged(self) -> range:
        """Epochs whose predictions are averaged, counted from 0."""
        return range(self.average_from, min(self.average_until, self.epochs))

    def check(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            InputError: naming the setting.
        """
        try:
            self.model_validate(dict(self))
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            wanted = _limits(type(self).model_fields[name])
            raise InputError(f"--set {name}={getattr(self, name)}: must be {wanted}") from None

    @model_validator(mode="after")
    def _check_average(self) -> Self:
        if not self.averaged or self.average_from < 0:
            raise InputError(
                f"--set average_from={self.average_from}: must be 0 or more, and before the last epoch and "
                f"average_until ({self.averaged.stop}); lower it, or scale everything with --epochs"
            )
        return self

    @classmethod
    def described(cls) -> list[dict[str, Any]]:
        """Name, type, default, meaning, source and choices of every setting."""
        return [
            {
                "name": name,
                "type": _KINDS.get(field.annotation, "text"),
                "default": _as_text(field.default),
                "meaning": field.description,
                **cast("dict[str, Any]", field.json_schema_extra),
                "choices": _choices(field.annotation),
            }
            for name, field in cls.model_fields.items()
        ]

    def pretrained(
        self, *, head: Mapping[str, Any] | None = None, tune: Mapping[str, Any] | None = None
    ) -> dict[str, Self]:
        """The presets for pretrained networks that these settings, for a CPU, become.

        Args:
            head: what else changes for a head on the features of a frozen encoder.
            tune: what else changes where all weights of a pretrained network are trained.
        """
        changes = {FAST_HEAD: {**_HEAD, **(head or {})}, FAST_TUNE: {**_TUNE, **(tune or {})}}
        epochs = {FAST_HEAD: _HEAD_EPOCHS, FAST_TUNE: _TUNE_EPOCHS}
        return {name: self.with_epochs(epochs[name]).model_copy(update=changes[name]) for name in changes}

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """A copy with settings changed, by text as given with --set or by the values themselves.

        Raises:
            InputError: an unknown name, or a value of another type or outside its choices.
        """
        fields = type(self).model_fields
        values: dict[str, Any] = {}
        for name, value in changes.items():
            text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(_as_text(value))
            if name not in fields:
                raise InputError(f"--set {name}={text}: no such setting; there are {', '.join(fields)}")
            values[name] = _parsed(name, text, fields[name].annotation)
        return self.model_copy(update=values)


_FLAGS = {"true": True, "false": False}
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    tuple[int, ...]: "whole numbers",
    tuple[float, ...]: "numbers",
}


def _as_text(value: Any) -> Any:
    return next((text for text, flag in _FLAGS.items() if flag is value), value)


def _choices(annotation: Any) -> tuple[str, ...]:
    """What a setting of this type may be: nothing else than these texts; empty for numbers."""
    if annotation is bool:
        return tuple(_FLAGS)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return _choices(get_args(annotation)[0]) if get_origin(annotation) is Annotated else ()


def _parsed(name: str, text: str, annotation: Any) -> Any:
    choices = _choices(annotation)
    if choices and text not in choices:
        raise InputError(f"--set {name}={text}: choose one of {', '.join(choices)}")
    try:
        if annotation == tuple[int, ...]:
            return tuple(int(part) for part in text.split(",") if part)
        if annotation == tuple[float, ...]:
            return tuple(float(part) for part in text.split(",") if part)
        return _FLAGS.get(text, text) if choices else annotation(text)
    except ValueError:
        raise InputError(f"--set {name}={text}: expected {_KINDS[annotation]}") from None


def _limits(field: FieldInfo) -> str:
    """The values of a setting, in words."""
    choices = _choices(field.annotation)
    if choices:
        return f"one of {', '.join(choices)}"
    limit = {name: value for part in field.metadata for name, value in dataclasses.asdict(part).items()}
    if field.annotation is int:
        return "0 or more" if limit["ge"] == 0 else f"at least {limit['ge']}"
    if "le" in limit:
        low = f"over {limit['gt']}, and at most" if "gt" in limit else f"from {limit['ge']} to"
        return f"a number {low} {limit['le']}"
    text = f"a number over {limit['gt']}" if "gt" in limit else f"a number from {limit['ge']} up"
    return f"{text}, and below {limit['lt']}" if "lt" in limit else text


Predict = Callable[[str], torch.Tensor]


"""predict(view) -> logits (N, K) float32 in main memory, eval mode; NaN for rows without a valid image."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one loss.

    Attributes:
        name: shown in epochs.parquet.
        epochs: its length.
        forward_units: network passes a trained row and epoch: 1 for a forward, 3 with backward, 2 for tangents.
        trusted_units: the same a trusted row of every step.
        tracking: passes over all rows after its epochs, of the whole phase.
        views: the views of every batch, in order.
        fresh: whether it starts with the network's first weights (random or pretrained) and without momentum.
        ema_decay: decay a step of the exponential moving average of the weights that `predict` and the classifier
            take; 0 for the weights themselves.
    """

    name: str
    epochs: int
    forward_units: int
    views: tuple[str, ...] = ("weak",)
    fresh: bool = False
    ema_decay: float = 0.0
    trusted_units: int = 0
    tracking: int = 0

    @property
    def units_per_row(self) -> int:
        """Network passes of all its epochs, a row, where a batch has as many trusted rows as others."""
        return self.epochs * (self.forward_units + self.trusted_units) + self.tracking


@dataclass(frozen=True)
class TrainState:
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
    """One paper: its phases, its loss, and its memory of the rows.

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
    head_folds: ClassVar[int] = 5
    """The same where a head is trained on features, which costs seconds."""
    when_compared: ClassVar[Mapping[str, Any]] = {}
    """Settings where `--method auto` compares it with others: by what it predicts, not by a ranking of its own."""
    needs_trusted: ClassVar[bool] = False
    """Whether it learns from trusted samples: then a scan must have some."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What its results depend on beside the packages of every run."""
    row_axes: ClassVar[Mapping[str, int]] = {"ensembled_probs": 0}
    """The axis of the rows of every part of `state_dict` that has one: where several processes share the rows, each
    has its own there."""
    optimiser: str = "sgd"
    """What moves the weights: sgd, or rmsprop with a smoothing of 0.9."""

    network: nn.Module
    ensembled_probs: torch.Tensor
    given: torch.Tensor
    given_targets: torch.Tensor | None
    settings: MethodSettings

    def __init__(self, network: nn.Module, labels: Labels, settings: MethodSettings) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.settings = settings
        self.register_buffer("given", labels.given, persistent=False)
        self.register_buffer("given_targets", labels.targets, persistent=False)
        # Running mean of the softmax of each row, the best detector that costs nothing (see `remember`).
        shape = (len(labels.given), labels.num_classes)
        self.register_buffer("ensembled_probs", torch.zeros(shape, device=labels.given.device))

    @classmethod
    @abstractmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """Complete settings by name; `fast` and `paper` are always there."""

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The phases of a run, in order."""

    def learning_rate(self, when: TrainState) -> float:
        """Step decay at the milestones of the settings."""
        settings = self.settings
        return step_decay(when.epoch, settings.learning_rate, settings.milestones, settings.decay)

    def learning_rate_now(self, when: TrainState) -> float:
        """What a step is made with: `learning_rate`, by the schedule of the settings."""
        rate = self.learning_rate(when)
        return rate if self.settings.schedule == "steps" else rate * warmup_cosine(self._share_done(when))

    def _share_done(self, when: TrainState) -> float:
        """Share of the training that is done, which begins anew with a fresh network."""
        first, end = 0, 0
        for phase in self.phases():
            if phase.fresh and end <= when.epoch:
                first = end
            elif phase.fresh:
                break
            end += phase.epochs
        return (when.epoch - first) / (end - first)

    def current_labels(self) -> torch.Tensor | None:
        """(N,) int64: the class that each row is trained towards by now; None where that is the given label."""
        return None

    def label_movement(self, when: TrainState) -> tuple[torch.Tensor, float] | None:
        """Label logits (N, K) and the step that each row's takes along its gradient in an epoch that begins.

        None where none move then, or begin anew at its end.
        """
        return None

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters by their weight decay, as SGD takes them. Default: all, each with its `decay_of`.

        A group may have a `rate`, what `learning_rate` is multiplied by for it; 1 where it has none.
        """
        return self.groups_by_decay(self.parameters())

    def groups_by_decay(self, parameters: Iterable[nn.Parameter], **shared: Any) -> list[dict[str, Any]]:
        """Groups of parameters, each of one `decay_of`, that share what else a group has."""
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in parameters:
            groups.setdefault(self.decay_of(parameter), []).append(parameter)
        return [{"params": those, "weight_decay": decay, **shared} for decay, those in groups.items()]

    def decay_of(self, parameter: torch.Tensor) -> float:
        """The weight decay of a parameter of the network; a kernel is what has more than one dimension."""
        decays = self.settings.weight_decay_on == "all" or parameter.ndim > 1
        return self.settings.weight_decay if decays else 0.0

    def trusted_slices(self, phase: Phase, steps: int, rng: np.random.Generator) -> list[np.ndarray] | None:
        """Rows of the trusted batch that goes with each step of an epoch, as `Batch.trusted`. Default: none.

        Args:
            phase: of the epoch.
            steps: of the epoch.
            rng: for the draw.
        """
        return None

    @abstractmethod
    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Forward and loss of a batch: named scalar parts, whose sum is minimised."""

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """What a method does between epochs; returns numbers for epochs.parquet. Default: nothing."""
        return {}

    def score(self, probs: np.ndarray, given: np.ndarray) -> np.ndarray | None:
        """What rows are ranked by; None for what is best known, which is the default.

        Args:
            probs: (N, K) of the trained network, or of the folds' networks that never saw the row.
            given: (N,) int64, -1 for none.

        Returns:
            (N,) float64, high = suspect, NaN where there is none.
        """
        return None

    def diagnostics(self, logits: torch.Tensor) -> dict[str, Any]:
        """What a summary keeps of its model, JSON-able. Default: nothing.

        Args:
            logits: (N, K) of the trained network, NaN for rows without a valid image.
        """
        return {}

    def probs_of(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K) of logits: softmax, or sigmoid where a row may have several labels."""
        return logits.softmax(dim=1) if self.given_targets is None else logits.sigmoid()

    def remember(self, when: TrainState, rows: torch.Tensor, logits: torch.Tensor) -> None:
        """Add the softmax of some rows to their running mean, within the window of the settings.

        The window runs from `average_from` to `average_until`: from when the network has learned the easy rows
        to before it learns the wrong ones. Every row must pass once an epoch.

        Args:
            when: phase and epoch.
            rows: (B,) int64.
            logits: (B, K) of unmixed views.
        """
        epoch = int(when.epoch)
        if epoch in self.settings.averaged:
            mean = self.ensembled_probs[rows]
            probs = self.probs_of(logits.detach().float())
            self.ensembled_probs[rows] = torch.lerp(
                mean, probs, 1.0 / (epoch - self.settings.averaged.start + 1)
            )
