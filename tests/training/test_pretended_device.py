"""Every method on a GPU that is not there: no devices mixed, no wait inside a step, and the numbers of the CPU."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from digit_training import digit_labels, evidence_of, make_trainer
from pretended_device import Record, pretended

from labelfix.methods import method_names
from labelfix.methods.batch import packed_to_device
from labelfix.methods.cross_entropy import CrossEntropy
from labelfix.training import predictions
from labelfix.training.trainer import Trainer

ROWS = 60
# What an epoch's end may wait for, at most; see docs/gpu.md.
MOST_WAITS = {
    "bmm": 8,
    "pencil": 4,
    "joint": 8,
    "meta": 3,
    "nnaqc": 1,
    "cross-entropy": 1,
    "confident-learning": 1,
    "forward-correction": 4,
    "generalised-cross-entropy": 4,
    "bootstrapping": 1,
    "mixup": 4,
    "early-learning": 1,
    "mixmatch": 1,
}
CASES = [
    *((name, {}) for name in method_names()),
    *(("bmm", {"variant": variant}) for variant in ("m-dyr-h", "md-dyr-sh", "st-h")),
    ("bmm", {"variant": "m-dyr-s", "weights_from": "batch", "score_from": "method"}),
    ("pencil", {"compat": "reference", "repeats": "2", "balance_classes": "true"}),
    ("joint", {"average": "all", "finetune": "mixup", "warm_start": "false", "labels": "hard"}),
    ("meta", {"warmup_epochs": "0", "guess_gradient": "true"}),
    ("meta", {"warmup_epochs": "0", "relabel": "false", "mixup": "false", "strong_view": "cutout"}),
    ("meta", {"warmup_epochs": "1", "derivative": "forward-mode", "guess_gradient": "true"}),
    ("mixmatch", {"consistency": "5"}),
    ("nnaqc", {"noise_layer": "linear", "score_from": "method", "dropout": "0.1"}),
]  # fmt: skip

EPOCHS = {"md-dyr-sh": 6, "meta": 2}


def watched(trainer: Trainer, record: Record) -> tuple[list[dict], list[int], int]:
    """Trains to the end.

    Returns:
        What each step made the host wait for or copy slowly, how many waits each epoch's end, most copies of a step.
    """
    steps, ends, copies = [], [], 0

    def keep_going() -> bool:
        nonlocal copies
        steps.append({**record.waits, **record.pageable})
        copies = max(copies, record.copies)
        record.reset()
        return True

    record.reset()
    for _ in trainer.epochs(keep_going):
        ends.append(record.waits.total())
        record.reset()
    return steps, ends, copies


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=["-".join([name, *changes.values()]) for name, changes in CASES]
)
def test_a_method_never_waits_inside_a_step_and_finds_what_it_finds_on_a_cpu(number, monkeypatch):
    # What is drawn for predictions depends on their batches, which are smaller on a GPU.
    monkeypatch.setattr(predictions, "_rows_at_once", lambda *_: ROWS)
    name, changes = CASES[number]
    # Both precisions, and both ways in which images come, over the table and not for every row.
    options = {
        "rows": ROWS, "given": digit_labels(ROWS)[0].copy(), "epochs": EPOCHS.get(changes.get("variant", name), 3),
        "precision": torch.bfloat16 if number % 2 else torch.float32, **changes,
    }  # fmt: skip
    options["given"][-5:] = -1
    cpu = make_trainer(name, **options)
    list(cpu.epochs())
    expected = evidence_of(cpu)
    with pretended("cuda") as record:
        trainer = make_trainer(name, device=record.device, resident=number % 3 > 0, **options)
        steps, ends, copies = watched(trainer, record)
        found = evidence_of(trainer)
        tensors, facts = trainer.state()
        trainer.restore({tensor: value.detach().cpu() for tensor, value in tensors.items()}, facts)
    assert not any(steps)
    assert max(ends) <= MOST_WAITS[name]
    # Rows, and where they are streamed images; of trusted rows the same, of all strong views and of mixup one.
    has_fresh_weights = changes.get("warm_start") == "false"  # each a copy, once
    assert copies <= (6 if name in ("meta", "mixmatch") else 3) - (number % 3 > 0) or has_fresh_weights
    # Mixed precision casts other operations on a GPU than on a processor.
    tolerance = 1e-4 if options["precision"] is torch.float32 else 0.05
    np.testing.assert_allclose(found.noise, expected.noise, atol=tolerance)
    np.testing.assert_allclose(found.probs, expected.probs, atol=tolerance)


def _waits_for_a_number(loss, method, batch):
    return loss * float(loss.detach() > 0)


def _counts_rows(loss, method, batch):
    return loss * len(method.given[method.given >= 0])


def _copies_a_number(loss, method, batch):
    return loss * torch.tensor([1.0, 2.0], device=loss.device).sum()


def _indexes_from_the_host(loss, method, batch):
    return loss + method.ensembled_probs[torch.arange(3)].sum()


def _looks_at_a_tensor(loss, method, batch):
    return loss if loss.detach().cpu().numpy() > 0 else -loss


def _copies_unpinned(loss, method, batch):
    return loss + torch.ones(3).to(loss.device, non_blocking=True).sum()


def _mixes_devices(loss, method, batch):
    return loss + torch.zeros(len(batch.rows)).add(method.given[batch.rows]).sum()


def _indexes_the_host(loss, method, batch):
    return loss + float(torch.zeros(ROWS)[batch.rows].sum())


@contextmanager
def an_apple_gpu():
    if torch.backends.mps.is_available():
        yield torch.device("mps")
    else:
        with pretended("mps") as record:
            yield record.device


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 10], ids=lambda number: CASES[number][0])
def test_a_method_runs_on_an_apple_gpu(number, monkeypatch):
    """Which has no float64, and pins no memory."""
    monkeypatch.setattr(predictions, "_rows_at_once", lambda *_: ROWS)
    name, changes = CASES[number]
    options = {"rows": ROWS, "epochs": EPOCHS.get(name, 3), **changes}
    cpu = make_trainer(name, **options)
    list(cpu.epochs())
    with an_apple_gpu() as device:
        trainer = make_trainer(name, device=device, resident=number % 2 > 0, **options)
        list(trainer.epochs())
        found = evidence_of(trainer)
    np.testing.assert_allclose(found.noise, evidence_of(cpu).noise, atol=1e-2)


def test_small_arrays_come_to_a_gpu_in_one_copy():
    values = [np.arange(3), np.eye(3, dtype=bool), np.zeros((0, 1), np.float32), np.float32([[0.5], [7]])]
    with pretended("cuda") as record:
        found = [value.cpu() for value in packed_to_device(record.device, *values)]
        assert record.copies == 1
        assert not record.pageable
    for value, part, same in zip(values, found, packed_to_device(torch.device("cpu"), *values), strict=True):
        assert torch.equal(part, torch.from_numpy(value))
        assert torch.equal(part, same)


@pytest.fixture
def faulty(monkeypatch):
    """Makes a method of cross-entropy whose step has a fault."""

    def make(fault, record: Record) -> Trainer:
        loss = CrossEntropy.loss

        def bad(self, when, batch):
            return {"bad": fault(loss(self, when, batch)["cross_entropy"], self, batch)}

        monkeypatch.setattr(CrossEntropy, "loss", bad)
        return make_trainer("cross-entropy", rows=ROWS, epochs=2, device=record.device, resident=True)

    return make


WAITING = [
    _waits_for_a_number, _counts_rows, _copies_a_number, _indexes_from_the_host, _looks_at_a_tensor, _copies_unpinned,
]  # fmt: skip


@pytest.mark.parametrize("fault", WAITING)
def test_what_waits_is_seen(faulty, fault):
    """Else the test above could not fail."""
    with pretended("cuda") as record:
        steps, _, _ = watched(faulty(fault, record), record)
    assert steps[1]


@pytest.mark.parametrize("fault", [_mixes_devices, _indexes_the_host])
def test_devices_that_are_mixed_are_refused(faulty, fault):
    with pretended("cuda") as record, pytest.raises(RuntimeError, match="of the host|on the cpu"):
        list(faulty(fault, record).epochs())
