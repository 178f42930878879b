"""The pooled posterior of averaged predictions."""

from __future__ import annotations

import numpy as np
import pytest
import references
from predictions import rows_of
from scipy.special import log_softmax, softmax
from scipy.stats import spearmanr

from labelfix.estimation.evidence import sure_transition, true_class_beliefs
from labelfix.estimation.mixture_posterior import paper_evidence
from labelfix.estimation.posterior import (
    held_out_evidence,
    network_is_weak,
    pooled_posterior,
    posterior_evidence,
)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_the_pooled_reading_separates_wrong_from_right_and_knows_the_rate(share):
    probs, given, true = rows_of(share)
    evidence = posterior_evidence(probs, given, 28)
    wrong = given != true
    assert evidence.fit.ok
    assert not evidence.fit.keeps_labels
    assert evidence.noise[wrong].min() > evidence.noise[~wrong].mean()
    assert 0.7 * wrong.mean() < evidence.noise.mean() < 1.2 * wrong.mean()
    assert (evidence.probs.argmax(axis=1) == true).mean() > 0.95


@pytest.mark.parametrize("fitted", [None, np.arange(150) < 110])
def test_the_pooled_reading_is_the_formula(fitted):
    probs, given, _ = rows_of(0.3, rows=150)
    known = np.ones(150, dtype=bool) if fitted is None else fitted
    expected = references.pooled_belief(probs, given, known)
    found = posterior_evidence(probs, given, 28, fitted=fitted)
    np.testing.assert_allclose(found.probs, expected, atol=1e-6)
    np.testing.assert_allclose(found.noise, 1 - expected[np.arange(150), given], atol=1e-6)


def test_swapped_classes_are_scored_by_the_transition_posterior_alone():
    """Its order, whatever the factor that holds the rate: predictions are blurred towards the swapped class."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 3_000)
    given = np.where(rng.random(3_000) < 0.3, (true + 1) % 4, true)
    blur = rng.random((3_000, 1)) * 0.6
    probs = np.eye(4)[true] * (0.95 - blur) + np.roll(np.eye(4), 1, axis=1)[true] * blur + 0.0125
    q = true_class_beliefs(probs)
    posterior = q * sure_transition(q, given, 0.9)[0][:, given].T
    posterior /= posterior.sum(axis=1, keepdims=True)
    noise = posterior_evidence(probs, given, 28).noise
    expected = 1 - posterior[np.arange(3_000), given]
    assert spearmanr(noise, expected).statistic > 0.99
    assert abs(noise.mean() - (given != true).mean()) < 0.03


@pytest.mark.parametrize(("rate", "certainty"), [(0.15, 0.9), (0.3, 0.75)])
def test_the_mean_noise_is_no_less_than_the_disagreement_of_likely_rows(rate, certainty):
    """Half of the rows are certain; the others say nothing, whatever their label."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, 4_000)
    given = np.where(rng.random(4_000) < rate, (true + rng.integers(1, 4, 4_000)) % 4, true)
    probs = np.where(
        (np.arange(4_000) % 2 == 0)[:, None],
        np.eye(4)[true] * certainty + (1 - certainty) / 4,
        0.25 + rng.normal(0, 0.02, (4_000, 4)),
    )
    evidence = posterior_evidence(probs / probs.sum(axis=1, keepdims=True), given, 28)
    wrong = (given != true)[::2].mean()
    assert wrong - 0.01 < evidence.noise.mean() < wrong + 0.03


@pytest.mark.parametrize(("epochs", "keeps"), [(0, True), (19, True), (20, False)])
def test_a_weak_network_corrects_only_what_it_has_watched_for_long(epochs, keeps):
    """Sure of a half with 30 % noise, of the other half it knows no more than a guess."""
    probs, given, _ = rows_of(0.3)
    probs[::2] = np.random.default_rng(2).dirichlet(np.full(4, 30.0), 1_500)
    fit = posterior_evidence(probs, given, epochs).fit
    assert (fit.ok, fit.keeps_labels) == (True, keeps)
    assert ("too weak" in fit.reason) is keeps


