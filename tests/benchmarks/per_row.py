"""What a row costs: bytes of it in every place that it comes to, and seconds of one core.

    python tests/benchmarks/per_row.py --data DIR

DIR holds clothing.parquet: 5,391 photographs, JPEG, shorter side 144 px. Seconds are those of the processor, so that
neighbours hardly count. Prints one line for each place; `docs/processes.md` makes its plan of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "stress")]
from big_manifest import write
from made_findings import write_findings

from labelfix.data.images.decoding import decode
from labelfix.data.images.store import stored_size
from labelfix.data.images.workers import FACTS
from labelfix.data.manifest import Manifest
from labelfix.methods import method_class, method_names
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.networks.encoders import pretrained_encoder
from labelfix.training.features import encoded_views

_CPU = torch.device("cpu")
_CLASSES = (10, 1000)


def timed(what: str, rows: int, work) -> object:
    """Do it, and print the seconds of the processor that each row took."""
    started = time.process_time()
    made = work()
    print(f"{what}: {1e6 * (time.process_time() - started) / rows:.3g} microseconds", flush=True)
    return made


def images(data: Path) -> None:
    """What decoded images take, and decoding them."""
    column = pq.read_table(data / "clothing.parquet", columns=["image"]).column("image").slice(0, 200)
    pictures = [picture["bytes"] for picture in column.to_pylist()]
    print(f"image files: {np.mean([len(picture) for picture in pictures]):.0f} bytes")
    for size in (64, 144, 224):
        side = stored_size(size)
        what = f"decoding for {size} px"
        made = timed(what, len(pictures), lambda side=side: [decode(picture, side) for picture in pictures])
        print(f"  stored: {made[0].nbytes} bytes, and {FACTS.itemsize} of facts")


def features() -> None:
    """What features take, and encoding them."""
    encoder = pretrained_encoder("lite0", 144).eval()
    batch = torch.rand(8, 3, 144, 144).contiguous(memory_format=torch.channels_last)
    views = len(encoded_views(flip=True, has_margin=True))
    with torch.inference_mode():
        width = encoder(batch).shape[1]
        timed("lite0 at 144 px, a view", 40, lambda: [encoder(batch) for _ in range(5)])
    print(f"features in {views} views: {views * 2 * width} bytes")


def row_state(name: str, classes: int) -> float:
    """Bytes that a method remembers of a row."""
    taken = []
    for rows in (2_000, 4_000):
        labels = np.arange(rows) % classes
        chosen = method_class(name)
        known = Labels.of(labels, classes, _CPU, labels)
        settings = next(iter(chosen.presets().values()))
        method = chosen(build(NetworkSpec("small", classes, 8)), known, settings)
        state = method.state_dict()
        taken.append(sum(state[part].nbytes for part in method.row_axes) + known.given.nbytes)
    return (taken[1] - taken[0]) / 2_000


def manifest_and_findings(folder: Path, rows: int = 100_000) -> None:
    """What reading a list takes, and what findings take."""
    path = write(folder / "list.csv", rows)
    print(f"list as csv: {path.stat().st_size / rows:.0f} bytes")
    found = timed("reading it", rows, lambda: Manifest.read(path))
    rng = np.random.default_rng(0)
    classes = len(found.class_names)
    # As sure as classifiers are: most of it on one class.
    probs = rng.dirichlet(np.full(classes, 0.05), rows).astype(np.float32)
    noise = rng.random(rows)
    out = folder / "findings.parquet"
    timed(
        f"writing findings of {classes} classes",
        rows,
        lambda: write_findings(out, found, noise=noise, flagged=noise > 0.9, probs=probs),
    )
    print(f"  in the file: {out.stat().st_size / rows:.0f} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    images(args.data)
    features()
    for name in method_names():
        each = ", ".join(f"{row_state(name, classes):.0f} with {classes} classes" for classes in _CLASSES)
        print(f"{name} remembers: {each}")
    with tempfile.TemporaryDirectory() as folder:
        manifest_and_findings(Path(folder))


if __name__ == "__main__":
    main()
