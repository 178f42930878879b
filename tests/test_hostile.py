"""Hostile images and manifests, a part of what `tests/stress/hostile.py` runs: nothing crashes, nothing is lost."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import onnx_file
from pictures import picture
from refusals import refuses, refuses_source
from stress.hostile_images import write_images, write_undecodable_names
from stress.hostile_tables import MUTATIONS, write_manifest

import labelfix
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.networks.onnx_encoder import OnnxEncoder

GOOD = ("whole", "one_pixel", "turned", "very_wide")
CELLS = st.text(alphabet='ab,;"\t\n\r\\\0{}[]:é\u202e1.png', max_size=12)


def read(path):
    """A manifest, or one line; anything else is a crash."""
    try:
        return Manifest.read(path)
    except InputError as error:
        line = str(error)
    assert "\n" not in line
    return None


def test_every_hostile_image_is_decoded_or_says_why(tmp_path):
    kinds = write_images(tmp_path / "images", 70, seed=5)
    manifest = Manifest.read(tmp_path / "images")
    store = ImageStore.open_or_build(manifest, 8, workers=2)
    names = manifest.file_names().to_pylist()
    assert set(names) == {name for name in kinds if not name.partition("/")[2].startswith(".")}
    assert all(reason and "\n" not in reason for reason in store.errors.values())
    lost = [names[row] for row in store.errors if kinds[names[row]] in GOOD]
    assert not lost
    assert 10 < len(store.errors) < 60


def test_a_name_that_is_no_utf_8_is_said_in_one_line(tmp_path):
    try:
        write_undecodable_names(tmp_path / "images")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert read(tmp_path / "images") is None


@pytest.mark.parametrize("first", range(0, 3 * len(MUTATIONS), len(MUTATIONS)))
def test_every_hostile_manifest_is_read_or_refused_in_one_line(tmp_path, first):
    for number in range(first, first + len(MUTATIONS)):
        folder = tmp_path / str(number)
        (folder / "images").mkdir(parents=True)
        for row in range(12):
            (folder / "images" / f"{row}.png").write_bytes(picture(row * 20))
        read(write_manifest(folder, number)[0])


@settings(deadline=None, max_examples=80)
@given(
    data=st.one_of(st.binary(max_size=80), CELLS.map(str.encode)),
    kind=st.sampled_from(["csv", "tsv", "jsonl"]),
)
def test_any_bytes_are_a_manifest_or_one_line(tmp_path_factory, data, kind):
    path = tmp_path_factory.mktemp("bytes") / f"list.{kind}"
    head = (
        b'{"file_name": "0.png", "label": "a"}\n'
        if kind == "jsonl"
        else b"file_name,label\n0.png,a\n1.png,b\n"
    )
    path.write_bytes(head.replace(b",", b"\t" if kind == "tsv" else b",") + data)
    read(path)


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [], "categories": 3},
        [{"data": {"image": "0.png"}, "annotations": 3}],
        [{"data": {"image": "0.png"}, "annotations": [{"result": [{"value": {"choices": 3}}]}]}],
        {
            "samples": [
                {"filepath": "0.png", "tags": 3, "ground_truth": {"_cls": "Classification", "label": "a"}}
            ]
        },
    ],
)
def test_json_of_other_tools_with_a_number_for_a_list(tmp_path, content):
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert read(tmp_path / "list.json") is None


def test_a_table_whose_column_has_a_name_that_is_no_text(tmp_path):
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"file_name": ["0.png", "1.png"], "label": ["a", "b"], "quite": [1, 2]}), path)
    path.write_bytes(path.read_bytes().replace(b"quite", b"qu\xe9te"))
    refuses_source(path, "no UTF-8")
    with pytest.raises(InputError):
        labelfix.read_corrections(path)


def test_an_empty_onnx_file(tmp_path):
    onnx_file(tmp_path / "own.onnx").write_bytes(b"")
    refuses(OnnxEncoder.from_file, "it is empty", path=tmp_path / "own.onnx")
