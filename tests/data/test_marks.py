"""What a source says beside image and label: verified rows, splits and groups, from every kind of manifest."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses_source
from sources import write_hf
from sources import write_rows as write

from labelfix.data.manifest import Manifest
from labelfix.data.readers.marks import MarkedRows, Marks

KINDS = ["csv", "tsv", "jsonl", "parquet", "hf"]


def write_rows(folder, kind, rows):
    """A manifest of one kind from a list of dicts with `path`, `label` and more."""
    if kind != "hf":
        return write(folder / f"x.{kind}", rows)
    columns = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    images = [{"bytes": b"x", "path": name} for name in columns.pop("path").to_pylist()]
    labels = columns.pop("label")
    return write_hf(folder / "x.parquet", images, labels, extra=columns, metadata=False, row_group_size=3)


def rows_with(**columns):
    """Ten rows, five of "a" and five of "b", and the columns given by their first values (the rest None)."""
    rows = [{"path": f"{i}.png", "label": "ab"[i % 2]} for i in range(10)]
    for name, values in columns.items():
        for i, row in enumerate(rows):
            row[name] = values[i] if i < len(values) else None
    return rows


def refuses(source, *parts, **options):
    refuses_source(source, source, *parts, **options)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_no_column_says_nothing(self, tmp_path, kind):
        manifest = Manifest.read(write_rows(tmp_path, kind, rows_with()))
        assert manifest.is_trusted.tolist() == manifest.held_out.tolist() == [False] * 10
        assert manifest.is_trusted.dtype == manifest.held_out.dtype == bool
        assert manifest.groups is None

    def test_booleans_mark_trusted_rows_and_do_not_pass_through(self, tmp_path, kind):
        path = write_rows(tmp_path, kind, rows_with(is_trusted=[True, False, None, True], note=["n"]))
        manifest = Manifest.read(path)
        assert np.flatnonzero(manifest.is_trusted).tolist() == [0, 3]
        assert manifest.pass_through == ("note",)
        with pytest.raises(ValueError, match="read-only"):
            manifest.is_trusted[0] = False

    @pytest.mark.parametrize(
        ("marks", "trusted"),
        [
            ([1, 0, None, 1], [0, 3]),
            (["TRUE", " yes ", "1", "False", "no", "0", "", " "], [0, 1, 2]),
        ],
    )
    def test_ones_zeros_and_words_mark_trusted_rows(self, tmp_path, kind, marks, trusted):
        path = write_rows(tmp_path, kind, rows_with(is_trusted=marks))
        assert np.flatnonzero(Manifest.read(path).is_trusted).tolist() == trusted

    @pytest.mark.parametrize(
        ("marks", "parts"),
        [([1, 0, 1, 0, 2], ["row 4", "'2'", "true or false"]), (["yes", "maybe"], ["row 1", "'maybe'"])],
    )
    def test_another_mark_is_refused_by_row_and_value(self, tmp_path, kind, marks, parts):
        refuses(write_rows(tmp_path, kind, rows_with(is_trusted=marks)), "is_trusted", *parts)

    def test_a_trusted_row_needs_a_label_where_labels_matter(self, tmp_path, kind):
        rows = rows_with(is_trusted=["true"] * 9)
        rows[7]["label"] = None
        path = write_rows(tmp_path, kind, rows)
        refuses(path, "row 7", "is_trusted", "no label")
        assert Manifest.read(path, require_labels=False).given[7] == -1

    def test_test_and_validation_rows_are_held_out_and_the_column_passes_through(self, tmp_path, kind):
        splits = ["train", "test", " Val", "VALIDATION ", "", "Testing", "dev", "extra"]
        manifest = Manifest.read(write_rows(tmp_path, kind, rows_with(split=splits)))
        assert np.flatnonzero(manifest.held_out).tolist() == [1, 2, 3, 5, 6]
        assert manifest.pass_through == ("split",)
        kept = [value for batch in manifest.batches() for value in batch.column(2).to_pylist()]
        assert kept[:8] == splits
        assert any("'extra'" in text and "trained on" in text for text in manifest.warnings)

    @pytest.mark.parametrize(
        ("groups", "codes"),
        [
            (["p2", "p1", None, "p2", "", " p1 ", "p3", " "], [0, 1, 2, 0, 3, 1, 4, 5, 6, 7]),
            ([7, 3, 7, 3, 3, 3, 3, 3, 3, 9], [0, 1, 0, 1, 1, 1, 1, 1, 1, 2]),
        ],
    )
    def test_groups_are_numbered_as_they_appear_and_no_group_is_one_of_its_own(
        self, tmp_path, kind, groups, codes
    ):
        manifest = Manifest.read(write_rows(tmp_path, kind, rows_with(group=groups)))
        assert manifest.groups.dtype == np.int64
        assert manifest.groups.tolist() == codes
        assert manifest.pass_through == ("group",)
        with pytest.raises(ValueError, match="read-only"):
            manifest.groups[0] = 1

    def test_marks_change_neither_key(self, tmp_path, kind):
        first = Manifest.read(write_rows(tmp_path, kind, rows_with()))
        rows = rows_with(is_trusted=["true"], split=["test"], group=["g"])
        second = Manifest.read(write_rows(tmp_path, kind, rows))
        assert first.fingerprint == second.fingerprint
        if kind in ("csv", "tsv", "jsonl"):  # the image key of images inside a file has the file's time
            assert first.image_key == second.image_key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("splits", "parts"),
    [
        (["test"] * 10, ("no labelled row", "split")),
        (["test", "train"] * 5, ("only rows of 'b'", "two classes")),
    ],
)
def test_what_is_left_to_train_on_has_two_classes(tmp_path, kind, splits, parts):
    path = write_rows(tmp_path, kind, rows_with(split=splits))
    refuses(path, *parts)
    # A source that is only looked up, predicted or tested on may hold out everything.
    assert Manifest.read(path, require_labels=False).held_out.sum() in (5, 10)


def test_held_out_rows_beyond_the_first_are_not_blamed(tmp_path):
    path = write_rows(tmp_path, "csv", rows_with(split=["test"] * 4))
    refuses(path, "among the first 4 rows", "raise --rows", rows=4)
    assert Manifest.read(path).limit is None
    assert Manifest.read(path, rows=8).limit == 8


def test_a_class_with_one_row_to_train_on_is_warned_about_and_ordinary_splits_are_not(tmp_path):
    path = write_rows(tmp_path, "csv", rows_with(split=["test", "train"] * 4))
    (warning,) = Manifest.read(path).warnings
    assert "fewer than 2 samples to train on in class 'a'" in warning
    write_rows(tmp_path, "csv", rows_with(split=["train", "Training", "test", "val", ""]))
    assert Manifest.read(path).warnings == ()


def test_a_mark_column_that_is_the_label_is_only_that(tmp_path):
    splits = ["test", *["train", "val"] * 4, "train"]
    rows = rows_with(split=splits, is_trusted=["1", "0", "0", "1", "1"] * 2)
    path = write_rows(tmp_path, "csv", rows)
    by_mark = Manifest.read(path, label_column="is_trusted")
    assert by_mark.class_names == ("0", "1")
    assert not by_mark.is_trusted.any()
    assert by_mark.held_out.sum() == 5
    by_split = Manifest.read(path, label_column="split")
    assert by_split.class_names == ("test", "train", "val")
    assert not by_split.held_out.any()
    assert by_split.is_trusted.sum() == 6


def test_json_rows_of_mixed_types_are_read_as_they_are_meant(tmp_path):
    rows = rows_with(split=["test", 1, "train"], group=["1", 1, 1.5, True], is_trusted=[True, "yes", 1, 0])
    manifest = Manifest.read(write_rows(tmp_path, "jsonl", rows))
    assert np.flatnonzero(manifest.held_out).tolist() == [0]
    assert manifest.groups.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert np.flatnonzero(manifest.is_trusted).tolist() == [0, 1, 2]


@pytest.mark.parametrize("column", ["is_trusted", "split", "group"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_mark_that_is_a_list_is_refused(tmp_path, kind, column):
    path = write_rows(tmp_path, kind, rows_with(**{column: [["x"]] * 10}))
    refuses(path, column, "make it text or")


@pytest.mark.parametrize(
    "marks",
    [
        pa.array([True, False] * 5).dictionary_encode(),
        pa.array([1.0, 0.0, 1.0, None, 1.0, float("nan"), 1.0, 0.0, 1.0, 0.0]),
        pa.array([1, 0] * 5, pa.uint8()),
        pa.array(["true", None] * 5, pa.large_string()),
        pa.array(["true", ""] * 5).dictionary_encode(),
    ],
)
def test_parquet_marks_of_every_plain_type(tmp_path, marks):
    columns = {"path": [f"{i}" for i in range(10)], "label": ["a"] * 5 + ["b"] * 5, "is_trusted": marks}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert Manifest.read(tmp_path / "x.parquet").is_trusted.tolist() == [True, False] * 5


one_batch = st.lists(st.none() | st.sampled_from("abcd"), min_size=1, max_size=8)


@given(batches=st.lists(one_batch, min_size=1, max_size=5))
def test_group_codes_are_those_of_a_slow_count(batches):
    marked = MarkedRows()
    for batch in batches:
        marked.add(Marks(group=pa.array(batch, pa.string())), len(batch))
    expected, known = [], {}
    for row, group in enumerate(group for batch in batches for group in batch):
        expected.append(known.setdefault(row if group is None else group, len(known)))
    assert marked.finished()[2].tolist() == expected
