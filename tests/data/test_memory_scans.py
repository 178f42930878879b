"""Sources in memory from end to end: scanned, resumed, exported and corrupted."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from memory_data import Pairs, digit_arrays, hub, pairs_of, picture, stored
from runs import COLUMNS, QUICK, result_bytes

import labelfix
from labelfix.data.images.decoding import encode
from labelfix.data.manifest import Manifest
from labelfix.errors import Interrupted
from labelfix.noise.corruption import corrupt


def sources_of(tmp_path, images, labels):
    """The same rows as every kind of source in memory."""
    names = []
    for row, image in enumerate(images):
        names.append(f"{row:09d}.png")
        (tmp_path / names[-1]).write_bytes(encode(image))
    return {
        "arrays": (images, labels),
        "items": pairs_of(images, labels.tolist()),
        "frame": pd.DataFrame({"path": [str(tmp_path / name) for name in names], "label": labels}),
        "hub": hub(images, labels.tolist(), names=[str(k) for k in range(10)]),
    }


def test_every_kind_of_source_gives_the_same_findings(tmp_path):
    (tmp_path / "images").mkdir()
    images, labels = digit_arrays()
    found = {}
    for kind, source in sources_of(tmp_path / "images", images, labels).items():
        run = labelfix.scan(source, out=tmp_path / kind, **QUICK)
        found[kind] = labelfix.read_corrections(run.out).drop(columns="file_name")
        assert list(found[kind].columns) == [name for name in COLUMNS if name != "file_name"]
    assert len(found) == 4
    for frame in found.values():
        pd.testing.assert_frame_equal(frame, found["arrays"])
    assert found["arrays"].given_label.astype(str).tolist() == [str(label) for label in labels]
    assert found["arrays"].is_valid.all()


def test_two_scans_of_arrays_give_the_same_bytes_and_a_config_without_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, labels = digit_arrays()
    planned = labelfix.plan((images, labels), **QUICK)
    assert (planned["rows"], planned["classes"], planned["out"]) == (150, 10, "runs/memory-auto")
    assert planned["source"] == "the arrays"
    assert not (tmp_path / "runs").exists()
    first = labelfix.scan((images, labels), **QUICK)
    second = labelfix.scan((images.copy(), [str(label) for label in labels]), out="again", **QUICK)
    assert first.out == Path("runs/memory-auto")
    assert result_bytes(first.out) == result_bytes(second.out)
    recorded = json.loads((first.out / "config.json").read_text())["source"]
    assert (recorded["source"], recorded["root"], recorded["in_memory"]) == (None, None, True)
    assert labelfix.read_corrections(first.out).file_name.tolist()[-1] == "row-000000149"


def test_the_same_call_resumes_and_another_array_does_not(tmp_path):
    images, labels = digit_arrays()
    whole = labelfix.scan((images, labels), out=tmp_path / "whole", **QUICK)

    class Stop(labelfix.reporting.Silent):
        def progress(self, stage, done, total):
            if stage == "train" and done == 1:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        labelfix.scan((images, labels), out=tmp_path / "run", reporter=Stop(), **QUICK)
    with pytest.raises(labelfix.InputError, match="set of images or labels"):
        labelfix.scan((images[::-1], labels), out=tmp_path / "run", **QUICK)
    resumed = labelfix.scan((images, labels), out=tmp_path / "run", **QUICK)
    assert result_bytes(resumed.out) == result_bytes(whole.out)


def test_bad_items_come_out_invalid(tmp_path):
    images, labels = digit_arrays()
    items = [(picture(image), int(label)) for image, label in zip(images, labels, strict=True)]
    items[5], items[9] = OSError("gone"), (None, 3)
    df = labelfix.read_corrections(labelfix.scan(Pairs(items), out=tmp_path / "run", **QUICK).out)
    assert df.index[~df.is_valid].tolist() == [5, 9]
    assert df.error[5] == df.error[9] == "no image given"
    assert pd.isna(df.given_label[5])
    assert df.given_label[9] == df.corrected_label[9] == "3"
    assert df.noise_score[[5, 9]].isna().all()


@pytest.mark.parametrize(
    ("to", "read"),
    [("csv", pd.read_csv), ("jsonl", partial(pd.read_json, lines=True)), ("parquet", pd.read_parquet)],
)
def test_the_corrected_labels_of_arrays_can_be_exported(tmp_path, to, read):
    run = labelfix.scan(digit_arrays(), out=tmp_path / "run", **QUICK)
    frame = read(labelfix.export(run.out, to=to, out=tmp_path / f"x.{to}")["path"])
    assert frame.file_name.tolist() == [f"row-{i:09d}" for i in range(150)]
    expected = labelfix.read_corrections(run.out).corrected_label.astype(str)
    assert frame.label.astype(str).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["arrays", "items", "frame", "hub"])
def test_sources_in_memory_can_be_corrupted(tmp_path, kind):
    (tmp_path / "images").mkdir()
    images, labels = digit_arrays(60, noise="symmetric:0")
    source = sources_of(tmp_path / "images", images, labels)[kind]
    report = corrupt(source, noise="pair:0.3", out=tmp_path / "noisy.parquet")
    assert report["rows"] == 60
    frame = pd.read_parquet(tmp_path / "noisy.parquet")
    assert frame.true_label.tolist() == [str(label) for label in labels]
    assert frame.is_corrupted.sum() == report["corrupted"] > 0
    noisy = Manifest.read(tmp_path / "noisy.parquet")
    np.testing.assert_array_equal(stored(tmp_path / "noisy.parquet").images[:, 0], images)
    assert pa.Table.from_batches(list(noisy.batches())).num_rows == 60
