"""PENCIL: parity with the equations, the traps of its label step, stages and repeats."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import references
import torch
from digit_training import (
    DEVICE,
    assert_same,
    digit_labels,
    evidence_of,
    first_batch,
    make_trainer,
    numpy,
    resumed,
    state_of,
    trained,
)

from labelfix.methods.base import TrainState
from labelfix.methods.losses import compatibility, entropy, forward_kl, inverse_kl, label_gradient
from labelfix.methods.pencil import Pencil

FORMS = [(loss, compat) for loss in ("inverse-kl", "kl") for compat in ("paper", "reference")]
PLAN = {"backbone_epochs": "1", "labels_epochs": "2", "classifier_epochs": "1", "average_from": "0"}


def rows_of(rows=6, classes=5, seed=0):
    """Predictions, label logits that have spread, and given labels."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(rows, classes)), 2 * rng.normal(size=(rows, classes))
    return logits, labels, rng.integers(0, classes, rows)


def log_softmax(x):
    return torch.from_numpy(x).log_softmax(dim=1)


def at_labels(**changes):
    """A trainer after its backbone, and the first step of the labels' stage; their logits have spread."""
    trainer = make_trainer("pencil", rows=100, **{**PLAN, **changes})
    next(trainer.epochs())
    rng = np.random.default_rng(2)
    logits = torch.from_numpy(rng.normal(size=(100, 10))).float()
    trainer.method.label_logits += logits.to(DEVICE)
    return trainer, TrainState(trainer.method.phases()[1], 1.0)


def moved_labels(step, epochs, *, to=0.9, rho, compat="paper", classes=10):
    """Label distributions (epochs, K) of a row given 0, with a network that always says 1 with probability `to`."""
    f = np.full((1, classes), (1 - to) / (classes - 1))
    f[0, 1] = to
    label, given, path = torch.from_numpy(10.0 * np.eye(classes)[:1]), torch.tensor([0]), []
    form = {"rho": rho, "loss": "inverse-kl", "compat": compat}
    for _ in range(epochs):
        label = label - step * label_gradient(
            torch.from_numpy(np.log(f)), label.log_softmax(dim=1), given, **form
        )
        path.append(label.softmax(dim=1)[0].numpy())
    return np.array(path), f[0]


def flips_at(step, epochs=400, **how):
    """First epoch, from 1, after which the label is no longer the given one; None for never."""
    path, _ = moved_labels(step, epochs, **how)
    changed = np.flatnonzero(path.argmax(axis=1) != 0)
    return int(changed[0]) + 1 if len(changed) else None


class TestLosses:
    @pytest.mark.parametrize(("loss", "compat"), FORMS)
    def test_the_terms_are_the_equations(self, loss, compat):
        logits, labels, given = rows_of()
        form = {"alpha": 0.3, "beta": 0.7, "loss": loss, "compat": compat}
        expected = references.pencil_loss(logits, labels, given, **form)
        f, y = log_softmax(logits), log_softmax(labels)
        kl = (inverse_kl if loss == "inverse-kl" else forward_kl)(f, y).mean() / 5
        pull = 0.3 * compatibility(y, torch.from_numpy(given), compat).mean()
        assert kl.item() == pytest.approx(expected["classification"], rel=1e-12)
        assert pull.item() == pytest.approx(expected["compatibility"], rel=1e-12)
        assert (0.7 / 5 * entropy(f).mean()).item() == pytest.approx(expected["entropy"], rel=1e-12)

    @pytest.mark.parametrize(("loss", "compat"), FORMS)
    def test_the_closed_form_gradient_is_that_of_the_loss(self, loss, compat):
        """Against autograd of the losses, and against differences of the reference; rho = alpha K."""
        logits, labels, given = rows_of()
        label, rows = torch.from_numpy(labels).requires_grad_(), torch.from_numpy(given)
        f, y = log_softmax(logits), label.log_softmax(dim=1)
        kl = (inverse_kl if loss == "inverse-kl" else forward_kl)(f, y)
        total = kl + 1.5 * compatibility(y, rows, compat)
        (by_autograd,) = torch.autograd.grad(total.sum(), label)
        found = label_gradient(f, y.detach(), rows, rho=1.5, loss=loss, compat=compat)
        torch.testing.assert_close(found, by_autograd, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.sum(dim=1).numpy(), 0, atol=1e-12)
        # lambda / (B K) = 0.4: with lambda = 12 for 6 rows and 5 classes.
        form = {"alpha": 0.3, "beta": 0.7, "loss": loss, "compat": compat}
        expected = references.pencil_label_update(logits, labels, given, step=12, **form)
        np.testing.assert_allclose(labels - 0.4 * found.numpy(), expected, atol=1e-8)

    def test_no_logarithm_runs_away_when_labels_and_predictions_are_extreme(self):
        f, y = log_softmax(np.array([[200.0, 0, 0]])).float(), log_softmax(np.array([[0, 300.0, 0]])).float()
        given = torch.tensor([2])
        for value in (inverse_kl(f, y), forward_kl(f, y), entropy(f), compatibility(y, given, "paper")):
            assert torch.isfinite(value).all()
        for loss, compat in FORMS:
            assert torch.isfinite(label_gradient(f, y, given, rho=0.5, loss=loss, compat=compat)).all()


