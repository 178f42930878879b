"""bench(): real scans of a few digits, every number against labelfix.evaluate and against the truth by hand."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from conftest import write_digits
from evaluation_runs import CASE, make_run
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

import labelfix
from labelfix.benchmark.agreement import SCHEMA as AGREEMENT_SCHEMA
from labelfix.benchmark.agreement import make_agreement
from labelfix.benchmark.grid import make_grid, parse_method, safe_name
from labelfix.benchmark.plain import mark_of, write_plain
from labelfix.benchmark.plot import write_plot
from labelfix.benchmark.rows import SCHEMA, true_labels
from labelfix.cli import cli
from labelfix.data.manifest import Manifest
from labelfix.errors import Interrupted
from labelfix.reporting import Silent

ROWS, HELD_OUT = 240, 40
METHODS = ("cross-entropy:epochs=4", "confident-learning:epochs=4:folds=2")
NOISES = ("given", "symmetric:0.4")
TIMES = {"seconds", "seconds_total", "peak_memory_mb"}


def write_source(folder: Path) -> Path:
    """A manifest of 240 digits with a wrong and a true label, 40 of them held out; the names climb out of it."""
    true = write_digits(folder / "images", ROWS)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    given = (true + (np.arange(ROWS) % 5 == 0)) % 10
    split = np.where(np.arange(ROWS) % 6 == 1, "test", "train")
    (folder / "lists").mkdir()
    source = folder / "lists" / "both.csv"
    table = {
        "file_name": [f"../{name}" for name in names],
        "label": given,
        "true_label": true,
        "split": split,
    }
    pd.DataFrame(table).to_csv(source, index=False)
    return source


def options(source: Path) -> dict:
    grid = {
        "methods": METHODS,
        "noise": NOISES,
        "truth_column": "true_label",
        "batch_size": 64,
        "device": "cpu",
    }
    return {**grid, "trusted": source.parent / "trusted.csv"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished bench: its source, its folder and what it returned."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        source = write_source(folder)
        truth = pd.read_csv(source)["true_label"]
        trusted = pd.DataFrame({"sample_id": range(0, 50, 5), "label": truth[0:50:5]})
        trusted.to_csv(source.parent / "trusted.csv", index=False)
        result = labelfix.bench(source, out=folder / "out", **options(source))
    return source, folder / "out", result


@pytest.fixture
def again(made, tmp_path):
    """Calls the same bench on the finished folder, with changes."""
    source, out, _ = made

    def call(**changes):
        return labelfix.bench(source, **{**options(source), "out": out, **changes})

    return call


def trusted_of_each_class(source: Path, path: Path) -> np.ndarray:
    """Verify the first two rows of every class that are trained on: their rows."""
    table = pd.read_csv(source)
    trained = table[table["split"] == "train"]
    first = trained.groupby("true_label").head(2)
    pd.DataFrame({"sample_id": first.index, "label": first["true_label"]}).to_csv(path, index=False)
    return np.sort(first.index)


def run_of(out: Path, row: dict) -> Path:
    return out / "runs" / safe_name(f"{row['noise']}-seed0-{row['method']}")


def truth_of(out: Path, row: dict) -> Path:
    return out / ("truth.parquet" if row["noise"] == "given" else "noisy/symmetric-0.4-seed0.parquet")


def test_all_runs_see_through_one_network(made):
    """No trial decides for each noise anew."""
    _, out, result = made
    configs = [json.loads((run_of(out, row) / "config.json").read_text()) for row in result["rows"]]
    assert {config["asked"]["encoder"] for config in configs} == {"none"}


refuses = partial(refusals.refuses, labelfix.bench)


class TestTexts:
    def test_a_name_alone(self):
        found = parse_method("bmm")
        assert (found.text, found.name, found.options, found.settings) == ("bmm", "bmm", {}, {})

    def test_options_and_settings(self):
        found = parse_method("bmm:folds=5:epochs=8:batch_size=16:preset=paper:prior=uniform")
        assert found.options == {"folds": 5, "epochs": 8, "batch_size": 16, "preset": "paper"}
        assert found.settings == {"prior": "uniform"}

    def test_commas_of_a_setting_are_none_of_the_list(self):
        cells = make_grid("bmm:milestones=20,30, cross-entropy", "clean,pair:0.3", "0,1", {})
        texts = list(dict.fromkeys(cell.method.text for cell in cells))
        assert texts == ["bmm:milestones=20,30", "cross-entropy"]
        assert cells[0].method.settings == {"milestones": "20,30"}
        assert [(cell.noise, cell.seed) for cell in cells][::2] == [("clean", 0)] * 2 + [("pair:0.3", 0)] * 2
        assert len(cells) == 8

    def test_names_are_safe(self):
        assert safe_name("confusion:/A b/m.csv-seed0-bmm:x=1,2") == "confusion--a-b-m.csv-seed0-bmm-x=1-2"

    @pytest.mark.parametrize(
        ("methods", "noise", "seeds", "parts"),
        [
            ("magic", "clean", "0", ["--methods magic", "choose one of auto, bmm"]),
            ("bmm:epochs", "clean", "0", ["--methods bmm:epochs", "key=value"]),
            ("bmm:epochs=0", "clean", "0", ["epochs has to be a whole number from 1 up"]),
            ("bmm:folds=1", "clean", "0", ["folds has to be a whole number from 2 up"]),
            ("bmm:epochs=8:epochs=9", "clean", "0", ["epochs stands there twice"]),
            ("bmm:speed=3", "clean", "0", ["--methods bmm:speed=3", "no such setting"]),
            ("bmm:preset=slow", "clean", "0", ["--methods bmm:preset=slow", "presets"]),
            ("bmm:learning_rate=much", "clean", "0", ["--methods", "expected a number"]),
            ("bmm,bmm", "clean", "0", ["--methods: bmm stands there twice"]),
            ("bmm", "symmetric:2", "0", ["--noise symmetric:2", "0 to 1"]),
            ("bmm", "clean,clean", "0", ["--noise: clean stands there twice"]),
            ("bmm", "pair:a.csv,pair:A.csv", "0", ["both be written to pair-a.csv-seed0"]),
            ("bmm:prior=uniform,bmm:prior=uniform ", "clean", "0", ["twice"]),
            ("bmm", "clean", "x", ["--seeds x"]),
            ("bmm", "clean", "", ["--seeds", "at least one"]),
            ([], "clean", "0", ["--methods", "at least one"]),
        ],
    )
    def test_refused(self, methods, noise, seeds, parts):
        refusals.refuses(make_grid, *parts, methods=methods, noise=noise, seeds=seeds, shared={})


class TestTable:
    def test_columns_and_order(self, made):
        _, out, result = made
        table = pq.read_table(out / "bench.parquet")
        assert table.schema == SCHEMA
        assert table.to_pylist() == result["rows"]
        keys = [(row["noise"], row["method"], row["seed"]) for row in result["rows"]]
        assert keys == [(noise, method, 0) for noise in NOISES for method in METHODS]
        assert (out / "bench.png").read_bytes()[:4] == b"\x89PNG"
        assert result["table"] == str(out / "bench.parquet")
        json.dumps(result, allow_nan=False)

    def test_files(self, made):
        _, out, _ = made
        names = {safe_name(f"{noise}-seed0-{method}") for noise in NOISES for method in METHODS}
        assert {path.stem for path in (out / "rows").iterdir()} == names
        assert {path.name for path in (out / "runs").iterdir() if path.is_dir()} == names
        noisy = sorted(path.name for path in (out / "noisy").iterdir())
        assert noisy == ["symmetric-0.4-seed0.json", "symmetric-0.4-seed0.parquet"]

    def test_the_numbers_are_those_of_evaluate(self, made):
        _, out, result = made
        left_out = list(range(0, 50, 5))
        for row in result["rows"]:
            run = run_of(out, row)
            found = labelfix.evaluate(run, truth=truth_of(out, row), leave_out=left_out)
            shared = [name for name in SCHEMA.names if name in found and name != "method"]
            assert len(shared) == 18
            assert {name: row[name] for name in shared} == {name: found[name] for name in shared}
            assert (row["rows"], row["rows_evaluated"]) == (ROWS, ROWS - 10)
            summary = json.loads((run / "summary.json").read_text())
            assert row["forward_units_per_row"] == summary["forward_units_per_row"]
            assert row["seconds"] == summary["training_seconds"] < row["seconds_total"]
            assert row["peak_memory_mb"] > 100
            assert row["peak_gpu_memory_mb"] is None
            assert row["folds"] == (2 if "folds" in row["method"] else 0)
            given, corrected = row["label_accuracy_given"], row["label_accuracy_corrected"]
            assert row["errors_removed"] == pytest.approx((corrected - given) / (1 - given))

    def test_given_labels_against_the_truth_by_hand(self, made):
        source, out, result = made
        frame = pd.read_csv(source)
        counts = np.ones(ROWS, bool)
        counts[0:50:5] = False
        wrong = (frame["label"] != frame["true_label"])[counts]
        assert result["rows"][0]["noise_rate_true"] == pytest.approx(wrong.mean())
        findings = labelfix.read_corrections(run_of(out, result["rows"][0]))
        assert findings["given_label"].astype(int).tolist() == frame["label"].tolist()
        precision, recall, _, _ = precision_recall_fscore_support(
            wrong, findings["is_label_issue"][counts], average="binary", zero_division=np.nan
        )
        assert result["rows"][0]["recall"] == pytest.approx(recall)
        assert result["rows"][0]["precision"] == (None if np.isnan(precision) else pytest.approx(precision))

    def test_noise_is_planted_on_the_truth(self, made):
        source, out, _ = made
        noisy = pd.read_parquet(out / "noisy" / "symmetric-0.4-seed0.parquet")
        truth = pd.read_csv(source, dtype=str)
        assert noisy["true_label"].tolist() == truth["true_label"].tolist()
        assert noisy["split"].tolist() == truth["split"].tolist()
        moved = noisy["label"] != noisy["true_label"]
        assert not moved[noisy["split"] == "test"].any()
        assert moved[noisy["split"] != "test"].any()
        assert 0.2 < moved.mean() < 0.4
        assert noisy["is_corrupted"].tolist() == moved.tolist()

    def test_accuracy_on_held_out_rows_is_measured_on_their_true_labels(self, made):
        source, out, result = made
        frame = pd.read_csv(source, dtype=str)
        held_out = (frame["split"] == "test").to_numpy()
        for row in result["rows"]:
            found = labelfix.read_corrections(run_of(out, row))
            right = found["predicted_label"].astype(str)[held_out] == frame["true_label"][held_out]
            assert row["test_accuracy"] == pytest.approx(right.mean())

    def test_cleanlab_by_hand_on_out_of_sample_predictions_alone(self, made):
        from cleanlab.filter import find_label_issues

        source, out, result = made
        plain, folded = result["rows"][:2]
        assert {plain[name] for name in SCHEMA.names if name.startswith("cleanlab")} == {None}
        found = labelfix.read_corrections(run_of(out, folded))
        true = pd.read_csv(source)["true_label"].to_numpy()
        given, probs = found["given_label"].astype(int).to_numpy(), np.stack(found["predicted_probs"])
        flagged = find_label_issues(given, probs)
        suggested = np.where(flagged, probs.argmax(axis=1), given)
        counts = ~np.isin(np.arange(ROWS), range(0, 50, 5))
        precision, recall, f1, _ = precision_recall_fscore_support(
            (given != true)[counts], flagged[counts], average="binary"
        )
        assert flagged.any()
        assert folded["cleanlab_precision"] == pytest.approx(precision)
        assert folded["cleanlab_recall"] == pytest.approx(recall)
        assert folded["cleanlab_f1"] == pytest.approx(f1)
        assert folded["cleanlab_label_accuracy"] == pytest.approx((suggested == true)[counts].mean())

    def test_no_method_saw_the_trusted_labels(self, made):
        _, out, _ = made
        for run in (out / "runs").glob("*/corrections.parquet"):
            assert not pd.read_parquet(run)["is_trusted"].any()


class TestAgreement:
    def test_by_hand(self, made):
        """Flags counted row by row; the mean of the ranks as scipy has them, ranked as sklearn does."""
        source, out, result = made
        frame = pd.read_csv(source)
        counts = ~np.isin(np.arange(ROWS), range(0, 50, 5))
        wrong = (frame["label"] != frame["true_label"])[counts].to_numpy()
        runs = [labelfix.read_corrections(run_of(out, row))[counts] for row in result["rows"][:2]]
        flags = sum(run["is_label_issue"].astype(int) for run in runs).to_numpy()
        rank = np.mean([rankdata(run["noise_score"]) for run in runs], axis=0)
        given, planted = result["agreement"]
        best = max(result["rows"][:2], key=lambda row: row["average_precision"])
        assert [given["noise"], planted["noise"]] == list(NOISES)
        assert (given["seed"], given["methods"]) == (0, list(METHODS))
        assert given["rows_evaluated"] == counts.sum() == result["rows"][0]["rows_evaluated"]
        assert given["average_precision_mean_rank"] == pytest.approx(average_precision_score(wrong, rank))
        assert given["auroc_mean_rank"] == pytest.approx(roc_auc_score(wrong, rank))
        assert given["best_method"] == best["method"]
        assert given["best_average_precision"] == best["average_precision"]
        assert given["best_auroc"] == max(row["auroc"] for row in result["rows"][:2])
        assert given["flagged_by"] == [0, 1, 2]
        assert given["rows"] == [(flags == runs).sum() for runs in range(3)]
        assert given["share_wrong"] == [
            pytest.approx(wrong[flags == runs].mean()) if (flags == runs).any() else None for runs in range(3)
        ]

    def test_the_file(self, made):
        _, out, result = made
        table = pq.read_table(out / "agreement.parquet")
        assert table.schema == AGREEMENT_SCHEMA
        assert table.to_pylist() == result["agreement"]
        long = table.to_pandas().explode(["flagged_by", "rows", "share_wrong"])
        assert long.groupby("noise")["rows"].sum().to_dict() == dict.fromkeys(NOISES, ROWS - 10)

    def test_images_of_another_source_count_as_wrong_and_rows_without_a_truth_do_not(self, tmp_path):
        runs = [make_run(tmp_path / name) / "corrections.parquet" for name in ("one", "two")]
        truth = pa.table({"true_label": [row[2] or None for row in CASE]})
        pq.write_table(truth, tmp_path / "truth.parquet")
        row = {"noise": "n", "seed": 1, "method": "m", "average_precision": None, "auroc": None}
        found = make_agreement([row, row], runs, tmp_path / "truth.parquet", np.array([5]))
        counted = [0, 1, 2, 3, 4, 9]
        assert found["rows_evaluated"] == len(counted)
        assert found["best_method"] is found["best_auroc"] is None
        assert (found["rows"], found["share_wrong"]) == ([3, 0, 3], [1 / 3, None, 2 / 3])
        scores, wrong = [CASE[i][3] for i in counted], [CASE[i][1] != CASE[i][2] for i in counted]
        assert found["average_precision_mean_rank"] == pytest.approx(average_precision_score(wrong, scores))
        open_set = truth.append_column("is_corrupted", pa.array([row[2] == "" for row in CASE]))
        pq.write_table(open_set, tmp_path / "truth.parquet")
        labels = [0, 1, -2, 1, 0, -2, 0, 0, -3, 1]
        assert true_labels(tmp_path / "truth.parquet", ["a", "b"]).tolist() == labels
        found = make_agreement([row, row], runs, tmp_path / "truth.parquet", np.array([5]))
        assert (found["rows"], found["share_wrong"]) == ([4, 0, 3], [2 / 4, None, 2 / 3])


class TestPlainCopy:
    def test_it_reads_as_the_source_does(self, made, tmp_path):
        """Images as bytes, class names in an order of their own, rows without label or image, and a split."""
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pictures = [{"bytes": b"%d" % i, "path": f"{i % 5}.png"} if i != 3 else None for i in range(9)]
        features = {"label": {"names": ["zebra", "ape", "cow"], "_type": "ClassLabel"}}
        split = ["test"] * 2 + ["train"] * 7
        columns = {"image": pa.array(pictures, kind), "label": [0, 1, 2, -1, 0, 1, 2, 0, 1], "split": split}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), tmp_path / "hf.parquet")
        for path, column in ((tmp_path / "hf.parquet", None), (made[0], "true_label")):
            source = Manifest.read(path, label_column=column)
            rows = np.arange(source.num_rows)[1:]
            write_plain(tmp_path / "plain.parquet", source, rows, "a mark")
            plain = Manifest.read(tmp_path / "plain.parquet")
            assert plain.class_names == source.class_names
            assert plain.given.tolist() == source.given[1:].tolist()
            assert plain.held_out.tolist() == source.held_out[1:].tolist()
            assert plain.images(0, len(rows)) == source.images(1, source.num_rows)
            assert mark_of(tmp_path / "plain.parquet") == "a mark"


class TestAgain:
    def test_finished_rows_are_skipped(self, made, again):
        _, out, result = made
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.parent != out}
        assert again() == result
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_a_removed_row_is_made_again_from_its_run(self, made, again):
        _, out, result = made
        row = out / "rows" / f"{safe_name(f'given-seed0-{METHODS[1]}')}.json"
        run = out / "runs" / row.stem / "corrections.parquet"
        before, time = row.read_text(), run.stat().st_mtime_ns
        row.unlink()
        assert again() == result
        assert row.read_text() == before
        assert run.stat().st_mtime_ns == time

    def test_another_trusted_file_evaluates_finished_runs_anew(self, made, again, tmp_path):
        """Without a file all rows count, as evaluate says; no run is touched, and back again nothing has changed."""
        _, out, result = made
        before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
        everything = again(trusted=None)
        for row in everything["rows"]:
            found = labelfix.evaluate(run_of(out, row), truth=truth_of(out, row))
            assert row["rows_evaluated"] == ROWS
            assert (row["average_precision"], row["f1"]) == (found["average_precision"], found["f1"])
        assert [row["rows_evaluated"] for row in everything["agreement"]] == [ROWS, ROWS]
        assert again() == result
        assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == before

    def test_rows_whose_runs_are_gone_are_kept_but_not_evaluated_anew(self, made, again, tmp_path):
        _, out, result = made
        copy = shutil.copytree(out, tmp_path / "copy")
        shutil.rmtree(copy / "runs")
        asked = {"out": copy, "noise": "given"}
        found = again(**asked)
        assert (found["rows"], found["agreement"]) == (result["rows"][:2], [])
        refusals.refuses(again, "another --trusted file, and its run is gone", **asked, trusted=None)

    def test_cleanlab_is_asked_once_it_is_there(self, made, again, monkeypatch):
        _, out, result = made
        row = out / "rows" / f"{safe_name(f'given-seed0-{METHODS[1]}')}.json"
        row.unlink()
        with monkeypatch.context() as patch:
            patch.setattr("labelfix.benchmark.rows.find_spec", lambda _: None)
            without = again()["rows"][1]
        assert {without[name] for name in SCHEMA.names if name.startswith("cleanlab")} == {None}
        assert again() == result

    def test_fewer_rows_are_a_smaller_table(self, made, again):
        _, out, result = made
        found = again(noise="given", methods=METHODS[:1])
        assert (found["rows"], found["agreement"]) == (result["rows"][:1], [])
        assert pq.read_metadata(out / "bench.parquet").num_rows == 1
        again()

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            ({"batch_size": 32}, ["another batch_size", "another --out"]),
            ({"image_size": 16}, ["another image_size"]),
            ({"rows": 200}, ["other images or true labels"]),
            ({"truth_column": "label", "noise": "symmetric:0.4"}, ["other images or true labels"]),
        ],
    )
    def test_other_options_are_refused_by_name(self, made, again, changes, parts):
        before = (made[1] / "bench.parquet").stat().st_mtime_ns
        refusals.refuses(again, *parts, **changes)
        assert (made[1] / "bench.parquet").stat().st_mtime_ns == before

    def test_an_interrupted_run_goes_on(self, made, again, tmp_path):
        """From a copy without one row and its run: the row is what it was, but for time and memory."""
        _, out, result = made
        copy = shutil.copytree(out, tmp_path / "copy")
        name = safe_name(f"symmetric:0.4-seed0-{METHODS[0]}")
        # The copy's planted labels would name their images from another folder.
        shutil.rmtree(copy / "noisy")
        for path in [*(copy / "rows").glob("symmetric*"), *(copy / "runs").glob("symmetric*")]:
            path.unlink() if path.is_file() else shutil.rmtree(path)

        class Impatient(Silent):
            def progress(self, stage, done, total):
                if stage == "train" and done == 0:
                    signal.raise_signal(signal.SIGINT)

        asked = {"out": copy, "noise": "symmetric:0.4", "methods": METHODS[:1]}
        with pytest.raises(Interrupted):
            again(**asked, reporter=Impatient())
        assert not (copy / "rows" / f"{name}.json").exists()
        (row,) = again(**asked)["rows"]
        assert {name for name, value in row.items() if value != result["rows"][2][name]} <= TIMES

    def test_another_noise_file_under_the_same_name_is_refused(self, made, tmp_path):
        source, _, _ = made
        rates, out = tmp_path / "rates.csv", tmp_path / "out"
        lines = [f"{label},0.1" for label in range(10)]
        rates.write_text("\n".join(["class,rate", *lines]))
        given = {"methods": "cross-entropy:backbone=no", "truth_column": "true_label", "out": out}
        refuses("no such setting", source=source, noise=f"pair:{rates}", **given)
        # It is planted, and refused before it is trained: no network takes such a size.
        given |= {"methods": "cross-entropy", "device": "cuda:99"}
        refuses("--device cuda:99", source=source, noise=f"pair:{rates}", **given)
        assert len(list((out / "noisy").glob("*.parquet"))) == 1
        rates.write_text(rates.read_text().replace("9,0.1", "9,0.2"))
        refuses("the file is another", source=source, noise=f"pair:{rates}", **given)


class TestRefused:
    def test_given_without_a_truth(self, made, tmp_path):
        given = {"methods": "bmm", "noise": "given", "out": tmp_path / "out"}
        refuses("--noise given", "--truth-column", source=made[0], **given)
        given["truth_column"] = "label"
        refuses("'label' is the label column too", "--label-column", source=made[0], **given)

    def test_true_classes_that_the_given_labels_lack(self, made, tmp_path):
        given = {"methods": "cross-entropy", "noise": "given", "device": "cuda:99", "out": tmp_path / "out"}
        given |= {"truth_column": "true_label", "root": made[0].parent}
        frame = pd.read_csv(made[0]).drop(columns="split")
        frame["label"] = frame["label"].replace(9, 8)
        frame.to_csv(tmp_path / "merged.csv", index=False)
        rows = (frame["true_label"] == 9).sum()
        said = ("merged.csv", f"{rows} of its rows are of '9'", "or their 'true_label' empty")
        refuses(*said, source=tmp_path / "merged.csv", **given)
        assert not (tmp_path / "out").exists()
        # Planted noise may leave no label of a class.
        planted = frame.assign(is_corrupted=frame["label"] != frame["true_label"])
        planted.to_csv(tmp_path / "planted.csv", index=False)
        refuses("--device cuda:99", source=tmp_path / "planted.csv", **given)

    def test_class_folders_have_no_columns(self, digits, tmp_path):
        given = {"methods": "bmm", "out": tmp_path / "out"}
        refuses("--noise given", source=digits[0], noise="given", **given)
        refuses("folder of classes", source=digits[0], noise="clean", truth_column="label", **given)

    def test_columns_that_are_not_there(self, made, tmp_path):
        given = {"methods": "bmm", "noise": "clean", "out": tmp_path / "out"}
        refuses("'right'", "--truth-column", source=made[0], truth_column="right", **given)
        (tmp_path / "bare.csv").write_text("file_name\na.png\n")
        refuses("label column", source=tmp_path / "bare.csv", **given)
        refuses("does not exist", source=tmp_path / "nowhere.csv", **given)
        assert not (tmp_path / "out").exists()

    def test_a_folder_of_somebody_else(self, made, digits, tmp_path):
        given = {"methods": "bmm", "noise": "clean"}
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "truth.parquet").write_text("notes")
        refuses("no bench of labelfix", source=digits[0], out=tmp_path / "mine", **given)
        refuses("lies in the source", source=digits[0], out=digits[0] / "out", **given)
        refuses("is a file", source=digits[0], out=tmp_path / "mine" / "truth.parquet", **given)

    def test_options_that_fit_no_run(self, digits, tmp_path):
        given = {"methods": "bmm", "noise": "clean", "out": tmp_path / "out"}
        refuses("bench has no option overwrite", source=digits[0], overwrite=True, **given)
        refuses("--preset slow", source=digits[0], preset="slow", **given)
        refuses("--noise asymmetric:0.4", source=digits[0], **{**given, "noise": "asymmetric:0.4"})
        refuses("reads SOURCE from its path", source=(np.zeros((2, 8, 8), np.uint8), ["a", "b"]), **given)
        assert not (tmp_path / "out" / "runs").exists()

    def test_a_test_source_of_other_classes(self, made, digits, tmp_path):
        other = tmp_path / "other"
        shutil.copytree(digits[0] / "3", other / "three")
        given = {"methods": "bmm", "noise": "clean", "out": tmp_path / "out", "test": other}
        refuses("--test", "'three'", source=digits[0], **given)

    def test_without_cleanlab_nothing_starts(self, digits, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "cleanlab", None)
        given = {"methods": "cross-entropy,confident-learning", "noise": "clean", "out": tmp_path / "out"}
        refuses("labelfix[baselines]", source=digits[0], **given)
        assert not (tmp_path / "out").exists()


def test_a_method_that_needs_trusted_labels_is_given_them(made, tmp_path):
    source, _, _ = made
    rows = trusted_of_each_class(source, tmp_path / "trusted.csv")
    asked = {**options(source), "methods": "meta:epochs=1", "noise": "pair:0.3", "out": tmp_path / "out"}
    asked["trusted"] = tmp_path / "trusted.csv"
    refuses("needs labels to trust", "--trusted", source=source, **{**asked, "trusted": None})
    (row,) = labelfix.bench(source, **asked)["rows"]
    found = labelfix.read_corrections(run_of(tmp_path / "out", row))
    assert np.flatnonzero(found["is_trusted"]).tolist() == rows.tolist()
    assert row["rows_evaluated"] == ROWS - 20
    # The run was trained on these labels, so it cannot be evaluated anew by others.
    pd.read_csv(asked["trusted"])[1:].to_csv(tmp_path / "fewer.csv", index=False)
    refuses("another --trusted file", source=source, **{**asked, "trusted": tmp_path / "fewer.csv"})


def test_copies_count_on_no_side_and_are_said(digits, tmp_path):
    from cleanlab.filter import find_label_issues

    folder = tmp_path / "clean"
    write_digits(folder, 100)
    (path, *_) = sorted(folder.rglob("*.png"))
    shutil.copy(path, path.with_name("copy.png"))
    asked = ["bench", str(folder), "--out", str(tmp_path / "out"), "--noise", "symmetric:0.4", "--quiet"]
    asked += ["--methods", "confident-learning:epochs=1:folds=2", "--batch-size", "64", "--device", "cpu"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0
    assert "2 rows left out: they have a copy" in done.output
    (row,) = pq.read_table(tmp_path / "out" / "bench.parquet").to_pylist()
    assert (row["rows"], row["rows_evaluated"], row["copies_left_out"]) == (101, 99, 2)
    found = labelfix.read_corrections(run_of(tmp_path / "out", row))
    given, alone = found["given_label"].astype(int).to_numpy(), found["duplicate_group"].isna().to_numpy()
    flagged = find_label_issues(given, np.stack(found["predicted_probs"]))
    wrong = given != pq.read_table(truth_of(tmp_path / "out", row))["true_label"].to_pandas().astype(int)
    _, _, f1, _ = precision_recall_fscore_support(wrong[alone], flagged[alone], average="binary")
    assert row["cleanlab_f1"] == pytest.approx(f1)


def test_class_folders_on_the_command_line(digits, tmp_path):
    folder = write_digits(tmp_path / "clean", 120)
    options = "--methods cross-entropy --noise clean --epochs 1 --batch-size 50 --rows 118"
    folders = [str(tmp_path / "clean"), "--test", str(digits[0]), "--out", str(tmp_path / "out")]
    args = ["bench", *folders, *options.split()]
    done = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert done.exit_code == 0
    heads, row = (line.split() for line in done.stdout.splitlines()[:2])
    assert heads[:6] == ["noise", "method", "seeds", "AP", "P", "R"]
    assert len(heads) == len(row) == 12
    assert row[:4] == ["clean", "cross-entropy", "1", "-"]
    assert f"plot: {tmp_path / 'out' / 'bench.png'}" in done.stdout
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
    as_json = CliRunner().invoke(cli, [*args, "--json", "--quiet"], catch_exceptions=False)
    assert as_json.stderr == ""
    (row,) = json.loads(as_json.stdout)["rows"]
    assert (row["rows"], row["label_accuracy_given"], row["errors_removed"]) == (118, 1.0, None)
    assert row["average_precision"] is None
    assert 0 <= row["test_accuracy"] <= 1
    assert len(folder) == 120


def test_the_command_line_shows_how_methods_agree(made):
    source, out, result = made
    given = {**options(source), "methods": ",".join(METHODS), "noise": ",".join(NOISES), "out": out}
    args = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    done = CliRunner().invoke(cli, ["bench", str(source), *args, "--quiet"], catch_exceptions=False)
    lines = done.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if "mean rank AP" in line)
    assert " ".join(lines[first].split()) == "noise seeds mean rank AP best AP best 0 1 2"
    for line, row in zip(lines[first + 1 :], result["agreement"], strict=False):
        noise, seeds, together, single, best, *counts = line.split(maxsplit=5)
        assert (noise, seeds, best) == (row["noise"], "1", row["best_method"])
        assert together == f"{row['average_precision_mean_rank']:.3f}"
        assert single == f"{row['best_average_precision']:.3f}"
        shown = [
            f"{count} ({share:.0%})" if count else "0"
            for count, share in zip(row["rows"], row["share_wrong"], strict=True)
        ]
        assert " ".join(counts[0].split()) == " ".join(shown)


def test_the_plot_takes_undefined_numbers_and_any_text(tmp_path):
    row = {"average_precision": None, "label_accuracy_given": None, "label_accuracy_corrected": None}
    rows = [{**row, "noise": "$a_", "method": "_b$x$"}, {**row, "noise": "c", "method": "d"}]
    write_plot(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").stat().st_size > 1_000


def test_peak_memory_is_of_this_process():
    # In a process of its own: what other tests of this one held once would hide what is added here.
    script = """
import numpy as np
from labelfix.benchmark.processes import peak_memory_mb
before = peak_memory_mb()
block = np.ones(700 << 20, np.uint8)
after = peak_memory_mb()
del block
print(after - before, peak_memory_mb() - after)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown, later = map(float, done.stdout.split())
    assert 300 < grown < 1_000  # what the imports held briefly may be part of it
    assert abs(later) < 50  # giving memory back does not lower the peak
