"""Trusted: which rows count as verified, with which label, and what is refused in which words."""

from __future__ import annotations

import hashlib
import json
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import write_hf, write_rows

import labelfix
from labelfix.data.manifest import Manifest
from labelfix.data.readers import escape_cell
from labelfix.data.verified_labels import Trusted

KINDS = ["csv", "tsv", "jsonl", "parquet"]
CLASSES = ("cat", "dog", "eel")


@pytest.fixture
def manifest(tmp_path):
    """Nine rows 0.png to 8.png, given cat, dog, eel, cat, ...; row 8 has no label."""
    return read(tmp_path, *[f"{i}.png,{CLASSES[i % 3] if i < 8 else ''}" for i in range(9)])


def read(folder, *lines, header="path,label", **options):
    path = folder / "source.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return Manifest.read(path, **options)


def write(folder, kind, rows):
    """A trusted file of one kind from a list of dicts."""
    return write_rows(folder / f"trusted.{kind}", rows)


def decided(*words, label="cat", **columns):
    """Rows of the samples 0, 1, ... with these decisions."""
    return [{"sample_id": i, "label": label, "decision": word, **columns} for i, word in enumerate(words)]


def refuses(manifest, path, *parts):
    """Trusted.of refuses the file by its name."""
    refusals.refuses(partial(Trusted.of, manifest, path), path, *parts)


def labels_of(trusted, names=CLASSES):
    return {int(row): names[trusted.label[row]] for row in np.flatnonzero(trusted.label >= 0)}


def lists_of(manifest, path):
    """The verified labels of each row that has some, or none of the classes."""
    trusted = Trusted.of(manifest, path)
    names = np.array(manifest.class_names, object)
    return {int(row): list(names[trusted.targets[row] >= 0.5]) for row in np.flatnonzero(trusted.label >= 0)}


# ---------------------------------------------------------------- which rows count


def test_without_anything_no_row_is_trusted(manifest):
    trusted = Trusted.of(manifest, None)
    assert trusted.label.tolist() == [-1] * 9
    assert trusted.label.dtype == np.int64
    assert not trusted.is_scored.any()
    assert trusted.sha256 == ""


