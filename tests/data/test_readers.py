"""Sources: what becomes a row, a label or a class, and which bad input is refused in which words."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses_source
from sources import PICTURE, extra_of, labels_of, make_folder, write_hf

from labelfix.data.manifest import Manifest
from labelfix.data.readers import escape_cell, unescape_cell
from labelfix.data.readers.labels import class_order


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# ---------------------------------------------------------------- class folders


def test_folder_rows_come_in_code_point_order_with_the_top_folder_as_class(tmp_path):
    make_folder(tmp_path, "b/2.jpg", "b/10.PNG", "b/sub/deep/1.webp", "b-a/1.jpeg", "Z/é.tif", "b/notes.txt")
    manifest = Manifest.read(tmp_path)
    names = manifest.file_names().to_pylist()
    assert names == ["Z/é.tif", "b-a/1.jpeg", "b/10.PNG", "b/2.jpg", "b/sub/deep/1.webp"] == sorted(names)
    assert labels_of(manifest) == ["Z", "b-a", "b", "b", "b"]
    assert manifest.class_names == ("Z", "b", "b-a")
    assert manifest.name == tmp_path.name


def test_hidden_files_are_ignored_and_unlabeled_is_no_class(tmp_path):
    make_folder(
        tmp_path, "a/1.jpg", "a/.2.jpg", "a/.thumbs/3.jpg", ".git/4.jpg", "b/5.jpg", "_unlabeled/6.jpg"
    )
    manifest = Manifest.read(tmp_path)
    assert manifest.file_names().to_pylist() == ["_unlabeled/6.jpg", "a/1.jpg", "b/5.jpg"]
    assert labels_of(manifest) == [None, "a", "b"]


def test_rows_takes_the_first_rows_of_the_same_order(tmp_path):
    make_folder(tmp_path, *[f"{c}/{i}.jpg" for c in "ab" for i in range(5)])
    whole = Manifest.read(tmp_path).file_names().to_pylist()
    assert Manifest.read(tmp_path, rows=7).file_names().to_pylist() == whole[:7]
    refuses_source(tmp_path, "single class, 'a'", "raise --rows", rows=3)
    refuses_source(tmp_path, "--rows 0", rows=0)


def test_linked_files_and_folders_are_rows_and_circles_end(tmp_path):
    make_folder(tmp_path / "real", "x.jpg")
    make_folder(tmp_path / "set", "a/1.jpg", "b/2.jpg")
    (tmp_path / "set/a/link.jpg").symlink_to(tmp_path / "real/x.jpg")
    (tmp_path / "set/a/circle").symlink_to(tmp_path / "set/a")
    (tmp_path / "set/c").symlink_to(tmp_path / "real")
    names = Manifest.read(tmp_path / "set").file_names().to_pylist()
    assert names == ["a/1.jpg", "a/link.jpg", "b/2.jpg", "c/x.jpg"]


def test_images_outside_of_class_folders(tmp_path):
    make_folder(tmp_path, "1.jpg", "2.jpg")
    refuses_source(tmp_path, "no class folder", f"{tmp_path}/<class>/")
    flat = Manifest.read(tmp_path, require_labels=False)
    assert flat.file_names().to_pylist() == ["1.jpg", "2.jpg"]
    assert labels_of(flat) == [None, None]
    make_folder(tmp_path, "a/1.jpg", "b/1.jpg")
    manifest = Manifest.read(tmp_path)
    assert manifest.num_rows == 2
    assert any("2 images lie in no class folder" in text for text in manifest.warnings)


def test_sources_that_hold_nothing_are_refused(tmp_path):
    refuses_source(tmp_path, tmp_path, "empty")
    refuses_source(tmp_path / "nowhere", "does not exist")
    (tmp_path / "a").mkdir()
    refuses_source(tmp_path, "empty", require_labels=False)
    os.mkfifo(tmp_path / "pipe.csv")
    refuses_source(tmp_path / "pipe.csv", "no regular file")


def test_a_class_with_one_sample_is_warned_about_by_name(tmp_path):
    make_folder(tmp_path, "a/1.jpg", "a/2.jpg", "rare/1.jpg")
    assert any("'rare'" in text for text in Manifest.read(tmp_path).warnings)
    assert not Manifest.read(tmp_path, require_labels=False).warnings


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_labels_are_read_verbatim_and_only_an_empty_cell_is_unlabelled(tmp_path, kind):
    texts = ["007", "true", "NA", "None", "-1", "null", "nan", "", "  ", " cat ", "1.0", "a b"]
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        write(path, "".join(json.dumps({"path": f"{i}.jpg", "label": t}) + "\n" for i, t in enumerate(texts)))
    else:
        mark = "," if kind == "csv" else "\t"
        write(path, f"path{mark}label\n" + "".join(f"{i}.jpg{mark}{t}\n" for i, t in enumerate(texts)))
    expected = [text.strip() or None for text in texts]
    assert labels_of(Manifest.read(path)) == expected


def test_json_values_become_labels_as_json_writes_them(tmp_path):
    values = ["7", 7, True, False, 1.5, None, 12345678901234567890]
    lines = [json.dumps({"image": f"{i}.jpg", "class": value}) for i, value in enumerate(values)]
    manifest = Manifest.read(write(tmp_path / "x.jsonl", "\n".join(lines)))
    assert labels_of(manifest) == ["7", "7", "true", "false", "1.5", None, "12345678901234567890"]


@given(st.lists(st.one_of(st.text(max_size=6), st.integers().map(str)), unique=True))
def test_classes_are_ordered_by_number_or_else_by_code_point(names):
    order = class_order(names)
    assert sorted(order) == sorted(names)
    assert order == class_order(reversed(names))
    if not all(name.lstrip("+-").isascii() and name.lstrip("+-").isdigit() for name in names):
        assert list(order) == sorted(names)


def test_classes_that_are_all_integers_come_in_numeric_order():
    assert class_order(["10", "9", "-1", "007", "7"]) == ("-1", "007", "7", "9", "10")
    assert class_order(["10", "9", "x"]) == ("10", "9", "x")


def test_class_labels_beyond_their_names_are_refused(tmp_path):
    images, path = [{"bytes": b"x", "path": None}] * 3, tmp_path / "x.parquet"
    refuses_source(write_hf(path, images, [0, 1, 7]), "row 2", "7", "3 class names")
    refuses_source(write_hf(path, images, [0, 1, 1], names=["a", "a"]), "class names", "repeated")


def test_a_class_label_has_its_own_order_and_null_or_minus_one_is_unlabelled(tmp_path):
    images = [{"bytes": b"x", "path": f"{i}.png"} for i in range(5)]
    labels, names = [2, 0, -1, None, 2], ["eel", "cat", "ant"]
    manifest = Manifest.read(write_hf(tmp_path / "x.parquet", images, labels, names=names))
    assert manifest.class_names == ("eel", "cat", "ant")
    assert manifest.given.tolist() == [2, 0, -1, -1, 2]
    assert any("'cat'" in text for text in manifest.warnings)


def test_an_integer_label_without_names_is_its_decimal_text(tmp_path):
    images = [{"bytes": b"x", "path": None}] * 3
    path = write_hf(tmp_path / "x.parquet", images, [10, 9, -1], metadata=False)
    manifest = Manifest.read(path)
    assert manifest.class_names == ("-1", "9", "10")
    assert labels_of(manifest) == ["10", "9", "-1"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([" a", None, "b", ""]), ["a", None, "b", None]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),
        (pa.array([True, False, None, True]), ["true", "false", None, "true"]),
        (pa.array([1.5, float("nan"), 2.0, None]), ["1.5", None, "2.0", None]),
    ],
)
def test_parquet_labels_of_every_plain_type_become_text(tmp_path, column, expected):
    table = pa.table({"path": ["1", "2", "3", "4"], "label": column})
    pq.write_table(table, tmp_path / "x.parquet")
    assert labels_of(Manifest.read(tmp_path / "x.parquet")) == expected


@pytest.mark.parametrize(
    "column", [pa.array([["a"], ["b"]]), pa.array([{"a": 1}, {"a": 2}]), pa.array([0, 1], pa.date32())]
)
def test_parquet_labels_of_other_types_are_refused(tmp_path, column):
    pq.write_table(pa.table({"path": ["1", "2"], "label": column}), tmp_path / "x.parquet")
    refuses_source(tmp_path / "x.parquet", "label column 'label'")


# ---------------------------------------------------------------- manifests


def test_columns_are_found_in_their_order_or_by_option(tmp_path):
    path = write(tmp_path / "x.csv", "image,path,class,tag\n1.jpg,2.jpg,a,b\n3.jpg,4.jpg,c,d\n")
    manifest = Manifest.read(path)
    assert manifest.file_names().to_pylist() == ["2.jpg", "4.jpg"]
    assert manifest.pass_through == ("image", "tag")
    chosen = Manifest.read(path, image_column="image", label_column="tag")
    assert chosen.file_names().to_pylist() == ["1.jpg", "3.jpg"]
    assert labels_of(chosen) == ["b", "d"]
    assert chosen.pass_through == ("path", "class")
    assert Manifest.read(**chosen.options).fingerprint == chosen.fingerprint


def test_a_missing_column_is_refused_with_those_that_are_there(tmp_path):
    path = write(tmp_path / "x.csv", "picture,kind\n1.jpg,a\n")
    refuses_source(path, "'picture', 'kind'", "--image-column")
    refuses_source(path, "no label column", "'picture', 'kind'", "--label-column", image_column="picture")
    refuses_source(path, "no column 'nope'", "--label-column", image_column="picture", label_column="nope")
    unlabelled = Manifest.read(path, image_column="picture", require_labels=False)
    assert labels_of(unlabelled) == [None]
    assert unlabelled.class_names == ()


def test_csv_cells_stay_text_as_they_are(tmp_path):
    text = '\ufefffile_name,label,note\r\n"a,1.jpg",x,"1\n2"\r\n\r\nb.jpg,y, 00 \r\nc.jpg,y,"say ""hi"""\r\n'
    manifest = Manifest.read(write(tmp_path / "x.csv", text))
    assert manifest.file_names().to_pylist() == ["a,1.jpg", "b.jpg", "c.jpg"]
    assert extra_of(manifest) == {"note": ["1\n2", " 00 ", 'say "hi"']}


