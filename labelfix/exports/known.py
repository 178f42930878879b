"""Which files are exports of ours, and still as they were written: the only ones that another export replaces unasked.

A table has no place for a mark. So the cache remembers the SHA-256 of what was written, as the name of an empty file:
an export that was edited since is no longer known, nor is any after the cache was emptied. Both cost an `--overwrite`.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from labelfix.data.cache import EXPORTS, cache_folder, cache_path
from labelfix.errors import InputError


def remember(path: Path) -> None:
    """Note the content of a file that was just written; where the cache cannot be written it stays unknown."""
    with suppress(OSError, InputError):
        folder = cache_folder() / EXPORTS
        folder.mkdir(exist_ok=True)
        (folder / _sha256(path)).touch()


def is_known(path: Path) -> bool:
    """Whether a file holds what an export wrote, byte for byte."""
    try:
        return (cache_path() / EXPORTS / _sha256(path)).is_file()
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
