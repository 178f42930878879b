from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import references
import torch

from labelfix.methods.losses import (
    bootstrapped_targets,
    class_balance,
    clean_share,
    mean_probs,
    mix,
    soft_cross_entropy,
)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits, given, guess = rng.normal(size=(16, 5)) * 3, rng.integers(0, 5, 16), rng.integers(0, 5, 16)
    partner, noise = rng.permutation(16), rng.random(16)
    return SimpleNamespace(logits=logits, given=given, guess=guess, partner=partner, noise=noise)


def one_hot(labels: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels), 5).double()


def loss_of(batch, targets: torch.Tensor) -> float:
    return soft_cross_entropy(torch.from_numpy(batch.logits), targets).item()


def test_soft_cross_entropy_is_the_formula(batch):
    targets = np.random.default_rng(1).dirichlet(np.ones(5), 16)
    expected = references.cross_entropy(targets, batch.logits)
    assert loss_of(batch, torch.from_numpy(targets)) == pytest.approx(expected, rel=1e-12)


def test_bootstrapped_mixup_is_equation_13_with_both_signs(batch):
    noise, partner = torch.from_numpy(batch.noise), torch.from_numpy(batch.partner)
    targets = bootstrapped_targets(one_hot(batch.given), one_hot(batch.guess), noise)
    found = loss_of(batch, mix(targets, targets[partner], 0.3))
    expected = references.dynamic_bootstrapping_loss(
        batch.logits, batch.given, np.eye(5)[batch.guess], batch.partner, batch.noise, 0.3
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > 0


def test_bootstrapping_without_mixup_is_equation_10(batch):
    guess = np.random.default_rng(2).dirichlet(np.ones(5), 16)
    noise = torch.from_numpy(batch.noise)
    targets = bootstrapped_targets(one_hot(batch.given), torch.from_numpy(guess), noise)
    expected = references.bootstrapping_loss(batch.logits, batch.given, guess, batch.noise)
    assert loss_of(batch, targets) == pytest.approx(expected, rel=1e-12)


def test_dynamic_mixup_is_equation_15(batch):
    images = np.random.default_rng(3).normal(size=(16, 3, 4, 4))
    noise, partner = torch.from_numpy(batch.noise), torch.from_numpy(batch.partner)
    x, share = torch.from_numpy(images), clean_share(noise, noise[partner]).view(-1, 1, 1, 1)
    expected = references.dynamic_mixup(images, batch.partner, batch.noise)
    np.testing.assert_allclose(mix(x, x[partner], share).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_rows_that_are_all_surely_wrong_mix_half_and_half():
    """The weights stop short of 1, so that equation 15 is no 0 / 0."""
    worst = torch.full((3,), 1 - 1e-4)
    torch.testing.assert_close(clean_share(worst, worst), torch.full((3,), 0.5))


def test_class_balance_is_equation_14_and_never_negative(batch):
    logits, prior = torch.from_numpy(batch.logits), np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    mean = logits.softmax(dim=1).mean(dim=0)
    found = class_balance(mean, torch.from_numpy(prior)).item()
    assert found == pytest.approx(references.class_balance(batch.logits, prior), rel=1e-12)
    assert found > 0
    assert class_balance(mean, mean).item() == pytest.approx(0, abs=1e-12)


def test_class_balance_survives_an_abandoned_class():
    mean = torch.tensor([1.0, 0.0], requires_grad=True)
    value = class_balance(mean, torch.tensor([0.5, 0.5]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(mean.grad).all()


@pytest.mark.parametrize("rows", [16, 20, 7])
def test_the_moving_mean_has_the_value_of_many_batches_and_the_gradient_of_its_own(rows):
    """K = 5 classes in at most 20 rows; with exactly 20 the mean is the batch's, gradient and all."""
    rng = np.random.default_rng(4)
    z, before, prior = rng.normal(size=(rows, 5)) * 3, rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
    logits = torch.from_numpy(z).requires_grad_()
    found = mean_probs(logits, torch.from_numpy(before))
    batch_mean = references.softmax(z).mean(axis=0)
    held = batch_mean if rows == 20 else before  # of a mean that does not move nothing is held
    np.testing.assert_allclose(found.detach(), 0.9 * held + 0.1 * batch_mean, rtol=1e-12)
    class_balance(found, torch.from_numpy(prior)).backward()
    expected = references.class_balance_gradient(z, prior, held)
    np.testing.assert_allclose(logits.grad, expected, rtol=1e-10, atol=1e-14)


def test_mixing_is_linear_and_keeps_the_ends():
    first, second = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(mix(first, second, 0.25), 0.25 * first + 0.75 * second)
    assert torch.equal(mix(first, second, 1.0), first)
    assert torch.equal(mix(first, second, 0.0), second)
