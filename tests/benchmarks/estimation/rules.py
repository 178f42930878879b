"""Judge the rule on saved predictions in seconds: what it says of the labels, and what is true.

    python tests/benchmarks/estimation/rules.py FOLDER [FOLDER ...] [--only TEXT] [--csv FILE]

Each `.npz` of a folder holds held-out probabilities `P` (N, K), given labels `g` and true labels `y` (N,), and maybe
rows `u` (N,) bool that were truly not trained on, as arrays.py makes them.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelfix.estimation.judgement import judge


@dataclass(frozen=True)
class Findings:
    """What a rule says: noise (N,), beliefs (N, K), flags (N,) bool, labels (N,), rate, its bounds, expected gain."""

    noise: np.ndarray
    beliefs: np.ndarray
    flagged: np.ndarray
    corrected: np.ndarray
    rate: float
    low: float
    high: float
    gain: float


def judged(probs: np.ndarray, given: np.ndarray, unseen: np.ndarray | None) -> Findings:
    found = judge(probs, given, unseen=unseen)
    return Findings(
        found.noise,
        found.beliefs,
        found.flagged,
        found.corrected,
        found.rate,
        found.rate_low,
        found.rate_high,
        found.gain,
    )


def measured(found: Findings, given: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The figures of one condition; the oracle is the best that any threshold on the same noise gives."""
    wrong, rows = given != true, np.arange(len(given))
    order = np.argsort(-found.noise, kind="stable")
    hits, taken = np.cumsum(wrong[order]), np.arange(1, len(given) + 1)
    others = found.beliefs.copy()
    others[rows, given] = -1
    steps = (others.argmax(axis=1) == true).astype(int) - ~wrong
    top = found.beliefs.argmax(axis=1)
    return {
        "true": wrong.mean(),
        "rate": found.rate,
        "low": found.low,
        "high": found.high,
        "ap": (hits / taken)[wrong[order]].mean() if wrong.any() else np.nan,
        "f1": 2 * (found.flagged & wrong).sum() / max(found.flagged.sum() + wrong.sum(), 1),
        "f1_best": (2 * hits / (taken + max(wrong.sum(), 1))).max(),
        "gain": ((found.corrected == true).sum() - (~wrong).sum()) / len(given),
        "gain_best": max(0.0, np.cumsum(steps[order]).max() / len(given)),
        "gain_expected": found.gain,
        "ece_noise": calibration_error(found.noise, wrong),
        "ece_top": calibration_error(found.beliefs[rows, top], top == true),
        "nll": -np.log(np.maximum(found.beliefs[rows, true], 1e-9)).mean(),
        "flagged": found.flagged.mean(),
        "changed": (found.corrected != given).mean(),
    }


def calibration_error(said: np.ndarray, held: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width."""
    place = np.minimum((said * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, said, bins) - np.bincount(place, held, bins)).sum() / len(said))


def line(name: str, m: dict[str, float], seconds: float) -> str:
    return (
        f"{name:34s} {m['true']:.3f} / {m['rate']:.3f} [{m['low']:.3f}, {m['high']:.3f}]  {m['ap']:.3f}  "
        f"{m['f1']:.2f} / {m['f1_best']:.2f}  {m['gain']:+.3f} / {m['gain_best']:+.3f} ({m['gain_expected']:+.3f})  "
        f"{m['ece_noise']:.3f}  {m['ece_top']:.3f}  {m['nll']:.3f}  {seconds:.1f}s"
    )


def summary(rows: list[dict[str, float]]) -> str:
    """The targets, over the conditions with 5 % or more wrong labels unless said."""
    at = {key: np.array([row[key] for row in rows]) for key in rows[0] if key != "name"}
    noisy, clean = at["true"] >= 0.05, at["true"] == 0
    f1 = at["f1"] / np.maximum(at["f1_best"], 1e-9)
    seen, paying = noisy & (at["ap"] > 0.6), noisy & (at["gain_best"] >= 0.01)
    gain = at["gain"] / np.maximum(at["gain_best"], 1e-9)
    near = np.abs(at["rate"] - at["true"]) <= np.maximum(0.02, 0.15 * at["true"])
    held = (at["low"] - 5e-4 <= at["true"]) & (at["true"] <= at["high"] + 5e-4)
    parts = [f"{len(rows)} conditions, {clean.sum()} of them clean"]
    if noisy.any():
        parts.append(
            f"F1 / best: median {np.median(f1[noisy]):.3f}, at least .85 in {np.mean(f1[seen] >= 0.85):.0%} (AP > .6)"
        )
    if paying.any():
        parts.append(
            f"gain / best: median {np.median(gain[paying]):.3f}, at least .75 in {np.mean(gain[paying] >= 0.75):.0%}"
        )
    parts.append(f"worst gain {at['gain'].min():+.4f}, below -.002 in {(at['gain'] < -0.002).sum()}")
    parts.append(f"rate within .02 or 15 % in {near.mean():.0%}, interval holds it in {held.mean():.0%}")
    for key in ("ece_noise", "ece_top"):
        parts.append(f"{key}: median {np.median(at[key]):.3f}, 95 % {np.quantile(at[key], 0.95):.3f}")
    parts.append(f"mean AP {np.nanmean(at['ap']):.4f}, log-likelihood {-at['nll'].mean():.4f}")
    if clean.any():
        parts.append(
            f"clean: flagged at most {at['flagged'][clean].max():.2%}, changed {at['changed'][clean].max():.2%}, "
            f"upper bound at most {at['high'][clean].max():.3f}"
        )
    return "\n  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--only", default="", help="conditions with this in their name")
    parser.add_argument("--csv", type=Path, help="write the figures there too")
    args = parser.parse_args()
    rows: list[dict] = []
    print(
        "data, wrong: true / estimated [interval], AP, F1 / best, gain / best (expected), ECE noise, top, NLL, time"
    )
    for path in sorted(
        path for folder in args.folders for path in folder.glob("*.npz") if args.only in path.name
    ):
        data = np.load(path)
        probs = np.maximum(data["P"].astype(np.float64), 1e-7)
        probs /= probs.sum(axis=1, keepdims=True)
        given, true = data["g"].astype(np.int64), data["y"].astype(np.int64)
        started = time.perf_counter()
        unseen = data["u"] if "u" in data and not data["u"].all() else None
        row = measured(judged(probs, given, unseen), given, true)
        rows.append({"name": path.stem, **row})
        print(line(path.stem, row, time.perf_counter() - started), flush=True)
    if rows:
        print(summary(rows))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
