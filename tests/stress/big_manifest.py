"""A manifest of many rows: seconds, and memory beyond what the imports take, by step.

    python tests/stress/big_manifest.py FOLDER [--rows 1000000] [--kind csv|parquet]

Rows name images that are not there: nothing is decoded. It reads and fingerprints, joins a file of verified labels, and
exports made-up findings as csv, in a process of its own. Prints a line for each step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from made_findings import write_findings

from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.exports import export

_CLASSES = 100
_BATCH = 65_536


def write(path: Path, rows: int) -> Path:
    """`rows` rows of `NNN/NNNNNNNNN.jpg` under a hundred labels."""
    if path.exists():
        return path
    schema = pa.schema([("file_name", pa.string()), ("label", pa.string())])
    writers = {".csv": pyarrow.csv.CSVWriter, ".parquet": pq.ParquetWriter}
    with writers[path.suffix](path, schema) as writer:
        for first in range(0, rows, _BATCH):
            numbers = np.arange(first, min(first + _BATCH, rows))
            names = [f"{number % 1000:03d}/{number:09d}.jpg" for number in numbers]
            labels = [f"class {number * 7919 % _CLASSES}" for number in numbers]
            writer.write_table(pa.table([names, labels], schema=schema))
    return path


def make_findings(manifest: Manifest, path: Path) -> Path:
    """Findings of all rows, a tenth of them flagged with another label; every class as likely."""
    noise = np.random.default_rng(0).random(manifest.num_rows)
    flagged = noise > 0.9
    corrected = np.where(flagged, (manifest.given + 1) % _CLASSES, manifest.given)
    # A view of a single number: rows x classes of them would not fit into memory.
    probs = np.broadcast_to(np.float32(1 / _CLASSES), (manifest.num_rows, _CLASSES))
    return write_findings(path, manifest, corrected=corrected, noise=noise, flagged=flagged, probs=probs)


def bytes_of(field: str) -> int:
    """A line of the status of this process: RssAnon (what no file on a disk stands behind) or VmHWM (the peak)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:"))) << 10


def measured(name: str, step: Callable[[], Any]) -> Any:
    """Call it; print its seconds, what it keeps, and the peak of the process so far."""
    before, started = bytes_of("RssAnon"), time.monotonic()
    made = step()
    seconds, kept = time.monotonic() - started, bytes_of("RssAnon") - before
    # Not ru_maxrss, which a new process takes over from the one that started it.
    peak = bytes_of("VmHWM")
    print(f"{name}: {seconds:.1f} s, keeps {kept / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB", flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("csv", "parquet"), default="csv")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LABELFIX_CACHE", str(args.folder / "cache"))
    path = write(args.folder / f"{args.rows}.{args.kind}", args.rows)
    print(
        f"{args.rows} rows, {path.stat().st_size / 1e6:.0f} MB of {args.kind}; imports"
        f" {bytes_of('RssAnon') / 1e6:.0f} MB"
    )
    manifest = measured("read and fingerprint", lambda: Manifest.read(path))
    known = write(args.folder / f"known-{args.rows // 100}.csv", args.rows // 100)
    measured("join of verified labels", lambda: Trusted.of(manifest, known))
    findings = args.folder / f"findings-{args.rows}.parquet"
    measured("made-up findings", lambda: make_findings(manifest, findings))
    step = partial(export, findings, to="csv", out=args.folder / "corrected.csv", overwrite=True)
    process = multiprocessing.get_context("spawn").Process(target=measured, args=("csv export", step))
    process.start()
    process.join()
    sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
