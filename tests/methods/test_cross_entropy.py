"""Cross-entropy: parity with the formulas, and its two scores."""

from __future__ import annotations

import numpy as np
import pytest
import references
from training import digit_labels, make_trainer

from labelfix.methods.base import Moment


def test_loss_is_cross_entropy_with_the_given_labels():
    trainer = make_trainer("cross-entropy")
    phase = trainer.method.phases()[0]
    (batch,) = trainer.source.batches([np.arange(40)], phase.views, [3])
    found = trainer.method.train().loss(Moment(phase, 0.0), batch)["cross_entropy"].item()
    logits = trainer.method.network(batch.views[0]).detach().cpu().numpy()
    expected = references.cross_entropy(np.eye(10)[digit_labels(200)[0][:40]], logits)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_default_score_is_one_minus_the_probability_of_the_given_label():
    trainer = make_trainer("cross-entropy")
    list(trainer.epochs())
    given = digit_labels(200)[0]
    probs = references.softmax(trainer.predict("plain").cpu().numpy())
    evidence = trainer.method.evidence(trainer.predict)
    np.testing.assert_allclose(evidence.noise, 1 - probs[np.arange(200), given], atol=1e-5)
    posterior, _ = references.transition_posterior(probs, given)
    np.testing.assert_allclose(evidence.probs, posterior, atol=1e-4)


def test_the_trajectory_score_is_the_mean_of_ratio_and_posterior():
    trainer = make_trainer("cross-entropy", score_from="trajectory")
    list(trainer.epochs())
    given, probs = digit_labels(200)[0], trainer.method.trajectory.double().cpu().numpy()
    posterior, _ = references.transition_posterior(probs, given)
    expected = (references.ratio_score(probs, given) + 1 - posterior[np.arange(200), given]) / 2
    np.testing.assert_allclose(trainer.method.evidence(trainer.predict).noise, expected, atol=1e-5)
