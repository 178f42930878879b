from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from labelfix.estimation.evidence import Evidence, Fit, Rule
from labelfix.estimation.held_out import judged_evidence
from labelfix.estimation.verdicts import decide


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
    assert verdicts.corrected.tolist() == [0, 1, 1, 2, 2]


def test_the_bounds_of_the_rule():
    probs = [[0.2, 0.8], [0.21, 0.79], [0.2, 0.8], [0.9, 0.1]]
    verdicts = decide(
        evidence([0.51, 0.51, 0.5, 0.99], probs), np.zeros(4, dtype=int), np.ones(4, bool), np.full(4, -1)
    )
    assert verdicts.flagged.tolist() == [True, True, False, False]
    assert verdicts.corrected.tolist() == [1, 0, 0, 0]


def test_a_label_is_taken_by_its_odds_not_by_its_probability():
    """Two other classes share the mass: none has half of it, the first has four times that of the given label."""
    probs = [[0.09, 0.4, 0.3, 0.21], [0.15, 0.4, 0.3, 0.15], [0.9, 0.1, 0.0, 0.0]]
    verdicts = decide(evidence([0.9, 0.85, 0.1], probs), np.zeros(3, int), np.ones(3, bool), np.full(3, -1))
    assert verdicts.flagged.tolist() == [True, True, False]
    assert verdicts.corrected.tolist() == [1, 0, 0]


def test_clean_data_keeps_every_label():
    verdicts = decide(evidence(NOISE, SURE, keeps_labels=True), GIVEN, ALL, NOBODY)
    assert verdicts.corrected.tolist() == GIVEN.tolist()
    assert verdicts.fit.ok
    nearly_nothing = decide(evidence([1e-8] * 5, SURE, keeps_labels=True), GIVEN, ALL, NOBODY)
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


@pytest.mark.parametrize("rows", [60, 600])
def test_held_out_predictions_that_are_all_alike_flag_nothing(rows):
    given = np.arange(rows) % 3
    found = judged_evidence(np.full((rows, 3), 1 / 3), given)
    verdicts = decide(found, given, given >= 0, given)
    assert not verdicts.flagged.any()
    assert verdicts.corrected.tolist() == given.tolist()


def test_where_nothing_was_eligible_nothing_looks_clean():
    found = evidence(NOISE, SURE, keeps_labels=True, reason="the labels look clean")
    fit = decide(found, GIVEN, ~ALL, NOBODY, trusted=GIVEN).fit
    assert (fit.ok, fit.keeps_labels) == (True, True)
    assert fit.reason.startswith("no row is eligible")


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
    eligible = np.array([True, False, True, True, True])
    verdicts = decide(evidence(NOISE, SURE), GIVEN, eligible, NOBODY)
    assert not verdicts.flagged[1]
    assert verdicts.corrected[1] == 0


def test_a_class_without_rows_never_counts_as_emptied():
    probs = np.hstack([np.array(SURE, dtype=np.float32), np.zeros((5, 1), np.float32)])
    assert decide(evidence(NOISE, probs), GIVEN, ALL, NOBODY).fit.ok


# ---------------------------------------------------------------- trusted rows


def test_a_trusted_row_takes_its_verified_label_and_is_never_flagged():
    """Rows 1 and 3 would be flagged; row 1 is verified as wrong, row 3 as right, row 0 as something else."""
    trusted = np.array([2, 1, -1, 1, -1])
    eligible = trusted < 0
    verdicts = decide(evidence(NOISE, SURE), GIVEN, eligible, NOBODY, trusted)
    assert not verdicts.flagged.any()
    assert verdicts.corrected.tolist() == [2, 1, 1, 1, 2]
    assert verdicts.fit.ok


@pytest.mark.parametrize("fit", [{}, {"ok": False, "reason": "why"}, {"keeps_labels": True}])
def test_a_verified_label_stands_whatever_the_fit_and_without_evidence(fit):
    """As for a row whose image is not valid, or one that had no label."""
    noise, probs = np.array(NOISE), np.array(SURE)
    noise[:2], probs[:2] = np.nan, np.nan
    given, trusted = np.array([0, -1, 1, 1, 2]), np.array([1, 2, -1, -1, -1])
    verdicts = decide(evidence(noise, probs, **fit), given, trusted < 0, NOBODY, trusted)
    assert verdicts.corrected[:2].tolist() == [1, 2]
    assert not verdicts.flagged[:2].any()
    assert verdicts.fit.ok is fit.get("ok", True)


