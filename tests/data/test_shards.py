"""A folder of Parquet shards as one source: row numbers, images and keys across shards, and what is refused."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from decoding_count import rows_decoded
from refusals import refuses_source
from runs import QUICK, result_bytes
from sklearn.datasets import load_digits
from sources import extra_of, labels_of, make_folder, write_hf

import labelfix
from labelfix.data.images.decoding import encode
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest


def images(first, stop):
    return [{"bytes": b"%d" % i, "path": None} for i in range(first, stop)]


@pytest.fixture
def shards(tmp_path):
    """Three shards of 5, 0 and 7 rows, the larger in row groups of 2, and what is no shard beside them."""
    top = tmp_path / "pets"
    top.mkdir()
    first = 0
    for name, rows in (("part-10.parquet", 5), ("part-2.parquet", 0), ("part-9.PARQUET", 7)):
        stop = first + rows
        labels, extra = [i % 3 for i in range(first, stop)], {"n": pa.array(range(first, stop), pa.int64())}
        labels = pa.array(labels, pa.int64())
        write_hf(top / name, images(first, stop), labels, extra=extra, row_group_size=2)
        first = stop
    (top / "README.md").write_text("about")
    (top / ".hidden.parquet").write_bytes(b"no Parquet")
    return top


@pytest.fixture
def pair(tmp_path):
    """Writes two shards of two rows each; how the second one differs from what it would be."""

    def write(extra=None, *, labels=(0, 1), **others):
        write_hf(tmp_path / "0.parquet", images(0, 2), [0, 1], extra=extra and {"n": pa.array([1, 2])})
        write_hf(tmp_path / "1.parquet", images(2, 4), list(labels), extra=extra, **others)

    return write


def test_rows_come_shard_by_shard_in_code_point_order_and_are_numbered_through(shards):
    manifest = Manifest.read(shards)
    assert manifest.num_rows == 12
    assert manifest.name == "pets"
    assert extra_of(manifest) == {"n": list(range(12))}
    assert manifest.file_names().to_pylist() == [f"row-{i:09d}.bin" for i in range(12)]
    assert labels_of(manifest) == [["cat", "dog", "eel"][i % 3] for i in range(12)]
    assert manifest.class_names == ("cat", "dog", "eel")


def test_images_are_read_by_row_across_shards(shards):
    manifest = Manifest.read(shards)
    every = [b"%d" % i for i in range(12)]
    assert manifest.images(0, 12) == every
    assert manifest.images(4, 6) == every[4:6]
    assert list(manifest.sample_images(np.array([0, 4, 5, 11]))) == [every[i] for i in (0, 4, 5, 11)]
    chunks = list(manifest.image_chunks(3))
    assert [image for _, some in chunks for image in some] == every
    assert all(some[0] == b"%d" % first for first, some in chunks)


def test_the_first_rows_may_end_inside_a_shard(shards):
    for rows in (4, 5, 6, 11):
        manifest = Manifest.read(shards, rows=rows)
        assert extra_of(manifest) == {"n": list(range(rows))}
        assert manifest.images(0, rows) == [b"%d" % i for i in range(rows)]
    assert Manifest.read(shards, rows=99).num_rows == 12


def test_shards_have_the_fingerprint_of_the_same_rows_in_one_file(shards, tmp_path):
    whole = pa.concat_tables(pq.read_table(path) for path in sorted(shards.glob("part*")))
    pq.write_table(whole, tmp_path / "one.parquet")
    assert Manifest.read(shards).fingerprint == Manifest.read(tmp_path / "one.parquet").fingerprint


def test_names_sizes_and_times_of_the_shards_are_the_image_key(shards, tmp_path):
    first = Manifest.read(shards)
    copy = tmp_path / "elsewhere"
    shutil.copytree(shards, copy, copy_function=shutil.copy2)
    assert Manifest.read(copy).image_key == first.image_key
    os.utime(copy / "part-9.PARQUET", ns=(1, 1))
    touched = Manifest.read(copy)
    assert touched.fingerprint == first.fingerprint
    (copy / "part-2.parquet").rename(copy / "part-3.parquet")
    others = [touched, Manifest.read(copy), Manifest.read(copy, rows=9)]
    assert len({manifest.image_key for manifest in (first, *others)}) == 4


def test_a_name_that_repeats_in_a_later_shard_gets_its_row_number(tmp_path):
    for i in range(2):
        named = [{"bytes": b"x", "path": "a.png"}, {"bytes": b"y", "path": f"{i}.png"}]
        write_hf(tmp_path / f"{i}.parquet", named, [0, 1])
    names = Manifest.read(tmp_path).file_names().to_pylist()
    assert names == ["a.png", "0.png", "a-000000002.png", "1.png"]


def test_paths_in_shards_start_at_their_folder_or_the_root(tmp_path):
    make_folder(tmp_path / "set" / "images", "1.png", "2.png")
    for i in (1, 2):
        table = pa.table({"path": [f"images/{i}.png", "3.png"], "label": ["a", "b"]})
        pq.write_table(table, tmp_path / "set" / f"{i}.parquet")
    manifest = Manifest.read(tmp_path / "set")
    assert manifest.images(0, 4)[2] == tmp_path / "set/images/2.png"
    assert manifest.file_names()[2].as_py() == "images/2.png"
    assert Manifest.read(tmp_path / "set", root=tmp_path).images(0, 1) == [tmp_path / "images/1.png"]
    again = Manifest.read(**Manifest.read(tmp_path / "set", root=tmp_path).options)
    assert again.images(0, 1) == [tmp_path / "images/1.png"]


def test_options_read_the_same_shards_again(shards):
    manifest = Manifest.read(shards)
    again = Manifest.read(**manifest.options)
    assert (again.fingerprint, again.image_key) == (manifest.fingerprint, manifest.image_key)


def test_class_folders_win_over_parquet_files_beside_them_and_say_so(tmp_path):
    make_folder(tmp_path, "a/1.jpg", "b/1.jpg")
    write_hf(tmp_path / "x.parquet", images(0, 2), [0, 1])
    manifest = Manifest.read(tmp_path)
    assert manifest.file_names().to_pylist() == ["a/1.jpg", "b/1.jpg"]
    assert any("1 Parquet file" in text for text in manifest.warnings)


@pytest.mark.parametrize(
    "names",
    [
        "train-00000-of-00002 train-00001-of-00002 test-00000-of-00001",
        "train test",
        "Validation_1 test_1",
        "unsupervised-00000-of-00001 test-00000-of-00001 0",
        "clean-0-of-1 test_noisy-0-of-1",
    ],
)
def test_shards_of_several_splits_are_refused(tmp_path, names):
    for name in names.split():
        write_hf(tmp_path / f"{name}.parquet", images(0, 2), [0, 1])
    text = refuses_source(tmp_path, tmp_path, "holds splits", "test", "folder of its own")
    assert text.removesuffix(")").rpartition(" ")[2].endswith(".parquet")


@pytest.mark.parametrize(
    "names", ["train-00000-of-00002 train-00001-of-00002", "part-0 part-1", "tests-a trainer", "0 train"]
)
def test_shards_of_one_split_or_none_are_read(tmp_path, names):
    for name in names.split():
        write_hf(tmp_path / f"{name}.parquet", images(0, 2), [0, 1])
    assert Manifest.read(tmp_path).num_rows == 4


def test_shards_one_folder_deeper_are_pointed_to(tmp_path):
    (tmp_path / "data").mkdir()
    write_hf(tmp_path / "data" / "0.parquet", images(0, 2), [0, 1])
    refuses_source(tmp_path, f"scan {tmp_path / 'data'}", "Parquet shards")


def test_a_shard_with_other_columns_or_class_names_is_refused_by_name(tmp_path, pair):
    numbers, second = pa.array([1, 2]), tmp_path / "1.parquet"
    pair({"n": pa.array([1.0, 2.0])})
    refuses_source(tmp_path, second, "'n'", "double", "int64", "0.parquet")
    write_hf(second, images(0, 2), [0, 1])
    refuses_source(tmp_path, second, "'n'", "nothing")
    pair({"n": numbers}, labels=["a", "b"])
    refuses_source(tmp_path, second, "'label'", "string")
    pq.write_table(pa.table({"path": ["1", "2"], "label": [0, 1]}), second)
    refuses_source(tmp_path, second, "'image'")
    pair(names=["cat", "eel", "dog"])
    refuses_source(tmp_path, second, "class names", "'label'", "0.parquet")


def test_columns_may_stand_in_another_order(tmp_path, pair):
    pair(labels=[2, 1])
    table = pq.read_table(tmp_path / "1.parquet")
    pq.write_table(table.select(["label", "image"]), tmp_path / "1.parquet")
    manifest = Manifest.read(tmp_path)
    assert labels_of(manifest) == ["cat", "dog", "eel", "dog"]
    assert manifest.images(0, 4) == [b"0", b"1", b"2", b"3"]


def test_a_bad_label_is_named_by_its_row_across_shards_and_a_broken_shard_by_name(tmp_path, pair):
    pair(labels=[0, 7])
    refuses_source(tmp_path, tmp_path, "row 3", "label 7")
    (tmp_path / "1.parquet").write_bytes(b"nothing of the kind")
    refuses_source(tmp_path, tmp_path / "1.parquet", "Parquet")


def test_empty_shards_are_an_empty_source(tmp_path):
    for i in range(2):
        write_hf(tmp_path / f"{i}.parquet", pa.array([], pa.null()), pa.array([], pa.int64()))
    refuses_source(tmp_path, tmp_path, "empty")


def test_a_scan_of_shards_gives_the_bytes_of_the_scan_of_one_file(tmp_path):
    digits = load_digits()
    pictures = [
        {"bytes": encode((image * (255 / 16)).round().astype(np.uint8)), "path": f"{i}.png"}
        for i, image in enumerate(digits.images[:120])
    ]
    labels, names = digits.target[:120].tolist(), [f"digit {k}" for k in range(10)]
    one = write_hf(tmp_path / "one.parquet", pictures, labels, names=names)
    (tmp_path / "many").mkdir()
    for i in range(3):
        rows = slice(40 * i, 40 * i + 40)
        write_hf(tmp_path / "many" / f"{i}.parquet", pictures[rows], labels[rows], names=names)
    first = labelfix.scan(one, out=tmp_path / "a", **QUICK)
    second = labelfix.scan(tmp_path / "many", out=tmp_path / "b", **QUICK)
    assert result_bytes(first.out) == result_bytes(second.out)
    recorded = json.loads((second.out / "config.json").read_text())
    assert recorded["source"]["source"] == str(tmp_path / "many")
    assert pd.read_parquet(second.corrections).is_valid.all()
    assert rows_decoded(lambda: ImageStore.open_or_build(Manifest.read(tmp_path / "many"), 8)) == 0
