"""Judge the rule on saved predictions in seconds: what it says of the labels, and what is true.

    python tests/benchmarks/estimation/rules.py FOLDER [FOLDER ...] [--only TEXT] [--csv FILE]

Each `.npz` of a folder holds held-out probabilities `P` (N, K), given labels `g` and true labels `y` (N,), and maybe
rows `u` (N,) bool that were truly not trained on and predictions `A` (N, K) that were averaged over the training, as
arrays.py makes them. Where all methods that `--method auto` compares are there, a line says what it finds.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelfix.estimation.choice import Choice, most_likely, pool
from labelfix.estimation.held_out import judged_evidence
from labelfix.estimation.verdicts import decide
from labelfix.methods import auto_methods, method_names


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


@dataclass(frozen=True)
class Saved:
    """What is known of a condition: held-out and averaged predictions, labels, rows that no training was on."""

    probs: np.ndarray
    averaged: np.ndarray | None
    given: np.ndarray
    true: np.ndarray
    unseen: np.ndarray | None

    @classmethod
    def of(cls, path: Path) -> Saved:
        with np.load(path) as data:
            probs = np.maximum(data["P"].astype(np.float64), 1e-7)
            return cls(
                probs / probs.sum(axis=1, keepdims=True),
                data.get("A"),
                data["g"].astype(np.int64),
                data["y"].astype(np.int64),
                data["u"] if "u" in data and not data["u"].all() else None,
            )

    @classmethod
    def of_auto(cls, paths: dict[str, Path]) -> tuple[Saved, Choice]:
        """What `--method auto` makes of several methods, by their names."""
        saved = {method: cls.of(path) for method, path in paths.items()}
        choice = most_likely({method: each.probs for method, each in saved.items()}, saved["bmm"].given)
        together = pool([saved[method].probs for method in choice.taken])
        return replace(saved[choice.taken[0]], probs=together), choice


def judged(saved: Saved) -> Findings:
    """As a scan does it."""
    evidence = judged_evidence(saved.probs, saved.given, saved.averaged, unseen=saved.unseen)
    predicted = saved.probs.argmax(axis=1)
    verdicts = decide(evidence, saved.given, np.isfinite(evidence.noise), predicted)
    estimate = evidence.diagnostics["estimate"]
    return Findings(
        evidence.noise,
        evidence.probs.astype(np.float64),
        verdicts.flagged,
        verdicts.corrected,
        estimate["noise_rate"],
        estimate["noise_rate_low"],
        estimate["noise_rate_high"],
        estimate["gain"],
    )


def by_labels(folders: Sequence[Path], only: str) -> Iterator[tuple[str, dict[str, Path]]]:
    """The saved conditions that were given the same labels: what they share, and the file of each method."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    methods = sorted(method_names(), key=len)  # the longest last: it counts
    for path in sorted(path for folder in folders for path in folder.glob("*.npz") if only in path.name):
        method = next((each for each in reversed(methods) if path.stem.endswith(f"-{each}")), "")
        found[path.stem.removesuffix(f"-{method}")][method] = path
    yield from found.items()


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
    rows_of_auto: list[dict] = []

    def tell(name: str, saved: Saved) -> dict:
        started = time.perf_counter()
        row = {"name": name, **measured(judged(saved), saved.given, saved.true)}
        print(line(name, row, time.perf_counter() - started), flush=True)
        return row

    for labels, paths in by_labels(args.folders, args.only):
        for path in paths.values():
            rows.append(tell(path.stem, Saved.of(path)))
        if set(auto_methods("single")) <= paths.keys():
            saved, choice = Saved.of_auto({method: paths[method] for method in auto_methods("single")})
            rows_of_auto.append(tell(f"{labels}-auto", saved))
            best = (
                np.nanmax([row["ap"] for row in rows[-len(paths) :]])
                if (saved.given != saved.true).any()
                else np.nan
            )
            rows_of_auto[-1]["behind"] = best - rows_of_auto[-1]["ap"]
            print(f"  {choice.reason}")
    if rows_of_auto:
        behind = np.array([row.pop("behind") for row in rows_of_auto])
        print(f"--method auto: {summary(rows_of_auto)}")
        near = np.mean(behind[np.isfinite(behind)] <= 0.01)
        print(f"  average precision within .01 of the best single method in {near:.0%}")
    if rows:
        print(f"single methods: {summary(rows)}")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([*rows, *rows_of_auto])


if __name__ == "__main__":
    main()
