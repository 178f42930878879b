"""Copies on their way out: tables name them, --dedupe leaves them out, evaluation does not count them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_findings import write_findings

import labelfix
from labelfix.data.images.issues import ISSUES
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.results.around import Around

# given, corrected, noise, flagged, group of copies, split
ROWS = [
    ("a", "a", 0.1, False, 0, "train"),
    ("b", "a", 0.9, True, 0, "train"),  # its copies agree once it is corrected
    ("a", "a", 0.2, False, 2, "train"),
    ("b", "b", 0.4, False, 2, "test"),  # contradicts, and leaks
    ("b", "b", 0.3, False, -1, None),
    ("b", "b", 0.35, False, 5, "train"),
    ("b", "b", 0.8, True, 5, "validation"),
    ("a", "a", 0.05, False, 0, ""),
]


@pytest.fixture
def run(tmp_path):
    """A corrections file of these rows."""
    given, corrected, noise, flagged, group, split = zip(*ROWS, strict=True)
    names = [f"{row}.png" for row in range(len(ROWS))]
    table = {"file_name": names, "label": given, "true_label": corrected, "split": split}
    pq.write_table(pa.table(table), tmp_path / "source.parquet")
    manifest = Manifest.read(tmp_path / "source.parquet", label_column="label")
    outlier = np.array([0.1, 0.1, 0.3, 0.3, np.nan, 0.9, 0.8, 0.1], np.float32)
    issue = np.full(len(ROWS), -1)
    issue[5] = ISSUES.index("blurred")
    return write_findings(
        tmp_path / "corrections.parquet",
        manifest,
        corrected=["ab".index(label) for label in corrected],
        noise=noise,
        flagged=flagged,
        around=Around(np.array(group), outlier, issue),
    )


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"dedupe": "keep-one"}, [0, 2, 4, 5]),
        ({"dedupe": "drop-conflicts"}, [0, 4, 5]),
        ({"dedupe": "keep-one", "action": "drop"}, [0, 2, 4, 5]),
        ({"dedupe": "keep-one", "min_score": 0.35}, [1, 3, 5]),
        ({"dedupe": "drop-conflicts", "top": 3}, [5, 4, 0]),
        ({"dedupe": "keep-one", "top": 9}, [5, 4, 2, 0]),
    ],
)
def test_one_of_the_copies_stays_or_none_that_contradict(run, tmp_path, options, kept):
    result = labelfix.export(run, to="csv", out=tmp_path / "out.csv", **options)
    table = pd.read_csv(tmp_path / "out.csv")
    assert table.file_name.tolist() == [f"{row}.png" for row in kept]
    assert result["left_out"] == len(ROWS) - len(kept)


@pytest.mark.parametrize(
    ("dedupe", "kept"), [("keep-one", [0, 1, 2, 4, 5]), ("drop-conflicts", [0, 1, 4, 5])]
)
def test_a_removed_row_stands_for_no_copy_and_contradicts_none(run, tmp_path, dedupe, kept):
    (tmp_path / "decisions.csv").write_text("sample_id,decision,label\n0,remove,\n")
    options = {"to": "csv", "decisions": tmp_path / "decisions.csv", "dedupe": dedupe}
    labelfix.export(run, out=tmp_path / "all.csv", keep_removed=True, **options)
    labelfix.export(run, out=tmp_path / "labelled.csv", **options)
    every, labelled = (pd.read_csv(tmp_path / name) for name in ("all.csv", "labelled.csv"))
    assert every.file_name.tolist() == [f"{row}.png" for row in kept]
    assert labelled.file_name.tolist() == [f"{row}.png" for row in kept[1:]]


def test_tables_carry_what_was_seen_of_the_rows(run, tmp_path):
    labelfix.export(run, to="parquet", out=tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert table.columns.tolist() == [
        "file_name", "label", "given_label", "noise_score", "is_label_issue", "duplicate_group", "outlier_score",
        "image_issue", "true_label", "split",
    ]  # fmt: skip
    assert table.duplicate_group.tolist()[:2] == [0, 0]
    assert table.image_issue[5] == "blurred"


def test_a_decision_on_a_copy_ends_its_contradiction(run, tmp_path):
    (tmp_path / "decisions.csv").write_text("sample_id,decision,label\n3,change,a\n")
    out = tmp_path / "out.csv"
    labelfix.export(run, to="csv", out=out, dedupe="drop-conflicts", decisions=tmp_path / "decisions.csv")
    assert pd.read_csv(out).file_name.tolist() == ["0.png", "2.png", "4.png", "5.png"]


def test_frames_answer_what_is_copied_leaked_and_odd(run):
    df = labelfix.read_corrections(run)
    assert df.labelfix.duplicates().index.tolist() == [0, 1, 7, 2, 3, 5, 6]
    assert df.labelfix.duplicates(contradicting=True).index.tolist() == [0, 1, 7, 2, 3]
    assert df.labelfix.leaks().index.tolist() == [2, 3, 5, 6]
    for name in ("valid", "Dev", "testing"):
        assert (
            df.assign(split=df["split"].replace("validation", name))
            .labelfix.leaks()
            .equals(df.assign(split=df["split"].replace("validation", name)).loc[[2, 3, 5, 6]])
        )
    assert df.labelfix.outliers(2).index.tolist() == [5, 6]
    assert len(df.labelfix.outliers(20)) == 7
    assert df.iloc[:1].labelfix.duplicates().empty
    for question, words in (
        (lambda: df.assign(outlier_score=np.nan).labelfix.outliers(), "--encoder or --features"),
        (lambda: df.drop(columns="split").labelfix.leaks(), "no column 'split'"),
        (lambda: df.labelfix.outliers(0), "at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            question()


def test_copies_do_not_count_in_an_evaluation(run, tmp_path):
    result = labelfix.evaluate(run, truth=tmp_path / "source.parquet")
    assert (result["rows_evaluated"], result["copies_left_out"]) == (1, 7)
