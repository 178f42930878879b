from __future__ import annotations

import numpy as np
import pytest
import references
from hypothesis import given as for_all
from hypothesis import settings, strategies

from labelfix.estimation.evidence import (
    Evidence,
    Fit,
    class_relative_losses,
    noise_concentration,
    ratio_score,
    transition_matrix,
    transition_posterior,
    true_class_beliefs,
)


def predictions(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.4), size=rows)
    given = rng.integers(0, classes, rows)
    given[:classes] = np.arange(classes)
    return probs, given


def test_ratio_score_is_the_formula():
    probs, given = predictions(60, 4, seed=0)
    np.testing.assert_allclose(ratio_score(probs, given), references.ratio_score(probs, given), rtol=1e-12)


def test_transition_posterior_is_the_formula():
    probs, given = predictions(120, 4, seed=1)
    posterior, transition = transition_posterior(probs, given)
    expected, expected_transition = references.transition_posterior(probs, given)
    np.testing.assert_allclose(posterior, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(transition, expected_transition, rtol=1e-8, atol=1e-12)


def test_the_posterior_sees_through_pair_noise():
    """Given labels of class 0 swapped to 1 for 30 % of its rows; the network predicts the given labels."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 3_000)
    given = np.where((true == 0) & (rng.random(3_000) < 0.3), 1, true)
    network = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])[true] * 0.97 + 0.01
    posterior, transition = transition_posterior(network, given)
    assert transition[0, 1] == pytest.approx(0.3, abs=0.03)
    assert (posterior.argmax(axis=1) == true).mean() > 0.99


def test_rows_without_label_or_prediction_stay_nan_and_do_not_matter():
    probs, given = predictions(80, 3, seed=2)
    more_probs = np.vstack([probs, np.full((1, 3), np.nan), np.full((1, 3), 1 / 3)])
    more_given = np.append(given, [0, -1])
    posterior, _ = transition_posterior(more_probs, more_given)
    score = ratio_score(more_probs, more_given)
    assert np.isnan(posterior[80:]).all()
    assert np.isnan(score[80:]).all()
    np.testing.assert_array_equal(posterior[:80], transition_posterior(probs, given)[0])
    np.testing.assert_array_equal(score[:80], ratio_score(probs, given))


def test_a_class_without_mass_keeps_its_label():
    matrix = transition_matrix(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0, 0]))
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [1, 0, 0], [0, 0, 1]])


@settings(max_examples=25, deadline=None)
@for_all(strategies.integers(0, 10_000), strategies.permutations(range(4)))
def test_a_class_permutation_permutes_the_findings(seed, order):
    probs, given = predictions(50, 4, seed)
    order = np.array(order)
    moved_probs, moved_given = np.empty_like(probs), order[given]
    moved_probs[:, order] = probs
    posterior, transition = transition_posterior(probs, given)
    moved, moved_transition = transition_posterior(moved_probs, moved_given)
    np.testing.assert_allclose(moved[:, order], posterior, atol=1e-10)
    np.testing.assert_allclose(moved_transition[np.ix_(order, order)], transition, atol=1e-10)
    np.testing.assert_allclose(ratio_score(moved_probs, moved_given), ratio_score(probs, given), atol=1e-12)


# ---------------------------------------------------------------- fitted on some rows, read on all


def two_parts(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 rows to fit on and 40 others, mixed; the last class is given in none of the first."""
    probs, given = predictions(100, 4, seed)
    fitted = np.random.default_rng(seed).permutation(100) < 60
    given[fitted & (given == 3)] = 0
    given[np.flatnonzero(~fitted)[0]] = 3
    return probs, given, fitted


def usual(probs: np.ndarray, given: np.ndarray, fitted: np.ndarray, label: int) -> float:
    """Mean probability of a class over the fitted rows given it; 1/K without any."""
    own = [probs[n, label] for n in range(len(given)) if fitted[n] and given[n] == label]
    return sum(own) / len(own) if own else 1 / probs.shape[1]


def slow_posterior(probs: np.ndarray, given: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, ...]:
    """Beliefs, posterior and transition, every parameter from the fitted rows, row by row."""
    known, labels = probs[fitted], given[fitted]
    classes = range(probs.shape[1])
    count = max(1, round(0.03 * len(known)))
    anchors = np.stack([known[np.argsort(-known[:, j], kind="stable")[:count]].mean(axis=0) for j in classes])
    q = np.full(probs.shape, 1 / probs.shape[1])
    for i, row in enumerate(probs):
        for _ in range(50):
            q[i] = q[i] * (anchors @ (row / (anchors.T @ q[i])))
            q[i] /= q[i].sum()
    shares = [[q[fitted][labels == c, j].sum() / q[fitted][:, j].sum() for c in classes] for j in classes]
    transition = np.array(shares)
    posterior = np.stack([q[i] * transition[:, given[i]] for i in range(len(given))])
    return q, posterior / np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300), transition


