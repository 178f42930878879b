"""The review page: images a second of the whole command, and the size of the page.

    python tests/benchmarks/review.py

Pictures are smooth random noise: photographs of 500 x 375 pixels as JPEG, and 32 x 32 as PNG (CIFAR's size). Every row
is flagged. The seconds are those of `review()` after its imports, source read and checked, page on the disk; a page is
made once before, so that matplotlib's fonts are known.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.verdicts import Verdicts
from labelfix.results import corrections
from labelfix.results.corrections import Findings
from labelfix.reviews import review

KINDS = {"photographs": ((500, 375), "jpg", 64), "cifar": ((32, 32), "png", 32)}
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for kind, (sides, extension, stored) in KINDS.items():
            run = _run(Path(name) / kind, args.rows, sides, extension)
            review(run, limit=1)
            _measure(kind, run, args.rows, args.rounds)
            ImageStore.open_or_build(Manifest.read(run / "images"), stored)
            (run / "images").rename(run / "moved")
            _measure(f"{kind}, from the store", run, args.rows, args.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak of the process {peak:.0f} MB")


def _measure(title: str, run: Path, rows: int, rounds: int) -> None:
    seconds = []
    spent = time.process_time()
    for _ in range(rounds):
        started = time.perf_counter()
        report = review(run, limit=rows)
        seconds.append(time.perf_counter() - started)
    assert report["without_picture"] == 0, report
    cores = 1000 * (time.process_time() - spent) / (rounds * rows)
    rates = f"{rows / float(np.median(seconds)):.0f} images/s (best {rows / min(seconds):.0f})"
    print(
        f"{title} ({report['pictures']}): {rates}, {cores:.2f} ms of a core each; page {report['bytes'] / 1e6:.1f} MB"
    )


def _run(folder: Path, rows: int, sides: tuple[int, int], extension: str) -> Path:
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / "images" / str(label)).mkdir(parents=True)
    for row in range(rows):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize(sides, Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-8, 9, picture.shape, dtype=np.int16)
        noisy = Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8))
        noisy.save(folder / "images" / str(row % CLASSES) / f"{row:06d}.{extension}")
    manifest = Manifest.read(folder / "images")
    probs = rng.random((rows, CLASSES), dtype=np.float32)
    verdicts = Verdicts(np.ones(rows, bool), (manifest.given + 1) % CLASSES, Fit())
    findings = Findings(Evidence(rng.uniform(0.5, 1, rows), probs), verdicts, probs, np.ones(rows, bool), {})
    corrections.write(
        folder / "corrections.parquet",
        manifest,
        findings,
        {"method": "none", "seed": 0, "resumed_elsewhere": False},
    )
    config = {
        "source": manifest.options,
        "files": {"image_key": manifest.image_key},
        "config": {"image_size": KINDS[folder.name][2]},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
