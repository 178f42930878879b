"""A manifest of many rows: seconds, and memory beyond what the imports take, by step.

    python tests/stress/big_manifest.py FOLDER [--rows 1000000] [--kind csv|parquet]

Rows name images that are not there: nothing is decoded. It reads and fingerprints, and joins a file of verified labels.
Prints a line for each step.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted

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


def resident() -> int:
    """Bytes of this process that no file on a disk stands behind."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:"))) << 10


def measured(name: str, step: Callable[[], Any]) -> Any:
    """Call it; print its seconds, what it keeps, and the peak of the process so far."""
    before, started = resident(), time.monotonic()
    made = step()
    seconds, kept = time.monotonic() - started, resident() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
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
        f"{args.rows} rows, {path.stat().st_size / 1e6:.0f} MB of {args.kind}; imports {resident() / 1e6:.0f} MB"
    )
    manifest = measured("read and fingerprint", lambda: Manifest.read(path))
    known = write(args.folder / f"known-{args.rows // 100}.csv", args.rows // 100)
    measured("join of verified labels", lambda: Trusted.of(manifest, known))


if __name__ == "__main__":
    main()
