"""Rows left out of a training, and those of a test split, stand by what is known of them as the others do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from labelfix.estimation.held_out import judged_evidence
from labelfix.estimation.judgement import DEFAULT_THRESHOLDS, judge
from labelfix.results.findings import AsIfUnseen, Rows, as_if_unseen, of_folds, of_training
from labelfix.training.folds import CrossFit

ROWS, CLASSES, LEFT_OUT = 1_200, 5, 240


def predictions(seed=0):
    """(N, K) of a good network that never saw the rows, what it says once it remembers them, given and true labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, ROWS)
    given = np.where(rng.random(ROWS) < 0.2, (true + rng.integers(1, CLASSES, ROWS)) % CLASSES, true)
    logits = rng.normal(size=(ROWS, CLASSES))
    logits[np.arange(ROWS), true] += 3
    remembering = logits.copy()
    remembering[np.arange(ROWS), given] += rng.normal(3, 1, ROWS)
    return softmax(logits, axis=1), softmax(remembering, axis=1), given, true


def unlikely(probs, given):
    return 1 - probs[np.arange(len(given)), given]


def test_the_loss_of_rows_that_were_trained_on_is_not_compared_with_that_of_rows_that_were_not():
    fresh, remembered, given, true = predictions()
    held_out = np.arange(ROWS) < LEFT_OUT
    probs = np.where(held_out[:, None], fresh, remembered)
    rows = Rows(given, np.where(held_out, -1, given), held_out, np.zeros(ROWS, dtype=bool), CLASSES)

    found = of_training(
        rows, as_if_unseen(rows, probs, DEFAULT_THRESHOLDS), unlikely, DEFAULT_THRESHOLDS, probs
    )
    flagged = found.noise > found.rule.flag_above

    assert abs(found.noise[held_out].mean() - found.noise[~held_out].mean()) < 0.05
    assert abs(flagged[held_out].mean() - flagged[~held_out].mean()) < 0.07
    assert (given != true)[flagged].mean() > 0.8


def test_a_test_split_keeps_the_noise_that_its_predictions_say():
    fresh, remembered, given, _ = predictions()
    of_split = np.arange(ROWS) < LEFT_OUT
    averaged = np.where(of_split[:, None], 0.0, remembered)

    found = judged_evidence(fresh, given, averaged)

    np.testing.assert_allclose(found.noise[of_split], judge(fresh, given).noise[of_split])
    others = np.sort(judge(fresh, given).noise[~of_split])
    np.testing.assert_allclose(np.sort(found.noise[~of_split]), others)


def other_network(true, seed):
    """What a network sees that errs in other places."""
    logits = np.random.default_rng(seed).normal(size=(ROWS, CLASSES))
    logits[np.arange(ROWS), true] += 3
    return softmax(logits, axis=1)


def test_a_linear_probe_is_believed_beside_the_network_where_both_together_know_more():
    fresh, remembered, given, true = predictions()
    held_out = np.arange(ROWS) < LEFT_OUT
    probs = np.where(held_out[:, None], fresh, remembered)
    rows = Rows(given, np.where(held_out, -1, given), held_out, np.zeros(ROWS, dtype=bool), CLASSES)
    nothing = np.full(probs.shape, 1 / CLASSES)
    nowhere = np.full(probs.shape, np.nan)

    alone, both, useless, absent = (
        of_training(
            rows,
            as_if_unseen(rows, probs, DEFAULT_THRESHOLDS, probe),
            lambda *_: None,
            DEFAULT_THRESHOLDS,
            probs,
        )
        for probe in (None, other_network(true, 1), nothing, nowhere)
    )

    wrong = given != true
    assert set(both.diagnostics["networks"]["taken"]) == {"network", "probe"}
    assert average_precision_score(wrong, both.noise) > average_precision_score(wrong, alone.noise) + 0.01
    assert useless.diagnostics["networks"]["taken"] == ["network"]
    np.testing.assert_array_equal(useless.noise, alone.noise)
    np.testing.assert_array_equal(absent.noise, alone.noise)
    assert "networks" not in alone.diagnostics


def test_a_probe_tells_where_chance_left_out_rows_with_fewer_wrong_labels():
    rates = []
    for seed in range(3):
        fresh, remembered, given, true = predictions(seed)
        wrong = given != true
        # A half of the wrong labels that chance would have put there are missing.
        rare = np.random.default_rng(seed).random(ROWS) < np.where(wrong, 0.5, 1.0)
        held_out = np.isin(np.arange(ROWS), np.flatnonzero(rare)[:LEFT_OUT])
        probs = np.where(held_out[:, None], fresh, remembered)
        rows = Rows(given, np.where(held_out, -1, given), held_out, np.zeros(ROWS, dtype=bool), CLASSES)

        unseen = as_if_unseen(rows, probs, DEFAULT_THRESHOLDS, other_network(true, seed + 10))

        assert (unseen.row_weights > 0).tolist() == held_out.tolist()
        assert abs(unseen.row_weights[held_out].mean() - 1) < 1e-9
        weighted = np.average(wrong[held_out], weights=unseen.row_weights[held_out])
        assert abs(weighted - wrong.mean()) < abs(wrong[held_out].mean() - wrong.mean()) / 2
        found = of_training(rows, unseen, lambda *_: None, DEFAULT_THRESHOLDS, probs)
        rates.append(found.diagnostics["estimate"]["noise_rate"] - wrong.mean())
    assert np.abs(rates).mean() < 0.03, rates


