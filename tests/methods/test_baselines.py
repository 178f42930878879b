"""The baselines that train as cross-entropy does with another loss: each against a literal float64 derivation."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch
from digit_training import (
    DEVICE,
    assert_slopes,
    digit_labels,
    first_batch,
    loss_of,
    make_trainer,
    numpy,
    trained,
    watched_passes,
)

from labelfix.errors import InputError
from labelfix.methods import method_class
from labelfix.methods.base import TrainState
from labelfix.methods.forward_correction import estimated_transition

BASELINES = ["forward-correction", "generalised-cross-entropy", "bootstrapping", "mixup", "early-learning"]
GIVEN = digit_labels(200)[0]


def first_loss(name, phase=0, **changes):
    """A trainer, the parts of the loss of its first 40 rows in a phase, and the logits that they took."""
    trainer = make_trainer(name, **changes)
    parts, passes = loss_of(trainer, trainer.method.phases()[phase], first_batch(trainer))
    return trainer, parts, passes


def random_logits(trainer, rows=40, seed=0):
    """Logits with a gradient in place of the network's, float64 to the method."""
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 10)) * 2).to(DEVICE)
    logits.requires_grad_()
    trainer.method.network.forward = lambda _images: logits
    # Methods compute in float32; the reference is compared in it.
    return logits


@pytest.mark.parametrize("name", BASELINES)
def test_the_phases_say_what_they_cost(name):
    trainer = make_trainer(name, rows=100, epochs=6, **({"truncate_from": "2"} if "gen" in name else {}))
    passes, phases = watched_passes(trainer), trainer.method.phases()
    reports = list(trainer.epochs())
    assert [r.phase for r in reports] == [p.name for p in phases for _ in range(p.epochs)]
    assert sum(passes) == trainer.position.forward_units
    assert sum(passes) == 100 * sum(phase.units_per_row for phase in phases)


@pytest.mark.parametrize("name", BASELINES)
def test_by_default_findings_rest_on_averaged_predictions(name):
    method = make_trainer(name).method
    probs = np.random.default_rng(0).dirichlet(np.ones(10), 200)
    assert method.score(probs, GIVEN) is None
    method.settings = method.settings.changed({"score_from": "loss"})
    np.testing.assert_allclose(method.score(probs, GIVEN), 1 - probs[np.arange(200), GIVEN])


class TestGeneralisedCrossEntropy:
    @pytest.mark.parametrize("q", ["0.05", "0.7", "1"])
    def test_it_is_the_formula_with_its_gradient(self, q):
        trainer = make_trainer("generalised-cross-entropy", q=q)
        logits = random_logits(trainer)
        (loss,) = trainer.method.loss(
            TrainState(trainer.method.phases()[0], 0.0), first_batch(trainer)
        ).values()

        def whole(z):
            return references.generalised_losses(z, GIVEN[:40], float(q)).mean()

        assert loss.item() == pytest.approx(whole(numpy(logits)), rel=1e-5)
        loss.backward()
        assert_slopes(whole, numpy(logits), logits.grad, [(0, 0), (7, 3), (23, 9), (39, 5)])

    def test_it_is_near_cross_entropy_at_small_q_and_the_absolute_error_at_one(self):
        z = np.random.default_rng(1).normal(size=(30, 10))
        own = references.softmax(z)[np.arange(30), GIVEN[:30]]
        np.testing.assert_allclose(
            references.generalised_losses(z, GIVEN[:30], 1e-6), -np.log(own), rtol=1e-4
        )
        np.testing.assert_allclose(references.generalised_losses(z, GIVEN[:30], 1), 1 - own)

    def test_a_hopeless_row_has_a_finite_gradient(self):
        trainer = make_trainer("generalised-cross-entropy")
        logits = random_logits(trainer)
        with torch.no_grad():
            logits[0] = 0
            logits[0, (GIVEN[0] + 1) % 10] = 400  # the probability of the given label is no float32 any more
        (loss,) = trainer.method.loss(
            TrainState(trainer.method.phases()[0], 0.0), first_batch(trainer)
        ).values()
        loss.backward()
        assert torch.isfinite(logits.grad).all()

    def test_rows_below_the_threshold_are_left_out_and_come_back(self):
        """From the second of six epochs on, every other epoch: the choice is that of the network of that moment."""
        trainer = make_trainer(
            "generalised-cross-entropy", epochs=6, truncate_from="2", truncate_every="2", threshold="0.1"
        )
        method, chosen = trainer.method, []
        for report in trainer.epochs():
            if report.epoch in (2, 4):
                own = references.softmax(numpy(trainer.predict()))[np.arange(200), GIVEN]
                chosen.append(own > 0.1)
                np.testing.assert_array_equal(numpy(method.is_kept) > 0.5, chosen[-1])
                assert report.reported == {"kept_share": pytest.approx(chosen[-1].mean())}
            else:
                assert report.reported == {}
                expected = chosen[-1] if chosen else np.ones(200, bool)
                np.testing.assert_array_equal(numpy(method.is_kept) > 0.5, expected)
        assert 0 < chosen[1].mean() < 1
        logits = random_logits(trainer)
        (loss,) = method.loss(TrainState(method.phases()[0], 5.0), first_batch(trainer)).values()
        rows = references.generalised_losses(numpy(logits), GIVEN[:40], 0.7)
        truncated = np.where(chosen[1][:40], rows, (1 - 0.1**0.7) / 0.7)
        assert loss.item() == pytest.approx(truncated.mean(), rel=1e-5)
        loss.backward()
        left_out = numpy(logits.grad)[~chosen[1][:40]]
        assert (left_out == 0).all()
        assert len(left_out)


