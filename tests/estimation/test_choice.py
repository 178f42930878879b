"""Which predictions are believed: those that make the labels likeliest, wrong ones included."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.special import softmax

from labelfix.estimation import choice
from labelfix.estimation.choice import most_likely, pool

CLASSES = 5


def rows(count, rate, seed=0):
    """True and given labels, and what the images show: log odds that a perfect network would have."""
    rng = np.random.default_rng(seed)
    shown = 2.5 * rng.normal(size=(count, CLASSES))
    true = (softmax(shown, axis=1).cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    others = (true + rng.integers(1, CLASSES, count)) % CLASSES
    return shown, true, np.where(rng.random(count) < rate, others, true)


def seen(shown, blur, seed):
    """What a network sees of it, blurred by errors of its own."""
    return softmax(shown + blur * np.random.default_rng(seed).normal(size=shown.shape), axis=1)


def test_examples():
    assert doctest.testmod(choice).failed == 0


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_the_network_that_sees_best_is_taken_however_many_labels_are_wrong(rate):
    shown, _, given = rows(1500, rate)
    found = most_likely({"poor": seen(shown, 3.0, 1), "good": seen(shown, 0.1, 2)}, given)
    assert found.taken[0] == "good"
    assert found.log_likelihood["good"] > found.log_likelihood["poor"]
    assert found.pooled >= found.log_likelihood["good"]


def test_one_that_has_learned_wrong_labels_of_other_rows_is_no_better_for_being_sure():
    """Sureness alone is no merit: the noise model sharpens the others as much as they deserve."""
    shown, _, given = rows(1500, 0.2)
    good = seen(shown, 0.5, 1)
    flat = softmax(0.2 * np.log(good), axis=1)
    both = most_likely({"flat": flat, "good": good}, given).log_likelihood
    assert both["flat"] == pytest.approx(both["good"], abs=0.01)


def test_networks_with_errors_of_their_own_are_pooled_and_a_useless_one_is_not():
    shown, true, given = rows(1500, 0.2)
    predictions = {name: seen(shown, 1.5, seed) for seed, name in enumerate("abc", 10)}
    predictions["useless"] = np.full((1500, CLASSES), 1 / CLASSES)
    found = most_likely(predictions, given)
    assert set(found.taken) == set("abc")
    assert found.pooled > max(found.log_likelihood.values()) + 0.05
    together = pool([predictions[name] for name in found.taken])
    assert (together.argmax(axis=1) == true).mean() > (predictions["a"].argmax(axis=1) == true).mean() + 0.05


def test_the_order_of_rows_and_classes_does_not_matter_and_rows_without_a_prediction_are_left_out():
    shown, _, given = rows(600, 0.2)
    predictions = {
        name: seen(shown, blur, seed) for seed, (name, blur) in enumerate([("a", 1.0), ("b", 1.2)], 10)
    }
    found = most_likely(predictions, given)
    order, names = np.random.default_rng(0).permutation(600), np.array([3, 0, 4, 1, 2])
    turned = {name: probs[order][:, np.argsort(names)] for name, probs in predictions.items()}
    again = most_likely(turned, names[given[order]])
    assert again.taken == found.taken
    assert again.pooled == pytest.approx(found.pooled, abs=1e-6)
    more = {
        name: np.concatenate([probs, np.full((3, CLASSES), np.nan)]) for name, probs in predictions.items()
    }
    longer = most_likely(more, np.concatenate([given, [0, 1, -1]]))
    assert longer.to_json() == found.to_json()


def test_the_pool_is_the_geometric_mean_and_knows_what_it_does_not_know():
    one, two = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.2, 0.8], [np.nan, np.nan]])
    expected = np.sqrt([0.5 * 0.2, 0.5 * 0.8])
    np.testing.assert_allclose(pool([one, two])[0], expected / expected.sum())
    assert np.isnan(pool([one, two])[1]).all()
    with pytest.raises(ValueError, match="nothing to choose"):
        most_likely({}, np.zeros(2, int))