def test_rows_of_is_trusted_have_their_given_label_and_a_file_outranks_it(tmp_path):
    lines = ["0.png,cat,true", "1.png,dog,true", "2.png,eel,"]
    manifest = read(tmp_path, *lines, header="path,label,is_trusted")
    assert labels_of(Trusted.of(manifest, None)) == {0: "cat", 1: "dog"}
    path = write(tmp_path, "csv", [{"sample_id": 1, "label": "eel"}, {"sample_id": 2, "label": "cat"}])
    assert labels_of(Trusted.of(manifest, path)) == {0: "cat", 1: "eel", 2: "cat"}
    assert manifest.given.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_rows_join_by_file_name(self, tmp_path, manifest, kind):
        rows = [{"file_name": "4.png", "label": " eel "}, {"file_name": "8.png", "label": "cat"}]
        trusted = Trusted.of(manifest, write(tmp_path, kind, rows))
        assert labels_of(trusted) == {4: "eel", 8: "cat"}
        assert trusted.sha256 == hashlib.sha256((tmp_path / f"trusted.{kind}").read_bytes()).hexdigest()
        with pytest.raises(ValueError, match="read-only"):
            trusted.label[0] = 1

    def test_rows_join_by_sample_id_where_it_is_there(self, tmp_path, manifest, kind):
        rows = [
            {"sample_id": 4, "label": "eel", "seconds": 1.5},
            {"sample_id": 0, "label": "cat", "seconds": 2},
        ]
        assert labels_of(Trusted.of(manifest, write(tmp_path, kind, rows))) == {0: "cat", 4: "eel"}

    def test_sample_id_and_file_name_have_to_agree(self, tmp_path, manifest, kind):
        agree = [{"sample_id": i, "file_name": f"./{i}.png", "label": "cat"} for i in (1, 5)]
        assert labels_of(Trusted.of(manifest, write(tmp_path, kind, agree))) == {1: "cat", 5: "cat"}
        agree[1]["file_name"] = "6.png"
        refuses(manifest, write(tmp_path, kind, agree), "row 1", "'6.png'", "sample_id 5", "'5.png'")

    def test_accept_keep_and_change_count_and_skip_does_not(self, tmp_path, manifest, kind):
        rows = decided("accept", "skip", "keep", "change", "skip", label="eel")
        rows[1]["label"] = rows[4]["label"] = ""
        assert labels_of(Trusted.of(manifest, write(tmp_path, kind, rows))) == {0: "eel", 2: "eel", 3: "eel"}

    @pytest.mark.parametrize(
        ("rows", "parts"),
        [
            (decided("keep", "relabel"), ["row 1", "'relabel'", "accept, keep, change, remove, skip"]),
            (decided("keep", ""), ["row 1", "''", "accept, keep, change, remove, skip"]),
            (decided("skip"), ["no row that counts", "--trusted"]),
            ([{"sample_id": 0, "label": "cat"}, {"sample_id": 1, "label": "Cat"}],
             ["row 1", "'Cat'", "no class", "'cat', 'dog', 'eel'"]),
            ([{"sample_id": 0, "label": "cat"}, {"sample_id": 1, "label": " "}], ["row 1", "no label"]),
            ([{"file_name": "0.png", "label": "cat"}, {"file_name": "90.png", "label": "cat"}],
             ["row 1", "'90.png'", "source.csv", "sample_id"]),
            ([{"file_name": "0.png", "label": "cat"}, {"file_name": "", "label": "cat"}],
             ["row 1", "no file_name"]),
            ([{"file_name": "0.png", "class": "cat"}], ["no column 'label'", "'file_name', 'class'"]),
            ([{"name": "0.png", "label": "cat"}], ["'sample_id' or 'file_name'", "'name', 'label'"]),
            *(
                ([{"sample_id": "0", "label": "cat"}, {"sample_id": number, "label": "cat"}],
                 ["row 1", f"sample_id '{number}'", "0 to 8"])
                for number in ("9", "-1", "1.5", "x", "")
            ),
        ],
    )  # fmt: skip
    def test_a_bad_row_or_column_is_refused(self, tmp_path, manifest, kind, rows, parts):
        refuses(manifest, write(tmp_path, kind, rows), *parts)

    def test_one_sample_twice_needs_one_label(self, tmp_path, manifest, kind):
        rows = [{"file_name": "3.png", "label": label} for label in ("cat", "cat", "dog")]
        assert labels_of(Trusted.of(manifest, write(tmp_path, kind, rows[:2]))) == {3: "cat"}
        refuses(manifest, write(tmp_path, kind, rows), "rows 0 and 2", "'cat'", "'dog'", "keep one")

    def test_rows_beyond_the_first_ones_are_skipped(self, tmp_path, kind):
        lines = [f"{i}.png,{CLASSES[i % 3]}" for i in range(9)]
        first = read(tmp_path, *lines, rows=2)
        for column, values in (("sample_id", [1, 2, 8]), ("file_name", ["1.png", "2.png", "8.png"])):
            # The class "eel" of row 2 and 8 is not among the first rows' classes.
            rows = [{column: v, "label": x} for v, x in zip(values, ["cat", "eel", "eel"], strict=True)]
            path = write(tmp_path, kind, rows)
            assert labels_of(Trusted.of(first, path)) == {1: "cat"}
            path = write(tmp_path, kind, rows[1:])
            refuses(first, path, "among the first 2", "raise --rows")

    def test_more_rows_than_there_are_skip_nothing(self, tmp_path, kind):
        whole = read(tmp_path, *[f"{i}.png,{CLASSES[i % 3]}" for i in range(9)], rows=10)
        refuses(whole, write(tmp_path, kind, [{"sample_id": 9, "label": "cat"}]), "sample_id '9'")
        refuses(whole, write(tmp_path, kind, [{"file_name": "9.png", "label": "cat"}]), "'9.png'")