class TestBootstrapping:
    @pytest.mark.parametrize(("guess", "beta"), [("hard", 0.8), ("soft", 0.95)])
    def test_it_is_the_formula_with_its_gradient(self, guess, beta):
        trainer = make_trainer("bootstrapping", guess=guess, given_share=str(beta))
        logits = random_logits(trainer)
        (loss,) = trainer.method.loss(
            TrainState(trainer.method.phases()[0], 0.0), first_batch(trainer)
        ).values()
        hard = np.eye(10)[numpy(logits).argmax(axis=1)]

        def whole(z):
            own = references.softmax(z) if guess == "soft" else hard
            return references.fixed_bootstrapping_loss(z, GIVEN[:40], own, beta)

        assert loss.item() == pytest.approx(whole(numpy(logits)), rel=1e-5)
        loss.backward()
        assert_slopes(whole, numpy(logits), logits.grad, [(0, 0), (7, 3), (23, 9), (39, 5)])

    def test_before_its_epoch_it_is_cross_entropy(self):
        trainer = make_trainer("bootstrapping", bootstrap_from="2")
        logits, (phase,) = random_logits(trainer), trainer.method.phases()
        plain, late = (
            trainer.method.loss(TrainState(phase, epoch), first_batch(trainer))["bootstrap"].item()
            for epoch in (1.9, 2.0)
        )
        assert plain == pytest.approx(
            references.cross_entropy(np.eye(10)[GIVEN[:40]], numpy(logits)), rel=1e-5
        )
        assert late != pytest.approx(plain, rel=1e-3)

    def test_both_forms_are_those_of_bmm_s_table_1(self):
        presets = method_class("bootstrapping").presets()
        for name, guess, beta in (("paper", "hard", 0.8), ("paper-soft", "soft", 0.95)):
            s = presets[name]
            assert (s.guess, s.given_share, s.bootstrap_from, s.train_epochs) == (guess, beta, 30, 120)
            assert (s.batch_size, s.learning_rate, s.milestones) == (128, 0.1, (30, 80, 110))
        assert presets["paper"].with_epochs(40).bootstrap_from == 10


class TestMixup:
    def test_images_and_labels_are_mixed_alike(self):
        trainer, seen = make_trainer("mixup", mixup_alpha="0.4"), []
        trainer.method.network.register_forward_pre_hook(lambda _network, inputs: seen.append(inputs[0]))
        batch = first_batch(trainer)
        parts, (logits,) = loss_of(trainer, trainer.method.phases()[0], batch)
        rng = np.random.default_rng(3)
        partner, share = rng.permutation(40), rng.beta(0.4, 0.4)
        x = batch.views[0]
        torch.testing.assert_close(seen[0], share * x + (1 - share) * x[torch.from_numpy(partner).to(DEVICE)])
        labels = np.eye(10)[GIVEN[:40]]
        expected = references.cross_entropy(share * labels + (1 - share) * labels[partner], numpy(logits))
        assert parts["mixup"].item() == pytest.approx(expected, rel=1e-5)

    def test_averages_are_of_unmixed_images_in_evaluation_mode(self):
        trainer = make_trainer("mixup", epochs=3, average_from="1", average_until="3")
        seen = []
        for report in trainer.epochs():
            # The pass of the epoch that has just ended has the seed of the epoch before.
            trainer.position.epoch -= 1
            seen.append(references.softmax(numpy(trainer.predict("weak"))))
            trainer.position.epoch += 1
            assert report.reported == {}
        np.testing.assert_allclose(numpy(trainer.method.ensembled_probs), (seen[1] + seen[2]) / 2, atol=1e-5)


