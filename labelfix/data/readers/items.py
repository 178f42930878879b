"""Images in memory, one by one: arrays, and torch Datasets of (PIL image, label). They are spooled as files."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.readers.labels import label_text, label_texts, strip_labels
from labelfix.data.readers.rows import BATCH_ROWS, OpenedSource, Query, Rows, strings
from labelfix.errors import InputError

_BATCH_BYTES = 16 << 20
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # of PNG, by the number of channels
_ORIENTATION = 0x0112


def open_arrays(data: tuple[Any, ...], query: Query) -> OpenedSource:
    """Open `(images, labels)`.

    Raises:
        InputError: no pair, images of another shape or type, or not one label for each.
    """
    path = query.path
    if len(data) != 2:
        raise InputError(f"a tuple as a source is (images, labels), not {len(data)} values")
    images, labels = data
    if not isinstance(images, np.ndarray):
        raise InputError(f"{path}: the images are a {type(images).__name__}; make them a NumPy array")
    if images.dtype != np.uint8:
        raise InputError(f"{path}: the images hold {images.dtype}; make them uint8, from 0 to 255")
    if (
        images.ndim not in (3, 4)
        or (images.ndim == 4 and images.shape[3] not in _COLOUR_TYPES)
        or 0 in images.shape[1:]
    ):
        raise InputError(
            f"{path}: the images have shape {images.shape}; make it (N, H, W) or (N, H, W, 1, 3 or 4)"
        )
    texts = label_texts(labels, path)
    if len(texts) != len(images):
        raise InputError(f"{path}: {len(images)} images, but {len(texts)} labels; give one label per image")
    return OpenedSource(
        path, Path.cwd(), lambda: _read_arrays(images, texts, query), is_spooled=True, warnings=_unused(query)
    )


def open_items(dataset: Any, query: Query) -> OpenedSource:
    """Open a torch Dataset; where it has `classes`, its integer labels are indices into them, -1 without a label.

    A Subset of a Dataset has its classes, and so has a concatenation of Datasets that have the same ones.

    An item that raises or holds no image becomes a row without one, and a warning.

    Raises:
        InputError: no length; from the items also one that is no pair, a label that is none, or no image at all.
    """
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        raise InputError(f"{query.path} has no length (__len__); give a map-style Dataset") from None
    classes = _classes(dataset)
    names = None if classes is None else _stripped(classes, query.path)
    warnings = _unused(query)
    return OpenedSource(
        query.path,
        Path.cwd(),
        lambda: _read_items(dataset, count, names, query, warnings),
        class_names=names,
        is_spooled=True,
        warnings=warnings,
    )


def _classes(dataset: Any) -> Sequence[str] | None:
    """The class names of a Dataset, or of those that it is a part or a concatenation of; None without any."""
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        return classes
    inside = getattr(dataset, "dataset", None)  # of a Subset
    if inside is not None and inside is not dataset:
        return _classes(inside)
    parts = [_classes(part) for part in getattr(dataset, "datasets", None) or ()]  # of a ConcatDataset
    return parts[0] if parts and all(part == parts[0] for part in parts) else None


def _read_arrays(images: np.ndarray, labels: list[str | None], query: Query) -> Iterator[Rows]:
    count = len(images) if query.rows is None else min(len(images), query.rows)
    size = min(BATCH_ROWS, max(1, _BATCH_BYTES // images[:1].size)) if count else 1
    for first in range(0, count, size):
        some = images[first : min(first + size, count)]
        yield _rows([_png(image) for image in some], labels[first : first + len(some)], query.path, first)


def _read_items(
    dataset: Any, count: int, classes: Sequence[str] | None, query: Query, warnings: list[str]
) -> Iterator[Rows]:
    count = count if query.rows is None else min(count, query.rows)
    images: list[_Image] = []
    labels: list[str | None] = []
    bad: list[str] = []
    weight = 0
    for row in range(count):
        image, label, problem = _item(dataset, row, query.path)
        images.append(image)
        text = label_text(label, query.path, row)
        if classes is not None and text is not None:
            text = _class_of(label, text, classes, query.path, row)
        labels.append(text)
        bad += [problem] if problem else []
        weight += len(image[0] or b"")
        if weight >= _BATCH_BYTES or len(images) == BATCH_ROWS or row == count - 1:
            yield _rows(images, labels, query.path, row + 1 - len(images))
            images, labels, weight = [], [], 0
    if not bad:
        return
    if len(bad) == count:
        raise InputError(f"{query.path} holds no image: {bad[0]}; give items of (PIL image, label)")
    warnings.append(f"{query.path}: {len(bad)} items hold no image, the first: {bad[0]}")


# The bytes of an image file, None without one, and the SHA-256 of its pixels.
_Image = tuple[bytes | None, bytes]
_NO_IMAGE: _Image = (None, bytes(32))


def _item(dataset: Any, row: int, path: Path) -> tuple[_Image, Any, str]:
    """Image and label of an item, and what is wrong with its image: nothing, as a rule."""
    try:
        item = dataset[row]
    except Exception as error:  # somebody else's code: any one item may fail
        return _NO_IMAGE, None, f"row {row} raises {_one_line(error)}"
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(
            f"{path}: item {row} is a {type(item).__name__}, no pair; make it (PIL image, label)"
        )
    image, label = item
    if not hasattr(image, "getexif"):
        return _NO_IMAGE, label, f"row {row} has a {type(image).__name__} where a PIL image belongs"
    try:
        return _file(image), label, ""
    except Exception as error:
        return _NO_IMAGE, label, f"the image of row {row} raises {_one_line(error)}"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _class_of(label: Any, text: str, classes: Sequence[str], path: Path, row: int) -> str | None:
    """The class name of a label that is a name or an index; None where it is unlabelled."""
    if isinstance(label, str):
        if not text.strip() or text.strip() in classes:
            return text
    elif text == "-1":
        return None
    elif text.isdecimal() and int(text) < len(classes):
        return classes[int(text)]
    raise InputError(
        f"{path}: row {row} has label {text[:60]!r}, but its `classes` are {len(classes)} names; correct the label,"
        " or the names"
    )


def _rows(images: list[_Image], labels: list[str | None], path: Path, first: int) -> Rows:
    names = [f"row-{row:09d}" for row in range(first, first + len(images))]
    return Rows(
        pa.array(names, pa.string()),
        pa.nulls(len(images), pa.string()),
        strip_labels(strings(labels, path, first)),
        digests=np.frombuffer(b"".join(digest for _, digest in images), np.uint8).reshape(-1, 32),
        images=pa.array([data for data, _ in images], pa.binary()),
    )


def _file(image: Any) -> _Image:
    """A PIL image as an image file, without loss: what it is shown as, its orientation included."""
    image.load()
    turned = image.getexif().get(_ORIENTATION, 1)
    if image.mode in ("L", "RGB", "RGBA") and turned == 1 and "transparency" not in image.info:
        return _png(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    sink = io.BytesIO()
    # The one format that takes every mode; the image may have come from a compressed file and remember it.
    image.save(sink, "TIFF", compression="raw", tiffinfo={_ORIENTATION: turned})
    return sink.getvalue(), hashlib.sha256(sink.getvalue()).digest()


def _png(pixels: np.ndarray) -> _Image:
    """uint8 (H, W) or (H, W, C) as a PNG that is not compressed: it is read once, and soon."""
    # Pillow is imported by none who reads a manifest.
    from labelfix.data.images.decoding import encode

    height, width = pixels.shape[:2]
    pixels = pixels.reshape(height, width, -1)
    channels = pixels.shape[2]
    # The digest is that of the unfiltered lines of a PNG, however the file is written.
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    data = encode(pixels[:, :, 0] if channels == 1 else pixels.transpose(2, 0, 1), compress_level=0)
    return data, hashlib.sha256(header + lines.tobytes()).digest()


def _stripped(classes: Sequence[str], path: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in classes)
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"{path}: the names in `classes` are empty or repeated; correct them")
    return names


def _unused(query: Query) -> list[str]:
    options = {
        "root": query.root, "image_column": query.image_column, "label_column": query.label_column
    }  # fmt: skip
    used = [name for name, value in options.items() if value is not None]
    return [f"{query.path}: {name} is for manifests and ignored" for name in used]
