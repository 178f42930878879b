"""CSV cells that a spreadsheet would run: escaped on the way out, unescaped on the way in.

Which sign separates cells depends on the spreadsheet's locale: where that is a semicolon or a tab, a quote in the
middle of a line quotes nothing, and `x.png,"a;=1+1;b"` has the cell `=1+1`. So quotes alone keep nothing from running:
a formula sign gets an apostrophe at the start of a text, and after whatever could begin a cell or a line inside it.
"""

from __future__ import annotations

import re

SEPARATORS = ";\t\r\n"
# The wide ones begin formulas in East Asian locales.
_SIGN = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
_STARTS = re.compile(f"'*(?:{_SIGN}|[\t\r\n])")
INSIDE = f"([{SEPARATORS}]\"*)('*{_SIGN})"
_ESCAPED_INSIDE = re.compile(f"([{SEPARATORS}]\"*)'('*{_SIGN})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def escape_cell(text: str, *, is_first: bool = False) -> str:
    """Put an apostrophe before what a spreadsheet of any locale would run as a formula; plain numbers stay.

    What already has apostrophes before such a sign gets one more, so that
    `unescape_cell(escape_cell(text)) == text` for every text.

    Args:
        text: of the cell.
        is_first: whether it begins a line: there a number is escaped too, which `-1,2+A1` would go on from.
    """
    runs = _STARTS.match(text) and (is_first or not _NUMBER.fullmatch(text))
    return ("'" if runs else "") + re.sub(INSIDE, r"\1'\2", text)


def unescape_cell(text: str) -> str:
    """Take away the apostrophes that `escape_cell` put; any other text stays as it is."""
    inside = _ESCAPED_INSIDE.sub(r"\1\2", text)
    return inside[1:] if inside.startswith("'") and _STARTS.match(inside[1:]) else inside
