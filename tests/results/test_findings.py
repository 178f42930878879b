"""From verified and held-out rows to what a scan writes of them, and what is measured on them, on real digits."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from memory_data import digit_arrays, hub
from processes import kill
from refusals import refuses
from runs import findings_of, result_bytes, table, weights_of, write
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.data.images.decoding import encode
from labelfix.reporting import Silent
from labelfix.scan_plan import ScanPlan

# fp32, as the saved classifier computes, so that accuracies are the same to the row.
QUICK = {"epochs": 3, "batch_size": 64, "image_size": 8, "precision": "fp32"}


def scan(source, out, **options):
    return labelfix.scan(source, out=out, **{**QUICK, **options})


def accuracies(run, name: str) -> list[float]:
    return pd.read_parquet(run.out / "epochs.parquet")[f"{name}_accuracy"].tolist()


def is_null(value) -> bool:
    return value is None or (np.isscalar(value) and bool(pd.isna(value)))


OF_THE_METHOD = [
    "noise_score", "label_score", "corrected_confidence", "label_distribution", "predicted_label", "predicted_probs",
]  # fmt: skip


# ---------------------------------------------------------------- the kinds of rows

EQUAL, DIFFERENT, NO_LABEL, INVALID, INVALID_NO_LABEL, SKIPPED = 10, 11, 12, 13, 14, 15
UNLABELLED, UNTRUSTED_INVALID = 20, 21


@pytest.fixture(params=["sample_id", "file_name"])
def verified(request, tmp_path):
    """A scan with every kind of row, its trusted file by either key: findings, run, verified labels by row."""
    frame, _ = table(tmp_path)
    frame.loc[[NO_LABEL, INVALID_NO_LABEL, UNLABELLED], "label"] = ""
    for row in (INVALID, INVALID_NO_LABEL, UNTRUSTED_INVALID):
        (tmp_path / frame.file_name[row]).write_text("no image")
    frame.loc[[EQUAL, DIFFERENT, INVALID], "label"] = ["3", "4", "5"]
    labels = {EQUAL: "3", DIFFERENT: "7", NO_LABEL: "8", INVALID: "6", INVALID_NO_LABEL: "2"}
    words = ["keep", "change", "accept", "change", "change", "skip"]
    rows = [*labels, SKIPPED]
    file = pd.DataFrame({"label": [*labels.values(), "no class"], "decision": words, "sample_id": rows})
    if request.param == "file_name":
        file["file_name"] = frame.file_name[rows].tolist()
        file = file.drop(columns="sample_id")
    run = scan(write(tmp_path, frame), tmp_path / "run", trusted=write(tmp_path, file, "decisions.csv"))
    return findings_of(run), run, labels


def test_every_kind_of_row_is_written_as_the_contract_states(verified):
    df, _, labels = verified
    assert df.index[df.is_trusted].tolist() == sorted(labels)
    assert df.corrected_label[list(labels)].tolist() == list(labels.values())
    for row, score in ((EQUAL, 0), (DIFFERENT, 1), (NO_LABEL, None)):
        found = df.loc[row]
        one_hot = np.eye(10, dtype=np.float32)[int(labels[row])]
        np.testing.assert_array_equal(found.label_distribution, one_hot)
        assert found.corrected_confidence == 1
        assert found.is_valid
        assert not is_null(found.predicted_label)
        if score is None:
            assert found[["noise_score", "label_score", "given_label"]].isna().all()
        else:
            assert (found.noise_score, found.label_score) == (score, 1 - score)
    for row in (INVALID, INVALID_NO_LABEL, UNTRUSTED_INVALID):
        assert not df.is_valid[row]
        assert df.error[row]
        assert all(is_null(df.loc[row, name]) for name in OF_THE_METHOD)
    assert df.corrected_label[UNTRUSTED_INVALID] == df.given_label[UNTRUSTED_INVALID]
    unlabelled = df.loc[UNLABELLED]
    assert is_null(unlabelled.noise_score)
    assert is_null(unlabelled.label_score)
    assert unlabelled.corrected_label == unlabelled.predicted_label
    np.testing.assert_array_equal(unlabelled.label_distribution, unlabelled.predicted_probs)
    special = [*labels, UNLABELLED, UNTRUSTED_INVALID]
    assert not df.is_label_issue[special].any()
    ordinary = df.drop(index=special)
    assert SKIPPED in ordinary.index
    assert ordinary.noise_score.between(0, 1).all()
    changed = ordinary.corrected_label != ordinary.given_label
    assert ordinary.is_label_issue[changed].all()


def test_rates_counts_and_evaluation_leave_trusted_rows_out(verified, tmp_path):
    df, run, labels = verified
    eligible = df[df.is_valid & df.given_label.notna() & ~df.is_trusted]
    assert len(eligible) == 240 - len(labels) - 2
    changed = (eligible.corrected_label != eligible.given_label).sum()
    assert run.summary["counts"] == {
        "rows": 240, "judged": len(eligible), "flagged": df.is_label_issue.sum(), "corrected": changed,
        "unlabelled": 3, "removed": 0, "invalid": 3, "trusted": len(labels), "held_out": 0,
    }  # fmt: skip
    assert run.summary["noise_rate"] == pytest.approx(eligible.noise_score.mean(), abs=1e-6)
    assert df.attrs["labelfix"]["noise_rate"] == run.summary["noise_rate"]
    by_class = eligible.groupby("given_label").noise_score.mean()
    for name in by_class.index:
        assert run.summary["noise_rate_by_class"][name] == pytest.approx(by_class[name], abs=1e-6)
    truth = pd.DataFrame({"file_name": df.file_name, "label": load_digits().target[:240]})
    result = labelfix.evaluate(run.out, truth=write(tmp_path, truth, "truth.csv"))
    assert result["rows_evaluated"] == len(eligible)


def test_the_column_is_trusted_marks_given_labels_as_verified(tmp_path):
    frame, _ = table(tmp_path)
    (tmp_path / frame.file_name[7]).write_text("no image")
    marked = frame.assign(is_trusted=np.where(frame.index < 60, "yes", ""))
    run = scan(write(tmp_path, marked), tmp_path / "run")
    df = findings_of(run)
    assert df.index[df.is_trusted].tolist() == list(range(60))
    assert (df.corrected_label[:60] == df.given_label[:60]).all()
    assert not df.is_label_issue[:60].any()
    assert (df.noise_score[:60].drop(7) == 0).all()
    assert df.noise_score[60:].gt(0).any()
    eligible = df[60:].noise_score
    assert run.summary["noise_rate"] == pytest.approx(eligible.mean(), abs=1e-6)
    assert run.summary["counts"]["judged"] == 180


def test_trusted_rows_are_trained_on_with_their_verified_label(tmp_path):
    """The same network as where the source itself says so, and another one than with the given labels."""
    frame, true = table(tmp_path)
    # With one more, half of the file would be kept for scoring.
    wrong = np.flatnonzero(frame.label != true)[:19]
    file = pd.DataFrame({"sample_id": wrong, "label": true[wrong]})
    trusted = write(tmp_path, file, "trusted.csv")
    # Verified rows are never held out; the same labels in the source might be.
    trusted = scan(write(tmp_path, frame), tmp_path / "a", trusted=trusted, holdout=0)
    plain = scan(write(tmp_path, frame), tmp_path / "b", holdout=0)
    frame.loc[wrong, "label"] = true[wrong]
    same = scan(write(tmp_path, frame), tmp_path / "c", holdout=0)
    assert weights_of(trusted) == weights_of(same) != weights_of(plain)
    reported = trusted.summary["diagnostics"]["calibration"]
    assert not reported["is_calibrated"]
    assert reported["reason"].startswith("not calibrated: that takes a --trusted file with 20 or more labels")


def test_the_accuracy_on_trusted_rows_is_reported_for_every_epoch(tmp_path):
    frame, true = table(tmp_path)
    (tmp_path / frame.file_name[3]).write_text("no image")
    file = pd.DataFrame({"file_name": frame.file_name[:50], "label": true[:50]})
    trusted = write(tmp_path, file[file.index % 2 == 1], "trusted.csv")
    run = scan(write(tmp_path, frame), tmp_path / "run", trusted=trusted)
    df = findings_of(run)
    right = df.predicted_label == df.corrected_label
    assert len(accuracies(run, "trusted")) == 3
    assert accuracies(run, "trusted")[-1] == pytest.approx(right[df.is_trusted & df.is_valid].mean())
    assert run.summary["trusted_accuracy"] == accuracies(run, "trusted")[-1]
    assert "test_accuracy" not in run.summary


# ---------------------------------------------------------------- trusted rows that are kept for scoring


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two scans: 160 verified rows, and the same source where the trained half of them has its labels already."""
    folder = tmp_path_factory.mktemp("scored")
    frame, true = table(folder, 300, "symmetric-exclusive:0.3")
    file = pd.DataFrame({"sample_id": range(160), "label": true[:160]})
    kept = np.concatenate([np.flatnonzero(true[:160] == name)[1::2] for name in np.unique(true)])
    options = {"method": "cross-entropy", "epochs": 6, "holdout": 0}
    trusted = write(folder, file, "trusted.csv")
    given = frame.label.to_numpy(object)
    given[:160] = np.where(np.isin(np.arange(160), kept), given[:160], true[:160])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        run = scan(write(folder, frame), folder / "run", trusted=trusted, **options)
        plain = scan(write(folder, frame.assign(label=given), "same.csv"), folder / "plain", **options)
    return run, plain, kept, (frame.label.to_numpy(object) != true)