class TestLabelStep:
    @pytest.mark.parametrize("rho", [0.0, 0.5, 1.0, 3.0])
    def test_labels_come_to_rest_between_prediction_and_given_label(self, rho):
        path, f = moved_labels(0.5, 3_000, to=0.8, rho=rho)
        np.testing.assert_allclose(path[-1], (f + rho * np.eye(10)[0]) / (1 + rho), atol=1e-6)

    @pytest.mark.parametrize(
        ("preset", "epoch", "surer"),
        [("sym10", 43, 40), ("sym50", 21, 20), ("sym70", 11, 10), ("sym90", 7, 6), ("asym20", 14, 13)],
    )
    def test_the_paper_s_steps_flip_labels_with_the_authors_compatibility_and_never_with_equation_9(
        self, preset, epoch, surer
    ):
        settings = Pencil.presets()[f"paper-cifar10-{preset}"]
        step, rho = settings.label_step, settings.rho
        assert rho == pytest.approx(1)
        assert flips_at(step, to=0.9, rho=rho, compat="reference") == epoch
        assert flips_at(step, to=0.99, rho=rho, compat="reference") == surer
        assert flips_at(step, to=0.99, rho=rho, compat="paper") is None

    @pytest.mark.parametrize("compat", ["paper", "reference"])
    def test_with_100_classes_the_paper_s_pull_lets_no_label_flip(self, compat):
        settings = Pencil.presets()["paper-cifar100"]
        assert flips_at(settings.label_step, to=0.95, rho=settings.rho, compat=compat, classes=100) is None

    @pytest.mark.parametrize(("to", "travel"), [(0.9, (6.4, 7.0)), (0.65, (8.5, 9.0))])
    def test_the_fast_step_flips_sure_predictions_within_its_epochs(self, to, travel):
        settings = Pencil.presets()["fast"]
        step, epochs = settings.label_step, settings.labels_epochs
        assert step * epochs == pytest.approx(10)
        epoch = flips_at(step, to=to, rho=settings.rho)
        assert epoch <= epochs
        assert travel[0] - step <= step * epoch <= travel[1] + step
        assert flips_at(step, to=0.5, rho=settings.rho) is None  # a margin of 0.44 over the given label

    def test_forward_kl_hardly_moves_a_label(self):
        """Section 4.5: its gradient at the right class is 1e-3 of the other's, as y is almost zero there."""
        f = torch.full((1, 10), 0.1 / 9, dtype=torch.float64)
        f[0, 1] = 0.9
        y, given = log_softmax(10.0 * np.eye(10)[:1]), torch.tensor([0])
        inverse, forward = (
            label_gradient(f.log(), y, given, rho=0, loss=loss, compat="paper")[0, 1].item()
            for loss in ("inverse-kl", "kl")
        )
        assert inverse == pytest.approx(-0.9, abs=1e-3)
        assert -1e-3 < forward < 0


