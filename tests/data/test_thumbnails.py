"""Thumbnails: whole pictures, upright and small, by the rules of the one decoder."""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, wait

import numpy as np
import pytest
from pictures import png_header
from pictures import saved as file_of
from PIL import Image, ImageOps

from labelfix.data.images import workers
from labelfix.data.images.decoding import BadImage, decode
from labelfix.data.images.thumbnails import thumbnail, thumbnails

RNG = np.random.default_rng(0)


def photograph(width, height):
    """Smooth noise, as photographs are."""
    coarse = Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def opened(found):
    data, kind = found
    picture = Image.open(io.BytesIO(data))
    assert Image.MIME[picture.format] == kind
    assert picture.mode == "RGB"
    return picture


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((500, 375), (100, 75)), ((375, 500), (75, 100)), ((640, 640), (100, 100)), ((60, 30), (60, 30)),
     ((101, 100), (100, 99)), ((3000, 2), (100, 1))],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_all_of_the_picture_and_never_enlarged(sides, expected, kind):
    assert opened(thumbnail(file_of(photograph(*sides), kind), 100)).size == expected


def test_pixels_are_those_of_the_picture_in_small():
    """Draft decoding and JPEG cost a little; a wrong crop or turn would cost far more."""
    picture = photograph(500, 375)
    expected = np.asarray(picture.resize((100, 75), Image.Resampling.BOX), float)
    for data in (file_of(picture), file_of(picture, "JPEG", quality=95)):
        found = np.asarray(opened(thumbnail(data, 100)), float)
        assert np.abs(found - expected).mean() < 4


@pytest.mark.parametrize("side", [8, 32, 48])
def test_small_pictures_keep_every_pixel(side):
    pixels = RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)
    data, kind = thumbnail(file_of(Image.fromarray(pixels)), 100)
    assert kind == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert thumbnail(pixels.transpose(2, 0, 1), 100) == (data, kind)


def test_photographs_are_jpeg_and_drawings_png():
    assert thumbnail(file_of(photograph(300, 300)), 100)[1] == "image/jpeg"
    drawing = Image.new("RGB", (300, 300), "white")
    drawing.paste("black", (50, 50, 120, 260))
    assert thumbnail(file_of(drawing), 100)[1] == "image/png"
    assert thumbnail(file_of(drawing, "JPEG"), 100)[1] in ("image/png", "image/jpeg")
    data, kind = thumbnail(np.asarray(photograph(110, 110)).transpose(2, 0, 1), 100)
    assert kind == "image/jpeg"
    assert opened((data, kind)).size == (100, 100)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [40, 400])
def test_exif_orientation_is_applied(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(photograph(200, 120), "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    found = opened(thumbnail(data, size))
    if size == 400:
        assert found.size == upright.size
    expected = upright.resize(found.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(found, float) - np.asarray(expected, float)).mean() < 5


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16", "I", "F", "CMYK"])
def test_every_mode_looks_as_it_does_to_the_decoder(mode):
    grey = Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8))
    if mode in ("I;16", "I", "F"):
        wide = np.asarray(grey).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200
        picture = Image.fromarray(wide)
    elif mode == "RGBA":
        picture = Image.merge("RGBA", [grey, grey, grey, grey.rotate(90)])
    else:
        picture = grey.convert(mode)
    data = file_of(picture, "TIFF")
    found = np.asarray(opened(thumbnail(data, 100)))
    np.testing.assert_array_equal(found.transpose(2, 0, 1), decode(data, 40))


def test_what_a_file_says_besides_its_pixels_stays_behind():
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    for side in (30, 300):
        picture = photograph(side, side)
        data, _ = thumbnail(file_of(picture, "JPEG", exif=exif, comment=b"at home"), 100)
        assert b"home" not in data
        profile = file_of(picture, "PNG", icc_profile=b"made at home", exif=exif)
        assert b"home" not in thumbnail(profile, 100)[0]


def test_bad_images_say_why(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for image, reason in [
        (tmp_path / "none.png", "missing file"),
        (tmp_path / "pipe.png", "no regular file"),
        (b"", "empty file"),
        (b"<svg onload='alert(1)'/>", "no image"),
        (file_of(photograph(400, 400))[:-2000], "truncated"),
        (png_header(60_000, 60_000), "over the limit"),
    ]:
        with pytest.raises(BadImage, match=reason):
            thumbnail(image, 100)


class TestMany:
    def test_in_order_with_none_for_what_is_missing_or_broken(self):
        pictures = [photograph(120 + n, 120) for n in range(100)]
        images = [file_of(picture) for picture in pictures]
        images[3], images[50] = b"broken", None
        found = list(thumbnails(iter(images), 100, workers=3))
        assert [place for place, one in enumerate(found) if one is None] == [3, 50]
        for place in (0, 2, 4, 99):
            assert found[place] == thumbnail(images[place], 100)

    def test_reads_only_a_little_ahead(self):
        read = []

        def images():
            for number in range(10_000):
                read.append(number)
                yield None

        first = thumbnails(images(), 100, workers=2)
        assert next(first) is None
        assert len(read) < 100
        first.close()

    def test_reads_no_further_ahead_where_the_first_is_slow(self, monkeypatch):
        # The first chunk is done last of all that may be begun.
        scheduled = []

        class Pool:
            active = True

            def schedule(self, work, args, timeout):
                scheduled.append((Future(), args[0], work))
                return scheduled[-1][0]

        def finish(running, **_):
            later = [one for one in scheduled if not one[0].done() and one[1].first]
            done, chunk, work = (later or [one for one in scheduled if not one[0].done()])[0]
            done.set_result(work(chunk))
            return wait(running, timeout=0)

        monkeypatch.setattr(workers, "wait", finish)
        chunks = (workers.Chunk(first, [b""] * 4) for first in range(0, 400, 4))
        found = workers.results_of(Pool(), 2, chunks, lambda chunk: [None] * len(chunk.images), 20)
        order = [first for first, _ in found]
        assert sorted(order) == list(range(0, 400, 4))
        assert order[:5] == [4, 8, 12, 16, 0]

    def test_warnings_of_odd_files_do_not_reach_the_user(self):
        palette = Image.new("P", (60, 60))
        palette.info["transparency"] = bytes(range(2))
        odd = [file_of(palette, transparency=bytes(range(2))), file_of(Image.new("RGB", (12_000, 8_000)))]
        assert all(thumbnails(odd, 100, workers=1))

    def test_nothing_gives_nothing(self):
        assert list(thumbnails([], 100)) == []
