"""How right moving labels are after every epoch, and what a source says of the truth and of its splits."""

from __future__ import annotations

import json
import signal

import numpy as np
import pandas as pd
import pytest
import references
from conftest import write_digits
from digit_training import digit_labels, make_trainer, numpy
from sources import write_rows

import labelfix
from labelfix.data.known_truth import true_classes, validation_rows
from labelfix.data.manifest import Manifest
from labelfix.errors import Interrupted
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


class TestGradientTraces:
    """Figures 5 and 6 of Yi, Wang, Wu 2022: what the labels of wrong and of right rows are moved by."""

    NAMES = ("gradient_wrong_given", "gradient_wrong_true", "gradient_right")

    @staticmethod
    def told(trainer, folder, known):
        reports = train(trainer, folder, Silent(), truth=known)
        return [
            {name: report.reported[name] for name in TestGradientTraces.NAMES if name in report.reported}
            for report in reports
        ]

    @pytest.mark.parametrize("loss", ["inverse-kl", "kl"])
    @pytest.mark.parametrize("compat", ["paper", "reference"])
    def test_they_are_means_of_the_gradient_that_every_row_took(self, tmp_path, monkeypatch, loss, compat):
        given, true = digit_labels(200)
        known = np.where(np.arange(200) % 4 == 0, -1, true)
        trainer = make_trainer("pencil", given=given, epochs=12, compat=compat, classification_loss=loss)
        method, taken = trainer.method, np.full((12, 200, 10), np.nan)
        move = method._move_labels

        def watched(when, rows, log_probs, log_labels):
            f, y = (np.exp(numpy(part).astype(np.float64)) for part in (log_probs, log_labels))
            places = rows.cpu().numpy()
            taken[int(when.epoch), places] = references.pencil_label_gradients(
                f, y, given[places], loss=loss, compat=compat, rho=0.5
            )
            move(when, rows, log_probs, log_labels)

        monkeypatch.setattr(method, "_move_labels", watched)
        found = self.told(trainer, tmp_path, known)
        wrong, right = (np.flatnonzero((known >= 0) & side) for side in (given != true, given == true))
        moved = [epoch for epoch, traces in enumerate(found) if traces]
        first, length = method.settings.backbone_epochs, method.settings.labels_epochs
        assert moved == list(range(first, first + length))
        for epoch in moved:
            gradient = taken[epoch]
            wanted = (
                gradient[wrong, given[wrong]].mean(),
                gradient[wrong, true[wrong]].mean(),
                gradient[right, true[right]].mean(),
            )
            assert tuple(found[epoch][name] for name in self.NAMES) == pytest.approx(wanted, abs=2e-5)

    def test_an_epoch_that_goes_on_after_a_stop_has_the_same(self, tmp_path):
        given, true = digit_labels(200)
        whole = self.told(make_trainer("pencil", given=given, epochs=12), tmp_path / "whole", true)
        first, second = (make_trainer("pencil", given=given, epochs=12) for _ in range(2))
        stop = first.method.settings.backbone_epochs * first.steps_per_epoch + 2
        with pytest.raises(Interrupted):
            train(first, tmp_path / "part", Interrupting(stop), truth=true)
        assert first.position.step == 2
        assert self.told(second, tmp_path / "part", true) == whole

    def test_without_a_truth_or_moving_labels_there_are_none(self, tmp_path):
        given, true = digit_labels(200)
        still = make_trainer("pencil", given=given, epochs=6, label_step="0")
        assert not any(self.told(still, tmp_path / "still", true))
        assert not any(self.told(make_trainer("pencil", given=given, epochs=6), tmp_path / "unknown", None))
        assert not any(self.told(make_trainer("joint", given=given, epochs=6), tmp_path / "joint", true))

    def test_labels_that_begin_anew_at_the_end_of_an_epoch_have_none_of_it(self, tmp_path):
        given, true = digit_labels(200)
        trainer = make_trainer(
            "pencil", given=given, backbone_epochs="1", labels_epochs="2", classifier_epochs="0",
            repeats="2", average_from="0", average_until="3",
        )  # fmt: skip
        found = self.told(trainer, tmp_path, true)
        assert [bool(traces) for traces in found] == [False, True, False, True, True]


class Interrupting(Silent):
    """A reporter that presses Ctrl-C at a step."""

    def __init__(self, step):
        self.step = step

    def progress(self, stage, done, total):
        if done == self.step:
            signal.raise_signal(signal.SIGINT)
