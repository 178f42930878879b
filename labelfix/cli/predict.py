"""labelfix predict."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from labelfix.cli.terminal import say


@click.command(
    "predict",
    epilog="\b\nExample:\n  labelfix predict runs/first ./more-images --out predictions.parquet",
)
@click.argument("classifier")
@click.argument("source")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="predictions.parquet",
    show_default=True,
    help="The Parquet file.",
)
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where to compute."
)
@click.option("--rows", type=click.IntRange(1), help="Only the first N rows.")
@click.option("--root", type=click.Path(path_type=Path), help="Where a manifest's relative paths start.")
@click.option("--image-column", help="Column of the images in a manifest or Parquet file.")
@click.option("--label-column", help="Column of the labels, if there are any.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--quiet", is_flag=True, help="No progress, no messages.")
@click.option("--no-progress", is_flag=True, help="Messages, but no progress bar.")
def command(
    classifier: str, source: str, as_json: bool, quiet: bool, no_progress: bool, **options: Any
) -> None:
    """Label the images of SOURCE with CLASSIFIER, the classifier folder of a run or the run folder.

    SOURCE is as for scan; its labels may be missing, and its images may lie in a folder without classes. The
    file has a row per image: predicted_label, confidence, predicted_probs, and error where it cannot be read.
    """
    from labelfix.cli.terminal import Terminal, print_json
    from labelfix.prediction import predict

    with Terminal(quiet=quiet, bar=not no_progress) as terminal:
        found = predict(classifier, source, reporter=terminal, **options)
    if as_json:
        print_json(found)
        return
    say(f"{found['predicted']} images predicted")
    if found["invalid"]:
        say(f"{found['invalid']} invalid images: see the column `error`")
    say(f"predictions: {shlex.quote(found['path'])}")
