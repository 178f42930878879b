"""Exports: which rows, which columns, and that every format says the same to whoever opens it."""

from __future__ import annotations

import csv
import json
import os
import re
from datetime import date
from decimal import Decimal
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from export_runs import ROWS, finish, make_run

from labelfix import read_corrections
from labelfix.atomic_files import write_json
from labelfix.cli import cli
from labelfix.data.manifest import Manifest
from labelfix.data.readers import unescape_cell
from labelfix.exports import export
from labelfix.results.corrections import find_corrections

FULL = ["file_name", "label", "given_label", "noise_score", "is_label_issue"]
EXPORTED = [0, 1, 2, 5, 6]
# The tables; tests/exports/test_export_targets.py has the others.
TABLES = ("csv", "jsonl", "parquet")


@pytest.fixture
def run(tmp_path):
    """Corrections with two columns of the source's own."""
    return make_run(
        tmp_path / "runs" / "one", {"frame": list(range(7)), "label": [f"old {i}" for i in range(7)]}
    )


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


refuses = partial(refusals.refuses, export)


class TestDefault:
    def test_two_columns_beside_the_corrections(self, run):
        summary = export(run.parent)
        assert summary["path"] == str(run.parent / "corrected.csv")
        rows = [f"{i}.png,{ROWS[i][1]}" for i in EXPORTED]
        assert (run.parent / "corrected.csv").read_text().splitlines() == ["file_name,label", *rows]

    def test_counts(self, run):
        summary = export(run)
        assert (summary["rows"], summary["changed"], summary["left_out"]) == (5, 2, 2)
        assert (summary["to"], summary["escaped_cells"], summary["dry_run"]) == ("csv", 0, False)
        json.dumps(summary)

    def test_an_earlier_export_is_replaced(self, run):
        export(run, top=1)
        export(run)
        assert len(read_csv(run.parent / "corrected.csv")) == 1 + 5
        assert not list(run.parent.glob(".corrected*"))

    def test_dry_run_counts_and_writes_nothing(self, run):
        before = sorted(run.parent.iterdir())
        summary = export(run, to="csv", top=2, dry_run=True)
        assert (summary["rows"], summary["changed"], summary["dry_run"]) == (2, 2, True)
        assert sorted(run.parent.iterdir()) == before


