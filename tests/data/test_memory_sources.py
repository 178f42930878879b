"""Sources in memory, image by image: arrays and torch Datasets, read and decoded."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from conftest import write_digits
from decoding_count import rows_decoded
from memory_data import Pairs, pairs_of, picture, pixels, stored
from PIL import Image, ImageOps
from refusals import refuses_source
from sources import labels_of

from labelfix.data.images.decoding import decode, encode
from labelfix.data.images.store import auto_image_size
from labelfix.data.manifest import Manifest

# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4)])
def test_arrays_are_decoded_to_the_pixels_that_went_in(shape):
    images = pixels(20, *shape)
    manifest = Manifest.read((images, ["a", "b"] * 10))
    assert manifest.file_names().to_pylist() == [f"row-{i:09d}" for i in range(20)]
    decoded = stored((images, ["a", "b"] * 10)).images
    if shape[-1] == 4:
        opened = [Image.open(io.BytesIO(data)) for data in manifest.images(0, 20)]
        assert all((np.asarray(one) == image).all() for one, image in zip(opened, images, strict=True))
        alpha = images[..., 3:].astype(float) / 255
        images = images[..., :3] * alpha + 255 * (1 - alpha)
        np.testing.assert_allclose(decoded, images.transpose(0, 3, 1, 2), atol=1)
        return
    expected = images.reshape(20, 8, 8, -1).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(decoded, np.broadcast_to(expected, (20, 3, 8, 8)))


def test_arrays_that_are_views_or_not_square_are_read_right():
    images = pixels(6, 10, 6, 3)[::2, ::-1, :, ::-1]
    manifest = Manifest.read((images, ["a", "b", "a"]))
    for data, image in zip(manifest.images(0, 3), images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    assert auto_image_size(manifest, 64) == 8


def test_labels_of_arrays_are_text_and_only_nothing_is_unlabelled():
    images = pixels(7, 4, 4)
    mixed = ["007", " cat ", 3, None, "", float("nan"), -1]
    assert labels_of(Manifest.read((images, mixed))) == ["007", "cat", "3", None, None, None, "-1"]
    numbers = Manifest.read((images, np.array([10, 9, 2, 9, 10, 2, -1])))
    assert labels_of(numbers) == ["10", "9", "2", "9", "10", "2", "-1"]
    assert numbers.class_names == ("-1", "2", "9", "10")
    floats = Manifest.read((images, np.array([0.5, 1, np.nan, 1, 1, 1, 1])))
    assert labels_of(floats) == ["0.5", "1.0", None, "1.0", "1.0", "1.0", "1.0"]
    for labels in (
        pd.Series(["a", pd.NA, "b", "a", "a", "a", "a"], dtype="string"),
        pd.Categorical(["a", None, "b", "a", "a", "a", "a"]),
        np.array(["a", None, "b", "a", "a", "a", "a"], object),
    ):
        assert labels_of(Manifest.read((images, labels))) == ["a", None, "b", "a", "a", "a", "a"]
    for labels in (torch.tensor([1, 0, 1, 1, 1, 1, 1]), [True, False, *[np.int64(1)] * 5], (1, 0, *[1] * 5)):
        assert labels_of(Manifest.read((images, labels)))[3:] == ["1"] * 4


def test_equal_arrays_are_decoded_once_and_other_pixels_again(cache):
    images, labels = pixels(30, 8, 8, 3), ["a", "b"] * 15
    assert rows_decoded(lambda: stored((images, labels))) == 30
    assert rows_decoded(lambda: stored((images.copy(), ["c", "d"] * 15))) == 0
    changed = images.copy()
    changed[29, 7, 7, 2] ^= 1
    assert rows_decoded(lambda: stored((changed, labels))) == 30
    assert rows_decoded(lambda: stored((images, labels), rows=20)) == 20
    turned = images.reshape(30, 4, 16, 3)
    assert rows_decoded(lambda: stored((turned, labels))) == 30
    assert [path.name for path in cache.iterdir()] == ["images"]


def test_the_fingerprint_covers_pixels_labels_and_order():
    images, labels = pixels(4, 4, 4), ["a", "b", "a", "b"]
    first = Manifest.read((images, labels)).fingerprint
    assert Manifest.read((images.copy(), list(labels))).fingerprint == first
    changed = images.copy()
    changed[0, 0, 0] ^= 1
    others = [
        (changed, labels),
        (images[::-1], labels),
        (images, ["a", "a", "a", "b"]),
        (images[:3], labels[:3]),
    ]
    assert len({first, *(Manifest.read(other).fingerprint for other in others)}) == 5


def test_the_manifest_says_that_it_is_in_memory():
    manifest = Manifest.read((pixels(4, 4, 4), ["a", "b"] * 2), rows=3, root=".", label_column="x")
    assert manifest.name == "memory"
    assert manifest.num_rows == 3
    assert manifest.options["source"] is None
    assert any("label_column" in text for text in manifest.warnings)
    assert any("root" in text for text in manifest.warnings)
    refuses_source(None, "in memory", "source")


def test_many_arrays_are_kept_out_of_the_memory():
    """200 MB of pixels take the memory of a batch or two, both while they are read and while they are handed out."""
    script = """
