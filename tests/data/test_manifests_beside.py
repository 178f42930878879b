"""Manifests in folders of images, what labelling tools write, and labelfix's own exports: read back as sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from export_runs import finish
from pictures import picture
from refusals import refuses, refuses_source
from sources import extra_of, labels_of, write_hf, write_rows

import labelfix
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.exports import TARGETS, export

IMAGES = [f"{folder}/{row}.png" for folder in ("one", "two") for row in range(3)]
LABELS = ["cat", "dog", "cat", "dog", "hot/cold", "hot/cold"]


def with_images(folder, names=IMAGES):
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(value))
    return folder


def rows_of(names=IMAGES, labels=LABELS, column="label"):
    return [{"file_name": name, column: label} for name, label in zip(names, labels, strict=True)]


def read(source, **options):
    manifest = Manifest.read(source, **options)
    found = [
        image.is_file() if isinstance(image, Path) else image is not None for image in manifest.images(0, 99)
    ]
    assert all(found)
    return manifest


def label_studio(kind):
    """The same labels as Label Studio exports them; the last image was skipped."""
    addresses = [f"/data/local-files/?d=pool/{name}" for name in IMAGES]
    addresses[1] = f"/data/upload/7/0a1b2c3d-{Path(IMAGES[1]).name}"
    labels = [*LABELS[:-1], None]
    if kind == "json":
        return [
            {
                "id": row,
                "data": {"image": address},
                "annotations": [
                    {
                        "was_cancelled": label is None,
                        "result": [{"type": "choices", "value": {"choices": [label or "x"]}}],
                    }
                ],
                "predictions": [{"result": [{"value": {"choices": ["dog"]}}]}],
            }
            for row, (address, label) in enumerate(zip(addresses, labels, strict=True))
        ]
    rows = zip(addresses, labels, strict=True)
    return [
        {"image": address, "choice": label, "annotation_id": 1, "annotator": 2} for address, label in rows
    ]


def coco():
    names = sorted(set(LABELS))
    pairs = [{"image_id": row, "category_id": names.index(label)} for row, label in enumerate(LABELS)]
    return {
        "images": [{"id": row, "file_name": name} for row, name in enumerate(IMAGES)],
        "annotations": [*pairs, pairs[0]],
        "categories": [{"id": place, "name": name} for place, name in enumerate(names)],
    }


def fiftyone_samples():
    return {
        "samples": [
            {
                "filepath": name,
                "tags": ["test"] if row == 5 else [],
                "ground_truth": {"_cls": "Classification", "label": label},
                "guess": {"_cls": "Classification", "label": "cat"},
            }
            for row, (name, label) in enumerate(zip(IMAGES, LABELS, strict=True))
        ]
    }


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_that_names_the_images_is_what_counts(tmp_path, kind):
    with_images(tmp_path)
    write_rows(tmp_path / f"metadata.{kind}", rows_of())
    manifest = read(tmp_path)
    assert labels_of(manifest) == LABELS
    assert any(f"those that metadata.{kind} names" in text for text in manifest.warnings)
    assert read(**manifest.options).fingerprint == manifest.fingerprint


def test_another_manifest_counts_where_there_are_no_classes_and_is_named_where_there_are(tmp_path):
    with_images(tmp_path)
    write_rows(tmp_path / "labels.csv", rows_of())
    write_rows(tmp_path / "agrees.csv", rows_of(labels=[name.split("/")[0] for name in IMAGES]))
    write_rows(tmp_path / "other.csv", rows_of([f"nowhere/{name}" for name in IMAGES]))
    write_rows(tmp_path / "metadata.csv", rows_of(column="caption"))
    manifest = read(tmp_path)
    said = " ".join(manifest.warnings)
    assert manifest.class_names == ("one", "two")
    assert "labels.csv beside the folders has other labels than their names and is not read" in said
    assert f"to use them, scan {tmp_path}/labels.csv" in said
    assert "other.csv beside the folders names none of their images" in said
    assert "metadata.csv beside the folders has no labels" in said
    assert "agrees.csv" not in said
    single = with_images(tmp_path / "single", [f"images/{row}.png" for row in range(6)])
    write_rows(single / "labels.csv", rows_of([f"images/{row}.png" for row in range(6)]))
    assert labels_of(read(single)) == LABELS
    write_rows(single / "more.csv", rows_of([f"images/{row}.png" for row in range(6)]))
    refuses_source(
        single,
        "'labels.csv', 'more.csv' all name its images",
        f"scan one of them, such as {single}/labels.csv",
    )


@pytest.mark.parametrize("place", ["in each", "beside"])
def test_a_manifest_for_each_split(tmp_path, place):
    for split in ("train", "test"):
        names = [f"{split}/{name}" for name in ("1.png", "2.png", "x/3.png")]
        with_images(tmp_path, names)
        if place == "in each":
            rows = rows_of([name.removeprefix(f"{split}/") for name in names], ["cat", "dog", "cat"])
            write_rows(tmp_path / split / "metadata.csv", rows)
        else:
            write_rows(tmp_path / f"{split}.csv", rows_of(names, ["cat", "dog", "cat"]))
    manifest = read(tmp_path)
    assert manifest.file_names().to_pylist()[0] == "test/1.png"
    assert labels_of(manifest) == ["cat", "dog", "cat"] * 2
    assert extra_of(manifest) == {"split": ["test"] * 3 + ["train"] * 3}
    assert manifest.held_out.tolist() == [True] * 3 + [False] * 3
    assert read(tmp_path, rows=5).num_rows == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", label_studio("json")),
        ("x.json", label_studio("json-min")),
        ("x.csv", label_studio("csv")),
        ("x.json", coco()),
        ("x.json", fiftyone_samples()),
        ("x.json", rows_of()),
    ],
)
def test_what_labelling_tools_write_is_a_source_and_verified(tmp_path, name, content):
    folder = with_images(tmp_path / "pool")
    (folder / "0a1b2c3d-1.png").write_bytes(picture(9))
    if name == "x.csv":
        pd.DataFrame(content).to_csv(folder / name, index=False)
    else:
        (folder / name).write_text(json.dumps(content))
    manifest = read(folder / name)
    is_label_studio = "pool" in json.dumps(content)
    assert labels_of(manifest) == ([*LABELS[:-1], None] if is_label_studio else LABELS)
    if not is_label_studio:
        whole = Manifest.read(write_rows(folder / "plain.csv", rows_of()))
        assert Trusted.of(whole, folder / name).label.tolist() == whole.given.tolist()


def test_annotations_of_label_studio_verify_what_a_person_has_labelled(tmp_path):
    folder = with_images(tmp_path / "pool")
    tasks = [task for row, task in enumerate(label_studio("json")) if row != 1]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    trusted = Trusted.of(Manifest.read(write_rows(folder / "plain.csv", rows_of())), tmp_path / "tasks.json")
    assert np.flatnonzero(trusted.label >= 0).tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", ("is no JSON",)),
        ({"a": 1}, ("no list of images", "Label Studio, FiftyOne or COCO")),
        ([1], ("no list of images",)),
        ({**coco(), "annotations": [{"image_id": 0, "category_id": 0}, {"image_id": 0, "category_id": 1}]},
         ("'one/0.png' has two labels, 'cat' and 'dog'", "objects")),
        ({**coco(), "annotations": [{"image_id": 9, "category_id": 0}]}, ("image 9", "not there")),
        ({**coco(), "images": [{"id": 1}]}, ("row 0 of its images", "file_name")),
        ([{"data": {"image": "a"}, "annotations": [{"result": [{"value": {"choices": ["a", "b"]}}]}]}],
         ("row 0 has 2 labels",)),
        ([{"data": {"image": "a"}, "annotations": [{"result": [{"value": {"choices": [label]}}]} for label in "ab"]}],
         ("row 0 has two labels, 'a' and 'b'",)),
    ],
)  # fmt: skip
def test_json_that_is_no_source_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    refuses_source(path, path, *words)


@pytest.fixture
def run(tmp_path):
    """A finished run over a manifest: the last label was corrected from cat, and the second verified as it is."""
    with_images(tmp_path)
    given = [*LABELS[:-1], "cat"]
    source = write_rows(tmp_path / "m.csv", rows_of(labels=given))
    return finish(
        tmp_path / "run",
        source,
        corrected=[["cat", "dog", "hot/cold"].index(label) for label in LABELS],
        trusted=[1 if row == 1 else -1 for row in range(6)],
    )


@pytest.mark.parametrize("to", [None, *TARGETS])
def test_our_own_exports_are_sources_with_the_original_names_of_classes(tmp_path, run, to):
    corrections, manifest = run
    out = (
        None if to is None else tmp_path / f"out.{to}" if to in ("csv", "jsonl", "parquet") else tmp_path / to
    )
    path = Path(export(corrections, to=to, out=out)["path"])
    if to == "cleanlab":
        refuses_source(path, "an export for cleanlab, which holds no images", "--trusted")
    else:
        source = path / "tasks.json" if to == "labelstudio" else path
        again = read(source, root=tmp_path if to == "labelstudio" else None)
        expected = labels_of(manifest) if to == "labelstudio" else LABELS
        assert sorted(labels_of(again)) == sorted(expected)
        assert again.class_names == manifest.class_names
        assert not set(again.pass_through) & {"noise_score", "given_label", "is_label_issue"}
    if to in (None, "csv", "jsonl", "parquet", "cleanlab"):
        verified = Trusted.of(manifest, path).label
        assert [manifest.class_names[label] for label in verified] == LABELS


def test_a_run_is_its_source_and_its_verified_rows(tmp_path, run):
    corrections, manifest = run
    for source in (corrections, corrections.parent):
        again = read(source)
        assert again.fingerprint == manifest.fingerprint
        assert any("what it scanned" in text for text in again.warnings)
        assert np.flatnonzero(Trusted.of(manifest, source).label >= 0).tolist() == [1]
    (tmp_path / "m.csv").unlink()
    refuses_source(corrections.parent, "is a run over", "m.csv, which is not there")


def test_review_status_of_an_export_verifies_the_rows_that_a_person_decided_on(tmp_path, run):
    corrections, manifest = run
    decided = [{"sample_id": row, "decision": decision, "label": label}
               for row, decision, label in ((0, "change", "dog"), (2, "skip", ""), (3, "keep", "dog"))]  # fmt: skip
    decisions = write_rows(tmp_path / "d.csv", decided)
    out = export(corrections, to="csv", out=tmp_path / "out.csv", decisions=decisions)["path"]
    trusted = Trusted.of(manifest, out).label
    assert {row: manifest.class_names[trusted[row]] for row in np.flatnonzero(trusted >= 0)} == {
        0: "dog",
        3: "dog",
    }


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_export_with_decisions_is_a_source_whose_findings_are_decided_on_again(tmp_path, run, kind):
    corrections, _ = run
    decided = [{"sample_id": 0, "decision": "change", "label": "dog"}]
    options = {"decisions": write_rows(tmp_path / "d.csv", decided)}
    out = export(corrections, to=kind, out=tmp_path / f"out.{kind}", **options)["path"]
    again = read(out)
    assert not {"reviewed_label", "review_status"} & set(again.pass_through)
    assert any("'reviewed_label'" in text for text in again.warnings)


def test_columns_of_other_tools_are_read_as_what_they_are(tmp_path):
    names = ["1.png", "2.png", "3.png", "4.png"]
    with_images(tmp_path, names)
    fastai = pd.DataFrame(
        {"file_name": names, "label": list("abab"), "is_valid": [False, False, True, False]}
    )
    fastai.to_csv(tmp_path / "fastai.csv", index=False)
    manifest = read(tmp_path / "fastai.csv")
    assert manifest.held_out.tolist() == [False, False, True, False]
    assert any("read as fastai's" in text for text in manifest.warnings)
    cleanlab = pd.DataFrame(
        {"file_name": names, "given_label": list("abab"), "is_label_issue": False, "label_score": 0.5}
    )
    cleanlab.to_parquet(tmp_path / "cleanlab.parquet")
    found = read(tmp_path / "cleanlab.parquet")
    assert labels_of(found) == list("abab")
    assert found.pass_through == ()
    assert any("'is_label_issue', 'label_score' are left out" in text for text in found.warnings)


def test_a_hugging_face_export_with_its_images_is_a_source(tmp_path):
    images = [{"bytes": picture(row), "path": f"{row}.png"} for row in range(4)]
    found, _ = finish(tmp_path / "run", write_hf(tmp_path / "x.parquet", images, [0, 1, 2, 0]))
    out = labelfix.export(found, to="hf", out=tmp_path / "out.parquet")["path"]
    assert labels_of(read(out)) == ["cat", "dog", "eel", "cat"]
    refuses(Trusted.of, "no column", "file_name", manifest=Manifest.read(out), path=out)
