"""Probabilities of a class become those of the given labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from labelfix.estimation.one_class import as_given, tells_apart


@pytest.fixture
def drawn():
    """True probabilities (N,) of 2,000 rows, labels drawn by them, and which rows are unseen."""
    rng = np.random.default_rng(0)
    probs = expit(rng.normal(-2, 2, 2000))
    return probs, (rng.random(2000) < probs).astype(np.int64), rng.random(2000) < 0.5


def test_what_is_squeezed_towards_a_half_is_stretched_back(drawn):
    probs, given, unseen = drawn
    squeezed = expit(0.3 * logit(probs) + 0.5)
    found = as_given(squeezed, given, unseen)
    assert np.abs(found - probs).max() < 0.1
    assert np.abs(squeezed - probs).max() > 0.3
    assert (np.argsort(found) == np.argsort(squeezed)).all()


def test_only_unseen_rows_count_and_rows_without_a_prediction_stay_so(drawn):
    probs, given, unseen = drawn
    nothing = np.where(np.arange(2000) % 7 == 0, np.nan, probs)
    other = np.where(unseen, given, 1 - given)
    found = as_given(nothing, given, unseen)
    np.testing.assert_array_equal(found, as_given(nothing, other, unseen))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(nothing))


def test_a_network_that_is_wrong_the_wrong_way_round_says_nothing(drawn):
    probs, given, unseen = drawn
    found = as_given(1 - probs, given, unseen)
    assert np.ptp(found) == 0
    assert found[0] == pytest.approx(given[unseen].mean())


def test_too_few_rows_leave_it_as_it_is(drawn):
    probs, given, unseen = drawn
    few = unseen & (np.cumsum(given * unseen) <= 4)
    np.testing.assert_array_equal(as_given(probs, given, few), probs)


def test_a_network_tells_a_class_apart_where_it_surely_ranks_three_of_four_pairs_right(drawn):
    probs, given, unseen = drawn
    assert roc_auc_score(given[unseen], probs[unseen]) > 0.8
    assert tells_apart(probs, given, unseen)
    blurred = probs + np.random.default_rng(1).normal(0, 1, 2000)
    assert roc_auc_score(given[unseen], blurred[unseen]) < 0.75
    assert not tells_apart(blurred, given, unseen)
    few = unseen & (np.arange(2000) < 60)
    assert not tells_apart(np.where(np.arange(2000) % 4, given, 1 - given).astype(float), given, few)
    assert not tells_apart(probs, given, np.zeros(2000, bool))
