"""Decoding into the store against Pillow alone, and what a second scan decodes.

    python tests/benchmarks/store.py --data DIR

DIR holds cifar10_train.parquet (or set LABELFIX_BENCH_DATA). The plain side is a pool of two processes that
decode the same bytes with Pillow to RGB arrays and throw them away.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from labelfix.manifest import Manifest
from labelfix.store import ImageStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("LABELFIX_BENCH_DATA"), help="folder of the data")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.data:
        parser.error("name the folder of the benchmark data with --data or LABELFIX_BENCH_DATA")
    path = Path(args.data) / "cifar10_train.parquet"
    manifest = Manifest.read(path, rows=args.rows)
    images = [
        row["bytes"] for row in pq.read_table(path, columns=["image"])["image"][: args.rows].to_pylist()
    ]
    ratios = []
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_decode, [images[:100]] * 2))
        for _ in range(args.rounds):
            started = time.perf_counter()
            list(pool.map(_decode, [images[k : k + 500] for k in range(0, len(images), 500)]))
            plain = time.perf_counter() - started
            with tempfile.TemporaryDirectory() as cache:
                os.environ["LABELFIX_CACHE"] = cache
                started = time.perf_counter()
                first = ImageStore.open_or_build(manifest, 32)
                ours = time.perf_counter() - started
                again = ImageStore.open_or_build(Manifest.read(path, rows=args.rows), 32)
            ratios.append(plain / ours)
            print(f"plain {args.rows / plain:.0f}/s  store {args.rows / ours:.0f}/s  ratio {ratios[-1]:.2f}")
    print(
        f"median ratio {np.median(ratios):.2f}; decoded first {first.num_decoded}, second {again.num_decoded}"
    )


def _decode(images: list[bytes]) -> int:
    return sum(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).size for data in images)


if __name__ == "__main__":
    main()
