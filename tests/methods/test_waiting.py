"""pencil and joint move labels only once the network can be trusted with them (`when_weak=wait`)."""

from __future__ import annotations

import digit_training
import numpy as np
import pytest
import torch
from digit_training import assert_same, digit_labels, make_trainer, resumed, state_of

METHODS = ["pencil", "joint"]


def trained(name, given, epochs, **changes):
    return digit_training.trained(name, rows=600, epochs=epochs, given=given, **changes)


def moved(trainer) -> np.ndarray:
    """(N,) bool, rows whose label has another class than the given one."""
    method = trainer.method
    labels = method.label_logits if hasattr(method, "label_logits") else method.targets
    return (labels.argmax(dim=1) != method.given).cpu().numpy()


@pytest.mark.parametrize("name", METHODS)
def test_labels_stay_and_its_own_model_says_so_where_no_class_is_likely(name):
    """Labels at random: there is nothing to learn, so no label may follow the network."""
    given = np.random.default_rng(0).integers(0, 10, 600)
    waiting = trained(name, given, 12, when_weak="wait")
    assert not moved(waiting).any()
    assert not waiting.method.moves
    own = waiting.method.own_evidence(waiting.predict("plain"))
    assert not own.fit.ok
    assert "too weak for labels to move" in own.fit.reason
    assert moved(trained(name, given, 12, when_weak="go")).any()


@pytest.mark.parametrize("name", METHODS)
def test_labels_move_where_the_network_is_good(name):
    given, true = digit_labels(600)
    trainer = trained(name, given, 24, when_weak="wait")
    assert trainer.method.moves
    rows = moved(trainer)
    assert (given != true)[rows].mean() > 0.9


def test_a_waiting_pencil_is_cross_entropy_to_the_end():
    """Its backbone stage goes on; the same loss on the same batches gives the same weights."""
    given = np.random.default_rng(0).integers(0, 10, 600)
    plan = {"learning_rate": "0.05", "labels_rate": "0.05", "classifier_rate": "0.05", "milestones": "99"}
    waiting = trained("pencil", given, 6, when_weak="wait", **plan)
    plain = trained("cross-entropy", given, 6, milestones="99")
    for a, b in zip(waiting.method.network.parameters(), plain.method.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_what_was_decided_survives_a_restart(name):
    options = {"given": np.random.default_rng(0).integers(0, 10, 200), "epochs": 6, "when_weak": "wait"}
    whole = digit_training.trained(name, **options)
    assert_same(state_of(whole), state_of(resumed(17, name, **options)))


def test_checkpoints_name_the_decision_as_those_of_older_runs():
    state = make_trainer("pencil", epochs=6, when_weak="wait").state()[0]
    assert state["method._moves._extra_state"].tolist() is False


def test_meta_without_a_warm_up_moves_labels_once_its_network_is_good():
    given, _ = digit_labels(600)
    trainer = digit_training.trained("meta", rows=600, epochs=6, given=given, warmup_epochs="0")

    assert trainer.method.moves