def test_removed_rows_are_neither_trained_on_nor_judged(digits, tmp_path):
    names = sorted(str(path.relative_to(digits[0])) for path in digits[0].glob("*/*.png"))[:60]
    source = tmp_path / "m.csv"
    source.write_text("path,label\n" + "".join(f"{digits[0]}/{name},{name[0]}\n" for name in names))
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("sample_id,decision,label\n3,remove,\n7,remove,x\n9,change,1\n")
    manifest = Manifest.read(source)
    trusted = Trusted.of(manifest, decisions)
    assert np.flatnonzero(trusted.removed).tolist() == [3, 7]
    assert np.flatnonzero(trusted.label >= 0).tolist() == [9]
    run = labelfix.scan(source, method="cross-entropy", epochs=1, trusted=decisions, out=tmp_path / "run")
    assert run.summary["counts"]["removed"] == 2
    assert run.summary["counts"]["judged"] == 57
    table = pq.read_table(run.corrections).to_pylist()
    for row in (3, 7):
        assert table[row]["given_label"] == names[row][0]
        assert (table[row]["corrected_label"], table[row]["noise_score"]) == (None, None)
        assert not table[row]["is_label_issue"]
    assert labelfix.export(run.out, out=tmp_path / "x.csv")["left_out"] == 2
    assert len(labelfix.read_corrections(run.out).labelfix.top(60)) <= 57


def test_a_csv_with_cells_that_we_escaped_is_read_back(tmp_path):
    manifest = read(tmp_path, "'=1.png,'@a", "2.png,'+b")
    assert manifest.class_names == ("+b", "@a")
    rows = [{"file_name": escape_cell("=1.png"), "label": escape_cell("+b")}]
    assert labels_of(Trusted.of(manifest, write(tmp_path, "csv", rows)), manifest.class_names) == {0: "+b"}
    refuses(manifest, write(tmp_path, "tsv", rows), '"\'=1.png"')


def test_file_names_are_found_as_they_stand_or_relative_to_the_root(tmp_path):
    manifest = read(tmp_path, "./a/1.png,cat", "b/../2.png,dog", "/elsewhere/3.png,eel")
    names_given = ["a/./1.png", str(tmp_path / "2.png"), "/elsewhere/3.png"]
    path = write(tmp_path, "csv", [{"file_name": name, "label": "cat"} for name in names_given])
    assert labels_of(Trusted.of(manifest, path)) == {0: "cat", 1: "cat", 2: "cat"}


def test_a_file_name_that_repeats_in_the_source_is_refused_and_sample_id_finds_it(tmp_path):
    manifest = read(tmp_path, "1.png,cat", "2.png,dog", "1.png,cat")
    path = write(
        tmp_path, "csv", [{"file_name": "2.png", "label": "cat"}, {"file_name": "1.png", "label": "dog"}]
    )
    refuses(manifest, path, "row 1", "2 rows", "'1.png'", "sample_id")
    path = write(tmp_path, "csv", [{"sample_id": 2, "file_name": "1.png", "label": "dog"}])
    assert labels_of(Trusted.of(manifest, path)) == {2: "dog"}


def test_images_inside_a_parquet_file_are_found_by_their_names(tmp_path):
    images = [{"bytes": b"x", "path": name} for name in ("a.png", "b.png", None)]
    manifest = Manifest.read(write_hf(tmp_path / "source.parquet", images, [0, 1, 2]))
    rows = [{"file_name": "b.png", "label": "cat"}, {"file_name": "row-000000002.bin", "label": "dog"}]
    assert labels_of(Trusted.of(manifest, write(tmp_path, "jsonl", rows))) == {1: "cat", 2: "dog"}
    # The class names of a trusted file's own numbers are read from its metadata, too.
    ids = {"sample_id": pa.array([1, 2, 0])}
    write_hf(tmp_path / "trusted.parquet", images, [2, 0, 1], names=["eel", "dog", "cat"], extra=ids)
    assert labels_of(Trusted.of(manifest, tmp_path / "trusted.parquet")) == {0: "dog", 1: "cat", 2: "eel"}


