"""Calibration of noise scores: against an independent fit of the same loss, and never without need."""

from __future__ import annotations

import numpy as np
import pytest
from references import platt_by_hand
from scipy.special import expit, logit

from labelfix.estimation.calibration import calibrate


def overconfident(rows: int, seed: int = 0, power: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log-odds are `power` times too large, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(-1.0, 1.5, rows)
    return expit(power * honest), rng.random(rows) < expit(honest)


def calibration_error(noise: np.ndarray, wrong: np.ndarray) -> float:
    """Over ten bins of equal width, by their share of the rows."""
    bins = [(noise >= k / 10) & ((noise < (k + 1) / 10) | (k == 9)) for k in range(10)]
    return sum(abs(noise[inside].sum() - wrong[inside].sum()) for inside in bins) / len(noise)


EVERYBODY = np.ones(400, dtype=bool)


def test_the_scores_are_platts_of_an_independent_fit():
    noise, wrong = overconfident(400)
    scored = np.arange(400) < 250
    found = calibrate(noise, scored, wrong)
    slope, offset = platt_by_hand(noise[:250], wrong[:250])
    assert 0 < slope < 1
    expected = expit(slope * logit(np.clip(noise, 1e-6, 1 - 1e-6)) + offset)
    np.testing.assert_allclose(found.noise, expected, atol=1e-3)
    assert found.is_calibrated
    assert found.reason == f"calibrated on 250 verified rows, {wrong[:250].sum()} of them wrongly labelled"


def test_overconfident_scores_become_probabilities_on_rows_that_were_not_verified():
    noise, wrong = overconfident(4_000)
    scored = np.arange(4_000) < 300
    found = calibrate(noise, scored, wrong)
    before, after = (calibration_error(scores[~scored], wrong[~scored]) for scores in (noise, found.noise))
    assert after < before / 2
    assert found.brier_after < found.brier_before


def test_the_order_of_the_rows_is_kept():
    noise, wrong = overconfident(400)
    found = calibrate(noise, EVERYBODY, wrong).noise
    order = np.argsort(noise)
    assert (np.diff(found[order]) >= 0).all()
    inside = (noise[order] > 1e-6) & (noise[order] < 1 - 1e-6)
    assert (np.diff(found[order][inside]) > 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("rare", [True, False])
def test_nine_of_either_kind_are_too_few_and_ten_are_not(rare):
    noise, wrong = overconfident(400)
    few, many = np.flatnonzero(wrong == rare), np.flatnonzero(wrong != rare)
    scored = np.zeros(400, dtype=bool)
    scored[many[:100]] = scored[few[:9]] = True
    found = calibrate(noise, scored, wrong)
    assert not found.is_calibrated
    np.testing.assert_array_equal(found.noise, noise)
    wrongs, rights = (9, 100) if rare else (100, 9)
    assert found.reason.startswith(f"not calibrated: {wrongs} wrong and {rights} right labels")
    assert "--trusted" in found.reason
    assert (found.brier_before, found.brier_after) == (None, None)
    scored[few[9]] = True
    assert calibrate(noise, scored, wrong).is_calibrated


def test_rows_that_are_not_verified_do_not_matter():
    noise, wrong = overconfident(400)
    scored = np.arange(400) < 200
    other = np.where(scored, wrong, ~wrong)
    np.testing.assert_array_equal(
        calibrate(noise, scored, wrong).noise, calibrate(noise, scored, other).noise
    )


def test_rows_without_a_score_stay_without_one_and_do_not_count():
    noise, wrong = overconfident(400)
    holes = noise.copy()
    holes[::10] = np.nan
    found = calibrate(holes, EVERYBODY, wrong)
    np.testing.assert_array_equal(np.isnan(found.noise), np.isnan(holes))
    kept = np.flatnonzero(np.isfinite(holes))
    np.testing.assert_array_equal(
        found.noise[kept], calibrate(noise[kept], EVERYBODY[kept], wrong[kept]).noise
    )
    nothing = calibrate(np.full(400, np.nan), EVERYBODY, wrong)
    assert nothing.reason.startswith("not calibrated: 0 wrong and 0 right")


def test_scores_that_point_the_wrong_way_are_left_alone():
    noise, wrong = overconfident(400)
    found = calibrate(1 - noise, EVERYBODY, wrong)
    assert not found.is_calibrated
    assert "a higher score does not mean a wrong label more often" in found.reason
    np.testing.assert_array_equal(found.noise, 1 - noise)
    assert found.brier_before is not None


def test_scores_that_are_probabilities_already_are_left_alone():
    """A fifth of the rows at 0.2 are wrong and four fifths of those at 0.8: no other two numbers are better."""
    noise = np.repeat([0.2, 0.8], 50)
    wrong = np.concatenate([np.arange(50) < 10, np.arange(50) < 40])
    found = calibrate(noise, np.ones(100, dtype=bool), wrong)
    assert not found.is_calibrated
    assert found.reason == "not calibrated: the scores fit the verified rows as well as they can"
    assert found.brier_before == pytest.approx(0.16)
    assert found.brier_after > 0.16
    np.testing.assert_array_equal(found.noise, noise)


@pytest.mark.parametrize("ends", [0.0, 1.0])
def test_scores_of_exactly_nought_or_one_are_no_trouble(ends):
    noise, wrong = overconfident(400)
    noise[:50] = ends
    assert np.isfinite(calibrate(noise, EVERYBODY, wrong).noise).all()


def test_the_same_rows_give_the_same_scores_and_nothing_is_changed_in_place():
    noise, wrong = overconfident(400)
    before = noise.copy()
    first, second = (calibrate(noise, EVERYBODY, wrong) for _ in range(2))
    np.testing.assert_array_equal(first.noise, second.noise)
    assert (first.brier_before, first.brier_after) == (second.brier_before, second.brier_after)
    np.testing.assert_array_equal(noise, before)


def test_the_brier_scores_are_mean_squared_errors_of_rows_that_the_fit_had_not_seen():
    noise, wrong = overconfident(400)
    found = calibrate(noise, EVERYBODY, wrong)
    assert found.brier_before == pytest.approx(np.mean((noise - wrong) ** 2))
    # A fit that saw the rows is a little better on them than one that did not; both are near.
    seen = np.mean((found.noise - wrong) ** 2)
    assert seen < found.brier_after < seen * 1.1