def test_flags_and_corrections_are_measured_on_that_half(scored):
    run, plain, kept, wrong = scored
    reported = run.summary["diagnostics"]["trusted"]
    assert (reported["rows"], reported["wrong"]) == (len(kept), wrong[kept].sum())
    assert 0 < reported["flagged"] < len(kept)
    found = reported["precision"] * reported["flagged"]
    assert found == pytest.approx(round(found))
    assert found == pytest.approx(reported["recall"] * reported["wrong"])
    assert reported["precision"] > 2 * wrong[kept].mean()
    assert reported["label_accuracy_given"] == pytest.approx(1 - wrong[kept].mean())
    assert reported["label_accuracy_corrected"] >= reported["label_accuracy_given"]
    assert "trusted" not in plain.summary["diagnostics"]


def test_half_of_the_file_is_trained_with_its_given_label(scored):
    run, plain, _, _ = scored
    assert weights_of(run) == weights_of(plain)
    df = findings_of(run)
    assert df.index[df.is_trusted].tolist() == list(range(160))
    assert not df.is_label_issue[:160].any()


def test_noise_scores_are_calibrated_on_that_half(scored):
    run, plain, kept, wrong = scored
    reported = run.summary["diagnostics"]["calibration"]
    assert reported["is_calibrated"]
    counted = f"{len(kept)} verified rows, {wrong[kept].sum()} of them wrongly labelled"
    assert reported["reason"] == f"calibrated on {counted}"
    assert reported["brier_after"] < reported["brier_before"]
    # The scores of all other rows went through one rising curve: about those of the same scan without it.
    pair = [findings_of(each).noise_score[160:].to_numpy(float) for each in (run, plain)]
    assert spearmanr(*pair).statistic > 0.95
    assert np.abs(pair[0] - pair[1]).max() > 0.05


