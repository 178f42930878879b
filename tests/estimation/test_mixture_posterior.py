"""The posterior of the mixture."""

from __future__ import annotations

import numpy as np
from predictions import rows_of

from labelfix.estimation.mixture import NoiseModel
from labelfix.estimation.mixture_posterior import paper_evidence


def test_the_paper_posterior_is_the_soft_target_of_equation_10():
    probs, given, _ = rows_of(0.3)
    losses = -np.log(probs[np.arange(3_000), given])
    w = NoiseModel.fit(losses).posterior(losses)[:, None]
    evidence = paper_evidence(losses, probs, given)
    np.testing.assert_allclose(evidence.probs, (1 - w) * np.eye(4)[given] + w * probs, atol=1e-5)
