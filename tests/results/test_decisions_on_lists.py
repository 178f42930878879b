"""Decisions on rows with several labels, whatever their classes are called: what is read, exported and refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from made_findings import write_lists
from refusals import refuses
from sources import write_rows

from labelfix.data.manifest import Manifest
from labelfix.exports import export
from labelfix.results.corrections import Corrections
from labelfix.results.decisions import Decisions

# A list of some of these in a text could be torn apart, or mistaken for another list.
ODD = ["a;b", "a", "b", '["a"]', '["a', 'b"]', "[1]", "x,y", "two\nlines", 'say "hi"', "=1;+2", "it's; -3"]


def run_of(folder, names):
    """The corrections of a source whose row i has the class i alone, and their manifest."""
    rows = [{"file_name": f"{row}.png", "label": [name]} for row, name in enumerate(names)]
    manifest = Manifest.read(write_rows(folder / "source.jsonl", rows), task="multi")
    return Corrections.open(write_lists(folder / "corrections.parquet", manifest)), manifest


def write_decisions(folder, labels, decision="change"):
    """A decisions.csv that gives row i these labels as JSON lists."""
    path = folder / "decisions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["sample_id", "decision", "label"])
        lines.writerows([row, decision, json.dumps(names)] for row, names in enumerate(labels))
    return path


def test_any_class_can_be_decided_on_and_exported(tmp_path):
    run, manifest = run_of(tmp_path, ODD)
    labels = [sorted({name, "a", "b"}) for name in ODD]
    path = write_decisions(tmp_path, labels)
    found = Decisions.read(path, run)
    names = np.array(manifest.class_names, object)
    assert [sorted(names[states]) for states in found.states] == labels
    export(run.path, to="jsonl", out=tmp_path / "x.jsonl", decisions=path)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sorted(row["label"]) for row in rows] == labels


def test_the_given_labels_are_kept_by_their_list(tmp_path):
    run, _ = run_of(tmp_path, ODD)
    path = write_decisions(tmp_path, [[name] for name in ODD], "keep")
    assert len(Decisions.read(path, run).rows) == len(ODD)
    path = write_decisions(tmp_path, [["a;b", "a"]], "keep")
    refuses(Decisions.read, "row 0 keeps", "'a', 'a;b'", path=path, corrections=run)


@pytest.mark.parametrize("label", ["a;c", '["a", "c"]', '["a;c"]'])
def test_a_part_that_is_no_class_is_named(tmp_path, label):
    run, _ = run_of(tmp_path, ["a", "b"])
    path = tmp_path / "decisions.csv"
    text = label.replace('"', '""')
    path.write_text(f'sample_id,decision,label\n0,change,"{text}"\n')
    refuses(Decisions.read, "row 0 has the label", "c', which is no class", path=path, corrections=run)


def test_any_class_comes_back_from_a_csv_export(tmp_path):
    run, manifest = run_of(tmp_path, ODD)
    labels = [sorted({name, *ODD[: 6 : place % 3 + 1]}) for place, name in enumerate(ODD)]
    labels[-1] = []
    path = write_decisions(tmp_path, labels)
    out = tmp_path / "x.csv"
    export(run.path, to="csv", out=out, decisions=path)
    again = Manifest.read(out, task="auto", label_separator=";")
    assert [sorted(again.label_of(row)) for row in range(len(ODD))] == labels
    assert set(again.class_names) == {name for names in labels for name in names}
    found = Decisions.read(out, run)
    names = np.array(manifest.class_names, object)
    assert [sorted(names[states]) for states in found.states] == labels


def test_brackets_alone_are_no_list(tmp_path):
    names = ["[1]", "[other]", "[", '["a", 1]']
    run, manifest = run_of(tmp_path, names)
    export(run.path, to="csv", out=tmp_path / "x.csv", decisions=write_decisions(tmp_path, [names[:2]]))
    with (tmp_path / "x.csv").open(newline="") as file:
        assert [row[1] for row in csv.reader(file)][1:] == ["[1];[other]", *names[1:]]
    again = Manifest.read(tmp_path / "x.csv", task="auto", label_separator=";")
    assert [again.label_of(row) for row in range(4)] == [
        ["[1]", "[other]"], *([name] for name in names[1:]),
    ]  # fmt: skip
    assert again.class_names == manifest.class_names