class TestFormats:
    def expected(self):
        return {
            "file_name": [f"{i}.png" for i in EXPORTED],
            "label": [ROWS[i][1] for i in EXPORTED],
            "given_label": [ROWS[i][0] for i in EXPORTED],
            "noise_score": [ROWS[i][2] for i in EXPORTED],
            "is_label_issue": [ROWS[i][3] for i in EXPORTED],
            "frame": EXPORTED,
            "source_label": [f"old {i}" for i in EXPORTED],
        }

    def test_csv(self, run, tmp_path):
        export(run, to="csv", out=tmp_path / "new" / "a.csv")
        frame = pd.read_csv(tmp_path / "new" / "a.csv")
        assert frame.to_dict("list") == self.expected()

    def test_jsonl(self, run):
        assert export(run, to="jsonl")["path"].endswith("one/corrected.jsonl")
        lines = (run.parent / "corrected.jsonl").read_text().splitlines()
        expected = self.expected()
        # The shortest text of a score, not the float32's sixteen digits.
        assert [json.loads(line) for line in lines] == [
            dict(zip(expected, row, strict=True)) for row in zip(*expected.values(), strict=True)
        ]

    def test_parquet(self, run):
        export(run, to="parquet")
        table = pq.read_table(run.parent / "corrected.parquet")
        expected = self.expected()
        expected["noise_score"] = np.array(expected["noise_score"], np.float32).tolist()
        assert table.to_pydict() == expected
        assert table.schema.field("noise_score").type == pa.float32()
        assert table.schema.field("label").type == pa.string()
        assert (pd.read_parquet(run.parent / "corrected.parquet")["frame"] == EXPORTED).all()

    def test_columns_of_every_type(self, tmp_path):
        extra = {
            "day": [date(2024, 1, 2)] * 7,
            "boxes": [[1.5, float("nan")]] * 7,
            "at": [{"x": 1, "who": 'a"b'}] * 7,
            "camera": pa.array(["=1+1", "b"] * 3 + [None]).dictionary_encode(),
            "gap": pa.array([None] * 7, pa.null()),
            "ratio": pa.array([float("inf"), 0.5] * 3 + [None], pa.float64()),
            "half": pa.array(np.full(7, 0.5, np.float16)),
            "took": pa.array([1] * 7, pa.duration("s")),
            "late": pa.array([-1] * 7, pa.duration("s")),
            "view": pa.array(["=1", "b"] * 3 + [None], pa.string_view()),
            "views": pa.array([{"x": "a"}] * 7, pa.struct([("x", pa.string_view())])),
            "exact": pa.array([Decimal("1.00")] * 7, pa.decimal128(12, 2)),
        }
        run = make_run(tmp_path / "run", extra)
        summaries = [export(run, to=to) for to in TABLES]
        cells = dict(zip(*read_csv(tmp_path / "run" / "corrected.csv")[:2], strict=True))
        assert cells["camera"] == "'=1+1"
        assert json.loads(cells["at"]) == {"x": 1, "who": 'a"b'}
        assert (cells["late"], cells["view"]) == ("'-1 day, 23:59:59", "'=1")
        plain = ("2024-01-02", "", "1.00", "0.5")
        assert (cells["day"], cells["gap"], cells["exact"], cells["half"]) == plain
        line = json.loads((tmp_path / "run" / "corrected.jsonl").read_text().splitlines()[0])
        assert line["boxes"] == [1.5, None]
        assert line["ratio"] is None
        assert (line["view"], line["views"]) == ("=1", {"x": "a"})
        assert (line["day"], line["camera"], line["at"]) == ("2024-01-02", "=1+1", {"x": 1, "who": 'a"b'})
        table = pq.read_table(tmp_path / "run" / "corrected.parquet")
        assert table["at"][0].as_py() == {"x": 1, "who": 'a"b'}
        assert table["view"].to_pylist() == ["=1", "b", "=1", "b", None]
        # 5 durations, and of the rows that are exported two with "=1+1" and two with "=1".
        assert [summary.get("escaped_cells") for summary in summaries] == [9, None, None]
        export(run, to="jsonl", top=1)
        assert json.loads((tmp_path / "run" / "corrected.jsonl").read_text())["view"] == "b"

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (pa.binary(), b"\xff"),
            (pa.large_binary(), b"\xff"),
            (pa.binary(1), b"\xff"),
            (pa.binary_view(), b"\xff"),
            (pa.list_(pa.binary()), [b"\xff"]),
            (pa.struct([("at", pa.list_(pa.binary(1), 1))]), {"at": [b"\xff"]}),
            (pa.map_(pa.string(), pa.large_binary()), [("a", b"\xff")]),
        ],
        ids=str,
    )
    def test_raw_bytes_need_parquet(self, tmp_path, kind, value):
        run = make_run(tmp_path / "run", {"mask": pa.array([value] * 7, kind)})
        for to in ("csv", "jsonl", "labelstudio"):
            for dry_run in (False, True):
                refuses(f"--to {to}", "'mask'", "--to parquet", corrections=run, to=to, dry_run=dry_run)
        assert sorted(os.listdir(tmp_path / "run")) == ["corrections.parquet", "source.parquet"]
        assert export(run, to="parquet")["rows"] == 5
        assert pq.read_table(tmp_path / "run" / "corrected.parquet")["mask"][0].as_py() == value

    def test_label_and_source_label(self, tmp_path):
        run = make_run(tmp_path / "run", {"label": ["x"] * 7, "source_label": ["y"] * 7})
        refuses("source_label", "rename", corrections=run, to="csv")
        assert export(run)["rows"] == 5

    def test_no_row_at_all(self, run):
        for to in TABLES:
            summary = export(run, to=to, min_score=0.99)
            assert summary["rows"] == 0
        assert read_csv(run.parent / "corrected.csv") == [[*FULL, "frame", "source_label"]]
        assert (run.parent / "corrected.jsonl").read_text() == ""
        assert pq.read_table(run.parent / "corrected.parquet").num_rows == 0

    @pytest.mark.parametrize("to", TABLES)
    def test_twice_equals_once(self, run, to):
        first = export(run, to=to)
        before = (run.parent / f"corrected.{to}").read_bytes()
        assert export(run, to=to) == first
        assert (run.parent / f"corrected.{to}").read_bytes() == before


