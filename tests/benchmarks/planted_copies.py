"""How many planted copies are found: exact ones, encoded again, smaller, mirrored; half of them under another label.

    python tests/benchmarks/planted_copies.py DATA/clothing.parquet OUT.parquet [--rows N] [--copies 200]

writes N labelled photographs and the copies after them, with `kind` and `original` (the row) as columns.

    labelfix scan OUT.parquet --encoder lite0 --out RUN
    python tests/benchmarks/planted_copies.py RUN

says how many of them stand in one `duplicate_group` with their original, and which groups are of several originals.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

import labelfix

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


def measure(run: Path) -> None:
    """Print what a scan of such a file found."""
    df = labelfix.read_corrections(run)
    group = df["duplicate_group"].to_numpy(float)
    for kind in KINDS:
        copies = df.index[df["kind"] == kind].to_numpy()
        originals = df["original"].to_numpy()[copies]
        print(f"{kind}: {(group[copies] == group[originals]).mean():.3f} of {len(copies)} found")
    family = np.where(df["original"] >= 0, df["original"], df.index)
    several = [
        rows.index.tolist() for _, rows in df.groupby("duplicate_group") if len(set(family[rows.index])) > 1
    ]
    print(f"{len(several)} groups of several originals: {several}")


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
        measure(options.source)
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