def lead(probs):
    """(N,) by how much the likeliest class leads."""
    ranked = np.sort(np.log(probs), axis=1)
    return ranked[:, -1] - ranked[:, -2]


def test_a_probe_tells_which_rows_are_surest_where_chance_left_out_none_of_them_with_a_wrong_label():
    fresh, remembered, given, true = predictions()
    other = other_network(true, 1)
    sure = lead(fresh * other) > np.quantile(lead(fresh * other), 0.4)
    wrong = given != true
    held_out = np.isin(np.arange(ROWS), np.flatnonzero(~(wrong & sure))[:LEFT_OUT])
    probs = np.where(held_out[:, None], fresh, remembered)
    rows = Rows(given, np.where(held_out, -1, given), held_out, np.zeros(ROWS, dtype=bool), CLASSES)
    unseen = as_if_unseen(rows, probs, DEFAULT_THRESHOLDS, other)

    told, untold = (
        of_training(rows, each, lambda *_: None, DEFAULT_THRESHOLDS, probs)
        for each in (unseen, replace(unseen, probe=None))
    )

    assert not told.fit.keeps_labels
    assert untold.fit.keeps_labels


def test_a_probe_shows_that_its_surest_rows_have_no_wrong_labels_where_both_err_alike():
    true = predictions()[3]
    rng = np.random.default_rng(0)
    hard = rng.random(ROWS) < 0.15
    seen = np.where(hard, (true + 1) % CLASSES, true)
    logits = rng.normal(size=(ROWS, CLASSES))
    logits[np.arange(ROWS), seen] += np.where(hard, 5, 6)
    fresh = softmax(logits, axis=1)
    other = softmax(logits + 0.3 * rng.normal(size=logits.shape), axis=1)
    # Chance left out more of these than there are elsewhere.
    often = rng.random(ROWS) < np.where(hard, 1.0, 0.6)
    held_out = np.isin(np.arange(ROWS), np.flatnonzero(often)[:LEFT_OUT])
    rows = Rows(true, np.where(held_out, -1, true), held_out, np.zeros(ROWS, dtype=bool), CLASSES)
    known = AsIfUnseen(fresh, None, held_out.astype(float), other)

    told, untold = (
        of_training(rows, each, lambda *_: None, DEFAULT_THRESHOLDS, fresh)
        for each in (known, replace(known, probe=None))
    )

    assert told.fit.keeps_labels
    assert told.diagnostics["estimate"]["noise_rate_low"] == 0
    assert not untold.fit.keeps_labels


def test_a_probe_says_nothing_of_a_class_that_its_fold_knew_nothing_of():
    given = np.array([0, 0, 1, 1, 2, 2, 3])
    folds = np.array(
        [0, 1, 0, 1, 0, 0, -1]
    )  # both rows of class 2 are held out together; the last is in no fold
    held_out = np.array([0, 1, 0, 0, 0, 0, 0], dtype=bool)
    rows = Rows(given, np.where(held_out, -1, given), held_out, np.zeros(7, dtype=bool), 4)
    probe = CrossFit(folds, np.zeros((7, 4), np.float32), {}, 0)

    found = rows.probed(probe, np.full((7, 4), 0.25))

    assert np.isnan(found).all(axis=1).tolist() == [False, False, False, False, True, True, False]


def test_a_class_that_the_network_of_its_fold_never_saw_is_neither_flagged_nor_counted():
    fresh, _, given, _ = predictions()
    folds, nowhere = np.arange(ROWS) % 3, np.zeros(ROWS, dtype=bool)
    others = given != 0
    # All of class 0 are in one fold, as those of one group are: its network has no idea of them.
    folds[~others] = 2
    fresh[~others, 0] = 1e-6
    fresh /= fresh.sum(axis=1, keepdims=True)
    rows = Rows(given, given, nowhere, nowhere, CLASSES)
    without = Rows(np.where(others, given, -1), given, nowhere, nowhere, CLASSES)

    found, alone = (
        of_folds(each, fresh, lambda *_: None, DEFAULT_THRESHOLDS, folds, fresh) for each in (rows, without)
    )

    rate = found.diagnostics["estimate"]["noise_rate"]
    assert found.diagnostics == alone.diagnostics
    np.testing.assert_array_equal(found.noise[others], alone.noise[others])
    assert not (found.noise > found.rule.flag_above)[~others].any()
    np.testing.assert_allclose(found.noise[~others], min(rate, found.rule.flag_above))
    np.testing.assert_allclose(found.probs.sum(axis=1), 1, rtol=1e-5)
    assert (found.probs[~others].argmax(axis=1) == 0).all()


def test_a_class_of_a_test_split_alone_is_not_flagged():
    fresh, remembered, given, _ = predictions()
    of_split = (given == 0) | (np.arange(ROWS) % 10 == 0)
    held_out = ~of_split & (np.arange(ROWS) < LEFT_OUT)
    fresh[given == 0, 0] = 1e-6
    probs = np.where((held_out | of_split)[:, None], fresh, remembered)
    rows = Rows(given, np.where(held_out | of_split, -1, given), held_out, of_split, CLASSES)
    unseen = as_if_unseen(rows, probs, DEFAULT_THRESHOLDS)
    found = of_training(rows, unseen, lambda *_: None, DEFAULT_THRESHOLDS, probs)
    flagged = found.noise > found.rule.flag_above
    assert not flagged[given == 0].any()
    assert flagged[given != 0].any()
    assert np.isfinite(found.noise).all()
