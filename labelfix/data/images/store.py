"""ImageStore: every image of a manifest decoded once, in parallel, to a memory-mapped uint8 array.

`decoding` holds the one decoder and encoder, `workers` the processes that decode in parallel, `folders` where stores
lie. The workers import these modules, and so they import only NumPy and Pillow at their top.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labelfix.atomic_files import flush, write_json
from labelfix.data.array_file import check_space, map_array, reserve
from labelfix.data.images.decoding import DECODER_VERSION, WHITE, BadImage, decode, encode
from labelfix.data.images.folders import clear, is_ours, locked, place_of_stores
from labelfix.data.images.readable import decoded_warnings, look
from labelfix.data.images.workers import FACTS, decode_all, num_cores
from labelfix.errors import InputError, LabelfixError

if TYPE_CHECKING:
    from labelfix.data.manifest import Manifest
    from labelfix.reporting import Reporter

__all__ = [
    "DECODER_VERSION",
    "BadImage",
    "ImageStore",
    "auto_image_size",
    "decode",
    "decoded",
    "encode",
    "stored_size",
]

_PIXEL = np.dtype(np.uint8)
AUTO_SIZES = (8, 16, 28, 32, 48, 64, 96, 128, 160, 192, 224)


def stored_size(image_size: int) -> int:
    """Side in pixels at which images of `image_size` are stored: 8/7 of it from 96 up, for a crop back."""
    return image_size if image_size < 96 else round(image_size * 8 / 7)


def auto_image_size(manifest: Manifest, largest: int) -> int:
    """The image size that suits the images: their median shorter side, rounded down to one of `AUTO_SIZES`.

    Reads the headers of at most 1,000 evenly spaced rows.

    Args:
        manifest: the rows.
        largest: largest size to choose, in pixels.

    Raises:
        InputError: none of these images can be read.
    """
    sides = look(manifest).sides
    fitting = [size for size in AUTO_SIZES if size <= min(np.median(sides), largest)]
    return fitting[-1] if fitting else AUTO_SIZES[0]


@dataclass(frozen=True, eq=False)
class ImageStore:
    """All images of a manifest, decoded.

    Attributes:
        images: uint8 (N, 3, S, S), a read-only memory map; zeros where a row is not valid.
        valid: bool (N,), whether the image of a row could be decoded.
        errors: one-line reason by row, for the rows that are not valid.
        image_size: the size asked for, in pixels.
        stored_size: S, the side of the stored squares, in pixels.
        white: the value of 16-bit grey that became 255.
        facts: (N,) of `workers.FACTS`: digest of the picture, width and height of the original in pixels; zeros where a
            row is not valid. None where nobody has asked for them.
    """

    images: np.ndarray
    valid: np.ndarray
    errors: dict[int, str]
    image_size: int
    stored_size: int
    white: int = WHITE
    facts: np.ndarray | None = None

    @classmethod
    def open_or_build(
        cls,
        manifest: Manifest,
        image_size: int,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        workers: int | None = None,
        white: int | None = None,
    ) -> ImageStore:
        """Open the decoded images in the cache; decode them first where they are not there.

        Only one process decodes a store at a time; others wait for it and open the result. A build that was
        killed leaves nothing behind once the next one has started.

        Args:
            manifest: the rows.
            image_size: the size that networks see, in pixels.
            on_progress: called with (rows done, rows in all) now and then.
            workers: number of decoding processes; default one per core that this process may use.
            white: the value of 16-bit grey that becomes 255; None for all bits that these images use, at least 8.

        Raises:
            InputError: the size is not positive, or the store would take too much of the disk.
            LabelfixError: the decoding processes cannot be started.
        """
        if image_size < 1:
            raise InputError(f"--image-size {image_size}: give a number of pixels, at least 1")
        folder = place_of_stores() / _key(manifest.image_key, image_size, white)
        if (store := cls._open(folder, manifest.num_rows, image_size)) is not None:
            return store
        with locked(folder):
            if (store := cls._open(folder, manifest.num_rows, image_size)) is not None:
                return store
            _build(folder, manifest, image_size, on_progress, workers, white)
        store = cls._open(folder, manifest.num_rows, image_size)
        if store is None:
            raise LabelfixError(f"the image store {folder} was changed while it was opened; run it again")
        return store

    @classmethod
    def without_images(cls, num_rows: int) -> ImageStore:
        """That of a table without images: every row is valid, and none has a pixel."""
        return cls(np.zeros((num_rows, 3, 0, 0), _PIXEL), np.ones(num_rows, dtype=bool), {}, 0, 0)

    @classmethod
    def find(cls, image_key: str, num_rows: int, image_size: int) -> ImageStore | None:
        """The images in the cache, by the `image_key` of their manifest; None where they are not there."""
        return cls._open(place_of_stores() / _key(image_key, image_size), num_rows, image_size)

    @classmethod
    def _open(cls, folder: Path, num_rows: int, image_size: int) -> ImageStore | None:
        """The store in `folder`; None where it is missing, incomplete, broken or not this user's own."""
        side = stored_size(image_size)
        recorded, pixels, seen = (folder / name for name in ("rows.json", "images.npy", "facts.npy"))
        if not all(is_ours(place, stat.S_ISDIR) for place in (folder.parent, folder)):
            return None
        if not all(is_ours(place, stat.S_ISREG) for place in (recorded, pixels, seen)):
            return None
        try:
            errors, white = _read_rows(recorded, num_rows)
            images = map_array(pixels, _PIXEL, (num_rows, 3, side, side))
            facts = map_array(seen, FACTS, (num_rows,))
        except (OSError, ValueError, RecursionError):
            return None
        valid = np.ones(num_rows, dtype=bool)
        valid[list(errors)] = False
        return cls(images, valid, errors, image_size, side, white, facts)