def half_known(share, rows):
    """As `rows_of`, but of half of the rows the network knows nothing."""
    probs, given, _ = rows_of(share, rows)
    probs[::2] = np.random.default_rng(2).dirichlet(np.full(4, 30.0), rows // 2)
    return probs, given


@pytest.mark.parametrize(
    ("rows", "share", "keeps"), [(1_100, 0.1, True), (1_300, 0.1, False), (1_100, 0.3, False)]
)
def test_a_weak_network_with_few_rows_corrects_only_what_contradicts_it_plainly(rows, share, keeps):
    probs, given = half_known(share, rows)
    found = pooled_posterior(probs, given)
    assert found.is_weak
    assert not found.looks_clean
    assert (found.noise_rate > 1.3 * found.likely_doubt) is (share == 0.3)
    fit = posterior_evidence(probs, given, 28).fit
    assert (fit.ok, fit.keeps_labels) == (True, keeps)
    assert ("had only 275 rows of a class to learn from" in fit.reason) is keeps


def test_labels_that_look_clean_to_a_network_that_is_sure_of_few_may_be_wrong():
    given = np.arange(2_000) % 4
    probs = np.eye(4)[given] * 0.9 + 0.025
    fit = posterior_evidence(probs, given, 28).fit
    assert "look clean" in fit.reason
    assert "only" not in fit.reason
    probs[:1_000] = np.random.default_rng(2).dirichlet(np.full(4, 30.0), 1_000)
    fit = posterior_evidence(probs, given, 28).fit
    assert "look clean" in fit.reason
    assert "it is sure of 50% of the rows only, and errors among the others may not show" in fit.reason


def test_a_weak_network_is_seen_without_the_whole_posterior():
    probs, given, _ = rows_of(0.3)
    more = np.vstack([probs, np.full((2, 4), np.nan)])
    assert not network_is_weak(more, np.append(given, [-1, -1]))
    probs[::2] = np.random.default_rng(2).dirichlet(np.full(4, 30.0), 1_500)
    assert network_is_weak(probs, given)
    assert pooled_posterior(probs, given).is_weak


def test_a_good_network_corrects_rows_that_it_never_saw():
    probs, given, _ = rows_of(0.3)
    assert not posterior_evidence(probs, given, 0).fit.keeps_labels


def test_a_network_that_is_sure_of_nothing_changes_nothing():
    rng = np.random.default_rng(0)
    fit = posterior_evidence(rng.dirichlet(np.full(4, 500.0), 400), rng.integers(0, 4, 400), 28).fit
    assert fit.ok
    assert fit.keeps_labels
    assert "sure of no row" in fit.reason


def test_components_that_lie_on_each_other_say_nothing():
    """Losses of one heap: then the ratio score stands alone."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 300)
    peak = 0.3 + 0.7 * rng.beta(2, 12, 300)
    probs = np.repeat((1 - peak)[:, None] / 3, 4, axis=1)
    probs[np.arange(300), true] = peak
    given = np.where(rng.random(300) < 0.1, (true + rng.integers(1, 4, 300)) % 4, true)
    found = pooled_posterior(probs, given)
    assert found.model.gap < 0.15
    assert not found.looks_clean
    expected = references.pooled_belief(probs, given, np.ones(300, bool))
    np.testing.assert_allclose(found.beliefs, expected, atol=1e-4)


@pytest.mark.parametrize(
    "read",
    [
        lambda p, g: posterior_evidence(p, g, 28),
        lambda p, g: paper_evidence(-np.log(p[range(len(g)), g]), p, g),
    ],
)
def test_clean_labels_are_a_finding_and_no_failure(read):
    probs, given, _ = rows_of(0.0)
    evidence = read(probs, given)
    assert evidence.fit.ok
    assert evidence.fit.keeps_labels
    assert "look clean" in evidence.fit.reason


def test_rows_without_a_label_do_not_matter():
    probs, given, _ = rows_of(0.3)
    more = np.vstack([probs, np.full((2, 4), np.nan)])
    evidence = posterior_evidence(more, np.append(given, [-1, -1]), 28)
    np.testing.assert_array_equal(evidence.noise[:-2], posterior_evidence(probs, given, 28).noise)
    assert np.isnan(evidence.noise[-2:]).all()
    assert np.isnan(evidence.probs[-2:]).all()


def test_equal_losses_are_a_failed_fit():
    evidence = posterior_evidence(np.full((100, 4), 0.25), np.arange(100) % 4, 28)
    assert not evidence.fit.ok
    assert "same loss" in evidence.fit.reason


def test_a_network_that_is_too_sure_of_rows_it_never_saw_is_tempered():
    """Right in 85 % of the rows, and hardly less sure of the others: at its word it would correct right labels."""
    rng = np.random.default_rng(4)
    true = rng.integers(0, 4, 3_000)
    seen = np.where(rng.random(3_000) < 0.2, rng.integers(0, 4, 3_000), true)
    margin = np.where(seen == true, 12, rng.uniform(0, 10, 3_000))
    logits = margin[:, None] * np.eye(4)[seen] + rng.normal(0, 2, (3_000, 4))
    everybody = np.ones(3_000, bool)
    at_its_word = posterior_evidence(softmax(logits, axis=1), true, 0)
    assert not at_its_word.fit.keeps_labels
    tempered = held_out_evidence(logits, true, everybody)
    assert tempered.fit.ok
    assert tempered.fit.keeps_labels
    # The temperature is the one at which the mean loss of the given labels is least.
    scales = np.exp(np.linspace(-4, 0, 400))
    losses = [-log_softmax(logits * scale, axis=1)[np.arange(3_000), true].mean() for scale in scales]
    best = scales[int(np.argmin(losses))]
    expected = posterior_evidence(softmax(logits * best, axis=1), true, 0)
    np.testing.assert_allclose(tempered.noise, expected.noise, atol=0.01)


def test_a_modest_network_is_taken_at_its_word():
    probs, given, _ = rows_of(0.3)
    modest = np.log(probs) / 2
    found = held_out_evidence(modest, given, np.ones(3_000, bool))
    np.testing.assert_allclose(
        found.noise, posterior_evidence(softmax(modest, axis=1), given, 0).noise, atol=1e-3
    )


def test_certain_and_right_is_clean_and_no_failure():
    """Losses that hardly differ: there is no mixture, and nothing to find."""
    given = np.arange(600) % 3
    evidence = posterior_evidence(np.eye(3)[given] * (1 - 3e-9) + 1e-9, given, 28)
    assert evidence.fit.ok
    assert evidence.fit.keeps_labels


def test_beliefs_sum_to_one_where_a_sure_network_is_contradicted():
    given = np.arange(600) % 3
    probs = np.eye(3)[given] * (1 - 3e-13) + 1e-13
    given[0] = 1
    evidence = posterior_evidence(probs, given, 28)
    np.testing.assert_allclose(evidence.probs.sum(axis=1), 1, atol=1e-5)
