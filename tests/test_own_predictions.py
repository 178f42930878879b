"""Predictions of somebody else's model: score_labels(), scan --pred-probs, and what is refused of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_digits
from refusals import refuses
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

import labelfix
from labelfix.accessor.rows import SUMMARY
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError

ROWS = 400


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Digits as class folders, a fifth mislabelled; given labels, truth and cross-validated predictions by row."""
    folder = tmp_path_factory.mktemp("own")
    truth = write_digits(folder / "images", ROWS, "symmetric-exclusive:0.2")
    names = sorted(path.relative_to(folder / "images").as_posix() for path in folder.glob("images/*/*.png"))
    given = np.array([int(name[0]) for name in names])
    pixels = load_digits().data[[int(name[2:6]) for name in names]] / 16
    model = LogisticRegression(C=1.0, max_iter=200)
    probs = cross_val_predict(model, pixels, given, cv=5, method="predict_proba")
    np.save(folder / "probs.npy", probs)
    return folder, given, truth, probs


def test_labels_get_better_and_each_row_is_as_in_the_table_of_a_scan(world):
    folder, given, truth, probs = world
    df = labelfix.score_labels(given, probs)
    corrected = df.corrected_label.astype(int).to_numpy()
    assert (corrected == truth).mean() > (given == truth).mean() + 0.1
    wrong, flagged = given != truth, df.is_label_issue.to_numpy()
    assert 2 * (wrong & flagged).sum() / (wrong.sum() + flagged.sum()) > 0.8
    assert df.attrs[SUMMARY]["diagnostics"]["estimate"]["finding"] == "noisy"
    assert df.attrs[SUMMARY]["diagnostics"]["controls"]["found"] > 0.5
    run = labelfix.scan(folder / "images", pred_probs=folder / "probs.npy", out=folder / "same", image_size=8)
    table = labelfix.read_corrections(run.out)
    for name in df.columns.drop("file_name"):
        pd.testing.assert_series_equal(df[name], table[name])
    assert run.classifier is None
    assert sorted(path.name for path in run.out.iterdir()) == [
        "config.json",
        "corrections.parquet",
        "summary.json",
    ]
    assert run.summary["diagnostics"]["estimate"] == df.attrs[SUMMARY]["diagnostics"]["estimate"]
    assert df.labelfix.budget(50).expected_errors > 25
    assert df.labelfix.confusion().to_numpy().sum() == ROWS


def test_the_clean_table_of_a_model_of_ones_own(world):
    """The way of the page "From cleanlab", to the end: review and export work without a classifier."""
    folder, given, truth, probs = world
    run = labelfix.scan(folder / "images", pred_probs=probs, out=folder / "run", image_size=8)
    labelfix.review(run.out, out=folder / "review.html")
    labelfix.export(run.out, to="csv", out=folder / "clean.csv")
    clean = pd.read_csv(folder / "clean.csv", dtype={"label": str}).sort_values("file_name")
    assert (clean.label.astype(int).to_numpy() == truth).mean() > (given == truth).mean() + 0.1
    facts = json.loads((run.out / "config.json").read_text())["config"]
    assert (facts["method"], facts["pred_probs"]) == ("pred-probs", None)
    assert len(facts["pred_probs_sha256"]) == 64


def test_rows_that_a_person_removed_are_not_judged_and_keep_what_the_source_says(world, tmp_path):
    folder, given, _, probs = world
    (tmp_path / "decisions.csv").write_text("sample_id,decision,label\n5,remove,\n9,remove,\n")
    options = {"pred_probs": probs, "image_size": 8, "trusted": tmp_path / "decisions.csv"}
    run = labelfix.scan(folder / "images", out=tmp_path / "run", **options)
    rows = labelfix.read_corrections(run.out).loc[[5, 9]]
    assert run.summary["counts"]["removed"] == 2
    assert run.summary["counts"]["judged"] == ROWS - 2
    assert rows.given_label.astype(int).tolist() == given[[5, 9]].tolist()
    assert rows.corrected_label.isna().all()
    assert not rows.is_label_issue.any()


def test_a_scan_of_the_current_folder_goes_beside_it_as_that_of_a_training_does(world, tmp_path, monkeypatch):
    folder, _, _, probs = world
    shutil.copytree(folder / "images", tmp_path / "pets")
    monkeypatch.chdir(tmp_path / "pets")
    planned = labelfix.plan(".", pred_probs=probs, image_size=8)
    assert planned["out"] == str(tmp_path / "runs" / "pets-pred-probs")


