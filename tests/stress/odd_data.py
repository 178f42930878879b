"""Data that no method was made for, through every method: never NaN, never a crash, a finding in plain words.

    python tests/stress/odd_data.py FOLDER [--methods bmm,joint]

Clean data, noise alone, one dominant class, two samples a class, many classes of five, the same image under different
labels, black images: each with every method, with and without folds, and through an encoder. What is done stands in
FOLDER/odd.jsonl: given again, the command goes on where it was stopped. At the end it prints a table, and exits 1 where
anything crashed or is not finite.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import pandas as pd
from onnx_files import onnx_file
from sklearn.datasets import load_digits

import labelfix
from labelfix.methods import method_class, method_names

Data = tuple[np.ndarray, np.ndarray]
_ROWS = 60
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"encoder": "none"}, "folds": {"encoder": "none", "folds": 2}, "encoder": {"encoder": "own.onnx"},
}  # fmt: skip


def _digits(rows: int) -> Data:
    digits = load_digits()
    pixels = (digits.images[:rows, :, :, None] * (255 / 16)).round().astype(np.uint8)
    return pixels.repeat(3, axis=3), digits.target[:rows].astype(str)


def clean() -> Data:
    return _digits(_ROWS)


def pure_noise() -> Data:
    """Labels, and pixels, that have nothing to do with anything."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (_ROWS, 8, 8, 3), dtype=np.uint8)
    return pixels, random.integers(0, 4, _ROWS).astype(str)


def one_dominant_class() -> Data:
    images, labels = _digits(_ROWS)
    return images, np.where(np.arange(_ROWS) < 3, labels, "rest")


def two_a_class() -> Data:
    images, labels = _digits(200)
    rows = [row for name in np.unique(labels) for row in np.flatnonzero(labels == name)[:2]]
    return images[rows], labels[rows]


def many_classes_of_five() -> Data:
    images, _ = _digits(500)
    return images, np.array([f"class {row // 5}" for row in range(500)])


def one_image() -> Data:
    """The same image in every row, under different labels."""
    images, labels = _digits(_ROWS)
    return images[:1].repeat(_ROWS, axis=0), labels


def black() -> Data:
    images, labels = _digits(_ROWS)
    return np.zeros_like(images), labels


CONDITIONS: tuple[Callable[[], Data], ...] = (
    clean, pure_noise, one_dominant_class, two_a_class, many_classes_of_five, one_image, black,
)  # fmt: skip


def scan(make: Callable[[], Data], method: str, way: str, out: Path) -> labelfix.Run:
    """A tiny scan; a method that needs verified rows gets one of each class."""
    images, labels = make()
    options = {"epochs": 3, "batch_size": 16, **WAYS[way]}
    if way == "encoder":
        options["encoder"] = str(onnx_file(out.parent / "own.onnx", size=8, cell=2))
    if method_class(method).needs_trusted:
        first = [int(np.flatnonzero(labels == name)[0]) for name in np.unique(labels)]
        lines = [f"{row},{labels[row]}" for row in first]
        (out.parent / "trusted.csv").write_text("\n".join(["sample_id,label", *lines]) + "\n")
        options["trusted"] = out.parent / "trusted.csv"
    return labelfix.scan((images, labels), method=method, out=out, overwrite=True, **options)


def trouble(run: labelfix.Run) -> str:
    """What is wrong with the findings of a run, "" for nothing."""
    rows, summary = labelfix.read_corrections(run.out), run.summary
    found = []
    if not summary["fit_ok"]:
        if not summary["fit_reason"]:
            found.append("a failed fit without a reason")
        if rows.is_label_issue.any():
            found.append("a failed fit that flags")
    for name in ("noise_score", "label_distribution", "predicted_probs"):
        known = rows[name].dropna()
        values = np.concatenate([np.atleast_1d(value) for value in known]) if len(known) else np.zeros(1)
        if not np.isfinite(values).all():
            found.append(f"{name} is not finite")
    if summary["fit_ok"] and rows.noise_score[~rows.is_trusted].isna().any():
        found.append("no scores")
    json.dumps(summary, allow_nan=False)
    return ", ".join(found)


def results_of(folder: Path, methods: list[str], done: set[str]) -> Iterator[dict[str, Any]]:
    """Every condition, method and way that is not done."""
    for make in CONDITIONS:
        for method in methods:
            for way in WAYS:
                name = f"{make.__name__} {method} {way}"
                if name in done:
                    continue
                started, said = time.monotonic(), ""
                try:
                    run = scan(make, method, way, folder / "run")
                    wrong, said = trouble(run), run.summary["fit_reason"]
                except labelfix.LabelfixError as error:
                    wrong, said = "", f"refused: {error}"
                except Exception:
                    wrong = traceback.format_exc()[-600:]
                seconds = round(time.monotonic() - started, 2)
                yield {
                    "name": name, "condition": make.__name__, "trouble": wrong, "said": said, "seconds": seconds,
                }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    usual = [name for name in method_names() if name != "confident-learning"]
    parser.add_argument("--methods", type=lambda text: text.split(","), default=usual)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    record = args.folder / "odd.jsonl"
    results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    for result in results_of(args.folder, args.methods, {result["name"] for result in results}):
        results.append(result)
        with record.open("a") as file:
            file.write(json.dumps(result) + "\n")
        if result["trouble"]:
            print(f"{result['name']}: {result['trouble']}", flush=True)
    frame = pd.DataFrame(results)
    frame["wrong"], frame["refused"] = frame.trouble != "", frame.said.str.startswith("refused")
    print(frame.groupby("condition", sort=False)[["wrong", "refused"]].agg(["size", "sum"]).to_string())
    return int(frame.wrong.any())


if __name__ == "__main__":
    sys.exit(main())