class TestEarlyLearning:
    def test_the_target_moves_first_and_is_held_fixed_in_the_loss(self):
        trainer = make_trainer("early-learning", strength="3", target_decay="0.7")
        before = np.random.default_rng(5).dirichlet(np.ones(10), 200)
        trainer.method.targets.copy_(torch.from_numpy(before))
        logits = random_logits(trainer)
        parts = trainer.method.loss(TrainState(trainer.method.phases()[0], 0.0), first_batch(trainer))
        moved, expected = references.early_learning(numpy(logits), before[:40], 3, 0.7)
        np.testing.assert_allclose(numpy(trainer.method.targets)[:40], moved, rtol=1e-5)
        np.testing.assert_allclose(numpy(trainer.method.targets)[40:], before[40:], rtol=1e-6)
        assert parts["early_learning"].item() == pytest.approx(expected, rel=1e-4)
        assert parts["cross_entropy"].item() == pytest.approx(
            references.cross_entropy(np.eye(10)[GIVEN[:40]], numpy(logits)), rel=1e-5
        )
        sum(parts.values()).backward()

        def whole(z):
            probs = np.clip(references.softmax(z), 1e-4, 1 - 1e-4)
            held = 3 * np.log(1 - (probs * moved).sum(axis=1)).mean()
            return held + references.cross_entropy(np.eye(10)[GIVEN[:40]], z)

        assert_slopes(whole, numpy(logits), logits.grad, [(0, 0), (7, 3), (23, 9), (39, 5)])

    def test_the_first_visit_of_a_row_has_nothing_to_keep(self):
        trainer, _, (logits,) = first_loss("early-learning")
        moved, _ = references.early_learning(numpy(logits), np.zeros((40, 10)), 3, 0.7)
        np.testing.assert_allclose(numpy(trainer.method.targets)[:40], moved, atol=1e-6)
        np.testing.assert_allclose(moved.sum(axis=1), 0.3)

    def test_it_learns_fewer_wrong_labels_by_heart_than_cross_entropy(self):
        given, true = digit_labels(600, "symmetric-exclusive:0.4")
        learned = {}
        for name in ("cross-entropy", "early-learning"):
            guess = trained(name, rows=600, epochs=25, given=given).predict().argmax(dim=1).cpu().numpy()
            learned[name] = (guess == given)[given != true].mean()
        assert learned["early-learning"] < 0.5 * learned["cross-entropy"]

    def test_the_presets_are_the_authors_schedules(self):
        for name, (epochs, milestones, strength, decay) in {
            "paper": (120, (40, 80), 3, 0.7), "paper-cifar100": (150, (80, 120), 7, 0.9),
        }.items():  # fmt: skip
            s = method_class("early-learning").presets()[name]
            assert (s.train_epochs, s.milestones, s.strength, s.target_decay) == (
                epochs,
                milestones,
                strength,
                decay,
            )
            assert (s.batch_size, s.learning_rate, s.weight_decay, s.decay) == (128, 0.02, 1e-3, 0.01)


