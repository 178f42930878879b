"""The one decoder and the one encoder: pixels are the same wherever an image is read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from labelfix.data.images.png import without_long_blocks

DECODER_VERSION = 2
WHITE = 65_535  # of 16-bit grey
PIXEL_LIMIT = 178_956_970  # half a GiB as RGB
# Their readers keep several copies of a picture, so that fewer pixels fit into the memory of a worker.
_PIXEL_LIMITS = {"WEBP": PIXEL_LIMIT * 3 // 4, "AVIF": PIXEL_LIMIT // 2, "JPEG2000": PIXEL_LIMIT * 3 // 8}
_TILE_PIXELS = 1 << 18
_TOO_LARGE = f"over the limit of {PIXEL_LIMIT} pixels"
# Only these: Pillow knows formats that start other programs (EPS). Naming the last ones through their modules
# loads their readers, which Pillow would otherwise look for in all its modules.
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "PPM",
    WebPImagePlugin.WebPImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
)
HEAD_SIZE = 18  # bytes that tell images of these formats from other files
_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a",
    b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+",
    b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n",
)  # fmt: skip
_PNM = re.compile(rb"P[1-6][ \t\r\n#]")
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_WHITE_IS_ZERO = 0  # the value of the tag of a TIFF that says which end is dark
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes; many a text starts with BM
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_ON_ITS_SIDE = tuple(turn for orientation, turn in _TURNS.items() if orientation > 4)


class BadImage(Exception):  # noqa: N818 (it says what the image is)
    """An image that cannot be decoded; its text is the one-line reason, without paths."""


class Facts(NamedTuple):
    """What decoding sees of an image beside its pixels.

    Attributes:
        digest: 128 bits that two images share where they are the same picture, however their files are written: of the
            same size, and the same to the last bit as they are stored.
        width: of the upright original, in pixels.
        height: the same.
        largest: value of what is 16-bit grey, None for all else.
    """

    digest: bytes
    width: int
    height: int
    largest: int | None


def decode(data: Path | bytes, size: int, white: int = WHITE) -> np.ndarray:
    """Decode one image to its central square of `size` x `size` pixels.

    The first frame of animations; the EXIF orientation applied; palette and CMYK to RGB; transparent pixels
    over white; grey to three equal channels. 16-bit grey is scaled to 8 bit; 32-bit integers count as 16-bit
    grey where they fit, floats as 0..1 or 0..255 where they fit, otherwise their range is stretched.

    Args:
        data: path of a regular file, or the bytes of one.
        size: side in pixels.
        white: the value of 16-bit grey that becomes 255: less where a data set uses fewer bits.

    Returns:
        uint8 (3, size, size).

    Raises:
        BadImage: no image comes out of it; the text says why.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode_quietly(data, size, white)[0]


def encode(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:  # noqa: A002 (Pillow's own name)
    """Encode uint8 (H, W) grey, (3, H, W) RGB or (4, H, W) RGBA pixels as the bytes of an image file.

    The options are Pillow's for the format.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)))
    sink = io.BytesIO()
    picture.save(sink, format, **options)
    return sink.getvalue()


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these 18 bytes is one that the decoder would open."""
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    if head[4:8] == b"ftyp":
        return head[8:12] in (*_AVIF, *_HEIF)
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith(_MAGIC) or _PNM.match(head) is not None


def decode_quietly(data: str | Path | bytes, size: int, white: int = WHITE) -> tuple[np.ndarray, Facts]:
    """`decode`, and what else is seen, without hiding Pillow's warnings, which takes time of its own."""
    with open_picture(data) as picture:
        width, height = picture.size
        try:
            small, turn, largest = _square(picture, size, white)
        except Exception as error:
            raise BadImage(reason_of(error)) from None
    pixels = np.asarray(small)
    width, height = (height, width) if turn in _ON_ITS_SIDE else (width, height)
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16)
    digest.update(f"{width} {height}".encode())
    return pixels.transpose(2, 0, 1), Facts(digest.digest(), width, height, largest)


def white_of(largest: int) -> int:
    """White for 16-bit grey whose values go up to `largest`: all bits that these take, at least 8."""
    return max(255, (1 << largest.bit_length()) - 1)


@contextlib.contextmanager
def open_picture(data: str | Path | bytes) -> Iterator[Image.Image]:
    """The opened image, its header read and checked, its pixels not yet."""
    with io.BytesIO(data) if isinstance(data, bytes) else _regular_file(data) as file:
        if not file.read(1):
            raise BadImage("empty file")
        file.seek(0)
        try:
            picture = Image.open(without_long_blocks(file), formats=_formats(file))
        except UnidentifiedImageError:
            raise BadImage("no image, or of no supported format") from None
        except BadImage:
            raise
        except Image.DecompressionBombError:
            raise BadImage(_TOO_LARGE) from None
        except Exception as error:
            raise BadImage(reason_of(error)) from None
        with picture:
            limit = _PIXEL_LIMITS.get(picture.format or "", PIXEL_LIMIT)
            if picture.width * picture.height > limit:
                raise BadImage(f"over the limit of {limit} pixels")
            yield picture


