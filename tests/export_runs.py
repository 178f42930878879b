"""Made-up findings to export, by the real writer."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_findings import write_findings

from labelfix.data.manifest import Manifest

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


def make_run(folder, extra=None, trusted=None):
    """A run folder with the corrections of ROWS; `extra` columns pass through from a Parquet manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.png" for i in range(len(ROWS))]
    table = pa.table({"file_name": names, "class": [row[0] for row in ROWS], **(extra or {})})
    pq.write_table(table, folder / "source.parquet")
    manifest = Manifest.read(folder / "source.parquet", label_column="class")
    _, corrected, noise, flagged, valid = zip(*ROWS, strict=True)
    place = {name: label for label, name in enumerate(manifest.class_names)}
    return write_findings(
        folder / "corrections.parquet",
        manifest,
        corrected=[place[name] for name in corrected],
        noise=[np.nan if score is None else score for score in noise],
        flagged=flagged,
        valid=valid,
        trusted=trusted,
    )


def finish(folder, source, root=None, **findings):
    """A finished run over a source, or over columns that are written as s.parquet beside it: its corrections."""
    if isinstance(source, dict):
        pq.write_table(pa.table(source), folder.parent / "s.parquet")
        source = folder.parent / "s.parquet"
    manifest = Manifest.read(source, root=root)
    folder.mkdir(parents=True)
    write_findings(folder / "corrections.parquet", manifest, **findings)
    (folder / "config.json").write_text(json.dumps({"source": manifest.options}))
    return folder / "corrections.parquet", manifest
