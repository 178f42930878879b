"""The cache: where decoded images and manifests in work lie, never inside a source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from labelfix.errors import InputError
from labelfix.output_paths import holding


def cache_path() -> Path:
    """Where the cache is to be: the folder in LABELFIX_CACHE, else `labelfix` in the user's cache folder."""
    return Path(os.environ.get("LABELFIX_CACHE") or platformdirs.user_cache_dir("labelfix")).absolute()


def cache_folder() -> Path:
    """The cache, made if missing.

    Raises:
        InputError: it cannot be made.
    """
    folder = cache_path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be made ({error.strerror}); set LABELFIX_CACHE to another"
        ) from None
    return folder


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
