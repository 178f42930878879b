"""Whole scans of simple images of known truth: is the verdict right, and not only the order of the scores?"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import write_digits
from runs import findings_of

import labelfix

QUICK = {"method": "bmm", "image_size": 16, "epochs": 16, "precision": "fp32"}


@pytest.fixture(
    scope="module", params=["symmetric-exclusive:0.1", "symmetric-exclusive:0"], ids=["noisy", "clean"]
)
def scanned(request, tmp_path_factory):
    """Ten classes of digits enlarged to 16 px: findings, summary, and which labels are wrong."""
    folder = tmp_path_factory.mktemp("simple")
    true = write_digits(folder / "images", 1_000, request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        run = labelfix.scan(folder / "images", out=folder / "run", **QUICK)
    df = findings_of(run)
    return df, run.summary["diagnostics"]["estimate"], df.given_label.astype(int).to_numpy() != true, true


def test_a_tenth_of_wrong_labels_is_not_called_clean_and_is_mended(scanned):
    df, estimate, wrong, true = scanned
    right = (df.corrected_label.astype(int) == true).mean()
    if not wrong.any():
        assert estimate["finding"] != "noisy"
        assert df.is_label_issue.mean() < 0.01
        assert right == 1
        return
    assert estimate["finding"] == "noisy"
    assert estimate["noise_rate_low"] < wrong.mean() < estimate["noise_rate_high"]
    assert abs(estimate["noise_rate"] - wrong.mean()) < 0.02
    flagged = df.is_label_issue.to_numpy(bool)
    assert 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()) > 0.9
    assert right > 0.98
    np.testing.assert_allclose(df.noise_score.mean(), wrong.mean(), atol=0.02)
