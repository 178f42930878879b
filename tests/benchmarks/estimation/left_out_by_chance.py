"""What chance leaves out of a training, and what a linear probe tells of it: verdicts of the same training by draws.

    python tests/benchmarks/estimation/left_out_by_chance.py ARRAYS [--draws 4] [--only TEXT] [--csv FILE]

On the arrays of arrays.py: heads by `bmm` stand for the network (averaged over the training, and held out for a tenth
of the rows, drawn at random), held-out predictions by `nnaqc` for the probe, and both are pooled. Every draw is judged
with rows that count alike, by what they stand for, and with the probe saying which rows are surest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from labelfix.estimation.choice import Choice
from labelfix.estimation.evidence import Evidence
from labelfix.estimation.judgement import DEFAULT_THRESHOLDS
from labelfix.results import findings
from labelfix.results.findings import Rows, as_if_unseen, of_training

SHARE = 0.1
ENDINGS = ("-bmm.npz", "-nnaqc.npz")
BOTH = Choice({}, (findings.NETWORK, findings.PROBE), 0.0)


def alike(left_out: np.ndarray, *_: object, **__: object) -> np.ndarray:
    """In place of `post_stratification_weights`."""
    return left_out.astype(np.float64)


BY_PROBE = "surest by the probe"
WAYS = {
    "alike": alike,
    "stands for": findings.post_stratification_weights,
    BY_PROBE: findings.post_stratification_weights,
}


def drawn(given: np.ndarray, seed: int) -> np.ndarray:
    """(N,) bool, a tenth of the rows of every class."""
    rng, left_out = np.random.default_rng(seed), np.zeros(len(given), dtype=bool)
    for label in np.unique(given):
        rows = np.flatnonzero(given == label)
        left_out[rng.permutation(rows)[: round(len(rows) * SHARE)]] = True
    return left_out


def changed(evidence: Evidence, given: np.ndarray) -> np.ndarray:
    """(N,) int64 labels as corrected."""
    rows, others = np.arange(len(given)), evidence.probs.astype(np.float64)
    own = others[rows, given]
    others[rows, given] = -1
    odds = others.max(axis=1) / np.maximum(own, 1e-9)
    is_changed = (evidence.noise > evidence.rule.flag_above) & (odds > evidence.rule.relabel_odds)
    return np.where(is_changed, others.argmax(axis=1), given)


def figures(
    network: dict[str, np.ndarray], probe: np.ndarray, left_out: np.ndarray, *, by_probe: bool
) -> dict[str, float]:
    """Of one draw: rate, whether its interval holds the true one, F1 of the flags, gain of the corrections in rows."""
    given, true = network["g"], network["y"]
    shown = np.where(left_out[:, None], network["P"], network["A"])
    nowhere = np.zeros(len(given), dtype=bool)
    rows = Rows(given, np.where(left_out, -1, given), left_out, nowhere, shown.shape[1])
    unseen = as_if_unseen(rows, shown, DEFAULT_THRESHOLDS, probe)
    unseen = unseen if by_probe else replace(unseen, probe=None)
    found = of_training(rows, unseen, lambda *_: None, DEFAULT_THRESHOLDS, shown)
    wrong, flagged = given != true, found.noise > found.rule.flag_above
    estimate = found.diagnostics["estimate"]
    return {
        "rate": estimate["noise_rate"],
        "error of the rate": abs(estimate["noise_rate"] - wrong.mean()),
        "interval holds it": estimate["noise_rate_low"] <= wrong.mean() <= estimate["noise_rate_high"],
        "F1": 2 * (wrong & flagged).sum() / max(wrong.sum() + flagged.sum(), 1),
        "gain": float((changed(found, given) == true).sum()) - float((~wrong).sum()),
    }


def conditions(folder: Path, only: str) -> Iterator[tuple[str, dict[str, np.ndarray], np.ndarray]]:
    """Name, arrays of the network, held-out predictions of the probe."""
    for path in sorted(folder.glob(f"*{ENDINGS[0]}")):
        other = path.with_name(path.name.replace(*ENDINGS))
        if only in path.name and other.exists():
            yield path.name.removesuffix(ENDINGS[0]), dict(np.load(path)), np.load(other)["P"]


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--only", default="")
    parser.add_argument("--csv", type=Path, help="every draw by itself")
    options = parser.parse_args()
    seen = []
    for name, network, probe in conditions(options.folder, options.only):
        for seed in range(options.draws):
            left_out = drawn(network["g"], seed)
            for by, weigh in WAYS.items():
                with (
                    mock.patch.object(findings, "post_stratification_weights", weigh),
                    mock.patch.object(findings, "most_likely", return_value=BOTH),
                ):
                    found = figures(network, probe, left_out, by_probe=by == BY_PROBE)
                    seen.append({"name": name, "by": by, **found})
    table = pd.DataFrame(seen)
    if options.csv:
        table.to_csv(options.csv, index=False)
    spread = table.groupby(["by", "name"])[["rate", "F1", "gain"]].std().groupby("by").mean()
    means = ["error of the rate", "interval holds it", "F1", "gain"]
    print(table.groupby("by")[means].mean().round(4).to_string())
    print(
        "lost rows, all draws",
        table.groupby("by")["gain"].agg(lambda gain: -gain.clip(upper=0).sum()).to_dict(),
    )
    print("worst gain", table.groupby("by")["gain"].min().to_dict())
    print("spread over draws, in the mean", spread.round(4).to_dict("index"))


if __name__ == "__main__":
    main()