class TestTraining:
    def test_the_backbone_learns_the_given_labels(self):
        trainer = make_trainer("pencil", rows=100, **PLAN)
        method, batch = trainer.method, first_batch(trainer)
        logits = numpy(method.network.train()(batch.views[0]))
        found = method.train().loss(TrainState(method.phases()[0], 0.0), batch)
        expected = references.cross_entropy(np.eye(10)[digit_labels(100)[0][:40]], logits)
        assert found["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)
        np.testing.assert_array_equal(numpy(method.label_logits), 10 * np.eye(10)[digit_labels(100)[0]])

    @pytest.mark.parametrize(("loss", "compat"), FORMS)
    @pytest.mark.parametrize("divided", ["true", "false"])
    def test_loss_and_label_step_are_the_equations_on_the_same_forward(self, loss, compat, divided):
        numbers = {"rho": "0.8", "beta": "0.3", "label_step": "0.4", "divide_by_classes": divided}
        trainer, when = at_labels(classification_loss=loss, compat=compat, **numbers)
        method, batch, given = trainer.method, first_batch(trainer), digit_labels(100)[0][:40]
        before = numpy(method.label_logits)
        logits = numpy(method.network.train()(batch.views[0]))
        form = {"alpha": 0.08, "beta": 0.3, "loss": loss, "compat": compat}
        expected = references.pencil_loss(logits, before[:40], given, **form)
        found = method.train().loss(when, batch)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            times = 1 if divided == "true" else 10
            assert found[name].item() == pytest.approx(times * value, rel=1e-4)
        # The true step is lambda / (B K), whatever the network's losses are divided by.
        moved = references.pencil_label_update(logits[:2], before[:2], given[:2], step=0.4 * 2 * 10, **form)
        np.testing.assert_allclose(method.label_logits[:2].cpu().numpy(), moved, atol=1e-5)
        np.testing.assert_array_equal(method.label_logits[40:].cpu().numpy(), before[40:])

    def test_labels_move_alike_in_batches_of_any_size(self):
        """In evaluation mode the predictions are those of the row alone."""
        trainer, when = at_labels()
        method, batch = trainer.method.eval(), first_batch(trainer)
        start = method.label_logits.clone()
        method.loss(when, batch)
        whole = method.label_logits.clone()
        method.label_logits.copy_(start)
        for half in (slice(0, 7), slice(7, 40)):
            part = dataclasses.replace(batch, rows=batch.rows[half], views=(batch.views[0][half],))
            method.loss(when, part)
        assert not torch.equal(whole, start)
        torch.testing.assert_close(method.label_logits, whole, rtol=0, atol=1e-5)

    def test_the_network_learns_from_the_labels_before_their_step(self):
        """A row's gradient does not depend on the label step of the same batch."""
        gradients = []
        for step in ("0", "5"):
            trainer, when = at_labels(label_step=step)
            parts = trainer.method.train().loss(when, first_batch(trainer))
            trainer.method.zero_grad()
            sum(parts.values()).backward()
            gradients.append(trainer.method.network.head.weight.grad.clone())
        assert torch.equal(*gradients)

    def test_labels_move_in_their_stage_alone(self):
        trainer = make_trainer("pencil", rows=100, **PLAN)
        labels = [trainer.method.label_logits.clone()]
        for report in trainer.epochs():
            labels.append(trainer.method.label_logits.clone())
            assert ("changed_share" in report.reported) == (report.phase != "backbone")
        moved = [not torch.equal(*pair) for pair in pairwise(labels)]
        assert moved == [False, True, True, False]
        assert not [name for name, _ in trainer.method.named_parameters() if "label" in name]

    def test_every_repeat_starts_from_the_given_labels(self):
        trainer = make_trainer("pencil", rows=100, **{**PLAN, "repeats": "3"})
        given = 10 * np.eye(10)[digit_labels(100)[0]]
        starts = []
        for _ in trainer.epochs():
            starts.append(np.array_equal(trainer.method.label_logits.cpu().numpy(), given))
        assert starts == [True, False, False, True, False, False, True, False, False, False]

    @pytest.mark.parametrize("steps", [3, 7])
    def test_resumed_inside_the_labels_stage_equals_uninterrupted(self, steps):
        """Two steps an epoch: 3 is amid the labels, 7 amid the classifier."""
        whole = trained("pencil", rows=100, **PLAN)
        assert_same(state_of(whole), state_of(resumed(steps, "pencil", rows=100, **PLAN)))

    def test_balanced_classes_count_alike_in_every_stage(self):
        given = np.repeat([0, 1, 2], [70, 20, 10])
        weights = (100 / 3 / np.array([70, 20, 10]))[given]
        trainer = make_trainer("pencil", rows=100, given=given, balance_classes="true", **PLAN)
        method, batch = trainer.method, first_batch(trainer, rows=100)
        logits = numpy(method.network.train()(batch.views[0]))
        rows = [slice(k, k + 1) for k in range(100)]
        labels = 10 * np.eye(10)[given]
        form = {"alpha": 0.05, "beta": 0.4}
        terms = [references.pencil_loss(logits[k], labels[k], given[k], **form) for k in rows]
        cross_entropy = [references.cross_entropy(np.eye(10)[given[k]], logits[k]) for k in rows]
        backbone, stage, _ = method.phases()
        found = method.train().loss(TrainState(backbone, 0.0), batch) | method.loss(
            TrainState(stage, 1.0), batch
        )
        assert found["cross_entropy"].item() == pytest.approx((weights * cross_entropy).mean(), rel=1e-4)
        for name in ("classification", "entropy"):
            expected = 10 * (weights * [term[name] for term in terms]).mean()
            assert found[name].item() == pytest.approx(expected, rel=1e-4)
        assert make_trainer("pencil", rows=100, given=given).method.class_weights.tolist() == [1.0] * 10


class TestEvidence:
    def labels_at(self, distribution, **changes):
        """Evidence of rows all given 0 whose label distribution is that one."""
        trainer = make_trainer("pencil", rows=100, score_from="method", **changes)
        list(trainer.epochs())
        trainer.method.given.zero_()
        trainer.method.label_logits.copy_(torch.tensor(distribution).log().expand(100, -1))
        return evidence_of(trainer)

    def test_what_the_pull_leaves_at_the_given_label_is_taken_out(self):
        f = np.array([0.1, 0.7] + [0.025] * 8)
        at_rest = (f + 0.5 * np.eye(10)[0]) / 1.5
        evidence = self.labels_at(at_rest, rho="0.5")
        np.testing.assert_allclose(evidence.probs[7], f, atol=1e-5)
        np.testing.assert_allclose(evidence.noise, 0.9, atol=1e-5)

    @pytest.mark.parametrize("change", [{"compat": "reference"}, {"classification_loss": "kl"}])
    def test_where_no_such_rest_is_known_the_distribution_is_taken_as_it_is(self, change):
        y = np.array([0.4, 0.44] + [0.02] * 8)
        evidence = self.labels_at(y, **change)
        np.testing.assert_allclose(evidence.probs[7], y, atol=1e-5)
        np.testing.assert_allclose(evidence.noise, 0.6, atol=1e-5)


def test_most_wrong_labels_are_corrected():
    """The label distributions of a short run are right for far more rows than the given labels are."""
    given, true = digit_labels(600)
    trainer = trained("pencil", rows=600, epochs=30, given=given)
    corrected = trainer.method.label_logits.argmax(dim=1).cpu().numpy()
    assert (given == true).mean() < 0.72
    assert (corrected == true).mean() > 0.9
