"""Options that several commands take: each stands here once, and commands put them in their own order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Option = Callable[[Any], Any]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
quiet = click.option("--quiet", is_flag=True, help="No progress, no messages.")
no_progress = click.option("--no-progress", is_flag=True, help="Messages, but no progress bar.")
rows = click.option("--rows", type=click.IntRange(1), help="Only the first N rows.")
root = click.option(
    "--root", type=click.Path(path_type=Path), help="Where a manifest's relative paths start."
)
image_column = click.option("--image-column", help="Column of the images in a manifest or Parquet file.")


def _set_cache(_context: click.Context, _parameter: click.Parameter, folder: Path | None) -> None:
    """One way to name the cache: the variable, which the processes that decode inherit."""
    if folder is not None:
        os.environ["LABELFIX_CACHE"] = str(folder)


cache_dir = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    callback=_set_cache,
    expose_value=False,
    is_eager=True,
    help="Where decoded images and features are kept.  [default: LABELFIX_CACHE, else the user's cache folder]",
)


def label_column(text: str = "Column of the labels in a manifest or Parquet file.") -> Option:
    """The column of labels; predict needs none."""
    return click.option("--label-column", help=text)


label_lists = (
    click.option(
        "--label-columns",
        metavar="A,B,...",
        help="Several labels a row: columns with a number from 0 to 1 for a class each; names that have commas in"
        """ a JSON list: '["a, b", "c"]'.""",
    ),
    click.option(
        "--label-separator",
        metavar="SIGN",
        help="Several labels a row: what stands between them in the label column, such as ';'; a JSON list of"
        " texts is read too.",
    ),
)


def seed(text: str = "Of everything random.") -> Option:
    """The seed, and what is drawn by it."""
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help=text)


def overwrite(text: str = "Replace an existing file.") -> Option:
    """Leave to replace what is there, and what that is."""
    return click.option("--overwrite", is_flag=True, help=text)


def device(text: str) -> Option:
    """Where to work."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]|mps", help=text
    )


def one_file(*names: str, text: str) -> Option:
    """An option that takes one file: given twice it is refused, as a person's work in the first would be lost."""
    return click.option(
        *names,
        type=click.Path(path_type=Path),
        multiple=True,
        callback=_only_one,
        metavar="FILE",
        help=text,
    )


def files(*names: str, text: str) -> Option:
    """An option that takes files and may be given again."""
    return click.option(
        *names,
        type=click.Path(path_type=Path),
        multiple=True,
        callback=lambda _context, _parameter, found: list(found) or None,
        metavar="FILE",
        help=text,
    )


def _only_one(_context: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> Path | None:
    if len(files) > 1:
        raise click.BadParameter(
            f"given {len(files)} times; put the rows of all files into one, under one header"
        )
    return files[0] if files else None