class TestFilters:
    def files(self, run, **options):
        path = export(run, to="jsonl", **options)["path"]
        with open(path, encoding="utf-8") as file:
            return [int(json.loads(line)["file_name"][0]) for line in file]

    def test_min_score_finds_the_score_that_is_shown(self, run):
        assert self.files(run, min_score=0.9) == [1, 5]
        assert self.files(run, min_score=0.0) == EXPORTED

    def test_only_issues(self, run):
        assert self.files(run, only_issues=True) == [1, 2, 5]

    def test_top_is_highest_first(self, run):
        assert self.files(run, top=2) == [5, 1]
        assert self.files(run, top=100) == [5, 1, 2, 6, 0]

    def test_what_was_verified_is_no_suspect(self, tmp_path):
        """Row 5 has the highest score."""
        run = make_run(tmp_path / "verified", trusted=[-1, -1, -1, -1, -1, 0, -1])
        assert read_corrections(run).loc[5, "is_trusted"]
        assert self.files(run, top=2) == [1, 2]
        assert self.files(run, min_score=0.9) == [1]
        assert self.files(run) == EXPORTED

    def test_drop(self, run):
        assert self.files(run, action="drop") == [0, 6]
        assert export(run, action="drop")["changed"] == 0
        assert self.files(run, action="drop", top=1) == [6]

    def test_what_the_command_line_keeps_out(self, run):
        refuses("--action delete", "relabel, drop", corrections=run, action="delete")
        refuses("--to xml", "csv, jsonl, parquet", corrections=run, to="xml")


class TestManyRows:
    COUNT = 150_001

    @pytest.fixture
    def many(self, tmp_path):
        """Three row groups, scores in no order, most of them tied with another."""
        rows = range(self.COUNT)
        columns = {"file_name": [f"{i}.png" for i in rows], "label": [f"c{i % 3}" for i in rows]}
        noise = np.random.default_rng(0).integers(0, 50_000, self.COUNT) / 50_000
        return finish(tmp_path / "many", columns, noise=noise)[0], noise

    def test_top_over_row_groups(self, many, tmp_path):
        path, noise = many
        expected = np.argsort(-noise.astype(np.float32), kind="stable")
        for count in (3, 70_000):
            export(path, to="parquet", top=count, out=tmp_path / "top.parquet")
            names = pq.read_table(tmp_path / "top.parquet")["file_name"].to_pylist()
            assert names == [f"{i}.png" for i in expected[:count]]

    def test_all_rows_in_order(self, many, tmp_path):
        path, _ = many
        for to in TABLES:
            assert export(path, to=to, out=tmp_path / f"all.{to}")["rows"] == self.COUNT
        table = pq.read_table(tmp_path / "all.parquet")
        assert table["file_name"].to_pylist() == [f"{i}.png" for i in range(self.COUNT)]
        assert pd.read_csv(tmp_path / "all.csv")["file_name"].tolist() == table["file_name"].to_pylist()
        assert (tmp_path / "all.jsonl").read_bytes().count(b"\n") == self.COUNT


