"""Every method on a GPU: what it finds, how fast, in how much memory; a kill and resume; predictions.

    python tests/benchmarks/gpu.py --data DIR --out bench-gpu

DIR holds cifar10_train.parquet and cifar10_test.parquet (see README.md). The table is Markdown, for docs/benchmarks.md.
The same command goes on where it was interrupted. Smaller: --rows, --epochs, --methods; without a GPU --device cpu.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

import labelfix
from labelfix.methods import method_names

TRUSTED_OF_EACH = 10
NOISES = ("given", "symmetric:0.5")
COLUMNS = (
    "label_accuracy_given", "label_accuracy_corrected", "average_precision", "peak_gpu_memory_mb", "peak_memory_mb",
    "seconds_total",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--methods", default=",".join(method_names()))
    args = parser.parse_args()
    print(environment(args.device), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    train, trusted = args.data / "cifar10_train.parquet", args.out / "trusted.csv"
    write_trusted(train, trusted, args.rows)
    print(f"\n{bench_table(train, trusted, args)}\n", flush=True)
    print(killed_and_resumed(train, args), flush=True)
    print(predicted(args), flush=True)


def environment(device: str) -> str:
    if device == "cpu":
        return f"torch {torch.__version__}, cpu"
    name, cudnn = torch.cuda.get_device_name(device), torch.backends.cudnn.version()
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}, {name}"


def write_trusted(train: Path, trusted: Path, rows: int) -> None:
    """The first images of each class with their true label, for meta."""
    schema = pq.read_schema(train)
    names = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    labels = pq.read_table(train, columns=["label"])["label"].to_numpy()[:rows]
    first = [row for label in range(len(names)) for row in np.flatnonzero(labels == label)[:TRUSTED_OF_EACH]]
    lines = [f"{row},{names[labels[row]]}" for row in sorted(first)]
    trusted.write_text("\n".join(["sample_id,label", *lines, ""]), encoding="utf-8")


def options_of(args: argparse.Namespace) -> dict:
    return {"device": args.device, "epochs": args.epochs, "batch_size": args.batch_size}


def bench_table(train: Path, trusted: Path, args: argparse.Namespace) -> str:
    found = labelfix.bench(
        train, methods=args.methods, noise=NOISES, truth_column="label", label_column="human_label",
        trusted=trusted, rows=args.rows, out=args.out / "bench", **options_of(args),
    )  # fmt: skip
    lines = [
        f"| noise | method | images a second | {' | '.join(COLUMNS)} |",
        f"|{' --- |' * (3 + len(COLUMNS))}",
    ]
    for row in found["rows"]:
        speed = row["rows"] * args.epochs * max(row["folds"], 1) / row["seconds"]
        values = ("-" if row[name] is None else f"{row[name]:.4g}" for name in COLUMNS)
        lines.append(f"| {row['noise']} | `{row['method']}` | {speed:.0f} | {' | '.join(values)} |")
    return "\n".join(lines)


def killed_and_resumed(train: Path, args: argparse.Namespace) -> str:
    """A scan that is killed once it has saved something and goes on, against one that nothing has stopped."""
    folders = args.out / "straight", args.out / "killed"
    commands = [
        [sys.executable, "-m", "labelfix", "scan", train, "--out", folder, "--label-column", "human_label",
         "--rows", args.rows, "--epochs", args.epochs, "--batch-size", args.batch_size, "--device", args.device,
         "--method", "bmm", "--encoder", "none", "--quiet", "--overwrite"]
        for folder in folders
    ]  # fmt: skip
    straight, killed = ([str(word) for word in command] for command in commands)
    subprocess.run(straight, check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen(killed, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list((folders[1] / "checkpoint").glob("*.json")):
        time.sleep(0.1)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    if was_running:
        again = [word for word in killed if word != "--overwrite"]
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
    tables = [pq.read_table(folder / "corrections.parquet") for folder in folders]
    scores = [table["noise_score"].to_numpy(zero_copy_only=False) for table in tables]
    flags = [table["is_label_issue"].to_numpy(zero_copy_only=False) for table in tables]
    same = "the same bytes" if tables[0].equals(tables[1]) else "other bytes"
    far, different = np.nanmax(np.abs(scores[0] - scores[1])), (flags[0] != flags[1]).sum()
    how = "killed and resumed" if was_running else "not killed, it was too quick"
    return f"{how}: {same}; noise scores differ by {far:.2g} at most, {different} flags"


def predicted(args: argparse.Namespace) -> str:
    """Labels for the test images by the classifier of the run that nothing has stopped."""
    out, test = args.out / "predictions.parquet", args.data / "cifar10_test.parquet"
    started = time.monotonic()
    found = labelfix.predict(args.out / "straight", test, out=out, device=args.device, overwrite=True)
    seconds = time.monotonic() - started
    table = pq.read_table(out, columns=["given_label", "predicted_label"]).to_pandas()
    right = (table.given_label.astype(str) == table.predicted_label.astype(str)).mean()
    return f"predict: {found['predicted']} images in {seconds:.1f} s (decoding included), {right:.1%} right"


if __name__ == "__main__":
    main()
