"""Plain 5-fold logistic regression on the features that heads were trained on, beside the runs of a bench.

    python tests/benchmarks/logistic_regression.py BENCH FEATURES.npy

BENCH is the folder of a `labelfix bench --encoder lite0` of one source; FEATURES.npy its features (N, V, D) in
`features/` of the cache. A row's score is 1 less the probability of its given label by a regression that never saw the
row, nor another of its group. Of a few strengths of the penalty the one counts that tells unseen given labels best (log
loss), as a user would choose it. Rows that the bench leaves out of its evaluation are left out here.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

STRENGTHS = (0.001, 0.003, 0.01, 0.03)


def held_out(numbers: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Probabilities (n, K) of the labels, by the strength that tells them best."""
    folds = StratifiedKFold(5) if groups is None else StratifiedGroupKFold(5)

    def told(strength: float) -> np.ndarray:
        machine = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        return cross_val_predict(machine, numbers, labels, groups=groups, cv=folds, method="predict_proba")

    found = [told(strength) for strength in STRENGTHS]
    return min(found, key=lambda probs: log_loss(labels, probs))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", type=Path)
    parser.add_argument("features", type=Path)
    args = parser.parse_args()
    numbers = np.load(args.features, mmap_mode="r").mean(axis=1, dtype=np.float32)
    table = pd.read_parquet(args.bench / "bench.parquet")
    for (noise, seed), runs in table.groupby(["noise", "seed"], sort=False):
        score, wrong = of_labels(args.bench, noise, seed, numbers)
        if not wrong.any():
            continue
        print(f"{noise}, seed {seed}: logistic regression {average_precision_score(wrong, score):.3f}")
        for _, run in runs.iterrows():
            print(f"  {run['method']:40s} {run['average_precision']:.3f}", flush=True)


def of_labels(bench: Path, noise: str, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score, and whether the label is wrong, of the rows that the bench evaluates."""
    named = f"{noise.replace(':', '-')}-seed{seed}"
    planted = bench / "noisy" / f"{named}.parquet"
    truth = pd.read_parquet(planted if planted.exists() else bench / "truth.parquet", columns=["true_label"])
    run = next((bench / "runs").glob(f"{named}-*/corrections.parquet"))
    found = pd.read_parquet(run)
    evaluated = (found["given_label"].notna() & found["duplicate_group"].isna()).to_numpy(copy=True)
    evaluated[pd.read_parquet(bench / "trusted.parquet")["sample_id"]] = False
    rows = np.flatnonzero(found["given_label"].notna())
    labels, given = pd.factorize(found["given_label"].iloc[rows].astype(str), sort=True)
    groups = found["group"].to_numpy()[rows] if "group" in found else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # groups may leave a fold without a class
        probs = held_out(numbers[rows], labels, groups)
    score = 1 - probs[np.arange(len(labels)), labels]
    wrong = given[labels] != truth["true_label"].astype(str).to_numpy()[rows]
    return score[evaluated[rows]], wrong[evaluated[rows]]


if __name__ == "__main__":
    main()
