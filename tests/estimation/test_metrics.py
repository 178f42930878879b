"""What several runs say together, against counts by hand; the metrics of one run are tested with evaluate()."""

from __future__ import annotations

import numpy as np
import pytest
from references import slow_mean_rank

from labelfix.estimation.metrics import flag_counts, mean_rank


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_mean_rank_against_counting(runs):
    """With ties, rows without a score in some runs, one without any, and a run that is all one score."""
    rng = np.random.default_rng(runs)
    noise = rng.integers(0, 12, (runs, 60)).astype(np.float32) / 11
    noise[rng.random(noise.shape) < 0.1] = np.nan
    noise[:, 7] = np.nan
    noise[0, np.isfinite(noise[0])] = 0.3
    found = mean_rank(noise)
    np.testing.assert_allclose(found, slow_mean_rank(noise.tolist()), rtol=0, atol=1e-11)
    assert np.isnan(found[7])
    assert ((found >= 0) & (found <= 1))[np.isfinite(found)].all()


def test_mean_rank_takes_no_notice_of_scale():
    noise = np.random.default_rng(0).random((3, 40))
    stretched = np.stack([noise[0] ** 4, 0.5 + noise[1] / 2, noise[2]])
    np.testing.assert_array_equal(mean_rank(noise), mean_rank(stretched))


def test_rows_with_the_same_ranks_in_another_order_tie():
    noise = np.random.default_rng(0).permuted(np.tile(np.arange(97.0), (3, 1)), axis=1)
    total = noise.sum(axis=0)
    found = mean_rank(noise)
    assert (np.equal.outer(found, found) == np.equal.outer(total, total)).all()


def test_mean_rank_of_a_run_without_scores_and_of_no_rows():
    one = np.array([[0.1, 0.9], [np.nan, np.nan]])
    assert mean_rank(one).tolist() == [0.25, 0.75]
    assert mean_rank(np.empty((2, 0))).tolist() == []


def test_flag_counts_by_hand():
    flagged = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1]], bool)
    wrong = np.array([1, 0, 1, 0, 1], bool)
    assert flag_counts(flagged, wrong) == {
        "flagged_by": [0, 1, 2, 3],
        "rows": [2, 1, 1, 1],
        "share_wrong": [0.5, 0.0, 1.0, 1.0],
    }
    assert flag_counts(flagged[:1, :2], wrong[:2])["share_wrong"] == [None, 0.5]
