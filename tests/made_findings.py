"""Made-up findings of any source, by the real writer."""

from __future__ import annotations

import numpy as np

from labelfix.estimation.evidence import Evidence, Fit, Rule
from labelfix.estimation.verdicts import Verdicts
from labelfix.results import corrections, multi_label
from labelfix.results.around import Around
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


def write_lists(path, manifest, corrected=None, noise=None, valid=None):
    """A corrections file of a manifest with several labels a row: what differs from the given labels is flagged.

    `corrected` (N, K) bool, the given labels by default; `noise` (N, K), 0.9 of what is flagged and else 0.1.
    """
    given = np.nan_to_num(manifest.targets) >= 0.5
    count, classes = given.shape
    corrected = given if corrected is None else np.array(corrected)
    flagged = corrected != given
    noise = np.where(flagged, 0.9, 0.1) if noise is None else np.array(noise)
    probs = np.where(corrected, 0.9, 0.1).astype(np.float32)
    labelled = manifest.given >= 0
    findings = multi_label.MultiLabelFindings(
        given=given, labelled=labelled, noise=noise, beliefs=probs, probs=probs, flagged=flagged, corrected=corrected,
        decided=np.ones(count, bool), trusted=np.zeros(count, bool),
        valid=np.ones(count, bool) if valid is None else np.array(valid), errors={}, removed=np.zeros(count, bool),
        said=(given, labelled), fits=(Fit(),) * classes, rules=(Rule(),) * classes, diagnostics=({},) * classes,
        err_alike=False, around=Around(np.full(count, -1)),
    )  # fmt: skip
    metadata = {"method": "pencil", "seed": 0, "resumed_elsewhere": False}
    multi_label.write(path, manifest, findings, metadata)
    return path
