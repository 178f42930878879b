"""How right moving labels are after every epoch, and what a source says of the truth and of its splits."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from conftest import write_digits
from digit_training import digit_labels, make_trainer
from sources import write_rows

import labelfix
from labelfix.data.known_truth import true_classes, validation_rows
from labelfix.data.manifest import Manifest
from labelfix.reporting import Silent
from labelfix.training.resume import train


@pytest.mark.parametrize(("name", "labels"), [("pencil", "label_logits"), ("joint", "targets")])
def test_the_curve_is_that_of_the_labels_trained_towards(tmp_path, name, labels):
    given, true = digit_labels(200)
    known = np.where(np.arange(200) % 4 == 0, -1, true)
    rows = known >= 0
    trainer = make_trainer(name, given=given, epochs=12, when_weak="go")
    reports = train(trainer, tmp_path, Silent(), truth=known)
    curve = [report.reported["label_accuracy"] for report in reports]
    # Labels are the given ones to begin with, then others.
    assert curve[0] == pytest.approx((given == true)[rows].mean())
    assert curve[-1] != curve[0]
    last = getattr(trainer.method, labels).argmax(dim=1).cpu().numpy()
    assert curve[-1] == pytest.approx((last == true)[rows].mean())


def test_a_scan_measures_it_on_the_column_true_label_alone(tmp_path, cache):
    true = write_digits(tmp_path / "images", 60)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    given = (true + (np.arange(60) % 3 == 0)) % 10
    table = pd.DataFrame({"file_name": names, "label": given, "true_label": true})
    for name, columns in (("with", table), ("without", table.drop(columns="true_label"))):
        columns.to_csv(tmp_path / f"{name}.csv", index=False)
        options = {"method": "joint", "epochs": 3, "device": "cpu", "encoder": "none", "holdout": 0}
        labelfix.scan(tmp_path / f"{name}.csv", out=tmp_path / name, **options)
    epochs = pd.read_parquet(tmp_path / "with" / "epochs.parquet")
    assert epochs["label_accuracy"].tolist()[0] == pytest.approx(40 / 60)
    other = pd.read_parquet(tmp_path / "without" / "epochs.parquet")
    assert "label_accuracy" not in other
    # The truth is looked at, and nothing learns from it.
    learned = [name for name in other if name.startswith("loss_")]
    assert epochs[learned].equals(other[learned])
    summary = json.loads((tmp_path / "with" / "summary.json").read_text())
    assert summary["label_accuracy"] == epochs["label_accuracy"].iloc[-1]


def test_true_classes_follow_the_classes_of_the_source(tmp_path):
    rows = [
        {"path": f"{place}.png", "label": label, "true_label": true}
        for place, (label, true) in enumerate([("a", "b"), ("b", ""), ("a", "stranger"), ("b", " a ")])
    ]
    manifest = Manifest.read(write_rows(tmp_path / "x.csv", rows))
    assert true_classes(manifest).tolist() == [1, -1, -1, 0]
    merged = Manifest.read(tmp_path / "x.csv", class_map={"stranger": "b"})
    assert true_classes(merged).tolist() == [1, -1, 1, 0]
    without = [{name: value for name, value in row.items() if name != "true_label"} for row in rows]
    assert true_classes(Manifest.read(write_rows(tmp_path / "y.csv", without))) is None


def test_validation_rows_are_held_out_and_of_no_test(tmp_path):
    splits = ["train", "test", "Val", "testing", "dev", "validation ", ""]
    rows = [
        {"path": f"{place}.png", "label": "ab"[place % 2], "split": split}
        for place, split in enumerate([*splits, "train"])
    ]
    manifest = Manifest.read(write_rows(tmp_path / "x.csv", rows))
    assert np.flatnonzero(validation_rows(manifest)).tolist() == [2, 4, 5]
