"""What predictions and findings take on a GPU beside what the training takes, on one that is not there."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from digit_training import evidence_of, make_trainer
from pretended_device import pretended

from labelfix.methods import bmm, method_class, method_names
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.reporting import Silent
from labelfix.training import folds, predictions
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.predictions import forward_in_parts
from labelfix.training.setup import seconds_per_unit
from labelfix.training.trainer import Trainer

MOST = 1.1


def trainer_on(
    device: torch.device,
    name: str,
    stored: np.ndarray,
    network: NetworkSpec,
    batch: int,
    labelled: int,
    left_out: int = 0,
    changes: dict[str, Any] | None = None,
) -> Trainer:
    """Of some rows with random labels, a few of them verified for methods that need some; all are predicted.

    The last rows are left out of the training, and averaged as the others are.
    """
    rows, num_classes = np.arange(len(stored)), network.num_classes
    unseen = rows[len(rows) - left_out :]
    given = np.where(rows < labelled, np.random.default_rng(0).permutation(rows) % num_classes, -1)
    chosen = method_class(name)
    settings = chosen.presets()["fast"].with_epochs(2).changed({"batch_size": batch, **(changes or {})})
    if hasattr(settings, "when_weak"):
        settings = settings.changed({"when_weak": "go", "score_from": "method"})
    trusted = np.where(rows < 20, given, -1) if chosen.needs_trusted else None
    if trusted is not None:
        given = np.where(trusted >= 0, -1, given)
    made = build(network).to(device, memory_format=torch.channels_last)
    method = chosen(made, Labels.of(given, num_classes, device, trusted), settings).to(device)
    augmentation = Augmentation(network.image_size, (0.5,) * 3, (0.2,) * 3, flip=True, device=device)
    source = Source(stored, augmentation, device, resident=False)
    return Trainer(
        method,
        source,
        trained_rows=np.flatnonzero(given >= 0),
        predicted_rows=rows,
        unseen_rows=unseen,
        seed=0,
        precision=torch.bfloat16,
    )


@pytest.mark.parametrize(
    ("backbone", "size", "batch"), [("resnet50", 224, 32), ("resnet50", 512, 8), ("preact-resnet18", 224, 32)]
)
def test_final_predictions_take_no_more_than_training_in_mixed_precision(backbone, size, batch):
    """Though they are in float32; of the training only the forward is counted."""
    side = round(size * 8 / 7)
    stored = np.zeros((6 * batch, 3, side, side), np.uint8)
    with pretended("cuda", has_values=False) as record:
        trainer = trainer_on(
            record.device, "cross-entropy", stored, NetworkSpec(backbone, 10, size), batch, len(stored)
        )
        (phase,) = trainer.method.phases()
        seen = next(trainer._epoch_batches(phase))
        record.reset()
        with torch.autocast("cuda", torch.bfloat16):
            loss = trainer.method.loss(trainer._train_state(phase), seen)
        training = record.peak
        del loss, seen
        record.reset()
        trainer.predict("plain")
        assert record.peak < MOST * training


@pytest.mark.parametrize("name", method_names())
def test_epoch_ends_and_findings_take_no_array_of_all_rows_on_the_device(name, monkeypatch):
    """2,000 rows and 100 classes: such an array has 0.8 MB, more than a tenth of what any of them trains in."""
    monkeypatch.setattr(predictions, "_BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr(bmm, "_TRACKED_AT_ONCE", 1 << 12)
    stored = np.random.default_rng(0).integers(0, 256, (2_000, 3, 8, 8), np.uint8)
    with pretended("cuda") as record:
        trainer = trainer_on(record.device, name, stored, NetworkSpec("small", 100, 8), 40, 120, 1_800)
        training = 0

        def keep_going() -> bool:
            nonlocal training
            training = max(training, record.peak)
            return True

        record.reset()
        for _ in trainer.epochs(keep_going):
            assert record.peak < MOST * training
            record.reset()
        evidence_of(trainer)
        trainer.method.diagnostics(trainer.predict("plain"))
        assert record.peak < MOST * training


@pytest.mark.parametrize(("name", "changes"), [("cross-entropy", {}), ("bmm", {"variant": "m-dyr-h"})])
def test_a_million_rows_of_a_thousand_classes_are_predicted_in_the_memory_of_their_training(name, changes):
    """By the sizes alone. These keep the least of every row, so that a tenth is least here; findings are the host's."""
    rows, classes, predicted = 1_000_000, 1_000, 40_000  # more of them than are copied to the host at once
    stored = np.broadcast_to(np.zeros((1, 3, 8, 8), np.uint8), (rows, 3, 8, 8))
    with pretended("cuda", has_values=False) as record:
        trainer = trainer_on(
            record.device, name, stored, NetworkSpec("small", classes, 8), 256, rows, predicted, changes
        )
        phase = trainer.method.phases()[0]
        seen = next(trainer._epoch_batches(phase))
        record.reset()
        loss = trainer.method.loss(trainer._train_state(phase), seen)
        training = record.peak
        del loss, seen
        record.reset()
        some = Source(stored[:predicted], trainer.source.augmentation, record.device, resident=False)
        found = predictions.logits(trainer.network, some, np.arange(predicted))
        trainer.position.epoch = trainer.method.settings.average_from
        when = trainer._train_state(phase)
        assert trainer._remember_unseen(when) == predicted
        if name == "bmm":
            trainer.method._track(when, np.arange(predicted), found)
        assert 4 * rows * classes < record.peak < MOST * training


