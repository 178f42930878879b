"""Images in files of other tools: saved Hugging Face datasets, paths in image structs, tar shards; and at addresses."""

from __future__ import annotations

import io
import json
import sys
import tarfile

import datasets
import fsspec
import numpy as np
import pytest
from export_runs import finish
from fsspec.implementations.memory import MemoryFileSystem
from memory_data import hub, pixels, stored
from pictures import picture
from refusals import refuses_source
from sources import extra_of, labels_of, make_folder, write_hf, write_rows

from labelfix.data.images.readable import look
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.exports import export
from labelfix.results.corrections import Corrections
from labelfix.results.originals import read_originals


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def samples(first, labels, ending="cls"):
    """Images with a label beside each, as WebDataset has them."""
    files = {}
    for row, label in enumerate(labels, first):
        text = json.dumps({"label": label, "note": "x"}) if ending == "json" else f"{label}\n"
        files |= {f"{row:04d}.png": picture(row), f"{row:04d}.{ending}": text.encode()}
    return files


@pytest.mark.parametrize("with_bytes", [0, 3, 6])
def test_a_struct_without_bytes_is_the_file_at_its_path(tmp_path, with_bytes):
    for row in range(6):
        (tmp_path / f"{row}.png").write_bytes(picture(row))
    images = [
        {"bytes": picture(row) if row < with_bytes else None, "path": str(tmp_path / f"{row}.png")}
        for row in range(6)
    ]
    images.append({"bytes": None, "path": "nowhere.png"})
    path = write_hf(tmp_path / "x.parquet", images, [0, 1, 0, 1, 0, 1, 0])
    manifest = Manifest.read(path)
    assert manifest.file_names().to_pylist()[with_bytes:6] == [f"{row}.png" for row in range(with_bytes, 6)]
    store = ImageStore.open_or_build(manifest, 8, workers=1)
    assert store.errors == {6: "missing file"}
    assert store.images[:6, 0, 0, 0].tolist() == list(range(6))
    run, _ = finish(tmp_path / "run", path)
    (tmp_path / "run/config.json").write_text(json.dumps({"source": manifest.options}))
    assert read_originals(Corrections.open(run)).images(0, 6) == [picture(row) for row in range(6)]
    if with_bytes < 6:
        before = manifest.image_key
        (tmp_path / "5.png").write_bytes(picture(99))
        assert Manifest.read(path).image_key != before


@pytest.mark.parametrize("kind", ["dataset", "splits"])
def test_datasets_saved_to_disk_are_read(tmp_path, kind):
    images = pixels(12, 8, 8, 3)
    parts = [
        hub(images[:8], [0, 1] * 4, note=list("abcdefgh")),
        hub(images[8:], [0, 1, 1, 0], note=list("ijkl")),
    ]
    if kind == "dataset":
        datasets.concatenate_datasets(parts).save_to_disk(str(tmp_path / "x"), num_shards=2)
    else:
        datasets.DatasetDict({"train": parts[0], "test": parts[1]}).save_to_disk(str(tmp_path / "x"))
    manifest = Manifest.read(tmp_path / "x")
    assert manifest.class_names == ("cat", "dog")
    assert labels_of(manifest) == ["cat", "dog"] * 4 + ["cat", "dog", "dog", "cat"]
    assert extra_of(manifest)["note"] == list("abcdefghijkl")
    assert manifest.held_out.sum() == (4 if kind == "splits" else 0)
    np.testing.assert_array_equal(stored(tmp_path / "x").images, images.transpose(0, 3, 1, 2))
    assert [len(image) > 20 for image in manifest.sample_images(np.array([1, 9, 11]))] == [True] * 3


def test_a_saved_dataset_that_is_damaged_is_refused_in_one_line(tmp_path):
    hub(pixels(4, 4, 4), [0, 1, 0, 1]).save_to_disk(str(tmp_path / "x"))
    file = next((tmp_path / "x").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:40])
    refuses_source(tmp_path / "x", file.name, "cannot be read as Arrow", "save the dataset again")
    (tmp_path / "x/state.json").write_text("{}")
    refuses_source(tmp_path / "x", "state.json cannot be read", "save the dataset again")


