"""Ten sources as people have them, each scanned, reviewed and exported."""

from __future__ import annotations

import io
import json
import tarfile
import unicodedata

import datasets
import numpy as np
import pandas as pd
import polars
import pytest
from memory_data import hub, picture
from pictures import saved
from sources import make_folder, write_hf

import labelfix
from labelfix.data.images.decoding import encode

ROWS = 12
SPLITS = ["train"] * 8 + ["test"] * 4
NAMES = [f"{'cat' if row % 2 else 'dog'}/{row}.png" for row in range(ROWS)]
LABELS = [name.split("/")[0] for name in NAMES]


def pixels(row):
    """Two classes that anybody can tell apart."""
    values = np.random.default_rng(row).integers(0, 60, (3, 8, 8), np.uint8)
    values[row % 2] += 150
    return values


def write(root, names=NAMES):
    for row, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(pixels(row)))
    return root


def table(names=NAMES):
    return {"file_name": list(names), "label": LABELS}


def split_folder(root):
    write(root, [f"{split}/{name}" for split, name in zip(SPLITS, NAMES, strict=True)])
    return make_folder(root, "__MACOSX/x.png", "notes/readme.txt")


def parquet_with_paths(root):
    write(root)
    images = [{"bytes": None, "path": str(root / name)} for name in NAMES]
    return write_hf(root / "train.parquet", images, [row % 2 for row in range(ROWS)], names=["dog", "cat"])


def label_studio(root):
    write(root / "pool")
    tasks = [
        {
            "data": {"image": f"/data/local-files/?d=disk/pool/{name}"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": [label]}}]}],
        }
        for name, label in zip(NAMES, LABELS, strict=True)
    ]
    (root / "export.json").write_text(json.dumps(tasks))
    return root / "export.json"


def own_export(root):
    write(root)
    pd.DataFrame(table()).to_csv(root / "m.csv", index=False)
    first = scan(root / "m.csv", root.parent / "first")
    labelfix.export(first.out, to="csv", out=root / "round1.csv")
    return root / "round1.csv"


def tar_shards(root):
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"{shard:04d}.tar", "w") as tar:
            for row in range(shard, ROWS, 2):
                for ending, data in (("png", encode(pixels(row))), ("cls", LABELS[row].encode())):
                    member = tarfile.TarInfo(f"{row:03d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return root


def mixed_extensions(root):
    kinds = [
        ("PNG", ""),
        ("JPEG", ".jfif"),
        ("AVIF", ".avif"),
        ("PPM", ".ppm"),
        ("JPEG2000", ".jp2"),
        ("GIF", ".GIF"),
    ]
    for row, name in enumerate(NAMES):
        kind, ending = kinds[row // 2 % len(kinds)]
        path = root / (name.removesuffix(".png") + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(picture(pixels(row).transpose(1, 2, 0)), kind))
    return root


def spreadsheet(root):
    write(root)
    (root / "cat/caf\u00e9.png").write_bytes(encode(pixels(1)))
    names = [NAMES[0].replace("/", "\\"), NAMES[1].upper(), *NAMES[2:]]
    lines = ["file_name,label,,", *(f"{name},{label},," for name, label in zip(names, LABELS, strict=True))]
    extra = unicodedata.normalize("NFD", "cat/caf\u00e9.png")
    (root / "list.csv").write_text("\n".join([*lines, f"{extra},cat,,", ",,,", ",,,", ""]), encoding="utf-8")
    return root / "list.csv"


def saved_datasets(root):
    images = [pixels(row).transpose(1, 2, 0) for row in range(ROWS)]
    parts = {"train": hub(images[:8], [row % 2 for row in range(8)]), "test": hub(images[8:], [0, 1] * 2)}
    datasets.DatasetDict(parts).save_to_disk(str(root))
    return root


def pandas_frame(root):
    return pd.DataFrame(table([str(write(root) / name) for name in NAMES]))


def polars_frame(root):
    return polars.DataFrame(table([str(write(root) / name) for name in NAMES]))


def scan(source, out):
    return labelfix.scan(source, method="cross-entropy", epochs=2, image_size=8, out=out)


TOUR = [
    split_folder, parquet_with_paths, label_studio, own_export, tar_shards, mixed_extensions, spreadsheet,
    saved_datasets, pandas_frame, polars_frame,
]  # fmt: skip


@pytest.mark.parametrize("make", TOUR, ids=lambda make: make.__name__)
def test_a_source_is_scanned_reviewed_and_exported(tmp_path, make):
    source = make(tmp_path / "data")
    run = scan(source, tmp_path / "run")
    found = labelfix.read_corrections(run.corrections)
    assert len(found) == ROWS + (make is spreadsheet)
    assert found["is_valid"].all()
    assert set(found["given_label"]) == {"cat", "dog"}
    if make in (split_folder, saved_datasets):
        assert sorted(found["split"]) == sorted(SPLITS)
    in_memory = None if isinstance(source, type(tmp_path)) else source
    page = labelfix.review(run.out, out=tmp_path / "review.html", limit=4, source=in_memory)
    assert page["without_picture"] == 0
    written = labelfix.export(run.out, to="imagefolder", out=tmp_path / "clean", source=in_memory)
    assert written["rows"] == len(found)
    assert len([path for path in (tmp_path / "clean").glob("*/*") if path.is_file()]) == len(found)
