"""labelfix predict."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from labelfix.cli import options
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
@options.device("Where to compute.")
@options.rows
@options.root
@options.image_column
@options.label_column("Column of the labels, if there are any.")
@options.label_lists[0]
@options.label_lists[1]
@options.overwrite()
@options.cache_dir
@options.as_json
@options.quiet
@options.no_progress
def command(
    classifier: str, source: str, as_json: bool, quiet: bool, no_progress: bool, **options: Any
) -> None:
    """Label the images of SOURCE with CLASSIFIER, the classifier folder of a run or the run folder.

    SOURCE is as for scan; its labels may be missing, and of a folder every image is predicted, whatever its folders
    are. The file has a row per image: predicted_label, confidence, predicted_probs, and error where it cannot be read.
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
