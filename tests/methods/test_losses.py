from __future__ import annotations

import numpy as np
import pytest
import references
import torch

from labelfix.methods.losses import bootstrapped_targets, class_balance, clean_share, mix, soft_cross_entropy


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "logits": rng.normal(size=(16, 5)) * 3,
        "given": rng.integers(0, 5, 16),
        "guess": rng.integers(0, 5, 16),
        "partner": rng.permutation(16),
        "noise": rng.random(16),
    }


def one_hot(labels: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels), 5).double()


def test_soft_cross_entropy_is_the_formula(batch):
    targets = np.random.default_rng(1).dirichlet(np.ones(5), 16)
    found = soft_cross_entropy(torch.from_numpy(batch["logits"]), torch.from_numpy(targets))
    assert found.item() == pytest.approx(references.cross_entropy(targets, batch["logits"]), rel=1e-12)


def test_bootstrapped_mixup_is_equation_13_with_both_signs(batch):
    targets = bootstrapped_targets(
        one_hot(batch["given"]), one_hot(batch["guess"]), torch.from_numpy(batch["noise"])
    )
    mixed = mix(targets, targets[torch.from_numpy(batch["partner"])], 0.3)
    found = soft_cross_entropy(torch.from_numpy(batch["logits"]), mixed).item()
    expected = references.dynamic_bootstrapping_loss(
        batch["logits"], batch["given"], np.eye(5)[batch["guess"]], batch["partner"], batch["noise"], 0.3
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > 0


def test_bootstrapping_without_mixup_is_equation_10(batch):
    guess = np.random.default_rng(2).dirichlet(np.ones(5), 16)
    targets = bootstrapped_targets(
        one_hot(batch["given"]), torch.from_numpy(guess), torch.from_numpy(batch["noise"])
    )
    found = soft_cross_entropy(torch.from_numpy(batch["logits"]), targets).item()
    expected = references.bootstrapping_loss(batch["logits"], batch["given"], guess, batch["noise"])
    assert found == pytest.approx(expected, rel=1e-12)


def test_dynamic_mixup_is_equation_15(batch):
    x = np.random.default_rng(3).normal(size=(16, 3, 4, 4))
    noise, partner = torch.from_numpy(batch["noise"]), torch.from_numpy(batch["partner"])
    share = clean_share(noise, noise[partner])
    images = torch.from_numpy(x)
    found = mix(images, images[partner], share.view(-1, 1, 1, 1))
    np.testing.assert_allclose(
        found.numpy(), references.dynamic_mixup(x, batch["partner"], batch["noise"]), rtol=1e-12, atol=1e-12
    )


def test_rows_that_are_all_surely_wrong_mix_half_and_half():
    """The weights stop short of 1, so that equation 15 is no 0 / 0."""
    worst = torch.full((3,), 1 - 1e-4)
    torch.testing.assert_close(clean_share(worst, worst), torch.full((3,), 0.5))


def test_class_balance_is_equation_14_and_never_negative(batch):
    logits, prior = torch.from_numpy(batch["logits"]), np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    mean = logits.softmax(dim=1).mean(dim=0)
    found = class_balance(mean, torch.from_numpy(prior)).item()
    assert found == pytest.approx(references.class_balance(batch["logits"], prior), rel=1e-12)
    assert found > 0
    assert class_balance(mean, mean).item() == pytest.approx(0, abs=1e-12)


def test_class_balance_survives_an_abandoned_class():
    mean = torch.tensor([1.0, 0.0], requires_grad=True)
    value = class_balance(mean, torch.tensor([0.5, 0.5]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(mean.grad).all()


def test_mixing_is_linear_and_keeps_the_ends():
    first, second = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(mix(first, second, 0.25), 0.25 * first + 0.75 * second)
    assert torch.equal(mix(first, second, 1.0), first)
    assert torch.equal(mix(first, second, 0.0), second)
