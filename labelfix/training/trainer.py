"""The only training loop: it knows no method by name and never waits for the device inside an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from labelfix import processes
from labelfix.errors import InputError
from labelfix.estimation.metrics import mean_average_precision
from labelfix.json_files import Checks, are, by_name, is_count, is_number, is_text, maybe, wrong_key
from labelfix.methods.base import Method, Phase, TrainState
from labelfix.methods.batch import Batch, to_device
from labelfix.random_state import seed_generators
from labelfix.training.batches import Source, even_slices, seed_of
from labelfix.training.optimiser import SAVED, optimiser_of
from labelfix.training.predictions import batch_logits, logits

# Draws of different kinds must never share a seed.
_ORDER, _STEP, _TRACKING, _TRUSTED = 1, 2, 3, 4


@dataclass
class Position:
    """Where training stands; with the tensors it is the whole state of a run.

    Attributes:
        epoch: epochs done.
        step: steps done of the current epoch.
        forward_units: network passes of the epochs done, in rows: 1 for a forward, 3 for a forward with backward.
        epoch_seconds: spent in the current epoch before it was interrupted.
        loss_names: names of the loss parts summed so far in the current epoch, in order.
    """

    epoch: int = 0
    step: int = 0
    forward_units: int = 0
    epoch_seconds: float = 0.0
    loss_names: list[str] = field(default_factory=list)


_POSITION: Checks = {
    "epoch": is_count,
    "step": is_count,
    "forward_units": is_count,
    "epoch_seconds": is_number,
    "loss_names": are(is_text),
}


class Trainer:
    """Trains one method on one source.

    Args:
        method: on the device, in channels-last layout.
        source: of the images.
        trained_rows: (R,) int64, rows that are trained on.
        predicted_rows: (P,) int64, rows with a valid image; what `predict` covers.
        unseen_rows: (U,) int64, rows that are not trained on, whose predictions are averaged over the same epochs.
        seed: of everything random.
        precision: torch.bfloat16 to train in automatic mixed precision; what is predicted in the end is float32.

    Raises:
        InputError: fewer than two rows to train on.
    """

    def __init__(
        self,
        method: Method,
        source: Source,
        *,
        trained_rows: np.ndarray,
        predicted_rows: np.ndarray,
        unseen_rows: np.ndarray | None = None,
        seed: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        if len(trained_rows) < 2:
            raise InputError(
                f"{len(trained_rows)} valid labelled images: training needs at least 2; see the errors of the others"
            )
        self.method = method
        self.source = source
        self.position = Position()
        self.said: torch.Tensor | None = None  # what it predicts, where several processes have predicted it
        self.data_wait_seconds = 0.0  # that the steps of this epoch have waited for their batches
        self._trained_rows = trained_rows
        self._predicted_rows = predicted_rows
        self._unseen_rows = np.zeros(0, np.int64) if unseen_rows is None else unseen_rows
        self._seed = seed
        self._precision = precision
        self._epoch_phases = [phase for phase in method.phases() for _ in range(phase.epochs)]
        self._shard = source.shard
        self._first_weights = _copied(method.network) if any(p.fresh for p in self._epoch_phases) else {}
        averages = any(phase.ema_decay for phase in self._epoch_phases)
        self._averaged = deepcopy(method.network).requires_grad_(False) if averages else None
        self._loss_sums = torch.zeros(0, device=source.device)
        self._rate = 0.0  # of the last step
        steps = len(even_slices(trained_rows, method.settings.batch_size))
        self.steps_per_epoch = steps if source.shard is None else processes.least(steps)
        self._names = {id(p): name for name, p in method.named_parameters()}
        settings = method.settings
        self.optimiser = optimiser_of(method, settings, source.device)
        if source.shard is not None:
            # A method may take its decay from the number of rows, which is not the same everywhere.
            decays = processes.from_first(
                lambda: [each["weight_decay"] for each in self.optimiser.param_groups]
            )
            for group, decay in zip(self.optimiser.param_groups, decays, strict=True):
                group["weight_decay"] = decay

    @property
    def num_trained_rows(self) -> int:
        """R."""
        return len(self._trained_rows)

    @property
    def forward_units(self) -> int:
        """Network passes of the epochs done, in rows, of all processes that share the rows."""
        own = self.position.forward_units
        return own if self._shard is None else int(processes.total(np.array(own)))

    @property
    def num_epochs(self) -> int:
        """Epochs of all phases."""
        return len(self._epoch_phases)

    @property
    def network(self) -> nn.Module:
        """What predicts: the network, or its averaged weights where the phase of the last step keeps them."""
        averaged = self._averaged
        if averaged is None or not self._last_phase.ema_decay:
            return self.method.network
        for own, trained in zip(averaged.buffers(), self.method.network.buffers(), strict=True):
            own.copy_(trained)  # statistics are no average
        return averaged

    def epochs(self, keep_going: Callable[[], bool] = lambda: True) -> Iterator[EpochReport]:
        """Train on from the current position, an epoch at a time.

        Args:
            keep_going: asked before every step; False ends the iteration, and `state` then holds the place.

        Yields:
            A report after every epoch.
        """
        while self.position.epoch < self.num_epochs:
            started = time.monotonic() - self.position.epoch_seconds
            phase = self._epoch_phases[self.position.epoch]
            self.method.train()
            for batch in self._timed(self._epoch_batches(phase)):
                if not keep_going():
                    self.position.epoch_seconds = time.monotonic() - started
                    return
                self._step(phase, batch)
            yield self._end_epoch(phase, started)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; how long each is waited for counts as waiting for data."""
        self.data_wait_seconds = 0.0
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.data_wait_seconds += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def predict(
        self, view: str = "plain", rows: np.ndarray | None = None, precision: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """Logits (N, K) float32 of the predicted rows, or of `rows`, NaN for all others; see `predictions.logits`.

        In float32, whatever the training: so the exported classifier predicts the same, on any machine. On a GPU in
        batches no larger than those of the training, which needs more memory for each row.
        """
        if self.said is not None and view == "plain" and rows is None:
            return self.said
        seed = seed_of(self._seed, _TRACKING, self.position.epoch)
        rows = self._predicted_rows if rows is None else rows
        most = self.method.settings.batch_size
        return logits(
            self.network, self.source, rows, view=view, seed=seed, precision=precision, most_rows=most
        )

    def predict_for_all(self, view: str, rows: np.ndarray | None = None) -> torch.Tensor:
        """As `predict`, of the rows of all processes that share them, which only the first process gets."""
        if self._shard is None:
            return self.predict(view, rows)
        own = self._predicted_rows if rows is None else self._shard.places(rows)
        nothing = torch.full((self.source.num_rows, self.method.labels.num_classes), float("nan"))
        return self._shard.whole(self.predict(view, own) if len(own) else nothing)

    def accuracy(self, source: Source, labels: np.ndarray) -> float:
        """Share of the labelled rows of a source that the network gets right, in evaluation mode.

        Args:
            source: of the images.
            labels: (N,) int64, -1 for rows that do not count; at least one does.
        """
        return self.top_accuracies(source, labels, (1,))[0]

    def top_accuracies(self, source: Source, labels: np.ndarray, tops: Sequence[int]) -> list[float]:
        """The same for a label among the 1, 5, ... most probable classes, from one pass.

        Args:
            source: of the images.
            labels: (N,) int64, -1 for rows that do not count; at least one does.
            tops: how many classes count; no more than there are.
        """
        labels, rows = _own(source, labels, labels >= 0)
        most = self.method.settings.batch_size
        right = torch.zeros(len(tops), dtype=torch.int64, device=source.device)
        for some, found in batch_logits(self.network, source, rows, most_rows=most):
            label = to_device(labels[some], source.device).unsqueeze(1)
            is_hit = found.topk(max(tops), dim=1).indices == label
            right += torch.stack([is_hit[:, :top].any(dim=1).sum() for top in tops])
        *told, count = processes.total(np.array([*right.tolist(), len(rows)]))
        return [int(each) / int(count) for each in told]

    def label_accuracy(self, truth: np.ndarray | None) -> float | None:
        """Share of the labels that the method has come to that are right; None where it moves none, or none is known.

        Args:
            truth: (N,) int64, -1 for rows that do not count; None where nothing is known.
        """
        current = self.method.current_labels()
        if truth is None or current is None or not (truth >= 0).any():
            return None
        known, rows = _own(self.source, truth, truth >= 0)
        right = int((current.cpu().numpy()[rows] == known[rows]).sum())
        told, count = processes.total(np.array([right, len(rows)]))
        return int(told) / int(count)

    def label_movement(self) -> tuple[torch.Tensor, float] | None:
        """Label logits and their step in the current epoch, see `Method.label_movement`; None after the last one."""
        if self.position.epoch == self.num_epochs:
            return None
        return self.method.label_movement(self._train_state(self._epoch_phases[self.position.epoch]))

    def trained_truth(self, truth: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of this process that are trained on and whose true class is known (n,) int64, and that class (n,).

        Args:
            truth: (N,) int64, of the rows of all processes, -1 for none; None where nothing is known.
        """
        if truth is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        known, rows = _own(self.source, truth, truth >= 0)
        rows = np.intersect1d(rows, self._trained_rows)
        return rows, known[rows]

    def mean_average_precision(self, source: Source, targets: np.ndarray) -> float:
        """How well the network ranks the rows of every class first, in evaluation mode, see `estimation.metrics`.

        Args:
            source: of the images.
            targets: (N, K) float32, NaN for rows that do not count; at least one does.
        """
        targets, rows = _own(source, targets, np.isfinite(targets).all(axis=1))
        batches = batch_logits(self.network, source, rows, most_rows=self.method.settings.batch_size)
        nothing = np.zeros((0, targets.shape[1]), np.float32)
        scores = np.concatenate([nothing, *(found.cpu().numpy() for _, found in batches)])
        return mean_average_precision(processes.gathered(scores), processes.gathered(targets[rows] >= 0.5))

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything that `restore` needs: tensors by name, and JSON-able facts."""
        tensors = {f"method.{name}": value for name, value in self.method.state_dict().items()}
        for parameter, state in self.optimiser.state.items():
            name = self._names[id(parameter)]
            tensors |= {f"{part}.{name}": state[key] for part, key in SAVED.items() if key in state}
        for name, value in () if self._averaged is None else self._averaged.state_dict().items():
            tensors[f"averaged.{name}"] = value
        tensors["loss_sums"] = self._loss_sums
        if self._shard is not None:
            axes = self._row_axes()
            tensors = {
                name: self._shard.whole(value, axes[name]) if name in axes else value
                for name, value in tensors.items()
            }
        return tensors, {**asdict(self.position), "forward_units": self.forward_units}

    def _row_axes(self) -> dict[str, int]:
        """The axis of the rows of those parts of the state that have one."""
        return {f"method.{name}": axis for name, axis in self.method.row_axes.items()}

    def restore(self, tensors: dict[str, torch.Tensor], facts: Any) -> None:
        """Put the trainer back where `state` was taken.

        Raises:
            ValueError: it was taken of another trainer, or is no state at all; nothing has changed then.
        """
        position = self._checked(facts)
        if self._shard is not None:
            tensors = dict(tensors)
            for name, axis in self._row_axes().items():
                if name in tensors:
                    tensors[name] = self._shard.part(tensors[name], axis)
            if processes.rank():
                position.forward_units = 0  # the first process counts for all
        self._check_tensors(tensors, len(position.loss_names))
        self.position = position
        self._loss_sums = tensors["loss_sums"].to(self.source.device)
        self.method.load_state_dict(_under("method.", tensors))
        if self._averaged is not None:
            self._averaged.load_state_dict(_under("averaged.", tensors))
        for name, parameter in self.method.named_parameters():
            for part, key in SAVED.items():
                saved = tensors.get(f"{part}.{name}")
                if saved is not None:
                    # The count of steps stays in main memory, as the optimiser keeps it.
                    like = parameter.detach() if saved.ndim else saved
                    self.optimiser.state[parameter][key] = torch.empty_like(like).copy_(saved)

    def _checked(self, facts: Any) -> Position:
        if not isinstance(facts, dict) or facts.keys() != _POSITION.keys() or wrong_key(facts, _POSITION):
            raise ValueError("the position is of another kind")
        position = Position(**facts)
        last = position.epoch == self.num_epochs and not position.step
        if not last and not (position.epoch < self.num_epochs and position.step < self.steps_per_epoch):
            raise ValueError("the position is beyond the last step")
        return position

    def _check_tensors(self, tensors: dict[str, torch.Tensor], num_losses: int) -> None:
        """Refuse tensors that are not those of `state`, but that momentum may be missing."""
        expected = {f"method.{name}": value for name, value in self.method.state_dict().items()}
        for name, value in () if self._averaged is None else self._averaged.state_dict().items():
            expected[f"averaged.{name}"] = value
        steps = torch.zeros(())
        optional = {
            f"{part}.{name}": steps if part == "steps" else value
            for name, value in self.method.named_parameters()
            for part in (SAVED if self.method.optimiser == "rmsprop" else ("momentum",))
        }
        expected |= {name: value for name, value in optional.items() if name in tensors}
        shapes = {name: (value.shape, value.dtype) for name, value in expected.items()}
        shapes["loss_sums"] = (torch.Size([num_losses]), torch.float32)
        if {name: (value.shape, value.dtype) for name, value in tensors.items()} != shapes:
            raise ValueError("the tensors are those of another training")

    def _epoch_batches(self, phase: Phase) -> Iterator[Batch]:
        epoch, first = self.position.epoch, self.position.step
        order = np.random.default_rng(seed_of(self._seed, _ORDER, epoch)).permutation(self._trained_rows)
        slices = np.array_split(order, self.steps_per_epoch)[first:]
        seeds = [seed_of(self._seed, _STEP, epoch, first + k) for k in range(len(slices))]
        batches = self.source.batches(slices, phase.views, seeds)
        for seed, batch, trusted in zip(seeds, batches, self._trusted_batches(phase), strict=False):
            seed_generators(
                seed, self.source.device
            )  # for what draws from the default generator, such as dropout
            yield batch if trusted is None else replace(batch, trusted=trusted)

    def _trusted_batches(self, phase: Phase) -> Iterator[Batch | None]:
        """The trusted batch of every step that is left of the epoch; None for methods without."""
        epoch, first = self.position.epoch, self.position.step
        slices = self._trusted_slices(phase)
        if slices is None:
            return repeat(None)
        seeds = [seed_of(self._seed, _TRUSTED, epoch, step) for step in range(first, len(slices))]
        return self.source.batches(slices[first:], ("weak",), seeds)

    def _trusted_slices(self, phase: Phase) -> list[np.ndarray] | None:
        rng = np.random.default_rng(seed_of(self._seed, _TRUSTED, self.position.epoch))
        return self.method.trusted_slices(phase, self.steps_per_epoch, rng)

    def _step(self, phase: Phase, batch: Batch) -> None:
        if self._is_first_of(phase):
            self._begin(phase)
        when = self._train_state(phase)
        self._rate = self.method.learning_rate_now(when)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate * group.get("rate", 1.0)
        with torch.autocast(
            self.source.device.type, torch.bfloat16, enabled=self._precision is torch.bfloat16
        ):
            parts = self.method.loss(when, batch)
        values = torch.stack(list(parts.values()))
        self.optimiser.zero_grad()
        values.sum().backward()
        if self._shard is not None:
            self._share_gradients(len(batch.rows))
        self.optimiser.step()
        if self._averaged is not None and phase.ema_decay:
            epochs = self.position.epoch - self._epoch_phases.index(phase)
            done = epochs * self.steps_per_epoch + self.position.step
            update = get_ema_multi_avg_fn(min(phase.ema_decay, (1 + done) / (10 + done)))
            update(list(self._averaged.parameters()), list(self.method.network.parameters()), None)
        if self.position.step == 0:
            self.position.loss_names = list(parts)
            self._loss_sums = torch.zeros(len(parts), device=self.source.device)
        self._loss_sums += values.detach()
        self.position.step += 1

    def _share_gradients(self, num_rows: int) -> None:
        """Every gradient becomes its mean over the rows of this step that the processes have together."""
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        count = torch.tensor([float(num_rows)], device=self.source.device)
        parts = [*((gradient * num_rows).flatten() for gradient in gradients), count]
        together = processes.add_up(torch.cat(parts))
        together /= together[-1].clone()
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, together[:-1].split(sizes), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def _share_statistics(self) -> None:
        """Averages over batches, such as statistics of BatchNorm and sums of losses, become those of all processes."""
        shared = [self._loss_sums]
        for layer in self.method.network.modules():
            if isinstance(layer, _BatchNorm) and layer.track_running_stats:
                shared += [cast("torch.Tensor", layer.running_mean), cast("torch.Tensor", layer.running_var)]
        state = self.method.state_dict(keep_vars=True)
        buffers = {name for name, _ in self.method.named_buffers() if not name.startswith("network.")}
        shared += [state[name] for name in sorted(buffers & state.keys() - self.method.row_axes.keys())]
        together = processes.add_up(torch.cat([part.flatten() for part in shared])) / processes.count()
        for part, mean in zip(shared, together.split([part.numel() for part in shared]), strict=True):
            part.copy_(mean.view(part.shape))

    def _begin(self, phase: Phase) -> None:
        """What comes before its first step, so that a run that stopped there does it at the restart."""
        if phase.fresh:
            device = self.source.device
            first = {name: to_device(value, device) for name, value in self._first_weights.items()}
            self.method.network.load_state_dict(first)
            self.optimiser.state.clear()
        if self._averaged is not None:
            self._averaged.load_state_dict(self.method.network.state_dict())

    def _end_epoch(self, phase: Phase, started: float) -> EpochReport:
        when = self._train_state(phase)
        if self._shard is not None:
            self._share_statistics()
        predicted: list[str] = []

        def predict(view: str) -> torch.Tensor:
            predicted.append(view)
            return self.predict(view, precision=self._precision)

        reported = self.method.after_epoch(when, predict)
        if self._shard is not None:
            values = np.array([float(value) for value in reported.values()])
            shares = processes.total(values) / processes.count()
            reported = dict(zip(reported, shares.tolist(), strict=True))
        self.position.forward_units += self._passes(phase, len(predicted)) + self._remember_unseen(when)
        means = (self._loss_sums / self.position.step).tolist()
        losses = dict(zip(self.position.loss_names, means, strict=True))
        self.position.epoch += 1
        self.position.step = 0
        self.position.epoch_seconds = 0.0
        return EpochReport(
            self.position.epoch, phase.name, self._rate, losses, reported, time.monotonic() - started
        )

    def _remember_unseen(self, when: TrainState) -> int:
        """Add the rows that are not trained on to the averaged predictions of the epoch; network passes, in rows."""
        epoch = self.position.epoch
        if not len(self._unseen_rows) or epoch not in self.method.settings.averaged:
            return 0
        batches = batch_logits(
            self.network, self.source, self._unseen_rows, view="weak", seed=seed_of(self._seed, _TRACKING, epoch),
            precision=self._precision, most_rows=self.method.settings.batch_size,
        )  # fmt: skip
        for rows, found in batches:
            self.method.remember(
                replace(when, epoch=float(epoch)), to_device(rows, self.source.device), found
            )
        return len(self._unseen_rows)

    def _passes(self, phase: Phase, predictions: int) -> int:
        """Network passes of an epoch, in rows: as the phase declares them, and every prediction of all rows."""
        trusted = sum(map(len, self._trusted_slices(phase) or []))
        steps = phase.forward_units * self.num_trained_rows + phase.trusted_units * trusted
        return steps + predictions * len(self._predicted_rows)

    def _is_first_of(self, phase: Phase) -> bool:
        epoch = self.position.epoch
        return self.position.step == 0 and (epoch == 0 or self._epoch_phases[epoch - 1] is not phase)

    @property
    def _last_phase(self) -> Phase:
        """Of the last step."""
        epoch, step = self.position.epoch, self.position.step
        return self._epoch_phases[epoch if step or epoch == 0 else epoch - 1]

    def _train_state(self, phase: Phase) -> TrainState:
        epoch = self.position.epoch + self.position.step / self.steps_per_epoch
        states = {name: self.optimiser.state.get(p) for name, p in self.method.named_parameters()}
        # Without momentum RMSprop keeps a state all the same.
        key = SAVED["momentum"]
        velocity = {name: state[key] for name, state in states.items() if state and key in state}
        return TrainState(phase, epoch, velocity)


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights and statistics of a network, in main memory."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _own(source: Source, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of values a row (N, ...) those of this process, and which of its rows count (N,) bool, (m,) int64."""
    shard = source.shard
    if shard is None:
        return values, np.flatnonzero(counts)
    return values[shard.rows], np.flatnonzero(counts[shard.rows] & shard.owned)


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class EpochReport:
    """One row of epochs.parquet.

    Attributes:
        epoch: from 1, over the whole run.
        phase: its name.
        learning_rate: of the last step.
        losses: mean of each part of the loss over the steps.
        reported: what `Method.after_epoch` returned.
        elapsed_seconds: of the epoch.
    """

    epoch: int
    phase: str
    learning_rate: float
    losses: dict[str, float]
    reported: dict[str, float]
    elapsed_seconds: float

    @property
    def is_finite(self) -> bool:
        """False when training has diverged."""
        return all(math.isfinite(value) for value in self.losses.values())

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; a number that is not finite becomes None."""
        return {name: _finite(value) for name, value in asdict(self).items()}

    @classmethod
    def all_from_json(cls, values: Any) -> list[EpochReport]:
        """The inverse of `to_json` for a list of them.

        Raises:
            ValueError: something else.
        """
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise ValueError("the reports are no list of objects")
        wrong = [value for value in values if value.keys() != _CHECKS.keys() or wrong_key(value, _CHECKS)]
        if wrong:
            raise ValueError("a report of an epoch is of another kind")
        return [cls._from_json(value) for value in values]

    @classmethod
    def _from_json(cls, value: dict[str, Any]) -> EpochReport:
        nan = float("nan")
        parts = {k: {n: nan if v is None else v for n, v in value[k].items()} for k in ("losses", "reported")}
        return cls(**{**value, **parts})


def _is_float(value: Any) -> bool:
    """A finite number of any size, as the loss of a training that is about to diverge."""
    return isinstance(value, float) or is_number(value)


_CHECKS: Checks = {
    "epoch": is_count,
    "phase": is_text,
    "learning_rate": is_number,
    "losses": by_name(maybe(_is_float)),
    "reported": by_name(maybe(_is_float)),
    "elapsed_seconds": is_number,
}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
