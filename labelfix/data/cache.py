"""The cache: where decoded images and manifests in work lie, private to the user and never inside a source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from labelfix.errors import InputError
from labelfix.output_paths import holding

IMAGES = "images"
EXPORTS = "exports"
FEATURES = "features"
MANIFEST_PREFIX = "manifest-"


def cache_path() -> Path:
    """Where the cache is to be: the folder in LABELFIX_CACHE, else `labelfix` in the user's cache folder."""
    return Path(os.environ.get("LABELFIX_CACHE") or platformdirs.user_cache_dir("labelfix")).absolute()


def cache_folder() -> Path:
    """The cache, made if missing.

    Nobody else may look into it, unless the user has other things there.

    Raises:
        InputError: it cannot be made, or belongs to somebody else.
    """
    given = os.environ.get("LABELFIX_CACHE")
    folder = cache_path()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        owners = {found.st_uid, folder.lstat().st_uid}
        names = os.listdir(folder)
        # An empty folder that the user names may be meant for others too.
        is_own = not given or (bool(names) and all(map(_is_of_the_cache, names)))
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be made ({error.strerror}); set LABELFIX_CACHE to another"
        ) from None
    if owners != {os.geteuid()}:
        raise InputError(
            f"the cache folder {folder} is, or leads to, somebody else's, who could put other images there; set"
            " LABELFIX_CACHE to a folder of your own"
        )
    if is_own and found.st_mode & 0o077:
        # A disk without permissions keeps those that it was mounted with.
        with contextlib.suppress(OSError):
            folder.chmod(0o700)
    return folder


def _is_of_the_cache(name: str) -> bool:
    """Whether something in the cache folder is called as what labelfix puts there."""
    return name in (IMAGES, EXPORTS, FEATURES) or name.startswith(MANIFEST_PREFIX)


@contextmanager
def cache_errors() -> Iterator[None]:
    """Blame the cache for what goes wrong inside, and for nothing else: a source has errors of its own.

    Raises:
        InputError: the cache cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the cache folder {cache_folder()} cannot be written ({error}); set LABELFIX_CACHE to another"
        ) from None


def check_cache(places: Iterable[Path]) -> None:
    """Refuse a cache inside a source, where nothing is ever written; it is not made for that.

    Args:
        places: of the source, see `labelfix.output_paths.source_places`.

    Raises:
        InputError: it lies there.
    """
    place = holding(cache_path(), places)
    if place is not None:
        raise InputError(
            f"the cache folder {cache_path()} lies in the source {place}, where nothing is ever written; set"
            " LABELFIX_CACHE to another"
        )