def test_the_empty_tail_of_a_spreadsheet_is_skipped_and_counted(tmp_path):
    rows = ["path,label,,", "1.jpg,a,,", ",,,", "2.jpg,b", ", ,", ",,,,,", "3.jpg,,,"]
    manifest = Manifest.read(write(tmp_path / "x.csv", "\n".join(rows) + "\n"))
    assert manifest.file_names().to_pylist() == ["1.jpg", "2.jpg", "3.jpg"]
    assert labels_of(manifest) == ["a", "b", None]
    assert manifest.warnings[0] == f"{tmp_path}/x.csv: 3 rows hold nothing at all and are skipped"
    refuses_source(write(tmp_path / "y.csv", "path,label,\n1.jpg,a,note\n2.jpg,b,\n"), "row 0", "3 cells")


def test_nan_in_json_lines_is_no_label(tmp_path):
    lines = [
        {"path": f"{row}.jpg", "label": label} for row, label in enumerate([1.0, float("nan"), 2.0, "NaN"])
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert labels_of(Manifest.read(write(tmp_path / "x.jsonl", text))) == ["1.0", None, "2.0", "NaN"]


def test_csv_cells_that_we_escaped_are_read_back_and_tsv_is_left_alone(tmp_path):
    cells = ["=1+1", "'@x", "-1", "+2.5e3", "--", "plain"]
    rows = "".join(f"{i}.jpg,{'ab'[i % 2]},{escape_cell(cell)}\n" for i, cell in enumerate(cells))
    text = "path,label,note\n" + rows
    assert extra_of(Manifest.read(write(tmp_path / "x.csv", text))) == {"note": cells}
    raw = extra_of(Manifest.read(write(tmp_path / "x.tsv", text.replace(",", "\t"))))
    assert raw == {"note": [escape_cell(cell) for cell in cells]}


@given(st.one_of(st.text(), st.text(alphabet="'=+-@\t\r\n1.5e;\"\uff1d")), st.booleans())
def test_escaping_and_unescaping_a_cell_gives_it_back(text, is_first):
    escaped = escape_cell(text, is_first=is_first)
    assert unescape_cell(escaped) == text
    assert not escaped.startswith(("=", "@", "\t", "\r", "\n", "\uff1d"))
    assert not is_first or not escaped.startswith(("+", "-"))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a;=cmd()", "a;'=cmd()"),
        ("a\t=1+1", "a\t'=1+1"),
        ("a\n+1\r\n-2", "a\n'+1\r\n'-2"),
        ('a;""=1', 'a;""\'=1'),
        ("a;'=1", "a;''=1"),
        ("\uff1d1;\uff201", "'\uff1d1;'\uff201"),
        ("a;b, =1; =2", "a;b, =1; =2"),
    ],
)
def test_a_formula_after_another_separator_is_escaped(text, escaped):
    assert escape_cell(text) == escaped


