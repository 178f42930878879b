"""A real trainer on real digits in memory: what the tests of methods and of the trainer share."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from labelfix.estimation.evidence import Evidence
from labelfix.estimation.held_out import judged_evidence
from labelfix.methods import method_class
from labelfix.methods.base import Phase, TrainState
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.own_model import OwnModel
from labelfix.networks import NetworkSpec, build
from labelfix.noise.planting import parse_noise, plant
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.trainer import Trainer

DEVICE = torch.device(os.environ.get("LABELFIX_TEST_DEVICE", "cpu"))


def digit_labels(rows: int, noise: str = "symmetric-exclusive:0.3") -> tuple[np.ndarray, np.ndarray]:
    """Given and true labels (N,) of the first digits."""
    true = load_digits().target[:rows].astype(np.int64)
    return plant(true, [str(k) for k in range(10)], parse_noise(f"{noise}:exact"), seed=0), true


def trusted_digits(rows: int, of_each: int = 3) -> np.ndarray:
    """Verified labels (N,) of the first digits of each class, -1 for the others."""
    true = load_digits().target[:rows].astype(np.int64)
    first = np.concatenate([np.flatnonzero(true == k)[:of_each] for k in range(10)])
    return np.where(np.isin(np.arange(rows), first), true, -1)


def digit_source(rows: int, device: torch.device = DEVICE, resident: bool | None = None) -> Source:
    pixels = (load_digits().images[:rows] * (255 / 16)).round().astype(np.uint8)
    augmentation = Augmentation(8, (0.3,) * 3, (0.37,) * 3, flip=False, device=device)
    return Source(np.repeat(pixels[:, None], 3, axis=1), augmentation, device, resident)


def make_trainer(
    name: str,
    *,
    rows: int = 200,
    epochs: int = 4,
    seed: int = 0,
    given: np.ndarray | None = None,
    trusted: np.ndarray | None = None,
    device: torch.device = DEVICE,
    resident: bool | None = None,
    precision: torch.dtype = torch.float32,
    **changes: str,
) -> Trainer:
    """A trainer of method `name` on the first digits; changes are settings as with --set."""
    labels = digit_labels(rows)[0] if given is None else given
    chosen = method_class(name)
    settings = chosen.presets()["fast"].with_epochs(epochs)
    if hasattr(settings, "when_weak"):  # a few epochs on a few digits: nothing would ever move
        changes = {"when_weak": "go", **changes}
    settings = settings.changed({"batch_size": "50", **changes})
    torch.manual_seed(seed)
    network = build(NetworkSpec("small", 10, 8)).to(device, memory_format=torch.channels_last)
    if chosen.needs_trusted and trusted is None:
        trusted = trusted_digits(rows)
    method = chosen(network, Labels.of(labels, 10, device, trusted), settings).to(device)
    return Trainer(
        method,
        digit_source(rows, device, resident),
        trained_rows=np.flatnonzero(labels >= 0),
        predicted_rows=np.arange(rows),
        seed=seed,
        precision=precision,
    )


def trained(name: str, **options) -> Trainer:
    """As `make_trainer`, and trained to the end."""
    trainer = make_trainer(name, **options)
    list(trainer.epochs())
    return trainer


def evidence_of(trainer: Trainer) -> Evidence:
    """Of its own model where the settings say so, else of the averaged predictions as they are."""
    method, logits = trainer.method, trainer.predict("plain")
    if isinstance(method, OwnModel) and method.speaks_for_itself:
        return method.own_evidence(logits)
    given = method.given.cpu().numpy()
    probs = np.where((given >= 0)[:, None], numpy(method.ensembled_probs), np.nan)
    probs /= probs.sum(axis=1, keepdims=True)
    return judged_evidence(probs, given, score=method.score(numpy(logits.softmax(dim=1)), given))


def stop_after(steps: int):
    """A `keep_going` that says no after so many steps."""
    left = iter(range(steps))
    return lambda: next(left, None) is not None


def resumed(steps: int, name: str, **options) -> Trainer:
    """A trainer that takes over after so many steps of another one, and trains to the end."""
    first, second = (make_trainer(name, **options) for _ in range(2))
    list(first.epochs(stop_after(steps)))
    tensors, facts = first.state()
    second.restore({name: value.clone() for name, value in tensors.items()}, facts)
    list(second.epochs())
    return second


def first_batch(trainer: Trainer, views: tuple[str, ...] = ("weak",), rows: int = 40) -> Batch:
    (batch,) = trainer.source.batches([np.arange(rows)], views, [3])
    return batch


def loss_of(trainer: Trainer, phase: Phase, batch: Batch) -> tuple[dict, list[torch.Tensor]]:
    """The parts of the loss of a batch, and the logits of every forward that they took."""
    seen = []

    def keep(_network, _inputs, logits):
        logits.retain_grad()
        seen.append(logits)

    handle = trainer.method.network.register_forward_hook(keep)
    parts = trainer.method.train().loss(TrainState(phase, 0.0), batch)
    handle.remove()
    return parts, seen


def numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def assert_slopes(whole, at: np.ndarray, gradient: torch.Tensor, places) -> None:
    """At these places the gradient is that of central differences of `whole`, a function of an array."""
    for place in places:
        step = np.zeros_like(at)
        step[place] = 1e-5
        slope = (whole(at + step) - whole(at - step)) / 2e-5
        assert gradient[place].item() == pytest.approx(slope, rel=1e-3, abs=1e-7)


def watched_passes(trainer: Trainer) -> list[int]:
    """Filled as the trainer trains: rows of every forward that its network really makes, threefold with backward.

    A backward of its own and tangents are no forward, and not in it.
    """
    passes: list[int] = []

    def see(_network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        passes.append(len(inputs[0]) * (3 if torch.is_grad_enabled() else 1))

    for network in (trainer.method.network, trainer._averaged):
        if network is not None:
            network.register_forward_pre_hook(see)
    return passes


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.state()[0].items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"differ: {different}"