# ---------------------------------------------------------------- rows of a test split


def with_split(frame: pd.DataFrame, held_out) -> pd.DataFrame:
    return frame.assign(split=np.where(held_out, "test", "train"))


def test_rows_of_a_split_are_never_trained_on_and_are_scored(tmp_path):
    frame, _ = table(tmp_path)
    held_out = np.arange(240) % 4 == 1
    first = scan(write(tmp_path, with_split(frame, held_out)), tmp_path / "a", epochs=12)
    other = frame.label.where(~held_out, ((frame.label.astype(int) + 1) % 10).astype(str))
    second = scan(write(tmp_path, with_split(frame.assign(label=other), held_out)), tmp_path / "b", epochs=12)
    assert weights_of(first) == weights_of(second)
    one, two = findings_of(first), findings_of(second)
    pd.testing.assert_frame_equal(one[~held_out], two[~held_out])
    assert one.noise_score.notna().all()
    assert two.noise_score[held_out].mean() > one.noise_score[held_out].mean()
    assert first.summary["counts"]["held_out"] == 60
    assert one.split.tolist() == with_split(frame, held_out).split.tolist()
    eligible = one[one.given_label.notna()]
    assert first.summary["noise_rate"] == pytest.approx(eligible.noise_score.mean(), abs=1e-6)


