"""Train once a condition and keep what the verdicts rest on, so that rules can be judged in seconds (rules.py).

    python tests/benchmarks/estimation/arrays.py --data DIR --out FOLDER [--only TEXT] [--list]

A condition is a data set, a number of rows, a noise and a network: heads on lite0 (in 5 folds) or the small network (a
single training, read by the rows that it leaves out). DIR holds cifar10_train.parquet and clothing.parquet;
Fashion-MNIST comes from Debian's dataset-fashion-mnist, digits from scikit-learn. A file that is there already is not
made again.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.special import softmax
from sklearn.datasets import load_digits

import labelfix
from labelfix.data.images.decoding import decode, encode
from labelfix.estimation.in_sample import as_held_out
from labelfix.noise.planting import parse_noise, plant
from labelfix.results import single_label

FASHION = Path("/usr/share/datasets/fashion-mnist")
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ANY = ("clean", "symmetric:0.05", "symmetric:0.1", "symmetric:0.2", "symmetric:0.4", "pair:0.1", "pair:0.3")


@dataclass(frozen=True)
class Condition:
    """Which images, how many, which noise ("human": the data set's second labels), through what, by which method."""

    data: str
    rows: int
    noise: str
    network: str
    method: str
    seed: int

    @property
    def labels(self) -> str:
        """The same of all methods: they are given the same labels."""
        noise = self.noise.replace(":", "-")
        return f"{self.data}-{self.rows}-{noise}-{self.network}-{self.seed}"

    @property
    def name(self) -> str:
        return f"{self.labels}-{self.method}"


def conditions() -> Iterator[Condition]:
    """Heads first, which cost seconds; then the small network."""
    for data, rows, noise, seed in heads():
        for method in ("cross-entropy", "bmm", "nnaqc"):
            yield Condition(data, rows, noise, "lite0", method, seed)
    for method in ("bmm", "cross-entropy"):
        for noise in ("clean", "symmetric-exclusive:0.2", "pair:0.2", "symmetric:0.4"):
            yield Condition("digits", 1_797, noise, "small", method, 0)
        for noise in ("clean", "symmetric:0.1", "pair:0.2"):
            yield Condition("fashion16", 3_000, noise, "small", method, 0)
        for noise in ("clean", "human", "symmetric:0.2", "asymmetric:0.4"):
            yield Condition("cifar", 3_000, noise, "small", method, 0)


def heads() -> Iterator[tuple[str, int, str, int]]:
    """Data, rows, noise and seed of the conditions through lite0."""
    for rows in (300, 1_000, 5_000):
        for noise in (*ANY, "asymmetric:0.4", "human"):
            yield "cifar", rows, noise, 0
    for noise in ANY:
        yield "clothing", 5_096, noise, 0
        yield "clothing", 1_000, noise, 1
        yield "fashion", 5_000, noise, 0
        yield "fashion16", 3_000, noise, 0
    for noise in ("clean", "symmetric:0.1", "symmetric:0.2", "pair:0.2"):
        yield "rotated", 5_000, noise, 0
        yield "two", 2_000, noise.replace("pair:0.2", "pair:0.1"), 0
        yield "rare", 3_000, noise, 0
        yield "digits", 1_797, noise, 0


def images_of(
    data: str, rows: int, folder: Path, seed: int
) -> tuple[list[bytes], np.ndarray, np.ndarray | None]:
    """Encoded images, true labels, and a person's labels where there are any."""
    if data == "digits":
        found = load_digits()
        pixels = (found.images * (255 / 16)).round().astype(np.uint8)[:rows]
        return [encode(image) for image in pixels], found.target[:rows], None
    if data.startswith("fashion"):
        return _fashion(rows, 16 if data == "fashion16" else 28)
    if data == "clothing":
        table = pq.read_table(folder / "clothing.parquet").to_pandas().dropna(subset="label")
        chosen = table.iloc[np.random.default_rng(seed).permutation(len(table))[:rows]]
        return (
            [image["bytes"] for image in chosen["image"]],
            pd.factorize(chosen["label"], sort=True)[0],
            None,
        )
    table = pq.read_table(folder / "cifar10_train.parquet").to_pandas()
    label = table["label"].to_numpy()
    if data == "two":  # cats and dogs
        table = table[(label == 3) | (label == 5)]
    if data == "rare":  # a twentieth of half of the classes
        rng = np.random.default_rng(seed)
        table = table[(label % 2 == 0) | (rng.random(len(label)) < 0.05)]
    table = table.iloc[:rows]
    images, true = [image["bytes"] for image in table["image"]], pd.factorize(table["label"], sort=True)[0]
    if data == "rotated":
        turns = np.random.default_rng(seed).integers(0, 4, rows)
        turned = (np.rot90(decode(image, 32), k, (1, 2)) for image, k in zip(images, turns, strict=True))
        return [encode(image) for image in turned], true * 4 + turns, None
    return images, true, table["human_label"].to_numpy()


def _fashion(rows: int, size: int) -> tuple[list[bytes], np.ndarray, None]:
    def read(name: str, skipped: int) -> np.ndarray:
        path = next(FASHION.glob(f"train-{name}-idx*"))
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return np.frombuffer(content, np.uint8, offset=skipped)

    pixels = read("images", 16).reshape(-1, 28, 28)[:rows]
    whole = [encode(image) for image in pixels]
    images = whole if size == 28 else [encode(decode(image, size)) for image in whole]
    return images, read("labels", 8)[:rows].astype(np.int64), None


def planted(condition: Condition, true: np.ndarray, human: np.ndarray | None) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the labels that are given."""
    names = CIFAR if condition.data == "cifar" else [f"{label:03d}" for label in range(true.max() + 1)]
    if condition.noise == "human":
        assert human is not None
        return names, human
    if condition.noise == "clean":
        return names, true
    seed = zlib.crc32(condition.labels.encode())
    return names, plant(true, names, parse_noise(f"{condition.noise}:exact"), seed=seed)


def arrays_of(condition: Condition, folder: Path) -> dict[str, np.ndarray]:
    """What the findings rest on.

    Held-out predictions P (N, K), given g and true y (N,), rows u (N,) bool that were truly not trained on, and of
    heads the predictions A (N, K) that were averaged over the training on all rows.
    """
    images, true, human = images_of(condition.data, condition.rows, folder, condition.seed)
    names, given = planted(condition, true, human)
    seen: dict[str, np.ndarray] = {}
    find = single_label.find

    def watching(manifest, store, trusted, trainer, reports, held_out, crossed, *rest):
        averaged = trainer.method.ensembled_probs.double().numpy()
        averaged /= averaged.sum(axis=1, keepdims=True)
        if crossed is not None:
            seen["P"], seen["A"] = softmax(crossed.logits.astype(np.float64), axis=1), averaged
            seen["u"] = np.ones(len(true), bool)
        else:
            seen["P"], seen["u"] = as_held_out(averaged, manifest.given, held_out), held_out
        return find(manifest, store, trusted, trainer, reports, held_out, crossed, *rest)

    rows = [{"bytes": image, "path": None} for image in images]
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source.parquet"
        pd.DataFrame({"image": rows, "label": [names[label] for label in given]}).to_parquet(source)
        single_label.find = watching
        try:
            encoder = "none" if condition.network == "small" else condition.network
            labelfix.scan(
                source, method=condition.method, out=Path(place) / "run", seed=condition.seed, encoder=encoder
            )
        finally:
            single_label.find = find
    found = {name: seen[name].astype(np.float32) for name in ("P", "A") if name in seen}
    return {**found, "u": seen["u"], "g": given, "y": true}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="conditions with this in their name, such as cifar-300")
    parser.add_argument("--list", action="store_true", help="name them and stop")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for condition in conditions():
        path = args.out / f"{condition.name}.npz"
        if args.only and f"-{args.only}-" not in f"-{condition.name}-":
            continue
        if args.list or path.exists():
            print(condition.name)
            continue
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, **arrays_of(condition, args.data))
        partial.rename(path)
        print(condition.name, flush=True)


if __name__ == "__main__":
    main()
