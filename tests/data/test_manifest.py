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

from labelfix.data.cache import cache_folder
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Two classes of three files with different bytes."""
    top = tmp_path / "pets"
    for i in range(6):
        path = top / ("cat", "dog")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (i + 1))
    return top


def write_csv(path, rows):
    path.write_text("path,label\n" + "".join(f"{image},{label}\n" for image, label in rows))
    return path


def keys(manifest):
    return manifest.fingerprint, manifest.image_key


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
    chunks = list(manifest.image_chunks(256))
    assert all(len(images) <= 256 for _, images in chunks)
    assert [first for first, _ in chunks] == np.cumsum([0, *(len(images) for _, images in chunks)])[
        :-1
    ].tolist()
    images = [image for _, some in chunks for image in some]
    assert images == manifest.images(0, 10_000)
    assert images[7] is None
    assert images[8] == tmp_path / "8.jpg"
    rows = np.array([0, 8, 9_999])
    assert list(manifest.sample_images(rows)) == [images[row] for row in rows]


def test_a_copy_in_another_place_has_the_fingerprint_and_new_times_only_another_image_key(folder, tmp_path):
    first = keys(Manifest.read(folder))
    moved = tmp_path / "elsewhere" / "pets"
    shutil.copytree(folder, moved, copy_function=shutil.copy2)
    assert keys(Manifest.read(moved)) == first
    os.utime(moved / "cat/0.jpg", ns=(1, 1))
    fingerprint, image_key = keys(Manifest.read(moved))
    assert fingerprint == first[0]
    assert image_key != first[1]


def test_a_changed_size_or_number_of_rows_changes_both_keys(folder):
    first = keys(Manifest.read(folder))
    shorter = keys(Manifest.read(folder, rows=5))
    status = (folder / "cat/0.jpg").stat()
    (folder / "cat/0.jpg").write_bytes(b"yy")
    os.utime(folder / "cat/0.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = keys(Manifest.read(folder))
    assert all(len({one, two, three}) == 3 for one, two, three in zip(first, shorter, changed, strict=True))


def test_labels_change_the_fingerprint_but_never_the_image_key(tmp_path):
    rows = [("1.jpg", "a"), ("2.jpg", "b"), ("3.jpg", "a")]
    first = keys(Manifest.read(write_csv(tmp_path / "x.csv", rows)))
    relabelled = keys(Manifest.read(write_csv(tmp_path / "x.csv", [*rows[:2], ("3.jpg", "b")])))
    renamed = keys(
        Manifest.read(write_csv(tmp_path / "x.csv", [("1.jpg", "c"), ("2.jpg", "b"), ("3.jpg", "c")]))
    )
    assert len({first[0], relabelled[0], renamed[0]}) == 3
    assert first[1] == relabelled[1] == renamed[1]


def test_row_order_and_file_names_change_both_keys(tmp_path):
    first = keys(Manifest.read(write_csv(tmp_path / "x.csv", [("1", "a"), ("2", "b"), ("11", "a")])))
    swapped = keys(Manifest.read(write_csv(tmp_path / "x.csv", [("11", "a"), ("2", "b"), ("1", "a")])))
    glued = keys(Manifest.read(write_csv(tmp_path / "x.csv", [("1", "a"), ("21", "b"), ("1", "a")])))
    assert len({first[0], swapped[0], glued[0]}) == len({first[1], swapped[1], glued[1]}) == 3


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
    assert keys(again) == keys(manifest)
    assert again.images(0, 2) == manifest.images(0, 2)
    assert again.images(0, 1)[0].is_file()
    assert manifest.name == "x"
    assert manifest.source == tmp_path / "x.csv"


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


def test_data_imports_no_torch():
    script = (
        "import sys, labelfix.data.manifest, labelfix.data.images.store;"
        "assert not {'torch', 'pandas', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    script = "import sys, labelfix.data.images.workers; assert not {'torch', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