def _formats(file: BinaryIO) -> tuple[str, ...]:
    """The formats to try: HEIF is read by a package of its own, which registers it with Pillow."""
    head = file.read(12)
    file.seek(0)
    if head[4:8] != b"ftyp" or head[8:] not in _HEIF:
        return FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise BadImage("HEIC: pip install pillow-heif to read it") from None
    register_heif_opener()
    return (*FORMATS, "HEIF")


def _regular_file(path: str | Path) -> BinaryIO:
    try:
        # Without blocking: a pipe would wait for somebody to write into it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BadImage("missing file") from None
    except OSError as error:
        # A socket, or a device that nothing is behind, cannot even be opened.
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise BadImage("no regular file") from None
        raise BadImage(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadImage(f"cannot be read: {error}") from None
    # What was opened is asked, not the path: another file may stand there by now.
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadImage("no regular file")
    return open(handle, "rb")


def _square(
    picture: Image.Image, size: int, white: int
) -> tuple[Image.Image, Image.Transpose | None, int | None]:
    """The central square at `size`, upright, RGB; the turn that made it so; and the largest value of 16-bit grey."""
    if picture.format in ("JPEG", "MPO") and min(picture.size) >= 4 * size:
        # Twice the size leaves the resampling enough to work with.
        picture.draft(None, (2 * size, 2 * size))
    picture, turn, largest = loaded(picture, white)
    width, height = picture.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return upright_rgb(picture, turn), turn, largest


def loaded(
    picture: Image.Image, white: int | None = None
) -> tuple[Image.Image, Image.Transpose | None, int | None]:
    """The pixels in a mode that can be averaged, the turn that its EXIF block asks for, and its largest 16-bit grey.

    Args:
        picture: as it was opened.
        white: the value of 16-bit grey that becomes 255; None for what the picture alone suggests.
    """
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    if picture.mode.startswith(("I", "F")):
        plain, largest = _to_8_bit(picture, white)
        return plain, turn, largest
    return _plain_mode(picture), turn, None


def upright_rgb(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """What `loaded` gave, at its final size: turned, transparent pixels over white, RGB."""
    if picture.mode in ("RGBA", "LA", "RGBa", "La"):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    if "exif" not in picture.info and picture.format in ("JPEG", "WEBP", "GIF", "BMP"):
        return 1
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        return 1


def _plain_mode(picture: Image.Image) -> Image.Image:
    """A mode whose pixels can be averaged."""
    if picture.has_transparency_data and picture.mode not in ("RGBA", "LA", "RGBa", "La"):
        return picture.convert("RGBA")
    if picture.mode in ("P", "1"):
        return picture.convert("RGB" if picture.mode == "P" else "L")
    return picture


def _to_8_bit(picture: Image.Image, white: int | None) -> tuple[Image.Image, int | None]:
    """Wide grey as mode L, a tile at a time: as numbers the whole of it would take 24 times the memory of L."""
    is_float = picture.mode.startswith("F")
    ranges = [(values.min(), values.max()) for _, values in _tiles(picture)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    is_16_bit = not is_float and low >= 0 and high <= WHITE
    if is_16_bit and white is None:
        white = white_of(int(high))
    grey = Image.new("L", picture.size)
    for place, values in _tiles(picture):
        if is_16_bit:
            values = np.minimum(values / (white or WHITE) * 255, 255)
        elif low < 0 or high > 255:
            values = (values - low) / max(high - low, 1e-300) * 255
        elif high <= 1:
            values = values * 255
        grey.paste(Image.fromarray(np.rint(values).astype(np.uint8)), place)
    tags = getattr(picture, "tag_v2", {})
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        grey = grey.point(lambda value: 255 - value)
    return grey, int(high) if is_16_bit else None


def _tiles(picture: Image.Image) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Left upper corners, and the values there as float64 (h, w) without NaN."""
    width, height = picture.size
    across = min(width, _TILE_PIXELS)
    down = _TILE_PIXELS // across
    for top in range(0, height, down):
        for left in range(0, width, across):
            box = (left, top, min(left + across, width), min(top + down, height))
            yield (left, top), np.nan_to_num(np.asarray(picture.crop(box)).astype(np.float64))


def reason_of(error: Exception) -> str:
    """One line that is the same wherever and whenever the image is decoded."""
    if isinstance(error, MemoryError):
        return "takes too much memory to decode"
    lines = str(error).splitlines() or [type(error).__name__]
    text = re.sub(r"<[^<>]*>|0x[0-9a-fA-F]+", "...", lines[0])[:200]
    return text if text.startswith("image file is truncated") else f"undecodable: {text}"
