"""The posterior of the mixture, and the mean of two posteriors."""

from __future__ import annotations

import numpy as np
from predictions import rows_of

from labelfix.estimation.evidence import Evidence, Fit, mean_evidence
from labelfix.estimation.mixture import NoiseModel
from labelfix.estimation.mixture_posterior import paper_evidence


def test_the_paper_posterior_is_the_soft_target_of_equation_10():
    probs, given, _ = rows_of(0.3)
    losses = -np.log(probs[np.arange(3_000), given])
    w = NoiseModel.fit(losses).posterior(losses)[:, None]
    evidence = paper_evidence(losses, probs, given)
    np.testing.assert_allclose(evidence.probs, (1 - w) * np.eye(4)[given] + w * probs, atol=1e-5)


def test_both_is_the_mean_of_two_posteriors_with_the_fit_of_the_second():
    nan = float("nan")
    first = Evidence(np.array([0.2, nan]), np.array([[0.8, 0.2], [nan, nan]], dtype=np.float32))
    second = Evidence(
        np.array([0.6, nan]),
        np.array([[0.4, 0.6], [nan, nan]], dtype=np.float32),
        Fit(keeps_labels=True),
        {"n": 1},
    )
    found = mean_evidence(first, second)
    np.testing.assert_allclose(found.noise, [0.4, nan])
    np.testing.assert_allclose(found.probs, [[0.6, 0.4], [nan, nan]], rtol=1e-6)
    assert found.probs.dtype == np.float32
    assert (found.fit, found.diagnostics) == (Fit(keeps_labels=True), {"n": 1})