class TestSpreadsheets:
    HARMFUL = ("=1+1", "+cmd", "@SUM(A1)", "-x", "\tx", "'=1", "-1")

    def test_cells_that_run_are_escaped_and_counted(self, tmp_path):
        run = make_run(tmp_path / "run", {"=note": list(self.HARMFUL)})
        summary = export(run, to="csv")
        header, *rows = read_csv(run.parent / "corrected.csv")
        assert header[-1] == "'=note"
        kept = [self.HARMFUL[i] for i in EXPORTED]
        assert [unescape_cell(row[-1]) for row in rows] == kept
        escaped = sum(row[-1] != cell for row, cell in zip(rows, kept, strict=True))
        assert escaped == 4
        assert summary["escaped_cells"] == escaped + 1

    @pytest.mark.parametrize("separator", [";", "\t"])
    def test_nothing_runs_where_another_sign_separates_cells(self, separator, tmp_path):
        attack = f"a{separator}=cmd|'/C calc'!A0{separator}b"
        quoted = [f'"{attack}"', f'a{separator}"=1+1{separator}b']
        harmful = [attack, *quoted, "a\n=1+1\nb", "-1", "\n=1", "\uff1d1"]
        nested = [{"who": attack}] * len(ROWS)
        run = make_run(tmp_path / "run", {attack: harmful, "nested": nested, "plain": ["x"] * len(ROWS)})
        summary = export(run, to="csv")
        text = (tmp_path / "run" / "corrected.csv").read_bytes().decode()
        # What a spreadsheet starts a cell with, whichever quotes it takes for quotes.
        assert not re.search(f'(?:^|[{separator}\r\n])"*[=+@\uff1d-]', text)
        header, *rows = read_csv(tmp_path / "run" / "corrected.csv")
        assert unescape_cell(header[5]) == attack
        assert [unescape_cell(row[5]) for row in rows] == [harmful[i] for i in EXPORTED]
        assert [json.loads(unescape_cell(row[6])) for row in rows] == [nested[0]] * len(EXPORTED)
        changed = sum(unescape_cell(cell) != cell for row in (header, *rows) for cell in row)
        assert summary["escaped_cells"] == changed

    @pytest.mark.parametrize("sign", [";", "\t", ",", '"', "\r", "\n"])
    def test_texts_that_hold_a_separator_stand_in_quotes(self, sign, tmp_path):
        run = make_run(tmp_path / "run", {f"x{sign}y": [f"a{sign}b"] * len(ROWS)})
        export(run, to="csv")
        text = (tmp_path / "run" / "corrected.csv").read_bytes().decode()
        doubled = sign * (1 + (sign == '"'))
        assert (text.count(f'"x{doubled}y"'), text.count(f'"a{doubled}b"')) == (1, len(EXPORTED))

    def test_a_number_that_begins_a_line_is_escaped(self, tmp_path):
        """With a comma as the decimal sign, `-1,5+A1` goes on from it."""
        names = ["-1", "+2", "3"]
        run, _ = finish(tmp_path / "run", {"file_name": names, "label": ["5+A1", "-4", "-4"]})
        written = tmp_path / "corrected.csv"
        assert export(run, out=written)["escaped_cells"] == 2
        assert written.read_text() == "file_name,label\n'-1,5+A1\n'+2,-4\n3,-4\n"
        assert Manifest.read(written).file_names().to_pylist() == names

    def test_jsonl_and_parquet_are_never_escaped(self, tmp_path):
        run = make_run(tmp_path / "run", {"=note": list(self.HARMFUL)})
        for to in ("jsonl", "parquet"):
            assert "escaped_cells" not in export(run, to=to)
        line = json.loads((tmp_path / "run" / "corrected.jsonl").read_text().splitlines()[0])
        assert line["=note"] == "=1+1"
        assert pq.read_table(tmp_path / "run" / "corrected.parquet")["=note"][0].as_py() == "=1+1"


