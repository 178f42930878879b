"""Mosaics of photographs for several labels an image: 2x2 images of a source with one label each, drawn with a seed.

    python tests/benchmarks/mosaics.py SOURCE OUT.parquet --images 1000 [--side 64] [--seed 0] [--part train|test]

Every mosaic draws how many classes it has, 1 to 4, alike; then those classes; then an image for each of the four
places, of these classes in turn, in random order. Its labels are the classes that it shows. No image of SOURCE is drawn
twice while others of its class are left. With `--part` the images of three tenths of the source's groups make test
mosaics, and those of the others training mosaics.

    labelfix corrupt OUT.parquet --noise dropped:0.2,added:0.05 --out noisy.parquet
    labelfix scan noisy.parquet --method pencil --test TEST.parquet
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from labelfix.data.manifest import Manifest

TEST_SHARE = 0.3
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def dealt(rows: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """Rows of a class in random order, again and again."""
    while True:
        yield from rng.permutation(rows).tolist()


def of_part(manifest: Manifest, part: str | None) -> np.ndarray:
    """(N,) bool: the rows whose group, or themselves where there are none, belong to a part; all without one."""
    groups = np.arange(manifest.num_rows) if manifest.groups is None else manifest.groups
    found, place = np.unique(groups, return_inverse=True)
    is_test = np.random.default_rng(0).random(len(found))[place] < TEST_SHARE
    return {None: np.ones(manifest.num_rows, bool), "train": ~is_test, "test": is_test}[part]


def opened(image: bytes | Path, side: int) -> Image.Image:
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as found:
        return found.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)


def mosaic(images: list[Image.Image], side: int) -> bytes:
    whole = Image.new("RGB", (2 * side, 2 * side))
    for place, image in enumerate(images):
        whole.paste(image, (place % 2 * side, place // 2 * side))
    sink = io.BytesIO()
    whole.save(sink, "PNG")
    return sink.getvalue()


def mosaics(manifest: Manifest, count: int, side: int, seed: int, part: str | None) -> pa.Table:
    """The table: image and the list of its labels, in class order."""
    rng, there = np.random.default_rng(seed), of_part(manifest, part)
    of_class = [np.flatnonzero((manifest.given == k) & there) for k in range(len(manifest.class_names))]
    decks = [dealt(rows, rng) for rows in of_class]
    drawn, labels = [], []
    for _ in range(count):
        classes = rng.permutation(len(decks))[: rng.integers(1, 5)]
        places = rng.permutation([next(decks[classes[place % len(classes)]]) for place in range(4)])
        drawn.append(places)
        labels.append([manifest.class_names[k] for k in sorted(classes)])
    rows = np.unique(np.concatenate(drawn))
    pictures = {
        row: opened(image, side // 2)
        for row, image in zip(rows.tolist(), manifest.sample_images(rows), strict=True)
        if image is not None
    }
    images = [
        {
            "bytes": mosaic([pictures[row] for row in places.tolist()], side // 2),
            "path": f"mosaic-{number:05d}.png",
        }
        for number, places in enumerate(drawn)
    ]
    return pa.table({"image": pa.array(images, _PICTURE), "label": pa.array(labels, pa.list_(pa.string()))})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("train", "test"))
    parser.add_argument("--label-column")
    options = parser.parse_args()
    manifest = Manifest.read(options.source, label_column=options.label_column)
    table = mosaics(manifest, options.images, options.side, options.seed, options.part)
    pq.write_table(table, options.out)


if __name__ == "__main__":
    main()
