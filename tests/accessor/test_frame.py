"""df.labelfix: what frames of read_corrections are asked, on real corrections files, counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import refusals
from evaluation_runs import CASE, make_run
from references import slow_mean_rank

import labelfix


def findings(folder, changes=None):
    """The frame of a run over the rows of CASE; changes by row: noise score, flagged, corrected."""
    case = [(*row[:3], *(changes or {}).get(place, row[3:6]), row[6]) for place, row in enumerate(CASE)]
    return labelfix.read_corrections(make_run(folder, case))


@pytest.fixture
def runs(tmp_path):
    """Three runs; the second flags rows 4 and 6 to 8, the third would change row 2 differently."""
    second = {4: (0.9, True, "a"), 6: (1.0, True, "a"), 7: (np.nan, False, "b"), 8: (0.1, False, "a")}
    third = {2: (0.7, True, "c"), 5: (0.6, False, "c")}
    return {
        "one": findings(tmp_path / "one"),
        "two": findings(tmp_path / "two", second),
        "three": findings(tmp_path / "three", third),
    }


def refuses(*parts, frame, other):
    refusals.refuses(frame.labelfix.disagreements, *parts, other=other)


class TestDisagreements:
    def test_two_runs(self, runs):
        """They differ on row 4; invalid row 6 and unlabelled row 7 do not count, and row 8 is flagged by neither."""
        found = runs["one"].labelfix.disagreements(runs["two"])
        assert found.to_dict("index") == {
            4: {
                "sample_id": 4, "file_name": "4.png", "given_label": "c", "flagged_by": 1,
                "mean_rank": pytest.approx((1.5 / 8 + 7 / 8) / 2),
                "noise_score_self": pytest.approx(0.2), "is_label_issue_self": False, "corrected_label_self": "c",
                "noise_score_other": pytest.approx(0.9), "is_label_issue_other": True, "corrected_label_other": "a",
            }
        }  # fmt: skip
        assert found["given_label"].dtype == found["corrected_label_other"].dtype == "category"

    def test_many_runs_worst_first(self, runs):
        found = runs["one"].labelfix.disagreements({"two": runs["two"], "three": runs["three"]})
        counted = [row for row in range(len(CASE)) if row not in (6, 7)]
        noise = [run["noise_score"][counted].tolist() for run in runs.values()]
        rank = dict(zip(counted, slow_mean_rank(noise), strict=True))
        assert sorted(found.index) == [2, 4, 5]
        assert found["mean_rank"].to_dict() == pytest.approx({row: rank[row] for row in (2, 4, 5)})
        assert found["mean_rank"].is_monotonic_decreasing
        assert found["flagged_by"].to_dict() == {2: 3, 4: 1, 5: 2}
        assert found["corrected_label_three"][2] == "c"

    def test_a_frame_among_the_others_goes_by_its_name_there(self, runs):
        found = runs["three"].labelfix.disagreements(runs)
        names = [name.removeprefix("noise_score_") for name in found if name.startswith("noise_score_")]
        assert names == ["one", "two", "three"]
        other = runs["one"].labelfix.disagreements({name: runs[name] for name in ("two", "three")})
        pd.testing.assert_frame_equal(found, other.rename(columns=lambda name: name.replace("self", "one")))

    def test_a_run_agrees_with_itself_read_twice(self, runs, tmp_path):
        again = labelfix.read_corrections(tmp_path / "one")
        assert runs["one"].labelfix.disagreements(again).empty

    def test_rows_that_one_run_trusts_do_not_count(self, runs):
        runs["two"].loc[4, "is_trusted"] = True
        assert runs["one"].labelfix.disagreements(runs["two"]).empty

    def test_rows_without_a_score_come_last(self, runs):
        for run in runs.values():
            run.loc[2, "noise_score"] = np.nan
        found = runs["one"].labelfix.disagreements({"two": runs["two"], "three": runs["three"]})
        assert found.index[-1] == 2
        assert found["mean_rank"].isna().tolist() == [False, False, True]

    def test_refused(self, runs, tmp_path):
        one, two = runs["one"], runs["two"]
        refuses("'other' has 9 rows, not 10", "whole frames", frame=one, other=two[1:])
        refuses("file_name of row 0 is '9.png' in 'b', not '0.png'", frame=one, other={"b": two[::-1]})
        labels = [row if row[0] != "3.png" else ("3.png", "c", *row[2:]) for row in CASE]
        strange = labelfix.read_corrections(make_run(tmp_path / "strange", labels))
        refuses("given_label of row 3 is 'c'", "not 'b'", frame=one, other=strange)
        refuses("'other' has no column 'noise_score'", frame=one, other=two.drop(columns="noise_score"))
        refuses("'self' has no column 'sample_id'", frame=pd.DataFrame({"a": [1]}), other=two)
        refuses("goes by the name 'self'", frame=one, other={"self": two})
        refuses("'two' is no frame", frame=one, other={"two": "runs/two"})
        refuses("takes a frame", frame=one, other="runs/two")
        refuses("another run", frame=one, other={})
        refuses("another run", frame=one, other={"one": one})
