"""BMM: parity with the equations, and what only this method does."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch
from training import DEVICE, digit_labels, make_trainer

from labelfix.methods.base import Moment
from labelfix.methods.bmm import paper_evidence, trajectory_evidence
from labelfix.mixture import NoiseModel


def first_batch(trainer, phase, rows=40):
    (batch,) = trainer.source.batches([np.arange(rows)], phase.views, [3])
    return batch


class TestParity:
    def test_warm_up_is_mixup(self):
        trainer = make_trainer("bmm")
        phase = trainer.method.phases()[0]
        batch = first_batch(trainer, phase)
        found = trainer.method.train().loss(Moment(phase, 0.0), batch)["mixup"].item()

        rng = np.random.default_rng(3)
        partner, share = rng.permutation(40), rng.beta(*[trainer.method.settings.mixup_alpha] * 2)
        x = batch.views[0]
        with torch.no_grad():
            logits = trainer.method.network(share * x + (1 - share) * x[torch.from_numpy(partner).to(DEVICE)])
        given = np.eye(10)[digit_labels(200)[0][:40]]
        expected = references.cross_entropy(
            share * given + (1 - share) * given[partner], logits.cpu().numpy()
        )
        assert found == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("weights_from", ["batch", "epoch", "average"])
    def test_bootstrapping_is_equations_13_and_14(self, weights_from):
        """The whole loss, with guesses, weights and mixing drawn again independently."""
        trainer = make_trainer("bmm", weights_from=weights_from, balance="0.7")
        method = trainer.method
        epochs = trainer.epochs()
        for _ in range(method.settings.warmup_epochs):
            next(epochs)
        phase = method.phases()[1]
        batch = first_batch(trainer, phase)
        x, given = batch.views[0], digit_labels(200)[0][:40]
        rng = np.random.default_rng(3)
        partner, share = rng.permutation(40), rng.beta(*[method.settings.mixup_alpha] * 2)
        start = {name: value.clone() for name, value in method.network.state_dict().items()}

        with torch.no_grad():
            # Their order: the training-mode guess first (BatchNorm sees it), then the weights in evaluation mode.
            guess = method.network.train()(x).argmax(dim=1).cpu().numpy()
            tracked = method.network.eval()(x).double().cpu().numpy()
            mixed = method.network.train()(share * x + (1 - share) * x[torch.from_numpy(partner).to(DEVICE)])
        if weights_from != "batch":
            noise = method.weights[:40].double().cpu().numpy()
        else:
            losses = -np.log(references.softmax(tracked)[np.arange(40), given])
            low, width, constant, da, db, smallest, largest = method.coefficients.double().cpu().numpy()
            scaled = np.clip((losses - low) / width, smallest, largest)
            noise = 1 / (1 + np.exp(-(constant + da * np.log(scaled) + db * np.log1p(-scaled))))
        noise = noise.clip(1e-4, 1 - 1e-4)
        logits = mixed.double().cpu().numpy()
        bootstrap = references.dynamic_bootstrapping_loss(logits, given, guess, partner, noise, share)
        balance = 0.7 * references.class_balance(logits, method.labels.class_prior.double().cpu().numpy())

        method.network.load_state_dict(start)
        found = method.train().loss(Moment(phase, 3.0), batch)
        assert found["bootstrap"].item() == pytest.approx(bootstrap, rel=1e-4)
        assert found["balance"].item() == pytest.approx(balance, rel=1e-3, abs=1e-6)

    def test_no_gradient_reaches_the_guess_or_the_weights(self):
        trainer = make_trainer("bmm", weights_from="batch", average_from="0")
        next(trainer.epochs())
        phase = trainer.method.phases()[1]
        passes = []
        trainer.method.network.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
        trainer.method.train().loss(Moment(phase, 2.0), first_batch(trainer, phase))
        assert passes == [False, False, True]


class TestTracking:
    def test_losses_are_tracked_in_evaluation_mode_on_augmented_images(self):
        trainer = make_trainer("bmm", weights_from="epoch", average_from="0")
        seen = []
        original = trainer.predict

        def spy(view="plain"):
            logits = original(view)
            seen.append((view, logits))
            return logits

        trainer.predict = spy
        next(trainer.epochs())
        ((view, logits),) = seen
        assert view == "weak"
        given = digit_labels(200)[0]
        expected = -np.log(references.softmax(logits.cpu().numpy())[np.arange(200), given])
        np.testing.assert_allclose(trainer.method.recent_losses[0].cpu().numpy(), expected, rtol=1e-4)
        alpha, beta, weight = references.beta_mixture_em(self.normalised(expected, inside=True))
        noise = references.beta_posterior(self.normalised(expected), alpha, beta, weight)
        # The reference falls again at the highest losses; the method holds it at its peak.
        order = np.argsort(expected)
        held = np.maximum.accumulate(noise[order])
        np.testing.assert_allclose(trainer.method.weights.cpu().numpy()[order], held, atol=0.02)

    @staticmethod
    def normalised(losses, *, inside=False):
        """Methods.md 3.1: percentiles 5 and 95, edges at 1e-3."""
        low, high = np.percentile(losses, [5, 95])
        if inside:
            losses = losses[(losses >= low) & (losses <= high)]
        low += 1e-5
        return np.clip((losses - low) / (high - low + 1e-6), 1e-3, 1 - 1e-3)

    def test_average_weights_come_from_the_averaged_predictions(self):
        trainer = make_trainer("bmm", weights_from="average", average_from="0")
        epochs = trainer.epochs()
        for _ in range(3):
            next(epochs)
        given, probs = digit_labels(200)[0], trainer.method.trajectory.double().cpu().numpy()
        usual = np.array([probs[given == k, k].mean() for k in range(10)])[given]
        losses = -np.log(probs[np.arange(200), given] / usual)
        expected = NoiseModel.fit(losses).posterior(losses)
        np.testing.assert_allclose(trainer.method.weights.cpu().numpy(), expected, atol=1e-4)

    def test_epochs_that_nothing_needs_are_not_tracked(self):
        trainer = make_trainer("bmm", epochs=8, average_from="3")
        tracked = [bool(report.reported) for report in trainer.epochs()]
        assert tracked == [False] * 3 + [True] * 5

    def test_the_last_five_losses_are_kept_in_a_ring(self):
        trainer = make_trainer("bmm", epochs=7, average_from="0")
        for report in trainer.epochs():
            slot = (report.epoch - 1) % 5
            latest = trainer.method.recent_losses[slot].clone()
        assert torch.equal(trainer.method.recent_losses[slot], latest)
        assert (trainer.method.recent_losses > 0).all()

    def test_the_paper_score_is_the_posterior_of_the_mean_of_the_last_losses(self):
        trainer = make_trainer("bmm", epochs=3, score_from="method", average_from="0")
        list(trainer.epochs())
        losses = trainer.method.recent_losses[:3].double().mean(dim=0).cpu().numpy()
        noise = trainer.method.evidence(trainer.predict).noise
        assert (np.argsort(losses, kind="stable") == np.argsort(noise, kind="stable")).mean() > 0.99
        np.testing.assert_allclose(noise, NoiseModel.fit(losses).posterior(losses), atol=1.1e-3)


class TestClassBalance:
    def test_many_classes_use_a_moving_mean_with_the_gradient_of_the_batch(self):
        trainer = make_trainer("bmm")
        method = trainer.method
        logits = torch.randn(20, 10, device=DEVICE, requires_grad=True)  # K = 10 > B / 4 = 5
        before = method.mean_probs.clone()
        moving = method._mean_probs(logits)
        expected = 0.9 * before + 0.1 * logits.softmax(dim=1).mean(dim=0)
        torch.testing.assert_close(moving, expected)
        torch.testing.assert_close(method.mean_probs, expected.detach())
        moving[0].backward()
        assert logits.grad.abs().sum() > 0

    def test_few_classes_use_the_batch_itself(self):
        method = make_trainer("bmm").method
        logits = torch.randn(40, 10, device=DEVICE)
        torch.testing.assert_close(method._mean_probs(logits), logits.softmax(dim=1).mean(dim=0))


def rows_of(noisy_share, rows=3_000, classes=4, seed=0):
    """Averaged predictions of a good network; a share of the given labels is wrong, to any other class."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < noisy_share, (true + rng.integers(1, classes, rows)) % classes, true)
    probs = rng.dirichlet(np.ones(classes), rows) * 0.3
    probs[np.arange(rows), true] += 0.7
    return probs, given, true


