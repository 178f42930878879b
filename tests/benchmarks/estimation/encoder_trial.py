"""What the trial of `--encoder auto` says of data sets for which it is known which network is best.

    python tests/benchmarks/estimation/encoder_trial.py --data DIR [--only TEXT] [--seed N]
    python tests/benchmarks/estimation/encoder_trial.py --several MOSAICS.parquet... [--seed N]

DIR as for arrays.py; MOSAICS as of mosaics.py and `labelfix corrupt`, with several labels a row. A line each: the data
set and noise, the share of labels in the commonest class, told from pixels, told through the encoder, the second as a
part of the third beyond the first, the choice, and seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from arrays import images_of

from labelfix.data.manifest import Manifest
from labelfix.noise.planting import parse_noise, plant
from labelfix.training.trial import try_encoder

SETS = (
    ("clothing", 5_096), ("cifar", 5_000), ("two", 2_000), ("rare", 3_000), ("rotated", 5_000), ("digits", 1_797),
    ("fashion16", 3_000), ("fashion", 5_000),
)  # fmt: skip
NOISES = ("clean", "symmetric:0.2", "symmetric:0.4", "pair:0.2")


def labels_of(true: np.ndarray, human: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    """Labels (N,) by the name of their noise."""
    names = [f"{label:03d}" for label in range(true.max() + 1)]
    for noise in NOISES:
        yield noise, true if noise == "clean" else plant(true, names, parse_noise(f"{noise}:exact"), seed=1)
    if human is not None and len(np.unique(human)) == len(names):
        yield "human", human


def try_one(name: str, source: Path, seed: int, task: str) -> None:
    """Print what the trial says of a source."""
    started = time.perf_counter()
    trial = try_encoder(Manifest.read(source, task=task), None, "cpu", seed, lambda *_: None)
    assert trial is not None
    part = (trial.from_pixels - trial.commonest) / max(trial.from_encoder - trial.commonest, 1e-9)
    print(
        f"{name} {trial.commonest:.3f} {trial.from_pixels:.3f} {trial.from_encoder:.3f} "
        f"{part:5.2f} {trial.encoder:6s} {time.perf_counter() - started:.1f} s",
        flush=True,
    )


def try_sets(only: str, folder: Path, seed: int) -> None:
    """The sets of one label a row, with each noise."""
    for data, rows in SETS:
        if only not in data:
            continue
        images, true, human = images_of(data, rows, folder, 0)
        for noise, given in labels_of(true, human):
            with tempfile.TemporaryDirectory() as place:
                source = Path(place) / "source.parquet"
                table = {"image": [{"bytes": image, "path": None} for image in images]}
                pd.DataFrame({**table, "label": [f"{label:03d}" for label in given]}).to_parquet(source)
                try_one(f"{data:10s} {noise:14s}", source, seed, "single")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--several", type=Path, nargs="+", default=[])
    parser.add_argument("--only", default="", help="sets with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for source in args.several:
        try_one(source.stem, source, args.seed, "multi")
    if args.data is not None:
        try_sets(args.only, args.data, args.seed)


if __name__ == "__main__":
    main()
