r"""The door to the terminal: all that a person sees passes here, and nothing in the data can steer the terminal.

Names of files and classes are other people's text. Control characters in them are shown, as `\x1b`, and so is what
breaks a line or turns the direction of writing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import click

# C0, DEL, C1; marks and overrides of direction, separators of lines; halves of characters, which no stream can write.
_STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: object) -> str:
    """A text as one line that cannot steer a terminal."""
    return _STEERS.sub(lambda found: ascii(found[0])[1:-1], str(text))


def say(*lines: object, err: bool = False) -> None:
    """Print lines on stdout, or on stderr."""
    for line in lines:
        click.echo(shown(line), err=err)


def print_table(
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    left: Sequence[str] = (),
    title: str | None = None,
    has_header: bool = True,
) -> None:
    """Print a table on stdout; columns are flush right but for those named in `left`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=has_header, title=title, title_justify="left")
    for name in names:
        table.add_column(Text(shown(name)), justify="left" if name in left else "right", no_wrap=True)
    for row in rows:
        # Nothing in a cell is markup.
        table.add_row(*(Text(shown(cell)) for cell in row))
    # Wide enough for any row: a narrow terminal, or none, must not cut the numbers off.
    Console(highlight=False, width=1_000).print(table)


class Terminal:
    """A reporter with a progress bar and an ETA; no bar where stderr is no terminal.

    Args:
        quiet: say nothing at all.
        bar: whether to draw a bar.
    """

    def __init__(self, *, quiet: bool, bar: bool) -> None:
        self._quiet = quiet
        self._tasks: dict[str, int] = {}
        self._bar = None
        if bar and not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing and leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage, which appears with its first call."""
        if self._bar is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(shown(stage), total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

    def message(self, text: str) -> None:
        """A line on stderr, above the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            line = shown(text)
            self._bar.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            say(text, err=True)


def print_json(value: object) -> None:
    """Print exactly one JSON object on stdout."""
    import json

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    click.echo(_STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
