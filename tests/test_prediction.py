"""predict(): a classifier folder on its own, any source, one row per image."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from conftest import write_digits
from refusals import refuses
from safetensors.torch import load_file, save_file

import labelfix
from labelfix.errors import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_digits(folder / "images", 240)
    return labelfix.scan(
        folder / "images",
        method="cross-entropy",
        out=folder / "run",
        epochs=3,
        settings={"average_from": "0"},
    )


def test_it_predicts_the_scanned_images_as_the_scan_did(run, tmp_path):
    found = labelfix.predict(run.classifier, run.out.parent / "images", out=tmp_path / "p.parquet")
    assert found["predicted"] == found["rows"] == 240
    predicted, scanned = pd.read_parquet(tmp_path / "p.parquet"), labelfix.read_corrections(run.out)
    assert predicted.file_name.tolist() == scanned.file_name.tolist()
    assert predicted.given_label.tolist() == scanned.given_label.tolist()
    assert predicted.predicted_label.tolist() == scanned.predicted_label.tolist()
    np.testing.assert_allclose(
        np.stack(predicted.predicted_probs), np.stack(scanned.predicted_probs), atol=1e-6
    )
    np.testing.assert_allclose(
        predicted.confidence, np.stack(predicted.predicted_probs).max(axis=1), rtol=1e-6
    )


def test_the_classifier_folder_is_all_it_needs(run, tmp_path):
    shutil.copytree(run.classifier, tmp_path / "carried")
    write_digits(tmp_path / "images", 30)
    arguments = ["predict", "carried", "images", "--out", "far.parquet", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "labelfix", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(done.stdout)
    assert (printed["rows"], printed["invalid"]) == (30, 0)
    here = labelfix.predict(run.out, tmp_path / "images", out=tmp_path / "near.parquet")
    assert here["class_names"] == printed["class_names"]
    assert (tmp_path / "far.parquet").read_bytes() == (tmp_path / "near.parquet").read_bytes()


def test_images_without_classes_and_broken_ones(run, tmp_path):
    write_digits(tmp_path / "sorted", 12)
    loose = tmp_path / "loose"
    loose.mkdir()
    for image in sorted((tmp_path / "sorted").rglob("*.png")):
        image.rename(loose / image.name)
    (loose / "broken.png").write_bytes(b"no image")
    found = labelfix.predict(run.classifier, loose, out=tmp_path / "p.parquet")
    assert (found["rows"], found["predicted"], found["invalid"]) == (13, 12, 1)
    rows = pd.read_parquet(tmp_path / "p.parquet").set_index("file_name")
    assert rows.given_label.isna().all()
    broken = rows.loc["broken.png"]
    assert not broken.is_valid
    assert "no image" in broken.error
    assert broken[["predicted_label", "confidence", "predicted_probs"]].isna().all()
    assert rows.drop("broken.png").error.isna().all()


def test_a_manifest_with_labels_of_its_own_passes_its_columns_through(run, tmp_path):
    write_digits(tmp_path / "images", 6)
    names = [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "images").rglob("*.png"))]
    table = pd.DataFrame({"file_name": names, "label": list("xyxyxy"), "camera": range(6)})
    table.to_parquet(tmp_path / "list.parquet")
    labelfix.predict(run.classifier, tmp_path / "list.parquet", out=tmp_path / "p.parquet", rows=5)
    predicted = pd.read_parquet(tmp_path / "p.parquet")
    assert predicted.given_label.tolist() == list("xyxyx")
    assert predicted.camera.tolist() == list(range(5))
    assert set(predicted.predicted_label) <= {str(k) for k in range(10)}
    metadata = json.loads(pq.read_schema(tmp_path / "p.parquet").metadata[b"labelfix"])
    assert metadata["method"] == "cross-entropy"
    assert metadata["class_names"] == [str(k) for k in range(10)]


def test_a_table_is_replaced_only_when_asked(run, tmp_path):
    write_digits(tmp_path / "few", 4)
    (tmp_path / "there.parquet").write_bytes(b"mine")
    options = {"classifier": run.out, "source": tmp_path / "few", "out": tmp_path / "there.parquet"}
    refuses(labelfix.predict, "is there already", "--overwrite", **options)
    assert (tmp_path / "there.parquet").read_bytes() == b"mine"
    labelfix.predict(**options, overwrite=True)
    assert len(pd.read_parquet(tmp_path / "there.parquet")) == 4


def test_an_image_manifest_is_never_its_own_output(run, tmp_path):
    write_digits(tmp_path / "images", 4)
    names = [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "images").rglob("*.png"))]
    pd.DataFrame({"file_name": names}).to_parquet(tmp_path / "list.parquet")
    before = (tmp_path / "list.parquet").read_bytes()
    with pytest.raises(InputError, match="is the source"):
        labelfix.predict(run.out, tmp_path / "list.parquet", out=tmp_path / "list.parquet", overwrite=True)
    assert (tmp_path / "list.parquet").read_bytes() == before


def test_a_single_path_is_no_list_of_images(run, tmp_path):
    write_digits(tmp_path / "images", 2)
    classifier = labelfix.load_classifier(run.out)
    folder, image = tmp_path / "images", next((tmp_path / "images").rglob("*.png"))
    words = ("is one path; give a list of image files", tmp_path, "labelfix.predict(run, folder)")
    for one in (str(folder), folder, image, bytes(image)):
        refuses(classifier.predict, *words, paths=one)
    assert classifier.predict([image]).predicted_label.notna().all()
    in_memory = np.zeros((2, 8, 8, 3), np.uint8)
    words = ("image 0 is of type ndarray", "labelfix.predict(run, (images, labels))")
    refuses(classifier.predict, *words, paths=in_memory)
    refuses(classifier.predict, "image 1 is of type int", paths=[image, 3])


@pytest.mark.parametrize("task", ["single", "multi"])
def test_what_a_diverged_classifier_says_is_no_prediction(run, tmp_path, task):
    write_digits(tmp_path / "images", 6)
    (tmp_path / "images" / "0" / "broken.png").write_bytes(b"no image")
    diverged = tmp_path / "classifier"
    shutil.copytree(run.classifier, diverged)
    weights = load_file(diverged / "model.safetensors")
    weights["head.weight"][:] = torch.nan
    save_file(weights, diverged / "model.safetensors")
    facts = json.loads((diverged / "classifier.json").read_text())
    (diverged / "classifier.json").write_text(json.dumps({**facts, "task": task}))
    found = labelfix.predict(diverged, tmp_path / "images", out=tmp_path / "p.parquet")
    assert (found["rows"], found["predicted"], found["invalid"]) == (7, 0, 7)
    rows = pd.read_parquet(tmp_path / "p.parquet")
    assert not rows.is_valid.any()
    assert rows[["predicted_label", "confidence", "predicted_probs"]].isna().all(axis=None)
    is_broken = rows.file_name.str.endswith("broken.png")
    assert rows.error[is_broken].str.contains("no image").all()
    assert rows.error[~is_broken].str.contains("diverged").all()
    loose = labelfix.load_classifier(diverged).predict(sorted((tmp_path / "images").rglob("*.png")))
    assert loose.predicted_label.isna().all()
    assert loose.error.str.contains("diverged").sum() == 6
