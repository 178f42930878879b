"""Predictions of trained rows are read as if their labels were unknown."""

from __future__ import annotations

import numpy as np
from hypothesis import given as for_all
from hypothesis import settings, strategies
from scipy.special import softmax

from labelfix.estimation.in_sample import as_held_out, as_told
from labelfix.estimation.judgement import judge


def remembered(seed: int, rate: float, memory: float, rows: int = 3_000, classes: int = 5):
    """Predictions that lean to the given label of all rows but a tenth: probs, given, true, left out."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < rate, (true + rng.integers(1, classes, rows)) % classes, true)
    logits = rng.normal(size=(rows, classes)) + 4 * np.eye(classes)[true]
    left_out = rng.random(rows) < 0.1
    # Most where the label is least expected, as training pushes.
    push = memory * (1 - softmax(logits, axis=1)[np.arange(rows), given])
    logits[np.arange(rows), given] += np.where(left_out, 0, push)
    return softmax(logits, axis=1), given, true, left_out


def test_the_planted_rate_is_found_in_spite_of_what_is_remembered():
    probs, given, true, left_out = remembered(0, 0.2, memory=4)
    rate = (given != true).mean()
    assert judge(probs, given).rate < rate / 2
    found = judge(as_held_out(probs, given, left_out), given, unseen=left_out)
    assert abs(found.rate - rate) < 0.02
    assert found.rate_low < rate < found.rate_high
    assert (found.corrected == true).mean() > 0.95


def test_clean_labels_stay_clean():
    probs, given, _, left_out = remembered(1, 0.0, memory=3)
    found = judge(as_held_out(probs, given, left_out), given, unseen=left_out)
    assert found.rate_high < 0.02
    np.testing.assert_array_equal(found.corrected, given)


@settings(max_examples=25, deadline=None)
@for_all(strategies.integers(0, 10_000), strategies.floats(0, 6))
def test_only_the_odds_of_the_given_label_move_and_keep_their_order(seed, memory):
    probs, given, _, left_out = remembered(seed, 0.3, memory, rows=400)
    found = as_held_out(probs, given, left_out)
    np.testing.assert_array_equal(found[left_out], probs[left_out])
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)
    rows = np.flatnonzero(~left_out)
    before, after = (each[rows, given[rows]] for each in (probs, found))
    assert (np.diff(after[np.argsort(before)]) > -1e-12).all()
    first, second = (given[rows] + 1) % 5, (given[rows] + 2) % 5
    ratios = [each[rows, first] / each[rows, second] for each in (probs, found)]
    np.testing.assert_allclose(*ratios, rtol=1e-6)


def test_without_rows_left_out_or_a_label_nothing_moves():
    probs, given, _, left_out = remembered(2, 0.3, memory=2, rows=50)
    np.testing.assert_array_equal(as_held_out(probs, given, np.zeros(50, dtype=bool)), probs)
    np.testing.assert_array_equal(as_held_out(probs, np.full(50, -1), left_out), probs)
    probs[7] = np.nan
    found = as_held_out(probs, given, left_out)
    assert np.isnan(found[7]).all()
    assert np.isfinite(np.delete(found, 7, axis=0)).all()


def test_averaged_predictions_keep_their_order_and_take_the_odds_of_held_out_ones():
    rng = np.random.default_rng(0)
    averaged, told = (softmax(rng.normal(scale=scale, size=(300, 4)), axis=1) for scale in (3, 1))
    given = rng.integers(0, 4, 300)
    found = as_told(averaged, told, given)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    rows = np.arange(300)
    own, before, wanted = (each[rows, given] for each in (found, averaged, told))
    for label in range(4):
        of_label = given == label
        np.testing.assert_allclose(np.sort(own[of_label]), np.sort(wanted[of_label]))
        np.testing.assert_array_equal(np.argsort(own[of_label]), np.argsort(before[of_label]))
    others = np.where(np.eye(4, dtype=bool)[given], np.nan, found / averaged)
    assert np.allclose(np.nanmin(others, axis=1), np.nanmax(others, axis=1))


@settings(max_examples=25, deadline=None)
@for_all(strategies.integers(0, 10_000), strategies.integers(1, 9))
def test_by_label_the_mix_of_the_rows_left_out_moves_none_beside_the_other(seed, share):
    """Rows left out by chance have one of the labels more often; those of either come to what its own show."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, 2, 600)
    logits = rng.normal(size=600) + 3 * given
    probs = softmax(np.stack([np.zeros(600), logits], axis=1), axis=1)
    left_out = rng.random(600) < np.where(given == 1, share / 30, 0.1)
    left_out[[np.argmin(given), np.argmax(given)]] = True
    found = as_held_out(probs, given, left_out, by_label=True)
    moved = [np.log(found[:, 1] / found[:, 0])[(given == label) & ~left_out].mean() for label in range(2)]
    wanted = [logits[(given == label) & left_out].mean() for label in range(2)]
    np.testing.assert_allclose(moved, wanted, atol=0.5)
