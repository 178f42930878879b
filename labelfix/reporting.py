"""Where long work tells how far it is; only the command line knows what that looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Reporter(Protocol):
    """Where a scan tells how far it is."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Some of the `total` units of a stage are done."""

    def message(self, text: str) -> None:
        """A line for the user."""


class Silent:
    """A reporter that says nothing."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""


def tell_epoch(reporter: Reporter, stage: str, epoch: Mapping[str, Any]) -> None:
    """Tell a reporter that has a method `epoch(stage, facts)` what an epoch came to; those of others' may have none.

    Args:
        reporter: of a scan.
        stage: of the progress that the epoch belongs to.
        epoch: JSON-able facts: epoch and epochs (of the training), phase, loss, seconds, and what else was measured.
    """
    tell = getattr(reporter, "epoch", None)
    if tell is not None:
        tell(stage, epoch)