def test_a_split_serves_as_test_and_its_verified_labels_count(tmp_path):
    frame, true = table(tmp_path)
    held_out = np.arange(240) % 4 == 1
    frame.loc[5, "label"] = ""
    file = pd.DataFrame({"sample_id": np.arange(1, 40, 4), "label": true[1:40:4]})
    trusted = write(tmp_path, file, "trusted.csv")
    run = scan(write(tmp_path, with_split(frame, held_out)), tmp_path / "run", trusted=trusted)
    df = findings_of(run)
    label = df.corrected_label.where(df.is_trusted, df.given_label)
    expected = (df.predicted_label == label)[held_out & label.notna()].mean()
    assert len(accuracies(run, "test")) == 3
    assert accuracies(run, "test")[-1] == pytest.approx(expected)
    assert run.summary["test_accuracy"] == accuracies(run, "test")[-1]


def test_rows_of_a_split_are_read_as_rows_that_training_left_out(tmp_path):
    """Wrong labels among them are found as well as elsewhere, with the noise that all rows show."""
    frame, true = table(tmp_path, 600, "symmetric-exclusive:0.3")
    held = np.arange(600) % 5 == 1
    options = {"epochs": 12, "method": "cross-entropy", "settings": {"score_from": "trajectory"}}
    run = scan(write(tmp_path, with_split(frame, held)), tmp_path / "run", **options)
    df, wrong = findings_of(run), (frame.label != true).to_numpy()
    assert average_precision_score(wrong[held], df.noise_score[held]) > 0.7
    assert df.is_label_issue[held & wrong].mean() > 0.5 > 0.2 > df.is_label_issue[held & ~wrong].mean()