@pytest.mark.parametrize("kind", ["cls", "json", "txt", "folders", "tars", "splits"])
def test_tar_shards_are_read(tmp_path, kind):
    labels = ["cat", "dog", "cat"]
    if kind == "folders":
        shards = [
            {f"{label}/{row}.png": picture(row) for row, label in enumerate(labels, first)}
            for first in (0, 3)
        ]
    elif kind == "tars":
        shards = [{f"n_{row}.JPEG": picture(row) for row in range(first, first + 3)} for first in (0, 3)]
    else:
        shards = [samples(first, labels, "cls" if kind == "splits" else kind) for first in (0, 3)]
    names = {"tars": ("cat", "dog"), "splits": ("test-000", "train-000")}.get(kind, ("0", "1"))
    for name, files in zip(names, shards, strict=True):
        write_tar(tmp_path / f"{name}.tar", files)
    manifest = Manifest.read(tmp_path)
    assert labels_of(manifest) == (["cat"] * 3 + ["dog"] * 3 if kind == "tars" else labels * 2)
    assert manifest.held_out.tolist() == [kind == "splits"] * 3 + [False] * 3
    assert any("labels are" in text for text in manifest.warnings) == (kind in ("folders", "tars"))
    assert manifest.images(0, 6) == [picture(row) for row in range(6)]
    assert list(manifest.sample_images(np.array([1, 4]))) == [picture(1), picture(4)]
    assert Manifest.read(tmp_path, rows=5).num_rows == 5
    run, _ = finish(tmp_path / "run", tmp_path)
    assert export(run, to="imagefolder", out=tmp_path.parent / f"{tmp_path.name}-out")["rows"] == 6
    if kind == "json":
        assert Manifest.read(tmp_path / "0.tar").num_rows == 3


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("n01.tar", b"x", ("n01.tar cannot be read as tar", "unpack it")),
        ("x.tar.gz", b"x", ("x.tar.gz is compressed", "tar -xf")),
    ],
)
def test_tars_that_cannot_be_read_are_refused_in_one_line(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    refuses_source(tmp_path, *words)
    refuses_source(tmp_path / name, *words)


def test_long_labels_in_tars_are_refused(tmp_path):
    write_tar(tmp_path / "x.tar", {"1.png": picture(1), "1.cls": b"a" * (1 << 17)})
    refuses_source(tmp_path / "x.tar", "x.tar: the label '1.cls' has 131072 bytes")


@pytest.fixture
def bucket(monkeypatch):
    """A store of objects that fsspec reads at s3://."""
    kind = type("Bucket", (MemoryFileSystem,), {"protocol": "s3"})
    monkeypatch.setitem(sys.modules["fsspec.registry"].__dict__["_registry"], "s3", kind)
    system = fsspec.filesystem("s3")
    for row in range(3):
        system.pipe(f"s3://pool/{row}.png", picture(row))
    yield system
    MemoryFileSystem.store.clear()


def test_images_at_addresses_are_fetched_into_the_store_and_exported(tmp_path, bucket):
    (tmp_path / "4.png").write_bytes(picture(4))
    names = ["s3://pool/0.png", "s3://pool/1.png", "4.png", "s3://pool/2.png", "s3://pool/9.png"]
    path = write_rows(
        tmp_path / "x.csv", [{"path": name, "label": "ab"[row % 2]} for row, name in enumerate(names)]
    )
    manifest = Manifest.read(path)
    assert manifest.file_names().to_pylist() == names
    assert look(manifest).num_bad == 1
    store = ImageStore.open_or_build(manifest, 8, workers=1)
    assert store.errors == {4: "cannot be fetched: not found"}
    assert store.images[:4, 0, 0, 0].tolist() == [0, 1, 4, 2]
    bucket.rm("s3://pool/0.png")
    assert ImageStore.open_or_build(Manifest.read(path), 8).valid.sum() == 4
    bucket.pipe("s3://pool/0.png", picture(0))
    run, _ = finish(tmp_path / "run", path, valid=store.valid, errors=store.errors)
    found = export(run, to="imagefolder", out=tmp_path / "out")
    assert (found["rows"], len(list((tmp_path / "out").glob("*/*.png")))) == (4, 4)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://example.org/1.png", "https:// is read where aiohttp is: pip install aiohttp"),
        ("gs://pool/1.png", "gs:// is read where gcsfs is: pip install gcsfs"),
        ("ftp://pool/1.png", "ftp:// is not read"),
    ],
)
def test_addresses_that_nothing_fetches_say_what_would(tmp_path, monkeypatch, address, reason):
    def missing(protocol):
        raise ImportError(protocol)

    monkeypatch.setattr(fsspec, "filesystem", missing)
    rows = [{"path": address, "label": "a"}, {"path": address.replace("1", "2"), "label": "b"}]
    path = write_rows(tmp_path / "x.csv", rows)
    manifest = Manifest.read(path)
    assert manifest.file_names()[0].as_py() == address
    store = ImageStore.open_or_build(manifest, 8, workers=1)
    assert all(text.startswith(reason) for text in store.errors.values())


def test_a_file_address_is_a_path(tmp_path):
    make_folder(tmp_path, "a b/1.png", "2.png")
    names = [f"file://{tmp_path}/a%20b/1.png", f"file://{tmp_path}/2.png"]
    path = write_rows(
        tmp_path / "x.csv", [{"path": name, "label": "ab"[row]} for row, name in enumerate(names)]
    )
    assert Manifest.read(path).file_names().to_pylist() == ["a b/1.png", "2.png"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://datasets/mnist", ("mnist", None, None, None)),
        ("hf://datasets/me/pets@v1.0/small:train[:10%]", ("me/pets", "small", "v1.0", "train[:10%]")),
    ],
)
def test_datasets_of_the_hub_are_read_by_address(tmp_path, monkeypatch, address, expected):
    images = pixels(6, 8, 8)
    parts = {"train": hub(images[:4], [0, 1, 0, 1]), "test": hub(images[4:], [0, 1])}
    asked = []

    def load(name, config, *, revision, split):
        asked.append((name, config, revision, split))
        return parts["train"] if split else datasets.DatasetDict(parts)

    monkeypatch.setattr(datasets, "load_dataset", load)
    manifest = Manifest.read(address)
    assert asked == [expected]
    assert manifest.name == expected[0].rpartition("/")[2]
    assert manifest.options["source"] == address
    assert manifest.held_out.tolist() == [False] * 4 + ([] if expected[3] else [True] * 2)
    run, _ = finish(tmp_path / "run", address)
    assert export(run, to="imagefolder", out=tmp_path / "out")["rows"] == manifest.num_rows


def test_bad_addresses_of_the_hub_are_refused_in_one_line(monkeypatch):
    def load(*_, **__):
        raise FileNotFoundError("no such dataset")

    monkeypatch.setattr(datasets, "load_dataset", load)
    refuses_source("hf://models/x", "hf://models/x is no address", "hf://datasets/OWNER/NAME")
    refuses_source(
        "hf://datasets/x", "cannot be loaded (FileNotFoundError: no such dataset)", "check the name"
    )