def test_numbers_are_read_as_they_are_written(tmp_path):
    manifest = read(tmp_path, "1.png,7", "2.png,10", "3.png,7")
    names = manifest.class_names
    path = write(tmp_path, "jsonl", [{"sample_id": 1, "label": 7}, {"sample_id": "2", "label": "10"}])
    assert labels_of(Trusted.of(manifest, path), names) == {1: "7", 2: "10"}
    table = pa.table({"sample_id": [1.0, 2.0], "label": pa.array([7, 10], pa.int16())})
    pq.write_table(table, tmp_path / "trusted.parquet")
    assert labels_of(Trusted.of(manifest, tmp_path / "trusted.parquet"), names) == {1: "7", 2: "10"}


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("nowhere.csv", None, ["--trusted", "does not exist"]),
        ("x.xlsx", b"x", [".csv, .tsv, .jsonl, .json, .parquet"]),
        ("x.csv", b"", ["empty"]),
        ("x.csv", b"sample_id,label\n", ["no row that counts"]),
        ("x.jsonl", b"\n", ["no column 'label'", "none"]),
        ("x.csv", b"sample_id,label\n1,cat\n2\n", ["row 1 (line 3)", "1 cells"]),
        ("x.csv", b"label,label\n1,cat\n", ["'label'", "twice"]),
        ("x.csv", b"file_name,label\n1.png,caf\xe9\n", ["row 0", "UTF-8"]),
        ("x.jsonl", b'{"sample_id": 1, "label": "cat"}\n{"sample_id": 2, "label": ["cat"]}\n',
         ["row 1", '["cat"]']),
        ("x.parquet", b"nothing of the kind", ["Parquet"]),
    ],
)  # fmt: skip
def test_a_file_that_is_none_or_broken_is_refused(tmp_path, manifest, name, content, parts):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refuses(manifest, tmp_path / name, *parts)


def test_a_folder_and_labels_that_are_lists_are_refused(tmp_path, manifest):
    (tmp_path / "folder.csv").mkdir()
    refuses(manifest, tmp_path / "folder.csv", "no regular file")
    path = write(tmp_path, "parquet", [{"sample_id": 1, "label": ["cat"]}])
    refuses(manifest, path, "'label'", "make it text")


# ---------------------------------------------------------------- which rows are scored