def test_batches_that_do_not_fit_are_halved_and_draw_what_they_would_have_drawn(monkeypatch):
    trainer = make_trainer("cross-entropy", rows=90)
    expected = trainer.predict("weak")
    seen = []

    def little_memory(_network, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = trainer.method.network.register_forward_pre_hook(little_memory)
    torch.testing.assert_close(trainer.predict("weak"), expected)
    assert seen == [90, 45, 23, 23, 23, 21]
    handle.remove()
    monkeypatch.setattr(trainer.method.network, "forward", lambda _images: torch.empty(1 << 60))
    with pytest.raises(RuntimeError, match="allocate memory"):
        forward_in_parts(trainer.method.network, torch.zeros(4, 3, 8, 8), 4)


def test_a_fold_leaves_the_device_before_the_next_comes(monkeypatch, tmp_path):
    living: list[weakref.ref] = []

    def made(*_arguments, **_named) -> Trainer:
        gc.collect()  # optimisers hold themselves
        assert not any(trainer() for trainer in living)
        trainer = make_trainer("cross-entropy", rows=30, epochs=2)
        living.append(weakref.ref(trainer))
        return trainer

    monkeypatch.setattr(folds, "make_trainer", made)
    source = make_trainer("cross-entropy", rows=30).source
    config = type("Config", (), {"folds": 3})
    rows = np.arange(30)
    folds.cross_fit(source, rows % 10, rows % 3, 10, config, tmp_path, Silent(), ())
    assert len(living) == 3


@pytest.mark.parametrize(("kind", "rows"), [("cpu", 64), ("cuda", 7)])
def test_the_time_of_a_step_is_taken_with_rows_that_fit(kind, rows):
    seen = []
    settings = method_class("bmm").presets()["fast"].changed({"batch_size": 7})
    config = SimpleNamespace(image_size=8, device=kind, settings=settings, precision="fp32", is_frozen=False)
    with pretended("cuda") as record:
        network = build(NetworkSpec("small", 10, 8)).to(record.device if kind == "cuda" else "cpu")
        network.register_forward_pre_hook(lambda _network, inputs: seen.append(len(inputs[0])))
        assert seconds_per_unit(network, config) > 0
    assert set(seen) == {rows}
