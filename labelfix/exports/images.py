"""Original images on their way into an export: their bytes as they are, never decoded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labelfix.cache import cache_errors, cache_folder
from labelfix.errors import InputError
from labelfix.manifest import Manifest
from labelfix.sources.columns import extension_of
from labelfix.sources.folders import EXTENSIONS

WAYS = ("copy", "hardlink", "symlink")
_HEAD = 12  # bytes that tell the kinds of images apart

Original = Path | bytes


def originals(manifest: Manifest | None, rows: np.ndarray) -> Iterator[Original]:
    """Yield the image files of some rows (n,) int64, in any order: where they lie, or their bytes.

    A source that holds images is read from front to back; what is asked for in another order waits in a file in the
    cache, so that no more than a batch of its images is in memory.

    Raises:
        InputError: the source has no image for a row, or the cache cannot be written.
    """
    assert manifest is not None
    order = np.argsort(rows)
    found = _present(manifest, rows[order])
    if (order[1:] > order[:-1]).all():
        yield from found
        return
    with cache_errors(), tempfile.TemporaryFile(dir=cache_folder()) as spool:
        places: list[Path | tuple[int, int]] = [(0, 0)] * len(rows)
        for place, image in zip(order, found, strict=True):
            if isinstance(image, bytes):
                places[place] = (spool.tell(), spool.write(image))
            else:
                places[place] = image
        for spooled in places:
            if isinstance(spooled, tuple):
                spool.seek(spooled[0])
                yield spool.read(spooled[1])
            else:
                yield spooled


def read_original(image: Original) -> bytes:
    """The bytes of an image file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return image if isinstance(image, bytes) else image.read_bytes()
    except OSError as error:
        raise _unreadable(image, error) from None


def write_original(image: Original, path: Path, way: str) -> None:
    """Write an image file to a path that is not there yet; bytes are written, whatever the way.

    Args:
        image: the original.
        path: to write.
        way: copy, hardlink or symlink.

    Raises:
        InputError: it cannot be read, or not be linked to.
    """
    if isinstance(image, Path) and way == "symlink":
        path.symlink_to(image)
    elif isinstance(image, Path) and way == "hardlink":
        _link(image, path)
    else:
        path.write_bytes(read_original(image))


def extension(image: Original, file_name: str) -> str:
    """The extension of an image file: the one in its name, else what its first bytes say; "" where they say nothing."""
    ending = os.path.splitext(file_name)[1].lower()
    if ending in EXTENSIONS:
        return ending
    if isinstance(image, bytes):
        head = image[:_HEAD]
    else:
        try:
            with image.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            raise _unreadable(image, error) from None
    found = extension_of(head)
    return "" if found == "bin" else f".{found}"


def _present(manifest: Manifest, rows: np.ndarray) -> Iterator[Original]:
    for row, image in zip(rows, manifest.sample_images(rows), strict=True):
        if image is None:
            raise InputError(f"{manifest.source}: row {row} has no image any more; scan it again")
        yield image


def _link(image: Path, path: Path) -> None:
    try:
        # A link to a link would be one that breaks with it.
        os.link(os.path.realpath(image), path)
    except OSError as error:
        raise InputError(
            f"--images hardlink: {image} cannot be linked to from {path.parent} ({error.strerror}); use --images"
            " copy or symlink"
        ) from None


def _unreadable(image: Original, error: OSError) -> InputError:
    return InputError(f"{image!s} cannot be read ({error.strerror}); mend it, or scan again to leave it out")
