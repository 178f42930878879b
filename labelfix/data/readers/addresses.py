"""Paths that are addresses: of images elsewhere, and of those that Label Studio serves."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]+://")
# Label Studio names local files and uploads so, the latter with eight digits before the name.
_SERVED = re.compile(r"(?:https?://[^/]+)?/data/(?:local-files/\?d=|upload/)(.*)")
_HASH = re.compile(r"[0-9a-f]{8}-")


def is_address(path: str) -> bool:
    """Whether a path is the address of an image somewhere else: https://, s3:// and the like, but not file://."""
    return "://" in path and _ADDRESS.match(path) is not None and not path.startswith("file://")


def is_served(path: str) -> bool:
    """Whether a path is an address of Label Studio for a file of its own."""
    return "/data/" in path and _SERVED.fullmatch(path) is not None


def local_path(address: str, root: Path) -> str:
    """The path below `root` of a file that Label Studio serves: the longest end of its address that leads to one.

    Any other path or address stays as it is.
    """
    found = _SERVED.fullmatch(address)
    if found is None:
        return address
    parts = [part for part in unquote(found[1]).split("/") if part] or [""]
    for names in (parts, [*parts[:-1], _HASH.sub("", parts[-1], count=1)]):
        for start in range(len(names)):
            if os.path.isfile(root.joinpath(*names[start:])):
                return "/".join(names[start:])
    return "/".join(parts)
