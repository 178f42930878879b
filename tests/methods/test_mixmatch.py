"""MixMatch and MixMatch-KL: each loss against its equation, what is read and what is not, and what it finds."""

from __future__ import annotations

import copy

import numpy as np
import pyarrow.parquet as pq
import pytest
import references
import torch
from digit_training import (
    DEVICE,
    assert_slopes,
    digit_labels,
    evidence_of,
    make_trainer,
    numpy,
    trusted_digits,
    watched_passes,
)
from refusals import refuses
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.methods import method_class
from labelfix.methods.base import TrainState
from labelfix.methods.losses import sharpened, squared_error
from labelfix.methods.schedules import linear_rise


def step(epoch: float = 2.0, **changes: str):
    """A loss of a batch with the draws that it had, and every forward's input and logits, in order."""
    trainer = make_trainer("mixmatch", **changes)
    method, phase = trainer.method.train(), trainer.method.phases()[0]
    batch = next(trainer._epoch_batches(phase))
    draws = copy.deepcopy(batch.rng)
    seen = []

    def keep(_network, inputs, logits):
        if logits.requires_grad:
            logits.retain_grad()
        seen.append((inputs[0], logits))

    handle = method.network.register_forward_hook(keep)
    parts = method.loss(TrainState(phase, epoch), batch)
    handle.remove()
    return method, batch, draws, parts, seen


