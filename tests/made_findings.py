"""Made-up findings of any source, by the real writer."""

from __future__ import annotations

import numpy as np

from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.verdicts import Verdicts
from labelfix.results import corrections
from labelfix.results.corrections import Findings


def write_findings(
    path, manifest, *, corrected=None, noise=None, flagged=None, valid=None, trusted=None, probs=None, errors=None,
    fit=None, around=None, **metadata,
):  # fmt: skip
    """A corrections file of a manifest; where nothing is named, no row is suspect and every class as likely."""
    count, classes = manifest.num_rows, len(manifest.class_names)
    noise = np.full(count, 0.25) if noise is None else np.array(noise, np.float64)
    probs = np.full((count, classes), 1 / classes, np.float32) if probs is None else probs
    verdicts = Verdicts(
        flagged=np.zeros(count, bool) if flagged is None else np.array(flagged),
        corrected=manifest.given if corrected is None else np.array(corrected),
        fit=fit or Fit(),
    )
    valid = np.ones(count, bool) if valid is None else np.array(valid)
    trusted = None if trusted is None else np.array(trusted)
    findings = Findings(Evidence(noise, probs), verdicts, probs, valid, errors or {}, trusted, around)
    metadata = {"method": "bmm", "seed": 0, "resumed_elsewhere": False, **metadata}
    corrections.write(path, manifest, findings, metadata)
    return path
