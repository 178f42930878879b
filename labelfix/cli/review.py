"""labelfix review."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labelfix.choices import REVIEW_SORTS
from labelfix.cli import options
from labelfix.cli.terminal import say


@click.command(
    "review",
    epilog="\b\nExample:\n  labelfix review runs/first\n"
    "  labelfix review runs/first --sort confusion --limit 500 --out review.html",
)
@click.argument("corrections")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The page; an earlier one is replaced.  [default: review.html beside the corrections]",
)
@click.option(
    "--limit",
    type=int,
    metavar="N",
    help="Show N rows: flagged ones first, then the next highest scores."
    "  [default: the flagged rows, at most 2000; of a run without any the 100 highest scores]",
)
@click.option(
    "--sort",
    type=click.Choice(REVIEW_SORTS),
    default="score",
    show_default=True,
    help="How the page opens: most suspect first, by given class, or the most frequent confusion first.",
)
@click.option(
    "--source", metavar="SOURCE", help="Where the scanned data are now, in case that they have moved."
)
@options.cache_dir
@options.as_json
def command(corrections: str, as_json: bool, **options: Any) -> None:
    """Make a page to review the suspects of CORRECTIONS in a browser: one HTML file, no server.

    CORRECTIONS is a corrections file or a run folder; a file name that is not here is looked up in the newest
    finished run under runs/. The page keeps decisions in the browser and hands them out as decisions.csv.
    """
    from labelfix.cli.terminal import print_json
    from labelfix.results.corrections import find_corrections
    from labelfix.reviews import review

    path, note = find_corrections(corrections)
    if note:
        say(note, err=True)
    summary = review(path, **options)
    if summary["message"]:
        say(summary["message"], err=True)
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


def _print_summary(summary: dict[str, Any]) -> None:
    shown, flagged = summary["shown"] - summary["beside"], summary["flagged"]
    size = f"{summary['bytes'] / 1e6:.1f} MB"
    say(f"{summary['path']}: {summary['shown']} rows to review, {size}; open it in a browser")
    if shown < flagged:
        say(f"{flagged} rows are flagged; --limit {flagged} shows them all")
    elif shown > flagged:
        say(f"{flagged} rows are flagged; the others have the highest scores of the rest")
    if summary["beside"]:
        say(f"{summary['beside']} rows are copies that contradict each other or leak, or outliers")
    if summary["without_picture"] and summary["pictures"] != "none":
        say(f"{summary['without_picture']} rows without a thumbnail: their images cannot be read any more")
