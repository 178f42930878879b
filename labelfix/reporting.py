"""Where long work tells how far it is; only the command line knows what that looks like."""

from __future__ import annotations

from typing import Protocol


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
