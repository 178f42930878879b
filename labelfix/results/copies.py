"""What summary.json says of copies: how many there are, which contradict each other, which leak into a test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.manifest import Manifest
from labelfix.data.readers.checks import rows_alike

_EXAMPLES = 3
_FILES_OF_AN_EXAMPLE = 4


def copies_summary(manifest: Manifest, copies: np.ndarray) -> dict[str, Any]:
    """Counts and examples; JSON-able.

    Args:
        manifest: of the source.
        copies: (N,) int64, the first row that shows the same, -1 for none.
    """
    rows = np.flatnonzero(copies >= 0)
    rows = rows[np.argsort(copies[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(copies[rows], prepend=-1))
    groups = np.split(rows, starts[1:]) if len(rows) else []
    labels = manifest.given if manifest.targets is None else rows_alike(manifest.targets)
    contradicting = [group for group in groups if is_contradicting(labels[group])]
    leaking = [group for group in groups if len(np.unique(manifest.held_out[group])) > 1]
    return {
        "rows": len(rows),
        "groups": len(groups),
        "largest_group": max(map(len, groups), default=0),
        "contradicting_groups": len(contradicting),
        "contradicting_rows": sum(map(len, contradicting)),
        "leaking_groups": len(leaking),
        "leaking_rows": sum(map(len, leaking)),
        "contradicting_examples": [_example(manifest, group) for group in contradicting[:_EXAMPLES]],
        "leaking_examples": [_example(manifest, group) for group in leaking[:_EXAMPLES]],
    }


def is_contradicting(given: np.ndarray) -> bool:
    """Whether the given labels (n,) of copies, -1 for none, are not all the same."""
    return len(np.unique(given[given >= 0])) > 1


def _example(manifest: Manifest, group: np.ndarray) -> dict[str, list[Any]]:
    some = group[:_FILES_OF_AN_EXAMPLE]
    return {
        "sample_ids": some.tolist(),
        "file_names": manifest.file_names().take(pa.array(some)).to_pylist(),
        "given_labels": [manifest.label_of(row) for row in some.tolist()],
    }
