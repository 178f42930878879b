"""One class of several: whose predictions say whether its labels may change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from labelfix.data.verified_labels import Trusted
from labelfix.estimation.judgement import DEFAULT_THRESHOLDS
from labelfix.results.findings import Rows
from labelfix.results.multi_label import _Classes
from labelfix.training.folds import CrossFit

ROWS = 1_000
NOT_TOLD = "the network does not tell rows that have it from others"


@pytest.fixture
def states():
    """(N,) bool true states, and given ones of which a tenth is wrong."""
    rng = np.random.default_rng(0)
    true = rng.random(ROWS) < 0.4
    return true, true ^ (rng.random(ROWS) < 0.1)


def says(true, sure, seed=1):
    """(N, 1) probabilities of a network that is as sure as that of the true state."""
    odds = sure * (2 * true - 1.0) + np.random.default_rng(seed).normal(size=ROWS)
    return (1 / (1 + np.exp(-odds)))[:, None]


def classes(given, network, probe, held_out):
    none = np.full(ROWS, -1)
    told = np.log(probe / (1 - probe)).astype(np.float32)
    return _Classes(
        manifest=SimpleNamespace(given=np.zeros(ROWS, int), targets=given[:, None].astype(np.float32)),
        trusted=Trusted(none, np.zeros(ROWS, bool), "", np.zeros(ROWS, bool)),
        trainer=SimpleNamespace(
            method=SimpleNamespace(ensembled_probs=torch.from_numpy(network), score=lambda *_: None)
        ),
        rows=Rows(np.zeros(ROWS, int), np.where(held_out, -1, 0), held_out, np.zeros(ROWS, bool), 1),
        crossed=None,
        thresholds=DEFAULT_THRESHOLDS,
        probs=network.astype(np.float32),
        probe=CrossFit(np.arange(ROWS) % 5, told, {}, 0),
    )


@pytest.mark.parametrize(("of_network", "of_probe", "taken"), [(0, 3, "probe"), (3, 0, "network")])
def test_those_that_are_believed_tell_its_rows_apart(states, of_network, of_probe, taken):
    true, given = states
    seen = classes(given, says(true, of_network), says(true, of_probe, 2), np.arange(ROWS) % 5 == 0)
    evidence, _ = seen.evidence(0, seen.told())
    assert evidence.diagnostics["networks"]["taken"][0] == taken
    assert NOT_TOLD not in evidence.fit.reason
    assert not evidence.fit.keeps_labels


def test_where_neither_does_its_labels_stay(states):
    true, given = states
    seen = classes(given, says(true, 0), says(true, 0, 2), np.arange(ROWS) % 5 == 0)
    evidence, _ = seen.evidence(0, seen.told())
    assert NOT_TOLD in evidence.fit.reason
    assert evidence.fit.keeps_labels
    assert evidence.rule.relabel_odds == np.inf
    # What cannot be told is not flagged row for row.
    assert (evidence.noise > evidence.rule.flag_above).mean() < 0.05
