"""Images that are bad by their looks: each kind is named, and an ordinary one is not."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits, load_sample_image

from labelfix.data.images.issues import ISSUES, image_issues
from labelfix.data.images.store import ImageStore
from labelfix.data.images.workers import FACTS

SIDE = 48


def patches(count=150):
    """Squares of a photograph, of its buildings: the sky above them is plain, as a blurred image is."""
    rng = np.random.default_rng(0)
    photograph = load_sample_image("china.jpg")[150:]
    found = []
    for _ in range(count):
        top, left = (rng.integers(0, length - 200) for length in photograph.shape[:2])
        square = Image.fromarray(photograph[top : top + 200, left : left + 200])
        found.append(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return found


def store_of(images, shorter=None):
    pixels = np.stack([np.asarray(image.convert("RGB")).transpose(2, 0, 1) for image in images])
    facts = np.zeros(len(images), FACTS)
    facts["width"], facts["height"] = 300, 200
    for row, side in (shorter or {}).items():
        facts["height"][row] = side
    side = pixels.shape[-1]
    return ImageStore(pixels, np.ones(len(images), bool), {}, side, side, facts=facts)


def test_each_kind_of_bad_image_is_named_and_no_good_one():
    images = patches()
    images[3] = Image.new("RGB", (SIDE, SIDE), (90, 20, 200))
    images[5] = images[5].point(lambda value: value // 9)
    images[7] = images[7].point(lambda value: 235 + value // 20)
    images[9] = images[9].filter(ImageFilter.GaussianBlur(6))
    found = image_issues(store_of(images, {11: 40, 13: 60}))
    named = {int(row): ISSUES[found[row]] for row in np.flatnonzero(found >= 0)}
    assert named == {3: "near-constant", 5: "dark", 7: "bright", 9: "blurred", 11: "tiny"}


def test_glyphs_are_neither_dark_nor_blurred():
    digits = [
        Image.fromarray((digit * 15).astype(np.uint8)).resize((32, 32))
        for digit in load_digits().images[:200]
    ]
    for images in (digits, [image.point(lambda value: 255 - value) for image in digits]):
        assert (image_issues(store_of(images)) < 0).all()


def test_without_images_or_valid_rows_nothing_is_said():
    assert (image_issues(ImageStore.without_images(3)) < 0).all()
    store = store_of([Image.new("L", (8, 8))] * 2)
    store.valid[:] = False
    assert (image_issues(store) < 0).all()
