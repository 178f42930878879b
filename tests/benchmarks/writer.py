"""The streaming writer of corrections.parquet: peak memory, and its rate against pyarrow's own writer.

    python tests/benchmarks/writer.py

The manifest and the per-row arrays of the method are made first, the arrays as memory-mapped files, as contract 2 has
them beyond 1 GB. Memory is RssAnon of /proc/self/status, sampled every 10 ms while `corrections.write` runs, above its
value right after the imports. The other side is `pyarrow.parquet.write_table` on the table that was just written,
read back into memory whole.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.verdicts import Verdicts
from labelfix.results import corrections
from labelfix.results.corrections import Findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--classes", type=int, default=10)
    args = parser.parse_args()
    imported = _anonymous()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = _manifest(folder, args.rows, args.classes)
        findings = _findings(folder, manifest)
        with _Peak(imported) as peak:
            started = time.perf_counter()
            corrections.write(
                folder / "corrections.parquet", manifest, findings, {"method": "none", "seed": 0}
            )
            ours = time.perf_counter() - started
        table = pq.read_table(folder / "corrections.parquet")
        started = time.perf_counter()
        pq.write_table(table, folder / "plain.parquet", row_group_size=corrections.ROW_GROUP)
        plain = time.perf_counter() - started
    print(
        f"{args.rows} rows x {args.classes} classes: peak {peak.bytes / 1e6:.0f} MB; "
        f"{args.rows / ours:.0f} rows/s, pyarrow {args.rows / plain:.0f} rows/s, ratio {plain / ours:.2f}"
    )


class _Peak:
    """Largest growth, in bytes, of the memory that belongs to this process alone, above what it was before."""

    def __init__(self, before: int) -> None:
        self._before, self.bytes = before, 0

    def __enter__(self) -> _Peak:
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, _anonymous() - self._before)


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def _manifest(folder: Path, rows: int, classes: int) -> Manifest:
    names = pa.array([f"images/{row:09d}.jpg" for row in range(rows)])
    labels = pa.array((np.arange(rows) % classes).astype(str))
    pq.write_table(pa.table({"file_name": names, "label": labels}), folder / "manifest.parquet")
    return Manifest.read(folder / "manifest.parquet")


def _findings(folder: Path, manifest: Manifest) -> Findings:
    rng, shape = np.random.default_rng(0), (manifest.num_rows, len(manifest.class_names))
    made = []
    for name in ("believed", "seen"):
        probs = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
        for first in range(0, len(probs), 65_536):
            part = rng.random(probs[first : first + 65_536].shape, dtype=np.float32)
            probs[first : first + 65_536] = part / part.sum(axis=1, keepdims=True)
        made.append(probs)
    noise = rng.random(manifest.num_rows)
    flagged = noise > 0.9
    corrected = np.where(flagged, (manifest.given + 1) % shape[1], manifest.given)
    return Findings(
        Evidence(noise, made[0]), Verdicts(flagged, corrected, Fit()), made[1], np.ones(len(noise), bool), {}
    )


if __name__ == "__main__":
    main()
