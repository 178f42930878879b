from __future__ import annotations

import numpy as np
import pytest

from labelfix.evidence import Evidence, Fit
from labelfix.verdicts import decide


def evidence(noise, probs, **fit) -> Evidence:
    return Evidence(np.array(noise, dtype=float), np.array(probs, dtype=np.float32), Fit(**fit))


GIVEN = np.array([0, 0, 1, 1, 2])
SURE = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6], [0.0, 0.0, 1.0]]
NOISE = [0.1, 0.9, 0.2, 0.8, 0.0]
ALL = np.ones(5, dtype=bool)
NOBODY = np.full(5, -1)


def test_flagged_rows_are_suspect_and_disagree_and_sure_ones_are_corrected():
    verdicts = decide(evidence(NOISE, SURE), GIVEN, ALL, NOBODY)
    assert verdicts.flagged.tolist() == [False, True, False, True, False]
    assert verdicts.corrected.tolist() == [0, 1, 1, 1, 2]


def test_the_bounds_of_the_rule():
    probs = [[0.2, 0.8], [0.21, 0.79], [0.2, 0.8], [0.9, 0.1]]
    verdicts = decide(
        evidence([0.51, 0.51, 0.5, 0.99], probs), np.zeros(4, dtype=int), np.ones(4, bool), np.full(4, -1)
    )
    assert verdicts.flagged.tolist() == [True, True, False, False]
    assert verdicts.corrected.tolist() == [1, 0, 0, 0]


def test_clean_data_keeps_every_label():
    verdicts = decide(evidence(NOISE, SURE, clean=True), GIVEN, ALL, NOBODY)
    assert verdicts.corrected.tolist() == GIVEN.tolist()
    assert verdicts.fit.ok
    nearly_nothing = decide(evidence([1e-8] * 5, SURE, clean=True), GIVEN, ALL, NOBODY)
    assert nearly_nothing.fit.ok


@pytest.mark.parametrize(
    ("noise", "probs", "reason"),
    [
        ([0.4] * 5, SURE, "same noise score"),
        ([0.9, 0.8, 0.7, 0.95, 0.85], SURE, "one-sided"),
        ([np.nan] * 5, SURE, "not finite"),
        (NOISE, [[np.nan] * 3] * 5, "not finite"),
        ([0.1, 0.2, 0.2, 0.1, 0.9], [[0.9, 0.1, 0.0]] * 5, "without a row"),
    ],
)
def test_a_failed_fit_flags_nothing_and_keeps_every_label(noise, probs, reason):
    verdicts = decide(evidence(noise, probs), GIVEN, ALL, NOBODY)
    assert not verdicts.fit.ok
    assert reason in verdicts.fit.reason
    assert not verdicts.flagged.any()
    assert verdicts.corrected.tolist() == GIVEN.tolist()


def test_a_fit_that_the_method_gave_up_is_kept():
    verdicts = decide(evidence(NOISE, SURE, ok=False, reason="why"), GIVEN, ALL, NOBODY)
    assert verdicts.fit == Fit(ok=False, reason="why")
    assert not verdicts.flagged.any()


def test_unlabelled_rows_take_the_prediction_and_are_never_flagged():
    given = np.array([0, -1, 1, -1, 2])
    noise = np.where(given < 0, np.nan, NOISE)
    probs = np.where((given < 0)[:, None], np.nan, SURE)
    verdicts = decide(evidence(noise, probs), given, given >= 0, np.array([0, 2, 1, -1, 2]))
    assert verdicts.fit.ok
    assert verdicts.corrected.tolist() == [0, 2, 1, -1, 2]
    assert not verdicts.flagged[[1, 3]].any()


def test_invalid_rows_keep_their_label():
    judged = np.array([True, False, True, True, True])
    verdicts = decide(evidence(NOISE, SURE), GIVEN, judged, NOBODY)
    assert not verdicts.flagged[1]
    assert verdicts.corrected[1] == 0


def test_a_class_without_rows_never_counts_as_emptied():
    probs = np.hstack([np.array(SURE, dtype=np.float32), np.zeros((5, 1), np.float32)])
    assert decide(evidence(NOISE, probs), GIVEN, ALL, NOBODY).fit.ok