class TestForwardCorrection:
    def test_the_second_part_is_the_loss_of_t_times_p_with_its_gradient(self):
        trainer = make_trainer("forward-correction")
        transition = np.random.default_rng(2).dirichlet(np.ones(10), 10)
        trainer.method.transition.copy_(torch.from_numpy(transition))
        logits, (first, second) = random_logits(trainer), trainer.method.phases()
        (plain,) = trainer.method.loss(TrainState(first, 0.0), first_batch(trainer)).values()
        assert plain.item() == pytest.approx(
            references.cross_entropy(np.eye(10)[GIVEN[:40]], numpy(logits)), rel=1e-5
        )
        (loss,) = trainer.method.loss(TrainState(second, 3.0), first_batch(trainer)).values()

        def whole(z):
            return references.forward_loss(z, GIVEN[:40], transition)

        assert loss.item() == pytest.approx(whole(numpy(logits)), rel=1e-5)
        logits.grad = None
        loss.backward()
        assert_slopes(whole, numpy(logits), logits.grad, [(0, 0), (7, 3), (23, 9), (39, 5)])

    @pytest.mark.parametrize("quantile", [0.01, 0.5, 0.97, 1.0])
    def test_the_matrix_is_that_of_the_anchors(self, quantile):
        probs = np.random.default_rng(3).dirichlet(np.ones(4), 57)
        found = estimated_transition(probs, quantile)
        np.testing.assert_array_equal(found, references.anchored_transition(probs, quantile))
        if quantile == 1:
            np.testing.assert_array_equal(np.diag(found), probs.max(axis=0))

    def test_it_is_estimated_once_between_the_parts_from_rows_with_a_label(self):
        given = GIVEN.copy()
        given[150:] = -1
        changes = {"estimate_epochs": "2", "correct_epochs": "2", "anchor_quantile": "0.9"}
        trainer = make_trainer("forward-correction", given=given, **changes)
        method = trainer.method
        for report in trainer.epochs():
            if report.epoch < 2:
                np.testing.assert_array_equal(numpy(method.transition), np.eye(10))
            if report.epoch == 2:
                probs = references.softmax(numpy(trainer.predict()))[:150]
                expected = references.anchored_transition(probs, 0.9)
                np.testing.assert_allclose(numpy(method.transition), expected, atol=1e-5)
                assert report.reported == {"kept_mass": pytest.approx(np.diag(expected).mean(), abs=1e-5)}
        np.testing.assert_allclose(numpy(method.transition), expected, atol=1e-5)
        shown = method.diagnostics(trainer.predict())["estimated_transition"]
        np.testing.assert_allclose(shown, expected, atol=1e-5)

    def test_planted_pairs_are_seen_in_the_matrix_and_the_network_is_righter_for_it(self):
        """Three seeds together: a short training alone is a matter of luck, and of the processor's rounding."""
        given, true = digit_labels(1000, "pair:0.4")
        plain, corrected = (
            [trained(name, rows=1000, epochs=24, given=given, seed=seed) for seed in range(3)]
            for name in ("cross-entropy", "forward-correction")
        )
        found = sum(numpy(trainer.method.transition) for trainer in corrected)
        to_the_next = np.roll(np.eye(10, dtype=bool), 1, axis=1)
        assert found[to_the_next].sum() > 1.5 * found[~to_the_next & ~np.eye(10, dtype=bool)].sum()
        right = [
            np.mean([(t.predict().argmax(dim=1).cpu().numpy() == true).mean() for t in trainers])
            for trainers in (plain, corrected)
        ]
        assert right[1] > right[0] + 0.05

    def test_each_part_has_its_own_milestones(self):
        method = make_trainer("forward-correction").method
        method.settings = method_class("forward-correction").presets()["paper"]
        first, second = method.phases()
        assert (first.epochs, second.epochs, first.fresh, second.fresh) == (120, 120, False, True)
        rates = [method.learning_rate(TrainState(first, float(epoch))) for epoch in range(240)]
        once = [0.01] * 40 + [0.001] * 40 + [0.0001] * 40
        assert rates == pytest.approx(once * 2)
        scaled = method.settings.with_epochs(24)
        assert (scaled.estimate_epochs, scaled.milestones, scaled.estimate_milestones) == (12, (4, 8), (4, 8))

    def test_arazo_s_row_is_one_training_of_300_epochs(self):
        method = make_trainer("forward-correction").method
        method.settings = method_class("forward-correction").presets()["paper-arazo"]
        first, second = method.phases()
        assert (first.epochs, second.epochs, second.fresh) == (75, 225, False)
        rates = [
            method.learning_rate(TrainState(first if epoch < 75 else second, float(epoch)))
            for epoch in range(300)
        ]
        assert rates == pytest.approx([0.1] * 99 + [0.01] * 150 + [0.001] * 51)

    def test_jindal_s_row_learns_at_the_rates_of_nnaqc_s_network(self):
        def rates(name, preset):
            method = make_trainer(name).method
            method.settings = method_class(name).presets()[preset]
            names = {id(value): name for name, value in method.network.named_parameters()}
            return {
                names[id(value)]: (group["rate"], group["weight_decay"])
                for group in method.param_groups()
                for value in group["params"]
                if id(value) in names
            }

        found = rates("forward-correction", "paper-jindal")
        assert found == rates("nnaqc", "paper")
        assert {rate for rate, _ in found.values()} == {0.1, 2.0, 0.1 * 0.1, 2.0 * 0.1}
        assert {rate for rate, _ in rates("forward-correction", "paper").values()} == {1.0}


@pytest.mark.parametrize(
    ("method", "setting", "value", "message"),
    [
        ("generalised-cross-entropy", "q", 0.0, "must be a number over 0, and at most 1"),
        ("generalised-cross-entropy", "q", 1.1, "must be a number over 0, and at most 1"),
        ("generalised-cross-entropy", "threshold", 1.0, "must be a number from 0"),
        ("generalised-cross-entropy", "truncate_every", 0, "must be at least 1"),
        ("bootstrapping", "given_share", -0.1, "must be a number from 0 to 1"),
        ("mixup", "mixup_alpha", 0.0, "must be a number over 0"),
        ("early-learning", "target_decay", 1.0, "must be a number from 0"),
        ("early-learning", "strength", float("nan"), "must be a number from 0 up"),
        ("forward-correction", "anchor_quantile", 0.0, "must be a number over 0, and at most 1"),
        ("forward-correction", "correct_epochs", 0, "must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(method, setting, value, message):
    settings = method_class(method).presets()["paper"].model_copy(update={setting: value})
    with pytest.raises(InputError, match=f"{setting}={value}.*{message}"):
        settings.check()
