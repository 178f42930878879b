"""From held-out predictions to findings: simulated networks of known quality, labels put wrong at a known rate."""

from __future__ import annotations

import dataclasses
import doctest
import importlib

import numpy as np
import pytest
from scipy.special import softmax

from labelfix.errors import InputError
from labelfix.estimation import judgement
from labelfix.estimation.controls import virtual_controls
from labelfix.estimation.expected_counts import best_expected_f1
from labelfix.estimation.held_out import judged_evidence
from labelfix.estimation.judgement import Thresholds, judge
from labelfix.estimation.noise_levels import noise_levels, quantile, scaled
from labelfix.estimation.noise_model import fit_noise_models, with_label
from labelfix.estimation.shrinkage import shrinkage
from labelfix.estimation.verdicts import decide

SURE = 3.0  # spread of the logits: right in .9 of the rows with 10 classes


def simulated(rows, classes, transition=None, spread=SURE, seed=0, doubt=0.6):
    """Held-out predictions, given labels, true ones: drawn from beliefs that the network shows less sure than they are.

    With `doubt` 1 it is a calibrated network of the given labels, wrong ones included.
    """
    rng = np.random.default_rng(seed)
    beliefs = softmax(spread * rng.normal(size=(rows, classes)) * np.sqrt(np.log(classes)), axis=1)
    true = (beliefs.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    mixing = np.eye(classes) if transition is None else transition
    given = (mixing[true].cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    probs = beliefs @ mixing if doubt == 1 else beliefs**doubt
    return probs / probs.sum(axis=1, keepdims=True), given, true


def even(classes, rate):
    matrix = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(matrix, 1 - rate)
    return matrix


def pairs(classes, rate):
    return (1 - rate) * np.eye(classes) + rate * np.roll(np.eye(classes), 1, axis=1)


@pytest.mark.parametrize(("classes", "seeds"), [(2, 40), (10, 20), (100, 5)])
def test_clean_labels_of_a_calibrated_network_are_hardly_ever_changed(classes, seeds):
    changed = 0
    for seed in range(seeds):
        probs, given, _ = simulated(600, classes, seed=seed, doubt=1)
        found = judge(probs, given)
        changed += bool((found.corrected != given).any())
    assert changed <= 1


def test_a_network_that_has_learned_the_swaps_is_not_taken_for_proof_of_clean_labels():
    probs, given, _ = simulated(3000, 10, pairs(10, 0.25), seed=3, doubt=1)
    found = judge(probs, given)
    assert found.found != "clean"
    assert found.rate_high > 0.25


@pytest.mark.parametrize(
    ("agrees", "rows", "rate", "is_none"),
    [
        (0.30, 5000, 0.0, True),  # wrong more often than right
        (0.28, 300, 0.43, True),  # about right in half, of so few rows
        (0.19, 500, 0.68, True),  # right about .59, where .68 of the labels are wrong
        (0.47, 5000, 0.37, False),
        (0.38, 1000, 0.60, False),  # much noise, and right about .95
        (0.67, 300, 0.1, False),
    ],
)
def test_who_is_right_less_often_than_not_or_than_labels_are_wrong_corrects_none(agrees, rows, rate, is_none):
    labels = np.arange(rows) % 10
    told = np.where(np.arange(rows) < agrees * rows, labels, (labels + 1) % 10)
    seen = np.eye(10)[told] * 0.8 + 0.02
    assert judgement._is_no_judge(seen, labels, rate) is is_none


def test_the_findings_of_no_judge_are_flags_alone(monkeypatch):
    probs, given, _ = simulated(3000, 10, even(10, 0.2), seed=3)
    assert (judge(probs, given).corrected != given).any()
    monkeypatch.setattr(judgement, "_is_no_judge", lambda *_: True)
    found = judge(probs, given)
    assert (found.corrected == given).all()
    assert found.flagged.any()
    assert (found.found, found.rate_low, found.gain) == ("unclear", 0.0, 0.0)
    assert "too weak to say: the network is right too rarely" in found.reason
    assert f"at most {found.rate_high:.1%}" in found.reason


@pytest.mark.parametrize(
    ("classes", "rate", "kind"),
    [(2, 0.1, even), (10, 0.1, even), (10, 0.4, even), (10, 0.25, pairs), (100, 0.2, even)],
)
def test_a_planted_rate_is_recovered_and_labels_get_better(classes, rate, kind):
    probs, given, true = simulated(3000, classes, kind(classes, rate), seed=3)
    wrong = (given != true).mean()
    found = judge(probs, given)
    assert found.found == "noisy"
    assert abs(found.rate - wrong) < max(0.02, 0.1 * wrong)
    assert found.rate_low <= found.rate <= found.rate_high
    real = (found.corrected == true).mean() - (given == true).mean()
    assert real > 0.6 * found.gain > 0
    assert found.gain_low <= found.gain <= found.gain_high


def test_noise_means_the_probability_of_a_wrong_label():
    probs, given, true = simulated(6000, 10, even(10, 0.2), seed=1)
    found = judge(probs, given)
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.8), (0.8, 1.01)):
        rows = (found.noise >= low) & (found.noise < high)
        assert abs(found.noise[rows].mean() - (given != true)[rows].mean()) < 0.06
    np.testing.assert_allclose(found.beliefs.sum(axis=1), 1)
    np.testing.assert_allclose(found.noise, 1 - found.beliefs[np.arange(6000), given], atol=1e-9)


