"""Small files that unpack to much: they cost the memory of what is shown of them, or a row, never the machine."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from harms import die, hoard, linux, sleep
from pictures import picture_of, png_header, saved
from PIL import Image

from labelfix.data.images import decoding, thumbnails, workers
from labelfix.data.images.decoding import BadImage, decode, encode

SCENE = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)


def deep_png(side):
    """A 16-bit grey PNG of two bytes a pixel that packs to almost nothing."""
    packed = zlib.compressobj(9)
    line = b"\0" + b"\x12\x34" * side
    data = b"".join([*(packed.compress(line) for _ in range(side)), packed.flush()])
    head = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def output_of(script, *arguments):
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """A PNG of 71 KB and 36 million pixels of 16 bits: 72 MB of pixels, and 864 MB as numbers with copies."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.png"
    path.write_bytes(deep_png(6_000))
    assert path.stat().st_size < 100_000
    return path


# ---------------------------------------------------------------- pictures

PEAK = """
import resource, sys
from pathlib import Path
from labelfix.data.images.store import decode
from labelfix.data.images.thumbnails import thumbnail, thumbnails
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
if __name__ == "__main__":
    before = peak()
    {work}
    print(peak() - before)
"""


@pytest.mark.parametrize(
    ("work", "megabytes"),
    [
        ("assert (decode(Path(sys.argv[1]), 32) == 18).all()", 200),
        ("assert thumbnail(Path(sys.argv[1]), 100)[1] == 'image/png'", 200),
        # Somebody else takes the memory: not even the pixels are held here.
        ("assert next(thumbnails([Path(sys.argv[1])], 100))[1] == 'image/png'", 40),
    ],
)
def test_deep_pixels_take_the_memory_of_a_picture(bomb, work, megabytes):
    (peak,) = output_of(PEAK.format(work=work), bomb)
    assert float(peak) < megabytes


@pytest.mark.parametrize("tile", [1, 7, 100, 1 << 18])
def test_the_range_is_that_of_the_whole_picture(monkeypatch, tile):
    """Whatever is read at a time, one pixel far away decides how all are scaled."""
    monkeypatch.setattr(decoding, "_TILE_PIXELS", tile)
    wide = np.zeros((20, 30), np.int32)
    wide[0, 0], wide[19, 29], wide[10, 15] = -100, 100, 50
    stretched = decode(saved(Image.fromarray(wide), "TIFF"), 20)[0]
    assert np.unique(stretched).tolist() == [128, 191]
    unit = np.full((20, 30), 0.2, np.float32)
    unit[3, 3] = np.nan
    assert np.unique(decode(saved(Image.fromarray(unit), "TIFF"), 20)[0]).tolist() == [51]
    unit[0, 29] = 255
    assert np.unique(decode(saved(Image.fromarray(unit), "TIFF"), 20)[0]).tolist() == [0]


@linux
def test_a_picture_beyond_the_memory_is_a_bad_image(bomb):
    script = """
import resource, sys
from pathlib import Path
from labelfix.data.images.store import BadImage, decode
taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (taken + (50 << 20), -1))
try:
    decode(Path(sys.argv[1]), 32)
except BadImage as error:
    print(error)
"""
    assert output_of(script, bomb) == ["takes too much memory to decode"]


def test_webp_has_a_limit_of_its_own():
    """Its reader keeps four copies of a picture: they must fit into the memory of a worker."""
    assert decode(saved(picture_of(SCENE), "WEBP", lossless=True), 16).shape == (3, 16, 16)
    sides = struct.pack("<I", (12_999) | (12_999 << 14))
    lossless = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + sides + b"\0"
    with pytest.raises(BadImage, match="over the limit of 134217727 pixels"):
        decode(b"RIFF" + struct.pack("<I", 4 + len(lossless)) + b"WEBP" + lossless, 16)
    with pytest.raises(BadImage, match="truncated"):
        decode(png_header(13_000, 13_000), 16)


# ---------------------------------------------------------------- processes


@linux
def test_a_store_larger_than_the_limit_is_no_hindrance(tmp_path):
    """The mapped array counts towards what a process has mapped, not towards its own memory."""
    target = tmp_path / "images.npy"
    side = 1_000
    np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=(1_100, 3, side, side))
    assert target.stat().st_size > 3 << 30
    chunks = [workers.Chunk(1_099, [encode(SCENE)])]
    assert workers.run_chunks(chunks, target, 1, lambda _: None) == {}
    assert np.load(target, mmap_mode="r")[1_099].any()


def harmed(harm, chunk, size):
    if b"bad" in chunk.images:
        harm()
    return thumbnails_of(chunk, size)


thumbnails_of = thumbnails.thumbnail_chunk


@pytest.mark.parametrize("harm", [die, sleep, pytest.param(hoard, marks=linux)])
def test_a_file_that_is_slow_greedy_or_deadly_costs_its_own_thumbnail_alone(monkeypatch, harm):
    if harm is sleep:
        # Even where other work takes the cores, the images beside it must be made well within the limit.
        monkeypatch.setattr(workers, "SECONDS_PER_IMAGE", 3.0)
    monkeypatch.setattr(thumbnails, "thumbnail_chunk", partial(harmed, harm))
    images = [encode(SCENE)] * 40
    images[7] = images[33] = b"bad"
    found = list(thumbnails.thumbnails(images, 100, workers=2))
    assert [place for place, one in enumerate(found) if one is None] == [7, 33]
    assert set(found) == {None, thumbnails.thumbnail(encode(SCENE), 100)}
