"""What a person sees on stderr while a scan runs."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import click


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
                TextColumn("{task.description}"),
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
            self._tasks[stage] = self._bar.add_task(stage, total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

    def message(self, text: str) -> None:
        """A line on stderr, above the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)


def print_json(value: object) -> None:
    """Print exactly one JSON object on stdout."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))
