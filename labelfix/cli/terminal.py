r"""The door to the terminal: all that a person sees passes here, and nothing in the data can steer the terminal.

Names of files and classes are other people's text. Control characters in them are shown, as `\x1b`, and so is what
breaks a line or turns the direction of writing.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import click

# C0, DEL, C1; marks and overrides of direction, separators of lines; halves of characters, which no stream can write.
_STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LOG_SECONDS = 5.0


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


def say_copies(count: int) -> None:
    """Why rows that have a copy do not count in a comparison with the truth; nothing where there are none."""
    if count:
        say(f"{count} rows left out: they have a copy, which gives away whose label is wrong")


class Terminal:
    """A reporter with a progress bar and an ETA; no bar where stderr is no terminal.

    Args:
        quiet: say nothing at all.
        bar: whether to draw a bar.
        log: "text": a line an epoch besides; "json": that, messages and progress as JSON objects, one a line; None.
    """

    def __init__(self, *, quiet: bool, bar: bool, log: str | None = None) -> None:
        self._quiet = quiet
        self._log = log
        self._logged: dict[str, float] = {}
        self._tasks: dict[str, int] = {}
        self._bar = None
        if bar and log != "json" and not quiet and sys.stderr.isatty():
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
        if self._log == "json" and self._is_due(stage, done, total):
            self._write("progress", stage=stage, done=done, total=total)
        if self._bar is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(shown(stage), total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

    def message(self, text: str) -> None:
        """A line on stderr, above the bar."""
        if self._quiet:
            return
        if self._log == "json":
            warned = text.removeprefix("warning: ")
            self._write("message", level="info" if warned == text else "warning", message=warned)
            return
        if self._bar is not None:
            line = shown(text)
            self._bar.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            say(text, err=True)

    def epoch(self, stage: str, facts: Mapping[str, Any]) -> None:
        """A line on what an epoch came to, where a log is wanted."""
        if self._log == "json":
            self._write("epoch", stage=stage, **facts)
        elif self._log == "text":
            losses = [f"{name[5:]} {value:.4g}" for name, value in facts.items() if name.startswith("loss_")]
            rest = ", ".join([*losses, f"{facts['seconds']:.1f} s"])
            self.message(f"{stage}: epoch {facts['epoch']} of {facts['epochs']} ({facts['phase']}): {rest}")

    def _is_due(self, stage: str, done: int, total: int) -> bool:
        """Whether a stage begins, ends, or was last logged some seconds ago."""
        now = time.monotonic()
        if done < total and now < self._logged.get(stage, -_LOG_SECONDS) + _LOG_SECONDS:
            return False
        self._logged[stage] = now
        return True

    def _write(self, event: str, **facts: Any) -> None:
        if not self._quiet:
            say_json({"time": round(time.time(), 3), "event": event, **facts}, err=True)


def print_json(value: object) -> None:
    """Print exactly one JSON object on stdout."""
    say_json(value)


def say_json(value: object, *, err: bool = False) -> None:
    """Print a JSON object in one line on stdout, or on stderr."""
    import json

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    click.echo(_STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text), err=err)
