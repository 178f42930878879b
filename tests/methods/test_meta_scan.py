"""Scans with a method that learns from trusted samples: from the --trusted file to the table, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from refusals import refuses

import labelfix
from labelfix.cli import main
from labelfix.reporting import Silent
from labelfix.scan_plan import ScanPlan


def trusted_file(digits, of_each=3, without=()):
    """A file that verifies the first images of each true class, but of some."""
    folder, truth = digits
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    rows = [
        row for label in range(10) for row in np.flatnonzero(truth == label)[:of_each] if label not in without
    ]
    path = folder.parent / "trusted.csv"
    path.write_text("file_name,label\n" + "".join(f"{names[row]},{truth[row]}\n" for row in rows))
    return path, rows


def scan(digits, tmp_path, **options):
    return labelfix.scan(
        digits[0], method="meta", out=tmp_path / "run", settings={"batch_size": "50"}, **options
    )


def test_trusted_samples_teach_and_are_taken_over(digits, tmp_path):
    path, rows = trusted_file(digits)
    run = scan(digits, tmp_path, epochs=3, trusted=path, holdout=0)
    table = pq.read_table(run.corrections).to_pandas()
    assert table.is_trusted.to_numpy().nonzero()[0].tolist() == sorted(rows)
    assert (table.corrected_label[rows].astype(int) == digits[1][rows]).all()
    others = table[~table.is_trusted]
    assert others.noise_score.between(0, 1).all()
    assert others.noise_score.nunique() > 200
    # The trusted rows are no rows of the training: its passes are those of the others.
    assert run.summary["forward_units_per_row"] == pytest.approx(2 * 3 + 22, rel=0.02)
    epochs = pq.read_table(tmp_path / "run" / "epochs.parquet").to_pandas()
    assert epochs.phase.tolist() == ["warmup", "warmup", "meta"]
    assert epochs.kept_share.isna().tolist() == [True, True, False]
    assert epochs.trusted_accuracy.between(0, 1).all()


def test_the_exported_classifier_has_the_averaged_weights(digits, tmp_path):
    run = scan(digits, tmp_path, epochs=2, trusted=trusted_file(digits)[0])
    table = labelfix.read_corrections(run.corrections)
    found = labelfix.load_classifier(run.classifier).predict(sorted(digits[0].rglob("*.png"))[:20])
    assert found.predicted_label.tolist() == table.predicted_label[:20].astype(str).tolist()


def test_folds_hold_no_trusted_row_out(digits, tmp_path):
    path, rows = trusted_file(digits)
    run = scan(digits, tmp_path, epochs=1, trusted=path, folds=2)
    table = pq.read_table(run.corrections).to_pandas()
    assert table.noise_score[~table.is_trusted].notna().all()
    assert (table.corrected_label[rows].astype(int) == digits[1][rows]).all()


def test_the_plan_knows_what_a_step_costs(digits, tmp_path):
    path, _ = trusted_file(digits)
    plan = labelfix.plan(digits[0], method="meta", epochs=2, trusted=path, out=tmp_path / "run", holdout=0)
    assert plan["forward_units_per_row"] == 3 + 22


def verified_half(digits, of_each=12):
    """A source of the digits with a third of them under another class, and a file that verifies some of each class."""
    folder, truth = digits
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    given = np.where(np.arange(len(truth)) % 3 == 0, (truth + 1) % 10, truth)
    source = folder.parent / "noisy.csv"
    pd.DataFrame({"file_name": names, "label": given}).to_csv(source, index=False)
    rows = np.concatenate([np.flatnonzero(truth == label)[:of_each] for label in range(10)])
    assert (given[rows] != truth[rows]).sum() >= 20
    file = folder.parent / "verified.csv"
    pd.DataFrame({"sample_id": rows, "label": truth[rows]}).to_csv(file, index=False)
    return source, file, folder, rows


@pytest.mark.parametrize(("asked", "share"), [(None, 1), (False, 1), (True, 0.5)])
def test_all_verified_rows_are_learned_from_unless_some_are_wanted_to_check_on(
    digits, tmp_path, asked, share
):
    source, file, root, rows = verified_half(digits)
    options = {
        "method": "meta",
        "trusted": file,
        "root": root,
        "out": tmp_path / "run",
        "check_trusted": asked,
    }
    planned = ScanPlan.of(source, options, Silent())
    labels, stream = planned.training_labels(np.ones(planned.manifest.num_rows, dtype=bool))
    assert (stream >= 0).sum() == share * len(rows)
    assert (labels[rows] >= 0).sum() == (1 - share) * len(rows)  # with their given label, as ordinary rows
    assert planned.config.check_trusted is (asked is True)


def test_other_methods_check_on_half_of_it_unless_one_says_no(digits, tmp_path):
    source, file, root, rows = verified_half(digits)
    options = {"method": "bmm", "trusted": file, "root": root, "out": tmp_path / "run"}
    for asked, share in ((None, 0.5), (True, 0.5), (False, 0)):
        planned = ScanPlan.of(source, {**options, "check_trusted": asked}, Silent())
        assert planned.trusted.is_scored.sum() == share * len(rows)


def test_a_check_that_cannot_be_made_is_refused_or_said(digits, tmp_path, capsys, monkeypatch):
    refused(
        digits,
        tmp_path,
        "--check-trusted: there is nothing to check on; add --trusted FILE",
        check_trusted=True,
    )
    path, _ = trusted_file(digits)  # the labels of the folders are right: none differs
    command = [
        "scan",
        str(digits[0]),
        "--method",
        "meta",
        "--trusted",
        str(path),
        "--dry-run",
        "--no-progress",
    ]
    for options, is_said in (["--check-trusted"], True), ([], False), (["--no-check-trusted"], False):
        monkeypatch.setattr(sys, "argv", ["labelfix", *command, *options])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        assert ("fewer than 20 labels of" in capsys.readouterr().err) is is_said


def refused(digits, tmp_path, *words, **options):
    refuses(scan, *words, digits=digits, tmp_path=tmp_path, **options)


def test_without_trusted_samples_it_says_how_to_give_them(digits, tmp_path):
    refused(digits, tmp_path, "--method meta learns from samples ", "--trusted FILE", "is_trusted")
    assert not (tmp_path / "run").exists()


def test_a_class_without_a_trusted_sample_is_named(digits, tmp_path):
    path, _ = trusted_file(digits, without=(3, 7))
    refused(digits, tmp_path, "every class", "'3' has none, nor have 1 others", trusted=path)
    assert not (tmp_path / "run").exists()


def test_a_trusted_image_that_cannot_be_read_teaches_nothing(digits, tmp_path):
    path, rows = trusted_file(digits, of_each=1)
    sorted(digits[0].rglob("*.png"))[rows[4]].write_bytes(b"no image")
    refused(digits, tmp_path, "every class, usable for training: '4' has none", trusted=path)