def test_controls_say_how_many_of_the_real_errors_are_found_and_restored():
    probs, given, true = simulated(6000, 10, even(10, 0.2), seed=2)
    found = judge(probs, given)
    wrong = given != true
    assert abs(found.controls.found - found.flagged[wrong].mean()) < 0.05
    assert abs(found.controls.restored - (found.corrected == true)[wrong].mean()) < 0.05
    assert found.controls.found_hardest <= found.controls.found_anywhere


@pytest.mark.parametrize("kind", [even, pairs])
def test_rows_and_classes_in_another_order_give_the_same_findings(kind):
    probs, given, _ = simulated(800, 6, kind(6, 0.25), seed=4)
    rng = np.random.default_rng(0)
    rows, classes = rng.permutation(800), rng.permutation(6)
    place = np.argsort(classes)
    first, second = judge(probs, given), judge(probs[rows][:, classes], place[given[rows]])
    np.testing.assert_allclose(second.noise, first.noise[rows], atol=1e-5)
    np.testing.assert_allclose(second.beliefs, first.beliefs[rows][:, classes], atol=1e-5)
    np.testing.assert_array_equal(second.corrected, place[first.corrected[rows]])
    np.testing.assert_array_equal(second.flagged, first.flagged[rows])
    assert second.rate == pytest.approx(first.rate, abs=1e-5)


