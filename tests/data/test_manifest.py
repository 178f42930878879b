"""Manifest: row numbering, batches, keys, and that it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import make_folder

from labelfix.data.cache import cache_folder
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Two classes of three files with different bytes."""
    top = make_folder(tmp_path / "pets", *(f"{('cat', 'dog')[i % 2]}/{i}.jpg" for i in range(6)))
    for path in top.rglob("*.jpg"):
        path.write_bytes(b"x" * (int(path.stem) + 1))
    return top


def keys(source, **options):
    manifest = Manifest.read(source, **options)
    return manifest.fingerprint, manifest.image_key


def write_csv(path, rows):
    path.write_text("path,label\n" + "".join(f"{image},{label}\n" for image, label in rows))
    return path


def test_given_holds_class_indices_and_cannot_be_written(folder):
    manifest = Manifest.read(folder)
    assert manifest.given.dtype == np.int64
    assert manifest.given.tolist() == [0, 0, 0, 1, 1, 1]
    assert manifest.num_rows == 6
    assert manifest.task == "single"
    with pytest.raises(ValueError, match="read-only"):
        manifest.given[0] = 1


def test_batches_have_exactly_the_size_asked_for_across_row_groups(tmp_path):
    table = pa.table({"path": [f"{i}" for i in range(100)], "label": ["a", "b"] * 50, "given": range(100)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=7)
    manifest = Manifest.read(tmp_path / "x.parquet")
    batches = list(manifest.batches(30))
    assert [batch.num_rows for batch in batches] == [30, 30, 30, 10]
    assert batches[0].schema.names == ["file_name", "given", "given"]
    assert np.concatenate([batch.column(1) for batch in batches]).tolist() == manifest.given.tolist()
    assert np.concatenate([batch.column(2) for batch in batches]).tolist() == list(range(100))
    assert manifest.file_names().to_pylist() == [str(i) for i in range(100)]


def test_image_chunks_cover_every_row_once_in_order(tmp_path):
    path = write_csv(tmp_path / "x.csv", [(f"{i}.jpg" if i % 7 else "", "ab"[i % 2]) for i in range(10_000)])
    manifest = Manifest.read(path)
    chunks, first = list(manifest.image_chunks(256)), 0
    for place, images in chunks:
        assert place == first
        assert len(images) <= 256
        first += len(images)
    images = [image for _, some in chunks for image in some]
    assert images == manifest.images(0, 10_000)
    assert images[7:9] == [None, tmp_path / "8.jpg"]
    rows = np.array([0, 8, 9_999])
    assert list(manifest.sample_images(rows)) == [images[row] for row in rows]


def test_a_copy_in_another_place_has_the_fingerprint_and_new_times_only_another_image_key(folder, tmp_path):
    first = keys(folder)
    moved = tmp_path / "elsewhere" / "pets"
    shutil.copytree(folder, moved, copy_function=shutil.copy2)
    assert keys(moved) == first
    os.utime(moved / "cat/0.jpg", ns=(1, 1))
    fingerprint, image_key = keys(moved)
    assert fingerprint == first[0]
    assert image_key != first[1]


def test_a_changed_size_or_number_of_rows_changes_both_keys(folder):
    first, shorter = keys(folder), keys(folder, rows=5)
    status = (folder / "cat/0.jpg").stat()
    (folder / "cat/0.jpg").write_bytes(b"yy")
    os.utime(folder / "cat/0.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert all(len(set(of_each)) == 3 for of_each in zip(first, shorter, keys(folder), strict=True))


def keys_of_each(path, *texts):
    """Fingerprints and image keys of manifests of "path,label path,label ..." at the same place."""
    rows = [[row.split(",") for row in text.split()] for text in texts]
    return zip(*(keys(write_csv(path, each)) for each in rows), strict=True)


def test_labels_change_the_fingerprint_but_never_the_image_key(tmp_path):
    texts = ["1.jpg,a 2.jpg,b 3.jpg,a", "1.jpg,a 2.jpg,b 3.jpg,b", "1.jpg,c 2.jpg,b 3.jpg,c"]
    fingerprints, image_keys = keys_of_each(tmp_path / "x.csv", *texts)
    assert (len(set(fingerprints)), len(set(image_keys))) == (3, 1)


def test_row_order_and_file_names_change_both_keys(tmp_path):
    texts = ["1,a 2,b 11,a", "11,a 2,b 1,a", "1,a 21,b 1,a"]
    fingerprints, image_keys = keys_of_each(tmp_path / "x.csv", *texts)
    assert len(set(fingerprints)) == len(set(image_keys)) == 3


def test_a_file_that_appears_later_changes_the_image_key(tmp_path):
    path = write_csv(tmp_path / "x.csv", [("1.jpg", "a"), ("2.jpg", "b")])
    first = Manifest.read(path)
    (tmp_path / "1.jpg").write_bytes(b"")
    assert Manifest.read(path).image_key != first.image_key


def test_a_cell_that_no_file_system_takes_is_a_missing_image(tmp_path):
    manifest = Manifest.read(write_csv(tmp_path / "x.csv", [("a\0b", "a"), ("x" * 5000, "b")]))
    assert manifest.num_rows == 2


def test_options_are_absolute_and_read_the_same_manifest_from_anywhere(folder, monkeypatch, tmp_path):
    write_csv(tmp_path / "x.csv", [("cat/0.jpg", "a"), ("dog/1.jpg", "b")])
    monkeypatch.chdir(tmp_path)
    manifest = Manifest.read("x.csv", root="pets")
    monkeypatch.chdir("/")
    again = Manifest.read(**manifest.options)
    assert (again.fingerprint, again.image_key) == (manifest.fingerprint, manifest.image_key)
    assert again.images(0, 2) == manifest.images(0, 2)
    assert again.images(0, 1)[0].is_file()
    assert (manifest.name, manifest.source) == ("x", tmp_path / "x.csv")


def test_options_that_a_folder_does_not_use_are_warned_about(folder):
    warnings = Manifest.read(folder, label_column="label").warnings
    assert any("--label-column" in text for text in warnings)


def test_reading_leaves_nothing_in_the_cache_or_the_source(folder, cache):
    before = sorted(folder.rglob("*"))
    manifest = Manifest.read(folder)
    assert list(cache.iterdir()) == []
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(InputError):
        Manifest.read(folder, rows=1)
    assert list(cache.iterdir()) == []
    assert manifest.file_names()[5].as_py() == "dog/5.jpg"


def test_the_cache_is_the_named_folder_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "a/b"))
    assert cache_folder() == tmp_path / "a/b"
    assert (tmp_path / "a/b").is_dir()
    monkeypatch.delenv("LABELFIX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().name == "labelfix"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="LABELFIX_CACHE"):
        cache_folder()


def test_many_rows_are_read_in_little_memory(tmp_path):
    """100,000 rows of 600 characters take far less than their 60 MB again in objects."""
    with (tmp_path / "x.csv").open("w") as file:
        file.write("path,label,note\n")
        file.writelines(f"{i}.jpg,{i % 10},{'n' * 600}\n" for i in range(100_000))
    script = """
import resource, sys
from labelfix.data.manifest import Manifest
Manifest.read(sys.argv[1], rows=30_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert Manifest.read(sys.argv[1]).num_rows == 100_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.csv")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # The mapped file itself may count as resident.
    assert float(done.stdout) < 130


def test_data_imports_none_of_the_libraries():
    for modules, libraries in [
        (
            "labelfix.data.readers, labelfix.data.manifest",
            {"torch", "torchvision", "pandas", "datasets", "PIL"},
        ),
        ("labelfix.data.images.store", {"torch", "torchvision", "pandas"}),
        ("labelfix.data.images.workers, labelfix.data.images.thumbnails", {"torch", "pandas", "pyarrow"}),
    ]:
        script = f"import sys, {modules}; assert not {libraries} & set(sys.modules), sys.modules.keys()"
        subprocess.run([sys.executable, "-c", script], check=True)
