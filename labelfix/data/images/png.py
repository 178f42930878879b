"""PNG files with texts or colour profiles of more than Pillow takes, which are of no use to pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import BinaryIO

_MAGIC = b"\x89PNG\r\n\x1a\n"
_LIMIT = 1 << 20  # bytes; a longer block is an error to Pillow, as it may be a bomb
_SHORT = _LIMIT // 1032  # bytes; no shorter block unpacks to so much
_BLOCKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def without_long_blocks(file: BinaryIO) -> BinaryIO:
    """The file itself, at its start, or what is left of a PNG without its blocks of text and colour over 1 MiB."""
    start = file.read(len(_MAGIC))
    file.seek(0)
    if start != _MAGIC:
        return file
    kept, is_whole = [(0, len(_MAGIC))], True
    place, size = len(_MAGIC), file.seek(0, os.SEEK_END)
    while place < size:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind in _BLOCKS and length >= _SHORT and _is_long(file.read(length), kind):
            is_whole = False
        else:
            kept.append((place, 12 + length))
        place += 12 + length
    file.seek(0)
    if is_whole:
        return file
    parts = []
    for begin, count in kept:
        file.seek(begin)
        parts.append(file.read(count))
    return io.BytesIO(b"".join(parts))


def _is_long(data: bytes, kind: bytes) -> bool:
    if len(data) > _LIMIT:
        return True
    packed = _packed(data, kind)
    if packed is None:
        return False
    unpacking = zlib.decompressobj()
    try:
        return len(unpacking.decompress(packed, _LIMIT + 1)) > _LIMIT
    except zlib.error:
        return False  # Pillow has its own words for it


def _packed(data: bytes, kind: bytes) -> bytes | None:
    """The compressed part of a block; None without one."""
    _, _, rest = data.partition(b"\0")
    if kind == b"tEXt":
        return None
    if kind != b"iTXt":
        return rest[1:]
    is_packed, texts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    return texts[2] if is_packed and len(texts) == 3 else None