class TestWhereItMayWrite:
    @pytest.mark.parametrize("name", ["0.png", "a.txt", "a"])
    def test_another_format_by_name(self, run, tmp_path, name):
        refuses(f"{name}: a file of csv is called *.csv", corrections=run, out=tmp_path / name)

    def test_onto_what_the_run_was_given(self, run, tmp_path):
        (tmp_path / "test").mkdir()
        verified = tmp_path / "verified.csv"
        verified.write_text("sample_id,label\n0,cat\n")
        files = {"trusted": str(verified), "test": {"source": str(tmp_path / "test")}}
        (run.parent / "config.json").write_text(json.dumps({"files": files}))
        refuses("is the file of --trusted; choose", corrections=run, out=verified)
        refuses("the source of --test; choose", corrections=run, out=tmp_path / "test" / "new.csv")
        assert verified.read_text() == "sample_id,label\n0,cat\n"
        (run.parent / "config.json").write_text(json.dumps({"files": {"trusted": None, "test": None}}))
        assert export(run, out=verified, overwrite=True)["rows"] == 5

    def test_onto_decisions(self, run, tmp_path):
        lines = "sample_id,file_name,decision,label\n0,0.png,skip,\n"
        for to, text in (("csv", lines), ("jsonl", '{"sample_id": 0, "decision": "skip"}\n')):
            (tmp_path / f"a.{to}").write_text(text)
            refuses("a person decided", corrections=run, to=to, out=tmp_path / f"a.{to}")
            assert (tmp_path / f"a.{to}").read_text() == text

    def test_onto_findings_of_another_run_but_over_an_earlier_export(self, run, tmp_path):
        other = make_run(tmp_path / "other")
        before = other.read_bytes()
        refuses("holds findings of labelfix", corrections=run, to="parquet", out=other)
        assert other.read_bytes() == before
        for to, content in (("csv", b""), ("jsonl", b"{"), ("parquet", b"\xff no Parquet")):
            for _ in range(2):
                export(run, to=to, out=tmp_path / f"a.{to}")
            (tmp_path / f"b.{to}").write_bytes(content)
            assert export(run, overwrite=True, to=to, out=tmp_path / f"b.{to}")["rows"] == 5

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_onto_a_file_that_no_export_wrote(self, run, tmp_path, dry_run):
        texts = {"csv": "file_name,label\nmine.png,cat\n", "jsonl": '{"label": 1}\n', "parquet": "PAR1"}
        for to, text in texts.items():
            out = tmp_path / f"mywork.{to}"
            out.write_text(text)
            refuses("is there already", "--overwrite", corrections=run, to=to, out=out, dry_run=dry_run)
            assert out.read_text() == text
            assert export(run, to=to, out=out, overwrite=True)["rows"] == 5
            assert export(run, to=to, out=out, dry_run=dry_run)["rows"] == 5

    def test_onto_an_export_that_was_edited(self, run, tmp_path, monkeypatch):
        out = tmp_path / "labels.csv"
        export(run, out=out)
        written = out.read_bytes()
        out.write_bytes(written + b"mine.png,dog\n")
        refuses("is there already", corrections=run, out=out)
        out.write_bytes(written)
        export(run, out=out)
        monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "another"))
        refuses("is there already", corrections=run, out=out)

    def test_a_cache_that_cannot_be_written_costs_only_the_memory_of_it(self, run, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "file" / "cache"))
        assert export(run, out=tmp_path / "a.csv")["rows"] == 5
        refuses("is there already", corrections=run, out=tmp_path / "a.csv")

    def test_overwrite_is_for_files(self, run, tmp_path):
        options = {"to": "cleanlab", "out": tmp_path / "new", "overwrite": True}
        refuses("--overwrite", "leave it out", corrections=run, **options)

    def test_onto_the_source(self, run, tmp_path):
        (run.parent / "config.json").write_text(json.dumps({"source": {"source": str(tmp_path / "a.csv")}}))
        refuses("lies in the source", corrections=run, out=tmp_path / "a.csv")
        assert export(run, out=tmp_path / "b.csv")["rows"] == 5

    def test_onto_the_decisions(self, run, tmp_path):
        decisions = tmp_path / "decisions.csv"
        decisions.write_text("sample_id,file_name,decision,label\n1,1.png,accept,dog\n")
        before = decisions.read_bytes()
        (tmp_path / "link.csv").symlink_to(decisions)
        for name in ("decisions.csv", "link.csv", f"../{tmp_path.name}/decisions.csv"):
            refuses("--decisions", corrections=run, to="csv", out=tmp_path / name, decisions=decisions)
        assert decisions.read_bytes() == before

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_what_is_no_file(self, run, tmp_path, dry_run):
        os.mkfifo(tmp_path / "a.csv")
        refuses("a.csv is no regular file", corrections=run, out=tmp_path / "a.csv", dry_run=dry_run)
        assert (tmp_path / "a.csv").is_fifo()
        # Nothing else that labelfix writes replaces one.
        refusals.refuses(write_json, "a.csv is no regular file", path=tmp_path / "a.csv", value=1)
        assert (tmp_path / "a.csv").is_fifo()
        assert not list(tmp_path.glob(".a.csv*"))

    @pytest.mark.parametrize("dry_run", [False, True])
    @pytest.mark.parametrize("name", ["f/x", "x" * 250, "\u732b" * 90, "/".join(["x" * 200] * 30)])
    def test_names_that_cannot_be(self, run, tmp_path, dry_run, name):
        (tmp_path / "f").write_text("")
        for to, suffix in (("csv", ".csv"), ("cleanlab", "")):
            out = tmp_path / f"{name}{suffix}"
            refuses("--out", out.name, "choose", corrections=run, to=to, out=out, dry_run=dry_run)


