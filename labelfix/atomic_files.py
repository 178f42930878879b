"""Atomic writing: a file is either the old one, or the whole new one, whenever the power goes."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelfix.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_OF_DISKS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)
# How libraries that have errors of their own name the system's.
_NUMBERED = re.compile(r"\(os error (\d+)\)")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    Raises:
        InputError: `path` is a device, FIFO or socket, which a rename would replace.
        OSError: the folder cannot be made or written, or the disk is full, whichever library found out; it names
            `path`, which is then untouched.
    """
    path = Path(path)
    check_regular(path)
    with _named(path):
        yield from _written(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A disk that takes no more: the same error with the path of what was to be written."""
    try:
        yield
    except Exception as error:
        number, of = disk_error(error), getattr(error, "filename", None)
        if number is None or (of is not None and not str(of).startswith(f"{path.parent / f'.{path.name}.'}")):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def disk_error(error: Exception) -> int | None:
    """The number of an error that a disk or its permissions are to blame for; None for every other error."""
    if isinstance(error, OSError):
        return error.errno if error.errno in _OF_DISKS else None
    found = _NUMBERED.search(str(error))
    return int(found[1]) if found and int(found[1]) in _OF_DISKS else None


def _written(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        flush(temporary)
        # mkstemp makes files private to the user; a result has the permissions of any new file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_regular(path: Path) -> None:
    """Refuse what is there and neither a file nor a folder.

    Raises:
        InputError: names the path.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is no regular file; choose another name")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write a small Arrow table as Parquet, atomically."""
    import pyarrow.parquet as pq  # here: decoding workers import this file and stay light

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
