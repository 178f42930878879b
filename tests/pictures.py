"""Small image files of every kind, and a list of some."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from labelfix.data.images.decoding import encode


def saved(picture, format="PNG", **options):  # noqa: A002
    sink = io.BytesIO()
    picture.save(sink, format, **options)
    return sink.getvalue()


def picture_of(pixels):
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def png_header(width, height):
    """A PNG that says how large it is, and has nothing to show for it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + data + struct.pack(">I", 99) + b"IDAT" + zlib.compress(b"")


def make_digits(folder, count, size=16):
    """A CSV of `count` noisy images, each its own, in two classes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    lines = ["path,label"]
    for i in range(count):
        (folder / f"{i}.png").write_bytes(encode(random.integers(0, 256, (3, size, size), dtype=np.uint8)))
        lines.append(f"{i}.png,{'ab'[i % 2]}")
    (folder / "x.csv").write_text("\n".join(lines))
    return folder / "x.csv"


def picture(value):
    return encode(np.full((6, 6), value, np.uint8))
