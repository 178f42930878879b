"""Are the flagged rows wrong and the corrections right? Scans of planted and human noise against the truth.

    python tests/benchmarks/detection.py digits
    python tests/benchmarks/detection.py cifar --data DIR

`digits` are scikit-learn's 1,797; `cifar` the first 5,000 images of cifar10_train.parquet in DIR (or in
LABELFIX_BENCH_DATA). Every run is an ordinary `labelfix scan` in --out, so that a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import write_digits

import labelfix

NOISES = {
    "digits": ["symmetric-exclusive:0.2", "symmetric-exclusive:0.4", "pair:0.3", "clean"],
    "cifar": ["symmetric:0.4", "human", "asymmetric:0.4", "clean"],
}
METRICS = (
    "average_precision", "precision", "recall", "label_accuracy_given", "label_accuracy_corrected", "changed",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", choices=NOISES)
    parser.add_argument("--data", default=os.environ.get("LABELFIX_BENCH_DATA"), help="folder of the data")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--rows", type=int, default=5_000, help="of cifar")
    parser.add_argument(
        "--methods", nargs="*", default=["bmm", "cross-entropy", "cross-entropy:score_from=trajectory"]
    )
    parser.add_argument("--noises", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    args = parser.parse_args()
    if args.source == "cifar" and not args.data:
        parser.error("name the folder of the benchmark data with --data or LABELFIX_BENCH_DATA")
    print(
        "noise, method, seed: AP | precision recall | given corrected changed | flagged | estimated | units seconds"
    )
    for noise in args.noises or NOISES[args.source]:
        for method in args.methods:
            for seed in args.seeds:
                print(_row(args, noise, method, seed), flush=True)


def _row(args: argparse.Namespace, noise: str, method: str, seed: int) -> str:
    folder = args.out / f"{args.source}-{noise}-seed{seed}".replace(":", "-")
    source, options, truth = (_digits if args.source == "digits" else _cifar)(args, folder, noise, seed)
    name, *changes = method.split(":")
    out = args.out / "runs" / f"{folder.name}-{method}".replace(":", "-")
    if not (out / "corrections.parquet").exists() or (out / "checkpoint").exists():
        settings = dict(change.split("=", 1) for change in changes)
        options["preset"] = settings.pop("preset", "fast")
        labelfix.scan(source, method=name, out=out, seed=seed, settings=settings, **options)
    found = labelfix.evaluate(out / "corrections.parquet", **truth)
    summary = json.loads((out / "summary.json").read_text())
    ap, precision, recall, given, corrected, changed = (found[key] for key in METRICS)
    shown = [f"{value:.3f}" if value is not None else "-" for value in (ap, precision, recall)]
    return (
        f"{noise}, {method}, {seed}: {shown[0]} | {shown[1]} {shown[2]} | {given:.4f} {corrected:.4f} {changed} | "
        f"{found['flagged_share']:.4f} | {found['noise_rate_estimated']:.3f} | "
        f"{summary['forward_units_per_row']:.0f} {summary['training_seconds']:.0f} {summary['fit_reason']}"
    )


def _digits(args: argparse.Namespace, folder: Path, noise: str, seed: int):
    images = folder / "images"
    if not images.exists():
        write_digits(images, 1797)
    return _corrupted(images, folder, "symmetric:0" if noise == "clean" else noise, seed, {})


def _cifar(args: argparse.Namespace, folder: Path, noise: str, seed: int):
    path = Path(args.data) / "cifar10_train.parquet"
    truth = {"truth": path, "truth_column": "label"}
    if noise in ("clean", "human"):
        column = "label" if noise == "clean" else "human_label"
        return path, {"rows": args.rows, "label_column": column}, truth
    return _corrupted(path, folder, noise, seed, {"rows": args.rows, "label_column": "label"})


def _corrupted(source: Path, folder: Path, noise: str, seed: int, options: dict):
    noisy = folder / "noisy.parquet"
    if not noisy.exists():
        labelfix.corrupt(source, noise=noise, out=noisy, seed=seed, **options)
    return noisy, {}, {"truth": noisy}


if __name__ == "__main__":
    main()
