from __future__ import annotations

import warnings

import numpy as np
import pytest
import references
import torch
from hypothesis import given, settings, strategies
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Estimator

from labelfix.estimation.mixture import (
    BetaMixture,
    GaussianMixture,
    LossScale,
    NoiseModel,
    fit_beta_mixture,
    fit_gaussian_mixture,
)
from labelfix.methods.losses import noise_posterior

KINDS = ["beta", "gaussian"]
shapes = strategies.floats(0.05, 50)
means, variances = strategies.floats(0.01, 0.99), strategies.floats(5e-4, 0.2)


def two_betas(rows: int = 20_000, noisy: float = 0.4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_noisy = rng.random(rows) < noisy
    return np.where(is_noisy, rng.beta(6, 2, rows), rng.beta(1.5, 9, rows)).clip(1e-3, 1 - 1e-3), is_noisy


@pytest.mark.parametrize("noisy", [0.1, 0.4, 0.8])
def test_em_on_the_histogram_agrees_with_em_on_the_full_vector(noisy):
    x, _ = two_betas(noisy=noisy)
    mixture = fit_beta_mixture(x)
    alpha, beta, weight = references.beta_mixture_em(x)
    np.testing.assert_allclose(mixture.alpha, alpha, rtol=1e-3)
    np.testing.assert_allclose(mixture.beta, beta, rtol=1e-3)
    np.testing.assert_allclose(mixture.weight, weight, rtol=1e-3)


def test_component_means_are_recovered():
    rng = np.random.default_rng(0)
    is_noisy = rng.random(20_000) < 0.3
    x = np.where(is_noisy, rng.beta(20, 5, 20_000), rng.beta(2, 20, 20_000))
    mixture = fit_beta_mixture(x)
    assert mixture.means[0] == pytest.approx(x[~is_noisy].mean(), abs=0.06)
    assert mixture.means[1] == pytest.approx(x[is_noisy].mean(), abs=0.06)
    assert mixture.weight[1] == pytest.approx(0.3, abs=0.05)


def test_the_posterior_is_bayes_rule_where_it_rises():
    model = NoiseModel(LossScale(0.0, 1.0), BetaMixture((1.5, 6.0), (9.0, 2.0), (0.6, 0.4)))
    losses = np.linspace(0.05, 0.6, 50)
    x = (losses - 1e-5) / (1.0 - 1e-5 + 1e-6)
    expected = references.beta_posterior(x, (1.5, 6.0), (9.0, 2.0), (0.6, 0.4))
    np.testing.assert_allclose(model.posterior(losses), expected, rtol=1e-4)


@settings(max_examples=200, deadline=None)
@given(shapes, shapes, shapes, shapes, strategies.floats(0.01, 0.99))
def test_the_posterior_never_falls_as_the_loss_rises(a0, b0, a1, b1, weight):
    if a0 / (a0 + b0) > a1 / (a1 + b1):
        a0, b0, a1, b1 = a1, b1, a0, b0
    model = NoiseModel(LossScale(0.0, 1.0), BetaMixture((a0, a1), (b0, b1), (1 - weight, weight)))
    posterior = model.posterior(np.linspace(-0.5, 1.5, 500))
    assert np.isfinite(posterior).all()
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (np.diff(posterior) >= -1e-9).all()


@settings(max_examples=200, deadline=None)
@given(means, variances, means, variances, strategies.floats(0.01, 0.99))
def test_the_posterior_of_gaussians_never_falls_either(m0, v0, m1, v1, weight):
    mixture = GaussianMixture((min(m0, m1), max(m0, m1)), (v0, v1), (1 - weight, weight))
    posterior = NoiseModel(LossScale(0.0, 1.0), mixture).posterior(np.linspace(-0.5, 1.5, 500))
    assert np.isfinite(posterior).all()
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (np.diff(posterior) >= -1e-9).all()


@pytest.mark.parametrize("noisy", [0.1, 0.4, 0.8])
def test_gaussians_are_those_of_scikit_learn_held_at_the_turning_point(noisy):
    x, _ = two_betas(5_000, noisy)
    model = NoiseModel.fit(x, "gaussian")
    inside = x[(x >= model.scale.low) & (x <= model.scale.high)]
    estimator = Estimator(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(model.scale.normalise(inside)[:, None])
    points = np.sort(x)
    expected = estimator.predict_proba(model.scale.normalise(points)[:, None])
    expected = expected[:, estimator.means_[:, 0].argmax()]
    found = model.posterior(points)
    # Whole, what scikit-learn says falls from 0 to a trough and may fall again after a peak.
    trough = expected[: len(expected) // 2].argmin()
    peak = trough + expected[trough:].argmax()
    assert peak - trough > 0.7 * len(points)
    np.testing.assert_allclose(found[trough:peak], expected[trough:peak], atol=2e-5)
    np.testing.assert_allclose(found[:trough], expected[trough], atol=2e-5)
    np.testing.assert_allclose(found[peak:], expected[peak], atol=2e-5)


def test_gaussians_are_ordered_by_mean_and_recovered():
    rng = np.random.default_rng(0)
    is_noisy = rng.random(20_000) < 0.3
    x = np.where(is_noisy, rng.normal(0.7, 0.1, 20_000), rng.normal(0.2, 0.05, 20_000)).clip(1e-3, 1 - 1e-3)
    mixture = fit_gaussian_mixture(x)
    assert mixture.means == pytest.approx((0.2, 0.7), abs=0.01)
    assert mixture.variance == pytest.approx((0.05**2, 0.1**2), abs=1e-3)
    assert mixture.weight == pytest.approx((0.7, 0.3), abs=0.02)


def test_losses_that_rise_towards_zero_do_not_make_sure_rows_noisy():
    """After heavy mixup the clean losses peak away from 0; the reference calls the lowest ones noisy."""
    model = NoiseModel(LossScale(0.0, 1.0), BetaMixture((2.46, 1.2), (8.0, 1.55), (0.7, 0.3)))
    posterior = model.posterior(np.array([0.0, 0.05, 0.9]))
    assert posterior[0] <= posterior[1] < 0.5 < posterior[2]


def test_components_are_ordered_by_mean():
    rng = np.random.default_rng(1)
    mixture = fit_beta_mixture(rng.beta(0.3, 0.2, 5_000).clip(1e-3, 1 - 1e-3))
    clean, noisy = mixture.means
    assert clean <= noisy
    assert sum(mixture.weight) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.7])
def test_equal_losses_make_no_mixture_and_no_suspects(value, kind):
    model = NoiseModel.fit(np.full(100, value), kind)
    assert model.mixture is None
    np.testing.assert_array_equal(model.posterior(np.full(100, value)), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_that_only_differ_outside_the_percentiles_make_no_mixture(kind):
    losses = np.full(100, 0.5)
    losses[:6], losses[94:] = 0.1, 0.9
    scale = LossScale.of(np.delete(losses, [0, 99]))
    assert scale.low < 0.5 < scale.high  # between two values: only the equal ones are inside
    assert NoiseModel.fit(np.delete(losses, [0, 99]), kind).mixture is None


@pytest.mark.parametrize("kind", KINDS)
def test_two_values_give_finite_parameters(kind):
    model = NoiseModel.fit(np.repeat([0.1, 3.0], [60, 40]), kind)
    parameters = [list(part.values()) for part in model.mixture.components().values()]
    assert np.isfinite(parameters).all()
    low, high = model.posterior(np.array([0.1, 3.0]))
    assert low < 0.5 < high


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_form_equals_the_exact_form(kind):
    losses = np.random.default_rng(0).exponential(1.0, 1_000)
    model = NoiseModel.fit(losses, kind)
    coefficients = torch.from_numpy(model.coefficients())
    on_device = noise_posterior(torch.tensor(losses, dtype=torch.float32), coefficients)
    np.testing.assert_allclose(on_device.numpy(), model.posterior(losses), atol=1e-4)


def test_the_fit_leaves_out_the_tails():
    """Percentiles 5 and 95 bound the fit: huge losses of a few rows change nothing."""
    losses = np.random.default_rng(0).gamma(2.0, 1.0, 2_000)
    extreme = losses.copy()
    extreme[losses > np.percentile(losses, 97)] += 1e6
    assert NoiseModel.fit(losses) == NoiseModel.fit(extreme)
