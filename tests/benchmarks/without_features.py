"""What copies and image issues cost a scan without features: the time of their parts beside that of the whole scan.

    python tests/benchmarks/without_features.py --data DIR [--rows 2000] [--epochs 2]

Processor time, not that of a clock, so that other work on the machine counts for neither. The digest is taken where
images are decoded, in processes of their own: it is timed here on as many images of the stored size, once more.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import labelfix
from labelfix.results import around, conclude, summary

PARTS = (
    (around, "exact_copies"),
    (around, "image_issues"),
    (conclude, "judged_together"),
    (summary, "copies_summary"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    seconds: dict[str, float] = {}

    def timed(module: Any, name: str) -> Any:
        function = getattr(module, name)

        def run(*positional: Any, **named: Any) -> Any:
            started = time.process_time()
            found = function(*positional, **named)
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
            return found

        return patch.object(module, name, run)

    patches = [timed(*part) for part in PARTS]
    for each in patches:
        each.start()
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        labelfix.scan(
            args.data / "cifar10_train.parquet", rows=args.rows, epochs=args.epochs, method="cross-entropy",
            encoder="none", out=Path(folder) / "run", device="cpu",
        )  # fmt: skip
        whole = time.process_time() - started
    for each in patches:
        each.stop()
    images = np.random.default_rng(0).integers(0, 256, (args.rows, 32, 32, 3), np.uint8)
    started = time.process_time()
    for image in images:
        hashlib.blake2b(image.data, digest_size=16).digest()
    seconds["digest"] = time.process_time() - started
    for name, spent in seconds.items():
        print(f"{name}: {1000 * spent:.1f} ms")
    share = sum(seconds.values()) / whole
    print(f"together {100 * share:.2f} % of {whole:.1f} s, without the decoding in other processes")


if __name__ == "__main__":
    main()
