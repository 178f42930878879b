"""Runs on real digits: their source as a list, and what they have written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from memory_data import digit_arrays
from sklearn.datasets import load_digits

import labelfix
from labelfix.data.images.decoding import encode
from labelfix.reporting import Silent

QUICK = {"epochs": 3, "batch_size": 64}
COLUMNS = [
    "sample_id", "file_name", "given_label", "noise_score", "label_score", "is_label_issue", "corrected_label",
    "corrected_confidence", "label_distribution", "predicted_label", "predicted_probs", "is_trusted", "is_valid",
    "error", "duplicate_group", "outlier_score",
    "image_issue",
]  # fmt: skip


class StopAt(Silent):
    """A reporter that ends a scan when so many steps of a training are done; None: when all are."""

    def __init__(self, steps, stage="train"):
        self.steps, self.stage = steps, stage

    def progress(self, stage, done, total):
        if stage == self.stage and done == (total if self.steps is None else self.steps):
            raise KeyboardInterrupt


class Messages(Silent):
    """A reporter that keeps what it was told."""

    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def result_bytes(out: Path, *, with_card: bool = False) -> dict[str, bytes]:
    """What must be the same whenever a run is repeated; the model card names the source besides."""
    names = ["corrections.parquet", "classifier/model.safetensors", "classifier/classifier.json"]
    names += ["classifier/README.md"] if with_card else []
    return {name: (out / name).read_bytes() for name in names}


def table(folder, rows=240, noise="symmetric-exclusive:0.2") -> tuple[pd.DataFrame, np.ndarray]:
    """Digits as files in a folder, a frame of their names and noisy labels, and their true labels as text."""
    images, labels = digit_arrays(rows, noise)
    names = [f"{row:04d}.png" for row in range(rows)]
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(encode(image))
    frame = pd.DataFrame({"file_name": names, "label": labels.astype(str)})
    return frame, load_digits().target[:rows].astype(str).astype(object)


def write(folder, frame: pd.DataFrame, name="list.csv"):
    frame.to_csv(folder / name, index=False)
    return folder / name


def findings_of(run) -> pd.DataFrame:
    df = labelfix.read_corrections(run.out)
    labels = {name: df[name].astype(object) for name in ("given_label", "corrected_label", "predicted_label")}
    return df.assign(**labels)


def weights_of(run) -> bytes:
    return (run.classifier / "model.safetensors").read_bytes()
