"""Made-up findings to review over a real source, by the real writers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_findings import write_findings

from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import transition_matrix


def make_run(
    folder, source, *, noise, flagged=None, corrected=None, probs=None, valid=None, size=8, with_summary=False
):
    """A run folder over a real source, by the real writers; labels that the rule would give where none are named."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.read(source)
    count, classes = manifest.num_rows, len(manifest.class_names)
    noise = np.array(noise, np.float64)
    if probs is None:
        probs = np.full((count, classes), 0.1, np.float32)
        probs[np.arange(count), (manifest.given + 1) % classes] = 1
        probs /= probs.sum(axis=1, keepdims=True)
    valid = np.ones(count, bool) if valid is None else np.array(valid)
    eligible = valid & (manifest.given >= 0)
    flagged = eligible & (noise > 0.5) if flagged is None else np.array(flagged)
    corrected = np.where(flagged, probs.argmax(axis=1), manifest.given) if corrected is None else corrected
    errors = {int(row): f"undecodable: <b>{row}" for row in np.flatnonzero(~valid)}
    made = {"noise": noise, "probs": probs, "flagged": flagged, "corrected": corrected, "valid": valid}
    write_findings(folder / "corrections.parquet", manifest, **made, errors=errors)
    options = {"method": "bmm", "seed": 0, "image_size": size, "weights": str(folder / "w.pt")}
    config = {
        "config": {**options, "settings": {"a": 1}},
        "source": manifest.options,
        "files": {"image_key": manifest.image_key, "trusted": str(folder / "trusted.csv")},
        "environment": {"packages": {"labelfix": "0.1.0"}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    if with_summary:
        write_summary(folder, transition_matrix(probs[eligible], manifest.given[eligible]).tolist())
    return folder


def write_summary(folder, matrix):
    """What a scan says of its training: as much of it as a page shows."""
    summary = {
        "fit_reason": "",
        "transition_matrix": matrix,
        "diagnostics": {
            "mixture": {
                "clean": {"alpha": 0.5, "beta": 9.0, "weight": 0.8, "mean": 0.05},
                "noisy": {"alpha": 3.0, "beta": 1.0, "weight": 0.2, "mean": 0.75},
            },
            "loss_low": -0.4,
            "loss_high": 2.8,
            "loss_histogram": [*range(40, 0, -2), *range(1, 21)],
            "loss_kind": "loss relative to its class",
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    epochs = {
        "epoch": [1, 2, 3, 1, 2, 3],
        "fold": [0, 0, 0, None, None, None],
        "phase": ["warm-up", "warm-up", "mixup"] * 2,
        "loss_cross_entropy": [2.0, 1.0, None] * 2,
        "test_accuracy": [0.1, 0.5, 0.8] * 2,
    }
    pq.write_table(pa.table(epochs), folder / "epochs.parquet")
