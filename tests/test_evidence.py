from __future__ import annotations

import numpy as np
import pytest
import references
from hypothesis import given as for_all
from hypothesis import settings, strategies

from labelfix.evidence import ratio_score, transition_matrix, transition_posterior


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
