"""Mosaics of real digits, several labels an image: sources whose true labels are known, and trainers on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from labelfix.data.images.decoding import encode
from labelfix.methods import method_class
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.noise.several_labels import parse_parts, plant_parts
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.trainer import Trainer

NAMES = ("0", "1", "3", "4")
SIDE = 16


def mosaics(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """2x2 digits (N, 16, 16) uint8, and which of `NAMES` they show (N, 4) float32; every tenth shows none of them."""
    digits, rng = load_digits(), np.random.default_rng(seed)
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)
    of_class = [np.flatnonzero(digits.target == int(name)) for name in NAMES]
    others = np.flatnonzero(~np.isin(digits.target, [int(name) for name in NAMES]))
    images, targets = np.empty((rows, SIDE, SIDE), np.uint8), np.zeros((rows, len(NAMES)), np.float32)
    for row in range(rows):
        classes = rng.permutation(len(NAMES))[: rng.integers(1, 4)] if row % 10 else []
        drawn = [rng.choice(of_class[k]) for k in classes] + rng.choice(others, 4).tolist()
        quarters = pixels[rng.permutation(drawn[:4])].reshape(2, 2, 8, 8)
        images[row] = quarters.transpose(0, 2, 1, 3).reshape(SIDE, SIDE)
        targets[row, classes] = 1
    return images, targets


def noisy(targets: np.ndarray, noise: str = "dropped:0.2,added:0.05", seed: int = 0) -> np.ndarray:
    return plant_parts(targets, parse_parts(noise), seed)


def lists(targets: np.ndarray) -> list[list[str]]:
    return [[name for name, value in zip(NAMES, row, strict=True) if value >= 0.5] for row in targets]


def write_mosaics(
    folder: Path, rows: int, noise: str = "dropped:0.2,added:0.05", seed: int = 0, *, has_truth: bool = True
) -> Path:
    """`list.jsonl` with the images beside it: file_name, label and, unless it is left out, true_label."""
    images, targets = mosaics(rows, seed)
    folder.mkdir(parents=True, exist_ok=True)
    given = noisy(targets, noise)
    with (folder / "list.jsonl").open("w") as file:
        for row, (image, labels, truth) in enumerate(zip(images, lists(given), lists(targets), strict=True)):
            (folder / f"{row:04d}.png").write_bytes(encode(image))
            record = {"file_name": f"{row:04d}.png", "label": labels} | (
                {"true_label": truth} if has_truth else {}
            )
            file.write(json.dumps(record) + "\n")
    return folder / "list.jsonl"


def make_trainer(name: str, rows: int = 120, epochs: int = 4, **changes: str) -> tuple[Trainer, np.ndarray]:
    """A trainer for several labels on mosaics in memory, and its given labels (N, K)."""
    images, targets = mosaics(rows)
    given, device = noisy(targets), torch.device("cpu")
    chosen = method_class(name, "multi")
    settings = chosen.presets()["fast"].with_epochs(epochs)
    if hasattr(settings, "when_weak"):
        changes = {"when_weak": "go", **changes}
    settings = settings.changed({"batch_size": "40", **changes})
    torch.manual_seed(0)
    network = build(NetworkSpec("small", len(NAMES), SIDE, head=settings.network_head))
    labels = Labels.of(np.zeros(rows, np.int64), len(NAMES), device, targets=given)
    source = Source(
        np.repeat(images[:, None], 3, axis=1),
        Augmentation(SIDE, (0.3,) * 3, (0.37,) * 3, flip=False, device=device),
        device,
    )
    every = np.arange(rows)
    trainer = Trainer(
        chosen(network, labels, settings), source, trained_rows=every, predicted_rows=every, seed=0
    )
    return trainer, given
