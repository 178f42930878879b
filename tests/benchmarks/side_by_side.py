"""Two scans at once against one: seconds, seconds of the processor, and their ratio; sides in turn, in one run.

    python tests/benchmarks/side_by_side.py FOLDER [--rounds 3] [--rows 600] [--epochs 3] [--waiting]

With --waiting also with threads as they come from their libraries, which wait for each other without a pause. Busy
neighbours slow both sides alike; seconds of the processor hardly feel them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import write_digits

_WAITING = {"GOMP_SPINCOUNT": "300000", "OPENBLAS_NUM_THREADS": str(os.cpu_count())}


def scans(count: int, folder: Path, options: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds, and seconds of the processor, of some scans that are started together."""
    for number in range(count):
        shutil.rmtree(folder / f"run-{number}", ignore_errors=True)
    started, used = time.monotonic(), _processor_seconds()
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "labelfix",
                "scan",
                "images",
                "--out",
                f"run-{number}",
                "--quiet",
                *options,
            ],
            cwd=folder,
            env={**os.environ, **environment, "LABELFIX_CACHE": str(folder / "cache")},
            stdout=subprocess.DEVNULL,
        )
        for number in range(count)
    ]
    if any(scan.wait() for scan in running):
        sys.exit("a scan failed")
    return time.monotonic() - started, _processor_seconds() - used


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--waiting", action="store_true")
    args = parser.parse_args()
    write_digits(args.folder / "images", args.rows, "symmetric-exclusive:0.2")
    options = ["--encoder", "none", "--epochs", str(args.epochs)]
    scans(1, args.folder, options, {})  # what is decoded stays in the cache
    sides = {"labelfix's threads": {}, **({"waiting threads": _WAITING} if args.waiting else {})}
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, environment in sides.items():
            seen[name].append(
                (*scans(1, args.folder, options, environment), *scans(2, args.folder, options, environment))
            )
    print("threads: one scan s (of the processor), two at once s (of the processor), two by one, rounds")
    for name, rounds in seen.items():
        one, its, two, theirs = np.median(rounds, axis=0)
        ratios = [f"{both / alone:.2f}" for alone, _, both, _ in rounds]
        print(f"{name}: {one:.1f} ({its:.1f}), {two:.1f} ({theirs:.1f}), {two / one:.2f}, {' '.join(ratios)}")


if __name__ == "__main__":
    main()