class TestLookup:
    @pytest.fixture
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def finished(self, here, name, seconds):
        path = make_run(here / "runs" / name)
        os.utime(path, (seconds, seconds))
        return path

    def test_what_exists_is_taken(self, here):
        path = self.finished(here, "one", 100)
        assert find_corrections(path) == (path, None)
        assert find_corrections(path.parent) == (path, None)
        assert find_corrections("runs/one")[0].samefile(path)

    def test_bare_name_is_looked_up_in_the_newest_finished_run(self, here):
        self.finished(here, "b", 300)
        self.finished(here, "a", 200)
        newest = self.finished(here, "c", 400)
        path, note = find_corrections("corrections.parquet")
        assert path.samefile(newest)
        assert str(path) in note
        (newest.parent / "checkpoint").mkdir()
        assert find_corrections("corrections.parquet")[0].parent.name == "b"

    def test_a_file_here_comes_first(self, here):
        self.finished(here, "one", 100)
        make_run(here)
        path, note = find_corrections("corrections.parquet")
        assert path.samefile(here / "corrections.parquet")
        assert note is None

    def test_nowhere(self, here):
        refusals.refuses(find_corrections, "no run in runs/ is finished", path="corrections.parquet")
        path = self.finished(here, "one", 100)
        refusals.refuses(find_corrections, "newest finished run runs/one", path="other.parquet")
        refusals.refuses(find_corrections, "no such corrections file", path="there/corrections.parquet")
        path.unlink()
        refusals.refuses(find_corrections, "scan first", path="runs/one")
        (path.parent / "checkpoint").mkdir()
        refusals.refuses(find_corrections, "unfinished", path="runs/one")


def test_what_the_command_says(run):
    def invoke(*arguments):
        return CliRunner().invoke(cli, ["export", str(run), *arguments])

    done = invoke("--dry-run", "--only-issues")
    assert "3 rows would be written" in done.stdout
    assert not (run.parent / "corrected.csv").exists()
    done = invoke()
    assert "5 rows written, 2 with a new label" in done.stdout
    assert "2 rows left out" in done.stdout
    assert done.stderr == ""
    assert json.loads(invoke("--to", "jsonl", "--top", "3", "--json").stdout)["rows"] == 3
