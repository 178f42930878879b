"""Sources with several labels a row: lists, separated texts, a column for each class, and what tools write."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from refusals import refuses_source

from labelfix.data.manifest import Manifest
from labelfix.data.readers.several_labels import column_names, columns_text
from labelfix.methods import method_names, multi_label_methods

NAMES = ["0.png", "1.png", "2.png", "3.png"]
LISTS = [["b", " a "], [], None, ["a", "a", ""]]
TARGETS = [[1, 1, 0], [0, 0, 0], [np.nan] * 3, [1, 0, 0]]
EXTRA = "4.png", ["c"], [0, 0, 1]


def targets_of(source, **options):
    manifest = Manifest.read(source, **{"task": "auto", **options})
    assert manifest.task == "multi"
    assert manifest.targets.dtype == np.float32
    assert not manifest.targets.flags.writeable
    return manifest


def expected(manifest):
    assert manifest.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(manifest.targets, [*TARGETS, EXTRA[2]])
    # The rarest class of each row, one more than the last for none of them.
    assert manifest.given.tolist() == [1, 3, -1, 0, 2]
    assert manifest.label_of(0) == ["a", "b"]
    assert manifest.label_of(1) == []
    assert manifest.label_of(2) is None


def records():
    return [
        {"file_name": n, "label": labels}
        for n, labels in zip([*NAMES, EXTRA[0]], [*LISTS, EXTRA[1]], strict=True)
    ]


def test_lists_in_json(tmp_path):
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
    (tmp_path / "m.json").write_text(json.dumps(records()))
    expected(targets_of(tmp_path / "m.jsonl"))
    expected(targets_of(tmp_path / "m.json", task="multi"))


def test_lists_in_parquet_and_frames(tmp_path):
    frame = pd.DataFrame(records())
    frame.to_parquet(tmp_path / "m.parquet")
    expected(targets_of(tmp_path / "m.parquet"))
    expected(targets_of(frame, root=tmp_path))
    expected(targets_of(pa.Table.from_pandas(frame), root=tmp_path))


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("form", [list, tuple, lambda labels: np.array(labels, object)])
@pytest.mark.parametrize("task", ["auto", "multi"])
def test_frames_hold_lists_tuples_or_arrays_after_rows_without_any(tmp_path, missing, form, task):
    cells = [missing if labels is None else form(labels) for labels in (None, ["b", " a "], [], ["a"])]
    cells[3:] = [cells[3], missing]
    frame = pd.DataFrame({"file_name": [*NAMES, "4.png"], "label": pd.Series(cells, dtype=object)})
    manifest = targets_of(frame, root=tmp_path, task=task)
    assert manifest.class_names == ("a", "b")
    np.testing.assert_array_equal(manifest.targets, [[np.nan] * 2, [1, 1], [0, 0], [1, 0], [np.nan] * 2])


def test_a_frame_that_was_an_arrow_table_holds_the_same_lists(tmp_path):
    expected(targets_of(pa.Table.from_pandas(pd.DataFrame(records())).to_pandas(), root=tmp_path))


def test_class_labels_in_lists_have_the_names_and_order_of_the_metadata(tmp_path):
    feature = {"feature": {"names": ["z", "a"], "_type": "ClassLabel"}, "_type": "List"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    table = pa.table({"path": ["0", "1", "2"], "label": pa.array([[0, 1], [], [1]], pa.list_(pa.int64()))})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "m.parquet")
    manifest = targets_of(tmp_path / "m.parquet")
    assert manifest.class_names == ("z", "a")
    assert manifest.targets.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_separated_texts(tmp_path):
    (tmp_path / "m.csv").write_text("file_name,label\n0.png,b; a \n1.png,;\n2.png,\n3.png,a;a;\n4.png,c\n")
    expected(targets_of(tmp_path / "m.csv", label_separator=";"))
    single = Manifest.read(tmp_path / "m.csv", task="auto")
    assert single.task == "single"
    assert "a;a;" in single.class_names


def test_a_text_may_be_a_json_list_which_holds_any_name(tmp_path):
    cells = ['["a;b", " c "]', "[]", "", "c;[c]", "[1]", '["c", 1]', '["c"', " [1, 2]"]
    rows = [{"file_name": f"{row}.png", "label": cell} for row, cell in enumerate(cells)]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "m.csv", index=False)
    frame.to_parquet(tmp_path / "m.parquet")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = [["a;b", "c"], [], None, ["c", "[c]"], ["[1]"], ['["c", 1]'], ['["c"'], ["[1, 2]"]]
    for source in (*(tmp_path / name for name in ("m.csv", "m.parquet", "m.jsonl")), frame):
        options = {"root": tmp_path} if source is frame else {}
        manifest = targets_of(source, label_separator=";", **options)
        found = [manifest.label_of(row) for row in range(len(cells))]
        assert [one if one is None else sorted(one) for one in found] == [
            one if one is None else sorted(one) for one in expected
        ]


SOFT = [[0.25, 1, 0], [0, 0, 0.5], [np.nan] * 3, [1, 0.1, 0]]


def test_a_column_for_each_class_keeps_soft_values_and_its_order(tmp_path):
    frame = pd.DataFrame(SOFT, columns=["z", "a", "m"]).assign(file_name=NAMES, note="x")
    for path, write in ("m.csv", "to_csv"), ("m.parquet", "to_parquet"):
        getattr(frame, write)(tmp_path / path, index=False)
    (tmp_path / "m.jsonl").write_text(frame.to_json(orient="records", lines=True))
    for name in "m.csv", "m.parquet", "m.jsonl":
        manifest = targets_of(tmp_path / name, label_columns=["z", "a", "m"])
        assert manifest.class_names == ("z", "a", "m")
        assert manifest.pass_through == ("note",)
        np.testing.assert_array_equal(manifest.targets, np.array(SOFT, np.float32))
        again = Manifest.read(**manifest.options)
        assert (again.fingerprint, again.task) == (manifest.fingerprint, "multi")


def test_blanks_around_the_names_of_columns_are_none_of_theirs():
    assert column_names("a, b ,c,") == ("a", "b", "c")
    assert column_names(["a", " b "]) == ("a", " b ")
    assert column_names(None) is None


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a", "b c"], "a,b c"),
        (["big", "salt, pepper"], '["big", "salt, pepper"]'),
        (["a", " b"], '["a", " b"]'),
        (['["a"', '"b"]'], r'["[\"a\"", "\"b\"]"]'),
        (["größe", ""], '["größe", ""]'),
    ],
)
def test_names_of_columns_as_one_text(names, text):
    assert columns_text(names) == text
    assert column_names(text) == tuple(names)


@pytest.mark.parametrize("name", ["m.csv", "m.parquet", "m.jsonl"])
def test_a_table_without_any_of_the_columns_is_unlabelled_where_no_labels_are_needed(tmp_path, name):
    frame = pd.DataFrame({"file_name": NAMES, "note": "x"})
    frame.to_csv(tmp_path / "m.csv", index=False)
    frame.to_parquet(tmp_path / "m.parquet")
    frame.to_json(tmp_path / "m.jsonl", orient="records", lines=True)
    manifest = targets_of(tmp_path / name, label_columns=["a", "b"], require_labels=False)
    assert np.isnan(manifest.targets).all()
    assert manifest.pass_through == ("note",)


def test_lists_that_are_all_empty_are_refused_where_labels_are_needed(tmp_path):
    rows = [
        {"file_name": name, "label": label} for name, label in zip(NAMES, ([], [], None, []), strict=True)
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refuses_source(tmp_path / "m.jsonl", "no class", "others lack", task="multi")
    manifest = targets_of(tmp_path / "m.jsonl", require_labels=False)
    assert (manifest.class_names, manifest.targets.shape) == ((), (4, 0))
    assert manifest.label_of(0) == []


def test_the_fingerprint_sees_every_label(tmp_path):
    found = set()
    for label in (["a"], ["a", "b"], []):
        path = tmp_path / "m.jsonl"
        rows = [
            {"file_name": "0", "label": label},
            {"file_name": "1", "label": ["a", "b"]},
            {"file_name": "2", "label": []},
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found.add(targets_of(path).fingerprint)
    assert len(found) == 3


def test_label_studio_choices_and_coco_categories(tmp_path):
    tasks = [
        {
            "data": {"image": f"{row}.png"},
            "annotations": [{"result": [{"value": {"choices": labels}}] if labels else []}],
        }
        for row, labels in enumerate((["b", "a"], [], ["a"]))
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    assert targets_of(tmp_path / "tasks.json").targets.tolist() == [[1, 1], [0, 0], [1, 0]]
    coco = {
        "images": [{"id": row, "file_name": f"{row}.png"} for row in range(3)],
        "categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}],
        "annotations": [
            {"image_id": 0, "category_id": 7},
            {"image_id": 0, "category_id": 2},
            {"image_id": 0, "category_id": 7},
            {"image_id": 2, "category_id": 2},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    manifest = targets_of(tmp_path / "coco.json")
    assert manifest.class_names == ("b", "a")
    assert manifest.targets.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_fiftyone_classifications(tmp_path):
    def sample(name, *labels):
        several = {"_cls": "Classifications", "classifications": [{"label": label} for label in labels]}
        return {"filepath": name, "ground_truth": several}

    content = {"samples": [sample("0.png", "a", "b"), sample("1.png"), sample("2.png", "b")]}
    (tmp_path / "samples.json").write_text(json.dumps(content))
    assert targets_of(tmp_path / "samples.json").targets.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_one_label_a_row_stays_single_with_auto(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "0", "label": "a"}\n{"path": "1", "label": "b"}\n')
    assert (
        Manifest.read(tmp_path / "m.jsonl", task="auto").fingerprint
        == Manifest.read(tmp_path / "m.jsonl").fingerprint
    )


CSV = "file_name,label,a,b\n0.png,x;y,1,0\n1.png,y,0,1\n"


@pytest.mark.parametrize(
    ("content", "options", "parts"),
    [
        (CSV, {"task": "multi"}, ("--label-separator",)),
        (CSV, {"label_columns": ["a", "c"]}, ("'c'", "--label-columns")),
        (CSV, {"label_columns": ["a", "a"]}, ("--label-columns", "twice")),
        (
            CSV,
            {"label_columns": ["a"], "label_column": "b"},
            ("--label-columns", "--label-column", "exclude"),
        ),
        (CSV, {"label_separator": " "}, ("--label-separator", "blank")),
        (CSV.replace("1,0", "2,0"), {"label_columns": ["a", "b"]}, ("row 0", "'2'", "'a'", "0 to 1")),
        (CSV.replace("1,0", "x,0"), {"label_columns": ["a", "b"]}, ("row 0", "'x'", "'a'")),
        (CSV.replace("1,0", "1,"), {"label_columns": ["a", "b"]}, ("row 0", "'b'", "write 0")),
        (CSV.replace("0,1", "1,0"), {"label_columns": ["a", "b"]}, ("no class", "others lack")),
        (CSV.replace("1,0", ",").replace("0,1", ","), {"label_columns": ["a", "b"]}, ("holds no label",)),
        (CSV.replace("1.png", "0.png"), {"label_separator": ";"}, ("'0.png'", "twice")),
    ],
)
def test_bad_sources_are_refused_in_one_line(tmp_path, content, options, parts):
    (tmp_path / "m.csv").write_text(content)
    refuses_source(tmp_path / "m.csv", *parts, **{"task": "auto", **options})


def test_where_one_label_is_read_several_are_refused_with_the_methods_that_take_them(tmp_path):
    (tmp_path / "m.csv").write_text(CSV)
    for options in {"label_separator": ";"}, {"label_columns": ["a", "b"]}:
        option = next(iter(options)).replace("_", "-")
        refuses_source(tmp_path / "m.csv", option, *multi_label_methods(), **options)
    assert set(multi_label_methods()) < set(method_names())
