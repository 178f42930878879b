"""Exports of 1,000,000 rows: their rate against a plain writer's, and their memory.

    python tests/benchmarks/exports.py

The corrections have 10 classes, and are written by the real writer. Each side runs in a new process. Memory is the
peak of the resident size of that process (VmHWM) above its size after the imports. The plain sides: for csv
`pyarrow.csv.write_csv`, for parquet `pyarrow.parquet.write_table`, both of the same columns read into one table; for
jsonl and labelstudio `json.dumps` of each row, or task, from such a table's `to_pylist`. cleanlab's is `numpy.save`.
Loading the corrections counts on both sides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd  # noqa: F401 (pyarrow imports it at its first array of numbers)
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.verdicts import Verdicts
from labelfix.exports import TARGETS, export
from labelfix.results import corrections
from labelfix.results.corrections import Findings

MEASURED = ("csv", "jsonl", "labelstudio", "parquet", "cleanlab")
FULL = {
    "file_name": "file_name",
    "label": "corrected_label",
    "given_label": "given_label",
    "noise_score": "noise_score",
    "is_label_issue": "is_label_issue",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--to", choices=MEASURED, nargs="*", default=MEASURED)
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "TARGET", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        side, to, name = args.side
        measure(side, to, Path(name))
        return
    with tempfile.TemporaryDirectory() as name:
        write_run(Path(name), args.rows)
        for to in args.to:
            ratios = []
            for _ in range(args.rounds):
                (ours, memory), (plain, _) = (in_new_process(side, to, name) for side in ("ours", "plain"))
                print(
                    f"{to}: {args.rows / ours:.0f} rows/s, plain {args.rows / plain:.0f} rows/s, ratio"
                    f" {plain / ours:.2f}; peak {memory / 1e6:.0f} MB"
                )
                ratios.append(plain / ours)
            print(f"{to}: median ratio {np.median(ratios):.2f}")


def in_new_process(side: str, to: str, folder: str) -> tuple[float, float]:
    """Seconds, and bytes of memory."""
    command = [sys.executable, __file__, "--side", side, to, folder]
    seconds, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(memory)


def measure(side: str, to: str, folder: Path) -> None:
    path = folder / "corrections.parquet"
    with tempfile.TemporaryDirectory(dir=folder) as out:
        before = memory("VmRSS")
        started = time.perf_counter()
        target = Path(out) / f"out{TARGETS[to].SUFFIXES[0]}"
        if side == "ours":
            export(path, to=to, out=target)
        else:
            write_plainly(to, path, target)
        print(time.perf_counter() - started, memory("VmHWM") - before)


def write_plainly(to: str, path: Path, out: Path) -> None:
    if to == "cleanlab":
        table = pq.read_table(path, columns=["given_label", "predicted_probs"])
        labels = table["given_label"].combine_chunks()
        out.mkdir()
        np.save(out / "labels.npy", labels.indices.to_numpy().astype(np.int64))
        probs = table["predicted_probs"].combine_chunks().flatten().to_numpy()
        np.save(out / "pred_probs.npy", probs.reshape(len(labels), -1))
        return
    columns = ["sample_id", *FULL.values()] if to == "labelstudio" else list(FULL.values())
    table = pq.read_table(path, columns=columns)
    for name in ("corrected_label", "given_label"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(pa.string()))
    if to == "csv":
        pyarrow.csv.write_csv(table, out)
    elif to == "parquet":
        pq.write_table(table, out)
    else:
        ranked = to == "labelstudio"
        table = table.sort_by([("noise_score", "descending")]) if ranked else table
        with out.open("w", encoding="utf-8") as file:
            for row in table.to_pylist():
                file.write(json.dumps(task(row) if ranked else row) + "\n")


def task(row: dict) -> dict:
    value = {"choices": [row["corrected_label"]]}
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": value}
    prediction = {"model_version": "plain", "score": 1 - row["noise_score"], "result": [result]}
    return {"data": {"image": "https://host/" + row["file_name"], **row}, "predictions": [prediction]}


def memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition(f"{name}:")[2].split()[0])


def write_run(folder: Path, rows: int, classes: int = 10) -> None:
    names = pa.array([f"images/{row % classes}/{row:09d}.jpg" for row in range(rows)])
    given = np.arange(rows) % classes
    table = pa.table({"file_name": names, "label": pa.array([f"class {label}" for label in given])})
    pq.write_table(table, folder / "source.parquet")
    manifest = Manifest.read(folder / "source.parquet")
    rng = np.random.default_rng(0)
    noise, flagged = rng.random(rows), rng.random(rows) > 0.9
    probs = rng.random((rows, classes), dtype=np.float32)
    probs /= probs.sum(axis=1, keepdims=True)
    corrected = np.where(flagged, (manifest.given + 1) % classes, manifest.given)
    verdicts = Verdicts(flagged, corrected, Fit())
    findings = Findings(Evidence(noise, probs), verdicts, probs, np.ones(rows, bool), {})
    corrections.write(folder / "corrections.parquet", manifest, findings, {"method": "none", "seed": 0})
    (folder / "source.parquet").unlink()


if __name__ == "__main__":
    main()