def test_a_dry_run_refuses_what_the_scan_refuses_of_an_unfinished_run(world, tmp_path, monkeypatch):
    folder, _, _, probs = world
    options = {"source": folder / "images", "pred_probs": probs, "image_size": 8, "out": tmp_path / "run"}
    with monkeypatch.context() as patch:
        patch.setattr("labelfix.pred_probs.conclude", lambda *_args, **_named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            labelfix.scan(**options)
    assert labelfix.plan(**options)["out"] == str(tmp_path / "run")
    for call in (labelfix.plan, labelfix.scan):
        refuses(call, "holds an unfinished run with another seed", seed=1, **options)
    labelfix.plan(**options, seed=1, overwrite=True)


def test_features_beside_predictions_tell_copies_which_are_judged_together(world, tmp_path):
    folder, given, _, probs = world
    features = np.random.default_rng(0).normal(size=(ROWS, 12))
    features[1] = features[0]
    given = given.copy()
    given[:2] = 3, 4
    df = labelfix.score_labels(given, probs, features=features)
    assert df.duplicate_group.dropna().to_dict() == {0: 0, 1: 0}
    np.testing.assert_allclose(df.label_distribution[0], df.label_distribution[1], atol=1e-6)
    assert df.outlier_score.notna().all()
    run = labelfix.scan(
        folder / "images", pred_probs=probs, features=features, image_size=8, out=tmp_path / "run"
    )
    assert labelfix.read_corrections(run.out).duplicate_group.dropna().to_dict() == {0: 0, 1: 0}


def as_list_column(probs, _):
    return pa.table({"pred_probs": list(probs)})


def as_named_columns(probs, order):
    return pa.table({str(label): probs[:, label] for label in order})


def as_prediction_file(probs, order):
    table = pa.table({"predicted_probs": pa.FixedSizeListArray.from_arrays(probs[:, order].ravel(), 10)})
    return table.replace_schema_metadata({"labelfix": json.dumps({"class_names": [str(k) for k in order]})})


@pytest.mark.parametrize("make", [as_list_column, as_named_columns, as_prediction_file])
def test_parquet_files_say_the_order_of_their_classes(world, tmp_path, make):
    _, given, _, probs = world
    pq.write_table(make(probs, np.arange(10)[::-1]), tmp_path / "probs.parquet")
    df = labelfix.score_labels(
        given.astype(str), tmp_path / "probs.parquet", class_names=[str(k) for k in range(10)]
    )
    pd.testing.assert_series_equal(df.noise_score, labelfix.score_labels(given, probs).noise_score)


def test_an_order_of_the_classes_and_a_class_without_rows(world, tmp_path):
    folder, given, _, probs = world
    order = [*range(9, -1, -1), 10]
    wide = np.c_[probs, np.zeros(ROWS)][:, order]
    np.savez(tmp_path / "p.npz", other=np.zeros(3), probs=wide)
    names = ["ten" if label == 10 else str(label) for label in order]
    (tmp_path / "order.txt").write_text("\n".join(names) + "\n")
    options = {"pred_probs": tmp_path / "p.npz", "image_size": 8, "out": tmp_path / "run"}
    run = labelfix.scan(folder / "images", class_order=tmp_path / "order.txt", **options)
    found = labelfix.read_corrections(run.out)
    assert run.summary["class_names"] == names
    assert found.given_label.astype(str).tolist() == [str(label) for label in given]
    again = labelfix.scan(folder / "images", class_order=",".join(names), overwrite=True, **options)
    assert labelfix.read_corrections(again.out).noise_score.tolist() == found.noise_score.tolist()


def test_names_of_classes_and_labels_are_taken_as_scikit_learn_and_pandas_hold_them():
    names = np.array(["ape", "bee", "cow"])
    probs, labels = np.eye(3)[np.arange(30) % 3] * 0.8 + 0.2 / 3, names[np.arange(30) % 3]
    wanted = labelfix.score_labels(labels.tolist(), probs, class_names=names.tolist())
    for given, classes in (
        (labels, names),
        (labels, pd.Index(names)),
        (pd.DataFrame({"label": labels}), names),
    ):
        found = labelfix.score_labels(given, probs, class_names=classes)
        pd.testing.assert_frame_equal(found, wanted)


def test_integers_without_rows_of_every_class_are_indices_and_missing_labels_are_predicted():
    probs = np.full((30, 4), 0.05)
    probs[np.arange(30), np.arange(30) % 3] = 0.85
    labels = [*(np.arange(29) % 3).tolist(), -1]
    df = labelfix.score_labels(labels, probs)
    assert df.attrs["labelfix"]["class_names"] == ["0", "1", "2", "3"]
    assert pd.isna(df.given_label[29])
    assert pd.isna(df.noise_score[29])
    assert df.corrected_label[29] == "2"
    assert not df.is_label_issue[29]


@pytest.mark.parametrize("as_mask", [True, False])
def test_verified_rows_are_never_flagged(world, as_mask):
    _, given, truth, probs = world
    worst = labelfix.score_labels(given, probs).labelfix.top(5).index.to_numpy()
    trusted = np.isin(np.arange(ROWS), worst) if as_mask else [None] * ROWS
    if not as_mask:
        for row in worst:
            trusted[row] = str(truth[row])
    df = labelfix.score_labels(given, probs, trusted=trusted).loc[worst]
    assert df.is_trusted.all()
    assert not df.is_label_issue.any()
    expected = given[worst] if as_mask else truth[worst]
    assert df.corrected_label.astype(int).tolist() == expected.tolist()


def test_features_of_a_table_without_images(tmp_path):
    """Text, audio, anything: its other columns pass through, and its rows go by their id, or their number."""
    pixels = load_digits().data[:ROWS]
    labels = load_digits().target[:ROWS] * (np.arange(ROWS) % 10 > 0)  # a tenth called 0
    pd.DataFrame({"label": labels, "text": [f"note {row}" for row in range(ROWS)]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    np.save(tmp_path / "features.npy", pixels)
    run = labelfix.scan(
        tmp_path / "list.csv", features=tmp_path / "features.npy", no_images=True, out=tmp_path / "run"
    )
    df = labelfix.read_corrections(run.out)
    assert df.attrs["labelfix"]["out_of_sample"]
    assert df.text[3] == "note 3"
    assert df.file_name[3] == "row-000000003"
    wrong = labels != load_digits().target[:ROWS]
    assert df.is_label_issue[wrong].mean() > 0.8
    assert not (run.out / "classifier").exists()
    again = labelfix.score_labels(labels, features=pixels)
    pd.testing.assert_series_equal(again.noise_score, df.noise_score)
    assert again.labelfix.budget(10).expected_errors > 5
    labelfix.review(run.out)
    labelfix.export(run.out, to="jsonl")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "frame"])
def test_tables_without_images_name_their_rows_by_what_they_have(tmp_path, kind):
    table = pd.DataFrame({"path": ["a.txt", "a.txt", ""], "class": ["x", "y", "x"], "n": [1, 2, 3]})
    source = tmp_path / f"list.{kind}"
    if kind == "csv":
        table.to_csv(source, index=False)
    elif kind == "jsonl":
        table.to_json(source, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(source)
    manifest = Manifest.read(table if kind == "frame" else source, has_images=False)
    assert manifest.file_names().to_pylist() == ["a.txt", "a-000000001.txt", "row-000000002"]
    assert manifest.images(0, 3) == [None] * 3
    assert manifest.pass_through == ("n",)
    assert (
        Manifest.read(table.drop(columns="path"), has_images=False).file_names().to_pylist()[1]
        == "row-000000001"
    )


def some(rows=4, classes=2):
    return np.full((rows, classes), 1 / classes)


def changed(row, values):
    probs = some()
    probs[row] = values
    return probs


LABELS = ["a", "b", "a", "b"]
BAD = [
    (LABELS, some(3), {}, "probs has 3 rows, but there are 4 labels"),
    (LABELS, some(4, 3), {}, "there are 2 classes ('a', 'b'), but 3 columns"),
    (LABELS, some()[:, 0], {}, "probs has the shape (4,)"),
    (LABELS, changed(2, [0.5, 0.2]), {}, "row 2 sums to 0.7, not to 1"),
    (LABELS, changed(1, [np.nan, 1]), {}, "row 1 holds a number that is not finite"),
    (
        LABELS,
        changed(3, [-2.5, 3.5]),
        {},
        "row 3 holds -2.5, which is no probability; of logits give the softmax",
    ),
    (LABELS, np.full((4, 2), "x"), {}, "probs holds <U1; give numbers"),
    (LABELS, [[0.5, 0.5], [1.0]] * 2, {}, "give an array (N, D)"),
    (LABELS, some(), {"class_names": ["a", "c"]}, "row 1 has 'b', which is no class ('a', 'c')"),
    (LABELS, some(), {"class_names": ["a", "a"]}, "not at least two different names"),
    ([None] * 4, some(), {}, "labels: none is given"),
    (LABELS, None, {}, "probs and features: neither is given"),
    (LABELS, some(), {"groups": LABELS}, "groups: with probs nothing is trained"),
    (LABELS, some(), {"features": some(3)}, "features has 3 rows, but there are 4 labels"),
    (LABELS, None, {"features": some(3)}, "--features has 3 rows, but there are 4 labels"),
    (LABELS, None, {"features": changed(2, [np.inf, 0])}, "row 2 holds a number that is not finite"),
    (LABELS, some(), {"trusted": [True]}, "trusted: it has 1 entries, but there are 4 labels"),
    (LABELS, some(), {"trusted": ["a", "z", None, None]}, "trusted: row 1 has 'z', which is no class"),
]


@pytest.mark.parametrize(("labels", "probs", "options", "message"), BAD, ids=[case[3][:40] for case in BAD])
def test_what_is_no_distribution_over_the_classes_is_one_line(labels, probs, options, message):
    with pytest.raises(InputError) as caught:
        labelfix.score_labels(labels, probs, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
