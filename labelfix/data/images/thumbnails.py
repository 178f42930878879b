"""Thumbnails: whole pictures, small and encoded, for pages and notebooks; the decoder's rules hold for them too."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image

from labelfix.data.images.decoding import BadImage, loaded, open_picture, reason_of, upright_rgb
from labelfix.data.images.workers import Chunk, chunks_of, each_of, num_cores, results_of, worker_pool

# Smaller pictures are shown enlarged, where JPEG's blocks would be all there is to see.
_SMALL_SIDE = 48
# No photograph has so few; drawings, charts and scanned text are sharper as PNG, and often smaller.
_FEW_COLOURS = 256
_JPEG_QUALITY = 82
_CHUNK_IMAGES = 16

Thumbnail = tuple[bytes, str]


def thumbnail(data: str | Path | bytes | np.ndarray, size: int) -> Thumbnail:
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
            pixels, turn, _ = loaded(picture)
            return _encoded(upright_rgb(_fitted(pixels, size), turn))
        except Exception as error:
            raise BadImage(reason_of(error)) from None


def thumbnails(
    images: Iterable[Path | bytes | None], size: int, workers: int | None = None
) -> Iterator[Thumbnail | None]:
    """Yield the thumbnail of every image file in order; None for one that is missing or broken.

    They are made by processes with the limits of the decoder: a file that is slow, huge or kills its process costs
    its own thumbnail only.

    Args:
        images: paths of regular files, or the bytes of one; read a little ahead of what is yielded.
        size: longest side, in pixels.
        workers: number of processes; default one per core that this process may use.

    Raises:
        LabelfixError: the processes cannot be started.
    """
    workers = workers or num_cores()
    chunks = chunks_of(images, _CHUNK_IMAGES)
    # Few images are not worth a process for every core.
    head = list(islice(chunks, workers))
    if not head:
        return
    made: dict[int, Thumbnail | BadImage] = {}
    following = 0
    with worker_pool(len(head)) as pool:
        work = partial(thumbnail_chunk, size=size)
        most_ahead = (2 * len(head) + 1) * _CHUNK_IMAGES
        for first, results in results_of(pool, len(head), chain(head, chunks), work, most_ahead):
            made.update(enumerate(results, first))
            while following in made:
                found = made.pop(following)
                yield None if isinstance(found, BadImage) else found
                following += 1


def thumbnail_chunk(chunk: Chunk, size: int) -> list[Thumbnail | BadImage]:
    """In a worker: make the thumbnails of images, in order, until the time is up."""
    return each_of(chunk, lambda _, image: thumbnail(image, size))


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
    # A new image: what the file holds besides its pixels, such as where it was taken, is nobody's business.
    bare = Image.new("RGB", picture.size)
    bare.paste(picture)
    sink = io.BytesIO()
    bare.save(sink, format, **options)
    return sink.getvalue()
