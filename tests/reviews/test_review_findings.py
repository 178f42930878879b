"""What a page shows beside the labels: copies with two labels, decided on together, leaks, outliers, bad images."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_findings import write_findings

import labelfix
from labelfix.data.images.issues import ISSUES
from labelfix.data.manifest import Manifest
from labelfix.results.around import Around
from labelfix.results.corrections import Corrections
from labelfix.reviews.noticed import Noticed, _sides

pytest_plugins = ["review_visits"]


def decisions(it):
    rows = csv.DictReader(io.StringIO(it.downloaded()))
    return {int(row["sample_id"]): (row["decision"], row["label"]) for row in rows}


def test_one_decision_is_made_of_all_copies_and_undone_at_once(visit):
    it = visit("copies")
    it.press("a")  # sample 1, given cat: accept dog
    assert it.page.locator("#status").inner_text().startswith("Accepted dog, sample 1 and 2 copies.")
    assert decisions(it) == {1: ("accept", "dog"), 11: ("keep", "dog"), 41: ("change", "dog")}
    it.press("z")
    assert it.page.locator("#tally-decided").inner_text() == "0"
    it.press("s")
    assert decisions(it) == {1: ("skip", ""), 11: ("skip", ""), 41: ("skip", "")}


def test_findings_have_a_filter_and_copies_stand_beside_each_other(visit):
    it = visit("copies")
    options = it.texts("#finding-filter option")
    assert options == [
        "Anything", "Copies with two labels (3)", "Copies across a split (2)", "Outliers (1)", "Bad images (1)",
    ]  # fmt: skip
    it.page.select_option("#finding-filter", "copies")
    assert it.texts(".card .id") == ["#1", "#11", "#41"]
    assert it.texts(".card .noticed")[0] == "copy, two labels #1"
    assert "<img src=x" in it.page.locator(".card[data-id='41'] .column").inner_text()
    it.page.select_option("#finding-filter", "outliers")
    assert it.texts(".card .noticed") == ["outlier · blurred"]
    it.press("Escape")
    it.page.locator(".card").first.dblclick()
    facts = it.page.locator("#viewer-facts").inner_text()
    assert "0.97" in facts
    assert "blurred" in facts


def test_a_page_without_findings_has_no_filter_for_them(visit):
    it = visit()
    assert it.page.locator("#finding-field").is_hidden()


ROWS = [  # given, flagged, group, split, outlier
    ("a", False, 0, "train", 0.1),
    ("b", False, 0, "train", 0.1),
    ("a", True, -1, "train", 0.2),
    ("a", False, 3, "train", 0.2),
    ("a", False, 3, "val", 0.2),
    ("b", False, -1, "test", 0.95),
    ("b", False, 6, "train", 0.3),
    ("b", False, 6, "train", 0.3),
    ("b", False, -1, "train", 0.3),
]


@pytest.fixture
def run(tmp_path):
    given, flagged, group, split, outlier = zip(*ROWS, strict=True)
    table = {"label": given, "split": split, "text": [f"note {row}" for row in range(len(ROWS))]}
    pq.write_table(pa.table(table), tmp_path / "source.parquet")
    manifest = Manifest.read(tmp_path / "source.parquet", has_images=False)
    issue = np.full(len(ROWS), -1)
    issue[2] = ISSUES.index("dark")
    out = tmp_path / "run"
    out.mkdir()
    config = {"config": {"method": "bmm", "seed": 0}, "source": manifest.options, "environment": {}}
    (out / "config.json").write_text(json.dumps(config))
    around = Around(np.array(group), np.array(outlier, np.float32), issue)
    return write_findings(out / "corrections.parquet", manifest, flagged=flagged, around=around)


@pytest.mark.parametrize(
    ("one", "other", "leaks"), [("valid", "test", True), ("val", "dev", False), ("Testing", "test", False)]
)
def test_the_sides_of_a_split_have_several_names(one, other, leaks):
    sides = _sides(pa.chunked_array([[one, other, None, "train"]]))
    assert (sides[0] != sides[1]) == leaks
    assert sides[2:].tolist() == [0, 0]


def test_a_page_shows_what_was_noticed_beside_the_suspects(run, tmp_path):
    noticed = Noticed.of(Corrections.open(run))
    assert noticed.contradicting.tolist() == [0]
    assert noticed.leaking.tolist() == [3]
    assert noticed.rows.tolist() == [0, 1, 3, 4, 5]
    result = labelfix.review(run, out=tmp_path / "page.html")
    assert (result["shown"], result["flagged"]) == (6, 1)
    text = (tmp_path / "page.html").read_text()
    start = text.index('{"run"')
    samples = json.JSONDecoder().raw_decode(text[start:])[0]["samples"]
    by_id = {sample["id"]: sample for sample in samples}
    assert sorted(by_id) == [0, 1, 2, 3, 4, 5]
    assert by_id[0]["two_labels"]
    assert by_id[4]["leak"]
    assert not by_id[4]["two_labels"]
    assert by_id[5]["odd"]
    assert by_id[2]["issue"] == "dark"
    assert by_id[1]["columns"] == [["split", "train"], ["text", "note 1"]]
    assert "5 copies" in text
    assert labelfix.review(run, out=tmp_path / "page.html", limit=1)["shown"] == 1


def test_runs_without_copies_or_features_have_nothing_to_notice(run):
    frame = pd.read_parquet(run)
    assert len(frame) == len(ROWS)
    table = pq.read_table(run)
    bare = table.drop_columns(["duplicate_group", "outlier_score", "image_issue"])
    pq.write_table(bare, run)
    assert not len(Noticed.of(Corrections.open(run)).rows)
    assert labelfix.review(run)["shown"] == 1