class Listening(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


def test_an_accuracy_against_labels_that_are_known_to_be_wrong_says_so(tmp_path):
    """A column true_label beside the test labels tells; without it nobody knows."""
    frame, true = table(tmp_path)
    held_out = np.arange(240) % 4 == 1
    split = with_split(frame, held_out)
    wrong = int((frame.label.to_numpy(object) != true)[held_out].sum())
    assert wrong > 5
    counted = {}
    for name, source in {
        "known": split.assign(true_label=true),
        "right": split.assign(true_label=frame.label),
        "unknown": split,
    }.items():
        heard = Listening()
        run = scan(write(tmp_path, source, f"{name}.csv"), tmp_path / name, reporter=heard, epochs=2)
        counted[name] = run.summary["test_labels_wrong"]
        warned = [text for text in heard.said if "test_accuracy is measured against wrong labels" in text]
        assert [text.split()[1] for text in warned] == ([str(wrong)] if name == "known" else [])
    assert counted == {"known": wrong, "right": 0, "unknown": None}
    card = (tmp_path / "known" / "classifier" / "README.md").read_text()
    assert f"by labels of which {wrong} are known to be wrong" in card


def test_the_labels_of_a_test_source_are_compared_too_and_strange_images_count(tmp_path, digits):
    write_test(tmp_path / "test")
    names = sorted(str(p.relative_to(tmp_path / "test")) for p in (tmp_path / "test").rglob("*.png"))
    test = pd.DataFrame({"file_name": names, "label": [name[0] for name in names]})
    test["true_label"], test["is_corrupted"] = test.label, False
    test.loc[:4, "true_label"] = ["9", "9", "9", "", ""]
    test.loc[3, "is_corrupted"] = True  # of no class; of the fifth nothing is known
    options = {"test": write(tmp_path, test, "test.csv"), "root": tmp_path / "test"}
    source = pd.DataFrame({"file_name": sorted(map(str, digits[0].rglob("*.png")))})
    source["label"] = [path.split("/")[-2] for path in source.file_name]
    planned = ScanPlan.of(source, {**QUICK, **options, "out": tmp_path / "run"}, Silent())
    assert (test.label[:3] != "9").all()
    assert planned.wrong_test_labels == 4


# ---------------------------------------------------------------- --test


def write_test(folder, rows=range(300, 380)):
    """Digits that no scan here has, as class folders; their images and labels in row order."""
    images, target = digit_arrays(400, "symmetric:0")
    for row in rows:
        path = folder / str(target[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(images[row]))
    return images[list(rows)], [str(target[row]) for row in rows]


def rightly_predicted(run, folder) -> dict[int, bool]:
    """By the saved classifier, for each row that `write_test` wrote."""
    files = sorted(folder.rglob("*.png"))
    guess = labelfix.load_classifier(run.classifier).predict(files).predicted_label
    return {int(path.stem): label == path.parent.name for path, label in zip(files, guess, strict=True)}


def test_the_accuracy_on_a_test_source_is_that_of_the_saved_classifier(tmp_path, digits):
    images, labels = write_test(tmp_path / "test")
    run = scan(digits[0], tmp_path / "run", test=tmp_path / "test")
    right = rightly_predicted(run, tmp_path / "test")
    assert len(accuracies(run, "test")) == 3
    assert accuracies(run, "test")[-1] == pytest.approx(np.mean(list(right.values())))
    assert run.summary["test_accuracy"] == accuracies(run, "test")[-1]
    # Rows without a label or a readable image do not count.
    in_memory = scan(digits[0], tmp_path / "memory", test=(images, [None] * 40 + labels[40:]))
    labelled = np.mean([right[row] for row in range(340, 380)])
    assert accuracies(in_memory, "test")[-1] == pytest.approx(labelled)
    (tmp_path / "test" / "3" / "broken.png").write_text("no image")
    with_broken = scan(digits[0], tmp_path / "broken", test=tmp_path / "test")
    assert accuracies(with_broken, "test") == accuracies(run, "test")
    plain = scan(digits[0], tmp_path / "plain")
    assert result_bytes(run.out) == result_bytes(plain.out) == result_bytes(in_memory.out)
    assert plain.summary["forward_units_per_row"] == run.summary["forward_units_per_row"]


def test_a_test_source_comes_before_the_rows_of_a_split(tmp_path):
    write_test(tmp_path / "test")
    frame, _ = table(tmp_path)
    source = write(tmp_path, with_split(frame, np.arange(240) < 40))
    both = scan(source, tmp_path / "a", test=tmp_path / "test")
    alone = scan(source, tmp_path / "b")
    assert weights_of(both) == weights_of(alone)
    right = rightly_predicted(both, tmp_path / "test")
    assert accuracies(both, "test")[-1] == pytest.approx(np.mean(list(right.values())))
    assert accuracies(both, "test") != accuracies(alone, "test")


def test_where_a_test_sources_columns_and_paths_are_looked_for(tmp_path, digits):
    write_test(tmp_path / "test")
    names = sorted(str(p.relative_to(tmp_path / "test")) for p in (tmp_path / "test").rglob("*.png"))
    usual = pd.DataFrame({"file_name": names, "label": [name[0] for name in names]})
    own = usual.rename(columns={"file_name": "picture", "label": "kind"})
    own = own.assign(label="0", path="nowhere.png")
    (tmp_path / "shards").mkdir()
    usual.to_parquet(tmp_path / "shards" / "0.parquet")
    source = pd.DataFrame({"picture": sorted(map(str, digits[0].rglob("*.png")))})
    source["kind"] = [path.split("/")[-2] for path in source.picture]
    columns = {"image_column": "picture", "label_column": "kind"}
    folders = {"root": tmp_path / "test", "out": tmp_path / "run"}
    mixed = usual.rename(columns={"file_name": "picture"})
    files = (tmp_path / "shards", write(tmp_path, usual, "usual.csv"), write(tmp_path, own))
    for test in (usual, own, mixed, *files):
        found = ScanPlan.of(source, {**QUICK, **columns, **folders, "test": test}, Silent()).test
        assert [found.class_names[label] for label in found.given] == usual.label.tolist()
        assert found.images(0, 1) == [tmp_path / "test" / names[0]]


def test_a_class_of_the_test_source_that_no_row_has_does_no_harm(tmp_path, digits):
    images, labels = write_test(tmp_path / "test", range(300, 330))
    names = ["none of ours", *(str(k) for k in range(10))]
    test = hub(images, [int(label) + 1 for label in labels], names)
    assert scan(digits[0], tmp_path / "run", test=test).summary["test_accuracy"] > 0


def test_a_test_source_that_no_one_can_read_is_refused(tmp_path, digits):
    for name in ("3/a.png", "4/b.png"):
        (tmp_path / "test" / name).parent.mkdir(parents=True)
        (tmp_path / "test" / name).write_text("no image")
    options = {"source": digits[0], "out": tmp_path / "run", "test": tmp_path / "test"}
    refuses(scan, "--test test: none of its labelled images can be read", **options)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- resuming

COMMAND = ("scan", "list.csv", "--out", "run", "--trusted", "trusted.csv", "--test", "test")
OPTIONS = ("--epochs", "3", "--batch-size", "64", "--image-size", "8", "--precision", "fp32")


def test_a_killed_run_resumes_with_the_same_inputs_and_refuses_others_by_name(tmp_path):
    frame, true = table(tmp_path)
    source = write(tmp_path, frame.assign(is_trusted=np.where(frame.index < 9, "1", "")))
    trusted = write(tmp_path, pd.DataFrame({"sample_id": [20, 21], "label": true[20:22]}), "trusted.csv")
    write_test(tmp_path / "test")
    kill("train", 12, *COMMAND, *OPTIONS, cwd=tmp_path)
    assert (tmp_path / "run" / "checkpoint").exists()
    options = {"out": tmp_path / "run", "trusted": trusted, "test": tmp_path / "test"}

    def refused(what: str, **changes) -> None:
        words = f"holds an unfinished run with another {what};"
        refuses(scan, words, source=source, **{**options, **changes})

    refused("--trusted file", trusted=None)
    refused("set of images or labels in --test", test=None)
    more, texts = tmp_path / "test" / "0" / "more.png", [source.read_text(), trusted.read_text()]
    more.write_bytes(b"x")
    refused("set of images or labels in --test")
    more.unlink()
    trusted.write_text("sample_id,label\n20,1\n")
    refused("--trusted file")
    source.write_text(texts[0].replace(",1\n", ",\n", 1))
    refused("is_trusted, split or group column in SOURCE, --trusted file")
    source.write_text(texts[0])
    # What a file holds counts, not where it lies or when it was written.
    moved = tmp_path / "moved.csv"
    moved.write_text(texts[1])
    resumed = scan(source, **{**options, "trusted": moved})
    whole = scan(source, **{**options, "trusted": moved, "out": tmp_path / "whole"})
    assert result_bytes(resumed.out) == result_bytes(whole.out)
    for name in ("test", "trusted"):
        assert accuracies(resumed, name) == accuracies(whole, name)
    reported = json.loads((resumed.out / "config.json").read_text())
    assert reported["files"]["trusted"] == str(moved)
    assert reported["files"]["test"]["source"] == str(tmp_path / "test")
    assert not reported["resumed_elsewhere"]
