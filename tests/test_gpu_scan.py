"""From a source to findings, and on to predictions, on a GPU that is not there."""

from __future__ import annotations

import gc
import json

import pytest
from conftest import write_digits
from pretended_device import pretended

import labelfix
from labelfix import config, devices, prediction

SCANS = {
    "streamed, measured on others": {"method": "cross-entropy", "image_size": 8},
    "a head on features, in folds": {
        "method": "bmm",
        "encoder": "lite0",
        "tune": "none",
        "image_size": 32,
        "folds": 2,
    },
}


@pytest.fixture
def gpu(monkeypatch):
    """Every device that is asked for is the pretended GPU."""
    for module in (config, prediction):
        monkeypatch.setattr(module, "resolve_device", lambda _device: "cuda:0")
    monkeypatch.setattr(devices, "_gpu_has_bf16", lambda _device: True)
    with pretended("cuda") as record:
        yield record


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_and_its_classifier_work_on_a_gpu(gpu, tmp_path, name, monkeypatch):
    write_digits(tmp_path / "images", 40, "symmetric-exclusive:0.2")
    options = {"epochs": 2, "batch_size": 20, "backbone": "auto" if "encoder" in SCANS[name] else "small"}
    if "streamed" in name:
        monkeypatch.setattr("labelfix.training.batches._SLICE_BYTES", 1 << 60)  # no host has room for a slice
        options["test"] = tmp_path / "images"
    run = labelfix.scan(tmp_path / "images", out=tmp_path / "run", **SCANS[name], **options)
    assert run.summary["hardware"]["device"] == "cuda:0"
    assert json.loads((run.out / "config.json").read_text())["environment"]["gpu"]["name"] == "pretended"
    assert run.summary["counts"]["judged"] == 40
    gc.collect()
    assert gpu.peak > 0
    assert gpu.memory == 0  # a scan leaves nothing behind
    found = labelfix.predict(run.out, tmp_path / "images", out=tmp_path / "predictions.parquet")
    assert found["predicted"] == 40
