"""Fixtures of every test: real digits as image folders, with planted errors of known truth."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from labelfix.data.images.decoding import encode
from labelfix.noise.planting import parse_noise, plant
from labelfix.training.trial import try_encoder

# Two threads at most: the tests must give the same bytes wherever they run, and tiny steps gain from no more. Beside
# another worker a single one, as its child processes: threads that wait for each other cost far more.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(min(2, int(os.environ.get("OMP_NUM_THREADS", "2")), torch.get_num_threads()))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder of its own for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABELFIX_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_encoder_trial():
    """`--encoder auto` is none without a trial, which takes seconds of every scan."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelfix.scan_plan.try_encoder", lambda *_: None)
        yield


@pytest.fixture(autouse=True)
def encoder_trial(request, monkeypatch):
    """But for tests that are marked `trial`."""
    if request.node.get_closest_marker("trial") is not None:
        monkeypatch.setattr("labelfix.scan_plan.try_encoder", try_encoder)


def write_digits(folder: Path, rows: int, noise: str | None = None, seed: int = 0) -> np.ndarray:
    """Write the first digits as `<label>/<row>.png` under their (noisy) label; returns the true labels (N,)
    in the row order of the folder."""
    digits = load_digits()
    true = digits.target[:rows].astype(np.int64)
    given = (
        true
        if noise is None
        else plant(true, [str(k) for k in range(10)], parse_noise(f"{noise}:exact"), seed)
    )
    names = [f"{label}/{row:04d}.png" for row, label in enumerate(given)]
    for name, image in zip(names, digits.images, strict=False):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode((image * (255 / 16)).round().astype(np.uint8)))
    return true[np.argsort(names)]


@pytest.fixture
def digits(tmp_path):
    """300 digits as class folders in `tmp_path/images`, every fifth label wrong: the folder and the truth."""
    truth = write_digits(tmp_path / "images", 300, "symmetric-exclusive:0.2")
    return tmp_path / "images", truth
