"""What lies in the cache: decoded images and features, how large and how old, and their removal.

Nothing else in that folder is listed or touched: the user may keep other things there. What another process is making
holds a lock, and is left alone; what one has open it keeps until it ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labelfix.data.cache import FEATURES, IMAGES, MANIFEST_PREFIX, cache_errors, cache_path
from labelfix.data.images.folders import is_ours

_STORE = re.compile(r"[0-9a-f]{64}(-.*)?")
_ENCODED = re.compile(r"([0-9a-f]{64})\.(npy|partial|json)")
_DAY = 24 * 3600
# A manifest in work loses its name at once; one that has it for so long was left by a kill.
_LEFT_SECONDS = 3600


@dataclass(frozen=True)
class CacheEntry:
    """Something that labelfix can make again.

    Attributes:
        kind: "images" (decoded at one size), "features" (of one encoder) or "left over" (of a process that was killed).
        name: its key, the name of its file or folder without what follows a dot.
        bytes: that it takes on the disk.
        made: when it was last written, seconds since 1970.
        paths: files and folders that it is made of.
    """

    kind: str
    name: str
    bytes: int
    made: float
    paths: tuple[Path, ...]


def cache_entries() -> list[CacheEntry]:
    """All entries, the largest first; none where there is no cache.

    Raises:
        InputError: the cache cannot be read.
    """
    with cache_errors():
        found = [*_images(), *_features(), *_left_over()]
    return sorted(found, key=lambda entry: (-entry.bytes, entry.name))


def remove_entries(older_than_days: float = 0.0, *, dry_run: bool = False) -> list[CacheEntry]:
    """Remove the entries that were made so many days ago or earlier, but for those that are being made.

    Args:
        older_than_days: 0 for all.
        dry_run: remove nothing.

    Returns:
        Those that were, or with `dry_run` would be, removed.

    Raises:
        InputError: the cache cannot be written.
    """
    end = time.time() - older_than_days * _DAY
    removed = []
    for entry in cache_entries():
        with cache_errors(), _not_in_work(entry) as is_free:
            if entry.made > end or not is_free:
                continue
            for path in () if dry_run else entry.paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(entry)
    return removed


def _images() -> Iterator[CacheEntry]:
    folder = cache_path() / IMAGES
    for path in _ours(folder, stat.S_ISDIR):
        if _STORE.fullmatch(path.name):
            # A name with more after the key is of a build that has not come to its end.
            yield _entry("left over" if "-" in path.name else "images", path.name.partition("-")[0], [path])


def _features() -> Iterator[CacheEntry]:
    by_key: dict[str, list[Path]] = {}
    for path in _ours(cache_path() / FEATURES, stat.S_ISREG):
        if found := _ENCODED.fullmatch(path.name):
            by_key.setdefault(found[1], []).append(path)
    for key, paths in by_key.items():
        is_whole = any(path.suffix == ".npy" for path in paths)
        yield _entry("features" if is_whole else "left over", key, paths)


def _left_over() -> Iterator[CacheEntry]:
    for path in _ours(cache_path(), stat.S_ISREG):
        if path.name.startswith(MANIFEST_PREFIX) and path.stat().st_mtime < time.time() - _LEFT_SECONDS:
            yield _entry("left over", path.name, [path])


def _ours(folder: Path, is_kind: object) -> list[Path]:
    """Files or folders of this user in a folder of the cache, which is no link."""
    if folder != cache_path() and not is_ours(folder, stat.S_ISDIR):
        return []
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if is_ours(path, is_kind)]  # type: ignore[arg-type]


def _entry(kind: str, name: str, paths: list[Path]) -> CacheEntry:
    files = [file for path in paths for file in ([*path.rglob("*")] if path.is_dir() else [path])]
    found = [file.lstat() for file in [*paths, *files]]
    # A reserved file is as large as it will be; on the disk it counts by its blocks.
    taken = sum(status.st_blocks * 512 for status in {status.st_ino: status for status in found}.values())
    return CacheEntry(kind, name, taken, max(status.st_mtime for status in found), tuple(paths))


@contextmanager
def _not_in_work(entry: CacheEntry) -> Iterator[bool]:
    """Whether no process is making it, and holding its lock meanwhile; the lock's file stays for who waits for it."""
    lock = (entry.paths[0].parent / entry.name).with_suffix(".lock")
    if not is_ours(lock, stat.S_ISREG):
        yield True
        return
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