def test_a_network_that_is_never_sure_is_too_weak_to_say():
    rng = np.random.default_rng(0)
    probs = softmax(0.3 * rng.normal(size=(500, 5)), axis=1)
    given = (probs.cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
    found = judge(probs, given)
    assert found.found == "unclear"
    assert found.rate_high > 0.2
    assert found.reason.startswith("too weak to say")
    np.testing.assert_array_equal(found.corrected, given)


@pytest.mark.parametrize(
    ("likeness", "detail", "sharpness"), [(2.2, 0.6, 1.0), (3.0, 0.5, 1.0), (4.0, 0.6, 1.5), (2.0, 0.5, 0.7)]
)
def test_a_network_that_confuses_like_classes_does_not_make_wrong_labels_of_them(likeness, detail, sharpness):
    """40 classes in ten fours, such as things and their turns: it knows which four, and hardly which of them."""
    rng = np.random.default_rng(0)
    true, classes = rng.integers(40, size=4000), np.arange(40)
    same_four, turned = true[:, None] // 4 == classes // 4, (true[:, None] - classes) % 4 == 2
    seen = likeness * same_four + detail * (true[:, None] == classes) + detail * (same_four & turned)
    probs = softmax(sharpness * (seen + rng.normal(size=seen.shape)), axis=1)
    assert 0.2 < (probs.argmax(axis=1) == true).mean() < 0.5
    found = judge(probs, true)
    assert (found.corrected == true).all()
    assert found.found == "unclear"


@pytest.mark.parametrize("rate", [0.5, 0.6, 0.8])
def test_more_wrong_labels_than_right_ones_are_seen_where_they_go_everywhere(rate):
    """Of a network that is calibrated on them, and so never says more than the share of right labels."""
    rng = np.random.default_rng(1)
    true = rng.integers(10, size=3000)
    sharp = softmax(rng.normal(size=(3000, 10)) + 4 * np.eye(10)[true], axis=1)
    given = (even(10, rate)[true].cumsum(axis=1) > rng.random((3000, 1))).argmax(axis=1)
    found = judge(sharp @ even(10, rate), given)
    assert abs(found.rate - rate) < 0.03
    assert (found.corrected == true).mean() > 0.9


def test_where_wrong_labels_go_is_learned_from_enough_sure_rows_of_a_class():
    probs, given, _ = simulated(3000, 10, pairs(10, 0.2), seed=4)
    many, few = (fit_noise_models(probs[:rows], given[:rows], 0.8, 0.05) for rows in (3000, 200))
    assert len(many) == 3
    assert many[-1].transition[0].argsort()[-2] == 1
    assert len(few) == 2
    for model in few:  # everywhere alike
        others = model.transition[~np.eye(10, dtype=bool)]
        np.testing.assert_allclose(others, others[0], rtol=0.2)


def test_rows_without_label_or_prediction_are_left_alone():
    probs, given, _ = simulated(1000, 4, even(4, 0.2))
    probs[3], given[5] = np.nan, -1
    found = judge(probs, given)
    assert np.isnan(found.noise[[3, 5]]).all()
    assert not found.flagged[[3, 5]].any()
    assert found.corrected[3] == given[3]
    assert found.corrected[5] == -1
    assert np.isnan(found.beliefs[3]).all()
    assert found.beliefs[5].sum() == pytest.approx(1)
    nothing = judge(probs, np.full(1000, -1))
    assert nothing.found == "unclear"
    assert nothing.controls is None
    assert "no label was judged" in nothing.reason


def test_a_class_that_the_corrections_would_empty_keeps_its_labels():
    probs, given, _ = simulated(1000, 4, even(4, 0.1))
    rows = np.flatnonzero(given == 3)
    probs[:, 3], given[rows] = 1e-6, 0
    probs /= probs.sum(axis=1, keepdims=True)
    typo = np.flatnonzero(probs[:, 1] > 0.85)[0]
    given[typo] = 3
    found = judge(probs, given)
    assert found.kept_classes.tolist() == [3]
    assert found.corrected[typo] == 3
    assert (found.corrected != given).sum() > 10


def test_classes_without_a_row_change_nothing_for_the_others():
    probs, given, _ = simulated(1500, 4, even(4, 0.2))
    padded = np.insert(probs, [1, 4], 1e-7, axis=1)
    padded /= padded.sum(axis=1, keepdims=True)
    place = np.array([0, 2, 3, 4])
    first, second = judge(probs, given), judge(padded, place[given])
    assert second.rate == pytest.approx(first.rate, abs=0.01)
    assert not np.isin(second.corrected, [1, 5]).any()
    assert (second.corrected == place[first.corrected]).mean() > 0.99
    assert second.kept_classes.size == 0


def test_a_network_that_is_surer_than_it_is_right_changes_no_label():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 4000)
    probs = np.full((4000, 5), 0.02)
    # Its own errors, as sure as most of what it gets right; of the surest rows none is wrong.
    seen = np.where(rng.random(4000) < 0.1, (true + 1) % 5, true)
    probs[np.arange(4000), seen] = 0.9 + 0.05 * rng.random(4000)
    surest = np.flatnonzero((seen == true) & (rng.random(4000) < 0.1))
    probs[surest, seen[surest]] = 0.995
    found = judge(probs / probs.sum(axis=1, keepdims=True), true)
    np.testing.assert_array_equal(found.corrected, true)
    assert found.found == "unclear"
    assert found.rate_low == 0


def test_a_few_rows_prove_nothing():
    probs, given, _ = simulated(5, 3, seed=1)
    found = judge(probs, given)
    assert found.found != "clean"
    assert found.rate_high > 0.2


def test_predictions_that_are_all_alike_flag_no_row():
    sure = np.eye(3)[np.arange(60) % 3]
    found = judge(sure, np.arange(60) % 3)
    assert not found.flagged.any()
    np.testing.assert_array_equal(found.corrected, np.arange(60) % 3)


def test_a_least_gain_out_of_reach_changes_nothing():
    probs, given, _ = simulated(1000, 4, even(4, 0.1))
    found = judge(probs, given, thresholds=dataclasses.replace(Thresholds(), least_gain=0.2))
    np.testing.assert_array_equal(found.corrected, given)
    assert found.gain == 0


def test_the_flag_threshold_has_the_best_expected_f1_of_all():
    noise = np.random.default_rng(0).beta(0.3, 1, 200)
    cut = best_expected_f1(noise)

    def expected(above):
        taken = noise >= above
        return 2 * noise[taken].sum() / (taken.sum() + noise.sum())

    assert expected(cut) == max(expected(each) for each in noise)


def test_shrinkage_follows_swaps_and_smooths_what_is_alike():
    rng = np.random.default_rng(0)
    swaps, alike = (
        np.stack([rng.multinomial(40, row) for row in kind(8, 0.3)]).astype(float) for kind in (pairs, even)
    )
    found = shrinkage(swaps).transition(swaps)
    assert (found.argsort(axis=1)[:, -2] == (np.arange(8) + 1) % 8).all()
    smooth = shrinkage(alike).transition(alike)
    raw = alike / alike.sum(axis=1, keepdims=True)
    assert np.abs(smooth - even(8, 0.3)).mean() < 0.5 * np.abs(raw - even(8, 0.3)).mean()
    for matrix in (found, smooth, shrinkage(np.zeros((8, 8))).transition(np.zeros((8, 8)))):
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        assert (matrix > 0).all()


