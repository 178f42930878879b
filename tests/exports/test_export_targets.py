"""Exports for other tools: each opened by the tool itself, or checked against what its documentation says."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import datasets
import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from cleanlab.filter import find_label_issues
from click.testing import CliRunner
from export_runs import finish
from pictures import picture
from PIL import Image
from torchvision.datasets import ImageFolder

from labelfix.cli import cli
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.exports import TARGETS, export
from labelfix.exports.names import FileNames, folder_names
from labelfix.results.corrections import Corrections
from labelfix.results.originals import read_originals

refuses = partial(refusals.refuses, export)

FOLDERS = ("hf", "imagefolder", "labelstudio", "cleanlab", "fiftyone")
OF_IMAGES = ("hf", "imagefolder", "fiftyone")
# Class names that are no names of folders, or not on every system; none of them may lead anywhere.
HOSTILE = (
    "../../etc", "..", ".", ".hidden", "a/b", "a\\b", "nul\0byte", "<img src=x onerror=alert(1)>", "Cat", "cat",
    "CAT~2", "con", "caf\u00e9", "cafe\u0301", "%2E", "_unlabeled ", "x" * 300, "\u732b" * 100, "-rf", "007",
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Class folders with names that meet again: rows 0 to 6, of which row 3 is not valid; rows 1 and 5 change."""
    images = tmp_path / "images"
    names = ["007/a/x.png", "007/b/x.png", "007/y.png", "cat/a.png", "cat/b/x.png", "cat/x.jpg", "dog/X.PNG"]
    for value, name in enumerate(names):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(picture(value) if name != "cat/a.png" else b"")
    findings = {
        "corrected": [0, 1, 0, 1, 1, 2, 2], "noise": [0.1, 0.9, 0.3, np.nan, 0.3, 0.8, 0.2],
        "flagged": [row in (1, 5) for row in range(7)], "valid": [row != 3 for row in range(7)],
    }  # fmt: skip
    return finish(tmp_path / "runs" / "one", images, **findings)[0]


EXPORTED = {0: "007", 1: "cat", 2: "007", 4: "cat", 5: "dog", 6: "dog"}