SCORED = np.array([True, True, True, True, False])


def test_a_rule_that_makes_verified_rows_worse_has_failed():
    """It corrects rows 1 and 3 from 0 to 1 and from 1 to 2, and both were right."""
    probs = np.array(SURE)
    probs[3] = [0.0, 0.1, 0.9]
    trusted = np.array([0, 0, 1, 1, -1])
    verdicts = decide(evidence(NOISE, probs), GIVEN, ~SCORED, NOBODY, trusted, SCORED)
    assert not verdicts.fit.ok
    assert "of 4 verified rows 4 were given the right label and 2 would have it" in verdicts.fit.reason
    assert not verdicts.flagged.any()
    assert verdicts.corrected.tolist() == [0, 0, 1, 1, 2]


def test_a_rule_that_helps_as_much_as_it_harms_stands():
    probs = np.array(SURE)
    probs[3] = [0.0, 0.1, 0.9]
    trusted = np.array([0, 1, 1, 1, -1])  # row 1 was wrong and is put right, row 3 was right and is spoilt
    verdicts = decide(evidence(NOISE, probs), GIVEN, ~SCORED, NOBODY, trusted, SCORED)
    assert verdicts.fit.ok
    assert verdicts.corrected.tolist() == [0, 1, 1, 1, 2]
    assert not verdicts.flagged.any()


def test_only_rows_that_are_scored_can_fail_the_rule():
    """The same harm on a verified row that the network was trained on says nothing."""
    trusted = np.array([0, 0, 1, 1, -1])
    verdicts = decide(evidence(NOISE, SURE), GIVEN, trusted < 0, NOBODY, trusted, np.zeros(5, dtype=bool))
    assert verdicts.fit.ok


def test_clean_data_and_a_failed_fit_cannot_make_verified_rows_worse():
    trusted = np.array([0, 0, 1, 1, -1])
    for fit in ({"keeps_labels": True}, {"ok": False, "reason": "why"}):
        verdicts = decide(evidence(NOISE, SURE, **fit), GIVEN, ~SCORED, NOBODY, trusted, SCORED)
        assert verdicts.fit == Fit(**fit)


def test_a_class_that_a_verified_row_keeps_is_not_emptied():
    given, trusted = np.array([0, 0, 1, 1, 1]), np.array([0, -1, -1, -1, -1])
    noise, probs = [0.1, 0.9, 0.1, 0.2, 0.1], [[0.9, 0.1], *[[0.1, 0.9]] * 4]
    verdicts = decide(evidence(noise, probs), given, trusted < 0, NOBODY, trusted)
    assert verdicts.fit.ok
    assert verdicts.corrected.tolist() == [0, 1, 1, 1, 1]
    alone = decide(evidence(noise, probs), np.array([1, 0, 1, 1, 1]), trusted < 0, NOBODY)
    assert "without a row" in alone.fit.reason


def test_a_rule_that_spares_classes_keeps_the_labels_of_those_it_would_empty_and_only_these():
    """Row 0 alone is of class 0, and row 1 of class 1, which would live on by row 0 alone."""
    given, noise = np.array([0, 1, 2, 2, 2]), [0.9, 0.8, 0.1, 0.7, 0.2]
    probs = [[0.1, 0.9, 0, 0], [0.1, 0.2, 0.7, 0], [0, 0, 0.9, 0.1], [0, 0, 0.3, 0.7], [0, 0, 0.8, 0.2]]
    rule = Rule(0.5, 1.0, needs_other=False, spares_classes=True)
    found = dataclasses.replace(evidence(noise, probs), rule=rule)
    verdicts = decide(found, given, ALL, NOBODY)
    assert verdicts.fit.ok
    assert verdicts.spared.tolist() == [0, 1]
    assert verdicts.flagged.tolist() == [True, True, False, True, False]
    assert verdicts.corrected.tolist() == [0, 1, 2, 3, 2]


def test_rows_that_keep_their_label_are_flagged_all_the_same():
    kept = np.array([False, True, False, False, False])
    verdicts = decide(evidence(NOISE, SURE), GIVEN, ALL, NOBODY, kept=kept)
    assert verdicts.flagged.tolist() == [False, True, False, True, False]
    assert verdicts.corrected.tolist() == [0, 0, 1, 2, 2]
