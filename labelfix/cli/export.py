"""labelfix export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

# The registry itself would import pyarrow; a test keeps the two equal.
TARGETS = ("csv", "jsonl", "parquet")


@click.command(
    "export",
    epilog="\b\nExample:\n  labelfix export runs/first\n"
    "  labelfix export runs/first --to csv --top 100 --out suspects.csv",
)
@click.argument("corrections")
@click.option("--to", type=click.Choice(TARGETS), help="Format, with scores and the source's own columns.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file; an earlier export is replaced.  [default: corrected.EXTENSION beside the corrections]",
)
@click.option("--min-score", type=float, metavar="X", help="Only rows with a noise score of at least X.")
@click.option("--only-issues", is_flag=True, help="Only flagged rows.")
@click.option(
    "--top", type=int, metavar="N", help="Only the N rows with the highest noise scores, highest first."
)
@click.option(
    "--action",
    type=click.Choice(["relabel", "drop"]),
    default="relabel",
    show_default=True,
    help="drop: leave flagged rows out, before any filter.",
)
@click.option("--dry-run", is_flag=True, help="Count, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(corrections: str, as_json: bool, **options: Any) -> None:
    """Write the corrected labels of CORRECTIONS, a row per valid labelled sample.

    CORRECTIONS is a corrections file or a run folder; a file name that is not here is looked up in the newest
    finished run under runs/. Without --to: a CSV of file_name and label.
    """
    from labelfix.cli.terminal import print_json
    from labelfix.corrections import find_corrections
    from labelfix.exports import export

    path, note = find_corrections(corrections)
    if note:
        click.echo(note, err=True)
    summary = export(path, **options)
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


def _print_summary(summary: dict[str, Any]) -> None:
    verb = "would be written" if summary["dry_run"] else "written"
    click.echo(f"{summary['path']}: {summary['rows']} rows {verb}, {summary['changed']} with a new label")
    if summary["left_out"]:
        click.echo(f"{summary['left_out']} rows left out")
    if summary.get("escaped_cells"):
        click.echo(f"{summary['escaped_cells']} cells escaped by an apostrophe: a spreadsheet would run them")