def targets_of(method, batch, draws, views) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixed labels of the pool, partners and shares, from the equations."""
    guess = references.mixmatch_guess([numpy(logits) for _, logits in views], 0.5)
    verified = trusted_digits(200)[batch.trusted.rows.cpu().numpy()]
    labels = np.concatenate([np.eye(10)[verified], guess, guess])
    shares, partner = draws.beta(0.75, 0.75, size=len(labels)), draws.permutation(len(labels))
    return references.mixmatch_pool(labels, partner, shares), partner, shares


@pytest.mark.parametrize("k", ["0", "20"])
def test_the_loss_is_that_of_its_equations(k):
    method, batch, draws, parts, seen = step(consistency=k, unlabelled_weight="30", ramp_share="1")
    *views, (mixed, logits) = seen[:3]
    targets, partner, shares = targets_of(method, batch, draws, views)

    pool = np.concatenate([numpy(view) for view in (batch.trusted.views[0], *batch.views[:2])])
    np.testing.assert_allclose(numpy(mixed), references.mixmatch_pool(pool, partner, shares), atol=1e-5)
    labelled, unlabelled = references.mixmatch_losses(numpy(logits), targets, len(batch.trusted.rows))
    expected = {"labelled": labelled, "unlabelled": 30 * 0.5 * unlabelled}  # after 2 of 4 epochs
    if k != "0":
        (weak, weak_logits), (strong, strong_logits) = seen[0], seen[3]
        assert weak is batch.views[1]  # the one that the strong view distorts
        assert strong is batch.views[2]
        expected["consistency"] = 20 * references.view_divergence(numpy(weak_logits), numpy(strong_logits))
    assert len(seen) == (3 if k == "0" else 4)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-4)


def test_no_gradient_flows_through_guesses_and_the_weak_view():
    method, batch, draws, parts, seen = step(consistency="20", ramp_share="1")
    *views, (_, logits), (_, strong_logits) = seen
    targets, _, _ = targets_of(method, batch, draws, views)
    count = len(batch.trusted.rows)
    sum(parts.values()).backward()

    def whole(z):
        labelled, unlabelled = references.mixmatch_losses(z, targets, count)
        return labelled + 75 * 0.5 * unlabelled

    assert not any(found.requires_grad for _, found in views)
    assert_slopes(whole, numpy(logits), logits.grad, [(0, 3), (count - 1, 0), (count, 4), (-1, 9)])
    weak = numpy(views[0][1])
    assert_slopes(
        lambda z: 20 * references.view_divergence(weak, z),
        numpy(strong_logits),
        strong_logits.grad,
        [(0, 0), (7, 9)],
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_guesses_are_sharpened_powers(temperature):
    views = np.random.default_rng(0).normal(size=(2, 30, 10)) * 3
    wanted = references.mixmatch_guess(list(views), temperature)
    mean = torch.from_numpy(views).softmax(dim=2).mean(dim=0)
    np.testing.assert_allclose(sharpened(mean, temperature).numpy(), wanted, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(wanted.sum(axis=1), 1)


def test_the_squared_error_is_a_mean_over_rows_and_classes_in_float64():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(20, 7)), rng.dirichlet(np.ones(7), 20)
    _, wanted = references.mixmatch_losses(logits, targets, 0 + 5)
    found = squared_error(torch.from_numpy(logits[5:]), torch.from_numpy(targets[5:]))
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_the_weight_of_what_is_not_trusted_rises_evenly_and_then_stays():
    assert [linear_rise(done, 0.5) for done in (0.0, 0.1, 0.25, 0.5, 0.9)] == [0.0, 0.2, 0.5, 1.0, 1.0]
    found = [
        step(epoch, ramp_share="0.5")[3]["unlabelled"].item() for epoch in (0.0, 0.5, 1.0, 2.0, 3.9)
    ]  # of 4 epochs
    assert found[0] == 0
    assert [value / found[3] for value in found] == pytest.approx([0, 0.25, 0.5, 1, 1], rel=1e-5)


def test_only_the_pool_moves_the_statistics():
    method, _, _, _, seen = step(consistency="20")
    alone = make_trainer("mixmatch").method
    alone.network.train()(seen[2][0])
    for found, wanted in zip(method.network.buffers(), alone.network.buffers(), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("k", ["0", "5"])
def test_the_passes_counted_are_those_made(k):
    trainer = make_trainer("mixmatch", epochs=2, consistency=k)
    passes = watched_passes(trainer)
    list(trainer.epochs())
    assert sum(passes) == trainer.position.forward_units
    (phase,) = trainer.method.phases()
    assert trainer.position.forward_units == 200 * phase.units_per_row


def test_given_labels_are_not_read():
    given, true = digit_labels(200)
    trainers = [make_trainer("mixmatch", epochs=2, given=labels) for labels in (given, true, (true + 1) % 10)]
    for trainer in trainers:
        list(trainer.epochs())
    first, *others = (trainer.method.state_dict() for trainer in trainers)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_with_ten_trusted_digits_a_class_it_finds_the_noise():
    """Four in ten labels are drawn anew; the trusted rows are no rows of the training."""
    given, true = digit_labels(600, "symmetric:0.4")
    trusted = trusted_digits(600, of_each=10)
    given = np.where(trusted >= 0, -1, given)
    trainer = make_trainer("mixmatch", rows=600, epochs=8, given=given, trusted=trusted)
    list(trainer.epochs())
    rows = given >= 0
    wrong = (given != true)[rows]
    assert 0.3 < wrong.mean() < 0.42  # what chance comes to
    assert average_precision_score(wrong, evidence_of(trainer).noise[rows]) > 0.85


def test_a_scan_learns_from_the_trusted_file_and_without_it_says_what_is_missing(digits, tmp_path):
    folder, truth = digits
    rows = np.concatenate([np.flatnonzero(truth == label)[:3] for label in range(10)])
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    lines = [f"{names[row]},{truth[row]}" for row in rows]
    (tmp_path / "trusted.csv").write_text("\n".join(["file_name,label", *lines]) + "\n")
    options = {"method": "mixmatch", "epochs": 2, "settings": {"batch_size": "50"}, "device": DEVICE.type}
    run = labelfix.scan(folder, trusted=tmp_path / "trusted.csv", out=tmp_path / "run", holdout=0, **options)
    table = pq.read_table(run.corrections).to_pandas()
    assert sorted(np.flatnonzero(table.is_trusted)) == sorted(rows)
    assert table[~table.is_trusted].noise_score.between(0, 1).all()
    assert run.summary["forward_units_per_row"] == pytest.approx(2 * (8 + 3 * 300 / 270), abs=0.01)
    refuses(
        labelfix.scan,
        "--method mixmatch learns from samples ",
        "--trusted FILE",
        source=folder,
        out=tmp_path / "other",
        **options,
    )


def test_the_presets_of_the_papers_differ_in_their_weights_alone():
    presets = method_class("mixmatch").presets()
    paper = presets["paper"]
    assert paper.train_epochs == round((1 << 20) * 64 / 49_900)  # all rows of CIFAR but ten a class
    assert paper.changed({"unlabelled_weight": 150.0}) == presets["paper-cifar100"]
    assert paper.changed({"consistency": 1.0}) == presets["paper-kl"]
    # Momentum makes ten steps of one: as much a step as the weight decay of the code, .02 times .002.
    shrinks = paper.learning_rate * paper.weight_decay / (1 - paper.momentum)
    assert shrinks == pytest.approx(0.02 * 0.002)
