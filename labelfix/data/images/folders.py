"""The folders of stores in the cache: whose they are, who may build one, and how what is broken goes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labelfix.errors import InputError


def is_ours(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether a path is a file (`stat.S_ISREG`) or folder (`stat.S_ISDIR`) of this user; a link is neither."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return is_kind(status.st_mode) and status.st_uid == os.geteuid()


def place_of_stores() -> Path:
    """The folder in the cache that holds the stores; it need not be there.

    Raises:
        InputError: there is no cache.
    """
    from labelfix.data.cache import IMAGES, cache_folder

    return cache_folder() / IMAGES


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a store, a file beside it; the kernel drops it when this process dies.

    Raises:
        InputError: the folder of all stores, or the lock, cannot be made or is not this user's own.
    """
    _make_own(folder.parent)
    path = folder.with_suffix(".lock")
    # Whatever lies there is neither followed nor emptied, and a pipe does not hold us up.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise _in_the_way(path, error.strerror) from None
    try:
        if not is_ours(path, stat.S_ISREG):
            raise _in_the_way(path, "not a file of yours")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Remove what lies where a store is to be, and what killed builds of it have left; under its lock.

    A link goes, and never what it leads to. What belongs to somebody else is moved aside.

    Raises:
        InputError: it cannot be removed.
    """
    from labelfix.data.cache import cache_errors

    with cache_errors():
        for leftover in folder.parent.glob(f"{folder.name}-*"):
            if is_ours(leftover, stat.S_ISDIR):
                _remove(leftover)
        if not os.path.lexists(folder):
            return
        if folder.lstat().st_uid == os.geteuid():
            _remove(folder)
        else:
            folder.rename(folder.with_name(f"{folder.name}.foreign-{time.time_ns()}"))


def _make_own(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _in_the_way(folder, error.strerror) from None
    if not is_ours(folder, stat.S_ISDIR):
        raise _in_the_way(folder, "not a folder of yours")
    mode = stat.S_IMODE(folder.lstat().st_mode)
    if mode & 0o022:
        # Others could put one store in the place of another. A disk without permissions keeps those it has.
        with contextlib.suppress(PermissionError):
            folder.chmod(mode & ~0o022)


def _in_the_way(path: Path, reason: str | None) -> InputError:
    return InputError(f"{path} cannot be used ({reason}); remove it, or set LABELFIX_CACHE to another folder")


def _remove(path: Path) -> None:
    """Remove what is ours: a folder with all that is in it, or a file or link."""
    if stat.S_ISDIR(path.lstat().st_mode):
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink()
