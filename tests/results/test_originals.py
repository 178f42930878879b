"""The source of a run, opened again: the same rows or a refusal, and the decoded images without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_runs import finish
from refusals import refuses

import labelfix
from labelfix.exports import export
from labelfix.results.corrections import Corrections
from labelfix.results.originals import read_originals, stored_images

OPTIONS = {"method": "cross-entropy", "epochs": 1, "seed": 0}


@pytest.fixture
def run(digits, tmp_path):
    found = labelfix.scan(digits[0], out=tmp_path / "run", rows=60, **OPTIONS)
    return Corrections.open(found.corrections)


def test_the_same_rows_with_their_images(run, digits):
    manifest = read_originals(run)
    assert manifest.num_rows == 60
    paths = list(manifest.sample_images(np.array([0, 7, 59])))
    names = [name for batch in run.batches(["file_name"]) for name in batch.column(0).to_pylist()]
    assert paths == [digits[0] / names[row] for row in (0, 7, 59)]


def test_data_that_have_moved(run, digits, tmp_path):
    moved = shutil.move(digits[0], tmp_path / "moved")
    refuses(read_originals, "is not there; if the data have moved, name them with --source", corrections=run)
    refuses(read_originals, "nowhere", "check the path", corrections=run, source=tmp_path / "nowhere")
    assert read_originals(run, moved).source == tmp_path / "moved"


def test_data_that_have_changed(run, digits):
    first = next(read_originals(run).sample_images(np.array([0])))
    first.write_bytes(first.read_bytes() + b"\0")
    refuses(read_originals, "is not what ", " was made from, or has changed since", corrections=run)


@pytest.mark.parametrize("kind", ["folder", "manifest"])
@pytest.mark.parametrize("to", ["imagefolder", "hf", "fiftyone"])
def test_a_file_that_was_deleted_costs_its_row_by_name_and_not_the_export(digits, tmp_path, kind, to):
    folder, source = digits[0], digits[0]
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.png"))[:40]
    if kind == "manifest":
        source = tmp_path / "m.csv"
        source.write_text("path,label\n" + "".join(f"{folder}/{name},{name[0]}\n" for name in names))
    run, manifest = finish(tmp_path / "run", source)
    (folder / names[3]).unlink()
    found = export(run, to=to, out=tmp_path / "out")
    assert [Path(name).name for name in found["missing_images"]] == [Path(names[3]).name]
    assert found["rows"] == manifest.num_rows - 1
    assert len(list((tmp_path / "out").rglob("*.png"))) == found["rows"]
    shutil.copytree(folder / names[0][0], folder / "a new class")
    refuses(read_originals, "is not what", corrections=Corrections.open(run), source=folder)


def test_files_that_have_become_links(run, digits, tmp_path):
    assert json.loads((run.path.parent / "config.json").read_text())["files"]["num_links"] == 0
    first = next(read_originals(run).sample_images(np.array([0])))
    (tmp_path / "private.png").write_bytes(first.read_bytes())
    first.unlink()
    first.symlink_to(tmp_path / "private.png")
    refuses(read_originals, "1 of its images are links, and 0 were when", "with --source", corrections=run)
    assert read_originals(run, digits[0]).num_links == 1


def test_links_that_were_scanned(digits, tmp_path):
    pool = digits[0].rename(tmp_path / "pool")
    for path in sorted(pool.glob("*/*.png")):
        (digits[0] / path.parent.name).mkdir(parents=True, exist_ok=True)
        (digits[0] / path.parent.name / path.name).symlink_to(path)
    linked = labelfix.scan(digits[0], out=tmp_path / "run", rows=60, **OPTIONS)
    assert read_originals(Corrections.open(linked.corrections)).num_links == 60
    # Whether an image is a link is no part of what it is.
    plain = labelfix.scan(pool, out=tmp_path / "plain", rows=60, **OPTIONS)
    assert linked.corrections.read_bytes() == plain.corrections.read_bytes()


def test_corrections_away_from_their_run(run, digits, tmp_path):
    (tmp_path / "away").mkdir()
    lone = Corrections.open(shutil.copy(run.path, tmp_path / "away"))
    refuses(read_originals, "config.json of the run is not beside it", corrections=lone)
    assert stored_images(lone) is None


def test_images_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = [str(k % 2) for k in range(40)]
    found = labelfix.scan((images, labels), out=tmp_path / "run", **OPTIONS)
    run = Corrections.open(found.corrections)
    refuses(read_originals, "images in memory; in Python pass them again as source=", corrections=run)
    assert read_originals(run, (images, labels)).num_rows == 40
    np.testing.assert_array_equal(stored_images(run).images[:, 0], images)


def test_the_decoded_images_need_no_source(run, digits, cache):
    shutil.rmtree(digits[0])
    store = stored_images(run)
    assert store.images.shape == (60, 3, 8, 8)
    assert store.valid.all()
    shutil.rmtree(cache / "images")
    assert stored_images(run) is None


def test_where_the_images_lie_is_no_reason_to_refuse_to_resume(run):
    facts = json.loads((run.path.parent / "config.json").read_text())
    assert "image_key" in facts["files"]
    assert "image_key" not in facts["source"]


def test_a_manifest_whose_paths_start_in_another_folder(digits, tmp_path):
    names = sorted(path.relative_to(digits[0]).as_posix() for path in digits[0].glob("*/*.png"))[:60]
    manifest = tmp_path / "lists" / "rows.csv"
    manifest.parent.mkdir()
    manifest.write_text("file_name,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    found = labelfix.scan(manifest, root=digits[0], out=tmp_path / "run", **OPTIONS)
    run = Corrections.open(found.corrections)
    assert read_originals(run).num_rows == 60
    moved = tmp_path / "moved.csv"
    manifest.rename(moved)
    assert read_originals(run, moved).source == moved  # the images have stayed where they were
    away = shutil.move(digits[0], tmp_path / "away")
    moved.rename(manifest)
    refuses(read_originals, "the folder that the paths of ", " start from is not there", corrections=run)
    beside = shutil.copy(manifest, away)
    assert next(read_originals(run, beside).sample_images(np.array([0]))) == tmp_path / "away" / names[0]