import tracemalloc
import numpy as np
import pyarrow as pa
from labelfix.data.manifest import Manifest
images = np.ones((1000, 256, 256, 3), np.uint8)
tracemalloc.start()
manifest = Manifest.read((images, np.arange(1000) % 10))
assert sum(len(some) for _, some in manifest.image_chunks(256)) == 1000
print((tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory()) / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 150


PIXELS = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "parts"),
    [
        *((np.zeros(shape, np.uint8), ["a", "b"], (f"shape {shape}", "(N, H, W)"))
          for shape in ((2, 4), (2, 3, 8, 8), (2, 0, 8))),
        (PIXELS.astype(np.float32), ["a", "b"], ("float32", "uint8")),
        (np.zeros((3, 4, 4), np.uint8), ["a", "b"], ("3 images", "2 labels")),
        (PIXELS[:0], [], ("empty",)),
        ([[0]], ["a"], ("images are a list", "NumPy")),
        *((PIXELS, labels, (f"labels are a{kind}",))
          for labels, kind in (("ab", " str"), ({"a": 1, "b": 2}, " dict"), (np.array(3), ""))),
        *((PIXELS, labels, ("row 0", "multi-label")) for labels in ([["a"], ["b"]], np.eye(2))),
        *((PIXELS, ["a", label], ("row 1", word))
          for label, word in ((b"\xff", "no UTF-8"), (object(), "object"), ("\ud800", "UTF-8"))),
        (PIXELS, ["a", "a"], ("single class",)),
        (PIXELS, [None, ""], ("no label",)),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused_in_one_line(images, labels, parts):
    refuses_source((images, labels), *parts)


def test_what_is_no_source_is_refused_in_one_line():
    images = pixels(4, 4, 4)
    refuses_source((images,), "(images, labels)", "1 value")
    refuses_source((images, [1, 2, 3, 4], None), "(images, labels)", "3 values")
    for source in ([1, 2], images, {"a": 1}, 3, torch.utils.data.DataLoader([1])):
        refuses_source(source, "DataFrame", type(source).__name__)
    refuses_source((images, ["a", "b"] * 2), "--rows 0", rows=0)
    refuses_source((images, ["a", "b"] * 2), "--root", root="no such folder")


# ---------------------------------------------------------------- torch


def test_items_of_a_dataset_have_the_pixels_and_key_of_arrays():
    for shape in ((8, 8), (8, 8, 3), (8, 8, 4)):
        images, labels = pixels(10, *shape), ["a", "b"] * 5
        from_arrays, from_items = Manifest.read((images, labels)), Manifest.read(pairs_of(images, labels))
        assert from_items.image_key == from_arrays.image_key
        assert from_items.fingerprint == from_arrays.fingerprint
        assert from_items.file_names().to_pylist()[9] == "row-000000009"


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"]


def picture_of_mode(mode):
    ramp = np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8)
    planes = [picture(each) for each in (ramp, ramp.T, ramp[::-1], 255 - ramp)]
    if mode == "I;16":
        return picture(ramp.astype(np.uint16) * 200)
    if mode == "LAB":
        return Image.merge("LAB", planes[:3])
    clear = Image.merge("RGBA", planes)
    if mode == "PA":
        return clear.convert("P").convert("PA")
    return (clear if "A" in mode.upper() or mode == "RGB" else clear.convert("RGB")).convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_a_picture_comes_out_as_when_it_is_read_from_a_file(mode):
    image = picture_of_mode(mode)
    assert image.mode == mode
    decoded = stored(Pairs([(image, "a"), (image, "b")]))
    assert decoded.valid.all()
    if mode == "I;16":
        expected = np.rint(np.asarray(image) / 257)[..., None].repeat(3, axis=2)
    elif mode in ("LAB", "I", "F"):
        sink = io.BytesIO()
        image.save(sink, "TIFF")
        expected = decode(sink.getvalue(), 8, decoded.white).transpose(1, 2, 0)
    elif "A" in mode.upper():
        white = Image.new("RGBA", (8, 8), "white")
        expected = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
    else:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoded.images[0].transpose(1, 2, 0), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_comes_out_upright(tmp_path, orientation):
    image = picture(pixels(1, 8, 8, 3)[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    opened = Image.open(tmp_path / "a.png")
    decoded = stored(Pairs([(opened, "a"), (image, "b")]))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(decoded.images[0].transpose(1, 2, 0), upright)
    np.testing.assert_array_equal(decoded.images[0], decode(tmp_path / "a.png", 8))


def test_a_picture_from_a_compressed_tiff_or_with_a_transparent_colour_keeps_its_pixels(tmp_path):
    image = picture(pixels(1, 8, 8)[0])
    image.convert("CMYK").save(tmp_path / "a.tiff", compression="tiff_lzw")
    image.save(tmp_path / "b.png", transparency=int(np.asarray(image)[0, 0]))
    for name in ("a.tiff", "b.png"):
        decoded = stored(Pairs([(Image.open(tmp_path / name), "a"), (image, "b")]))
        np.testing.assert_array_equal(decoded.images[0], decode(tmp_path / name, 8))


@pytest.mark.parametrize("kind", ["subset", "subset of a subset", "concatenation"])
def test_parts_of_a_dataset_have_its_classes(kind):
    whole = pairs_of(pixels(6, 4, 4), [0, 1] * 3, ["cat", "dog"])
    parts = torch.utils.data.random_split(whole, [4, 2], torch.Generator().manual_seed(0))
    dataset = {
        "subset": parts[0],
        "subset of a subset": torch.utils.data.Subset(parts[0], range(4)),
        "concatenation": torch.utils.data.ConcatDataset(parts),
    }[kind]
    assert Manifest.read(dataset).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([[0], [1], [0]]),
        torch.tensor([[0], [1], [0]]),
        np.array([b"0", b"1", b"0"]),
        [np.array([0]), np.array([1]), 0],
    ],
)
def test_labels_in_a_column_and_as_bytes_are_flat_text(labels):
    assert labels_of(Manifest.read((pixels(3, 4, 4), labels))) == ["0", "1", "0"]


