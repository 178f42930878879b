"""The readings: what losses and averaged predictions say of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import references

from labelfix.mixture import NoiseModel
from labelfix.readings import paper_evidence, pooled_evidence


def rows_of(noisy_share, rows=3_000, classes=4, seed=0):
    """Averaged predictions of a good network; a share of the given labels is wrong, to any other class."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < noisy_share, (true + rng.integers(1, classes, rows)) % classes, true)
    probs = rng.dirichlet(np.ones(classes), rows) * 0.3
    probs[np.arange(rows), true] += 0.7
    return probs, given, true


class TestEvidence:
    @pytest.mark.parametrize("share", [0.2, 0.4])
    def test_the_pooled_reading_separates_wrong_from_right_and_knows_the_rate(self, share):
        probs, given, true = rows_of(share)
        evidence = pooled_evidence(probs, given)
        wrong = given != true
        assert evidence.fit.ok
        assert not evidence.fit.clean
        assert evidence.noise[wrong].min() > evidence.noise[~wrong].mean()
        assert 0.7 * wrong.mean() < evidence.noise.mean() < 1.2 * wrong.mean()
        assert (evidence.probs.argmax(axis=1) == true).mean() > 0.95

    @pytest.mark.parametrize("fitted", [None, np.arange(150) < 110])
    def test_the_pooled_reading_is_the_formula(self, fitted):
        probs, given, _ = rows_of(0.3, rows=150)
        known = np.ones(150, dtype=bool) if fitted is None else fitted
        expected = references.pooled_belief(probs, given, known)
        found = pooled_evidence(probs, given, fitted=fitted)
        np.testing.assert_allclose(found.probs, expected, atol=1e-6)
        np.testing.assert_allclose(found.noise, 1 - expected[np.arange(150), given], atol=1e-6)

    def test_swapped_classes_are_judged_by_the_posterior_alone(self):
        rng = np.random.default_rng(0)
        true = rng.integers(0, 4, 3_000)
        given = np.where(rng.random(3_000) < 0.3, (true + 1) % 4, true)
        probs = np.eye(4)[true] * 0.6 + np.roll(np.eye(4), 1, axis=1)[true] * 0.3 + 0.025
        posterior, _ = references.transition_posterior(probs, given)
        expected = posterior**2.5 / (posterior**2.5).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(pooled_evidence(probs, given).probs, expected, atol=1e-6)

    @pytest.mark.parametrize(
        "read", [pooled_evidence, lambda p, g: paper_evidence(-np.log(p[range(len(g)), g]), p, g)]
    )
    def test_clean_labels_are_a_finding_and_no_failure(self, read):
        probs, given, _ = rows_of(0.0)
        evidence = read(probs, given)
        assert evidence.fit.ok
        assert evidence.fit.clean
        assert "look clean" in evidence.fit.reason

    def test_rows_without_a_label_do_not_matter(self):
        probs, given, _ = rows_of(0.3)
        more = np.vstack([probs, np.full((2, 4), np.nan)])
        evidence = pooled_evidence(more, np.append(given, [-1, -1]))
        np.testing.assert_array_equal(evidence.noise[:-2], pooled_evidence(probs, given).noise)
        assert np.isnan(evidence.noise[-2:]).all()
        assert np.isnan(evidence.probs[-2:]).all()

    def test_equal_losses_are_a_failed_fit(self):
        evidence = pooled_evidence(np.full((100, 4), 0.25), np.arange(100) % 4)
        assert not evidence.fit.ok
        assert "same loss" in evidence.fit.reason

    def test_the_paper_reading_is_the_soft_target_of_equation_10(self):
        probs, given, _ = rows_of(0.3)
        losses = -np.log(probs[np.arange(3_000), given])
        w = NoiseModel.fit(losses).posterior(losses)[:, None]
        evidence = paper_evidence(losses, probs, given)
        np.testing.assert_allclose(evidence.probs, (1 - w) * np.eye(4)[given] + w * probs, atol=1e-5)
