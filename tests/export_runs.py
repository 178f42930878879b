"""Made-up findings to export, by the real writer."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.verdicts import Verdicts
from labelfix.results import corrections
from labelfix.results.corrections import Findings

METADATA = {"method": "bmm", "seed": 0, "resumed_elsewhere": False}
# The corrections of make_run, row by row: given, corrected, noise, flagged, valid.
ROWS = [
    ("cat", "cat", 0.1, False, True),
    ("cat", "dog", 0.9, True, True),
    ("dog", "dog", 0.7, True, True),
    (None, "eel", None, False, True),
    ("eel", "eel", 0.3, False, False),
    ("eel", "cat", 0.95, True, True),
    ("dog", "dog", 0.3, False, True),
]


def write_corrections(path, manifest, *, corrected=None, noise=None, flagged=None, valid=None, trusted=None):
    """A corrections file of a manifest, by the real writer."""
    count = manifest.num_rows
    noise = np.full(count, 0.25) if noise is None else np.array(noise, np.float64)
    probs = np.full((count, len(manifest.class_names)), 1 / len(manifest.class_names), np.float32)
    verdicts = Verdicts(
        flagged=np.zeros(count, bool) if flagged is None else np.array(flagged),
        corrected=manifest.given if corrected is None else np.array(corrected),
        fit=Fit(),
    )
    valid = np.ones(count, bool) if valid is None else np.array(valid)
    trusted = None if trusted is None else np.array(trusted)
    findings = Findings(Evidence(noise, probs), verdicts, probs, valid, {}, trusted)
    corrections.write(path, manifest, findings, METADATA)
    return path


def make_run(folder, extra=None, trusted=None):
    """A run folder with the corrections of ROWS; `extra` columns pass through from a Parquet manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.png" for i in range(len(ROWS))]
    table = pa.table({"file_name": names, "class": [row[0] for row in ROWS], **(extra or {})})
    pq.write_table(table, folder / "source.parquet")
    manifest = Manifest.read(folder / "source.parquet", label_column="class")
    _, corrected, noise, flagged, valid = zip(*ROWS, strict=True)
    place = {name: label for label, name in enumerate(manifest.class_names)}
    return write_corrections(
        folder / "corrections.parquet",
        manifest,
        corrected=[place[name] for name in corrected],
        noise=[np.nan if score is None else score for score in noise],
        flagged=flagged,
        valid=valid,
        trusted=trusted,
    )


def finish(folder, source, root=None, **findings):
    """A finished run over a source: corrections and config.json."""
    manifest = Manifest.read(source, root=root)
    folder.mkdir(parents=True)
    write_corrections(folder / "corrections.parquet", manifest, **findings)
    (folder / "config.json").write_text(json.dumps({"source": manifest.options}))
    return folder / "corrections.parquet", manifest
