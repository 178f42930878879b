"""Folders as people have them: splits, copies, what systems leave beside data, and folders that hold no image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from refusals import refuses_source
from sources import extra_of, labels_of, make_folder

from labelfix.config import ScanOptions
from labelfix.data.manifest import Manifest

PETS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")


def below(*folders, names=PETS):
    return [f"{folder}/{name}" for folder in folders for name in names]


LAYOUTS = {
    "plain": (below("train", "test"), {"train", "test"}, 4),
    "other words": (below("Training", "Testing", "valid"), {"training", "testing", "valid"}, 8),
    "dev": (below("train", "val", "dev"), {"train", "val", "dev"}, 8),
    "doubled": (below("seg_train/seg_train", "seg_test/seg_test"), {"train", "test"}, 4),
    "doubled, plain": (below("train/train", "test"), {"train", "test"}, 4),
    "one word apart": (below("images-train", "images-val"), {"train", "val"}, 4),
    "without classes": ([*below("train"), "test/1.jpg", "test/2.jpg"], {"train", "test"}, 2),
    "junk": (
        [*below("train", "val"), "__MACOSX/train/cat/1.jpg", "@eaDir/1.jpg", ".x/1.jpg"],
        {"train", "val"},
        4,
    ),
    "a copy": ([*below("train", "val"), *below("pets/train", "pets/val")], {"train", "val"}, 4),
    "notes": ([*below("train", "val"), "docs/read.txt"], {"train", "val"}, 4),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_splits_over_class_folders_become_a_column(tmp_path, kind):
    paths, splits, held_out = LAYOUTS[kind]
    manifest = Manifest.read(make_folder(tmp_path, *paths))
    names = manifest.file_names().to_pylist()
    assert manifest.class_names == ("cat", "dog")
    assert set(extra_of(manifest)["split"]) == splits
    assert manifest.held_out.sum() == held_out
    assert names == sorted(names)
    expected = [next((part for part in name.split("/") if part in ("cat", "dog")), None) for name in names]
    assert labels_of(manifest) == expected


@pytest.mark.parametrize(
    "paths",
    [
        ["train/1.jpg", "train/2.jpg", "car/1.jpg", "car/2.jpg"],
        ["test_tube/1.jpg", "train_station/1.jpg"],
        ["train/steam/1.jpg", "train/2.jpg", "car/red/1.jpg"],
        ["train/steam/1.jpg", "train/diesel/1.jpg", "car/red/1.jpg", "car/blue/2.jpg"],
    ],
)
def test_classes_that_are_called_like_splits_are_classes(tmp_path, paths):
    manifest = Manifest.read(make_folder(tmp_path, *paths))
    assert set(manifest.class_names) == {path.partition("/")[0] for path in paths}
    assert not manifest.held_out.any()


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            [*below("train", "test"), "car/1.jpg"],
            ("'test', 'train'", "'car'", "it cannot be told", "train, or"),
        ),
        (
            [*below("train", "test"), *below("other/train", names=("cat/9.jpg",))],
            ("'other'", "it cannot be told"),
        ),
        ([*below("train"), *PETS], ("'train'", "'cat', 'dog'", "it cannot be told")),
        ([*below("train", "extra")], ("'train'", "'extra'", "it cannot be told")),
        ([*below("train"), "unknown/1.jpg"], ("'train'", "'unknown'", "it cannot be told")),
        (["train/1.jpg", "test/1.jpg"], ("'test', 'train'", "no class folder", "scan a manifest")),
        (below("test"), ("the split column", "no labelled row")),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_was_seen(tmp_path, paths, words):
    refuses_source(make_folder(tmp_path, *paths), tmp_path, *words)


@pytest.mark.parametrize(
    ("paths", "source", "words"),
    [
        (below("flowers"), ".", ("a single class, 'flowers'", "scan {}/flowers")),
        (below("a/b/c"), ".", ("a single class, 'a'", "scan {}/a/b/c")),
        (PETS, "cat", ("no class folder", "scan {}")),
        ([*PETS[:2], "dog/1.npy", "dog/2.npy"], ".", ("a single class, 'cat'", "'dog' (2 .npy)")),
        (["cat/1.npy"], ".", ("is empty", "'cat' (1 .npy)")),
    ],
)
def test_a_refusal_says_what_is_there(tmp_path, paths, source, words):
    refuses_source(make_folder(tmp_path, *paths) / source, *(word.format(tmp_path) for word in words))


def test_what_is_skipped_or_left_out_is_counted_and_named(tmp_path):
    make_folder(
        tmp_path, *PETS, "cat/a.npy", "cat/b.npy", "dog/c.txt", "dog/Thumbs.db", "eel/1.dcm", "fox/.x.jpg"
    )
    found = " ".join(Manifest.read(tmp_path).warnings)
    assert "3 files in its folders are no images by their names and are skipped (2 .npy, 1 .txt)" in found
    assert "no image lies in 'eel' (1 .dcm), 'fox': left out" in found


def test_files_without_an_extension_are_images_where_their_first_bytes_say_so(tmp_path):
    for name in ("cat/one", "dog/two"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(9))
    (tmp_path / "cat/LICENSE").write_text("words")
    manifest = Manifest.read(tmp_path)
    assert manifest.file_names().to_pylist() == ["cat/one", "dog/two"]
    assert "(1 without an extension)" in " ".join(manifest.warnings)


def test_runs_of_our_own_are_no_classes(tmp_path):
    make_folder(tmp_path, *PETS, "runs/first/1.jpg", "mine/1.jpg")
    for run in ("runs/first", "mine"):
        (tmp_path / run / "config.json").write_text(
            json.dumps({"config": {}, "source": {}, "environment": {}})
        )
    assert Manifest.read(tmp_path).class_names == ("cat", "dog")


def test_the_first_rows_of_splits_are_those_of_the_whole(tmp_path):
    make_folder(tmp_path, *below("train", "dev"))
    whole, some = Manifest.read(tmp_path), Manifest.read(tmp_path, rows=7)
    assert some.file_names().to_pylist() == whole.file_names().to_pylist()[:7]
    assert np.array_equal(some.held_out, whole.held_out[:7])


def test_a_scan_of_the_current_folder_goes_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(make_folder(tmp_path / "pets", *PETS))
    manifest = Manifest.read(".")
    assert ScanOptions(method="bmm").run_path(manifest) == tmp_path / "runs" / "pets-bmm"
    assert ScanOptions(method="bmm", out="x").run_path(manifest) == Path("x")
    monkeypatch.chdir(tmp_path)
    assert ScanOptions(method="bmm").run_path(Manifest.read("pets")) == Path("runs/pets-bmm")


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["1.jpg", "a/b/2.jpg", "c/3.jpg"], [None, "a", "c"]),
        (["flowers/1.jpg", "flowers/rose/2.jpg"], [None, None]),
        (
            [*below("train", "test", names=("cat/1.jpg", "dog/2.jpg")), "9.jpg"],
            [None, "cat", "dog", "cat", "dog"],
        ),
        ([*below("train", "test", names=("cat/1.jpg", "dog/2.jpg")), "car/3.jpg"], [None] * 5),
        (["train/1.jpg", "test/2.jpg", "test/deep/er/3.jpg"], [None] * 3),
    ],
)
def test_every_image_of_a_tree_can_be_asked_for(tmp_path, paths, labels):
    make_folder(tmp_path, *paths)
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{paths[0]},x\n")
    manifest = Manifest.read(tmp_path, require_labels=False, every_image=True)
    assert manifest.file_names().to_pylist() == sorted(paths)
    assert labels_of(manifest) == labels


def test_a_tree_without_an_image_is_refused(tmp_path):
    make_folder(tmp_path, "a/notes.txt")
    refuses_source(tmp_path, "no image is in it", require_labels=False, every_image=True)