def slow_scored(given, held_out, file_rows):
    """The rule in plain Python: {row: verified class} of the trusted file -> the rows that are scored."""
    different = [row for row, label in file_rows.items() if given[row] >= 0 and given[row] != label]
    if len(different) < 20:
        return []
    scored, seen = [], dict.fromkeys(file_rows.values(), 0)
    for row, label in sorted(file_rows.items()):
        if given[row] >= 0 and not held_out[row]:
            seen[label] += 1
            if seen[label] % 2 == 0:
                scored.append(row)
    return scored


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_scored_rows_are_every_second_one_of_each_class(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("scored")
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    given = rng.integers(-1, 3, 80)
    given[:6] = [0, 1, 2, 0, 1, 2]
    held_out = rng.random(80) < 0.2
    held_out[:6] = False
    lines = [
        f"{i}.png,{CLASSES[g] if g >= 0 else ''},{'test' if h else ''}"
        for i, (g, h) in enumerate(zip(given, held_out, strict=True))
    ]
    manifest = read(folder, *lines, header="path,label,split")
    rows = rng.permutation(80)[: data.draw(st.integers(15, 60))]
    verified = {int(row): int(rng.integers(0, 3)) for row in rows}
    path = write(folder, "csv", [{"sample_id": row, "label": CLASSES[k]} for row, k in verified.items()])
    trusted = Trusted.of(manifest, path)
    assert np.flatnonzero(trusted.is_scored).tolist() == slow_scored(given, held_out, verified)
    assert labels_of(trusted) == {row: CLASSES[k] for row, k in verified.items()}


def test_the_twentieth_difference_is_what_makes_rows_scored(tmp_path):
    lines = [f"{i}.png,{CLASSES[i % 3]},{'true' if i > 80 else ''}" for i in range(90)]
    manifest = read(tmp_path, *lines, header="path,label,is_trusted")
    rows = [{"sample_id": i, "label": CLASSES[(i + 1) % 3]} for i in range(20)]
    assert not Trusted.of(manifest, write(tmp_path, "csv", rows[:19])).is_scored.any()
    scored = np.flatnonzero(Trusted.of(manifest, write(tmp_path, "csv", rows)).is_scored)
    assert scored.tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    unchecked = Trusted.of(manifest, write(tmp_path, "csv", rows), check=False)
    assert not unchecked.is_scored.any()
    assert labels_of(unchecked) == labels_of(Trusted.of(manifest, write(tmp_path, "csv", rows)))


# ---------------------------------------------------------------- several labels a row

# Each class that a list in a text could be torn apart or mistaken by.
ODD = ("a;b", "a", "b", '["a"]', '["a', 'b"]', "[1]", "1", "x,y|z", "two\nlines", 'say "hi"')


def odd_source(folder):
    """Rows 0.png to 10.png, each of one class of `ODD`."""
    rows = [{"file_name": f"{row}.png", "label": [name]} for row, name in enumerate(ODD)]
    return Manifest.read(write_rows(folder / "odd.jsonl", rows), task="multi")


@pytest.mark.parametrize("kind", KINDS)
def test_a_json_list_has_any_class_name(tmp_path, kind):
    manifest, lists = odd_source(tmp_path), [[name, "a"] for name in ODD]
    rows = [{"sample_id": row, "label": json.dumps(names)} for row, names in enumerate(lists)]
    found = lists_of(manifest, write(tmp_path, kind, rows))
    assert {row: set(names) for row, names in found.items()} == {
        row: set(names) for row, names in enumerate(lists)
    }


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_of_numbers_are_their_texts(tmp_path, kind):
    path = tmp_path / f"trusted.{kind}"
    frame = pd.DataFrame({"sample_id": [0, 1, 2], "label": [[1], [], [1]]})
    if kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    assert lists_of(odd_source(tmp_path), path) == {0: ["1"], 1: [], 2: ["1"]}


def test_indices_of_a_hugging_face_list_have_the_names_of_its_metadata(tmp_path):
    feature = {"feature": {"names": ["a;b", "1"], "_type": "ClassLabel"}, "_type": "List"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    table = pa.table({"sample_id": [0, 1], "label": pa.array([[1], [0, 1]], pa.list_(pa.int64()))})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "trusted.parquet")
    found = lists_of(odd_source(tmp_path), tmp_path / "trusted.parquet")
    assert {row: set(names) for row, names in found.items()} == {0: {"1"}, 1: {"a;b", "1"}}


@pytest.mark.parametrize("decision", [None, "change"])
def test_semicolons_are_read_whatever_separates_the_labels_of_the_source(tmp_path, decision):
    manifest = read(
        tmp_path, "0.png,cat|dog", "1.png,eel|c;d", "2.png,c|d", task="multi", label_separator="|"
    )
    rows = [
        {"sample_id": 0, "label": "cat;eel"},
        {"sample_id": 1, "label": "dog|eel"},
        {"sample_id": 2, "label": "c;d"},
    ]
    path = write(tmp_path, "csv", [row if decision is None else row | {"decision": decision} for row in rows])
    # A decisions.csv of labelfix has semicolons, and would write a class with one as a JSON list.
    last = ["c;d"] if decision is None else ["c", "d"]
    assert lists_of(manifest, path) == {0: ["cat", "eel"], 1: ["dog", "eel"], 2: last}
    path = write(tmp_path, "csv", [{"sample_id": 0, "label": "cat;dogs", "decision": "change"}])
    refuses(manifest, path, "row 0 has the label 'dogs', which is no class")
