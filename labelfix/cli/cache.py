"""labelfix cache."""

from __future__ import annotations

import math
import time
from typing import Any

import click

from labelfix.cli import options
from labelfix.cli.terminal import say


@click.group(
    "cache",
    epilog="\b\nExample:\n  labelfix cache list\n  labelfix cache clear",
)
def command() -> None:
    """See and empty the cache: decoded images and features, which labelfix makes again when it needs them.

    It lies in the folder of --cache-dir, else of LABELFIX_CACHE, else in the user's cache folder.
    """


@command.command(
    "list",
    epilog="\b\nExample:\n  labelfix cache list",
)
@options.cache_dir
@options.as_json
def list_command(as_json: bool) -> None:
    """What is there, the largest first."""
    from labelfix.cli.terminal import print_json, print_table
    from labelfix.data.cache import cache_path
    from labelfix.data.cache_contents import cache_entries

    entries = cache_entries()
    total = sum(entry.bytes for entry in entries)
    if as_json:
        shown = [_fields(entry) for entry in entries]
        print_json({"path": str(cache_path()), "bytes": total, "entries": shown})
        return
    if entries:
        made = [time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made)) for entry in entries]
        rows = [
            (entry.kind, entry.name[:16], _size(entry.bytes), when)
            for entry, when in zip(entries, made, strict=True)
        ]
        print_table(("kind", "key", "size", "made"), rows, left=("kind", "key"))
    say(f"{cache_path()}: {len(entries)} entries, {_size(total)}")


def _days(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number of days.")
    return value


@command.command(
    "clear",
    epilog="\b\nExample:\n  labelfix cache clear --older-than 30 --dry-run",
)
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    callback=_days,
    default=0,
    metavar="DAYS",
    help="Only what was made so long ago.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@options.cache_dir
@options.as_json
def clear_command(older_than: float, dry_run: bool, as_json: bool) -> None:
    """Remove it; what a scan is making at this moment stays, and so does every file that is not labelfix's."""
    from labelfix.cli.terminal import print_json
    from labelfix.data.cache import cache_path
    from labelfix.data.cache_contents import remove_entries

    removed = remove_entries(older_than, dry_run=dry_run)
    total = sum(entry.bytes for entry in removed)
    if as_json:
        shown = [_fields(entry) for entry in removed]
        print_json({"path": str(cache_path()), "bytes": total, "dry_run": dry_run, "removed": shown})
        return
    verb = "would be removed" if dry_run else "removed"
    say(f"{cache_path()}: {len(removed)} entries {verb}, {_size(total)}")


def _fields(entry: Any) -> dict[str, Any]:
    return {"kind": entry.kind, "key": entry.name, "bytes": entry.bytes, "made": entry.made}


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"
