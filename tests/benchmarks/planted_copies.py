"""How many planted copies are found: exact ones, encoded again, smaller, mirrored; half of them under another label.

    python tests/benchmarks/planted_copies.py DATA/clothing.parquet OUT.parquet [--rows N] [--copies 200]

writes N labelled photographs and the copies after them, with `kind` and `original` (the row) as columns.

    python tests/benchmarks/planted_copies.py OUT.parquet

scans them through lite0 and says how many copies stand in one `duplicate_group` with their original, and how many pairs
of different photographs do; then the same of cleanlab's Datalab on the same features, and of imagededup's perceptual
hash on the same images, where these packages are installed. A group of more than two counts with all its pairs of
photographs.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

import labelfix
from labelfix.data.images.store import ImageStore
from labelfix.estimation.neighbours import Rows
from labelfix.results.around import Around

KINDS = ("exact", "jpeg60", "resized", "mirrored")


def copy_of(data: bytes, kind: str) -> bytes:
    if kind == "exact":
        return data
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    if kind == "resized":
        picture = picture.resize([round(0.8 * side) for side in picture.size], Image.Resampling.BICUBIC)
    if kind == "mirrored":
        picture = ImageOps.mirror(picture)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=60 if kind == "jpeg60" else 90)
    return sink.getvalue()


def compare(source: Path) -> None:
    """Scan such a file, and print what is found, and what the others find."""
    table = pq.read_table(source)
    kind, original = table["kind"].to_numpy(), table["original"].to_numpy()
    family = np.where(original >= 0, original, np.arange(len(original)))
    with tempfile.TemporaryDirectory() as folder:
        features, group = scanned(source, Path(folder) / "run")
    print(f"| found | {' | '.join(KINDS)} | false pairs in 1,000 |\n|{' --- |' * (len(KINDS) + 2)}")
    members = [np.flatnonzero(group == first) for first in np.unique(group[group >= 0])]
    show("labelfix", (pair for rows in members for pair in combinations(rows.tolist(), 2)), kind, family)
    if find_spec("cleanlab") and find_spec("datasets"):
        show("Datalab", datalab_pairs(features), kind, family)
    if find_spec("imagededup"):
        images = [row["bytes"] for row in table["image"].to_pylist()]
        for most in (0, 6, 10):
            show(f"imagededup, distance {most}", hash_pairs(images, most), kind, family)


def show(name: str, pairs: Iterable[tuple[int, int]], kind: np.ndarray, family: np.ndarray) -> None:
    """A line of the table: pairs of rows in any order, once or twice."""
    together = {(min(pair), max(pair)) for pair in pairs}
    found = [
        np.mean([(family[row], row) in together for row in np.flatnonzero(kind == each).tolist()])
        for each in KINDS
    ]
    wrong = {tuple(sorted((family[a], family[b]))) for a, b in together if family[a] != family[b]}
    print(
        f"| {name} | {' | '.join(f'{share:.2f}' for share in found)} | {1000 * len(wrong) / len(kind):.1f} |"
    )


def scanned(source: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) that a scan has seen, and the groups (N,) of copies that it found, -1 for none."""
    seen: dict[str, np.ndarray] = {}
    look = Around.of

    def watching(store: ImageStore, features: Rows, test_store: ImageStore | None = None) -> Around:
        seen["features"] = features(slice(None))
        return look(store, features, test_store)

    with patch.object(Around, "of", watching):
        labelfix.scan(source, encoder="lite0", method="cross-entropy", out=out)
    group = labelfix.read_corrections(out)["duplicate_group"].to_numpy(float, na_value=-1)
    return seen["features"], group.astype(np.int64)


def datalab_pairs(features: np.ndarray) -> Iterator[tuple[int, int]]:
    from cleanlab import Datalab

    lab = Datalab({"row": np.arange(len(features))})
    lab.find_issues(features=features, issue_types={"near_duplicate": {}})
    for row, others in enumerate(lab.get_info("near_duplicate")["near_duplicate_sets"]):
        yield from ((row, int(other)) for other in others)


def hash_pairs(images: list[bytes], most: int) -> Iterator[tuple[int, int]]:
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    pictures = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in images)
    hashes = {str(row): hasher.encode_image(image_array=picture) for row, picture in enumerate(pictures)}
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=most)
    for row, others in found.items():
        yield from ((int(row), int(other)) for other in others)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--copies", type=int, default=200)
    options = parser.parse_args()
    if options.out is None:
        compare(options.source)
        return
    table = pq.read_table(options.source).to_pylist()
    rows = [row for row in table if row["label"] is not None][: options.rows]
    rng = np.random.default_rng(0)
    labels = sorted({row["label"] for row in rows})
    found = [{"image": row["image"], "label": row["label"], "kind": "", "original": -1} for row in rows]
    for number, original in enumerate(rng.permutation(len(rows))[: options.copies].tolist()):
        kind, label = KINDS[number % len(KINDS)], rows[original]["label"]
        if number // len(KINDS) % 2:
            label = labels[(labels.index(label) + 1) % len(labels)]
        image = {"bytes": copy_of(rows[original]["image"]["bytes"], kind), "path": f"copy-{number:04d}.jpg"}
        found.append({"image": image, "label": label, "kind": kind, "original": original})
    pq.write_table(pa.Table.from_pylist(found), options.out)


if __name__ == "__main__":
    main()
