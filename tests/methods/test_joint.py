"""Joint optimisation: parity with the equations, the label store, the two steps, and its posterior."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch
from digit_training import (
    DEVICE,
    assert_slopes,
    digit_labels,
    evidence_of,
    first_batch,
    loss_of,
    make_trainer,
    numpy,
    trained,
)
from sklearn.metrics import average_precision_score

from labelfix.methods.base import TrainState
from labelfix.methods.batch import Labels
from labelfix.methods.joint import Joint, presets

PAPER = presets()["paper"]


def one_hot(given):
    return np.eye(10)[given]


def soft_targets(trainer, seed=0):
    """Labels as a run leaves them, (N, K) float64, given to the method."""
    targets = np.random.default_rng(seed).dirichlet(np.ones(10), len(trainer.method.targets))
    trainer.method.targets.copy_(torch.from_numpy(targets))
    return targets


def recorded(trainer):
    """Collects what the network says of every row in every epoch of training: a list of (N, K) float64."""
    epochs = []
    original = trainer.method.remember

    def spy(when, rows, logits):
        if int(when.epoch) == len(epochs):
            epochs.append(np.zeros(trainer.method.targets.shape))
        epochs[-1][rows.cpu().numpy()] = references.softmax(numpy(logits))
        original(when, rows, logits)

    trainer.method.remember = spy
    return epochs


def small_method(settings, given):
    """The method alone, around a network that is never asked."""
    return Joint(torch.nn.Linear(1, 1), Labels.of(given, 10, torch.device("cpu")), settings)


class TestLosses:
    @pytest.mark.parametrize("prior", ["empirical", "uniform"])
    def test_the_first_step_is_equation_3(self, prior):
        trainer = make_trainer("joint", prior=prior, balance="1.2", entropy="0.8")
        phase, targets = trainer.method.phases()[0], soft_targets(trainer)
        parts, (logits,) = loss_of(trainer, phase, first_batch(trainer, phase.views, 50))
        counts = np.bincount(digit_labels(200)[0], minlength=10) + 1
        held_to = counts / counts.sum() if prior == "empirical" else np.full(10, 0.1)
        expected = references.joint_loss(numpy(logits), targets[:50], held_to)
        assert parts.keys() == expected.keys()
        for name, weight in (("classification", 1), ("balance", 1.2), ("entropy", 0.8)):
            assert parts[name].item() == pytest.approx(weight * expected[name], rel=1e-5)

    def test_every_factor_has_its_gradient(self):
        """Of both factors of the entropy too; by central differences of the whole loss."""
        trainer = make_trainer("joint", balance="1.2", entropy="0.8", prior="uniform")
        phase, targets = trainer.method.phases()[0], soft_targets(trainer)
        parts, (logits,) = loss_of(trainer, phase, first_batch(trainer, phase.views, 50))
        sum(parts.values()).backward()
        weights = {"classification": 1, "balance": 1.2, "entropy": 0.8}

        def whole(moved):
            found = references.joint_loss(moved, targets[:50], np.full(10, 0.1))
            return sum(weights[name] * value for name, value in found.items())

        assert_slopes(whole, numpy(logits), logits.grad, [(0, 0), (7, 3), (23, 9), (49, 5)])

    def test_many_classes_in_a_batch_are_balanced_by_a_moving_mean(self):
        trainer = make_trainer("joint", prior="uniform", balance="1")
        phase, before = trainer.method.phases()[0], np.full(10, 0.1)
        for _ in range(2):
            parts, (logits,) = loss_of(trainer, phase, first_batch(trainer, phase.views, 20))
            z = numpy(logits)
            before = 0.9 * before + 0.1 * references.softmax(z).mean(axis=0)
            expected = references.joint_loss(z, one_hot(digit_labels(200)[0][:20]), np.full(10, 0.1), before)
            assert parts["balance"].item() == pytest.approx(expected["balance"], rel=1e-3, abs=1e-7)

    def test_the_second_step_adds_equation_9(self):
        trainer = make_trainer("joint", finetune="mixup")
        phase, targets = trainer.method.phases()[1], soft_targets(trainer)
        batch = first_batch(trainer, phase.views, 50)
        parts, (plain, mixed) = loss_of(trainer, phase, batch)
        rng, a = np.random.default_rng(3), trainer.method.settings.mixup_alpha
        partner, share = rng.permutation(50), rng.beta(a, a)
        expected = references.joint_mixup_loss(numpy(mixed), targets[:50], partner, share)
        assert parts.keys() == {"classification", "mixup"}
        assert parts["mixup"].item() == pytest.approx(expected, rel=1e-5)
        expected = references.cross_entropy(targets[:50], numpy(plain))
        assert parts["classification"].item() == pytest.approx(expected, rel=1e-5)

    def test_the_images_are_mixed_as_the_targets_are(self):
        trainer = make_trainer("joint", finetune="mixup")
        phase, seen = trainer.method.phases()[1], []
        batch = first_batch(trainer, phase.views, 50)
        trainer.method.network.register_forward_pre_hook(lambda _network, inputs: seen.append(inputs[0]))
        trainer.method.train().loss(TrainState(phase, 3.0), batch)
        rng, a = np.random.default_rng(3), trainer.method.settings.mixup_alpha
        partner, share = torch.from_numpy(rng.permutation(50)).to(DEVICE), rng.beta(a, a)
        torch.testing.assert_close(seen[0], batch.views[0])
        torch.testing.assert_close(seen[1], share * batch.views[0] + (1 - share) * batch.views[0][partner])

    def test_plain_is_the_cross_entropy_alone(self):
        trainer = make_trainer("joint", finetune="plain")
        phase = trainer.method.phases()[1]
        parts, passes = loss_of(trainer, phase, first_batch(trainer, phase.views, 50))
        assert parts.keys() == {"classification"}
        assert len(passes) == 1


class TestLabels:
    # 8 epochs of the first step, 1 of the second.
    CHANGES = {"correct_epochs": "8", "finetune_epochs": "1", "update_from": "3", "ring_epochs": "4"}  # noqa: RUF012

    @pytest.mark.parametrize("average", ["ring", "all"])
    def test_they_are_the_mean_of_the_last_epochs_and_nothing_before(self, average):
        """A run against a plain list: before update_from, before the ring is full, and after it has gone round."""
        trainer = make_trainer("joint", **self.CHANGES, average=average, average_until="8")
        predicted = recorded(trainer)
        for report in trainer.epochs():
            targets = numpy(trainer.method.targets)
            if report.epoch < 3:
                np.testing.assert_array_equal(targets, one_hot(digit_labels(200)[0]))
                assert not report.reported
            else:
                expected = references.joint_labels(
                    predicted[:8][: report.epoch], 4 if average == "ring" else None
                )
                np.testing.assert_allclose(targets, expected, rtol=1e-3, atol=1e-6)
                np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
            if 3 <= report.epoch <= 8:
                changed = (targets.argmax(axis=1) != digit_labels(200)[0]).mean()
                assert report.reported == {"changed_share": pytest.approx(changed)}

    def test_the_first_update_of_the_paper_is_the_mean_of_epochs_61_to_70(self):
        rng, given = np.random.default_rng(0), digit_labels(30)[0]
        method, predicted = small_method(PAPER, given), []
        for epoch in range(1, 86):
            # Sharp predictions: probabilities from 1 down to 1e-12, which float16 has no place for.
            predicted.append(rng.dirichlet(np.full(10, 0.1), 30))
            method.record.copy_(torch.from_numpy(predicted[-1]))
            method.after_epoch(TrainState(method.phases()[0], float(epoch)), lambda _view: None)
            if epoch < 70:
                np.testing.assert_array_equal(method.targets.numpy(), one_hot(given))
            else:
                expected = np.stack(predicted[epoch - 10 : epoch]).mean(axis=0)
                np.testing.assert_allclose(method.targets.numpy(), expected, rtol=1e-3, atol=1e-7)

    def test_a_probability_in_the_ring_is_as_exact_as_it_says(self):
        """2^-11 of itself, or 2^-25 where that is more; the mean of ten in float32 adds nothing to speak of."""
        rng, given = np.random.default_rng(1), digit_labels(2_000)[0]
        method = small_method(PAPER.model_copy(update={"ring_epochs": 1, "update_from": 1}), given)
        probs = rng.dirichlet(np.full(10, 0.1), len(given)).astype(np.float32)
        method.record.copy_(torch.from_numpy(probs))
        method.after_epoch(TrainState(method.phases()[0], 1.0), lambda _view: None)
        kept = method.past[0].double().numpy()
        assert (np.abs(kept - probs) <= np.maximum(probs.astype(np.float64) * 2.0**-11, 2.0**-25)).all()
        assert np.abs(kept - probs).max() > 1e-5  # the bound is no empty one

    def test_hard_labels_are_the_class_of_the_mean(self):
        trainer = make_trainer("joint", **self.CHANGES, labels="hard", average_until="8", score_from="method")
        predicted = recorded(trainer)
        list(trainer.epochs())
        mean = references.joint_labels(predicted[:8], 4)
        np.testing.assert_array_equal(trainer.method.targets.cpu().numpy(), one_hot(mean.argmax(axis=1)))
        # The posterior keeps the shades.
        probs = evidence_of(trainer).probs
        np.testing.assert_allclose(probs, mean, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize("changes", [{}, {"warm_start": "false"}, {"finetune": "mixup"}])
    def test_they_are_frozen_in_the_second_step(self, changes):
        trainer = make_trainer("joint", epochs=8, finetune_epochs="3", **changes)
        before = {}
        for report in trainer.epochs():
            kept = {name: getattr(trainer.method, name).clone() for name in ("targets", "record", "past")}
            if report.phase == "finetune":
                assert all(torch.equal(kept[name], before[name]) for name in kept)
            else:
                before = kept
        assert trainer.position.epoch == trainer.method.settings.correct_epochs + 3

    def test_rows_without_a_label_get_none(self):
        given = digit_labels(200)[0].copy()
        given[:20] = -1
        targets = trained("joint", given=given).method.targets
        assert (targets[:20] == 0).all()
        assert (targets[20:] > 0).any(dim=1).all()

    def test_what_they_are_averaged_from_stays_in_main_memory(self):
        method = make_trainer("joint", ring_epochs="7").method
        assert method.record.device.type == DEVICE.type
        assert method.past.device.type == "cpu"
        assert method.past.shape == (7, 200, 10)
        assert method.past.dtype == torch.float16
        assert torch.equal(method.state_dict()["_extra_state"], method.past)


class TestSchedule:
    def test_the_learning_rates_of_the_paper(self):
        method = small_method(PAPER, digit_labels(30)[0])
        first, second = method.phases()
        assert (first.epochs, second.epochs, second.fresh) == (200, 120, True)
        states = [TrainState(first, epoch) for epoch in (0.0, 70.0, 199.9)]
        states += [TrainState(second, epoch) for epoch in (200.0, 239.9, 240.0, 280.0, 319.9)]
        expected = [0.04, 0.04, 0.04, 0.2, 0.2, 0.02, 0.002, 0.002]
        assert [method.learning_rate(state) for state in states] == pytest.approx(expected)

    def test_the_presets_are_table_1(self):
        table = {
            "sym": ([10, 30, 50, 70, 90], [1.2, 1.2, 1.2, 1.2, 0.8], [0.8, 0.8, 0.8, 0.8, 0.4],
                    [0.02, 0.03, 0.04, 0.08, 0.12], [0.5, 0.9, 2, 4, 8]),
            "asym": ([10, 20, 30, 40, 50], [0.8] * 5, [0.4] * 5, [0.03] * 5, [0.05, 0.6, 0.6, 0.8, 1.6]),
        }  # fmt: skip
        for kind, columns in table.items():
            for percent, alpha, beta, rate, a in zip(*columns, strict=True):
                found = presets()[f"paper-cifar10-{kind}{percent}"]
                numbers = (found.balance, found.entropy, found.learning_rate, found.mixup_alpha)
                assert numbers == (alpha, beta, rate, a)
                assert (found.batch_size, found.momentum, found.weight_decay) == (128, 0.9, 1e-4)
        assert presets()["paper-cifar10-sym50"] == PAPER

    def test_epochs_scale_what_lies_inside_a_step(self):
        scaled = PAPER.with_epochs(64)
        assert (scaled.correct_epochs, scaled.finetune_epochs) == (40, 24)
        assert (scaled.update_from, scaled.ring_epochs, scaled.milestones) == (14, 2, (8, 16))
        assert scaled.average_until == 40


class TestEvidence:
    def test_the_paper_score_is_one_less_the_label_at_the_given_class(self):
        trainer = make_trainer("joint", score_from="method", epochs=12)
        predicted = recorded(trainer)
        list(trainer.epochs())
        settings = trainer.method.settings
        mean = references.joint_labels(predicted[: settings.correct_epochs], settings.ring_epochs)
        evidence = evidence_of(trainer)
        np.testing.assert_allclose(evidence.probs, mean, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(evidence.noise, 1 - mean[np.arange(200), digit_labels(200)[0]], atol=5e-4)

    def test_nearly_certain_rows_keep_their_order(self):
        given = np.zeros(3, dtype=np.int64)
        method = small_method(PAPER.model_copy(update={"score_from": "method"}), given)
        for slot in range(10):
            for row, doubt in enumerate((1e-6, 2e-6, 4e-5)):
                method.past[slot, row] = torch.tensor([1 - doubt, doubt] + [0.0] * 8)
        method.ensembled_probs.copy_(torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(10), 3)))
        noise = method.own_evidence(torch.zeros(3, 10)).noise
        np.testing.assert_allclose(noise, [1e-6, 2e-6, 4e-5], rtol=0.02)

    def test_labels_end_up_more_accurate_than_they_were_given(self):
        given, true = digit_labels(600, "symmetric-exclusive:0.4")
        trainer = trained("joint", rows=600, epochs=24, given=given, score_from="method")
        evidence = evidence_of(trainer)
        assert average_precision_score(given != true, evidence.noise) > 0.95
        assert (evidence.probs.argmax(axis=1) == true).mean() > 0.85  # given labels: 0.6
