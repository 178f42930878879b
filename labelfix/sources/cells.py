"""CSV cells that a spreadsheet would run: escaped on the way out, unescaped on the way in."""

from __future__ import annotations

import re

_RUNS = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def escape_cell(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula; plain numbers stay.

    Text that already starts with apostrophes before such a sign gets one more, so that
    `unescape_cell(escape_cell(text)) == text` for every text.
    """
    if _RUNS.match(text) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def unescape_cell(text: str) -> str:
    """Take away the apostrophe that `escape_cell` put; any other text stays as it is."""
    if text.startswith("'") and escape_cell(text[1:]) == text:
        return text[1:]
    return text
