"""Decoding into the store against Pillow alone, and what a second scan decodes.

    python tests/benchmarks/store.py cifar --data DIR
    python tests/benchmarks/store.py photos

`cifar`: images of 32 pixels inside cifar10_train.parquet, which lies in DIR (or set LABELFIX_BENCH_DATA).
`photos`: JPEG files of 224 to 426 pixels a side, cut out of scikit-learn's two sample photographs, stored for
networks that see 224 pixels.

The plain side is a warm pool of two processes that turn the same images into RGB arrays with Pillow and throw
them away: open, convert, and for photographs cut the central square and resize it (bicubic) to the size that is
stored. It is handed the bytes of CIFAR ready in memory, and the paths of photographs. The store's side counts
everything from the call to the finished store on the disk: reading the source, starting the workers, decoding,
writing, fsync. Every round takes a new process for it and builds twice: the first build starts the fork server
too. `steady` leaves starting and ending out: rows between the first and the last report of progress.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from labelfix.data.images.store import ImageStore, stored_size
from labelfix.data.manifest import Manifest

CHUNK = {"cifar": 500, "photos": 50}
SIZE = {"cifar": 32, "photos": 224}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["cifar", "photos"])
    parser.add_argument("--data", default=os.environ.get("LABELFIX_BENCH_DATA"), help="folder of the data")
    parser.add_argument("--rows", type=int, help="default 20,000 of cifar, 3,000 photos")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.kind == "cifar" and not args.data:
        parser.error("name the folder of the benchmark data with --data or LABELFIX_BENCH_DATA")
    rows = args.rows or (20_000 if args.kind == "cifar" else 3_000)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(args.data) / "cifar10_train.parquet" if args.kind == "cifar" else Path(folder)
        images = _cifar(source, rows) if args.kind == "cifar" else _photos(source, rows)
        compare(source, images, SIZE[args.kind], CHUNK[args.kind], args.rounds)


def compare(source: Path, images: list, size: int, chunk: int, rounds: int) -> None:
    rows, ratios = len(images), []
    parts = [(images[k : k + chunk], stored_size(size)) for k in range(0, rows, chunk)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_decode, parts[:2]))
        for _ in range(rounds):
            started = time.perf_counter()
            list(pool.map(_decode, parts))
            plain = time.perf_counter() - started
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                first, second, steady = fresh.submit(_build_twice, source, rows, size).result()
            ratios.append((plain / first, plain / second, steady * plain / rows))
            print(
                f"plain {rows / plain:.0f}/s; ratio",
                "first {:.2f} second {:.2f} steady {:.2f}".format(*ratios[-1]),
            )
    print("median ratio: first {:.2f} second {:.2f} steady {:.2f}".format(*np.median(ratios, axis=0)))


def _decode(part: tuple[list, int]) -> int:
    images, side = part
    return sum(_plain(image, side).size for image in images)


def _plain(image: bytes | Path, side: int) -> np.ndarray:
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        picture = opened.convert("RGB")
    if picture.size != (side, side):
        width, height = picture.size
        edge = min(picture.size)
        left, top = (width - edge) / 2, (height - edge) / 2
        box = (left, top, left + edge, top + edge)
        picture = picture.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture)


def _build_twice(source: Path, rows: int, size: int) -> tuple[float, float, float]:
    """Seconds of the first and of the second build in this process, and the latter's steady rows a second."""
    manifest = Manifest.read(source, rows=rows)
    seconds, reports = [], []
    for _ in range(2):
        reports.clear()
        with tempfile.TemporaryDirectory() as cache:
            os.environ["LABELFIX_CACHE"] = cache
            started = time.perf_counter()
            store = ImageStore.open_or_build(
                manifest, size, on_progress=lambda done, _: reports.append((time.perf_counter(), done))
            )
            seconds.append(time.perf_counter() - started)
            count = len(reports)
            ImageStore.open_or_build(manifest, size, on_progress=lambda done, _: reports.append((0.0, done)))
        assert len(reports) == count, "a second open decodes nothing"
        assert not store.errors
    (begin, before), (end, after) = reports[0], reports[-1]
    return seconds[0], seconds[1], (after - before) / (end - begin)


def _cifar(path: Path, rows: int) -> list[bytes]:
    cells = pq.read_table(path, columns=["image"])["image"][:rows].to_pylist()
    return [cell["bytes"] for cell in cells]


def _photos(folder: Path, rows: int) -> list[Path]:
    """Write `rows` cuts of the two sample photographs as JPEG files, in one folder each."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photographs = load_sample_images().images
    paths = []
    for row in range(rows):
        whole = photographs[row % 2]
        height, width = random.integers(224, 427, 2)
        top, left = random.integers(0, whole.shape[0] - height), random.integers(0, whole.shape[1] - width)
        paths.append(folder / "ab"[row % 2] / f"{row}.jpg")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(whole[top : top + height, left : left + width]).save(paths[-1], quality=90)
    return paths


if __name__ == "__main__":
    main()
