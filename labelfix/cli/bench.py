"""labelfix bench."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from labelfix.cli.scan import command as scan_command

# As they are in scan.
_AS_IN_SCAN = (
    "label_column", "image_column", "root", "rows", "test", "preset", "epochs", "folds", "batch_size", "backbone",
    "weights", "image_size", "device", "precision",
)  # fmt: skip
_MEANS = {
    "AP": "average_precision",
    "P": "precision",
    "R": "recall",
    "F1": "f1",
    "given": "label_accuracy_given",
    "corrected": "label_accuracy_corrected",
    "changed": "changed",
    "units": "forward_units_per_row",
    "seconds": "seconds",
}
_WHOLE = ("changed", "units", "seconds")
_EPILOG = """\b
Noises:
  clean          the labels of --truth-column
  given          the labels of --label-column
  symmetric:0.4  planted on the true labels, as by `labelfix corrupt --noise`

\b
Example:
  labelfix bench ./images --methods bmm,cross-entropy --noise clean,symmetric:0.4
  labelfix bench noisy.parquet --truth-column true_label --noise given --methods bmm"""


@click.command("bench", epilog=_EPILOG)
@click.argument("source")
@click.option(
    "--methods",
    required=True,
    metavar="NAME[:KEY=VALUE...],...",
    help="What to compare; a key is epochs, folds, preset, batch_size or a setting of the method.",
)
@click.option("--noise", required=True, metavar="NOISE,...", help="Noises, see below.")
@click.option("--seeds", default="0", show_default=True, metavar="N,...", help="Of planted noise and runs.")
@click.option(
    "--truth-column", metavar="NAME", help="Column of the true labels.  [default: the label column]"
)
@click.option(
    "--trusted",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Verified labels, for methods that need some; their rows are left out of every evaluation.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="labelfix-bench",
    show_default=True,
    help="Folder of the bench; an unfinished one goes on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--quiet", is_flag=True, help="No progress, no messages.")
@click.option("--no-progress", is_flag=True, help="Messages, but no progress bar.")
def command(source: str, as_json: bool, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Scan SOURCE with every method, under every noise, with every seed, and compare with the truth.

    The folder gets bench.parquet (a row per noise, method and seed), bench.png and the runs themselves. The
    same command skips what is finished and goes on where it stopped.
    """
    from labelfix.benchmark import bench
    from labelfix.cli.terminal import Terminal, print_json

    with Terminal(quiet=quiet, bar=not no_progress) as terminal:
        result = bench(source, reporter=terminal, **options)
    if as_json:
        print_json(result)
        return
    _print_means(result["rows"])
    click.echo(f"\ntable: {result['table']}")
    if result["plot"] is not None:
        click.echo(f"plot: {result['plot']}")


_of_scan = {option.name: option for option in scan_command.params}
command.params.extend(_of_scan[name] for name in _AS_IN_SCAN)


def _print_means(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("noise", "method", "seeds"):
        table.add_column(name, justify="right" if name == "seeds" else "left", no_wrap=True)
    for name in _MEANS:
        table.add_column(name, justify="right", no_wrap=True)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["noise"], row["method"]].append(row)
    for (noise, method), some in groups.items():
        # Noise may name a file: nothing in it is markup.
        shown = (_shown(name, [row[column] for row in some]) for name, column in _MEANS.items())
        table.add_row(Text(noise), Text(method), str(len(some)), *shown)
    # Wide enough for any row: a narrow terminal, or none, must not cut the numbers off.
    Console(highlight=False, width=1_000).print(table)


def _shown(name: str, values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = sum(known) / len(known)
    return f"{mean:.0f}" if name in _WHOLE else f"{mean:.3f}"
