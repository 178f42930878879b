"""evaluate(): every number by hand on a small case, and every way in which rows are joined or refused."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from evaluation_runs import CASE, make_run
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from labelfix.estimation.metrics import calibration_metrics
from labelfix.evaluation import evaluate

COUNTED = [0, 1, 2, 3, 4, 5, 9]


def write_truth(path, rows, header="file_name,label"):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def truth(tmp_path):
    return write_truth(tmp_path / "truth.csv", [(row[0], row[2]) for row in CASE])


def evaluated(folder, case, **made):
    """The evaluation of a case against its own truth."""
    truth = write_truth(folder / "truth.csv", [(row[0], row[2]) for row in case])
    return evaluate(make_run(folder / "run", case, **made), truth=truth)


refuses = partial(refusals.refuses, evaluate)


class TestNumbers:
    def test_by_hand(self, run, truth):
        result = evaluate(run, truth=truth)
        assert result["rows"] == 10
        assert result["rows_evaluated"] == 7
        assert result["noise_rate_true"] == 3 / 7
        assert result["noise_rate_estimated"] == 0.25
        assert (result["flagged"], result["flagged_share"]) == (4, 4 / 7)
        assert (result["precision"], result["recall"]) == (2 / 4, 2 / 3)
        assert result["f1"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
        assert result["label_accuracy_given"] == 4 / 7
        assert result["label_accuracy_corrected"] == 4 / 7
        assert (result["changed"], result["changed_right"], result["changed_wrong"]) == (3, 1, 2)
        # Wrong labels stand at places 1, 2 and 6 of 7 by score.
        assert result["average_precision"] == pytest.approx((1 / 1 + 2 / 2 + 3 / 6) / 3)
        # Of the 12 pairs of a wrong and a right label the right one scores higher in 3.
        assert result["auroc"] == pytest.approx(9 / 12)
        # Every score is alone in its bin: .1, .2, .3, .6, .7, .8, .9, of which 0, 1, 0, 0, 0, 1, 1 are wrong.
        error = (0.1 + 0.8 + 0.3 + 0.6 + 0.7 + 0.2 + 0.1) / 7
        assert result["expected_calibration_error"] == pytest.approx(error)
        assert result["reasons"] == {}
        assert (result["method"], result["fit_ok"]) == ("bmm", True)
        json.dumps(result, allow_nan=False)

    def test_against_scikit_learn(self, tmp_path):
        rng = np.random.default_rng(0)
        names = np.array(["a", "b", "c"])
        given, true, corrected = (names[rng.integers(0, 3, 300)] for _ in range(3))
        noise, flagged = rng.random(300).astype(np.float32), rng.random(300) < 0.4
        case = [(f"{i}.png", given[i], true[i], noise[i], flagged[i], corrected[i], True) for i in range(300)]
        result = evaluated(tmp_path, case)
        wrong = given != true
        precision, recall, f1, _ = precision_recall_fscore_support(wrong, flagged, average="binary")
        expected = {
            "average_precision": average_precision_score(wrong, noise),
            "auroc": roc_auc_score(wrong, noise),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "label_accuracy_corrected": (corrected == true).mean(),
        }
        assert {name: result[name] for name in expected} == pytest.approx(expected)

    def test_calibration_against_scikit_learn(self, tmp_path):
        """Its calibration curve has the same bins, but for scores on a border, and leaves out empty ones."""
        rng = np.random.default_rng(1)
        noise = rng.beta(0.4, 0.6, 400).astype(np.float32)
        noise[(noise > 0.4) & (noise < 0.5)] = 0.55
        wrong = rng.random(400) < noise**2
        true = [(i + wrong[i]) % 2 for i in range(400)]
        case = [(f"{i}.png", "ab"[i % 2], "ab"[true[i]], noise[i], False, "a", True) for i in range(400)]
        result = evaluated(tmp_path, case)
        share, mean = calibration_curve(wrong, noise, n_bins=10)
        bins = result["reliability"]
        assert [(part["lower"], part["upper"]) for part in bins] == [
            (i / 10, (i + 1) / 10) for i in range(10)
        ]
        empty = bins.pop(4)
        assert (empty["count"], empty["mean_score"], empty["share_wrong"]) == (0, None, None)
        counts = np.histogram(noise, 10, (0, 1))[0]
        assert [part["count"] for part in bins] == np.delete(counts, 4).tolist()
        assert [part["mean_score"] for part in bins] == pytest.approx(mean.tolist())
        assert [part["share_wrong"] for part in bins] == pytest.approx(share.tolist())
        error = np.average(np.abs(mean - share), weights=np.delete(counts, 4))
        assert result["expected_calibration_error"] == pytest.approx(error)
        assert error > 0.05

    def test_trusted_rows_do_not_count(self, run, truth):
        path = run / "corrections.parquet"
        table = pq.read_table(path)
        place = table.schema.get_field_index("is_trusted")
        trusted = pa.array([i == 1 for i in range(10)])
        pq.write_table(table.set_column(place, table.schema.field(place), trusted), path)
        result = evaluate(run, truth=truth)
        assert (result["rows_evaluated"], result["flagged"]) == (6, 3)

    def test_order_of_classes_does_not_matter(self, run, tmp_path):
        """The truth's own classes are in another order and one of them is new."""
        order = {"a": 1, "b": 2, "c": 0, "": -1}
        table = pa.table({"file_name": [row[0] for row in CASE], "label": [order[row[2]] for row in CASE]})
        features = {"label": {"names": ["c", "a", "b", "z"], "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "truth.parquet")
        by_index = evaluate(run, truth=tmp_path / "truth.parquet")
        by_name = evaluate(run, truth=write_truth(tmp_path / "t.csv", [(r[0], r[2]) for r in CASE]))
        for result in (by_index, by_name):
            del result["truth"]
        assert by_index == by_name

    def test_true_classes_that_the_run_does_not_know_are_refused(self, run, tmp_path):
        rows = [(row[0], "zebra" if row[0] == "0.png" else row[2]) for row in CASE]
        truth = write_truth(tmp_path / "truth.csv", rows)
        refuses(
            "1 of its rows are of 'zebra'",
            "'a', 'b', 'c'",
            "leave those rows out",
            corrections=run,
            truth=truth,
        )

    def test_unless_they_are_marked_as_planted(self, run, tmp_path):
        """Noise may leave no label of a class; its rows are wrong, and no correction is right."""
        rows = [(*row[:3], "") for row in CASE]
        rows[1] = ("1.png", "a", "zebra", "true")
        header = "file_name,label,true_label,is_corrupted"
        result = evaluate(run, truth=write_truth(tmp_path / "truth.csv", rows, header))
        assert (result["rows_evaluated"], result["noise_rate_true"]) == (7, 3 / 7)
        assert (result["precision"], result["recall"]) == (2 / 4, 2 / 3)
        assert (result["label_accuracy_given"], result["label_accuracy_corrected"]) == (4 / 7, 3 / 7)
        rows[2] = ("2.png", "b", "zebra", "")
        truth = write_truth(tmp_path / "truth.csv", rows, header)
        refuses("1 of its rows are of 'zebra'", corrections=run, truth=truth)

    @pytest.mark.parametrize("mark", ["true", "True", "1", True])
    def test_open_set_rows_are_wrong_labels_without_a_right_one(self, run, tmp_path, mark):
        kind = "parquet" if mark is True else "csv"
        marks = [mark if row[0] == "8.png" else type(mark)() for row in CASE]
        columns = {"true_label": [row[2] or None for row in CASE], "is_corrupted": marks}
        frame = pd.DataFrame({"file_name": [row[0] for row in CASE], **columns})
        getattr(frame, f"to_{kind}")(tmp_path / f"truth.{kind}", index=False)
        result = evaluate(run, truth=tmp_path / f"truth.{kind}")
        assert result["rows_evaluated"] == 8
        assert result["noise_rate_true"] == 4 / 8
        assert result["recall"] == 2 / 4
        assert result["label_accuracy_given"] == 4 / 7


class TestUndefined:
    def test_no_wrong_label_and_nothing_flagged(self, tmp_path):
        case = [(f"{i}.png", "ab"[i % 2], "ab"[i % 2], i / 10, False, "ab"[i % 2], True) for i in range(6)]
        result = evaluated(tmp_path, case)
        undefined = ("average_precision", "auroc", "precision", "recall", "f1")
        assert {name: result[name] for name in undefined} == dict.fromkeys(undefined)
        assert set(result["reasons"]) == set(undefined)
        assert result["reasons"]["auroc"] == "no given label is wrong"
        assert (result["label_accuracy_given"], result["noise_rate_true"]) == (1.0, 0.0)

    def test_scores_that_are_not_there(self, tmp_path):
        case = [(*row[:3], np.nan if row[0] == "0.png" else row[3], *row[4:]) for row in CASE]
        result = evaluated(tmp_path, case, noise_rate=None)
        assert result["average_precision"] is None
        assert result["auroc"] is None
        assert result["noise_rate_estimated"] is None
        assert result["reasons"]["auroc"] == "1 of 7 rows have no noise score"
        for name in ("expected_calibration_error", "reliability"):
            assert result[name] is None
            assert result["reasons"][name] == "1 of 7 rows have no noise score"
        assert result["precision"] == 0.5

    def test_every_label_wrong(self, tmp_path):
        case = [(f"{i}.png", "ab"[i % 2], "ba"[i % 2], i / 10, True, "ab"[i % 2], True) for i in range(6)]
        result = evaluated(tmp_path, case)
        assert result["reasons"]["auroc"] == "every given label is wrong"
        assert (result["precision"], result["recall"], result["f1"]) == (1.0, 1.0, 1.0)

    def test_only_open_set_rows(self, tmp_path):
        case = [(f"{i}.png", "ab"[i % 2], "a", i / 10, i > 2, "ab"[i % 2], True) for i in range(6)]
        rows = [(f"{i}.png", "" if i < 6 else "a", "1") for i in range(7)]
        truth = write_truth(tmp_path / "truth.csv", rows, "file_name,true_label,is_corrupted")
        result = evaluate(make_run(tmp_path / "run", case), truth=truth)
        assert result["label_accuracy_given"] is None
        assert "no row has a true label" in result["reasons"]["label_accuracy_corrected"]
        assert result["recall"] == 0.5


class TestTruthColumn:
    @pytest.mark.parametrize(("header", "asked"), [("label,true_label", None), ("true_label,sure", "sure")])
    def test_true_label_comes_first_unless_another_is_named(self, run, tmp_path, header, asked):
        truth = write_truth(tmp_path / "truth.csv", [row[:3] for row in CASE], f"file_name,{header}")
        result = evaluate(run, truth=truth, truth_column=asked)
        assert (result["truth_column"], result["noise_rate_true"]) == (asked or "true_label", 3 / 7)

    def test_no_label_column(self, run, tmp_path):
        truth = write_truth(tmp_path / "truth.csv", [("0.png", "a")], "file_name,given")
        refuses("'label'", "--truth-column", corrections=run, truth=truth)

    def test_the_scanned_source_is_no_truth(self, run):
        scanned = run / "source.csv"
        refuses("is what was scanned", "--truth-column", corrections=run, truth=scanned)
        refuses("is what was scanned", corrections=run, truth=run / ".." / "run" / "source.csv")
        assert evaluate(run, truth=scanned, truth_column="label")["noise_rate_true"] == 0

    def test_the_scanned_source_with_true_labels(self, tmp_path):
        scanned = write_truth(tmp_path / "both.csv", [row[:3] for row in CASE], "file_name,label,true_label")
        run = make_run(tmp_path / "run", source=scanned)
        for truth in (scanned, run):
            assert evaluate(run, truth=truth)["noise_rate_true"] == 3 / 7

    @pytest.mark.parametrize("name", ["", "corrections.parquet"])
    def test_a_run_of_the_scanned_source_is_no_truth(self, run, tmp_path, name):
        refuses("is a run", "given ones", "export the run", corrections=run, truth=run / name)
        again = make_run(tmp_path / "again", source=run / "source.csv")
        refuses("again", "is a run", corrections=run, truth=again / name)
        # A scan of a run notes the run as its source.
        twice = make_run(tmp_path / "twice", source=run)
        refuses("is what was scanned", corrections=twice, truth=run / "source.csv")
        refuses("is a run", corrections=twice, truth=run / name)

    def test_a_run_of_another_source_answers_with_its_given_labels(self, run, truth, tmp_path):
        other = make_run(tmp_path / "other", source=truth)
        assert evaluate(run, truth=other)["noise_rate_true"] == 3 / 7

    def test_class_folders(self, tmp_path):
        case = [(f"{row[2]}/{row[0]}", *row[1:]) for row in CASE if row[2]]
        for row in case:
            (tmp_path / "images" / row[0]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / row[0]).write_bytes(b"x")
        run = make_run(tmp_path / "run", case)
        result = evaluate(run, truth=tmp_path / "images")
        assert (result["truth_column"], result["noise_rate_true"]) == (None, 3 / 7)
        refuses("--truth-column x", "folder", corrections=run, truth=tmp_path / "images", truth_column="x")
        scanned = make_run(tmp_path / "other", case, source=tmp_path / "images")
        refuses("is what was scanned", corrections=scanned, truth=tmp_path / "images")
        refuses("is a run", corrections=scanned, truth=scanned)
        refuses("--truth-column x", "folder", corrections=run, truth=scanned, truth_column="x")

    def test_corrections_that_left_their_run(self, run, truth, tmp_path):
        (run / "corrections.parquet").rename(tmp_path / "moved.parquet")
        assert evaluate(tmp_path / "moved.parquet", truth=truth)["rows_evaluated"] == 7

    def test_no_row_to_evaluate(self, run, tmp_path):
        truth = write_truth(tmp_path / "truth.csv", [("6.png", "a"), ("7.png", "b")])
        refuses("none of the valid, labelled, untrusted rows", corrections=run, truth=truth)


class TestCalibration:
    def test_scores_that_are_probabilities_have_no_error(self):
        noise = np.repeat([0.25, 0.75], 4)
        wrong = np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=bool)
        assert calibration_metrics(noise, wrong)["expected_calibration_error"] == 0
        assert calibration_metrics(noise, ~wrong)["expected_calibration_error"] == 0.5

    def test_a_score_on_a_border_belongs_to_the_upper_bin_and_one_to_the_last(self):
        for dtype in (np.float32, np.float64):
            noise = (np.arange(11) / 10).astype(dtype)
            bins = calibration_metrics(noise, np.zeros(11, dtype=bool))["reliability"]
            assert [part["count"] for part in bins] == [1] * 9 + [2]
        assert [part["mean_score"] for part in bins] == pytest.approx([*np.arange(9) / 10, 0.95])


class TestJoin:
    def test_by_name_in_any_order_and_number(self, run, tmp_path):
        rows = [(row[0], row[2]) for row in CASE[::-1] if row[0] != "0.png"] + [("new.png", "a")]
        result = evaluate(run, truth=write_truth(tmp_path / "truth.csv", rows))
        assert (result["joined_by"], result["rows_evaluated"]) == ("file_name", 6)
        assert result["noise_rate_true"] == 3 / 6

    def test_missing_images_have_no_name_to_repeat(self, tmp_path):
        names = ["", "1.png", "2.png", "3.png", "4.png", "5.png", "", "7.png", "8.png", "9.png"]
        rows = [(name, row[2]) for name, row in zip(names, CASE, strict=True)]
        run = make_run(tmp_path / "run", names=names)
        result = evaluate(run, truth=write_truth(tmp_path / "truth.csv", rows))
        assert (result["joined_by"], result["rows_evaluated"]) == ("file_name", 6)

    def test_by_row_where_names_repeat(self, tmp_path):
        case = [(f"{i // 2}.png", "ab"[i // 2 % 2], "a", i / 10, False, "a", True) for i in range(8)]
        run = make_run(tmp_path / "run", case)
        truth = write_truth(tmp_path / "truth.csv", [(f"{i}.png", "ab"[i % 2]) for i in range(8)])
        result = evaluate(run, truth=truth)
        assert (result["joined_by"], result["rows_evaluated"]) == ("row", 8)
        assert result["noise_rate_true"] == 0.5
        short = write_truth(tmp_path / "short.csv", [(f"{i}.png", "ab"[i % 2]) for i in range(7)])
        refuses("cannot be joined", "7 rows, not 8", corrections=run, truth=short)

    def test_absolute_paths_get_the_names_of_the_run(self, run, tmp_path):
        rows = [(str(run / row[0]), row[2]) for row in CASE]
        result = evaluate(run, truth=write_truth(tmp_path / "truth.csv", rows))
        assert (result["joined_by"], result["rows_evaluated"]) == ("file_name", 7)


class TestCommand:
    def run(self, *arguments):
        from labelfix.cli.evaluate import command

        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    def test_json_is_one_object(self, run, truth):
        done = self.run(run, "--truth", truth, "--json")
        assert json.loads(done.stdout) == evaluate(run, truth=truth)

    def test_for_people(self, run, truth):
        done = self.run(run, "--truth", truth)
        assert "7 of 10 rows evaluated, joined by file name" in done.stdout
        assert "average precision" in done.stdout
        assert "0.8333" in done.stdout
        lines = [line.split() for line in done.stdout.splitlines()]
        assert ["0.8", "to", "0.9", "1", "0.8000", "1.0000"] in lines
        assert ["0.5", "to", "0.6", "0", "-", "-"] in lines

    def test_why_a_number_is_missing(self, run):
        done = self.run(run, "--truth", run / "source.csv", "--truth-column", "label")
        assert "no given label is wrong" in done.stdout

    @pytest.mark.usefixtures("truth")
    def test_bare_name(self, run, tmp_path, monkeypatch):
        (tmp_path / "runs").mkdir()
        run.rename(tmp_path / "runs" / "one")
        monkeypatch.chdir(tmp_path)
        done = self.run("corrections.parquet", "--truth", "truth.csv", "--json")
        assert json.loads(done.stdout)["rows_evaluated"] == 7
        assert "runs/one/corrections.parquet" in done.stderr
