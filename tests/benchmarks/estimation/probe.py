"""What a linear probe beside the small network is worth: the findings of the same scan without and with it.

    python tests/benchmarks/estimation/probe.py --data DIR [--only TEXT] [--method bmm]

Scans with `--encoder auto` of images for which it takes the small network; conditions and data as of arrays.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arrays import Condition, images_of, planted
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.results import single_label

CONDITIONS = (
    *(("digits", 1_797, noise) for noise in ("symmetric:0.4", "pair:0.2", "clean")),
    *(("fashion16", 3_000, noise) for noise in ("symmetric:0.1", "pair:0.2", "clean")),
    ("fashion", 5_000, "pair:0.2"),
)


def told(findings: Any, given: np.ndarray, true: np.ndarray) -> str:
    """Average precision, labels right and how many rows are flagged and changed."""
    verdicts, wrong = findings.verdicts, given != true
    ranked = f"AP {average_precision_score(wrong, findings.evidence.noise):.4f}, " if wrong.any() else ""
    return (
        f"{ranked}labels right {(verdicts.corrected == true).mean():.4f}, {verdicts.flagged.sum()} flagged, "
        f"{(verdicts.corrected != given).sum()} changed"
    )


def compare(condition: Condition, folder: Path) -> None:
    """Scan, and print what is found without the probe, and with it."""
    images, true, human = images_of(condition.data, condition.rows, folder, condition.seed)
    names, given = planted(condition, true, human)
    find = single_label.find

    def twice(*seen: Any) -> Any:
        *others, probe = seen
        found = find(*others, probe)
        print("  network", told(find(*others, None), given, true))
        print("  both   ", told(found, given, true), found.evidence.diagnostics.get("networks"), flush=True)
        return found

    print(condition.data, condition.rows, condition.noise, flush=True)
    rows = [{"bytes": image, "path": None} for image in images]
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source.parquet"
        pd.DataFrame({"image": rows, "label": [names[label] for label in given]}).to_parquet(source)
        single_label.find = twice
        try:
            labelfix.scan(source, method=condition.method, out=Path(place) / "run", seed=condition.seed)
        finally:
            single_label.find = find


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="conditions with this in their name")
    parser.add_argument("--method", default="bmm")
    args = parser.parse_args()
    for data, rows, noise in CONDITIONS:
        condition = Condition(data, rows, noise, "small", args.method, 0)
        if args.only in condition.labels:
            compare(condition, args.data)


if __name__ == "__main__":
    main()