def test_the_posterior_is_bayes_rule():
    rng = np.random.default_rng(0)
    beliefs, transition = rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(3), 3)
    labels = np.array([0, 2, 1, 1])
    expected = [
        [b[j] * transition[j, i] / (b @ transition[:, i]) for j in range(3)]
        for b, i in zip(beliefs, labels, strict=True)
    ]
    np.testing.assert_allclose(with_label(beliefs, transition, labels), expected)


def test_controls_count_every_label_of_every_row():
    probs, given, _ = simulated(60, 4, even(4, 0.2))
    model, *_ = fit_noise_models(probs, given, 0.8, 0.05)
    truth = with_label(model.beliefs(probs), model.transition, given)
    found = virtual_controls(model, probs, given, truth, 0.5)
    q, off = model.beliefs(probs), model.transition * (1 - np.eye(4))
    off /= off.sum(axis=1, keepdims=True)
    seen = back = anywhere = 0.0
    for n in range(60):
        for i in range(4):
            r = q[n] * model.transition[:, i]
            r /= r.sum()
            for j in range(4):
                if i != j:
                    seen += truth[n, j] * off[j, i] * (1 - r[i] >= 0.5)
                    anywhere += truth[n, j] / 3 * (1 - r[i] >= 0.5)
                    back += truth[n, j] * off[j, i] * (r.argmax() == j)
    assert found.found == pytest.approx(seen / 60)
    assert found.found_anywhere == pytest.approx(anywhere / 60)
    assert found.restored == pytest.approx(back / 60)


def test_levels_scale_the_odds_and_weigh_what_the_labels_say():
    probs, given, true = simulated(3000, 5, even(5, 0.2))
    model, *_ = fit_noise_models(probs, given, 0.8, 0.05)
    levels = noise_levels([model], probs, given, np.ones(3000, dtype=bool))
    errors = np.array([1 - np.diag(level.transition).mean() for level in levels])
    weights = np.array([level.weight for level in levels])
    assert weights.sum() == pytest.approx(1)
    assert quantile(errors, weights, 0.01) < (given != true).mean() < quantile(errors, weights, 0.99)
    assert errors.min() < 0.19 < 0.21 < errors.max()
    np.testing.assert_allclose(scaled(model.transition, 1.0), model.transition)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_weighted_quantile_of_equal_weights_is_near_the_plain_one(share):
    values = np.random.default_rng(0).normal(size=(501, 2))
    expected = np.quantile(values, share, axis=0)
    np.testing.assert_allclose(quantile(values, np.full(501, 1 / 501), share), expected, atol=0.02)


@pytest.mark.parametrize("seed", [2, 5])
def test_no_label_gives_way_to_a_less_probable_one(seed):
    """Where averaged predictions have changed the order, as many corrections would go on to rows of three doubts."""
    probs, given, _ = simulated(300, 5, even(5, 0.2), spread=2.0, seed=seed)
    averaged = softmax(np.log(probs) + np.random.default_rng(seed).normal(size=probs.shape), axis=1)
    found = judged_evidence(probs, given, averaged)
    verdicts = decide(found, given, given >= 0, given)
    rows = np.flatnonzero(verdicts.corrected != given)
    assert len(rows) > 10
    assert (found.probs[rows, verdicts.corrected[rows]] >= found.probs[rows, given[rows]]).all()


@pytest.mark.parametrize(
    "module",
    ["directions", "expected_counts", "held_out", "in_sample", "noise_levels", "noise_model", "shrinkage"],
)
def test_the_examples_in_the_docstrings_hold(module):
    found = doctest.testmod(importlib.import_module(f"labelfix.estimation.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_each_class_has_a_rate_of_its_own_with_an_interval():
    transition = even(4, 0.05)
    transition[0] = [0.6, 0.4, 0, 0]
    probs, given, true = simulated(4000, 4, transition)
    found = judge(probs, given)
    assert found.class_rates.shape == (4, 3)
    for label in range(4):
        rate, low, high = found.class_rates[label]
        wrong = (given != true)[given == label].mean()
        assert low <= rate <= high
        assert abs(rate - wrong) < 0.05
    few = np.where(given == 3, -1, given)
    few[np.flatnonzero(given == 3)[:19]] = 3
    assert np.isnan(judge(probs, few).class_rates[3]).all()


@pytest.mark.parametrize(
    ("name", "value"), [("confidence", 1.5), ("least_gain", -0.1), ("sure", float("nan"))]
)
def test_thresholds_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"^{name}={value}: must be a number from"):
        Thresholds(**{name: value})
