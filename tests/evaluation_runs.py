"""Made-up findings whose truth is known, by the real writer."""

from __future__ import annotations

import json

import numpy as np
from made_findings import write_findings

from labelfix.data.manifest import Manifest

# name, given, truth, noise score, flagged, corrected, valid
CASE = [
    ("0.png", "a", "a", 0.10, False, "a", True),
    ("1.png", "a", "b", 0.90, True, "b", True),  # found and mended
    ("2.png", "b", "c", 0.80, True, "a", True),  # found, mended wrongly
    ("3.png", "b", "b", 0.70, True, "c", True),  # spoilt
    ("4.png", "c", "a", 0.20, False, "c", True),  # missed
    ("5.png", "c", "c", 0.60, True, "c", True),  # flagged for nothing
    ("6.png", "c", "a", 0.95, False, "c", False),  # invalid: does not count
    ("7.png", "", "a", np.nan, False, "a", True),  # unlabelled: does not count
    ("8.png", "a", "", 0.99, False, "a", True),  # no truth: does not count
    ("9.png", "b", "b", 0.30, False, "b", True),
]


def make_run(folder, case=CASE, *, names=None, source=None, noise_rate=0.25):
    """A run folder with the findings of a case, its config.json and the scanned source.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [row[0] for row in case]
    scanned = folder / "source.csv"
    text = "".join(f"{name},{row[1]}\n" for name, row in zip(names, case, strict=True))
    scanned.write_text(f"file_name,label\n{text}")
    manifest = Manifest.read(scanned)
    place = {name: label for label, name in enumerate(manifest.class_names)}
    write_findings(
        folder / "corrections.parquet",
        manifest,
        noise=[row[3] for row in case],
        flagged=[row[4] for row in case],
        corrected=[place[row[5]] for row in case],
        valid=[row[6] for row in case],
        noise_rate=noise_rate,
    )
    config = {"source": {"source": str(source or scanned), "root": None, "image_column": None}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
