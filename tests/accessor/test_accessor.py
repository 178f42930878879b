"""df.labelfix: every answer counted by hand or another way, on the findings of a small run with real images."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from accessor_runs import ROWS, SUMMARY, make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from sklearn.metrics import confusion_matrix

import labelfix
from labelfix.accessor.budget import budget, interval

MODULES = ("", ".budget", ".classes", ".disagreements", ".image_grid", ".rows")
NAMES = ["a", "b", "c", "d"]
COUNTED = [0, 1, 2, 3, 4, 5, 10]
CALIBRATION = {"is_calibrated": True, "reason": "calibrated on 57 verified rows, 21 of them wrongly labelled"}
CALIBRATED = {"fit_reason": "", "diagnostics": {"calibration": CALIBRATION}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder that is asked; no test changes it."""
    return make_run(tmp_path_factory.mktemp("letters"))


@pytest.fixture
def df(run):
    return labelfix.read_corrections(run)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_docstrings(module, run, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    os.symlink(run, tmp_path / "runs" / "letters")
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(
        importlib.import_module(f"labelfix.accessor{module}"),
        optionflags=doctest.NORMALIZE_WHITESPACE,
        extraglobs={"df": labelfix.read_corrections("runs/letters")},
    )
    assert found.failed == 0
    assert (found.attempted > 0) == (module == "")


def test_every_public_answer_has_an_example():
    answers = vars(labelfix.accessor.FindingsAccessor)
    assert set(answers) >= {"top", "confusion", "noise_matrix", "class_summary", "budget", "show"}
    for name, answer in answers.items():
        if not name.startswith("_"):
            examples = doctest.DocTestParser().get_examples(answer.__doc__)
            assert any(f".labelfix.{name}(" in example.source for example in examples)


def test_asking_a_frame_imports_no_torch(run):
    code = (
        f"import labelfix, sys; df = labelfix.read_corrections({str(run)!r}).labelfix;"
        "df.top(); df.budget(3); df.noise_matrix(); df.class_summary(); df.show(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class TestTop:
    def test_most_suspect_first_and_ties_in_order(self, df):
        found = df.labelfix.top()
        assert found.index.tolist() == [1, 2, 3, 5, 10, 4, 0]
        assert found.columns.tolist() == df.columns.tolist()
        assert found.attrs == df.attrs
        assert df.labelfix.top(2).index.tolist() == [1, 2]
        assert df[::-1].labelfix.top(4).index.tolist() == [1, 2, 5, 3]

    def test_of_each_class_in_class_order(self, df):
        assert df.labelfix.top(1, by="given_label").index.tolist() == [1, 2, 5]
        assert df.labelfix.top(2, by="given_label").index.tolist() == [1, 0, 2, 3, 5, 4]
        assert df.labelfix.top(1, by="corrected_label").index.tolist() == [2, 1, 5]
        # Class order is the run's, whatever the frame has of it.
        df["given_label"] = df["given_label"].cat.set_categories(["c", "b", "a"])
        assert df.labelfix.top(1, by="given_label").index.tolist() == [1, 2, 5]

    def test_rows_without_a_score_are_left_out(self, df):
        df.loc[1, "noise_score"] = np.nan
        assert df.labelfix.top().index.tolist() == [2, 3, 5, 10, 4, 0]

    def test_refused(self, df):
        for n in (0, -1, 2.5, True, "3"):
            refuses(df.labelfix.top, "top: n is", "at least 1", n=n)
        refuses(df.labelfix.top, "by is 'file_name'", "given_label", by="file_name")
        bare = pd.DataFrame({"is_valid": [True]})
        refuses(bare.labelfix.top, "top: the frame has no column 'is_trusted'", "read_corrections")
        strange = df.assign(given_label=df["given_label"].cat.rename_categories({"a": "ape"}))
        refuses(strange.labelfix.top, "given_label 'ape' is no class", by="given_label")
        lost = pd.DataFrame({name: df[name] for name in df})
        refuses(lost.labelfix.top, "attrs", by="given_label")
        assert len(lost.labelfix.top()) == 7


class TestClasses:
    def test_confusion_against_scikit_learn(self, df):
        found = df.labelfix.confusion()
        counted = df.loc[COUNTED]
        expected = confusion_matrix(counted["given_label"], counted["corrected_label"], labels=NAMES)
        assert found.to_numpy().tolist() == expected.tolist()
        assert found.index.tolist() == found.columns.tolist() == NAMES
        assert (found.index.name, found.columns.name) == ("given_label", "corrected_label")
        shares = df.labelfix.confusion(normalize=True)
        assert shares.loc["b"].tolist() == pytest.approx([1 / 3, 2 / 3, 0, 0])
        assert shares.loc["d"].isna().all()

    def test_noise_matrix_by_the_formula(self, df):
        found = df.labelfix.noise_matrix()
        expected = np.zeros((4, 4))
        for true in range(3):
            mass = sum(ROWS[row][6][true] for row in COUNTED)
            for row in COUNTED:
                expected[true, NAMES.index(ROWS[row][0])] += ROWS[row][6][true] / mass
        expected[3, 3] = 1
        np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-6)
        assert (found.index.name, found.columns.name) == ("true_label", "given_label")
        assert found.index.tolist() == found.columns.tolist() == NAMES

    def test_a_frame_without_eligible_rows(self, df):
        nothing = df[~df["is_valid"]]
        np.testing.assert_array_equal(nothing.labelfix.noise_matrix(), np.eye(4))
        assert nothing.labelfix.confusion().to_numpy().sum() == 0
        assert nothing.labelfix.class_summary()["rows"].tolist() == [0, 0, 0, 0]
        assert nothing.labelfix.top().empty

    def test_class_summary_by_hand(self, df):
        found = df.labelfix.class_summary()
        assert found.index.tolist() == NAMES
        assert found["rows"].tolist() == [2, 3, 2, 0]
        assert found["flagged"].tolist() == [1, 2, 0, 0]
        assert found["corrected"].tolist() == [1, 1, 0, 0]
        assert found["rows_after"].tolist() == [2, 3, 2, 0]
        assert found["noise_rate"].tolist() == pytest.approx([1 / 2, 0.6, 0.45, np.nan], nan_ok=True)
        confidence = [0.9, (0.8 + 0.3 + 0.7) / 3, 0.7, np.nan]
        assert found["mean_confidence"].tolist() == pytest.approx(confidence, nan_ok=True)
        assert "".join(kind.kind for kind in found.dtypes) == "ifiiif"

    def test_refused(self, df):
        lost = pd.DataFrame({name: df[name] for name in df})
        for name in ("confusion", "noise_matrix", "class_summary"):
            refuses(getattr(lost.labelfix, name), f"{name}: ", "attrs")
            bare = df.drop(columns="is_trusted")
            refuses(getattr(bare.labelfix, name), f"{name}: ", "'is_trusted'")
        df["label_distribution"] = [np.ones(3)] * len(df)
        refuses(df.labelfix.noise_matrix, "label_distribution of row 0")


class TestBudget:
    def test_calibrated_scores_leave_chance_alone_open(self, tmp_path):
        df = labelfix.read_corrections(make_run(tmp_path, summary=CALIBRATED))
        found = df.labelfix.budget(2)
        spread = 1.959964 * (0.9 * 0.1 + 0.8 * 0.2) ** 0.5
        assert (found.rows, found.expected_errors) == (2, 1.7)
        assert (found.low, found.high) == (int(1.7 - spread), 2)
        assert found.share_of_errors == pytest.approx(1.7 / 3.7, abs=1e-4)
        df["noise_score"] = np.where(df.index < 3, 1, 0).astype(np.float32)
        found = df.labelfix.budget(5)
        assert (found.low, found.expected_errors, found.high, found.share_of_errors) == (3, 3, 3, 1)

    def test_uncalibrated_scores_leave_everything_open(self, df):
        rows = df.iloc[[0]].loc[[0] * 3000].reset_index(drop=True).assign(noise_score=0.5)
        rows.attrs = df.attrs
        found = rows.labelfix.budget(3000)
        assert (found.low, found.expected_errors, found.high) == (0, 1500, 3000)
        assert "the method's own estimates" in found.rests_on
        assert "low to high leaves everything open" in found.rests_on

    def test_a_run_that_doubts_itself_leaves_everything_open(self, tmp_path):
        doubts = {**SUMMARY, "fit_reason": "the labels look clean: none is changed"}
        rows = [(*row[:2], 0.99 if row[2] > 0.5 else row[2], *row[3:]) for row in ROWS]
        for folder, options in {
            "doubts": {"summary": doubts},
            "fails": {"fit_ok": False, "summary": {"fit_reason": "training diverged"}},
            "lost": {"summary": None},
        }.items():
            df = labelfix.read_corrections(make_run(tmp_path / folder, rows, **options))
            for n in (1, 4, 7):
                found = df.labelfix.budget(n)
                assert (found.low, found.high) == (0, n)
                assert "leaves everything open" in found.rests_on
            is_doubted = "the run doubts them itself: the labels look clean" in found.rests_on
            assert is_doubted == (folder == "doubts")
        clean = {**CALIBRATED, "fit_reason": "labels look clean"}
        calibrated = make_run(tmp_path / "both", rows, summary=clean)
        assert labelfix.read_corrections(calibrated).labelfix.budget(4).low == 3

    def test_more_rows_than_there_are(self, df):
        found = df.labelfix.budget(1000)
        assert (found.rows, found.expected_errors, found.share_of_errors) == (7, 3.7, 1.0)

    def test_scores_of_zero_promise_nothing(self, df):
        df["noise_score"] = np.float32(0)
        found = df.labelfix.budget(5)
        assert (found.low, found.expected_errors, found.high, found.share_of_errors) == (0, 0, 5, None)

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60))
    def test_the_interval_holds_95_percent(self, noise):
        """Against the exact distribution of the number of errors, one row after the other."""
        marks = {"is_valid": True, "is_trusted": False, "given_label": "a", "corrected_label": "a"}
        frame = pd.DataFrame({"noise_score": noise, **marks})
        found = budget(frame, len(noise))
        low, high = interval(np.array(noise))
        exact = np.ones(1)
        for probability in noise:
            exact = np.convolve(exact, [1 - probability, probability])
        assert exact[low : high + 1].sum() >= 0.949
        assert found.expected_errors == pytest.approx(exact @ np.arange(len(exact)), abs=0.006)

    def test_it_says_what_it_rests_on(self, df, tmp_path):
        def rests_on(name, **made):
            return labelfix.read_corrections(make_run(tmp_path / name, **made)).labelfix.budget(2).rests_on

        text = df.labelfix.budget(2).rests_on
        assert "the method's own estimates" in text
        assert "not calibrated: no --trusted file" in text
        assert "failed" not in text
        trusted = {"rows": 57, "flagged": 20, "precision": 0.9}
        text = rests_on("b", summary={"diagnostics": {"calibration": CALIBRATION, "trusted": trusted}})
        assert "they are calibrated on 57 verified rows" in text
        assert "own estimates" not in text
        assert "20 were flagged, 90% of them rightly" in text
        failed = {"fit_ok": False, "summary": {"fit_reason": "training diverged"}}
        assert "failed (training diverged)" in rests_on("c", **failed)
        assert "summary.json is not beside" in rests_on("d", summary=None)
        lost = pd.DataFrame({name: df[name] for name in df})
        assert "summary.json is not beside" in lost.labelfix.budget(2).rests_on

    def test_refused(self, df):
        refuses(df.labelfix.budget, "budget: n is 0", n=0)
        refuses(df.assign(noise_score=np.nan).labelfix.budget, "noise score", n=3)
        refuses(df.drop(columns="noise_score").labelfix.budget, "'noise_score'", n=3)
        without = df.drop(columns="corrected_label").labelfix
        for question in (partial(without.budget, 2), without.top, without.noise_matrix):
            refuses(question, "'corrected_label'", "read_corrections")


def test_what_a_scan_says_is_what_the_frame_says(tmp_path, digits):
    """noise_matrix() and the rates of class_summary() on the findings of a real run, against its summary.json."""
    run = labelfix.scan(digits[0], method="cross-entropy", epochs=2, out=tmp_path / "run", seed=0)
    df = labelfix.read_corrections(run.out)
    np.testing.assert_allclose(df.labelfix.noise_matrix(), run.summary["transition_matrix"], atol=2e-6)
    found = df.labelfix.class_summary()
    assert found["noise_rate"].to_dict() == pytest.approx(run.summary["noise_rate_by_class"], abs=1e-6)
    counts = run.summary["counts"]
    assert found[["rows", "flagged", "corrected"]].sum().to_dict() == {
        "rows": counts["judged"], "flagged": counts["flagged"], "corrected": counts["corrected"]
    }  # fmt: skip
    assert run.summary["diagnostics"]["calibration"]["reason"] in df.labelfix.budget(10).rests_on
    assert df.labelfix.top(9).labelfix.show().count == 9
    for_arrow = pa.Table.from_pandas(df.labelfix.top(3)).to_pandas()
    assert for_arrow.attrs["labelfix_path"] == str(run.corrections)
