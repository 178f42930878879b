"""Text of strangers as Markdown that shows it as it is."""

from __future__ import annotations

import re
from typing import Any

# Whatever begins something in Markdown, in a table of it, or a link by its mere looks.
_MARKS = re.compile(r"([\\`*_{}\[\]()<>#+!|&~$:@/^.])")


class Ready(str):
    """Text that goes into a card as it is."""


def markdown(value: Any) -> Any:
    """Text as Markdown that shows it as it is, on one line; what is no text, or ready, stays."""
    if isinstance(value, Ready) or not isinstance(value, str):
        return value
    line = "".join(char if char.isprintable() else " " for char in value)
    return _MARKS.sub(r"\\\1", " ".join(line.split()))