def decoded(
    manifest: Manifest,
    image_size: int,
    reporter: Reporter,
    *,
    is_trained_on: bool = True,
    white: int | None = None,
) -> ImageStore:
    """The images at the size of a scan, from the cache where they are there; warns of those that cannot be used.

    `white` is the value of 16-bit grey that becomes 255; None for what the images suggest.

    Raises:
        InputError: of those that are trained on, there are no two classes with an image that can be read.
    """
    if not manifest.has_images:
        return ImageStore.without_images(manifest.num_rows)

    def on_progress(done: int, total: int) -> None:
        reporter.progress("decode", done, total)

    store = ImageStore.open_or_build(manifest, image_size, on_progress=on_progress, white=white)
    for warning in decoded_warnings(manifest, store.errors, is_trained_on=is_trained_on):
        reporter.message(f"warning: {warning}")
    return store


def _key(image_key: str, image_size: int, white: int | None = None) -> str:
    scale = "" if white is None else f" {white}"
    return hashlib.sha256(f"{image_key} {image_size} {DECODER_VERSION}{scale}".encode()).hexdigest()


def _read_rows(path: Path, num_rows: int) -> tuple[dict[int, str], int]:
    """Why rows are not valid, by row, and what is white; ValueError where that is not what the file says."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    found = recorded.get("errors") if isinstance(recorded, dict) else None
    if not isinstance(found, dict) or not all(isinstance(reason, str) for reason in found.values()):
        raise ValueError("no errors by row")
    errors = {int(row): reason for row, reason in found.items()}
    if any(not 0 <= row < num_rows for row in errors):
        raise ValueError("errors of rows that are not there")
    white = recorded.get("white")
    if not isinstance(white, int) or not 0 < white <= WHITE:
        raise ValueError("no white")
    return errors, white


def _build(
    folder: Path,
    manifest: Manifest,
    image_size: int,
    on_progress: Callable[[int, int], None] | None,
    workers: int | None,
    white: int | None,
) -> None:
    # Under the lock, so whatever lies here is broken or was left by a build that was killed.
    clear(folder)
    side = stored_size(image_size)
    check_space(
        manifest.num_rows * 3 * side * side,
        folder.parent,
        f"the store of {manifest.num_rows} images of {side} x {side} pixels",
        "take a smaller --image-size",
    )
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}-"))
    try:
        target = temporary / "images.npy"
        reserve(target, _PIXEL, (manifest.num_rows, 3, side, side))
        facts = np.zeros(manifest.num_rows, FACTS)
        errors, white = decode_all(manifest, target, side, on_progress, workers or num_cores(), facts, white)
        errors |= {row: reason for row, reason in manifest.why_none.items() if row in errors}
        np.save(temporary / "facts.npy", facts)
        flush(temporary / "facts.npy")
        recorded = {
            "decoder_version": DECODER_VERSION,
            "image_size": image_size,
            "num_rows": manifest.num_rows,
            "white": white,
        }
        write_json(
            temporary / "rows.json", recorded | {"errors": {str(row): errors[row] for row in sorted(errors)}}
        )
        temporary.rename(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
