"""`--method auto`: heads of several methods, and the findings of those that are believed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import labelfix
from labelfix.errors import InputError
from labelfix.reviews import charts
from labelfix.training import comparison

ROWS = 400


@pytest.fixture
def source(tmp_path):
    """A table of digits, a tenth called 0, and their pixels as features."""
    pixels, labels = (part[:ROWS] for part in load_digits(return_X_y=True))
    given = labels * (np.arange(ROWS) % 10 > 0)
    path = tmp_path / "list.csv"
    pd.DataFrame({"label": given, "true_label": labels}).to_csv(path, index=False)
    np.save(tmp_path / "features.npy", pixels)
    return path


def scan(source, out, **options):
    features = source.parent / "features.npy"
    return labelfix.scan(
        source, features=features, no_images=True, epochs=6, out=source.parent / out, **options
    )


def test_methods_are_compared_and_the_choice_is_written_down(source):
    run = scan(source, "auto")
    found, config = run.summary["method_choice"], json.loads((run.out / "config.json").read_text())["config"]
    assert run.summary["method"] == config["method"] == "auto"
    assert list(found["log_likelihood"]) == list(config["candidates"]) == ["bmm", "cross-entropy", "nnaqc"]
    assert found["pooled"] >= max(found["log_likelihood"].values())
    assert found["log_likelihood"][found["taken"][0]] == max(found["log_likelihood"].values())
    df = labelfix.read_corrections(run.out)
    wrong = df.true_label.astype(str) != df.given_label.astype(str)
    assert df.noise_score[wrong].median() > df.noise_score[~wrong].quantile(0.95)
    epochs = pq.read_table(run.out / "epochs.parquet").to_pandas()
    per_fold = epochs[epochs.fold.notna()].groupby("method").fold.nunique()
    assert per_fold.to_dict() == {"bmm": 5, "cross-entropy": 5, "nnaqc": 5}
    assert set(epochs[epochs.fold.isna()].method) == {found["taken"][0]}


def test_where_one_method_is_taken_alone_the_findings_are_its_own(source, monkeypatch):
    def take_nnaqc(predictions, given, thresholds):
        assert list(predictions) == ["bmm", "cross-entropy", "nnaqc"]
        return comparison.Choice(dict.fromkeys(predictions, -1.0), ("nnaqc",), -1.0)

    monkeypatch.setattr(comparison, "most_likely", take_nnaqc)
    ours, theirs = scan(source, "auto"), scan(source, "nnaqc", method="nnaqc")
    pd.testing.assert_frame_equal(
        labelfix.read_corrections(ours.out), labelfix.read_corrections(theirs.out), check_flags=False
    )


def test_a_method_that_diverges_is_not_taken(source, monkeypatch):
    fit = comparison.compare

    def spoiled(configs, given, of_one):
        def with_bad_bmm(config):
            found = of_one(config)
            if config.method == "bmm":
                found.logits[:] = np.nan
            return found

        return fit(configs, given, with_bad_bmm)

    monkeypatch.setattr("labelfix.pipeline.compare", spoiled)
    summary = scan(source, "auto").summary
    assert summary["fit_ok"]
    assert list(summary["method_choice"]["log_likelihood"]) == ["cross-entropy", "nnaqc"]


class Stops:
    """A reporter that ends the scan when it comes to a stage."""

    def __init__(self, stage):
        self.stage, self.seen = stage, []

    def progress(self, stage, done, total):
        self.seen.append(stage)
        if stage == self.stage and done:
            raise RuntimeError("stopped")

    def message(self, text):
        pass


def test_a_comparison_that_was_stopped_goes_on_with_the_same_bytes(source):
    whole = scan(source, "whole")
    for stage in ("bmm fold 2 of 5", "nnaqc fold 1 of 5", "train"):
        with pytest.raises(RuntimeError, match="stopped"):
            scan(source, "stopped", reporter=Stops(stage))
    again = Stops("")
    run = scan(source, "stopped", reporter=again)
    assert set(again.seen) == {"train"}
    assert run.corrections.read_bytes() == whole.corrections.read_bytes()


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({"settings": {"alpha": 0.5}, "method": "nnaqc"}, "nnaqc"),
        ({"settings": {"mixup_alpha": 0.3}}, "bmm"),
    ],
)
def test_a_setting_says_which_method_is_meant(source, options, method):
    plan = labelfix.plan(
        source, features=source.parent / "features.npy", no_images=True, out=source.parent / "run", **options
    )
    assert plan["method"] == method
    assert "candidates" not in plan


def test_a_plan_counts_all_methods_and_names_their_settings(source):
    features = source.parent / "features.npy"
    plans = {
        method: labelfix.plan(
            source, features=features, no_images=True, out=source.parent / "run", method=method
        )
        for method in ("auto", "bmm", "cross-entropy", "nnaqc")
    }
    passes = {method: plan["forward_units_per_row"] for method, plan in plans.items()}
    assert passes["auto"] == pytest.approx(passes["bmm"] + passes["cross-entropy"] + passes["nnaqc"])
    assert set(plans["auto"]["candidates"]) == {"bmm", "cross-entropy", "nnaqc"}


def test_an_unknown_method_is_one_line_that_names_auto_too(source):
    with pytest.raises(InputError, match=r"--method best: unknown; choose one of auto, bmm"):
        scan(source, "run", method="best")


def test_the_curves_of_the_review_are_those_of_the_method_that_trained_the_classifier(source):
    run = scan(source, "auto")
    epochs = pq.read_table(run.out / "epochs.parquet")
    drawn = []
    chart = charts.training_chart(epochs, "training", "Training", ["learning_rate"], "")
    figure = Figure()
    chart.draw(figure)
    for line in figure.axes[0].lines:
        drawn.append(list(line.get_xdata()))
    assert [1, 2, 3, 4, 5, 6] in drawn
    assert all(len(set(epochs)) == len(epochs) for epochs in drawn)  # no line goes back
    assert sum(len(line) == 6 for line in drawn) == 6  # five folds, and all rows