def test_scores_compare_with_what_is_usual_among_the_fitted_rows():
    probs, given, fitted = two_parts()
    own = probs[np.arange(100), given]
    t = np.array([usual(probs, given, fitted, label) for label in given])
    np.testing.assert_allclose(ratio_score(probs, given, fitted), t / (t + 2 * own), rtol=1e-12)
    losses = class_relative_losses(probs, given, fitted)
    np.testing.assert_allclose(losses, -np.log(own / t), rtol=1e-9, atol=1e-12)
    everybody = np.ones(100, dtype=bool)
    np.testing.assert_array_equal(ratio_score(probs, given), ratio_score(probs, given, everybody))
    np.testing.assert_array_equal(
        class_relative_losses(probs, given), class_relative_losses(probs, given, everybody)
    )


def test_the_posterior_takes_every_parameter_from_the_fitted_rows():
    probs, given, fitted = two_parts()
    beliefs, expected, expected_transition = slow_posterior(probs, given, fitted)
    posterior, transition = transition_posterior(probs, given, fitted)
    np.testing.assert_allclose(true_class_beliefs(probs, fitted), beliefs, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(transition, expected_transition, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(posterior, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("score", [ratio_score, class_relative_losses, transition_posterior])
def test_fitting_on_some_rows_and_scoring_them_is_leaving_the_others_out(score):
    probs, given, fitted = two_parts()
    alone, among = score(probs[fitted], given[fitted]), score(probs, given, fitted)
    if isinstance(alone, tuple):
        np.testing.assert_allclose(among[1], alone[1], rtol=1e-12)
        alone, among = alone[0], among[0]
    np.testing.assert_allclose(among[fitted], alone, rtol=1e-12)


def test_fitted_rows_without_label_or_prediction_do_not_matter():
    probs, given, fitted = two_parts()
    more_probs = np.vstack([probs, np.full((1, 4), np.nan), np.full((1, 4), 0.25)])
    more_given, more_fitted = np.append(given, [0, -1]), np.append(fitted, [True, False])
    for score in (ratio_score, class_relative_losses):
        found = score(more_probs, more_given, more_fitted)
        np.testing.assert_array_equal(found[:100], score(probs, given, fitted))
        assert np.isnan(found[100:]).all()


# ---------------------------------------------------------------- where wrong labels go


def slow_concentration(transition: np.ndarray) -> float:
    """Mean over classes, by their share of the wrong labels, of (sum of squares - 1/(K-1)) / (1 - 1/(K-1))."""
    size = len(transition)
    total, weighed = 0.0, 0.0
    for j in range(size):
        wrong = [transition[j, i] for i in range(size) if i != j]
        mass = sum(wrong)
        if mass > 0:
            squares = sum((share / mass) ** 2 for share in wrong)
            weighed += mass * (squares - 1 / (size - 1)) / (1 - 1 / (size - 1))
        total += mass
    return weighed / total if total and size > 2 else 0.0


def uniform(size: int, rate: float) -> np.ndarray:
    return np.full((size, size), rate / (size - 1)) + np.eye(size) * (1 - rate - rate / (size - 1))


@pytest.mark.parametrize("size", [3, 10])
@pytest.mark.parametrize("rate", [0.1, 0.4, 1.0])
def test_noise_that_goes_anywhere_is_not_concentrated_and_pairs_are_wholly(size, rate):
    assert noise_concentration(uniform(size, rate)) == pytest.approx(0, abs=1e-12)
    pair = np.eye(size) * (1 - rate) + np.roll(np.eye(size), 1, axis=1) * rate
    assert noise_concentration(pair) == pytest.approx(1)
    half = uniform(size, rate)
    half[0] = pair[0]
    assert noise_concentration(half) == pytest.approx(1 / size)


def test_noise_between_two_classes_or_none_is_not_concentrated():
    assert noise_concentration(np.array([[0.7, 0.3], [0.2, 0.8]])) == 0
    assert noise_concentration(np.eye(5)) == 0


@settings(max_examples=50, deadline=None)
@for_all(strategies.integers(0, 10_000), strategies.integers(3, 6))
def test_the_concentration_is_the_formula_and_knows_no_order_of_classes(seed, size):
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(size, 0.5), size=size)
    found = noise_concentration(transition)
    assert found == pytest.approx(slow_concentration(transition), abs=1e-9)
    order = rng.permutation(size)
    assert noise_concentration(transition[np.ix_(order, order)]) == pytest.approx(found, abs=1e-9)


def test_beliefs_of_some_rows_stand_where_these_rows_are():
    beliefs, noise, fit = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.1, 0.7]), Fit(keeps_labels=True)
    found = Evidence.of_rows(beliefs, noise, np.array([3, 1]), 4, fit, {"n": 1})
    nan = float("nan")
    np.testing.assert_array_equal(found.noise, [nan, 0.7, nan, 0.1])
    expected = np.array([[nan, nan], [0.2, 0.8], [nan, nan], [0.9, 0.1]], dtype=np.float32)
    np.testing.assert_array_equal(found.probs, expected)
    assert (found.noise.dtype, found.probs.dtype) == (np.float64, np.float32)
    assert (found.fit, found.diagnostics) == (fit, {"n": 1})
