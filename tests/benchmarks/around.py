"""Time and memory of what is seen around every row: exact copies, image issues, near copies and outliers.

    python tests/benchmarks/around.py --rows 1000000 --dimensions 384

The rows are made: a thousand classes of unlike spread, a few directions in each, one row in a hundred a near copy of
another, one in a thousand thrown far from all, and one pile of fifty copies. Features lie in a file and are mapped, as
those of a scan; the peak counts what is mapped of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from labelfix.benchmark.processes import peak_memory_mb
from labelfix.data.copies import exact_copies
from labelfix.data.images.issues import image_issues
from labelfix.data.images.workers import FACTS
from labelfix.results.around import Around

BLOCK = 20_000
PILE = 50
LATENT = 24


def make(path: Path, rows: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the features (N, D) float32, and return the original of every copy (N,), -1 for none, and the far rows."""
    rng = np.random.default_rng(0)
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dimensions))
    classes = min(1_000, rows // 100)
    centres = rng.normal(size=(classes, dimensions)).astype(np.float32)
    spread = rng.uniform(0.15, 0.25, classes).astype(np.float32)
    basis = rng.normal(size=(LATENT, dimensions)).astype(np.float32)
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        own = rng.integers(0, classes, count)
        latent = rng.normal(size=(count, LATENT)).astype(np.float32) * spread[own, None]
        features[first : first + count] = centres[own] + latent @ basis * (2 / np.sqrt(LATENT))
    copies, far = rows // 100, rng.permutation(rows // 2)[: rows // 1_000]
    original = np.full(rows, -1)
    original[-copies:] = rows // 2 + rng.permutation(rows // 4)[:copies]
    original[-PILE:] = original[-PILE]
    features[far] = 2 * rng.normal(size=(len(far), dimensions))
    noise = 0.02 * rng.normal(size=(copies, dimensions)).astype(np.float32)
    features[-copies:] = features[original[-copies:]] + noise
    features.flush()
    return original, far


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--size", type=int, default=32, help="px of the images")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        # In a process of its own: what it maps is not of the search.
        with ProcessPoolExecutor(1, get_context("spawn")) as maker:
            original, far = maker.submit(make, path, args.rows, args.dimensions).result()
        features = np.load(path, mmap_mode="r")
        store = stored_images(args.rows, args.size)
        before = peak_memory_mb()
        started = time.perf_counter()
        exact_copies(store)
        image_issues(store)
        print(f"without features: {time.perf_counter() - started:.1f} s", flush=True)
        started = time.perf_counter()
        around = Around.of(store, features.__getitem__)
        print(f"with features: {time.perf_counter() - started:.0f} s; peak {peak_memory_mb():.0f} MB, "
              f"{before:.0f} MB of it before; {around.facts}")  # fmt: skip
    rows = np.flatnonzero(original >= 0)
    single, pile = rows[:-PILE], around.copies[rows[-PILE:]]
    print(f"copies found: {(around.copies[single] == group_of(around, original[single])).mean():.4f}; "
          f"of the pile {np.bincount(pile[pile >= 0], minlength=1).max()} of {PILE} in one group")  # fmt: skip
    of_copies = np.zeros(args.rows, bool)
    of_copies[rows], of_copies[original[rows]] = True, True
    print(f"other rows in groups: {1000 * (around.copies[~of_copies] >= 0).mean():.2f} in 1,000")
    likely = around.outlier_score > 0.9
    print(f"far rows found at .9: {likely[far].mean():.4f}, others {1000 * likely.sum() / args.rows:.2f} "
          f"in 1,000 with them")  # fmt: skip


def group_of(around: Around, rows: np.ndarray) -> np.ndarray:
    """The groups of some rows; -2 for none, which is no group."""
    return np.where(around.copies[rows] >= 0, around.copies[rows], -2)


def stored_images(rows: int, size: int) -> SimpleNamespace:
    """What a store of decoded images tells; all of them show a ramp, under digests of their own."""
    ramp = np.tile(np.linspace(0, 255, size).astype(np.uint8), (1, 3, size, 1))
    facts = np.zeros(rows, FACTS)
    facts["digest"] = np.random.default_rng(0).integers(0, 256, (rows, 16), np.uint8).view("V16")[:, 0]
    facts["width"] = facts["height"] = size
    images = np.broadcast_to(ramp, (rows, 3, size, size))
    return SimpleNamespace(valid=np.ones(rows, bool), facts=facts, images=images, stored_size=size)


if __name__ == "__main__":
    main()
