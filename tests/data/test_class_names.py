"""Classes that look alike: named, merged, or called otherwise."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from refusals import refuses_source
from sources import labels_of, write_hf, write_rows

from labelfix.data.class_names import look_alikes
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.scan_plan import read_test


def source_of(tmp_path, *labels, name="x.csv"):
    rows = [{"path": f"{row}.png", "label": label} for row, label in enumerate(labels)]
    return write_rows(tmp_path / name, rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "Cat"),
        (unicodedata.normalize("NFC", "caf\u00e9"), unicodedata.normalize("NFD", "caf\u00e9")),
        ("cat", "cat\u200b"),
        ("cat", "c\u00adat"),
        ("3", "3.0"),
        ("tabby cat", "tabby  cat"),
        ("tabby_cat", "tabby-cat"),
        ("tabby cat", "Tabby\u00a0Cat"),
        ("\uff43at", "cat"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_look_alikes_are_named_and_can_be_merged(tmp_path, one, other):
    path = source_of(tmp_path, other, "dog", one, one, "dog")
    (warning,) = (text for text in Manifest.read(path).warnings if "look alike" in text)
    assert "(1 rows)" in warning
    assert "(2 rows)" in warning
    assert "--merge-classes" in warning
    manifest = Manifest.read(path, merge_classes=True)
    assert labels_of(manifest) == [one.strip(), "dog", one.strip(), one.strip(), "dog"]
    assert not any("look alike" in text for text in manifest.warnings)
    again = Manifest.read(**manifest.options)
    assert again.fingerprint == manifest.fingerprint


@pytest.mark.parametrize("names", [["3", "03"], ["cat", "cats"], ["3.5", "3.05"], ["a b", "ab"], ["1", "-1"]])
def test_other_names_are_other_classes(names):
    assert look_alikes(names) == []


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "json", "mapping"])
def test_a_class_map_renames_merges_and_reaches_verified_and_test_labels(tmp_path, kind):
    names = {"Cat": "cat", "hund": "dog"}
    class_map = tmp_path / f"map.{kind}"
    if kind == "json":
        class_map.write_text(json.dumps(names))
    elif kind != "mapping":
        write_rows(class_map, [{"class": name, "to": other} for name, other in names.items()])
    path = source_of(tmp_path, "Cat", "hund", "cat", "hund")
    manifest = Manifest.read(path, class_map=names if kind == "mapping" else class_map)
    assert manifest.class_names == ("cat", "dog")
    assert manifest.given.tolist() == [0, 1, 0, 1]
    trusted = write_rows(tmp_path / "t.csv", [{"sample_id": "0", "label": "hund"}])
    assert Trusted.of(manifest, trusted).label.tolist() == [1, -1, -1, -1]
    test = source_of(tmp_path, "hund", "cat", name="test.csv")
    assert labels_of(read_test(test, manifest, root=None, image_column=None, label_column=None)) == [
        "dog",
        "cat",
    ]


def test_declared_classes_keep_their_order(tmp_path):
    images = [{"bytes": b"x", "path": f"{row}.png"} for row in range(4)]
    path = write_hf(tmp_path / "x.parquet", images, [0, 1, 2, 2], names=["dog", "Cat", "cat"])
    manifest = Manifest.read(path, merge_classes=True)
    assert manifest.class_names == ("dog", "cat")
    assert np.array_equal(manifest.given, [0, 1, 1, 1])


def test_a_name_that_is_no_class_is_a_warning(tmp_path):
    manifest = Manifest.read(source_of(tmp_path, "a", "b"), class_map={"c": "d", "a": "x"})
    assert manifest.class_names == ("b", "x")
    assert any("other names for 'c', which are no class of it" in text for text in manifest.warnings)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("nowhere.csv", None, ("does not exist", "check the path")),
        ("m.xlsx", "x", (".csv, .tsv, .jsonl, .json, .parquet",)),
        ("m.json", "[1]", ("one object",)),
        ("m.json", "{", ("cannot be read as JSON",)),
        ("m.json", '{"a": 1}', ("'a' is to be 1", "two names")),
        ("m.csv", "class,name\na,b\n", ("the columns 'class' and 'to'", "'class', 'name'")),
        ("m.csv", "class,to\na,\n", ("'a'", "not empty")),
        ("m.csv", "class,to\na,b\na,c\n", ("'a' is to be 'b' and 'c'", "keep one")),
    ],
)
def test_a_bad_class_map_is_refused_in_one_line(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    refuses_source(
        source_of(tmp_path, "a", "b"), f"--class-map {tmp_path / name}", *words, class_map=tmp_path / name
    )
