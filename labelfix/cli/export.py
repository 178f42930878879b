"""labelfix export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labelfix.choices import EXPORT_ACTIONS, EXPORT_DEDUPES, EXPORTS, IMAGE_WAYS
from labelfix.cli import options
from labelfix.cli.terminal import say


@click.command(
    "export",
    epilog="\b\nExample:\n  labelfix export runs/first\n"
    "  labelfix export runs/first --to imagefolder --out clean --images hardlink\n"
    "  labelfix export runs/first --decisions decisions.csv --to csv --out labels.csv\n"
    "  labelfix export runs/first --to csv --top 100 --out suspects.csv",
)
@click.argument("corrections")
@click.option(
    "--to",
    type=click.Choice(EXPORTS),
    help="Format. csv, jsonl, parquet: a table, with scores and the source's own columns. hf: a folder for Hugging"
    " Face datasets, or a Parquet file with the images. imagefolder: class folders. labelstudio: tasks with the"
    " corrected labels as predictions, worst first. cleanlab: NumPy arrays. fiftyone: its image classification"
    " dataset.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file, with the extension of its format; an earlier export is replaced. For hf, imagefolder, labelstudio,"
    " cleanlab and fiftyone a new or empty folder.  [default: corrected.EXTENSION or corrected-FORMAT beside the"
    " corrections]",
)
@click.option(
    "--min-score",
    type=float,
    metavar="X",
    help="Only rows with a noise score of at least X; no verified ones.",
)
@click.option("--only-issues", is_flag=True, help="Only flagged rows.")
@click.option(
    "--top",
    type=int,
    metavar="N",
    help="Only the N rows with the highest noise scores, highest first; no verified ones.",
)
@click.option(
    "--action",
    type=click.Choice(EXPORT_ACTIONS),
    default="relabel",
    show_default=True,
    help="drop: leave flagged rows out, before any filter, but for those that were decided on.",
)
@click.option(
    "--dedupe",
    type=click.Choice(EXPORT_DEDUPES),
    help="keep-one: of copies only the first. drop-conflicts: the same, and none whose labels contradict each other.",
)
@options.files(
    "--decisions",
    text="A decisions.csv of labelfix review: what a person decided outranks the method; repeatable, the newest first.",
)
@click.option(
    "--keep-removed",
    is_flag=True,
    help="csv, jsonl, parquet: keep the rows that were decided to be removed, without a label.",
)
@click.option(
    "--source",
    metavar="SOURCE",
    help="Where the images are now, if they have moved; for hf, imagefolder, fiftyone and labelstudio.",
)
@click.option(
    "--images",
    type=click.Choice(IMAGE_WAYS),
    help="How images come into a folder. Links take no space, but whoever edits a linked image edits the original."
    "  [default: copy]",
)
@click.option(
    "--push",
    metavar="REPO",
    help="hf: push the folder to the dataset OWNER/NAME on the Hugging Face hub, with a card that lists what changed.",
)
@click.option(
    "--image-url-prefix",
    metavar="URL",
    help="labelstudio: the address of the folder that file names start from.  [default: Label Studio's local files]",
)
@options.overwrite("Replace a file that no export wrote, or that was changed since.")
@click.option("--dry-run", is_flag=True, help="Count, write nothing.")
@options.cache_dir
@options.as_json
def command(corrections: str, as_json: bool, **options: Any) -> None:
    """Write the corrected labels of CORRECTIONS, a row per valid sample with a given or verified label.

    CORRECTIONS is a corrections file or a run folder; a file name that is not here is looked up in the newest
    finished run under runs/. Without --to: a CSV of file_name and label. Images are written as they are, and
    nothing is ever written into the source.
    """
    from labelfix.cli.terminal import print_json
    from labelfix.exports import export
    from labelfix.results.corrections import find_corrections

    path, note = find_corrections(corrections)
    if note:
        say(note, err=True)
    summary = export(path, **options)
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


def _print_summary(summary: dict[str, Any]) -> None:
    verb = "would be written" if summary["dry_run"] else "written"
    say(f"{summary['path']}: {summary['rows']} rows {verb}, {summary['changed']} with a new label")
    if summary["left_out"]:
        say(f"{summary['left_out']} rows left out")
    if summary.get("pushed"):
        say(f"pushed to {summary['pushed']}")
    if summary.get("missing_images"):
        names = summary["missing_images"]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        say(f"{len(names)} of them are not there any more: {shown}")
    if summary.get("without_probs"):
        say(f"{summary['without_probs']} of them have no given label or no predicted probabilities")
    if summary.get("escaped_cells"):
        say(f"{summary['escaped_cells']} cells escaped by an apostrophe: a spreadsheet would run them")
    if summary.get("renamed_images"):
        say(f"{summary['renamed_images']} images go by another name: theirs was unsafe, or there already")
    if summary.get("renamed_classes"):
        say(f"{summary['renamed_classes']} class folders go by another name: see classes.json")
    if summary.get("out_of_sample") is False:
        say(
            "the probabilities are those of a network trained on these very labels: cleanlab finds more with those of"
            " a scan with --folds"
        )
