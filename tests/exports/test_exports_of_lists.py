"""Exports where a row may have several labels: what a refusal names is a way that such findings can go."""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from made_findings import write_lists
from pictures import picture

from labelfix.data.manifest import Manifest
from labelfix.exports import TARGETS, export

refuses = partial(refusals.refuses, export)
LISTS = [["a"], ["a", "b;c"], [], ["b;c"]]


def finish(folder, source):
    """A finished run over a source, the labels of whose first row change."""
    manifest = Manifest.read(source, task="multi")
    corrected = np.nan_to_num(manifest.targets) >= 0.5
    corrected[0] = ~corrected[0]
    folder.mkdir()
    write_lists(folder / "corrections.parquet", manifest, corrected)
    (folder / "config.json").write_text(json.dumps({"source": manifest.options}))
    return folder / "corrections.parquet"


@pytest.fixture
def inside(tmp_path):
    """The findings of a Parquet file with its images inside."""
    image = pa.array(
        [{"bytes": picture(row), "path": f"{row}.png"} for row in range(len(LISTS))],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    pq.write_table(pa.table({"image": image, "label": LISTS}), tmp_path / "train.parquet")
    return finish(tmp_path / "run", tmp_path / "train.parquet")


def named(line):
    """The targets that a message names."""
    return [word for word in re.findall(r"\w+", line.split("--to", 2)[-1]) if word in TARGETS]


def test_label_studio_names_a_folder_that_has_several_labels_and_leads_there(inside, tmp_path):
    line = refuses("--to labelstudio", "no files", "--image-url-prefix", corrections=inside, to="labelstudio")
    (target,) = named(line)
    export(inside, to=target, out=tmp_path / "images")
    again = finish(tmp_path / "again", tmp_path / "images")
    summary = export(again, to="labelstudio", out=tmp_path / "tasks")
    assert summary["rows"] == len(LISTS)
    tasks = json.loads((tmp_path / "tasks" / "tasks.json").read_text())
    assert {task["data"]["image"].rpartition("/")[0] for task in tasks} == {
        "/data/local-files/?d=images/data"
    }
    assert sorted(task["data"]["given_label"] for task in tasks) == [[], ["a", "b;c"], ["b;c"], ["b;c"]]


def test_images_outside_of_the_source(tmp_path):
    rows = [{"file_name": f"../{row}.png", "label": label} for row, label in enumerate(LISTS)]
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = refuses("outside of the source", corrections=finish(tmp_path / "run", source), to="labelstudio")
    assert named(line) == ["fiftyone"]


@pytest.mark.parametrize("options", [{"images": "hardlink"}, {"source": "here"}])
def test_options_for_images_name_formats_that_take_several(inside, tmp_path, options):
    options = {
        name: tmp_path / "train.parquet" if value == "here" else value for name, value in options.items()
    }
    line = refuses(corrections=inside, to="jsonl", **options)
    assert "hf, fiftyone" in line
    assert "imagefolder" not in line
