"""Made-up findings with their images, by the real writer."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from made_findings import write_findings

from labelfix.data.images.decoding import encode
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import Fit

# given, corrected, noise score, flagged, valid, verified label, belief about a, b, c
ROWS = [
    ("a", "a", 0.1, False, True, None, (0.9, 0.1, 0.0)),
    ("a", "b", 0.9, True, True, None, (0.1, 0.9, 0.0)),
    ("b", "a", 0.8, True, True, None, (0.8, 0.2, 0.0)),
    ("b", "b", 0.7, True, True, None, (0.1, 0.3, 0.6)),  # flagged, and left to a person
    ("c", "c", 0.2, False, True, None, (0.0, 0.2, 0.8)),
    ("c", "c", 0.7, False, True, None, (0.4, 0.0, 0.6)),  # as suspect as row 3
    ("c", "c", 0.95, False, False, None, (0.9, 0.0, 0.1)),  # invalid: does not count
    (None, "a", np.nan, False, True, None, (0.5, 0.5, 0.0)),  # unlabelled: does not count
    ("a", "b", 1.0, False, True, "b", (0.0, 1.0, 0.0)),  # trusted: does not count
    ("d", "d", 0.99, False, False, None, (0.0, 0.0, 0.1)),  # invalid: the class is left without a row
    ("b", "b", 0.3, False, True, None, (0.3, 0.7, 0.0)),
]
SUMMARY = {
    "fit_reason": "",
    "diagnostics": {"calibration": {"is_calibrated": False, "reason": "not calibrated: no --trusted file"}},
}


def make_run(folder, rows=ROWS, *, fit_ok=True, summary=SUMMARY, names=None, in_memory=False):
    """A run folder with the findings of `rows` over images in `folder/images`; images of invalid rows are broken."""
    names = names or [f"{row}.png" for row in range(len(rows))]
    source = folder / "images"
    source.mkdir(parents=True)
    pixels = [np.full((6 + row, 8), 20 * row, np.uint8) for row in range(len(rows))]
    for name, image, row in zip(names, pixels, rows, strict=True):
        (source / name).write_bytes(encode(image) if row[4] else b"broken")
    table = pd.DataFrame({"file_name": names, "label": [row[0] for row in rows]})
    table.to_parquet(source / "labels.parquet")
    size = np.zeros((len(rows), 8, 8), np.uint8) + np.arange(len(rows), dtype=np.uint8)[:, None, None]
    manifest = Manifest.read((size, [row[0] for row in rows]) if in_memory else source / "labels.parquet")
    place = {name: label for label, name in enumerate(manifest.class_names)}
    probs = np.array([row[6] + (0.0,) * (len(place) - 3) for row in rows], np.float32)
    valid = np.array([row[4] for row in rows])
    out = folder / "run"
    write_findings(
        out / "corrections.parquet",
        manifest,
        noise=[row[2] for row in rows],
        flagged=[row[3] for row in rows],
        corrected=[place[row[1]] for row in rows],
        valid=valid,
        trusted=[-1 if row[5] is None else place[row[5]] for row in rows],
        probs=probs,
        errors=dict.fromkeys(np.flatnonzero(~valid).tolist(), "it is no image"),
        fit=Fit(ok=fit_ok, reason="" if fit_ok else "every row has the same noise score"),
    )
    config = {"source": manifest.options, "files": {"image_key": manifest.image_key}}
    (out / "config.json").write_text(json.dumps({**config, "config": {"image_size": 8}}))
    if summary is not None:
        (out / "summary.json").write_text(json.dumps(summary))
    if in_memory:
        ImageStore.open_or_build(manifest, 8, workers=1)
    return out