@pytest.mark.parametrize("number", ["-1", "+3.5e4", "-.5", "+7.", "-1E-3"])
def test_plain_numbers_are_not_escaped(number):
    assert escape_cell(number) == number
    assert escape_cell(number + "x").startswith("'")


def test_a_file_name_that_is_no_utf8_is_refused_by_name(tmp_path):
    make_folder(tmp_path, "a/1.jpg", "b/2.jpg")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b/caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    refuses_source(tmp_path, "row 2", "caf", "rename")


def test_json_columns_keep_their_type_where_one_holds_for_all_rows(tmp_path):
    lines = [
        '{"path": "1", "label": "a", "n": 1, "x": 1, "s": "t", "b": true, "box": [1, 2], "mixed": 1, "big": 1}',
        '{"path": "2", "label": "b", "n": 2, "x": 0.5, "s": null, "b": false, "box": [], "mixed": "é", "big": %d}',
        '{"path": "3", "label": "b", "late": {"k": "v"}}',
    ]
    manifest = Manifest.read(write(tmp_path / "x.jsonl", "\n".join(lines) % 2**70))
    schema, boxes = next(manifest.batches()).schema, pa.list_(pa.int64())
    types = {"n": pa.int64(), "x": pa.float64(), "s": pa.string(), "b": pa.bool_(), "box": boxes}
    assert {name: schema.field(name).type for name in types} == types
    extra = extra_of(manifest)
    assert extra["mixed"] == ["1", '"é"', None]
    assert extra["big"] == ["1", str(2**70), None]
    assert extra["box"] == [[1, 2], [], None]
    assert extra["late"] == [None, None, {"k": "v"}]


