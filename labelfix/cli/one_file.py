"""Options that take one file: given twice they are refused, as a person's work in the first file would be lost."""

from __future__ import annotations

from pathlib import Path

import click


def one_file(_context: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> Path | None:
    """Callback of an option with `multiple=True`: its file, None without one.

    Raises:
        click.BadParameter: it was given more than once.
    """
    if len(files) > 1:
        raise click.BadParameter(
            f"given {len(files)} times; put the rows of all files into one, under one header"
        )
    return files[0] if files else None
