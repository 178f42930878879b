"""PENCIL's losses class by class against literal float64 formulas, and its label step against the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, xlogy

from labelfix.methods.binary_losses import (
    binary_cross_entropy,
    binary_entropy,
    binary_inverse_kl,
    binary_kl,
    binary_label_gradient,
    first_label_logits,
)


@pytest.fixture
def drawn():
    """Logits z and s (6, 4), and given values t with soft ones among them; float64."""
    rng = np.random.default_rng(0)
    targets = np.where(rng.random((6, 4)) < 0.5, rng.integers(0, 2, (6, 4)), rng.random((6, 4)).round(1))
    return rng.normal(0, 3, (6, 4)), rng.normal(0, 3, (6, 4)), targets


def both(function, *arrays):
    return function(*(torch.tensor(array) for array in arrays)).numpy()


def reference_kl(p, q):
    return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1)


def test_losses_are_the_papers_formulas(drawn):
    z, s, t = drawn
    f, y = expit(z), expit(s)
    np.testing.assert_allclose(both(binary_inverse_kl, z, s), reference_kl(f, y), rtol=1e-10)
    np.testing.assert_allclose(both(binary_kl, z, s), reference_kl(y, f), rtol=1e-10)
    np.testing.assert_allclose(
        both(binary_entropy, z), -(xlogy(f, f) + xlogy(1 - f, 1 - f)).sum(axis=1), rtol=1e-10
    )
    wanted = -(xlogy(t, y) + xlogy(1 - t, 1 - y)).sum(axis=1)
    np.testing.assert_allclose(both(binary_cross_entropy, s, t), wanted, rtol=1e-10)


def test_losses_stay_finite_where_probabilities_round(drawn):
    far = torch.tensor([[200.0, -200.0]])
    for loss in (binary_inverse_kl(far, -far), binary_kl(far, -far), binary_entropy(far)):
        assert torch.isfinite(loss).all()
    assert float(binary_inverse_kl(far, -far)) == pytest.approx(400)


@pytest.mark.parametrize("kl_weight", [0.0, 1.0, 0.3])
def test_the_label_step_is_the_gradient(drawn, kl_weight):
    z, s, t = map(torch.tensor, drawn)
    s.requires_grad_()
    loss = binary_inverse_kl(z, s) + kl_weight * binary_kl(z, s) + 0.5 * binary_cross_entropy(s, t)
    (gradient,) = torch.autograd.grad(loss.sum(), s)
    found = binary_label_gradient(z, s.detach(), t, rho=0.5, kl_weight=kl_weight)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-12)


def test_the_step_without_the_forward_part_rests_between_prediction_and_label():
    f, t, rho = (
        torch.tensor([[0.1, 0.9]], dtype=torch.float64),
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        0.5,
    )
    rest = torch.logit((f + rho * t) / (1 + rho))
    step = binary_label_gradient(torch.logit(f), rest, t, rho=rho, kl_weight=0.0)
    torch.testing.assert_close(step, torch.zeros_like(step), rtol=0, atol=1e-12)


def test_labels_begin_at_what_is_given_soft_values_exactly():
    targets = torch.tensor([[0.0, 1.0, 0.1, 0.5, 0.9]])
    first = first_label_logits(targets, 10.0)
    assert first[0, :2].tolist() == [-10, 10]
    torch.testing.assert_close(first.sigmoid()[:, 2:], targets[:, 2:], rtol=1e-6, atol=0)