def test_a_json_column_that_changes_type_in_a_later_batch_is_json_text(tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.data.readers.jsonl.BATCH_ROWS", 2)
    rows = [{"path": str(i), "label": "ab"[i % 2], "v": i, "w": i if i < 3 else 0.5} for i in range(4)]
    rows.append({"path": "5", "label": "a", "v": "x", "w": 2})
    manifest = Manifest.read(write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert extra_of(manifest) == {"v": ["0", "1", "2", "3", '"x"'], "w": [0.0, 1.0, 2.0, 0.5, 2.0]}


def test_parquet_columns_pass_through_with_their_type(tmp_path):
    numbers, words = pa.array([1, 2, 3], pa.int8()), pa.array(["u", "v", "u"]).dictionary_encode()
    table = pa.table({"filename": ["1", "2", "3"], "d": words, "label": ["a", "b", "a"], "n": numbers})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    manifest = Manifest.read(tmp_path / "x.parquet")
    batch = next(manifest.batches())
    assert batch.schema.field("n").type == pa.int8()
    assert pa.types.is_dictionary(batch.schema.field("d").type)
    assert extra_of(manifest) == {"d": ["u", "v", "u"], "n": [1, 2, 3]}


def test_a_damaged_parquet_file_is_refused(tmp_path):
    pq.write_table(pa.table({"path": ["a"] * 5000, "label": ["x", "y"] * 2500}), tmp_path / "y.parquet")
    data = bytearray((tmp_path / "y.parquet").read_bytes())
    data[4:60] = bytes(56)
    (tmp_path / "y.parquet").write_bytes(data)
    refuses_source(tmp_path / "y.parquet", "y.parquet", "Parquet")


# ---------------------------------------------------------------- paths


def test_file_names_are_relative_to_the_root_when_inside_it(tmp_path):
    root = tmp_path / "images"
    make_folder(root, "a/1.jpg")
    cells = ["./a/1.jpg", f"{root}/a//2.jpg", "a/../3.jpg", "../4.jpg", "/elsewhere/5.jpg", "a/6.jpg"]
    path = write(
        tmp_path / "x.csv", "path,label\n" + "".join(f"{c},{'xy'[i % 2]}\n" for i, c in enumerate(cells))
    )
    manifest = Manifest.read(path, root=root)
    expected = ["a/1.jpg", "a/2.jpg", "3.jpg", "../4.jpg", "/elsewhere/5.jpg", "a/6.jpg"]
    assert manifest.file_names().to_pylist() == expected
    assert manifest.images(0, 1)[0].read_bytes() == b"x"
    assert str(manifest.images(4, 5)[0]) == "/elsewhere/5.jpg"
    refuses_source(path, "--root", root=tmp_path / "nowhere")


def test_paths_start_from_the_manifest_without_a_root(tmp_path, monkeypatch):
    make_folder(tmp_path, "a/1.jpg")
    write(tmp_path / "x.csv", "path,label\na/1.jpg,x\na/2.jpg,y\n")
    monkeypatch.chdir(tmp_path)
    assert Manifest.read("x.csv").images(0, 2) == [tmp_path / "a/1.jpg", tmp_path / "a/2.jpg"]


def test_an_empty_image_cell_is_a_row_without_an_image(tmp_path):
    manifest = Manifest.read(write(tmp_path / "x.csv", "path,label\n,x\n,y\n1.jpg,x\n"))
    assert manifest.images(0, 3) == [None, None, tmp_path / "1.jpg"]
    assert manifest.file_names().to_pylist() == ["", "", "1.jpg"]


def test_one_path_may_stand_there_twice_with_the_same_label(tmp_path):
    manifest = Manifest.read(
        write(tmp_path / "x.csv", "path,label\n1.jpg,dog\n2.jpg,cat\n1.jpg,dog\n1.jpg,\n")
    )
    assert labels_of(manifest) == ["dog", "cat", "dog", None]


# ---------------------------------------------------------------- what is refused

GOOD_LINE = '{"path": "1", "label": "a"}\n'
REFUSED = [
    ("x.csv", "", ["empty"]),
    ("x.csv", "path,label\n", ["is empty"]),
    ("x.csv", "path,label\n1,a\n2,a\n", ["a single class, 'a'"]),
    ("x.csv", "path,label\n1,\n2,\n", ["holds no label"]),
    ("x.csv", "picture,label\n1,a\n2,b\n", ["no image column"]),
    ("x.csv", "path,kind\n1,a\n2,b\n", ["no label column"]),
    ("x.csv", "path,label\n1,a\n2,b\n./1,b\n", ["'1' has two labels, 'a' and 'b'"]),
    ("x.csv", "path,label,noise_score\n1,a,x\n2,b,y\n", ["'noise_score'", "corrections.parquet"]),
    ("x.csv", "path,path\na,b\n", ["twice"]),
    ("x.csv", "path,label,x,x\n1,a,b,c\n", ["'x' stands there twice"]),
    ("x.csv", "path,label\n1,a\n\n2\n", ["row 1 (line 4)", "1 cells"]),
    ("x.tsv", "path\tlabel\n1\ta\tb\n", ["row 0 (line 2)", "3 cells"]),
    ("x.csv", "path;label\n1;a\n", ["separated by semicolons; save it with commas"]),
    ("x.csv", "path;label\n1;a,b\n", ["separated by semicolons"]),
    ("x.csv", "path\tlabel\n1\ta\n", ["separated by tabs; save it with commas"]),
    ("x.csv", 'path,label\n"1,a\n', ["line", "correct its quotes"]),
    ("x.csv", "path,label,is_trusted\n1,a,1\n2,b,?\n", ["row 1 has is_trusted '?'"]),
    ("x.csv", "path,label,is_trusted\n1,a,\n2,b,\n3,,true\n", ["row 2 is trusted"]),
    ("x.csv", "path,label,split\n1,a,test\n2,b,val\n", ["leaves no labelled row to train on"]),
    ("x.csv", "path,label,split\n1,a,\n2,b,val\n", ["only rows of 'a' to train on"]),
    ("x.csv", b"path,label\n1,a\n2,caf\xe9\n", ["row 1", "UTF-8"]),
    ("x.csv", b"path,caf\xe9\n1,a\n", ["header", "UTF-8"]),
    ("x.csv", "path,label\n1,a\n".encode("utf-16"), ["header", "UTF-8"]),
    ("x.jsonl", "\n", ["empty"]),
    ("x.jsonl", b'{"path":"1","label":"a"}\n{"path":"\xe9"}\n', ["row 1", "UTF-8"]),
    ("x.jsonl", b'{"path":"1","caf\xe9":"a"}\n', ["row 0 (line 1)", "UTF-8"]),
    *(
        ("x.jsonl", f'{{"path": "1", "label": "a", "x": {value}}}\n', ["row 0 (line 1)", "UTF-8"])
        for value in (r'"\ud800"', r'["\ud83d"]', r'{"\udc00": 1}')
    ),
    *(
        ("x.jsonl", f"{GOOD_LINE}\n{line}\n", ["row 1"])
        for line in ("{", "[1]", "3", '{"path": 3, "label": "a"}', '{"path": "a", "label": {}}')
    ),
    ("x.jsonl", GOOD_LINE + '{"path": "2"\n', ["row 1 (line 2)"]),
    ("x.jsonl", GOOD_LINE + '{"path": "2", "label": ["x", "y"]}\n', ["row 1", "multi-label"]),
    ("x.parquet", "no", ["cannot be read as Parquet"]),
    ("x.xlsx", "no", ["is no source", ".csv, .tsv, .jsonl, .json, .parquet"]),
]


@pytest.mark.parametrize(("name", "content", "parts"), REFUSED)
def test_a_bad_manifest_is_refused_in_one_line_that_names_it(tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    refuses_source(tmp_path / name, tmp_path / name, *parts)


# ---------------------------------------------------------------- Hugging Face


def test_hugging_face_names_come_from_the_path_or_the_row_and_are_unique(tmp_path):
    heads = [b"\xff\xd8\xff", b"\x89PNG", b"RIFF1234WEBP", b"BM", b"GIF89a", b"II*\0", b"??", None]
    images = [{"bytes": head, "path": None} for head in heads]
    images += [
        {"bytes": b"x", "path": path}
        for path in ["a/b.c/x.png", "a/b.c/x.png", "row-000000000.jpg", "n", "n"]
    ]
    images += [{"bytes": b"x", "path": "a/b.c/x-000000009.png"}, None]
    manifest = Manifest.read(write_hf(tmp_path / "x.parquet", images, [0, 1] * 7 + [0]))
    names = manifest.file_names().to_pylist()
    ends = ["jpg", "png", "webp", "bmp", "gif", "tiff", "bin", "bin"]
    assert names[:8] == [f"row-{i:09d}.{end}" for i, end in enumerate(ends)]
    assert names[8:10] == ["a/b.c/x.png", "a/b.c/x-000000009.png"]
    assert names[10:13] == ["row-000000000-000000010.jpg", "n", "n-000000012"]
    assert names[13:] == ["a/b.c/x-000000009-000000013.png", "row-000000014.bin"]
    assert manifest.images(0, 15)[6:8] == [b"??", None]
    assert manifest.images(14, 15) == [None]


def test_hugging_face_images_are_read_by_row_across_row_groups(tmp_path):
    images = [{"bytes": b"%d" % i, "path": f"{i}.png"} for i in range(25)]
    other = {"other": pa.array(range(25))}
    path = write_hf(tmp_path / "x.parquet", images, [0, 1, 2, 0, 1] * 5, extra=other, row_group_size=4)
    manifest = Manifest.read(path)
    assert manifest.images(3, 9) == [b"%d" % i for i in range(3, 9)]
    chunks = list(manifest.image_chunks(3))
    assert [image for _, images in chunks for image in images] == [b"%d" % i for i in range(25)]
    assert all(len(images) <= 3 and images[0] == b"%d" % first for first, images in chunks)
    assert list(manifest.sample_images(np.array([0, 7, 24]))) == [b"0", b"7", b"24"]
    assert extra_of(manifest) == {"other": list(range(25))}
    assert extra_of(Manifest.read(path, rows=6)) == {"other": list(range(6))}


def test_hugging_face_labels_may_be_text_and_other_class_labels_pass_through(tmp_path):
    images = [{"bytes": b"x", "path": f"{i}.png"} for i in range(3)]
    path = write_hf(tmp_path / "x.parquet", images, ["b", "a", "b"], extra={"human": pa.array([1, 0, 1])})
    manifest = Manifest.read(path)
    assert labels_of(manifest) == ["b", "a", "b"]
    assert extra_of(manifest) == {"human": [1, 0, 1]}


def test_an_image_column_that_is_neither_path_nor_struct_is_refused(tmp_path):
    pq.write_table(pa.table({"image": pa.array([b"x", b"y"]), "label": ["a", "b"]}), tmp_path / "x.parquet")
    refuses_source(tmp_path / "x.parquet", "'image'", "binary", "--image-column")


@pytest.mark.parametrize("kind", [pa.string(), PICTURE])
def test_two_image_columns_are_refused(tmp_path, kind):
    images = pa.array([None, None], kind)
    table = pa.Table.from_arrays([images, images, pa.array(["a", "b"])], ["image", "image", "label"])
    pq.write_table(table, tmp_path / "x.parquet")
    for source in (tmp_path / "x.parquet", table):
        refuses_source(source, "'image' stands there twice; rename one of them")


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=20))
def test_csv_and_jsonl_of_any_text_give_the_same_rows(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    with (folder / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "note"])
        writer.writerows([f"{i}.jpg", escape_cell(a), escape_cell(b)] for i, (a, b) in enumerate(rows))
    lines = [json.dumps({"path": f"{i}.jpg", "label": a, "note": b}) for i, (a, b) in enumerate(rows)]
    write(folder / "x.jsonl", "\n".join(lines))
    one, two = (Manifest.read(folder / name, require_labels=False) for name in ("x.csv", "x.jsonl"))
    assert labels_of(one) == labels_of(two)
    assert extra_of(one) == extra_of(two) == {"note": [b for _, b in rows]}
    assert one.fingerprint == two.fingerprint


def test_links_that_lead_back_to_themselves_are_no_folders(tmp_path):
    make_folder(tmp_path, "cat/0.png", "dog/0.png")
    for link in ("loop", "cat/loop", "cat/loop.png"):
        (tmp_path / link).symlink_to(tmp_path / link)
    names = Manifest.read(tmp_path).file_names().to_pylist()
    assert names == ["cat/0.png", "cat/loop.png", "dog/0.png"]


def test_the_cache_never_lies_inside_a_source(tmp_path, monkeypatch):
    make_folder(tmp_path, "cat/0.png", "dog/0.png")
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cat" / ".cache"))
    refuses_source(tmp_path, "LABELFIX_CACHE")
