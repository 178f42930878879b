"""Sources in memory that are tables: pandas DataFrames and Hugging Face Datasets, read and decoded."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_digits
from decoding_count import rows_decoded
from memory_data import hub, pixels, stored
from refusals import refuses_source
from sources import extra_of, labels_of, write_hf

from labelfix.data.images.decoding import encode
from labelfix.data.manifest import Manifest

# ---------------------------------------------------------------- pandas


def test_a_dataframe_is_a_manifest_of_paths(tmp_path, monkeypatch):
    write_digits(tmp_path / "images", 40)
    names = sorted(
        str(path.relative_to(tmp_path / "images")) for path in (tmp_path / "images").rglob("*.png")
    )
    frame = pd.DataFrame({"file_name": names, "label": [name[0] for name in names], "n": range(40), "x": 0.5})
    frame.to_csv(tmp_path / "list.csv", index=False)
    same = Manifest.read(tmp_path / "list.csv", root=tmp_path / "images")
    for source in (frame, frame.assign(file_name=[Path(name) for name in names])):
        manifest = Manifest.read(source, root=tmp_path / "images")
        assert (manifest.fingerprint, manifest.image_key) == (same.fingerprint, same.image_key)
        assert manifest.images(0, 40) == same.images(0, 40)
        assert extra_of(manifest) == {"n": list(range(40)), "x": [0.5] * 40}
    assert stored(frame, root=tmp_path / "images").valid.all()
    monkeypatch.chdir(tmp_path / "images")
    here = Manifest.read(frame)
    assert here.images(0, 1) == same.images(0, 1)
    assert (here.name, here.options["source"]) == ("memory", None)
    assert here.options["root"] == str(tmp_path / "images")


def test_labels_of_a_dataframe_are_text():
    paths = [f"{i}.png" for i in range(5)]
    columns = {
        "text": (["007", " cat", None, "", "-1"], ["007", "cat", None, None, "-1"]),
        "numbers": ([3, 20, 3, -1, 20], ["3", "20", "3", "-1", "20"]),
        "floats": ([3, np.nan, 2, 2, 2], ["3.0", None, "2.0", "2.0", "2.0"]),
        "mixed": ([3, "cat", None, np.nan, True], ["3", "cat", None, None, "true"]),
        "category": (pd.Categorical(["b", None, "a", "b", "a"]), ["b", None, "a", "b", "a"]),
        "nullable": (pd.array([1, None, 0, 1, 1], dtype="Int64"), ["1", None, "0", "1", "1"]),
    }
    for values, expected in columns.values():
        frame = pd.DataFrame({"path": paths, "label": values})
        assert labels_of(Manifest.read(frame)) == expected


def test_marks_and_other_columns_of_a_dataframe_are_read():
    frame = pd.DataFrame({"path": list("123456"), "class": list("ababab"), "is_trusted": [True, False] * 3})
    frame = frame.assign(split=["train"] * 4 + ["test", "VAL"], group=[7, 7, 8, 8, 9, 9])
    manifest = Manifest.read(frame)
    assert manifest.is_trusted.tolist() == [True, False] * 3
    assert manifest.held_out.tolist() == [False] * 4 + [True] * 2
    assert manifest.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert manifest.pass_through == ("split", "group")
    assert Manifest.read(frame, rows=3).num_rows == 3


def test_bad_dataframes_are_refused_in_one_line():
    frame = pd.DataFrame({"path": ["1", "2", "3"], "label": ["a", "b", "a"]})
    refuses_source(frame.drop(columns="path"), "the DataFrame", "no image column", "'label'")
    refuses_source(frame.drop(columns="label"), "no label column", "--label-column")
    refuses_source(frame, "'picture'", "--image-column", image_column="picture")
    refuses_source(frame.assign(path=[1, 2, 3]), "'path'", "int64")
    refuses_source(frame.assign(path=["1", 2, "3"]), "'path'", "cannot be read")
    refuses_source(frame.assign(label=[["a"], "b", "a"]), "row 0", "multi-label")
    refuses_source(frame.assign(other=[1, "x", object()]), "'other'", "cannot be read")
    refuses_source(frame.assign(noise_score=0.5), "'noise_score'", "rename")
    refuses_source(pd.concat([frame, frame[["label"]]], axis=1), "'label'", "twice")
    refuses_source(frame.assign(path="1"), "'1'", "two labels")
    refuses_source(frame.head(0), "empty")
    refuses_source(frame.assign(label="a"), "single class")


@pytest.mark.parametrize("kind", ["polars", "categorical", "arrow", "views", "bytes"])
def test_other_tables_are_read_as_dataframes_are(tmp_path, kind):
    columns = {
        "file_name": ["a.png", "b.png", "c.png"],
        "label": ["cat", "dog", None],
        "note": ["x", "y", "z"],
    }
    frame = polars.DataFrame(columns)
    made = {
        "polars": frame,
        "categorical": frame.with_columns(polars.col("label").cast(polars.Categorical)),
        "arrow": frame.to_arrow(),
        "views": pa.table({name: pa.array(values, pa.string_view()) for name, values in columns.items()}),
        "bytes": pa.table({**columns, "label": pa.array([b"cat", b"dog", None])}),
    }[kind]
    manifest = Manifest.read(made, root=tmp_path)
    assert labels_of(manifest) == ["cat", "dog", None]
    assert manifest.images(0, 1) == [tmp_path / "a.png"]
    assert extra_of(manifest) == {"note": ["x", "y", "z"]}
    if kind == "views":
        pq.write_table(made, tmp_path / "x.parquet")
        assert labels_of(Manifest.read(tmp_path / "x.parquet")) == ["cat", "dog", None]


def test_a_lazy_frame_says_how_to_collect_it():
    refuses_source(polars.LazyFrame({"path": ["a"]}), "frame.collect()")


# ---------------------------------------------------------------- Hugging Face


def test_a_hub_dataset_has_names_labels_and_pixels():
    images = pixels(6, 8, 8, 3)
    dataset = hub(images, [0, 1, -1, None, 1, 0], note=list("uvwxyz"))
    manifest = Manifest.read(dataset)
    assert manifest.class_names == ("cat", "dog")
    assert labels_of(manifest) == ["cat", "dog", None, None, "dog", "cat"]
    assert manifest.file_names().to_pylist() == [f"row-{i:09d}" for i in range(6)]
    assert extra_of(manifest) == {"note": list("uvwxyz")}
    np.testing.assert_array_equal(stored(dataset).images, images.transpose(0, 3, 1, 2))


def test_a_hub_dataset_gives_the_bytes_that_it_holds(tmp_path):
    held = [encode(image, "JPEG") for image in pixels(5, 8, 8)]
    images = [{"bytes": x, "path": f"{i}.jpg"} for i, x in enumerate(held)]
    path = write_hf(tmp_path / "x.parquet", images, [0, 1, 2, 1, 0])
    dataset = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert Manifest.read(dataset).images(0, 5) == held
    shuffled = dataset.select([4, 0, 3, 1])
    manifest = Manifest.read(shuffled)
    assert manifest.images(0, 4) == [held[i] for i in (4, 0, 3, 1)]
    assert list(manifest.sample_images(np.array([0, 2, 3]))) == [held[i] for i in (4, 3, 1)]
    assert labels_of(manifest) == ["cat", "cat", "dog", "dog"]
    assert Manifest.read(dataset, rows=2).images(0, 2) == held[:2]


def test_a_hub_dataset_of_local_files_reads_them(tmp_path):
    for i, image in enumerate(pixels(4, 8, 8)):
        (tmp_path / f"{i}.png").write_bytes(encode(image))
    paths = [str(tmp_path / f"{i}.png") for i in (0, 1, 2, 3)] + [str(tmp_path / "missing.png")]
    columns = {"image": paths, "label": ["a", "b", "a", "b", "a"]}
    pictures = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    manifest = Manifest.read(pictures)
    assert manifest.images(0, 5) == [*((tmp_path / f"{i}.png").read_bytes() for i in range(4)), None]
    assert manifest.file_names()[0].as_py() == "row-000000000"
    assert stored(pictures).valid.tolist() == [True] * 4 + [False]
    texts = Manifest.read(datasets.Dataset.from_dict(columns), root=tmp_path)
    assert texts.images(0, 1) == [tmp_path / "0.png"]
    assert texts.file_names()[0].as_py() == "0.png"


def test_equal_hub_datasets_are_decoded_once(cache):
    images = pixels(12, 8, 8)
    assert rows_decoded(lambda: stored(hub(images, [0, 1] * 6))) == 12
    assert rows_decoded(lambda: stored(hub(images, [1, 0] * 6))) == 0
    assert rows_decoded(lambda: stored(hub(images[::-1], [0, 1] * 6))) == 12


def test_bad_hub_datasets_are_refused_in_one_line():
    dataset = hub(pixels(4, 4, 4), [0, 1, 0, 1])
    refuses_source(datasets.DatasetDict({"train": dataset, "test": dataset}), "splits", "'train'", "'test'")
    refuses_source(dataset.to_iterable_dataset(), "iterable-style")
    refuses_source(dataset.remove_columns("image"), "the Dataset", "no image column", "'label'")
    refuses_source(dataset.rename_column("image", "img"), "no image column", "'img'", "--image-column")
    refuses_source(dataset.select([]), "empty")
    lists = datasets.Dataset.from_dict({"image": ["1", "2"], "label": [["a"], ["b"]]})
    refuses_source(lists, "'label'", "multi-label")
    renamed = dataset.rename_column("image", "img").rename_column("label", "fine")
    assert Manifest.read(renamed, image_column="img", label_column="fine").class_names == ("cat", "dog")


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_images_as_bytes_in_a_table_are_decoded(kind):
    images = [encode(np.full((3, 8, 8), 20 * shade, np.uint8)) for shade in range(6)]
    columns = {"image": [{"bytes": image, "path": None} for image in images], "label": list("ababab")}
    table = pd.DataFrame(columns) if kind == "pandas" else pa.table(columns)
    store = stored(table)
    assert store.valid.all()
    assert [int(image[0, 0, 0]) for image in store.images] == [20 * shade for shade in range(6)]
