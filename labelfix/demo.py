"""demo(): the whole road on scikit-learn's 1,797 real handwritten digits, 20 % of them with a wrong label."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfix.errors import InputError
from labelfix.exports import export
from labelfix.noise import parse_noise, plant
from labelfix.pipeline import scan
from labelfix.reporting import Reporter
from labelfix.run_folder import RunFolder
from labelfix.scoring import evaluate
from labelfix.store import encode
from labelfix.tables import atomic_path

NOISE = "symmetric-exclusive:0.2"


def demo(
    out: str | Path = "labelfix-demo",
    *,
    seed: int = 0,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the digits as class folders, scan them with joint, evaluate the findings, export the labels.

    `out` gets `images/<noisy label>/<number>.png`, `truth.csv`, the run folder `run/` and `corrected.csv`.

    Args:
        out: folder of the demo; made if missing.
        seed: of the noise and of the scan.
        overwrite: replace the finished demo in `out`.
        reporter: told of progress and messages.

    Returns:
        JSON-able: what `evaluate` found, with `out`, `run`, `exported` and `training_seconds`.

    Raises:
        InputError: `out` holds something else, or a finished demo without `overwrite`.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / "truth.csv").is_file())):
        raise InputError(f"--out {out} holds something else than a demo; choose a new folder")
    if RunFolder(out / "run").is_finished and not overwrite:
        raise InputError(
            f"--out {out} holds a finished demo; use --overwrite to replace it, or another --out"
        )
    names = _write_digits(out, seed)
    run = scan(
        out / "images", method="joint", out=out / "run", seed=seed, overwrite=overwrite, reporter=reporter
    )
    truth = evaluate(run.corrections, truth=out / "truth.csv")
    exported = export(run.corrections, out=out / "corrected.csv")
    return {
        **truth,
        "out": str(out),
        "run": str(run.out),
        "exported": exported["path"],
        "images": len(names),
        "training_seconds": run.summary["training_seconds"],
    }


def _write_digits(out: Path, seed: int) -> list[str]:
    """Write the images, 8 x 8 pixels each, and truth.csv, unless they are there; returns the file names."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    true = digits.target.astype(np.int64)
    noisy = plant(true, [str(label) for label in range(10)], parse_noise(NOISE), seed)
    names = [f"{label}/{row:04d}.png" for row, label in enumerate(noisy)]
    truth = pd.DataFrame({"file_name": names, "true_label": true}).to_csv(index=False)
    truth_path, images = out / "truth.csv", out / "images"
    if images.is_dir() and truth_path.is_file() and truth_path.read_text(encoding="utf-8") == truth:
        return names
    # The truth first: it marks the folder as a demo. The images appear all at once, or not at all.
    with atomic_path(truth_path) as temporary:
        temporary.write_text(truth, encoding="utf-8")
    for left in (images, out / ".images"):
        shutil.rmtree(left, ignore_errors=True)
    for name, image in zip(names, digits.images, strict=True):
        path = out / ".images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode((image * (255 / 16)).round().astype(np.uint8)))
    (out / ".images").rename(images)
    return names
