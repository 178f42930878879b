"""Several labels a row, the whole road: from a manifest to findings, exports, decisions, predictions and a page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from mosaics import NAMES, lists, mosaics, noisy, write_mosaics
from refusals import refuses
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.cli import cli
from labelfix.data.findings_schema import multi_label_fields
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.exports import TARGETS
from labelfix.noise.corruption import corrupt
from labelfix.results.corrections import label_states, number_rows
from labelfix.reviews import review

ROWS = 400


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A run of cross-entropy over 400 mosaics with wrong labels, its source and the true states."""
    folder = tmp_path_factory.mktemp("mosaics")
    source = write_mosaics(folder / "images", ROWS)
    run = labelfix.scan(
        source, method="cross-entropy", settings={"score_from": "trajectory"}, epochs=24, out=folder / "run",
        device="cpu",
    )  # fmt: skip
    return run, source, mosaics(ROWS)[1] >= 0.5


def table(run):
    return pq.read_table(run.corrections).combine_chunks()


def states(found, name):
    return label_states(found[name].combine_chunks(), pa.array(NAMES))[0]


def numbers(found, name):
    return number_rows(found[name].combine_chunks())


class TestFindings:
    def test_the_table_is_that_of_the_contract(self, scanned):
        run, _, _ = scanned
        found = table(run)
        metadata = json.loads(found.schema.metadata[b"labelfix"])
        assert (metadata["task"], metadata["class_names"]) == ("multi", list(NAMES))
        assert [(f.name, f.type) for f in found.schema][:-1] == [
            (f.name, f.type) for f in multi_label_fields(4)
        ]
        assert found.schema.names[-1] == "true_label"

    def test_columns_agree_with_each_other(self, scanned):
        run, source, _ = scanned
        found = table(run)
        given, corrected = states(found, "given_label"), states(found, "corrected_label")
        np.testing.assert_array_equal(given, Manifest.read(source, task="auto").targets >= 0.5)
        np.testing.assert_array_equal(states(found, "added_labels"), corrected & ~given)
        np.testing.assert_array_equal(states(found, "removed_labels"), given & ~corrected)
        noise, score = numbers(found, "class_noise_scores"), found["noise_score"].to_numpy()
        np.testing.assert_array_equal(score, noise.max(axis=1))
        np.testing.assert_allclose(found["label_score"].to_numpy(), 1 - score)
        above = json.loads(found.schema.metadata[b"labelfix"])["flag_above"]
        flagged = (noise > np.float32(above)).any(axis=1)
        np.testing.assert_array_equal(found["is_label_issue"].to_numpy(zero_copy_only=False), flagged)
        beliefs = numbers(found, "label_distribution")
        chosen = np.where(corrected, beliefs, 1 - beliefs).min(axis=1)
        np.testing.assert_allclose(found["corrected_confidence"].to_numpy(), chosen, atol=1e-6)
        np.testing.assert_array_equal(
            states(found, "predicted_label"), numbers(found, "predicted_probs") >= 0.5
        )

    def test_wrong_labels_are_found_and_corrections_make_more_right(self, scanned):
        run, _, true = scanned
        found = table(run)
        given, corrected = states(found, "given_label"), states(found, "corrected_label")
        wrong = given != true
        ap = average_precision_score(wrong.ravel(), numbers(found, "class_noise_scores").ravel())
        assert ap > 3 * wrong.mean()
        assert (corrected == true).mean() >= (given == true).mean()

    def test_the_summary_counts_what_the_table_holds(self, scanned):
        run, _, _ = scanned
        found = table(run)
        counts = run.summary["counts"]
        assert counts["rows"] == counts["judged"] == ROWS
        assert counts["added_labels"] == states(found, "added_labels").sum()
        assert counts["removed_labels"] == states(found, "removed_labels").sum()
        assert counts["flagged"] == found["is_label_issue"].to_numpy(zero_copy_only=False).sum()
        rates = run.summary["rates_by_class"]
        assert list(rates) == list(NAMES)
        for label, name in enumerate(NAMES):
            assert rates[name]["given"] == states(found, "given_label")[:, label].sum()
            assert 0 <= rates[name]["missing_rate"] <= 1
        assert set(run.summary["diagnostics"]["by_class"]) == set(NAMES)

    def test_a_training_that_diverges_is_a_failed_fit_also_where_it_is_measured(self, tmp_path):
        """Of what is not finite there is no mean average precision, and no NaN in a file of JSON."""
        source = write_mosaics(tmp_path / "images", 60)
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        rows = [row | {"split": "train" if place < 40 else "test"} for place, row in enumerate(rows)]
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = labelfix.scan(
            source, method="cross-entropy", encoder="none", epochs=3, settings={"learning_rate": "1e8"},
            out=tmp_path / "run", device="cpu",
        )  # fmt: skip
        assert not run.summary["fit_ok"]
        assert "diverged" in run.summary["fit_reason"]
        assert "test_map" not in run.summary

    def test_frames_answer_what_they_can(self, scanned):
        run, _, _ = scanned
        df = labelfix.read_corrections(run.out)
        top = df.labelfix.top(5)
        assert top["noise_score"].is_monotonic_decreasing
        assert df.labelfix.budget(5).rows == 5
        frame = df.labelfix
        for question in frame.confusion, frame.noise_matrix, frame.class_summary, frame.show:
            refuses(question, "multi-label", question.__name__, "added_labels")
        refuses(frame.disagreements, "multi-label", other=df)
        refuses(frame.top, "multi-label", "leave it out", by="given_label")

    @pytest.mark.parametrize("written", ["csv", "jsonl", "parquet"])
    def test_evaluate_reads_texts_in_any_table(self, scanned, tmp_path, written):
        run, source, true = scanned
        names = [row["file_name"] for row in map(json.loads, source.read_text().splitlines())]
        frame = pd.DataFrame({"file_name": names, "label": [";".join(one) or ";" for one in lists(true)]})
        if written == "csv":
            frame.to_csv(tmp_path / "t.csv", index=False)
        elif written == "jsonl":
            frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
        else:
            frame.to_parquet(tmp_path / "t.parquet")
        found = labelfix.evaluate(run.out, truth=tmp_path / f"t.{written}")
        expected = labelfix.evaluate(run.out, truth=source)
        told = ("truth", "truth_column")
        assert {k: v for k, v in found.items() if k not in told} == {
            k: v for k, v in expected.items() if k not in told
        }

    def test_evaluate_counts_states(self, scanned):
        run, source, true = scanned
        found = labelfix.evaluate(run.out, truth=source)
        given = states(table(run), "given_label")
        assert (found["task"], found["truth_column"], found["rows_evaluated"]) == (
            "multi",
            "true_label",
            ROWS,
        )
        assert found["label_accuracy_given"] == pytest.approx((given == true).mean())
        assert found["noise_rate_true"] == pytest.approx((given != true).mean())
        assert found["rows_right_given"] == pytest.approx((given == true).all(axis=1).mean())
        assert found["mean_average_precision"] > true.mean()
        assert found["changed_right"] + found["changed_wrong"] <= found["changed"]
        printed = CliRunner().invoke(cli, ["evaluate", str(run.out), "--truth", str(source)])
        assert printed.exit_code == 0
        assert "mean average precision" in printed.stdout


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run over rows without labels, without any class, broken, verified and of a test split; and its records."""
    folder = tmp_path_factory.mktemp("rows")
    source = write_mosaics(folder / "images", 60)
    records = [json.loads(line) for line in source.read_text().splitlines()]
    for row, record in enumerate(records):
        record |= {"is_trusted": row == 3, "split": "test" if row >= 50 else "train"}
    records[0]["label"] = None
    records[1]["label"] = []
    (source.parent / records[2]["file_name"]).write_bytes(b"no image")
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    return labelfix.scan(
        source, method="pencil", epochs=4, out=folder / "run", device="cpu"
    ), records  # fmt: skip


class TestRows:
    """What becomes of rows that are not simply labelled."""

    def test_rows_are_what_the_contract_says(self, mixed):
        run, records = mixed
        rows = table(run).to_pylist()
        assert rows[0]["given_label"] is rows[0]["noise_score"] is rows[0]["class_noise_scores"] is None
        assert rows[0]["added_labels"] is rows[0]["removed_labels"] is None
        assert rows[0]["corrected_label"] == rows[0]["predicted_label"]
        assert rows[1]["given_label"] == []
        assert rows[1]["noise_score"] is not None
        assert not rows[2]["is_valid"]
        assert rows[2]["error"]
        assert rows[2]["label_distribution"] is rows[2]["noise_score"] is None
        assert rows[2]["corrected_label"] == rows[2]["given_label"]
        assert rows[3]["is_trusted"]
        assert rows[3]["corrected_label"] == rows[3]["given_label"] == records[3]["label"]
        assert (rows[3]["noise_score"], rows[3]["is_label_issue"], rows[3]["corrected_confidence"]) == (
            0,
            False,
            1,
        )
        assert all(row["noise_score"] is not None for row in rows[50:])
        assert 0 <= run.summary["test_map"] <= 1
        assert run.summary["counts"]["unlabelled"] == 1

    def test_every_epoch_reports_the_mean_average_precision(self, mixed):
        epochs = pd.read_parquet(mixed[0].out / "epochs.parquet")
        assert epochs["test_map"].between(0, 1).all()
        assert "trusted_map" not in epochs  # of a single row no class has both kinds


def test_the_same_scan_has_the_same_bytes(tmp_path):
    source = write_mosaics(tmp_path / "images", 60)
    runs = [
        labelfix.scan(source, method="pencil", epochs=4, folds=2, out=tmp_path / name, device="cpu")
        for name in ("one", "two")
    ]
    assert runs[0].corrections.read_bytes() == runs[1].corrections.read_bytes()
    assert all(json.loads((run.out / "summary.json").read_text())["task"] == "multi" for run in runs)


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    """A run over a CSV with a column for each class and soft values, and that file."""
    folder = tmp_path_factory.mktemp("soft")
    write_mosaics(folder / "images", 80)
    targets = noisy(mosaics(80)[1], "dropped:0.1,softened:0.5")
    frame = pd.DataFrame(targets, columns=NAMES).assign(file_name=[f"{row:04d}.png" for row in range(80)])
    frame.to_csv(folder / "images" / "soft.csv", index=False)
    arguments = [
        "scan", str(folder / "images" / "soft.csv"), "--method", "pencil", "--label-columns", ",".join(NAMES),
        "--epochs", "4", "--out", str(folder / "run"), "--device", "cpu", "--set", "score_from=method",
        "--set", "when_weak=go",
    ]  # fmt: skip
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 0, found.output
    return folder / "run", folder / "images" / "soft.csv", targets


class TestSoftValues:
    def test_given_labels_are_those_from_a_half_on(self, soft):
        run, _, targets = soft
        found = pq.read_table(run / "corrections.parquet")
        assert found["given_label"].to_pylist() == lists(targets)
        assert json.loads((run / "config.json").read_text())["source"]["label_columns"] == list(NAMES)

    def test_a_page_and_exports_find_the_images_again(self, soft, tmp_path):
        run, _, _ = soft
        assert review(run, out=tmp_path / "review.html")["pictures"] == "originals"
        labelfix.export(run, to="hf", out=tmp_path / "hf")
        assert Manifest.read(tmp_path / "hf", task="auto").num_rows == 80

    def test_the_classifier_predicts_lists(self, soft, tmp_path):
        run, source, _ = soft
        out = tmp_path / "predictions.parquet"
        arguments = ["predict", str(run), str(source), "--label-columns", ", ".join(NAMES), "--out", str(out)]
        assert CliRunner().invoke(cli, arguments).exit_code == 0
        found = pq.read_table(out)
        probs = numbers(found.combine_chunks(), "predicted_probs")
        assert found["predicted_label"].to_pylist() == lists(probs)
        np.testing.assert_allclose(found["confidence"].to_numpy(), np.maximum(probs, 1 - probs).min(axis=1))
        frame = labelfix.load_classifier(run).predict([source.parent / "0000.png", "nowhere.png"])
        assert frame["predicted_label"][0] == lists(probs)[0]
        assert frame["error"][1] is not None
        refuses(labelfix.load_classifier(run).to_onnx, "multi-label", "ONNX", path=tmp_path / "x.onnx")

    def test_a_classifier_for_one_label_predicts_images_with_several(self, digits, tmp_path):
        run = labelfix.scan(
            digits[0], method="cross-entropy", epochs=1, image_size=8, encoder="none", out=tmp_path / "run",
            device="cpu",
        )  # fmt: skip
        lists_of = write_mosaics(tmp_path / "mosaics", 12)
        labelfix.predict(run.classifier, lists_of, out=tmp_path / "p.parquet", device="cpu")
        found = pq.read_table(tmp_path / "p.parquet").to_pylist()
        given = [json.loads(line)["label"] for line in lists_of.read_text().splitlines()]
        assert [row["given_label"] for row in found] == given
        assert {row["predicted_label"] for row in found} <= {str(label) for label in range(10)}

    def test_images_without_labels_are_predicted_too(self, soft, tmp_path):
        run, source, _ = soft
        found = labelfix.predict(run, source.parent, out=tmp_path / "all.parquet")
        assert found["predicted"] == 80


class TestExports:
    @pytest.mark.parametrize("to", ["jsonl", "parquet", "hf", "fiftyone", "csv", "labelstudio"])
    def test_what_is_exported_is_read_again_with_the_same_labels(self, scanned, tmp_path, to):
        run, source, _ = scanned
        suffix = TARGETS[to].SUFFIXES[0]
        out = tmp_path / f"corrected{suffix}"
        labelfix.export(run.out, to=to, out=out)
        options = {"label_separator": ";"} if to == "csv" else {}
        if to == "labelstudio":
            tasks = json.loads((out / "tasks.json").read_text())
            choices = {
                task["data"]["file_name"]: task["predictions"][0]["result"][0]["value"]["choices"]
                for task in tasks
            }
            assert 'choice="multiple"' in (out / "config.xml").read_text()
            found = [choices[f"{row:04d}.png"] for row in range(ROWS)]
        else:
            root = {"root": source.parent} if suffix else {}
            manifest = Manifest.read(out, task="auto", **root, **options)
            rows = range(ROWS)
            if to == "fiftyone":
                names = manifest.file_names().to_pylist()
                rows = np.argsort(names)
            found = [manifest.label_of(row) for row in rows]
        assert found == table(run)["corrected_label"].to_pylist()

    def test_an_export_as_text_that_is_read_as_single_labels_is_told_of(self, scanned, tmp_path):
        run, source, _ = scanned
        labelfix.export(run.out, to="csv", out=tmp_path / "out.csv", top=40)
        options = {"source": tmp_path / "out.csv", "root": source.parent, "task": "auto"}
        told = [text for text in Manifest.read(**options).warnings if "export of several labels" in text]
        assert len(told) == 1
        assert "add --label-separator ';'" in told[0]
        right = Manifest.read(**options, label_separator=";")
        assert right.task == "multi"
        assert not any("export of several labels" in text for text in right.warnings)

    def test_a_table_says_what_was_added_and_removed(self, scanned, tmp_path):
        run, _, _ = scanned
        report = labelfix.export(run.out, to="parquet", out=tmp_path / "x.parquet")
        found = pq.read_table(tmp_path / "x.parquet")
        whole = table(run)
        for name in "added_labels", "removed_labels":
            assert found[name].to_pylist() == whole[name].to_pylist()
        changed = (states(whole, "given_label") != states(whole, "corrected_label")).any(axis=1).sum()
        assert report["changed"] == changed

    @pytest.mark.parametrize("to", ["imagefolder", "cleanlab"])
    def test_formats_with_one_label_are_refused_by_naming_others(self, scanned, tmp_path, to):
        refuses(
            labelfix.export, f"--to {to}", "one label per image", "labelstudio", corrections=scanned[0].out, to=to,
            out=tmp_path / "x",
        )  # fmt: skip


class TestDecisions:
    @pytest.fixture
    def decided(self, scanned, tmp_path):
        """What a page downloads: the first flagged rows accepted, kept, changed to none, removed and skipped."""
        found = table(scanned[0]).to_pylist()
        rows = [row for row in found if row["is_label_issue"]][:5]
        labels = [rows[0]["corrected_label"], rows[1]["given_label"], [], [], []]
        words = ["accept", "keep", "change", "remove", "skip"]
        lines = ["sample_id,file_name,decision,label"]
        lines += [
            f"{row['sample_id']},{row['file_name']},{word},{';'.join(label)}"
            for row, word, label in zip(rows, words, labels, strict=True)
        ]
        path = tmp_path / "decisions.csv"
        path.write_text("\n".join(lines) + "\n")
        return path, [row["sample_id"] for row in rows], labels

    def test_exports_have_what_a_person_decided(self, scanned, decided, tmp_path):
        path, ids, labels = decided
        labelfix.export(scanned[0].out, to="parquet", out=tmp_path / "x.parquet", decisions=path)
        rows = {row["file_name"]: row for row in pq.read_table(tmp_path / "x.parquet").to_pylist()}
        names = [f"{row:04d}.png" for row in ids]
        for name, label in list(zip(names, labels, strict=True))[:3]:
            assert rows[name]["label"] == rows[name]["reviewed_label"] == label
            assert rows[name]["added_labels"] == sorted(set(label) - set(rows[name]["given_label"]))
            assert rows[name]["removed_labels"] == sorted(set(rows[name]["given_label"]) - set(label))
        assert names[3] not in rows
        assert rows[names[4]]["reviewed_label"] is None

    def test_decisions_are_verified_labels_of_the_next_scan(self, scanned, decided, tmp_path):
        path, ids, labels = decided
        run = labelfix.scan(
            scanned[1], method="cross-entropy", epochs=1, trusted=path, out=tmp_path / "again", device="cpu"
        )
        rows = table(run).to_pylist()
        for row, label in list(zip(ids, labels, strict=True))[:3]:
            assert (rows[row]["is_trusted"], rows[row]["corrected_label"]) == (True, label)
            assert rows[row]["noise_score"] == float(sorted(label) != sorted(rows[row]["given_label"]))
        assert rows[ids[3]]["corrected_label"] is None
        assert rows[ids[3]]["given_label"] is not None
        assert run.summary["counts"]["removed"] == 1
        assert not rows[ids[4]]["is_trusted"]

    def test_what_is_decided_partly_is_exported_but_verifies_nothing(self, scanned, tmp_path):
        rows = [row for row in table(scanned[0]).to_pylist() if row["is_label_issue"]][:2]
        path = tmp_path / "decisions.csv"
        lines = [f"{rows[0]['sample_id']},partly,0;3,4\n", f"{rows[1]['sample_id']},change,1,\n"]
        path.write_text("sample_id,decision,label,undecided_labels\n" + "".join(lines))
        for action in ("relabel", "drop"):
            out = tmp_path / f"{action}.parquet"
            labelfix.export(scanned[0].out, to="parquet", out=out, decisions=path, action=action)
            found = {row["file_name"]: row for row in pq.read_table(out).to_pylist()}
            assert found[rows[1]["file_name"]]["label"] == ["1"]
            if action == "drop":
                assert rows[0]["file_name"] not in found  # a part of it is as open as before
                continue
            one = found[rows[0]["file_name"]]
            assert (one["label"], one["review_status"]) == (["0", "3"], "partly")
            # An export with decisions is a verified file too.
            again = labelfix.scan(
                scanned[1],
                method="cross-entropy",
                epochs=1,
                trusted=out,
                out=tmp_path / "again",
                device="cpu",
            )
            trusted = [row["sample_id"] for row in table(again).to_pylist() if row["is_trusted"]]
            assert trusted == [rows[1]["sample_id"]]
        path.write_text("".join(["sample_id,decision,label\n", f"{rows[0]['sample_id']},partly,0\n"]))
        refuses(
            labelfix.scan, "verifies nothing", source=scanned[1], method="cross-entropy", trusted=path,
            out=tmp_path / "nothing", device="cpu",
        )  # fmt: skip

    @pytest.mark.parametrize("to", ["jsonl", "parquet", "csv", "labelstudio", "fiftyone"])
    def test_what_is_exported_is_a_verified_file(self, scanned, tmp_path, to):
        out = tmp_path / {"labelstudio": "out", "fiftyone": "out"}.get(to, f"out.{to}")
        labelfix.export(scanned[0].out, to=to, out=out)
        if to == "labelstudio":  # somebody submits what is predicted there
            out = out / "tasks.json"
            tasks = json.loads(out.read_text())
            for task in tasks:
                task["annotations"] = [{"result": one["result"]} for one in task.pop("predictions")]
            out.write_text(json.dumps(tasks))
        trusted = Trusted.of(Manifest.read(scanned[1], task="multi"), out)
        kept = [row for row in table(scanned[0]).to_pylist() if row["given_label"] is not None]
        rows = [row["sample_id"] for row in kept]
        assert (trusted.label >= 0).sum() == len(rows)
        expected = [[name in row["corrected_label"] for name in NAMES] for row in kept]
        np.testing.assert_array_equal(
            trusted.targets[rows] >= 0.5, np.array(expected).reshape(-1, len(NAMES))
        )

    def test_keeping_other_labels_than_the_given_ones_is_refused(self, scanned, decided, tmp_path):
        path, ids, _ = decided
        path.write_text(f"sample_id,decision,label\n{ids[0]},keep,0;1;3;4\n")
        refuses(
            labelfix.export, "keeps", f"sample {ids[0]}", corrections=scanned[0].out, to="csv", decisions=path,
            out=tmp_path / "x.csv",
        )  # fmt: skip


def split_mosaics(folder: Path) -> list[dict]:
    """`split.jsonl` of 100 mosaics with right labels, every fifth of a test split; its rows."""
    source = write_mosaics(folder, 100, noise="dropped:0", has_truth=False)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for place, row in enumerate(rows):
        row["split"] = "test" if place % 5 == 0 else "train"
    (folder / "split.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_a_small_test_split_does_not_silence_the_own_labels_of_pencil(tmp_path):
    """Eight rows say too little of a network, and nothing of what it found among the others."""
    source = write_mosaics(tmp_path / "images", ROWS)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows[:8]:
        row["split"] = "test"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = labelfix.scan(
        source, method="pencil", settings={"score_from": "method"}, epochs=24, out=tmp_path / "run",
        device="cpu", encoder="none",
    )  # fmt: skip
    given, corrected = states(table(run), "given_label"), states(table(run), "corrected_label")
    true = mosaics(ROWS)[1] >= 0.5
    assert (corrected == true).sum() > (given == true).sum()


@pytest.mark.parametrize("written", ["jsonl", "parquet", "csv"])
def test_test_labels_that_are_known_to_be_wrong_are_counted(tmp_path, written):
    rows = split_mosaics(tmp_path)
    for place, row in enumerate(rows):
        row["true_label"] = row["label"][::-1]
        row["is_corrupted"] = False
        if place in (0, 1, 5):  # two of the test split
            row["label"] = [] if row["label"] else [NAMES[0]]
    rows[10] |= {"true_label": None, "is_corrupted": True}
    rows[15] |= {"true_label": None}
    source, options = tmp_path / f"known.{written}", {}
    frame = pd.DataFrame(rows)
    if written == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif written == "parquet":
        frame.to_parquet(source)
    else:
        for name in ("label", "true_label"):
            frame[name] = [None if labels is None else ";".join(labels) or ";" for labels in frame[name]]
        frame.to_csv(source, index=False)
        options = {"label_separator": ";"}
    out = tmp_path / "run"
    run = labelfix.scan(source, method="cross-entropy", epochs=1, out=out, device="cpu", **options)
    assert run.summary["test_labels_wrong"] == 3
    card = (out / "classifier" / "README.md").read_text()
    assert f"{100 * run.summary['test_map']:.1f} %, by rows of which 3 are known to be wrong" in card
    assert "any number of them" in card
    assert "to_onnx" not in card


def test_many_verified_lists_check_the_findings(scanned, tmp_path):
    _, source, true = scanned
    frame = pd.DataFrame(
        {"sample_id": range(ROWS), "label": [";".join(labels) or ";" for labels in lists(true)]}
    )
    frame.iloc[:120].to_csv(tmp_path / "verified.csv", index=False)
    again = labelfix.scan(
        source,
        method="cross-entropy",
        epochs=2,
        trusted=tmp_path / "verified.csv",
        out=tmp_path / "run",
        device="cpu",
    )
    rows = table(again)["corrected_label"].to_pylist()
    assert [sorted(labels) for labels in rows[:120]] == [sorted(labels) for labels in lists(true)[:120]]
    assert again.summary["diagnostics"]["by_class"][NAMES[0]]["trusted"]["rows"] == 60


@pytest.fixture(scope="module")
def scanned_columns(tmp_path_factory):
    """A run on soft.csv, a column for each class with soft values, and the true labels (N, 4)."""
    folder = tmp_path_factory.mktemp("columns")
    write_mosaics(folder, 60)
    true, names = mosaics(60)[1], [f"d{name}" for name in NAMES]
    frame = pd.DataFrame(np.abs(noisy(true) - 0.1).round(2), columns=names)
    frame.insert(0, "file_name", [f"{row:04d}.png" for row in range(60)])
    frame["true_label"] = [";".join(f"d{name}" for name in labels) or ";" for labels in lists(true)]
    frame.to_csv(folder / "soft.csv", index=False)
    run = labelfix.scan(
        folder / "soft.csv", method="cross-entropy", epochs=1, label_columns=names, out=folder / "run",
        device="cpu",
    )  # fmt: skip
    return run, folder, frame, true


def test_the_truth_is_read_however_it_is_written(scanned_columns):
    run, folder, frame, true = scanned_columns
    answers = {"soft.csv": "true_label"}
    hard = frame.drop(columns="true_label")
    hard.iloc[:, 1:] = true
    hard.to_csv(folder / "hard.csv", index=False)
    answers["hard.csv"] = ", ".join(hard.columns[1:])
    lines = [{"file_name": name, "label": ls.strip(";").split(";") if ls != ";" else []}
             for name, ls in zip(frame["file_name"], frame["true_label"], strict=True)]  # fmt: skip
    (folder / "lists.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers["lists.jsonl"] = "label"
    pd.DataFrame(lines).to_parquet(folder / "lists.parquet")
    answers["lists.parquet"] = "label"
    pd.DataFrame(lines).assign(label=[json.dumps(line["label"]) for line in lines]).to_csv(
        folder / "lists.csv"
    )
    answers["lists.csv"] = "label"
    found = {name: labelfix.evaluate(run.out, truth=folder / name) for name in answers}
    assert {name: one["truth_column"] for name, one in found.items()} == answers
    wrong = float((noisy(true) != true).mean())
    for name, one in found.items():
        assert one["noise_rate_true"] == pytest.approx(wrong), name


def columns_csv(folder: Path, names: list[str], values=(1, 0)) -> Path:
    """`columns.csv` of 20 mosaics with a column for each of two classes, in turn `values`."""
    write_mosaics(folder, 20)
    rows = [[f"{row:04d}.png", values[row % 2], values[1 - row % 2]] for row in range(20)]
    pd.DataFrame(rows, columns=["file_name", *names]).to_csv(folder / "columns.csv", index=False)
    return folder / "columns.csv"


class TestCorrupt:
    def test_as_much_is_dropped_and_added_as_asked(self, tmp_path):
        source = write_mosaics(tmp_path / "images", 100, noise="dropped:0", has_truth=False)
        found = corrupt(source, noise="dropped:0.2,added:0.05", out=tmp_path / "noisy.parquet", seed=1)
        true = mosaics(100)[1] >= 0.5
        rows = pq.read_table(tmp_path / "noisy.parquet")
        assert rows["true_label"].to_pylist() == lists(true)
        assert found["dropped"] == round(0.2 * true.sum())
        assert found["added"] == round(0.05 * (~true).sum())
        manifest = Manifest.read(tmp_path / "noisy.parquet", task="auto")
        wrong = (manifest.targets >= 0.5) != true
        assert wrong.sum() == found["dropped"] + found["added"]
        assert rows["is_corrupted"].to_pylist() == wrong.any(axis=1).tolist()

    def test_rows_of_a_test_split_stay_right(self, tmp_path):
        rows = split_mosaics(tmp_path)
        found = corrupt(
            tmp_path / "split.jsonl", noise="dropped:0.5,added:0.5", out=tmp_path / "noisy.parquet"
        )
        noisy, held_out = (
            pq.read_table(tmp_path / "noisy.parquet"),
            np.array([row["split"] == "test" for row in rows]),
        )
        assert (found["test_rows"], found["labelled"]) == (20, 100)
        assert found["corrupted"] == sum(noisy["is_corrupted"].to_pylist()) > 60
        assert found["realised_rate"] == found["corrupted"] / 80
        assert not np.array(noisy["is_corrupted"].to_pylist())[held_out].any()
        assert found["dropped"] == round(
            0.5 * sum(len(row["label"]) for row in rows if row["split"] == "train")
        )
        label, true = (
            np.array(noisy[name].to_pylist(), object)[held_out] for name in ("label", "true_label")
        )
        assert label.tolist() == true.tolist()

    def test_confidences_are_columns_and_say_the_same(self, tmp_path):
        source = write_mosaics(tmp_path / "images", 100, noise="dropped:0", has_truth=False)
        found = corrupt(source, noise="softened:0.5", out=tmp_path / "soft.parquet")
        manifest = Manifest.read(tmp_path / "soft.parquet", task="auto", label_columns=found["label_columns"])
        soft = (manifest.targets > 0) & (manifest.targets < 1)
        assert soft.mean() == pytest.approx(0.5)
        assert lists(manifest.targets) == lists(mosaics(100)[1])

    def test_columns_are_named_with_blanks_too(self, tmp_path):
        source = columns_csv(tmp_path, ["a", "b"])
        found = corrupt(source, noise="softened:0.5", label_columns="a, b", out=tmp_path / "soft.parquet")
        assert found["class_names"] == ["a", "b"]

    def test_confidences_of_the_source_stay_where_nothing_is_planted(self, tmp_path):
        source, out = columns_csv(tmp_path, ["a", "b"], (0.95, 0.05)), tmp_path / "soft.parquet"
        found = corrupt(source, noise="dropped:0.2", label_columns=["a", "b"], out=out)
        assert (found["label_columns"], found["dropped"]) == (["a", "b"], 4)
        before, after = (
            Manifest.read(path, task="multi", label_columns=["a", "b"]).targets for path in (source, out)
        )
        hit = before != after
        assert hit.sum() == 4
        assert (before[hit] == np.float32(0.95)).all()
        assert (after[hit] == 0).all()

    def test_the_next_command_scans_whatever_the_columns_are_called(self, tmp_path):
        names = ["salt, pepper", " 'plate'"]
        source, out = columns_csv(tmp_path, names), tmp_path / "soft.parquet"
        arguments = ["corrupt", str(source), "--noise", "softened:0.5", "--label-columns", json.dumps(names)]
        printed = CliRunner().invoke(cli, [*arguments, "--out", str(out)], catch_exceptions=False).output
        command = shlex.split(printed.partition("next:")[2])
        assert command[:2] == ["labelfix", "scan"]
        planned = [*command[1:], "--out", str(tmp_path / "run"), "--dry-run", "--json"]
        result = CliRunner().invoke(cli, planned, catch_exceptions=False)
        assert result.exit_code == 0
        assert json.loads(result.stdout)["task"] == "multi"

    @pytest.mark.parametrize(
        ("noise", "words"),
        [
            ("dropped:2", ("dropped:2", "0 to 1")),
            ("dropped:0.1,symmetric:0.1", ("symmetric:0.1", "dropped")),
            ("added:0.1,added:0.2", ("twice",)),
        ],
    )
    def test_other_noise_is_refused(self, tmp_path, noise, words):
        source = write_mosaics(tmp_path / "images", 20)
        refuses(corrupt, *words, source=source, noise=noise, out=tmp_path / "x.parquet")

    def test_images_of_one_label_are_refused_by_the_noise(self, digits, tmp_path):
        said = f"--noise dropped:0.4: {digits[0]} has one label a row; plant such as symmetric:0.4"
        line = refuses(corrupt, said, source=digits[0], noise="dropped:0.4", out=tmp_path / "x.parquet")
        assert line == said
        assert not (tmp_path / "x.parquet").exists()


class TestRefused:
    @pytest.fixture
    def source(self, tmp_path) -> Path:
        return write_mosaics(tmp_path / "images", 20)

    def test_what_takes_one_label_names_what_takes_several(self, source, tmp_path):
        options = {"source": source, "noise": "symmetric:0.2", "out": tmp_path / "x.parquet"}
        refuses(corrupt, "list.jsonl", "has several", "use dropped:R,added:R", **options)
        refuses(labelfix.scan, "list.jsonl", "pencil", source=source, method="bmm", out=tmp_path / "run")
        refuses(
            labelfix.scan,
            "--task multi",
            "pencil",
            source=source,
            method="bmm",
            task="multi",
            out=tmp_path / "run",
        )
        refuses(
            corrupt,
            "list.jsonl",
            "one label",
            source=source,
            noise="symmetric:0.1",
            out=tmp_path / "x.parquet",
        )
        refuses(
            labelfix.scan, "--label-separator", "--task single", source=source, method="pencil", task="single",
            label_separator=";", out=tmp_path / "run",
        )  # fmt: skip

    def test_unless_a_method_is_named_it_is_one_that_takes_several(self, source, tmp_path):
        planned = labelfix.plan(source, out=tmp_path / "run")
        assert (planned["method"], planned["task"]) == ("pencil", "multi")

    def test_a_test_source_whose_lists_are_all_empty(self, source, tmp_path):
        rows = [{**json.loads(line), "label": []} for line in source.read_text().splitlines()]
        test = source.with_name("empty.jsonl")
        test.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = "--test", "empty.jsonl", "none of its rows has a label"
        refuses(labelfix.plan, *words, source=source, test=test, out=tmp_path / "run")

    def test_heads_that_cannot_be(self, source, tmp_path):
        refuses(
            labelfix.scan, "--backbone cifar-net", "head=pool", source=source, method="pencil", backbone="cifar-net",
            image_size=32, out=tmp_path / "run",
        )  # fmt: skip

    def test_an_earlier_findings_column_of_a_single_source_passes_as_always(self, tmp_path):
        (tmp_path / "m.csv").write_text("file_name,label,added_labels\n0,a,x\n1,b,y\n")
        assert Manifest.read(tmp_path / "m.csv").pass_through == ("added_labels",)
