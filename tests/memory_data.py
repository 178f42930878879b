"""Small sources in memory, and their store: what the tests of such sources share."""

from __future__ import annotations

import datasets
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.noise.planting import parse_noise, plant


def pixels(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def picture(values, mode=None):
    made = Image.fromarray(values)
    return made if mode is None else made.convert(mode)


def stored(source, size=8, **options):
    return ImageStore.open_or_build(Manifest.read(source, **options), size, workers=1)


class Pairs(torch.utils.data.Dataset):
    """Map-style: items as they are, exceptions raised."""

    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        if isinstance(self.items[row], Exception):
            raise self.items[row]
        return self.items[row]


def pairs_of(images, labels, classes=None):
    return Pairs([(picture(image), label) for image, label in zip(images, labels, strict=True)], classes)


def hub(images, labels, names=("cat", "dog"), **others):
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    features = {**kinds, **{name: datasets.Value("string") for name in others}}
    columns = {"image": [picture(image) for image in images], "label": labels, **others}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def digit_arrays(rows=150, noise="symmetric-exclusive:0.2"):
    digits = load_digits()
    true = digits.target[:rows].astype(np.int64)
    images = (digits.images[:rows] * (255 / 16)).round().astype(np.uint8)
    return images, plant(true, [str(k) for k in range(10)], parse_noise(f"{noise}:exact"), seed=0)