class TestEvidence:
    @pytest.mark.parametrize("share", [0.2, 0.4])
    def test_the_pooled_reading_separates_wrong_from_right_and_knows_the_rate(self, share):
        probs, given, true = rows_of(share)
        evidence = trajectory_evidence(probs, given)
        wrong = given != true
        assert evidence.fit.ok
        assert not evidence.fit.clean
        assert evidence.noise[wrong].min() > evidence.noise[~wrong].mean()
        assert 0.7 * wrong.mean() < evidence.noise.mean() < 1.2 * wrong.mean()
        assert (evidence.probs.argmax(axis=1) == true).mean() > 0.95

    def test_the_pooled_reading_is_the_formula(self):
        probs, given, _ = rows_of(0.3, rows=150)
        n = np.arange(150)
        usual = np.array([probs[given == k, k].mean() for k in range(4)])[given]
        losses = -np.log(probs[n, given] / usual)
        weights = NoiseModel.fit(losses).posterior(losses)
        posterior, _ = references.transition_posterior(probs, given)
        expected = (weights * references.ratio_score(probs, given) + 1 - posterior[n, given]) / 2
        np.testing.assert_allclose(trajectory_evidence(probs, given).noise, expected, atol=1e-6)

    @pytest.mark.parametrize(
        "read", [trajectory_evidence, lambda p, g: paper_evidence(-np.log(p[range(len(g)), g]), p, g)]
    )
    def test_clean_labels_are_a_finding_and_no_failure(self, read):
        probs, given, _ = rows_of(0.0)
        evidence = read(probs, given)
        assert evidence.fit.ok
        assert evidence.fit.clean
        assert "look clean" in evidence.fit.reason

    def test_rows_without_a_label_do_not_matter(self):
        probs, given, _ = rows_of(0.3)
        more = np.vstack([probs, np.full((2, 4), np.nan)])
        evidence = trajectory_evidence(more, np.append(given, [-1, -1]))
        np.testing.assert_array_equal(evidence.noise[:-2], trajectory_evidence(probs, given).noise)
        assert np.isnan(evidence.noise[-2:]).all()
        assert np.isnan(evidence.probs[-2:]).all()

    def test_equal_losses_are_a_failed_fit(self):
        evidence = trajectory_evidence(np.full((100, 4), 0.25), np.arange(100) % 4)
        assert not evidence.fit.ok
        assert "same loss" in evidence.fit.reason

    def test_the_paper_reading_is_the_soft_target_of_equation_10(self):
        probs, given, _ = rows_of(0.3)
        losses = -np.log(probs[np.arange(3_000), given])
        w = NoiseModel.fit(losses).posterior(losses)[:, None]
        evidence = paper_evidence(losses, probs, given)
        np.testing.assert_allclose(evidence.probs, (1 - w) * np.eye(4)[given] + w * probs, atol=1e-5)


def test_unlike_cross_entropy_it_does_not_learn_the_wrong_labels():
    """After training, the network agrees with the truth on most rows that were given a wrong label."""
    given, true = digit_labels(600)
    agreement = {}
    for name in ("bmm", "cross-entropy"):
        trainer = make_trainer(name, rows=600, epochs=30, given=given)
        list(trainer.epochs())
        predicted = trainer.predict("plain").argmax(dim=1).cpu().numpy()
        wrong = given != true
        agreement[name] = (predicted[wrong] == given[wrong]).mean()
    assert agreement["bmm"] < 0.15
    assert agreement["bmm"] < agreement["cross-entropy"]
