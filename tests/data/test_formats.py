"""Formats and greys as people have them: deep greys of few bits, WhiteIsZero, newer formats, long blocks of text."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import picture_of, saved
from PIL import Image, PngImagePlugin

from labelfix.data.images.decoding import HEAD_SIZE, WHITE, BadImage, decode, encode, is_image
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest

SCENE = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)


def grey_files(folder, bits, kind="PNG", **options):
    """Two classes of 16-bit greys that use so many bits, black at the left and their white at the right."""
    ramp = np.tile(np.linspace(0, 2**bits - 1, 16).round().astype(np.uint16), (16, 1))
    for row in range(6):
        (folder / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        data = saved(Image.fromarray(ramp - (ramp[0, 0] if row else 0)), kind, **options)
        (folder / "ab"[row % 2] / f"{row}.{kind.lower()}").write_bytes(data)
    return folder


@pytest.mark.parametrize("bits", [16, 12, 10, 8])
def test_sixteen_bit_grey_is_scaled_by_the_bits_that_the_data_set_uses(tmp_path, bits):
    manifest = Manifest.read(grey_files(tmp_path, bits))
    store = ImageStore.open_or_build(manifest, 16, workers=1)
    assert store.white == 2**bits - 1
    assert np.abs(store.images[3, 0, 0].astype(int) - np.linspace(0, 255, 16)).max() <= 1
    assert ImageStore.open_or_build(manifest, 16).white == store.white
    wide = ImageStore.open_or_build(manifest, 16, white=WHITE, workers=1)
    assert wide.images.max() == pytest.approx(255 / 2 ** (16 - bits), abs=1)


def test_one_bright_grey_sets_the_range_and_other_pictures_stay(tmp_path):
    (tmp_path / "b").mkdir(parents=True)
    (tmp_path / "b/rgb.png").write_bytes(encode(SCENE))
    grey_files(tmp_path, 10)
    (tmp_path / "b/bright.png").write_bytes(saved(Image.fromarray(np.full((9, 9), 40_000, np.uint16))))
    store = ImageStore.open_or_build(Manifest.read(tmp_path), 16, workers=1)
    assert store.white == WHITE
    names = Manifest.read(tmp_path).file_names().to_pylist()
    assert np.array_equal(store.images[names.index("b/rgb.png")], SCENE)


@pytest.mark.parametrize("values", [np.uint16, np.float32])
def test_white_is_zero_is_honoured(values):
    ramp = np.tile(np.linspace(0, {np.uint16: 65535, np.float32: 1}[values], 16), (16, 1))
    data = saved(Image.fromarray(ramp.astype(values)), "TIFF", tiffinfo={262: 0})
    assert np.abs(decode(data, 16)[0, 0].astype(int) - np.linspace(255, 0, 16)).max() <= 1


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("AVIF", "avif"), ("JPEG", "jfif"), ("JPEG2000", "jp2"), ("PPM", "ppm"), ("PPM", "pgm"), ("PNG", "")],
)
def test_more_formats_are_read_under_their_names_and_none(tmp_path, kind, ending):
    picture = picture_of(np.full((3, 16, 16), 200, np.uint8)).convert("L" if ending == "pgm" else "RGB")
    data = saved(picture, kind)
    assert is_image(data[:HEAD_SIZE])
    for row in range(4):
        (tmp_path / "ab"[row % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[row % 2] / (f"{row}.{ending}" if ending else f"{row}")).write_bytes(data)
    store = ImageStore.open_or_build(Manifest.read(tmp_path), 16, workers=1)
    assert len(store.images) == 4
    assert np.abs(store.images.astype(int) - 200).max() <= 3


def test_heic_says_what_to_install():
    with pytest.raises(BadImage, match="pip install pillow-heif"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 16)


@pytest.mark.parametrize("block", ["text", "compressed text", "international", "profile"])
def test_long_texts_and_profiles_do_not_cost_the_image(block):
    texts, long = PngImagePlugin.PngInfo(), "x" * (3 << 20)
    options = {"icc_profile": random_bytes(2 << 20)} if block == "profile" else {"pnginfo": texts}
    if block == "international":
        texts.add_itxt("a", long, zip=True)
    else:
        texts.add_text("a", long, zip=block != "text")
    exif = Image.Exif()
    exif[0x0112] = 3
    data = saved(picture_of(SCENE), "PNG", exif=exif, **options)
    assert np.array_equal(decode(data, 16), SCENE[:, ::-1, ::-1])


def random_bytes(count):
    return np.random.default_rng(0).bytes(count)
