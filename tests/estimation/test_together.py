"""Whether the labels of several classes err alike, and what is then known of one of them."""

from __future__ import annotations

import numpy as np

from labelfix.estimation.judgement import DEFAULT_THRESHOLDS, judge
from labelfix.estimation.together import shared_noise

ROWS, CLASSES = 400, 5
SURE, SHARE = DEFAULT_THRESHOLDS.sure, DEFAULT_THRESHOLDS.anchor_share


def drawn(missing, wrong, seed=0):
    """Probabilities (N, K) of the given answers, given answers (N, K), and true ones, which the network half knows."""
    rng = np.random.default_rng(seed)
    true = rng.random((ROWS, CLASSES)) < 0.2
    odds = rng.normal(np.where(true, 2.0, -3.0), 1.5)
    knows = 1 / (1 + np.exp(-(odds + 0.5)))
    given = np.where(
        true, rng.random(true.shape) >= missing, rng.random(true.shape) < np.broadcast_to(wrong, true.shape)
    )
    return knows * (1 - np.asarray(missing)) + (1 - knows) * wrong, given.astype(np.int64), true


def shared(probs, given):
    return shared_noise(probs, given, np.ones(given.shape, bool), SURE, SHARE)


def noise_of(probs, given, levels):
    return judge(np.stack([1 - probs, probs], axis=1), given, levels=levels)


def test_classes_that_err_alike_tell_more_of_each_than_its_own_rows_do():
    off = {"together": [], "alone": []}
    for seed in range(2):
        probs, given, true = drawn(0.2, 0.05, seed)
        levels = shared(probs, given)
        assert levels is not None
        for label in range(CLASSES):
            rate = (given[:, label] != true[:, label]).mean()
            for name, known in (("together", levels), ("alone", None)):
                off[name].append(abs(noise_of(probs[:, label], given[:, label], known).rate - rate))
    assert np.mean(off["together"]) < 0.7 * np.mean(off["alone"])


def test_classes_that_err_in_their_own_ways_are_judged_apart():
    missing = np.array([0.5, 0, 0, 0.5, 0])
    probs, given, _ = drawn(missing, 0.0)
    assert shared(probs, given) is None


def test_one_class_or_a_second_of_four_rows_has_nobody_to_share_with():
    probs, given, _ = drawn(0.2, 0.05)
    assert shared(probs[:, :1], given[:, :1]) is None
    few = given[:, :2].copy()
    few[np.flatnonzero(few[:, 1])[4:], 1] = -1
    assert shared(probs[:, :2], few) is None


def test_rows_in_another_order_say_the_same():
    probs, given = (each[:, :3] for each in drawn(0.2, 0.05)[:2])
    order = np.random.default_rng(1).permutation(ROWS)
    one, other = shared(probs, given), shared(probs[order], given[order])
    assert one is not None
    assert other is not None
    np.testing.assert_allclose([each.weight for each in one], [each.weight for each in other], atol=1e-6)
