"""A seeded generator of what people hand each other beside images, damaged: each case is a file and a command.

Every case changes a copy of a finished or stopped run over 40 digits, see `make_world`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from conftest import write_digits
from onnx_files import onnx_file
from runs import StopAt
from stress.hostile_images import flip_bits

import labelfix

Random = np.random.Generator
QUICK: dict[str, Any] = {
    "method": "cross-entropy", "encoder": "none", "epochs": 2, "batch_size": 16, "image_size": 8, "precision": "fp32",
}  # fmt: skip
SCAN = [str(word) for name, value in QUICK.items() for word in (f"--{name.replace('_', '-')}", value)]
_SCRAPS: tuple[Any, ...] = (None, -1, 1e308, "x", "\0", [], {}, 10**400, True, "\ud800", [[1]], 0.5, 2**63)


class Case(NamedTuple):
    """A command, and the files that were changed for it."""

    kind: str
    args: list[str]


def make_world(folder: Path) -> None:
    """`images` of 40 digits, a run over them, one that stopped, one through an ONNX encoder, and lists."""
    write_digits(folder / "images", 40)
    labelfix.scan(folder / "images", out=folder / "run", **QUICK)
    with contextlib.suppress(KeyboardInterrupt):
        labelfix.scan(folder / "images", out=folder / "stopped", reporter=StopAt(None), **QUICK)
    onnx_file(folder / "own.onnx", size=8, cell=2)
    through = {**QUICK, "encoder": str(folder / "own.onnx"), "folds": 2}
    labelfix.scan(folder / "images", out=folder / "seen", **through)
    names = labelfix.read_corrections(folder / "run").file_name.tolist()
    lines = [f"{row},{name},{('keep', 'skip', 'remove')[row % 3]}," for row, name in enumerate(names)]
    (folder / "decisions.csv").write_text("\n".join(["sample_id,file_name,decision,label", *lines]) + "\n")
    np.save(folder / "features.npy", np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32))
    np.savez(folder / "probs.npz", pred_probs=np.full((40, 10), 0.1))


def damage(random: Random, path: Path) -> None:
    """Cut, turn bits, overwrite or splice; text and JSON also in their own way."""
    data = path.read_bytes()
    ways: list[Callable[[], bytes]] = [
        lambda: data[: random.integers(0, len(data))],
        lambda: flip_bits(random, data, 1),
        lambda: flip_bits(random, data, int(random.integers(1, 9))),
        lambda: flip_bits(random, data, int(random.integers(1, 5)), 200),
        lambda: _overwritten(random, data),
        lambda: data + random.bytes(100),
        lambda: b"",
    ]
    if path.suffix == ".json":
        ways += [lambda: _scrapped(random, data)] * 8
    if path.suffix == ".csv":
        ways += [lambda: _cells(random, data)] * 6
    path.write_bytes(ways[random.integers(len(ways))]())


def _overwritten(random: Random, data: bytes) -> bytes:
    start, length = int(random.integers(0, len(data))), int(random.integers(1, 200))
    return data[:start] + (b"\xff" * length)[: len(data) - start] + data[start + length :]


def _scrapped(random: Random, data: bytes) -> bytes:
    """One value anywhere replaced by what it cannot be, or taken away."""
    whole = json.loads(data)
    place: Any = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = keys[random.integers(len(keys))]
        if isinstance(place[key], dict | list) and place[key] and random.random() < 0.7:
            place = place[key]
        elif random.random() < 0.2:
            del place[key]
            break
        else:
            place[key] = _SCRAPS[random.integers(len(_SCRAPS))]
            break
    return json.dumps(whole).encode()


def _cells(random: Random, data: bytes) -> bytes:
    """A few cells of a CSV replaced, one of them maybe of its header."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    texts = (
        "",
        "x",
        "-1",
        "99999999999999999999",
        "nan",
        "accept",
        "change",
        "\0",
        "../x",
        '"',
        "9",
        "keep,",
        "\u202e",
    )
    for _ in range(int(random.integers(1, 5))):
        row = rows[int(random.integers(len(rows)))]
        row[int(random.integers(len(row)))] = texts[random.integers(len(texts))]
    return "\n".join(",".join(row) for row in rows).encode()


def decisions(random: Random, folder: Path) -> Case:
    damage(random, folder / "decisions.csv")
    if random.random() < 0.5:
        return Case("decisions", ["export", "run", "--decisions", "decisions.csv", "--out", "x.csv"])
    return Case(
        "trusted", ["scan", "images", "--out", "new", "--trusted", "decisions.csv", "--dry-run", *SCAN]
    )


def corrections(random: Random, folder: Path) -> Case:
    damage(random, folder / "run" / "corrections.parquet")
    to = str(
        random.choice(["csv", "jsonl", "parquet", "hf", "imagefolder", "labelstudio", "cleanlab", "fiftyone"])
    )
    return Case("corrections", ["export", "run", "--to", to])


def run_json(random: Random, folder: Path) -> Case:
    damage(random, folder / "run" / str(random.choice(["config.json", "summary.json"])))
    if random.random() < 0.3:
        return Case("run folder", ["review", "run", "--limit", "2"])
    return Case("run folder", ["export", "run", "--to", "imagefolder"])


def checkpoint(random: Random, folder: Path) -> Case:
    """One or all of the files of an unfinished run; it trains on, from what is whole."""
    source = json.loads((folder / "stopped" / "config.json").read_text())["source"]["source"]
    files = sorted((folder / "stopped" / "checkpoint").iterdir())
    for path in files if random.random() < 0.5 else [files[random.integers(len(files))]]:
        damage(random, path)
    return Case("checkpoint", ["scan", source, "--out", "stopped", *SCAN])


def classifier(random: Random, folder: Path) -> Case:
    name = str(random.choice(["classifier.json", "model.safetensors"]))
    damage(random, folder / "run" / "classifier" / name)
    return Case("classifier", ["predict", "run", "images", "--out", "x.parquet"])


def classifier_on_onnx(random: Random, folder: Path) -> Case:
    name = str(random.choice(["classifier.json", "model.safetensors"]))
    damage(random, folder / "seen" / "classifier" / name)
    return Case("classifier on ONNX", ["predict", "seen", "images", "--out", "x.parquet"])


def onnx(random: Random, folder: Path) -> Case:
    damage(random, folder / "own.onnx")
    return Case("ONNX encoder", ["scan", "images", "--out", "new", *SCAN, "--encoder", "own.onnx"])


def numbers(random: Random, folder: Path) -> Case:
    if random.random() < 0.5:
        damage(random, folder / "features.npy")
        return Case(
            "features",
            ["scan", "images", "--out", "new", "--features", "features.npy", "--dry-run", *SCAN[:2]],
        )
    damage(random, folder / "probs.npz")
    return Case("probabilities", ["scan", "images", "--out", "new", "--pred-probs", "probs.npz"])


MAKERS = (decisions, corrections, run_json, checkpoint, classifier, classifier_on_onnx, onnx, numbers)


def make_case(world: Path, folder: Path, number: int) -> Case:
    """Case `number` in a new folder, a copy of the world."""
    shutil.copytree(world, folder)
    return MAKERS[number % len(MAKERS)](np.random.default_rng(number), folder)
