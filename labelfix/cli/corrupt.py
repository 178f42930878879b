"""labelfix corrupt."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from labelfix.cli import options
from labelfix.cli.terminal import print_table, say

_LARGEST_MATRIX = 12
_EPILOG = """\b
For several labels a row:
  dropped:0.2,added:0.05   20 % of the labels are taken away, 5 % of the
                           classes that rows lack are given to them
  softened:0.3             30 % of what is said of classes becomes a confidence

\b
Kinds of noise:
  symmetric:0.4            40 % of the rows get any label, also their own
  symmetric-exclusive:0.4  40 % of the rows get one of the other labels
  pair:0.3                 30 % of each class become the next class
  asymmetric:0.4           40 % of five CIFAR-10 classes become similar ones
  simplex:0.3              30 % of each class become other classes, in shares
                           that are drawn once (NNAQC)
  confusion:matrix.csv     what a matrix says: class names as header and first
                           column; rows, the true classes, sum to 1
  symmetric:rates.csv      a rate for each class: columns class and rate (also
                           symmetric-exclusive and pair)
  semantic:0.2             a network trained on 20 % of each class relabels all
                           other rows (takes a training); another network is
                           named as in semantic:0.2:vgg13_bn
  open-set:0.3             30 % of the images become ones of --open-set; their
                           rows keep their label and have no true one

Each row is hit with that probability, but for open-set and semantic noise, and
for several labels a row. With :exact behind it, as in symmetric:0.4:exact, or
with --exact, so many rows are hit.

\b
Example:
  labelfix corrupt ./images --noise symmetric:0.4 --out noisy.parquet"""


@click.command("corrupt", epilog=_EPILOG)
@click.argument("source")
@click.option(
    "--noise",
    required=True,
    metavar="KIND:RATE|KIND:FILE",
    help="One of the kinds below, with a rate from 0 to 1 or a CSV file.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Hit exactly so many rows, instead of each with that probability.",
)
@click.option(
    "--open-set",
    metavar="SOURCE",
    help="Where the images of open-set noise come from; with or without labels.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default="noisy.parquet", show_default=True, help="The file."
)
@options.seed("Of the draw.")
@options.rows
@options.root
@options.image_column
@options.label_column()
@options.label_lists[0]
@options.label_lists[1]
@options.overwrite()
@options.cache_dir
@options.as_json
@options.quiet
@options.no_progress
def command(source: str, as_json: bool, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Plant label noise in SOURCE and write it, with the truth, as a Parquet file that `labelfix scan` reads.

    The file has the image path or bytes, label (noisy), true_label, is_corrupted and the source's own
    columns. Rows of a test split keep their labels.
    """
    from labelfix.cli.terminal import Terminal, print_json
    from labelfix.noise.corruption import corrupt

    with Terminal(quiet=quiet, bar=not no_progress) as terminal:
        result = corrupt(source, reporter=terminal, **options)
        for warning in result["warnings"]:
            terminal.message(f"warning: {warning}")
    if as_json:
        print_json(result)
    else:
        _print_result(result)


def _print_result(result: dict[str, Any]) -> None:
    if "dropped" in result:
        _print_several(result)
        return
    tested = result["test_rows"]
    say(
        f"{result['path']}: {result['corrupted']} of {result['labelled'] - tested} labels wrong"
        f" ({result['realised_rate']:.1%}), {result['rows']} rows"
        + (f"; {tested} labels of a test split stay right" if tested else "")
    )
    if len(result["class_names"]) <= _LARGEST_MATRIX:
        _print_matrix(result["class_names"], result["transition_matrix"])
    path = shlex.quote(result["path"])
    say("", "next:", f"  labelfix scan {path} --method bmm")


def _print_several(result: dict[str, Any]) -> None:
    from labelfix.data.readers.several_labels import columns_text

    tested = result["test_rows"]
    say(
        f"{result['path']}: {result['dropped']} labels dropped and {result['added']} added, in {result['corrupted']} of"
        f" {result['labelled'] - tested} rows ({result['realised_rate']:.1%})"
        + (f"; {tested} rows of a test split stay right" if tested else "")
    )
    columns = result["label_columns"]
    more = "" if columns is None else f" --label-columns {shlex.quote(columns_text(columns))}"
    say("", "next:", f"  labelfix scan {shlex.quote(result['path'])} --method pencil{more}")


def _print_matrix(names: list[str], matrix: list[list[float]]) -> None:
    rows = [
        [name, *(f"{share:.2f}" if share else "." for share in row)]
        for name, row in zip(names, matrix, strict=True)
    ]
    print_table(["true \\ label", *names], rows, left=("true \\ label",))
