"""BMM: parity with the equations, and what only this method does."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch
from digit_training import DEVICE, digit_labels, evidence_of, first_batch, make_trainer

from labelfix.estimation.mixture import NoiseModel
from labelfix.methods.base import TrainState


class TestParity:
    def test_warm_up_is_mixup(self):
        trainer = make_trainer("bmm", variant="m-dyr-h")
        phase = trainer.method.phases()[0]
        batch = first_batch(trainer, phase.views)
        found = trainer.method.train().loss(TrainState(phase, 0.0), batch)["mixup"].item()

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

    def test_no_gradient_reaches_the_guess_or_the_weights(self):
        trainer = make_trainer("bmm", weights_from="batch", average_from="0", variant="m-dyr-h")
        next(trainer.epochs())
        phase = trainer.method.phases()[1]
        passes = []
        trainer.method.network.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
        trainer.method.train().loss(TrainState(phase, 2.0), first_batch(trainer, phase.views))
        assert passes == [False, False, True]


class TestTracking:
    def test_losses_are_tracked_in_evaluation_mode_on_augmented_images(self):
        trainer = make_trainer("bmm", weights_from="epoch", average_from="0")
        seen = []
        original = trainer.predict

        def spy(view="plain", **options):
            logits = original(view, **options)
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
        given, probs = digit_labels(200)[0], trainer.method.ensembled_probs.double().cpu().numpy()
        usual = np.array([probs[given == k, k].mean() for k in range(10)])[given]
        losses = -np.log(probs[np.arange(200), given] / usual)
        expected = NoiseModel.fit(losses).posterior(losses)
        np.testing.assert_allclose(trainer.method.weights.cpu().numpy(), expected, atol=1e-4)

    def test_epochs_that_nothing_needs_are_not_tracked(self):
        trainer = make_trainer("bmm", epochs=8, average_from="3")
        tracked = [bool(report.reported) for report in trainer.epochs()]
        assert tracked == [False] * 3 + [True] * 5

    def test_the_last_five_losses_are_kept_in_a_ring(self):
        trainer = make_trainer("bmm", epochs=7, average_from="0", variant="m-dyr-h")
        for report in trainer.epochs():
            slot = (report.epoch - 1) % 5
            latest = trainer.method.recent_losses[slot].clone()
        assert torch.equal(trainer.method.recent_losses[slot], latest)
        assert (trainer.method.recent_losses > 0).all()

    def test_the_paper_score_is_the_posterior_of_the_mean_of_the_last_losses(self):
        trainer = make_trainer("bmm", epochs=3, score_from="method", average_from="0")
        list(trainer.epochs())
        losses = trainer.method.recent_losses[:3].double().mean(dim=0).cpu().numpy()
        noise = evidence_of(trainer).noise
        assert (np.argsort(losses, kind="stable") == np.argsort(noise, kind="stable")).mean() > 0.99
        np.testing.assert_allclose(noise, NoiseModel.fit(losses).posterior(losses), atol=1.1e-3)


class TestClassBalance:
    def test_many_classes_use_a_moving_mean_with_the_gradient_of_the_batch(self):
        trainer = make_trainer("bmm", variant="m-dyr-h")
        method = trainer.method
        logits = torch.randn(20, 10, device=DEVICE, requires_grad=True)  # K = 10 > B / 4 = 5
        before = method.mean_probs.clone()
        moving = method._mean_probs(logits)
        expected = 0.9 * before + 0.1 * logits.softmax(dim=1).mean(dim=0)
        torch.testing.assert_close(moving, expected)
        torch.testing.assert_close(method.mean_probs, expected.detach())
        (found,) = torch.autograd.grad(moving[0], logits)
        (of_the_batch,) = torch.autograd.grad(logits.softmax(dim=1).mean(dim=0)[0], logits)
        torch.testing.assert_close(found, of_the_batch)

    def test_few_classes_use_the_batch_itself(self):
        method = make_trainer("bmm", variant="m-dyr-h").method
        logits = torch.randn(40, 10, device=DEVICE)
        torch.testing.assert_close(method._mean_probs(logits), logits.softmax(dim=1).mean(dim=0))


def test_unlike_cross_entropy_it_does_not_learn_the_wrong_labels():
    """After training, the network agrees with the truth on most rows that were given a wrong label."""
    given, true = digit_labels(600)
    agreement = {}
    changes = {"variant": "m-dyr-h", "warmup_epochs": "22", "bootstrap_epochs": "8", "average_from": "8"}
    for name, settings in (("bmm", changes), ("cross-entropy", {})):
        trainer = make_trainer(name, rows=600, epochs=30, given=given, milestones="24", **settings)
        list(trainer.epochs())
        predicted = trainer.predict("plain").argmax(dim=1).cpu().numpy()
        wrong = given != true
        agreement[name] = (predicted[wrong] == given[wrong]).mean()
    assert agreement["bmm"] < 0.15
    assert agreement["bmm"] < agreement["cross-entropy"]
