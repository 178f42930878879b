"""demo(): every step on scikit-learn's 1,797 real handwritten digits, 20 % of them with a wrong label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelfix.demo.digits import noisy_digits
from labelfix.demo.folder import DemoFolder
from labelfix.evaluation import evaluate
from labelfix.exports import export
from labelfix.pipeline import scan
from labelfix.reporting import Reporter

__all__ = ["demo"]


def demo(
    out: str | Path = "labelfix-demo",
    *,
    seed: int = 0,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the digits as class folders, scan them with joint, evaluate the findings, export the labels.

    `out` gets `images/<noisy label>/<number>.png`, `truth.csv`, the run folder `run/`, `corrected.csv` and the mark
    `.labelfix-demo.json`, which says that all this may be replaced.

    Args:
        out: folder of the demo, new or empty, or one of an earlier demo.
        seed: of the noise and of the scan.
        overwrite: replace the demo in `out`, finished or of another seed.
        reporter: gets progress and messages.

    Returns:
        JSON-able: what `evaluate` found, with `out`, `run`, `exported` and `training_seconds`.

    Raises:
        InputError: `out` holds something else, a link among it, or such a demo without `overwrite`.
    """
    folder = DemoFolder(Path(out))
    digits = noisy_digits(seed)
    folder.write(digits, overwrite=overwrite)
    options = {"method": "joint", "encoder": "none", "seed": seed, "overwrite": overwrite}
    run = scan(folder.images, out=folder.run, reporter=reporter, **options)
    truth = evaluate(run.corrections, truth=folder.truth)
    exported = export(run.corrections, out=folder.corrected)
    return {
        **truth,
        "out": str(out),
        "run": str(run.out),
        "exported": exported["path"],
        "images": len(digits.names),
        "training_seconds": run.summary["training_seconds"],
    }
