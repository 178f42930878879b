"""Tables of the papers on a protocol that two cores can run: few images, the small network, few epochs.

    python tests/benchmarks/papers/reproduce.py bmm --data DIR --out FOLDER [--noise N,N] [--seeds 0,1] [--rows N]
        [--epochs N]
    python tests/benchmarks/papers/reproduce.py bmm --data digits --out FOLDER

for bmm, pencil, joint, meta and nnaqc. DIR holds cifar10_train.parquet and cifar10_test.parquet (Hugging Face image
Parquet, the column `label`), whose first images are taken; digits are scikit-learn's, the last 397 for the test, which
even the small network learns by heart. Runs noise by noise and prints a table whenever one of its columns is done; the
same command goes on where it was stopped. Every step is an ordinary command, which is printed before it runs.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

from labelfix.benchmark.paper_table import PaperTable

TRUSTED_OF_A_CLASS = 10
GENIE_TABLE = "nnaqc-1"  # its genie-aided row has the matrix that was planted
DIGITS, DIGITS_TRAINED = "digits", 1_400


@dataclass(frozen=True)
class Protocol:
    """How a paper's tables are run.

    Attributes:
        tables: by the names of `labelfix bench --table`.
        noises: columns, the most telling first.
        rows: images that are trained on, and those for validation.
        epochs: of every schedule, scaled.
        digits_epochs: the same on digits.
        batch_size: of every row.
        validates: whether a tenth of the rows chooses the best epoch, as in the paper.
        needs_trusted: whether ten images a class are verified.
        beside: methods of no row of the tables, under the first noise; `{twice}` stands for twice the epochs.
    """

    tables: tuple[str, ...]
    noises: tuple[str, ...]
    rows: int = 3_000
    epochs: int = 30
    digits_epochs: int = 60
    batch_size: int = 32
    validates: bool = False
    needs_trusted: bool = False
    beside: tuple[str, ...] = ()


PROTOCOLS = {
    "bmm": Protocol(("bmm-1", "bmm-2", "bmm-3"), ("symmetric:0.5", "symmetric:0.8", "symmetric:0.2")),
    "pencil": Protocol(
        ("pencil-3",),
        ("symmetric:0.7", "symmetric:0.5", "symmetric:0.3"),
        validates=True,
        beside=("pencil:preset=paper-cifar10-sym70:compat=paper",),
    ),
    "joint": Protocol(
        ("joint-2",),
        ("symmetric:0.7", "symmetric:0.5", "symmetric:0.3"),
        validates=True,
        beside=("joint:preset=paper-cifar10-sym70:finetune=plain",),
    ),
    "meta": Protocol(
        ("meta-9", "meta-8"), ("symmetric:0.4", "symmetric:0.8"), digits_epochs=15, needs_trusted=True
    ),
    # Forward correction trains twice: with the epochs of one, its second training has no time (45 % wrong, not 10).
    "nnaqc": Protocol(
        ("nnaqc-1", "nnaqc-5"),
        ("simplex:0.5", "simplex:0.3", "clean"),
        beside=("forward-correction:preset=paper-jindal:epochs={twice}",),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paper", choices=PROTOCOLS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noise", help="columns of the tables; by default the protocol's")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--test-rows", type=int, default=2_000)
    asked = parser.parse_args()
    protocol = PROTOCOLS[asked.paper]
    noises = asked.noise.split(",") if asked.noise else protocol.noises
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.data == DIGITS:
        source, test = digits(asked.out)
        rows, epochs = asked.rows or DIGITS_TRAINED, asked.epochs or protocol.digits_epochs
    else:
        source, test = Path(asked.data) / "cifar10_train.parquet", asked.out / "test.parquet"
        pq.write_table(
            pq.read_table(Path(asked.data) / "cifar10_test.parquet").slice(0, asked.test_rows), test
        )
        rows, epochs = asked.rows or protocol.rows, asked.epochs or protocol.epochs
    if protocol.validates:
        source = marked(source, rows, asked.out / "train.parquet")
    options = [
        *("--test", test, "--out", asked.out / "bench", "--rows", rows, "--epochs", epochs),
        *("--batch-size", protocol.batch_size),
        *(("--trusted", trusted(source, rows, asked.out / "trusted.csv")) if protocol.needs_trusted else ()),
        *("--seeds", asked.seeds, "--holdout", 0),
    ]
    for noise in noises:
        for table in protocol.tables:
            if noise in columns(table):
                bench(source, "--table", f"paper:{table}", "--noise", noise, *options)
            if table == GENIE_TABLE and noise != "clean":
                genie(source, noise, asked.seeds.split(","), asked.out / "bench", options)
    if protocol.beside:
        methods = ",".join(protocol.beside).format(twice=2 * epochs)
        bench(source, "--methods", methods, "--noise", noises[0], *options)
    for table in protocol.tables:
        both = [noise for noise in noises if noise in columns(table)]
        if both:
            bench(source, "--table", f"paper:{table}", "--noise", ",".join(both), *options)


def columns(table: str) -> tuple[str, ...]:
    """The noises that a table prints."""
    return PaperTable.of(f"paper:{table}").columns


def bench(*words: object) -> None:
    """Run `labelfix bench` with these words, in sight."""
    command = ["labelfix", "bench", *map(str, words)]
    print("$", shlex.join(command), flush=True)
    if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        sys.exit("stopped; the same command goes on")


def genie(source: Path, noise: str, seeds: list[str], out: Path, options: list[object]) -> None:
    """The linear layer with the transition matrix as it came out, of each seed."""
    for seed in seeds:
        planted = json.loads((out / "noisy" / f"{noise.replace(':', '-')}-seed{seed}.json").read_text())
        numbers = ",".join(f"{share:.6f}" for row in planted["transition_matrix"] for share in row)
        text = f"nnaqc:preset=paper-trace:trace=0:transition={numbers}"
        bench(source, "--methods", text, "--noise", noise, *options, "--seeds", seed)


def digits(out: Path) -> tuple[Path, Path]:
    """Train and test digits of 8 px as Hugging Face image Parquet."""
    found = load_digits()
    pictures = []
    for pixels in found.images:
        sink = io.BytesIO()
        Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(sink, "PNG")
        pictures.append(sink.getvalue())
    features = {"label": {"names": [str(digit) for digit in range(10)], "_type": "ClassLabel"}}
    images = [{"bytes": picture, "path": f"{place}.png"} for place, picture in enumerate(pictures)]
    table = pa.table({"image": images, "label": found.target}).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    paths = out / "digits_train.parquet", out / "digits_test.parquet"
    pq.write_table(table.slice(0, DIGITS_TRAINED), paths[0])
    pq.write_table(table.slice(DIGITS_TRAINED), paths[1])
    return paths


def marked(source: Path, rows: int, out: Path) -> Path:
    """The first rows with every tenth marked as validation, in a file of their own."""
    table = pq.read_table(source).slice(0, rows)
    split = np.where(np.arange(rows) % 10 == 9, "validation", "train")
    metadata = table.schema.metadata
    pq.write_table(table.append_column("split", pa.array(split)).replace_schema_metadata(metadata), out)
    return out


def trusted(source: Path, rows: int, out: Path) -> Path:
    """The first ten of the rows of each class, verified: sample_id,label."""
    labels = pq.read_table(source, columns=["label"])["label"].to_numpy()[:rows]
    hub = json.loads(pq.read_schema(source).metadata[b"huggingface"])
    names = hub["info"]["features"]["label"]["names"]
    lines = [
        f"{row},{name}"
        for label, name in enumerate(names)
        for row in np.flatnonzero(labels == label)[:TRUSTED_OF_A_CLASS]
    ]
    out.write_text("\n".join(["sample_id,label", *lines]) + "\n")
    return out


if __name__ == "__main__":
    main()
