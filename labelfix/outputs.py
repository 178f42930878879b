"""The place of an export or a page: what is wrong with it is said in a line, before the work or after."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelfix.errors import InputError
from labelfix.tables import check_regular

_LONGEST = 240  # bytes in a name that leave room for a temporary one, on all common file systems
_NOT_THERE = (
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EROFS,
)


def check_place(out: Path) -> None:
    """Refuse a place where nothing can be made, whatever it would be.

    Raises:
        InputError: a name that is too long, a file among the folders above, or a device, FIFO or socket.
    """
    if len(os.fsencode(out.name)) > _LONGEST:
        raise InputError(f"--out {out}: the name has more than {_LONGEST} bytes; choose a shorter one")
    above = next((folder for folder in out.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"--out {out}: {above} is no folder; choose another place")
    check_regular(out)


@contextmanager
def naming(out: Path) -> Iterator[None]:
    """Say what is wrong with `out` in a line.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"--out {out}: the disk is full; free some space, or choose another place"
            ) from None
        if error.errno in _NOT_THERE or (error.errno == errno.ENOENT and _is_there(error, out)):
            raise InputError(
                f"--out {out} cannot be written ({error.strerror}); choose another place"
            ) from None
        raise


def _is_there(error: OSError, out: Path) -> bool:
    """Whether an error is about something at a place or above it, and not about what is read for it."""
    if not isinstance(error.filename, str):
        return False
    place = out.resolve()
    return Path(error.filename).parent.resolve() in (place, *place.parents)
