"""Thumbnails: whole pictures, small and encoded, for pages and notebooks; the decoder's rules hold for them too."""

from __future__ import annotations

import io
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from labelfix.store.decoding import BadImage, loaded, open_picture, reason_of, upright_rgb
from labelfix.store.workers import num_cores

# Smaller pictures are shown enlarged, where JPEG's blocks would be all there is to see.
_SMALL_SIDE = 48
# No photograph has so few; drawings, charts and scanned text are sharper as PNG, and often smaller.
_FEW_COLOURS = 256
_JPEG_QUALITY = 82
_AHEAD_PER_CORE = 16

Thumbnail = tuple[bytes, str]


def thumbnail(data: Path | bytes | np.ndarray, size: int) -> Thumbnail:
    """Make the thumbnail of one image: all of it, upright, never enlarged.

    Args:
        data: path of a regular file, the bytes of one, or pixels, uint8 (3, H, W).
        size: longest side, in pixels.

    Returns:
        The bytes of an image file, and its MIME type: PNG where no side is longer than 48 pixels or where that is the
        smaller file of a picture of few colours, else JPEG.

    Raises:
        BadImage: no image comes out of it; the text says why.
    """
    if isinstance(data, np.ndarray):
        return _encoded(_fitted(Image.fromarray(np.ascontiguousarray(data.transpose(1, 2, 0))), size))
    with open_picture(data) as picture:
        try:
            if picture.format in ("JPEG", "MPO"):
                # Twice the size leaves the resampling enough to work with.
                width, height = _fitting(picture.size, size)
                picture.draft(None, (2 * width, 2 * height))
            pixels, turn = loaded(picture)
            return _encoded(upright_rgb(_fitted(pixels, size), turn))
        except Exception as error:
            raise BadImage(reason_of(error)) from None


def thumbnails(
    images: Iterable[Path | bytes | np.ndarray | None], size: int, workers: int | None = None
) -> Iterator[Thumbnail | None]:
    """Yield the thumbnail of every image in order, made by threads; None for one that is missing or broken.

    Args:
        images: as `thumbnail` takes them; read a little ahead of what is yielded.
        size: longest side, in pixels.
        workers: number of threads; default one per core that this process may use.
    """
    workers = workers or num_cores()
    waiting: deque[Future[Thumbnail | None]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # of Pillow, about odd files
        for image in images:
            waiting.append(pool.submit(_thumbnail_or_none, image, size))
            if len(waiting) >= _AHEAD_PER_CORE * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _thumbnail_or_none(image: Path | bytes | np.ndarray | None, size: int) -> Thumbnail | None:
    try:
        return None if image is None else thumbnail(image, size)
    except BadImage:
        return None


def _fitting(sides: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height at which a picture is `size` on its longer side, or as they are where they are no longer."""
    longest = max(sides)
    if longest <= size:
        return sides
    width, height = (max(1, round(side * size / longest)) for side in sides)
    return width, height


def _fitted(picture: Image.Image, size: int) -> Image.Image:
    sides = _fitting(picture.size, size)
    if sides == picture.size:
        return picture
    # Half the work of the decoder's bicubic filter, and made for smaller pictures.
    return picture.resize(sides, Image.Resampling.HAMMING, reducing_gap=3)


def _encoded(picture: Image.Image) -> Thumbnail:
    if max(picture.size) <= _SMALL_SIDE:
        return _saved(picture, "PNG"), "image/png"
    photograph = _saved(picture, "JPEG", quality=_JPEG_QUALITY)
    if picture.getcolors(_FEW_COLOURS) is not None:
        drawing = _saved(picture, "PNG")
        if len(drawing) <= len(photograph):
            return drawing, "image/png"
    return photograph, "image/jpeg"


def _saved(picture: Image.Image, format: str, **options: int) -> bytes:  # noqa: A002 (Pillow's own name)
    # A new image: what the file said besides its pixels, such as where it was taken, is nobody's business.
    bare = Image.new("RGB", picture.size)
    bare.paste(picture)
    sink = io.BytesIO()
    bare.save(sink, format, **options)
    return sink.getvalue()
