"""Paths that are nearly right lead to the one file that they can mean, or say which path was tried."""

from __future__ import annotations

import unicodedata

import pytest
from pictures import picture
from sources import write_rows

from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted

NAMES = ["Images/caf\u00e9.png", "Images/two words.jpg", "Images/deep/3.png", "Images/4.png"]


@pytest.fixture
def folder(tmp_path):
    for value, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(value))
    return tmp_path


def manifest_of(folder, names):
    rows = [{"path": name, "label": "ab"[row % 2]} for row, name in enumerate(names)]
    return Manifest.read(write_rows(folder / "x.csv", rows))


@pytest.mark.parametrize(
    ("kind", "spell"),
    [
        ("backslashes", lambda name: name.replace("/", "\\")),
        ("blanks around it", lambda name: f" {name} "),
        ("~", lambda name: f"~/{name}"),
        ("its extension", lambda name: name.rpartition(".")[0]),
        ("case or Unicode form", str.upper),
        ("case or Unicode form", lambda name: unicodedata.normalize("NFD", name).lower()),
        ("file://", lambda name: name),
        ("backslashes and case or Unicode form", lambda name: name.replace("/", "\\").upper()),
    ],
)
def test_another_spelling_is_found_and_counted(folder, monkeypatch, kind, spell):
    monkeypatch.setenv("HOME", str(folder))
    written = [f"file://{folder}/{name}" if kind == "file://" else spell(name) for name in NAMES]
    manifest = manifest_of(folder, written)
    assert manifest.file_names().to_pylist() == NAMES
    assert ImageStore.open_or_build(manifest, 8, workers=1).images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    (warning,) = (text for text in manifest.warnings if "another spelling" in text)
    assert f"4 by {kind}" in warning
    assert Manifest.read(**manifest.options).fingerprint == manifest.fingerprint
    trusted = write_rows(folder / "t.csv", [{"file_name": written[2], "label": "b"}])
    assert Trusted.of(manifest, trusted).label.tolist() == [-1, -1, 1, -1]


@pytest.mark.parametrize(
    "name", ["IMAGES/5.png", "Images/6", "Images/7.jpg", "C:\\data\\Images\\4.png", "images/deep"]
)
def test_what_can_mean_two_files_or_none_is_missing(folder, name):
    for other in ("5.PNG", "5.Png", "6.png", "6.jpg", "7.png"):
        (folder / "Images" / other).write_bytes(picture(9))
    manifest = manifest_of(folder, [*NAMES, name])
    assert manifest.file_names()[4].as_py() == name
    assert ImageStore.open_or_build(manifest, 8, workers=1).errors == {4: "missing file"}
    assert not any("another spelling" in text for text in manifest.warnings)
