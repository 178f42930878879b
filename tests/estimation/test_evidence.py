from __future__ import annotations

import numpy as np

from labelfix.estimation.evidence import Evidence, Fit, class_relative_losses, transition_matrix


def test_a_class_without_mass_keeps_its_label():
    matrix = transition_matrix(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0, 0]))
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [1, 0, 0], [0, 0, 1]])


def test_losses_are_relative_to_what_is_usual_for_the_given_class():
    rng = np.random.default_rng(0)
    probs, given = rng.dirichlet(np.full(4, 0.4), 60), rng.integers(0, 4, 60)
    usual = [np.mean([probs[n, g] for n in range(60) if given[n] == g]) for g in given]
    more_probs = np.vstack([probs, np.full((1, 4), np.nan), np.full((1, 4), 0.25)])
    losses = class_relative_losses(more_probs, np.append(given, [0, -1]))
    np.testing.assert_allclose(losses[:60], -np.log(probs[np.arange(60), given] / usual), rtol=1e-9)
    assert np.isnan(losses[60:]).all()


def test_beliefs_of_some_rows_stand_where_these_rows_are():
    beliefs, noise, fit = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.1, 0.7]), Fit(keeps_labels=True)
    found = Evidence.of_rows(beliefs, noise, np.array([3, 1]), 4, fit, {"n": 1})
    nan = float("nan")
    np.testing.assert_array_equal(found.noise, [nan, 0.7, nan, 0.1])
    expected = np.array([[nan, nan], [0.2, 0.8], [nan, nan], [0.9, 0.1]], dtype=np.float32)
    np.testing.assert_array_equal(found.probs, expected)
    assert (found.noise.dtype, found.probs.dtype) == (np.float64, np.float32)
    assert (found.fit, found.diagnostics) == (fit, {"n": 1})