@pytest.fixture
def hub(tmp_path):
    """A Hugging Face Parquet file with bytes, ClassLabel, and columns of its own; rows in three row groups."""
    count = 25
    image = pa.array(
        [{"bytes": picture(i), "path": f"../../etc/{i}.png" if i % 2 else None} for i in range(count)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    names = ["zebra", "007", "<b>"]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    columns = {
        "image": image,
        "label": [i % 3 for i in range(count)],
        "mask_file_name": [f"{i}.npy" for i in range(count)],
        "boxes": [[i, i + 1] for i in range(count)],
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=10)
    noise = np.random.default_rng(0).permutation(count) / count
    corrected = [(i + (i % 5 == 0)) % 3 for i in range(count)]
    path, _ = finish(tmp_path / "run", tmp_path / "train.parquet", corrected=corrected, noise=noise)
    return path, corrected, noise


def opened(kind, **options):
    """What `load_dataset` makes of an export; it may look nowhere else."""
    return datasets.load_dataset(kind, **options)["train"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")


def pixel(image):
    return np.asarray(image)[0, 0].max()


def tree(folder):
    """Every file below a folder by its name there, and what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class TestHuggingFaceFolder:
    def test_opens_with_labels_as_text(self, run, tmp_path):
        out = tmp_path / "test" / "clean"  # a name in which `datasets` might see a split
        assert export(run, to="hf", out=out)["rows"] == 6
        assert [path.name for path in out.glob("metadata.*")] == ["metadata.parquet"]
        found = opened("imagefolder", data_dir=str(out))
        assert found.features["label"] == datasets.ClassLabel(names=["007", "cat", "dog"])
        assert [found.features["label"].int2str(row["label"]) for row in found] == list(EXPORTED.values())
        assert [pixel(row["image"]) for row in found] == list(EXPORTED)
        assert found["source_name"][1] == "007/b/x.png"
        assert (out / "images" / "000000" / "000000005.jpg").read_bytes() == picture(5)

    def test_the_next_scan_reads_it(self, run, tmp_path):
        export(run, to="hf", out=tmp_path / "clean")
        manifest = Manifest.read(tmp_path / "clean")
        assert [manifest.class_names[label] for label in manifest.given] == list(EXPORTED.values())
        assert [Path(image).read_bytes() for image in manifest.images(0, 6)] == [picture(i) for i in EXPORTED]
        # And its export has the first name of all still.
        again, _ = finish(tmp_path / "runs" / "two", tmp_path / "clean")
        export(again, to="hf", out=tmp_path / "cleaner")
        found = pq.read_table(tmp_path / "cleaner" / "metadata.parquet")
        assert found["source_name"].to_pylist()[1] == "007/b/x.png"

    def test_columns_that_would_be_images(self, hub, tmp_path):
        path, corrected, _ = hub
        export(path, to="hf", out=tmp_path / "clean")
        found = opened("imagefolder", data_dir=str(tmp_path / "clean"))
        assert found.column_names == ["image", "label", "source_name", "mask_file", "boxes"]
        assert found["mask_file"][3] == "3.npy"
        assert found["boxes"][3] == [3, 4]
        assert found["source_name"][:2] == ["row-000000000.png", "../../etc/1.png"]
        assert list(found["label"]) == corrected

    def test_the_first_rows_of_all_are_left_out(self, hub, tmp_path, monkeypatch):
        """`datasets` reads as many rows at once as the first row group has: it has to have some."""
        monkeypatch.setattr("labelfix.results.corrections.ROW_GROUP", 5)
        path, corrected, _ = hub
        table = pq.read_table(path)
        scores = pa.array([0.1] * 12 + [0.9] * 13, pa.float32())
        pq.write_table(table.set_column(3, "noise_score", scores), path)
        for name, kind, place in (
            ("clean", "imagefolder", "data_dir"),
            ("clean.parquet", "parquet", "data_files"),
        ):
            export(path, to="hf", out=tmp_path / name, min_score=0.5)
            found = opened(kind, **{place: str(tmp_path / name)})
            assert list(found["label"]) == corrected[12:]
            assert [pixel(row["image"]) for row in found] == list(range(12, 25))

    def test_a_source_column_of_the_name_of_one_of_decisions(self, tmp_path):
        columns = {"file_name": ["a.png", "b.png"], "label": ["a", "b"], "review_status": ["x", "y"]}
        for name in columns["file_name"]:
            (tmp_path / name).write_bytes(picture(1))
        path, _ = finish(tmp_path / "run", columns)
        export(path, to="hf", out=tmp_path / "run" / "clean")
        found = opened("imagefolder", data_dir=str(tmp_path / "run" / "clean"))
        assert list(found["review_status"]) == ["x", "y"]

    def test_two_columns_of_one_name(self, tmp_path):
        names = ["a.png", "b.png"]
        for name in names:
            (tmp_path / name).write_bytes(picture(1))
        columns = {"image": names, "file_name": names, "source_image": ["1", "2"], "label": ["a", "b"]}
        path, _ = finish(tmp_path / "run", columns)
        for to in ("hf", "labelstudio"):
            refuses(f"--to {to}", "source_image", "rename", corrections=path, to=to)
        assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "corrections.parquet"]


class TestHuggingFaceParquet:
    @pytest.mark.parametrize("top", [None, 7])
    def test_opens_and_scans(self, hub, tmp_path, top):
        path, corrected, noise = hub
        rows = list(range(25)) if top is None else np.argsort(-noise.astype(np.float32), kind="stable")[:top]
        out = tmp_path / "clean.parquet"
        export(path, to="hf", out=out, top=top)
        found = opened("parquet", data_files=str(out))
        assert found.features["image"] == datasets.Image()
        assert found.features["label"] == datasets.ClassLabel(names=["zebra", "007", "<b>"])
        assert [pixel(row["image"]) for row in found] == list(rows)
        assert [row["label"] for row in found] == [corrected[row] for row in rows]
        manifest = Manifest.read(out)
        assert manifest.given.tolist() == [corrected[row] for row in rows]
        assert manifest.images(0, 3) == [picture(row) for row in rows[:3]]

    def test_images_that_are_files(self, run, tmp_path):
        export(run, to="hf", out=tmp_path / "clean.parquet")
        column = pq.read_table(tmp_path / "clean.parquet")["image"].to_pylist()
        assert [cell["bytes"] for cell in column] == [picture(row) for row in EXPORTED]
        assert column[1]["path"] == "007/b/x.png"

    def test_row_groups_stay_small(self, hub, tmp_path, monkeypatch):
        monkeypatch.setattr("labelfix.exports.hf._GROUP_BYTES", 3 * len(picture(0)))
        export(hub[0], to="hf", out=tmp_path / "clean.parquet")
        assert pq.read_metadata(tmp_path / "clean.parquet").num_row_groups == 9

    def test_no_links_into_a_file(self, run, tmp_path):
        refuses("--images symlink", corrections=run, to="hf", out=tmp_path / "a.parquet", images="symlink")


class TestImageFolder:
    def test_torchvision_and_the_next_scan_read_it(self, run, tmp_path):
        out = tmp_path / "clean"
        summary = export(run, to="imagefolder", out=out)
        assert (summary["rows"], summary["renamed_images"], summary["renamed_classes"]) == (6, 2, 0)
        found = ImageFolder(out)
        assert found.classes == ["007", "cat", "dog"]
        assert {pixel(image): found.classes[label] for image, label in found} == EXPORTED
        manifest = Manifest.read(out)
        assert manifest.file_names().to_pylist() == [
            "007/x.png", "007/y.png", "cat/x-000000004.png", "cat/x.png", "dog/X-000000006.PNG", "dog/x.jpg",
        ]  # fmt: skip
        assert [manifest.class_names[label] for label in manifest.given] == sorted(EXPORTED.values())

    def test_bytes_and_arrays_get_an_extension(self, tmp_path):
        images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 5, 5, 3), np.uint8)
        source = (images, ["a", "b", "a", "b"])
        path, manifest = finish(tmp_path / "run", source, corrected=[1, 1, 0, 1])
        refuses("in memory", "source=", corrections=path, to="imagefolder")
        export(path, to="imagefolder", out=tmp_path / "clean", source=source, images="symlink")
        assert tree(tmp_path / "clean").keys() == {
            "classes.json", "a/row-000000002.png", "b/row-000000000.png", "b/row-000000001.png", "b/row-000000003.png",
        }  # fmt: skip
        assert (tmp_path / "clean" / "a" / "row-000000002.png").read_bytes() == manifest.images(2, 3)[0]
        assert len(ImageFolder(tmp_path / "clean")) == 4

    def test_links(self, run, tmp_path):
        original = tmp_path / "images" / "007" / "y.png"
        link = tmp_path / "link.png"
        for way in ("hardlink", "symlink"):
            export(run, to="imagefolder", out=tmp_path / way, images=way)
            made = tmp_path / way / "007" / "y.png"
            assert made.samefile(original)
            assert made.is_symlink() == (way == "symlink")
        assert len(ImageFolder(tmp_path / "symlink")) == 6
        # The original may be a link itself; a hard link is one to the image.
        original.rename(link)
        original.symlink_to(link)
        export(run, to="imagefolder", out=tmp_path / "again", images="hardlink")
        assert not (tmp_path / "again" / "007" / "y.png").is_symlink()
        shutil.rmtree(tmp_path / "again")
        assert link.read_bytes() == picture(2)

    def test_a_class_of_the_name_of_the_list_of_classes(self, tmp_path):
        for value, name in enumerate(("classes.json", "Classes.JSON", "cat")):
            (tmp_path / "images" / name).mkdir(parents=True)
            (tmp_path / "images" / name / "x.png").write_bytes(picture(value))
        path, manifest = finish(tmp_path / "run", tmp_path / "images")
        export(path, to="imagefolder", out=tmp_path / "clean")
        folders = json.loads((tmp_path / "clean" / "classes.json").read_text())
        assert sorted(folders.values()) == sorted(manifest.class_names)
        found = ImageFolder(tmp_path / "clean")
        seen = {folders[found.classes[label]]: pixel(image) for image, label in found}
        assert seen == {"classes.json": 0, "Classes.JSON": 1, "cat": 2}

    def test_classes_that_are_called_like_splits_are_read_as_classes(self, tmp_path):
        images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 5, 5, 3), np.uint8)
        source = (images, ["train", "test", "train", "test"])
        path, _ = finish(tmp_path / "run", source)
        export(path, to="imagefolder", out=tmp_path / "clean", source=source)
        found = Manifest.read(tmp_path / "clean")
        assert found.class_names == ("test", "train")
        assert found.given.tolist() == [0, 0, 1, 1]
        assert not found.held_out.any()
        (tmp_path / "clean" / "classes.json").unlink()
        with pytest.raises(InputError, match="holds splits"):
            Manifest.read(tmp_path / "clean")

    def test_a_hard_link_over_devices(self, run, tmp_path, monkeypatch):
        def link(*_):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", link)
        refuses("--images hardlink", "copy or symlink", corrections=run, to="imagefolder", images="hardlink")
        assert sorted(os.listdir(run.parent)) == ["config.json", "corrections.parquet"]

    def test_hostile_names_stay_inside(self, tmp_path):
        """Every image lands in a folder of its class, whatever the two are called, and nothing lies anywhere else."""
        count = len(HOSTILE)
        home = tmp_path / "a" / "b" / "source"
        home.mkdir(parents=True)
        names = [
            "../../etc/passwd", "..", ".hidden.png", "%2e%2e.png", "x" * 250 + ".png", "a\\..\\b.png", "con.png",
            "a.PNG", "A.png", "caf\u00e9.png", "cafe\u0301.png",
        ]  # fmt: skip
        names = [names[i] if i < len(names) and names[i] != ".." else f"{i}.png" for i in range(count)]
        (tmp_path / "a" / "etc").mkdir()
        for i, name in enumerate(names):
            (home / name).write_bytes(picture(i))
        labels = [HOSTILE[i] for i in range(count)]
        pq.write_table(pa.table({"file_name": names, "label": labels}), home / "s.parquet")
        path, manifest = finish(tmp_path / "run", home / "s.parquet")
        before = {name for name in tree(tmp_path) if not name.startswith("out")}
        out = tmp_path / "out"
        summary = export(path, to="imagefolder", out=out / "tree")
        assert {name for name in tree(tmp_path) if not name.startswith("out")} == before
        folders = json.loads((out / "tree" / "classes.json").read_text())
        assert sorted(folders.values()) == sorted(manifest.class_names)
        assert summary["renamed_classes"] == sum(folder != label for folder, label in folders.items()) > 9
        found = ImageFolder(out / "tree")
        assert len(found) == count
        seen = {pixel(image): folders[found.classes[label]].strip() for image, label in found}
        assert seen == {i: labels[i].strip() for i in range(count)}
        assert Manifest.read(out / "tree").num_rows == count
        for to in ("hf", "fiftyone"):
            export(path, to=to, out=out / to)
            assert sum(name.endswith((".png", ".PNG")) for name in tree(out / to)) == count
        assert {name for name in tree(tmp_path) if not name.startswith("out")} == before


class TestNames:
    def test_plain_names_stay(self):
        plain = ["cat", "007", "n01440764", "\u732b", "ice cream", "a.b", "T-shirt", "common", "con1", "_x"]
        assert folder_names(plain) == {name: name for name in plain}

    @pytest.mark.parametrize(
        ("label", "folder"),
        [
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("a/b", "a%2Fb"),
            ("50%", "50%25"),
            ("nul\0", "nul%00"),
            ("NUL", "%4EUL"),
            ("com1.x", "%63om1.x"),
            ("_unlabeled", "%5Funlabeled"),
            ("\u00fcber/", "\u00fcber%2F"),
        ],
    )
    def test_unsafe_ones_are_escaped_and_read_back(self, label, folder):
        assert folder_names([label]) == {label: folder}
        assert unquote(folder) == label

    def test_no_two_are_one_folder_anywhere(self):
        names = [*HOSTILE, "x" * 301, "x" * 400, "stra\u00dfe", "STRASSE", "cat~2", "cat~3"]
        folders = folder_names(names)
        assert len({folder.casefold() for folder in folders.values()}) == len(names)
        assert all(len(folder.encode()) <= 255 and "/" not in folder for folder in folders.values())
        assert not {"", ".", ".."} & set(folders.values())
        assert (folders["Cat"], folders["cat"]) == ("Cat", "cat~2")
        assert folder_names(names) == folders

    def test_files(self):
        names = FileNames()
        plain = ["x.png", "b/x.png", "c/X.jpg", "x-000000001.png", "no", "", "d/", "e.dat"]
        given = [*plain, "y" * 400 + ".jpeg"]
        found = [names.name("a", file_name, row, ".png") for row, file_name in enumerate(given)]
        assert found[:8] == [
            "x.png", "x-000000001.png", "X-000000002.jpg", "x-000000001-000000003.png", "no.png", "row-000000005.png",
            "row-000000006.png", "e.dat.png",
        ]  # fmt: skip
        assert len(found[8]) <= 255
        assert found[8].endswith(".jpeg")
        assert names.name("b", "x.png", 9, ".png") == "x.png"
        assert names.renamed == 8


def objects(required, *, is_closed=False, **properties):
    """The JSON schema of objects with these properties, and no others if it is closed."""
    kind = {"type": "object", "required": required.split(), "properties": properties}
    return kind | {"additionalProperties": not is_closed}


def arrays(items, **limits):
    return {"type": "array", "items": items, **limits}


# What Label Studio's documentation says of tasks with predictions, in so far as choices need it.
TEXT, ONE = {"type": "string"}, {"minItems": 1, "maxItems": 1}
RESULT = objects(
    "from_name to_name type value",
    from_name={"const": "label"},
    to_name={"const": "image"},
    type={"const": "choices"},
    value=objects("choices", choices=arrays(TEXT, **ONE)),
)
SCORE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
PREDICTION = objects(
    "model_version result", is_closed=True, model_version=TEXT, score=SCORE, result=arrays(RESULT)
)
DATA = objects("image", image=TEXT)
TASKS = arrays(objects("data predictions", is_closed=True, data=DATA, predictions=arrays(PREDICTION, **ONE)))


class TestLabelStudio:
    def read(self, out):
        tasks = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
        jsonschema.validate(tasks, TASKS)
        return tasks, ElementTree.parse(out / "config.xml").getroot()

    def exported(self, path, tmp_path, **options):
        """Its tasks and its configuration."""
        export(path, to="labelstudio", out=tmp_path / "ls", **options)
        return self.read(tmp_path / "ls")

    def test_tasks_fit_their_configuration(self, run, tmp_path):
        tasks, view = self.exported(run, tmp_path)
        assert sorted(os.listdir(tmp_path / "ls")) == ["config.xml", "tasks.json"]
        image, choices = view
        assert (view.tag, image.tag, choices.tag) == ("View", "Image", "Choices")
        assert (image.get("name"), image.get("value")) == ("image", "$image")
        assert (choices.get("name"), choices.get("toName")) == ("label", "image")
        assert [choice.get("value") for choice in choices] == ["007", "cat", "dog"]
        labels = [task["predictions"][0]["result"][0]["value"]["choices"][0] for task in tasks]
        assert labels == [EXPORTED[task["data"]["sample_id"]] for task in tasks]

    def test_worst_first(self, run, tmp_path):
        tasks, _ = self.exported(run, tmp_path)
        assert [task["data"]["sample_id"] for task in tasks] == [1, 5, 2, 4, 6, 0]
        scores = [task["predictions"][0]["score"] for task in tasks]
        assert scores == sorted(scores)
        assert scores[0] == pytest.approx(0.1)
        assert tasks[0]["data"] == {
            "image": "/data/local-files/?d=images/007/b/x.png", "file_name": "007/b/x.png", "label": "cat",
            "given_label": "007", "noise_score": 0.9, "is_label_issue": True, "sample_id": 1, "is_trusted": False,
        }  # fmt: skip

    def test_verified_rows_come_last(self, tmp_path):
        """Theirs is the verified label, which nobody need doubt."""
        (tmp_path / "s.csv").write_text("file_name,label\na.png,a\nb.png,b\nc.png,b\n")
        trusted = [1, -1, -1]
        path, _ = finish(tmp_path / "run", tmp_path / "s.csv", noise=[1.0, 0.4, 0.6], trusted=trusted)
        tasks, _ = self.exported(path, tmp_path)
        assert [task["data"]["file_name"] for task in tasks] == ["c.png", "b.png", "a.png"]
        assert [task["predictions"][0]["score"] for task in tasks] == pytest.approx([0.4, 0.6, 1.0])
        assert tasks[2]["data"]["is_trusted"] is True

    def test_rows_without_a_score_come_last(self, tmp_path):
        columns = {"file_name": [f"{i}.png" for i in range(4)], "label": list("abab")}
        path, _ = finish(tmp_path / "run", columns, noise=[np.nan, 0.2, np.nan, 0.4])
        tasks, _ = self.exported(path, tmp_path)
        assert [task["data"]["sample_id"] for task in tasks] == [3, 1, 0, 2]
        assert tasks[2]["predictions"][0]["score"] is None

    @pytest.mark.parametrize(
        ("prefix", "start"),
        [
            (None, "/data/local-files/?d=s%20%26%20co/"),
            ("https://host/images", "https://host/images/"),
            ("/data/local-files/?d=", "/data/local-files/?d="),
        ],
    )
    def test_addresses_and_text_that_is_markup(self, tmp_path, prefix, start):
        outside = "..a/etc..passwd" if prefix is None else "../../etc/passwd"
        names = ["<img src=x onerror=alert(1)>.png", outside, 'a"%s b+c&d=\u732b.png', "plain/x-1.png"]
        labels = ['a"&<b>', "%s\n\\", "$x", "<img src=x onerror=alert(1)>"]
        columns = {"file_name": names, "label": labels, "image": list("1234"), "50%s": [1, 2, 3, 4]}
        (tmp_path / "s & co").mkdir()
        path, _ = finish(tmp_path / "s & co" / "run", columns)
        tasks, view = self.exported(path, tmp_path, image_url_prefix=prefix)
        assert {choice.get("value") for choice in view[1]} == set(labels)
        for task in tasks:
            data = task["data"]
            row = data["sample_id"]
            assert data["image"].startswith(start)
            assert unquote(data["image"].removeprefix(start)) == names[row]
            assert re.fullmatch(r"[\w./:?=%&~-]+", data["image"], re.ASCII)
            own = (data["file_name"], data["source_image"], data["50%s"])
            assert own == (names[row], str(row + 1), row + 1)
            assert data["label"] == task["predictions"][0]["result"][0]["value"]["choices"][0] == labels[row]
            if prefix is None:
                # What the server makes of the address: its parameter d, below the folder above the source's.
                assert parse_qs(urlsplit(data["image"]).query)["d"] == [f"s & co/{names[row]}"]

    @pytest.mark.parametrize("name", ["/data/x.png", "../x.png", "a/../../x.png", ".."])
    def test_images_outside_of_the_source_have_no_local_address(self, tmp_path, name):
        path, _ = finish(tmp_path / "run", {"file_name": ["a.png", name], "label": ["a", "b"]})
        out = tmp_path / "run" / "ls"
        refuses(repr(name), "--image-url-prefix", "imagefolder", corrections=path, to="labelstudio", out=out)
        assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "corrections.parquet"]
        assert export(path, to="labelstudio", out=out, image_url_prefix="https://host")["rows"] == 2

    def test_images_that_are_no_files_have_no_local_address(self, hub, tmp_path):
        images = np.zeros((4, 5, 5), np.uint8)
        in_memory, _ = finish(tmp_path / "memory", (images, ["a", "b", "a", "b"]))
        (tmp_path / "shards").mkdir()
        shutil.copy(tmp_path / "train.parquet", tmp_path / "shards" / "train-00000-of-00001.parquet")
        shards, _ = finish(tmp_path / "of-shards", tmp_path / "shards")
        for path in (hub[0], in_memory, shards):
            refuses("no files", "--image-url-prefix", "imagefolder", corrections=path, to="labelstudio")
            assert not (path.parent / "corrected-labelstudio").exists()
            assert export(path, to="labelstudio", image_url_prefix="https://host")["rows"] > 3

    def test_a_manifest_that_is_gone_was_in_a_folder(self, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "s.csv").write_text("file_name,label\na.png,a\nb.png,b\n")
        path, _ = finish(tmp_path / "run", tmp_path / "photos" / "s.csv")
        (tmp_path / "photos" / "s.csv").unlink()
        tasks, _ = self.exported(path, tmp_path)
        assert tasks[0]["data"]["image"] == "/data/local-files/?d=photos/a.png"

    def test_a_source_that_is_named_by_dots_has_a_name(self, run, tmp_path, monkeypatch):
        for folder, source in (("images", "."), ("images/cat", "..")):
            monkeypatch.chdir(tmp_path / folder)
            export(run, to="labelstudio", source=source, out=tmp_path / source.replace(".", "x"))
            text = (tmp_path / source.replace(".", "x") / "tasks.json").read_text()
            assert text.count("/data/local-files/?d=images/") == text.count("/data/local-files/?d=") == 6

    def test_what_xml_cannot_hold(self, tmp_path):
        path, _ = finish(tmp_path / "run", {"file_name": ["a.png", "b.png"], "label": ["a\x01", "b"]})
        refuses("'a\\x01'", "rename the class", corrections=path, to="labelstudio")

    def test_many_rows(self, tmp_path, monkeypatch):
        """Six row groups, most scores tied: the order is that of --top."""
        for module in ("results.corrections", "exports.rows", "exports.labelstudio"):
            monkeypatch.setattr(f"labelfix.{module}.ROW_GROUP", 1000)
        rows = range(5_001)
        noise = np.random.default_rng(0).integers(0, 1000, len(rows)) / 1000
        columns = {"file_name": [f"{i}.png" for i in rows], "label": [f"c{i % 3}" for i in rows]}
        path, _ = finish(tmp_path / "run", columns, noise=noise)
        tasks, _ = self.exported(path, tmp_path, min_score=0.5)
        ranked = np.argsort(-noise.astype(np.float32), kind="stable")
        expected = [row for row in ranked if np.float32(noise[row]) >= np.float32(0.5)]
        assert [task["data"]["sample_id"] for task in tasks] == expected


class TestCleanlab:
    def make(self, tmp_path, rows=300, absent=False, sure=True):
        """Predictions of three classes, the last of which no row is given if it is absent; every tenth label wrong."""
        rng = np.random.default_rng(0)
        classes = 2 if absent else 3
        true = rng.integers(0, classes, rows)
        given = np.where(np.arange(rows) % 10 == 0, (true + 1) % classes, true)
        features = {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}
        table = pa.table({"file_name": [f"{i}.png" for i in range(rows)], "label": given})
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "s.parquet")
        path, _ = finish(tmp_path / "run", tmp_path / "s.parquet", corrected=true)
        probs = rng.dirichlet([1.0] * 3, rows) * 0.2 + np.eye(3)[true] * 0.8
        found = pq.read_table(path)
        without = pa.array(np.arange(rows) >= (rows if sure else rows - 5))
        values = pa.array(probs.astype(np.float32).ravel())
        column = pa.FixedSizeListArray.from_arrays(values, 3, mask=without)
        place = found.schema.get_field_index("predicted_probs")
        pq.write_table(found.set_column(place, found.schema.field(place), column), path, row_group_size=100)
        return path, given, true, probs

    @pytest.mark.filterwarnings("ignore::UserWarning:cleanlab.*")
    @pytest.mark.parametrize("absent", [False, True])
    def test_find_label_issues_takes_them(self, tmp_path, absent):
        path, given, true, probs = self.make(tmp_path, absent=absent)
        summary = export(path, to="cleanlab", out=tmp_path / "cl")
        arrays = {file.stem: np.load(file, allow_pickle=False) for file in (tmp_path / "cl").glob("*.npy")}
        expected = {"labels": given, "corrected_labels": true, "sample_ids": np.arange(300)}
        for name, values in expected.items():
            assert arrays[name].dtype == np.int64
            np.testing.assert_array_equal(arrays[name], values)
        assert np.load(tmp_path / "cl" / "pred_probs.npy", mmap_mode="r").shape == (300, 3)
        assert arrays["pred_probs"].dtype == np.float32
        np.testing.assert_allclose(arrays["pred_probs"], probs, atol=1e-7)
        np.testing.assert_allclose(arrays["pred_probs"].sum(axis=1), 1, atol=1e-5)
        assert json.loads((tmp_path / "cl" / "class_names.json").read_text()) == ["a", "b", "c"]
        assert (summary["rows"], summary["without_probs"], summary["out_of_sample"]) == (300, 0, False)
        found = find_label_issues(arrays["labels"], arrays["pred_probs"], n_jobs=1)
        np.testing.assert_array_equal(np.flatnonzero(found), np.flatnonzero(given != true))

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_rows_without_probabilities_are_counted(self, tmp_path, dry_run):
        path, *_ = self.make(tmp_path, sure=False)
        summary = export(path, to="cleanlab", out=tmp_path / "cl", dry_run=dry_run)
        assert (summary["rows"], summary["without_probs"], summary["left_out"]) == (295, 5, 5)
        if not dry_run:
            assert np.load(tmp_path / "cl" / "sample_ids.npy")[-1] == 294

    def test_no_row_at_all(self, tmp_path):
        path, *_ = self.make(tmp_path)
        found = pq.read_table(path)
        place = found.schema.get_field_index("predicted_probs")
        field = found.schema.field(place)
        pq.write_table(found.set_column(place, field, pa.nulls(300, field.type)), path)
        refuses("300 lack what it needs", corrections=path, to="cleanlab", out=tmp_path / "cl")
        assert not (tmp_path / "cl").exists()


def labels_of(out):
    """The label of each image of a FiftyOne export, by its row."""
    described = json.loads((out / "labels.json").read_text())
    files = {path.stem: path for path in (out / "data").iterdir()}
    return {
        pixel(Image.open(files[name])): described["classes"][label]
        for name, label in described["labels"].items()
    }


class TestFiftyOne:
    def test_layout_of_its_documentation(self, run, tmp_path):
        """FiftyOneImageClassificationDataset: `data/` holds the images; `labels.json` has `classes`, a list of names,
        and `labels`, which maps the path of each image below `data/` without its extension to its index in `classes`.
        """
        out = tmp_path / "fo"
        summary = export(run, to="fiftyone", out=out)
        assert sorted(os.listdir(out)) == ["data", "labels.json"]
        described = json.loads((out / "labels.json").read_text())
        assert set(described) == {"classes", "labels"}
        assert described["classes"] == ["007", "cat", "dog"]
        files = [os.path.splitext(name)[0] for name in os.listdir(out / "data")]
        assert sorted(files) == sorted(described["labels"])
        assert len(files) == 6
        assert labels_of(out) == EXPORTED
        assert summary["renamed_images"] == 4

    def test_bytes(self, hub, tmp_path):
        path, corrected, _ = hub
        export(path, to="fiftyone", out=tmp_path / "fo", top=25)
        names = ["zebra", "007", "<b>"]
        assert labels_of(tmp_path / "fo") == {row: names[label] for row, label in enumerate(corrected)}


class TestEveryTarget:
    @pytest.mark.parametrize("to", FOLDERS)
    def test_beside_the_corrections_by_default(self, run, to):
        summary = export(run, to=to)
        assert summary["path"] == str(run.parent / f"corrected-{to}")
        assert (summary["rows"], summary["changed"], summary["left_out"]) == (6, 2, 1)
        json.dumps(summary)

    @pytest.mark.parametrize("to", FOLDERS)
    def test_twice_equals_once_and_leaves_nothing_else(self, run, tmp_path, to):
        source = tree(tmp_path / "images")
        export(run, to=to, out=tmp_path / "out" / "one")
        (tmp_path / "out" / "two").mkdir()
        export(run, to=to, out=tmp_path / "out" / "two")
        assert tree(tmp_path / "out" / "one") == tree(tmp_path / "out" / "two")
        assert sorted(os.listdir(tmp_path / "out")) == ["one", "two"]
        assert (tmp_path / "out" / "one").stat().st_mode == (tmp_path / "images").stat().st_mode
        assert tree(tmp_path / "images") == source

    @pytest.mark.parametrize("to", FOLDERS)
    @pytest.mark.parametrize(
        ("options", "rows"),
        [
            ({"min_score": 0.8}, 2),
            ({"only_issues": True}, 2),
            ({"top": 3}, 3),
            ({"action": "drop"}, 4),
            ({"top": 1}, 1),
        ],
    )
    def test_filters(self, run, tmp_path, to, options, rows):
        before = sorted(os.listdir(run.parent))
        dry = export(run, to=to, dry_run=True, **options)
        assert sorted(os.listdir(run.parent)) == before
        summary = export(run, to=to, out=tmp_path / "out", **options)
        assert (summary["rows"], summary["changed"]) == (dry["rows"], dry["changed"])
        assert summary["rows"] == rows
        written = len(list((tmp_path / "out").rglob("*.[pPj][nNp][gG]")))
        assert written == (rows if to in OF_IMAGES else 0)

    @pytest.mark.parametrize("to", FOLDERS)
    def test_no_row_at_all(self, run, tmp_path, to):
        for dry_run in (False, True):
            refuses("no row is left", corrections=run, to=to, min_score=0.99, dry_run=dry_run)
        if to == "hf":
            refuses("no row is left", corrections=run, to=to, min_score=0.99, out=tmp_path / "a.parquet")
            assert not (tmp_path / "a.parquet").exists()
        assert sorted(os.listdir(run.parent)) == ["config.json", "corrections.parquet"]

    def test_a_person_decided(self, run, tmp_path):
        """Each with its own reader."""
        decisions = tmp_path / "decisions.csv"
        lines = ["1,007/b/x.png,keep,007", "4,cat/b/x.png,change,dog", "0,007/a/x.png,skip,"]
        decisions.write_text("\n".join(["sample_id,file_name,decision,label", *lines]))
        expected = EXPORTED | {1: "007", 4: "dog"}
        for to in ("hf", "fiftyone", "labelstudio", "imagefolder"):
            export(run, to=to, out=tmp_path / to, decisions=decisions)
        found = opened("imagefolder", data_dir=str(tmp_path / "hf"))
        assert found.column_names == ["image", "label", "source_name"]
        label = found.features["label"].int2str
        assert {pixel(row["image"]): label(row["label"]) for row in found} == expected
        assert labels_of(tmp_path / "fiftyone") == expected
        tasks, _ = TestLabelStudio().read(tmp_path / "labelstudio")
        chosen = {task["data"]["sample_id"]: task["predictions"][0]["result"][0]["value"] for task in tasks}
        assert chosen == {row: {"choices": [label]} for row, label in expected.items()}
        status = {task["data"]["sample_id"]: task["data"]["review_status"] for task in tasks}
        assert status == {0: "skip", 1: "keep", 2: None, 4: "change", 5: None, 6: None}
        folder = ImageFolder(tmp_path / "imagefolder")
        assert {pixel(image): folder.classes[label] for image, label in folder} == expected

    def test_an_unlabelled_row_that_was_verified(self, tmp_path):
        (tmp_path / "s.csv").write_text("file_name,label\na.png,a\nb.png,b\nc.png,\nd.png,\n")
        path, _ = finish(
            tmp_path / "run", tmp_path / "s.csv", corrected=[0, 1, 1, 1], trusted=[-1, -1, 1, -1]
        )
        summary = export(path)
        assert (summary["rows"], summary["changed"], summary["left_out"]) == (3, 1, 1)
        assert "c.png,b" in (tmp_path / "run" / "corrected.csv").read_text()
        export(path, to="labelstudio")
        tasks = json.loads((tmp_path / "run" / "corrected-labelstudio" / "tasks.json").read_text())
        assert [task["data"]["file_name"] for task in tasks] == ["a.png", "b.png", "c.png"]

    def test_nobodys_files_are_lost(self, run, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        for to in FOLDERS:
            options = {"corrections": run, "to": to, "out": tmp_path / "out"}
            for dry_run in (True, False):
                refuses("not empty", "new or empty", **options, dry_run=dry_run)
            refuses("is a file", **options | {"out": tmp_path / "out" / "mine"})
        assert tree(tmp_path / "out") == {"mine": b"mine"}

    @pytest.mark.parametrize("to", TARGETS)
    def test_never_into_the_source_or_a_class_folder_that_is_a_link(self, run, tmp_path, to):
        (tmp_path / "images" / "dog").rename(tmp_path / "dogs")
        (tmp_path / "images" / "dog").symlink_to(tmp_path / "dogs")
        for folder in ("images", "dogs"):
            out = tmp_path / folder / f"new{TARGETS[to].SUFFIXES[-1]}"
            refuses("lies in the source", corrections=run, to=to, out=out)
        assert os.listdir(tmp_path / "dogs") == ["X.PNG"]

    def test_never_into_a_source_that_moved(self, run, tmp_path):
        moved = (tmp_path / "images").rename(tmp_path / "moved")
        refuses("--source", corrections=run, to="imagefolder")
        refuses("lies in the source", corrections=run, to="imagefolder", out=moved / "new", source=moved)
        assert export(run, to="imagefolder", source=str(moved))["rows"] == 6
        assert export(run, to="labelstudio", source=moved)["rows"] == 6
        text = (run.parent / "corrected-labelstudio" / "tasks.json").read_text()
        assert "/data/local-files/?d=moved/cat" in text

    def test_another_source_does_not_open_the_first(self, run, tmp_path):
        options = {"to": "imagefolder", "source": shutil.copytree(tmp_path / "images", tmp_path / "copy")}
        for folder in ("images", "copy"):
            refuses("lies in the source", corrections=run, out=tmp_path / folder / "new", **options)
        assert export(run, out=tmp_path / "new", **options)["rows"] == 6

    def test_a_source_that_does_nothing(self, run, tmp_path):
        for to in TARGETS:
            refuses("--source", "does not exist", corrections=run, to=to, source=tmp_path / "no")
        for to in [to for to in TARGETS if not TARGETS[to].HOLDS_IMAGES and to != "labelstudio"]:
            refuses("--source is for", "leave it out", corrections=run, to=to, source=tmp_path / "images")
        options = {"source": tmp_path / "images", "image_url_prefix": "https://host"}
        refuses("--source is for", "leave it out", corrections=run, to="labelstudio", **options)
        assert sorted(os.listdir(run.parent)) == ["config.json", "corrections.parquet"]

    @pytest.mark.parametrize("kind", ["beside", "root", "absolute", "link", "frame"])
    def test_never_among_the_images_of_a_manifest(self, tmp_path, monkeypatch, kind):
        home = tmp_path / "home"
        (home / "img" / "deep").mkdir(parents=True)
        names = ["img/0.csv", "img/1.png", "img/deep/2.png"]
        for value, name in enumerate(names):
            (home / name).write_bytes(picture(value))
        if kind == "absolute":
            names = [str(home / name) for name in names]
        if kind == "link":
            (home / "link").symlink_to(home / "img")
            names = [name.replace("img", "link") for name in names]
        frame = pd.DataFrame({"file_name": names, "label": ["a", "b", "a"]})
        source = tmp_path / "s.csv" if kind in ("root", "absolute") else home / "s.csv"
        frame.to_csv(source, index=False)
        monkeypatch.chdir(home)
        runs = tmp_path / "runs" if kind == "root" else home / "runs"
        path, _ = finish(runs, frame if kind == "frame" else source, root=home if kind == "root" else None)
        before = tree(home / "img")
        refuses("lies in the source", corrections=path, to="csv", out=home / "img" / "0.csv")
        for to in FOLDERS:
            for folder in ("img", "img/deep"):
                refuses("lies in the source", corrections=path, to=to, out=home / folder / "new" / "one")
        if kind == "root":
            refuses("lies in the source", corrections=path, to="csv", out=home / "new.csv")
        else:
            # Where somebody works new files may be written, and beside the corrections always.
            assert export(path, to="csv", out=home / "new.csv")["rows"] == 3
            assert export(path, to="cleanlab", out=home / "new")["rows"] == 3
        assert export(path, to="cleanlab")["rows"] == 3
        assert tree(home / "img") == before

    def test_names_inside_a_parquet_file_are_no_files(self, tmp_path):
        image = [{"bytes": picture(i), "path": f"{i}.png"} for i in range(2)]
        (tmp_path / "data").mkdir()
        pq.write_table(pa.table({"image": image, "label": ["a", "b"]}), tmp_path / "data" / "s.parquet")
        path, _ = finish(tmp_path / "run", tmp_path / "data" / "s.parquet")
        assert export(path, to="imagefolder", out=tmp_path / "data" / "clean")["rows"] == 2

    def test_a_folder_may_have_a_dot_in_its_name(self, run, tmp_path):
        refuses("--to parquet", corrections=run, to="cleanlab", out=tmp_path / "a.parquet")
        assert export(run, to="cleanlab", out=tmp_path / "v1.2")["rows"] == 6

    def test_options_that_are_not_for_this_target(self, run):
        address = {"image_url_prefix": "https://host"}
        refuses("--image-url-prefix", "labelstudio", corrections=run, to="hf", **address)
        refuses("--images copy", "imagefolder", corrections=run, to="labelstudio", images="copy")
        refuses("--images move", "symlink", corrections=run, to="imagefolder", images="move")

    @pytest.mark.parametrize("to", OF_IMAGES)
    def test_a_source_that_changed(self, run, tmp_path, to):
        (tmp_path / "images" / "cat" / "x.jpg").write_bytes(b"shorter")
        refuses("has changed since", corrections=run, to=to)
        assert sorted(os.listdir(run.parent)) == ["config.json", "corrections.parquet"]

    @pytest.mark.parametrize("to", [*OF_IMAGES, "hf-file"])
    def test_an_image_that_cannot_be_read_leaves_nothing(self, run, tmp_path, to, monkeypatch):
        def vanishing(*arguments):
            manifest = read_originals(*arguments)
            (tmp_path / "images" / "cat" / "b" / "x.png").unlink()
            return manifest

        monkeypatch.setattr("labelfix.exports.read_originals", vanishing)
        to, _, file = to.partition("-")
        out = tmp_path / "out" / ("new.parquet" if file else "new")
        refuses("cat/b/x.png cannot be read", corrections=run, to=to, out=out)
        assert os.listdir(tmp_path / "out") == []

    @pytest.mark.parametrize("to", ["hf", "labelstudio", "csv"])
    def test_a_full_disk_leaves_nothing(self, run, tmp_path, to, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(TARGETS[to], "write", full)
        out = tmp_path / "out" / f"new{TARGETS[to].SUFFIXES[0]}"
        refuses("the disk is full", out, corrections=run, to=to, out=out)
        assert os.listdir(tmp_path / "out") == []

    def test_interrupted(self, run, tmp_path, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("labelfix.exports.images.Original.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export(run, to="imagefolder", out=tmp_path / "out" / "new")
        assert os.listdir(tmp_path / "out") == []

    def test_a_link_to_an_empty_folder_is_kept(self, run, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk")
        export(run, to="cleanlab", out=tmp_path / "out")
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "disk" / "labels.npy").exists()


class TestAnEmptyFolder:
    """One that is there may be a disk, the folder somebody is in, or closed to others: it stays the same folder."""

    @pytest.mark.parametrize("to", FOLDERS)
    def test_it_stays(self, run, tmp_path, monkeypatch, to):
        out = tmp_path / "out"
        out.mkdir(mode=0o700)
        before = out.stat()
        monkeypatch.chdir(out)
        export(run, to=to, out=".")
        assert (out.stat().st_ino, out.stat().st_mode) == (before.st_ino, before.st_mode)
        assert os.listdir(".") == os.listdir(out)
        export(run, to=to, out=tmp_path / "new")
        assert tree(out) == tree(tmp_path / "new")
        assert sorted(os.listdir(tmp_path)) == ["images", "new", "out", "runs"]

    def test_an_error_leaves_it_empty(self, run, tmp_path, monkeypatch):
        out = tmp_path / "out"
        out.mkdir()
        rename = Path.rename

        def once(path, target):
            if path.name == "labels.npy":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", once)
        refuses("--out", "cannot be written", corrections=run, to="cleanlab", out=out)
        assert os.listdir(out) == []

    def test_what_somebody_put_there_meanwhile_stays(self, run, tmp_path, monkeypatch):
        out = tmp_path / "out"
        out.mkdir()

        def late(path, export):
            (path / "labels.npy").write_bytes(b"ours")
            (out / "labels.npy").write_bytes(b"theirs")
            return {}

        monkeypatch.setattr(TARGETS["cleanlab"], "write", late)
        monkeypatch.setattr("labelfix.exports._check_rows", lambda *_: None)
        refuses("no more empty", corrections=run, to="cleanlab", out=out)
        assert tree(out) == {"labels.npy": b"theirs"}


def test_what_the_command_says(run, tmp_path):
    def invoke(*arguments):
        return CliRunner().invoke(cli, ["export", str(run), "--to", *map(str, arguments)])

    done = invoke("fiftyone", "--images", "symlink", "--out", tmp_path / "fo")
    assert "6 rows written, 2 with a new label" in done.stdout
    assert "4 images go by another name" in done.stdout
    assert "--folds" in invoke("cleanlab").stdout
    done = invoke("labelstudio", "--image-url-prefix", "https://host/", "--json")
    assert json.loads(done.stdout)["rows"] == 6
    task = json.loads((run.parent / "corrected-labelstudio" / "tasks.json").read_text())[0]
    assert task["data"]["image"] == "https://host/007/b/x.png"
    assert task["predictions"][0]["model_version"].startswith("labelfix ")
    assert Corrections.open(run).metadata["method"] in task["predictions"][0]["model_version"]
