"""A seeded generator of image files that nobody should trust: damaged, lying, huge, odd, or no images at all."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pictures import png_header, saved
from PIL import Image, ImageCms, TiffImagePlugin

from labelfix.data.images.decoding import encode

Random = np.random.Generator
# Writers by extension; the options keep them quick.
FORMATS = {
    "jpg": "JPEG", "png": "PNG", "bmp": "BMP", "gif": "GIF", "webp": "WEBP", "tif": "TIFF", "ppm": "PPM",
    "jp2": "JPEG2000", "avif": "AVIF",
}  # fmt: skip
_ORIENTATION = 0x0112
_MODES = {
    "png": ("1", "L", "LA", "P", "I;16", "RGB", "RGBA"), "tif": ("1", "L", "P", "I;16", "I", "F", "RGBA", "LAB"),
    "jpg": ("L", "CMYK", "RGB"), "webp": ("RGB", "RGBA"), "gif": ("P", "L"), "bmp": ("1", "L", "P", "RGB"),
}  # fmt: skip
_STRANGERS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n",
    b"8BPS\0\1" + bytes(40), b"\0\0\1\0\1\0" + bytes(40), b"PK\3\4" + bytes(60), b"\x7fELF" + bytes(60),
    b"#define x_width 9\n#define x_height 9\n", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0\x08\0\0\0", b"P6 9 9 255\n",
    b"P3\n99999999 99999999 255\n1 2 3\n", b"GIF89a\xff\xff\xff\xff\0\0\0",
)  # fmt: skip


def picture(random: Random, mode: str = "RGB", side: int | None = None) -> Image.Image:
    """Smooth noise of a few pixels up to 160, in one of Pillow's modes."""
    height, width = random.integers(1, 160, 2) if side is None else (side, side)
    small = random.integers(0, 256, (3 + height // 9, 3 + width // 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize((int(width), int(height)), Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(smooth.convert("L")).astype(np.uint16) << 4)
    if mode == "F":
        return Image.fromarray(
            np.asarray(smooth.convert("L")).astype(np.float32) * random.choice([1, 1e30, np.nan])
        )
    if mode == "LAB":
        return ImageCms.profileToProfile(
            smooth, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    return smooth.convert(mode)


def whole(random: Random, extension: str | None = None) -> tuple[bytes, str]:
    """A good file, and its extension."""
    extension = extension or str(random.choice(list(FORMATS)))
    mode = str(random.choice(_MODES.get(extension, ("RGB",))))
    return saved(picture(random, mode), FORMATS[extension]), extension


def truncated(random: Random) -> tuple[bytes, str]:
    data, extension = whole(random)
    return data[: random.integers(1, len(data))], extension


def flipped(random: Random) -> tuple[bytes, str]:
    """A few bits anywhere."""
    data, extension = whole(random)
    return flip_bits(random, data, int(random.integers(1, 30))), extension


def flip_bits(random: Random, data: bytes, count: int, end: int | None = None) -> bytes:
    """The same bytes with so many bits turned over, of the first `end` bytes."""
    changed = bytearray(data)
    for place in random.integers(0, min(end or len(data), len(data)), count):
        changed[place] ^= 1 << random.integers(8)
    return bytes(changed)


def broken_header(random: Random) -> tuple[bytes, str]:
    """A few bits of the first 64 bytes, where sizes and kinds stand."""
    data, extension = whole(random)
    return flip_bits(random, data, int(random.integers(1, 5)), 64), extension


def overwritten(random: Random) -> tuple[bytes, str]:
    """A stretch of zeros, ones or noise."""
    data, extension = whole(random)
    start = int(random.integers(0, len(data)))
    length = int(random.integers(1, 400))
    fill = [bytes(length), b"\xff" * length, random.bytes(length)][random.integers(3)]
    return data[:start] + fill + data[start + length :], extension


def spliced(random: Random) -> tuple[bytes, str]:
    """The head of one file, the tail of another of its format."""
    (one, extension), cut = whole(random), random.random()
    other, _ = whole(random, extension)
    return one[: int(len(one) * cut)] + other[int(len(other) * cut) :], extension


def misnamed(random: Random) -> tuple[bytes, str]:
    return whole(random)[0], str(random.choice(list(FORMATS)))


def stranger(random: Random) -> tuple[bytes, str]:
    """No image, or the first bytes of one."""
    return _STRANGERS[random.integers(len(_STRANGERS))], str(random.choice(list(FORMATS)))


def empty(random: Random) -> tuple[bytes, str]:
    return b"", str(random.choice(list(FORMATS)))


def noise(random: Random) -> tuple[bytes, str]:
    return random.bytes(int(random.integers(1, 5000))), str(random.choice(list(FORMATS)))


def one_pixel(random: Random) -> tuple[bytes, str]:
    extension = str(random.choice(["jpg", "png", "bmp", "gif", "webp", "tif", "ppm", "avif"]))
    return saved(picture(random, side=1), FORMATS[extension]), extension


def very_wide(random: Random) -> tuple[bytes, str]:
    """60,000 pixels one way and one to three the other."""
    narrow = int(random.integers(1, 4))
    size = (60_000, narrow) if random.random() < 0.5 else (narrow, 60_000)
    extension = str(random.choice(["jpg", "png", "tif"]))
    return saved(Image.new("RGB", size, (1, 2, 3)), FORMATS[extension]), extension


def bomb(random: Random) -> tuple[bytes, str]:
    """Small files that unpack to far more than anybody has asked for."""
    kind = random.integers(6)
    if kind == 0:
        return png_header(60_000, 60_000), "png"
    if kind == 1:  # within the limit of pixels: half a GiB
        return _flat_png(13_000, 13_000), "png"
    if kind == 2:  # more pixels than it names
        return _flat_png(8, 8, rows=50_000), "png"
    if kind == 3:  # text and colours that unpack to 60 MB
        packed = zlib.compress(bytes(60 << 20), 9)
        name = [b"zTXtComment\0\0", b"iCCPprofile\0\0"][random.integers(2)]
        return with_chunk(encode(np.full((6, 6), 9, np.uint8)), name[:4], name[4:] + packed), "png"
    if kind == 4:  # a picture of its own for each of a screen's many pixels
        return b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0xF7, 0, 0) + bytes(768) + b";", "gif"
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "x" * (8 << 20)
    return saved(picture(random), "TIFF", tiffinfo=tags, compression="tiff_deflate"), "tif"


def _flat_png(width: int, height: int, rows: int | None = None) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    data = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG, with its sum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one chunk more, after its header."""
    return data[:33] + chunk(name, content) + data[33:]


def animated(random: Random) -> tuple[bytes, str]:
    extension = str(random.choice(["gif", "webp", "png", "tif"]))
    frames = [picture(random, side=20) for _ in range(int(random.integers(2, 40)))]
    data = saved(frames[0], FORMATS[extension], save_all=True, append_images=frames[1:])
    return (flip_bits(random, data, 3) if random.random() < 0.5 else data), extension


def turned(random: Random) -> tuple[bytes, str]:
    """Every EXIF orientation, and some that are none."""
    exif = Image.Exif()
    exif[_ORIENTATION] = int(random.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65_535]))
    extension = str(random.choice(["jpg", "png", "webp", "tif"]))
    return saved(picture(random), FORMATS[extension], exif=exif.tobytes()), extension


def broken_exif(random: Random) -> tuple[bytes, str]:
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    exif[0x010E] = "x" * int(random.integers(1, 60_000))
    block = flip_bits(random, exif.tobytes(), 12)
    return saved(picture(random), "JPEG", exif=block), "jpg"


def huge_profile(random: Random) -> tuple[bytes, str]:
    """A colour profile or EXIF block of megabytes."""
    size = int(random.integers(1 << 20, 4 << 20))
    extension = str(random.choice(["jpg", "png", "webp"]))
    if random.random() < 0.5 or extension == "jpg":
        return saved(picture(random), FORMATS[extension], icc_profile=random.bytes(size)), extension
    return saved(picture(random), FORMATS[extension], exif=b"Exif\0\0" + random.bytes(size)), extension


def many_scans(random: Random) -> tuple[bytes, str]:
    """A progressive JPEG whose last scan is repeated a thousand times: a small file that is slow."""
    data = saved(picture(random, side=150), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 1000 + data[-2:], "jpg"


def looping_tiff(random: Random) -> tuple[bytes, str]:
    """A TIFF whose list of pages leads back to its first."""
    data = bytearray(saved(picture(random), "TIFF"))
    first = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[first : first + 2])[0]
    end = first + 2 + 12 * count
    data[end : end + 4] = struct.pack("<I", first)
    return bytes(data), "tif"


CONTENTS: tuple[Callable[[Random], tuple[bytes, str]], ...] = (
    whole, truncated, flipped, broken_header, overwritten, spliced, misnamed, stranger, empty, noise, one_pixel,
    very_wide, animated, turned, broken_exif, huge_profile, many_scans, looping_tiff, truncated, flipped,
    broken_header, overwritten, bomb,
)  # fmt: skip


def _fifo(path: str) -> None:
    os.mkfifo(path)


def _loop(path: str) -> None:
    os.symlink(os.path.basename(path), path)


def _nowhere(path: str) -> None:
    os.symlink("nowhere.png", path)


def _endless(path: str) -> None:
    os.symlink("/dev/zero", path)


def _folder(path: str) -> None:
    os.mkdir(path)


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def _unreadable(path: str) -> None:
    with open(path, "wb") as file:
        file.write(encode(np.zeros((6, 6), np.uint8)))
    os.chmod(path, 0)


PLACES: tuple[Callable[[str], None], ...] = (_fifo, _loop, _nowhere, _endless, _folder, _socket, _unreadable)


def _names(random: Random, number: int, extension: str) -> str:
    """Mostly plain names; some with what breaks lines, terminals and formulas, and the longest that there are."""
    tail = f"{number}.{extension}"
    odd = (
        "a\nb", "a\rb", "\x1b[31m", "=1+1", "-rf ", "\u202egnp", " blank ", "%s%n", "ä\u0308", "x" * (255 - len(tail)),
        "é" * ((255 - len(tail)) // 2), "'; drop", "\U0001f600", "a\\b", "..", "#?&",
    )  # fmt: skip
    return (odd[random.integers(len(odd))] if random.random() < 0.3 else "") + tail


def write_images(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write `count` entries into two class folders; what kind each is, by its name below the folder."""
    random = np.random.default_rng(seed)
    kinds = {}
    for number in range(count):
        label = "ab"[number % 2]
        os.makedirs(folder / label, exist_ok=True)
        if number % 12 == 11:
            make = PLACES[number // 12 % len(PLACES)]
            name = _names(random, number, "png")
            # The address of a socket is short.
            name = f"{number}.png" if make is _socket else name
            where = os.getcwd()
            os.chdir(folder / label)
            try:
                make(name)
            finally:
                os.chdir(where)
            kinds[f"{label}/{name}"] = make.__name__.strip("_")
        else:
            make_bytes = CONTENTS[int(random.integers(len(CONTENTS)))]
            data, extension = make_bytes(random)
            name = _names(random, number, extension)
            (folder / label / name).write_bytes(data)
            kinds[f"{label}/{name}"] = make_bytes.__name__
    return kinds


def write_undecodable_names(folder: Path) -> None:
    """Two class folders with a good image each, of which one has a name that is no UTF-8."""
    for label, name in (("a", b"good.png"), ("b", b"\xff\xfe\x80.png")):
        os.makedirs(folder / label, exist_ok=True)
        with open(os.fsencode(folder / label) + b"/" + name, "wb") as file:
            file.write(encode(np.full((6, 6), 99, np.uint8)))


def batches(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(seed, images) until there are `count` in all."""
    for seed, start in enumerate(range(0, count, size)):
        yield seed, min(size, count - start)
