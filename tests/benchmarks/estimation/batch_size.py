"""Which learning rate a batch size needs: scans of small data sets with planted or human errors, seed 0.

    python tests/benchmarks/estimation/batch_size.py --data DIR --csv figures.csv
    python tests/benchmarks/estimation/batch_size.py --csv figures.csv

The first scans what the file does not hold yet; the second prints the table, and which rate every measure chooses with
each data set left out. Rates are that of the preset `fast` times a power of the ratio of the batches: 0 as it is, .5 by
the square root, 1 in proportion.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from arrays import CIFAR, images_of
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.methods import method_class
from labelfix.noise.planting import parse_noise, plant

SETS = {
    "digits": ("digits", 1_797, 1_397, "symmetric:0.3:exact"),
    "fashion16": ("fashion16", 3_000, 2_000, "symmetric:0.2:exact"),
    "cifar": ("cifar", 2_500, 1_500, "human"),
    "cifar5000": ("cifar", 7_000, 5_000, "human"),
}
"""Data set, rows with those for testing, rows that are scanned, noise."""
METHODS = ("cross-entropy", "bmm", "pencil")
POWERS = (0.0, 0.5, 1.0)
MEASURES = ("average_precision", "predicted_right", "corrected_right", "test_accuracy")


def sources(name: str, folder: Path, place: Path) -> tuple[Path, Path, np.ndarray]:
    """Files of the rows to scan and of those for testing, and the true labels of the first."""
    data, rows, scanned, noise = SETS[name]
    images, true, human = images_of(data, rows, folder, 0)
    names = CIFAR if data == "cifar" else [f"{label:03d}" for label in range(10)]
    given = true.copy()
    own = true[:scanned]
    given[:scanned] = human[:scanned] if noise == "human" else plant(own, names, parse_noise(noise), seed=0)
    table = pd.DataFrame({
        "image": [{"bytes": image, "path": None} for image in images],
        "label": [names[label] for label in given],
    })  # fmt: skip
    table[:scanned].to_parquet(place / "train.parquet")
    table[scanned:].to_parquet(place / "test.parquet")
    return place / "train.parquet", place / "test.parquet", np.array(names)[own]


def measured(name: str, method: str, batch: int, rate: float, folder: Path, device: str) -> dict[str, float]:
    """One scan."""
    with tempfile.TemporaryDirectory() as place:
        train, test, true = sources(name, folder, Path(place))
        started = time.perf_counter()
        run = labelfix.scan(
            train, test=test, method=method, encoder="none", backbone="small", batch_size=batch,
            settings={"learning_rate": rate}, out=Path(place) / "run", seed=0, device=device,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        found = labelfix.read_corrections(run.out)
    wrong = found["given_label"].astype(str).to_numpy() != true
    return {
        "average_precision": average_precision_score(wrong, found["noise_score"]),
        "predicted_right": (found["predicted_label"].astype(str).to_numpy() == true).mean(),
        "corrected_right": (found["corrected_label"].astype(str).to_numpy() == true).mean(),
        "test_accuracy": run.summary["test_accuracy"],
        "seconds": seconds,
    }


def report(figures: pd.DataFrame) -> None:
    """The table, and what is chosen with each data set left out."""
    keys = ["method", "batch", "power"]
    print(figures.pivot_table(index=keys, columns="data", values=list(MEASURES)).round(3).to_string())
    large = figures[figures["batch"] != 32]
    for measure in MEASURES:
        for left_out in (None, *figures["data"].unique()):
            kept = large[large["data"] != left_out].groupby("power")[measure].mean()
            print(f"{measure}, without {left_out}: {kept.idxmax():g} of {kept.round(4).to_dict()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="data sets with this in their name")
    args = parser.parse_args()
    figures = pd.read_csv(args.csv) if args.csv.exists() else pd.DataFrame()
    keys = ["data", "method", "batch", "power"]
    done = set() if figures.empty else set(map(tuple, figures[keys].to_numpy()))
    chosen = [] if args.data is None else [name for name in SETS if args.only in name]
    for name in chosen:
        for method in METHODS:
            preset = method_class(method).presets()["fast"]
            for batch, power in ((preset.batch_size, 0.0), *((args.batch_size, power) for power in POWERS)):
                if (name, method, batch, power) in done:
                    continue
                rate = preset.learning_rate * (batch / preset.batch_size) ** power
                facts = dict(zip([*keys, "rate"], (name, method, batch, power, rate), strict=True))
                found = facts | measured(name, method, batch, rate, args.data, args.device)
                print(found, file=sys.stderr, flush=True)
                figures = pd.concat([figures, pd.DataFrame([found])], ignore_index=True)
                figures.to_csv(args.csv, index=False)
    report(figures)


if __name__ == "__main__":
    main()