def test_integer_labels_are_indices_where_the_dataset_has_classes():
    images = pixels(7, 4, 4)
    labels = [1, np.int64(0), torch.tensor(2), -1, None, " dog ", ""]
    manifest = Manifest.read(pairs_of(images, labels, classes=["eel", "dog", "cat"]))
    assert manifest.class_names == ("eel", "dog", "cat")
    assert labels_of(manifest) == ["dog", "eel", "cat", None, None, "dog", None]
    assert labels_of(Manifest.read(pairs_of(images, labels)))[:4] == ["1", "0", "2", "-1"]
    tuples = pairs_of(images, [0, 1] * 3 + [0], classes=[("a", "b"), ("c",)])
    assert Manifest.read(tuples).class_names == ("0", "1")


@pytest.mark.parametrize("label", [3, -2, "bird", 1.0, True])
def test_a_label_that_is_none_of_the_classes_is_refused_by_row(label):
    dataset = pairs_of(pixels(3, 4, 4), [0, 1, label], classes=["eel", "dog", "cat"])
    refuses_source(dataset, "the Dataset", "row 2", "classes")


def test_classes_that_repeat_are_refused():
    refuses_source(pairs_of(pixels(2, 4, 4), [0, 1], classes=["crane", "crane "]), "classes", "repeated")


def test_torchvision_datasets_are_read(tmp_path):
    write_digits(tmp_path / "images", 60)
    folder = torchvision.datasets.ImageFolder(tmp_path / "images")
    manifest = Manifest.read(folder)
    same = Manifest.read(tmp_path / "images")
    assert manifest.class_names == same.class_names == tuple(folder.classes)
    np.testing.assert_array_equal(manifest.given, same.given)
    np.testing.assert_array_equal(stored(folder).images, stored(tmp_path / "images").images)
    half = torch.utils.data.Subset(folder, range(0, 60, 2))
    assert labels_of(Manifest.read(half)) == [str(folder.targets[i]) for i in range(0, 60, 2)]


def test_a_bad_item_is_an_invalid_row_and_the_first_is_named():
    good = picture(pixels(1, 8, 8)[0])
    broken = Image.open(io.BytesIO(encode(pixels(1, 8, 8)[0])[:60]))
    items = [(good, "a"), ValueError("disk\n gone"), (None, "b"), (broken, "a"), (good, "b"), ("no.png", "a")]
    manifest = Manifest.read(Pairs(items))
    assert labels_of(manifest) == ["a", None, "b", "a", "b", "a"]
    (warning,) = [text for text in manifest.warnings if "hold no image" in text]
    assert "4 items" in warning
    assert "row 1 raises ValueError: disk gone" in warning
    store = stored(Pairs(items))
    assert store.valid.tolist() == [True, False, False, False, True, False]
    assert set(store.errors.values()) == {"no image given"}


def test_bad_datasets_are_refused_in_one_line():
    image = picture(pixels(1, 4, 4)[0])
    refuses_source(Pairs([(image, "a"), image]), "item 1", "pair")
    refuses_source(Pairs([(image, "a", 3)]), "item 0", "pair")
    refuses_source(Pairs([(torch.zeros(3, 8, 8), 0), (torch.zeros(3, 8, 8), 1)]), "row 0 has a Tensor", "PIL")
    refuses_source(Pairs([OSError("gone")] * 2), "row 0 raises OSError: gone")
    refuses_source(Pairs([(image, ["a", "b"])]), "row 0", "multi-label")
    refuses_source(Pairs([(image, torch.zeros(3))]), "row 0", "Tensor")
    refuses_source(Pairs([]), "empty")

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(image, "a")])

    class Endless(torch.utils.data.Dataset):
        def __getitem__(self, row):
            return image, "a"

    refuses_source(Stream(), "iterable-style", "map-style")
    refuses_source(Endless(), "length", "map-style")


def test_ctrl_c_inside_a_dataset_is_no_bad_item():
    class Slow(Pairs):
        def __getitem__(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Manifest.read(Slow([1, 2]))
