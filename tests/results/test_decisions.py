"""Decisions of a person: how they are read, what is refused, and that they outrank the method in every export."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from export_runs import make_run
from refusals import refuses

from labelfix.cli import cli
from labelfix.exports import export
from labelfix.exports.rows import Choice, chosen_rows, export_columns, shown_columns, shown_schema
from labelfix.results.corrections import Corrections
from labelfix.results.decisions import Decisions

# What the method says of the rows of `run`: see ROWS in test_exports (row 3 is unlabelled, row 4 broken).
METHOD = {0: "cat", 1: "dog", 2: "dog", 5: "cat", 6: "dog"}


@pytest.fixture
def run(tmp_path):
    return Corrections.open(make_run(tmp_path / "runs" / "one"))


def decided(run, lines, name="decisions.csv"):
    """The decisions of a file with these lines, as the review page downloads it."""
    path = run.path.parent / name
    path.write_text("sample_id,file_name,decision,label\n" + "".join(f"{line}\n" for line in lines))
    return Decisions.read(path, run)


def exported(run, decisions=None, *, with_findings=True, **options):
    """The rows of an export, as dicts by name."""
    choice = Choice(decisions=decisions, **options)
    columns = export_columns(run, choice, with_findings=with_findings)
    batches = [shown_columns(batch, columns) for batch in chosen_rows(run, choice, columns)]
    return pa.Table.from_batches(batches, shown_schema(run, choice, columns)).to_pylist()


def labels(rows):
    return {int(row["file_name"].split(".")[0]): row["label"] for row in rows}


FOUR = ["1,1.png,accept,dog", "2,2.png,change,eel", "5,5.png,keep,eel", "0,0.png,skip,"]


class TestOutrank:
    def test_the_method_where_nothing_was_decided(self, run):
        assert labels(exported(run)) == METHOD

    def test_decided_rows_have_their_label(self, run):
        rows = exported(run, decided(run, FOUR))
        assert labels(rows) == METHOD | {1: "dog", 2: "eel", 5: "eel"}
        found = [(row["reviewed_label"], row["review_status"]) for row in rows]
        assert found == [(None, "skip"), ("dog", "accept"), ("eel", "change"), ("eel", "keep"), (None, None)]

    def test_the_plain_export_keeps_its_two_columns(self, run):
        rows = exported(run, decided(run, FOUR), with_findings=False)
        assert [list(row) for row in rows] == [["file_name", "label"]] * 5
        assert labels(rows)[5] == "eel"

    def test_drop_leaves_out_only_what_nobody_decided(self, run):
        assert set(labels(exported(run, action="drop"))) == {0, 6}
        assert set(labels(exported(run, decided(run, ["5,5.png,keep,eel"]), action="drop"))) == {0, 5, 6}
        assert set(labels(exported(run, decided(run, ["5,5.png,skip,"]), action="drop"))) == {0, 6}

    def test_an_unlabelled_row_that_got_a_label_is_exported(self, run):
        rows = exported(run, decided(run, ["3,3.png,change,cat"]))
        assert labels(rows) == METHOD | {3: "cat"}
        # Its label is not the given one: there was none.
        summary = export(run.path, decisions=run.path.parent / "decisions.csv")
        assert (summary["rows"], summary["changed"]) == (6, 3)

    def test_top_comes_by_score_with_the_decided_labels(self, run):
        rows = exported(run, decided(run, FOUR), top=2)
        assert [(row["file_name"], row["label"]) for row in rows] == [("5.png", "eel"), ("1.png", "dog")]

    def test_a_source_column_of_the_same_name_is_refused(self, tmp_path):
        run = Corrections.open(make_run(tmp_path / "two", {"review_status": ["x"] * 7}))
        assert [row["review_status"] for row in exported(run)] == ["x"] * 5
        decisions = decided(run, FOUR)
        refuses(exported, "'review_status'; rename it in the source", run=run, decisions=decisions)

    def test_removed_rows_are_left_out_or_kept_without_a_label(self, run):
        decisions = decided(
            run, ["1,1.png,remove,", "5,5.png,remove,anything", "3,3.png,remove,", "4,4.png,remove,"]
        )
        rest = {row: label for row, label in METHOD.items() if row not in (1, 5)}
        assert labels(exported(run, decisions)) == rest
        kept = exported(run, decisions, keep_removed=True)
        assert labels(kept) == rest | {1: None, 3: None, 4: None, 5: None}
        statuses = {row["file_name"]: (row["reviewed_label"], row["review_status"]) for row in kept}
        assert statuses["5.png"] == (None, "remove")
        assert set(labels(exported(run, decisions, action="drop"))) == {0, 6}


class TestExport:
    def test_the_option_reaches_every_kind_of_target(self, run, tmp_path):
        decided(run, FOUR)
        path = run.path.parent / "decisions.csv"
        summary = export(run.path, decisions=path)
        assert (summary["rows"], summary["changed"]) == (5, 2)
        assert (run.path.parent / "corrected.csv").read_text().splitlines()[1:4] == [
            "0.png,cat", "1.png,dog", "2.png,eel",
        ]  # fmt: skip
        export(run.path, decisions=path, to="jsonl", out=tmp_path / "all.jsonl")
        rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
        assert [row["review_status"] for row in rows] == ["skip", "accept", "change", "keep", None]
        export(run.path, decisions=path, to="cleanlab", out=tmp_path / "arrays")
        names = json.loads((tmp_path / "arrays" / "class_names.json").read_text())
        labels = [names[label] for label in np.load(tmp_path / "arrays" / "corrected_labels.npy")]
        assert labels == ["cat", "dog", "eel", "eel", "dog"]

    def test_several_files_are_joined_the_newest_first(self, run, tmp_path):
        decided(run, FOUR)
        decided(run, ["2,2.png,keep,dog", "6,6.png,remove,"], name="newer.csv")
        files = [run.path.parent / "newer.csv", run.path.parent / "decisions.csv"]
        line = ["export", str(run.path), "--to", "csv", "--out", str(tmp_path / "x.csv"), "--keep-removed"]
        done = CliRunner().invoke(
            cli, [*line, *(word for file in files for word in ("--decisions", str(file)))]
        )
        assert done.exit_code == 0, done.output
        found = pd.read_csv(tmp_path / "x.csv", dtype=str).set_index("file_name").review_status
        assert found.dropna().to_dict() == {
            "0.png": "skip", "1.png": "accept", "2.png": "keep", "5.png": "keep", "6.png": "remove",
        }  # fmt: skip
        refuses(
            export,
            "is the file of --decisions",
            corrections=run.path,
            decisions=files,
            out=files[1],
            overwrite=True,
        )

    def test_from_the_command_line(self, run, monkeypatch):
        decided(run, ["2,2.png,change,eel"])
        monkeypatch.chdir(run.path.parent)
        done = CliRunner().invoke(cli, ["export", ".", "--decisions", "decisions.csv"])
        assert done.exit_code == 0, done.output
        assert "2.png,eel" in (run.path.parent / "corrected.csv").read_text()


class TestRead:
    def test_by_file_name_alone(self, run):
        path = run.path.parent / "decisions.jsonl"
        path.write_text('{"file_name": "2.png", "decision": "keep", "label": "dog"}\n')
        decisions = Decisions.read(path, run)
        assert decisions.rows.tolist() == [2]
        assert decisions.labels.tolist() == [run.metadata["class_names"].index("dog")]

    @pytest.mark.parametrize("kind", ["tsv", "parquet"])
    def test_other_tables(self, run, kind):
        path = run.path.parent / f"decisions.{kind}"
        frame = pd.DataFrame({"sample_id": [2], "decision": ["keep"], "label": ["dog"]})
        frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, sep="\t", index=False)
        assert Decisions.read(path, run).rows.tolist() == [2]

    def test_escaped_cells_are_read_back(self, tmp_path):
        run = Corrections.open(make_run(tmp_path / "three"))
        table = pq.read_table(run.path)
        names = pa.array(["=1+1.png", *[f"{i}.png" for i in range(1, 7)]])
        pq.write_table(table.set_column(1, "file_name", names), run.path)
        assert decided(run, ["0,'=1+1.png,keep,cat"]).rows.tolist() == [0]

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            (["7,,keep,cat"], ["row 0 has the sample_id '7'", "has the rows 0 to 6"]),
            (["-1,,keep,cat"], ["row 0 has the sample_id '-1'"]),
            (["1,2.png,keep,cat"], ["row 0 says '2.png', but sample_id 1 of ", " is '1.png'"]),
            (["1,1.png,keep,bird"], ["row 0 has the label 'bird', which is no class"]),
            (["1,1.png,change,"], ["row 0 has no label"]),
            (["1,1.png,maybe,cat"], ["row 0 has the decision 'maybe'; write one of accept, keep, change, remove,"]),
            (["1,1.png,accept,dog", "1,1.png,change,eel"], ["rows 0 and 1 give one sample two labels or decisions"]),
            (["1,1.png,accept,dog", "1,1.png,skip,"], ["rows 0 and 1 give one sample two", "'dog' and skip"]),
            (["1,1.png,keep,dog"], ["row 0 keeps 'dog', but sample 1 was given 'cat'"]),
            (["3,3.png,keep,dog"], ["row 0 keeps 'dog', but sample 3 was given no label"]),
            (["0,,skip,", "4,4.png,accept,cat"], ["row 1 decides on sample 4, whose image is not valid"]),
        ],
    )  # fmt: skip
    def test_refused_with_the_row(self, run, lines, words):
        refuses(decided, *words, run=run, lines=lines)

    def test_no_decision_column(self, run):
        path = run.path.parent / "decisions.csv"
        path.write_text("sample_id,label\n1,dog\n")
        words = "no column 'decision'; write one of accept, keep, change, remove, skip"
        refuses(Decisions.read, words, path=path, corrections=run)

    @pytest.mark.parametrize("name", ["decisions.txt", "missing.csv"])
    def test_no_such_file(self, run, name):
        refuses(Decisions.read, "--decisions ", name, path=run.path.parent / name, corrections=run)

    def test_an_empty_file_decides_nothing(self, run):
        assert labels(exported(run, decided(run, []))) == METHOD
