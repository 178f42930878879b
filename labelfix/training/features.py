"""Features of a frozen encoder: every image goes through it once, in a few views, and never again.

They lie in the cache as float16, by the pixels, the encoder and whatever else their bytes depend on. A build that was
killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from labelfix import processes
from labelfix.atomic_files import flush, write_json
from labelfix.data.array_file import check_space, map_array, reserve
from labelfix.data.cache import FEATURES, cache_errors, cache_folder
from labelfix.data.images.folders import is_ours, locked
from labelfix.data.images.store import ImageStore
from labelfix.errors import InputError
from labelfix.methods.batch import to_device
from labelfix.networks.encoders import feature_shape
from labelfix.training.augmentation import Augmentation
from labelfix.training.predictions import forward_in_parts

_TYPE = np.dtype(np.float16)
_BLOCK = 512  # rows between two notes of how far it is
# A small batch stays in a processor's cache: twice as fast as one of 64 there.
_BATCH = {"cpu": 8}
_BATCH_ON_GPU = 128
_TIMED_BATCHES = 3


class EncodedView(NamedTuple):
    """One way in which an encoder sees a stored image.

    Attributes:
        top: of the square that it sees, as a share of the margin around it.
        left: the same.
        mirrored: left to right.
    """

    top: float
    left: float
    mirrored: bool


PLAIN = EncodedView(0.5, 0.5, mirrored=False)
MIRRORED = EncodedView(0.5, 0.5, mirrored=True)


def encoded_views(*, flip: bool, has_margin: bool) -> tuple[EncodedView, ...]:
    """The views in which images are encoded, first those that a classifier on the encoder sees too.

    Average precision of cross-entropy on 5,096 photographs of clothes (symmetric noise .1, lite0 at 144 px) with 1, 2,
    4 and 6 of them: .863, .869, .884, .884.

    Args:
        flip: whether a mirror image shows the same.
        has_margin: whether images are stored larger than they are seen: then two corners are views too.
    """
    corners = (EncodedView(0, 0, mirrored=False), EncodedView(1, 1, mirrored=flip))
    return (PLAIN, *((MIRRORED,) if flip else ()), *(corners if has_margin else ()))


def map_views(*, flip: bool) -> tuple[EncodedView, ...]:
    """The views of images whose features are kept as maps: the image and, where it shows the same, the mirror image.

    A map takes 9 times the room of a vector, and its places already say how the image would look a little further
    left: no corners.
    """
    return encoded_views(flip=flip, has_margin=False)


class FeatureViews:
    """How the features of a row become a view.

    `plain` is what a classifier sees: the mean of the image and, where it is one of them, the mirror image. `averaged`
    is the mean of all views. Any other is one of them at random. Before maps are averaged that of the mirror image is
    turned back, so that a place is a place of the image.

    Args:
        images: how the encoder sees images.
        centre: (D,) float32, mean of the features over the data set.
        spread: (D,) float32, their standard deviation.
        shape: of the features of a view: (D,), or (D, h, w) of maps.
    """

    def __init__(
        self, images: Augmentation, centre: torch.Tensor, spread: torch.Tensor, shape: tuple[int, ...]
    ) -> None:
        self.images, self.shape = images, shape
        self.mean, self.std = images.mean, images.std
        self.centre, self.spread = centre, spread
        self.held_out = "averaged"
        self._num_plain = 2 if images.flip else 1

    def views(
        self, names: Sequence[str], stored: torch.Tensor, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Views of one batch, in the order of their names.

        Args:
            names: "plain", "averaged", "weak", "strong", "cutout" or a policy's.
            stored: (B, V, D) float16; of maps (B, V, D, h, w).
            generator: on the device.
            rng: unused.

        Returns:
            For each name (B, D, 1, 1) float32; of maps (B, D, h, w).
        """
        views = [self._view(name, stored, generator) for name in names]
        return tuple(view if view.ndim == 4 else view[:, :, None, None] for view in views)

    def _view(self, name: str, stored: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if name in ("plain", "averaged"):
            views = stored[:, : self._num_plain if name == "plain" else None].float()
            if views.ndim == 5 and self._num_plain == 2:
                views[:, 1] = views[:, 1].flip(3)
            return views.mean(dim=1)
        count, num_views = stored.shape[:2]
        chosen = torch.randint(num_views, (count,), generator=generator, device=stored.device)
        return stored[torch.arange(count, device=stored.device), chosen].float()


def open_features(
    store: ImageStore,
    encoder: nn.Module,
    images: Augmentation,
    views: Sequence[EncodedView],
    device: torch.device,
    precision: torch.dtype = torch.float32,
    on_progress: Callable[[int, int], None] | None = None,
    name: str = "the encoder",
) -> np.ndarray:
    """The features of all images, from the cache where they are there.

    Only one scan encodes them at a time; others wait and open the result. The processes of a scan share the rows.

    Args:
        store: the decoded images.
        encoder: (B, 3, H, H) to (B, D), or to maps (B, D, h, w), on the device, in evaluation mode.
        images: how it sees them.
        views: in which they are encoded.
        device: of the encoder.
        precision: torch.bfloat16 for automatic mixed precision.
        on_progress: called with (rows done, rows in all) now and then.
        name: of the encoder, for messages.

    Returns:
        (N, V, D) or (N, V, D, h, w) float16, a read-only map of the file; zeros where a row is not valid.

    Raises:
        InputError: the cache cannot be written, or has no room; the encoder gives neither a vector nor a map, or
            numbers of an image that are not finite.
    """
    folder = cache_folder() / FEATURES
    of_image = feature_shape(encoder, images.image_size)
    if len(of_image) not in (1, 3):
        raise InputError(
            f"the encoder gives {(1, *of_image)} for an image, and not one vector; choose another"
        )
    shape = (len(store.images), len(views), *of_image)
    key = processes.from_first(lambda: _key(store, encoder, images, views, device, precision))
    path = folder / f"{key}.npy"
    if processes.from_first(lambda: _opened(path, shape) is not None):
        return map_array(path, _TYPE, shape)
    # The first process holds the lock for all that share the work.
    with nullcontext() if processes.rank() else locked(path):
        if processes.from_first(lambda: _opened(path, shape) is None):
            _build(path, shape, store, encoder, images, views, device, precision, on_progress, name)
        processes.wait_for_all()
        return map_array(path, _TYPE, shape)


def statistics(features: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float32 of the valid rows (N,) bool, block by block.

    Of vectors, of the `averaged` view; of maps, over all places of the images themselves.
    """
    rows = np.flatnonzero(valid)
    total, squares = np.zeros(features.shape[2]), np.zeros(features.shape[2])
    for first in range(0, len(rows), _BLOCK):
        some = rows[first : first + _BLOCK]
        if features.ndim == 3:
            block = features[some].mean(axis=1, dtype=np.float64)
        else:
            block = np.moveaxis(features[some, 0], 1, -1).astype(np.float64).reshape(-1, features.shape[2])
        total += block.sum(axis=0)
        squares += (block**2).sum(axis=0)
    count = len(rows) * int(np.prod(features.shape[3:]))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), std.astype(np.float32)


def _opened(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    if not (is_ours(path.parent, stat.S_ISDIR) and is_ours(path, stat.S_ISREG)):
        return None
    try:
        return map_array(path, _TYPE, shape)
    except (OSError, ValueError):
        return None


def _key(
    store: ImageStore,
    encoder: nn.Module,
    images: Augmentation,
    views: Sequence[EncodedView],
    device: torch.device,
    precision: torch.dtype,
) -> str:
    """Everything that the bytes depend on, the number of threads included.

    The pixels themselves and no file that they came from: the same images under other labels are encoded once.
    """
    pixels = hashlib.sha256(store.valid.tobytes())
    for first in range(0, len(store.images), _BLOCK):
        pixels.update(np.ascontiguousarray(store.images[first : first + _BLOCK]).data)
    # How it computes, which the names of its tensors do not say: of ONNX encoders onnxruntime knows.
    digest = hashlib.sha256(repr(encoder).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    facts = [
        pixels.hexdigest(),
        digest.hexdigest(),
        images.image_size,
        images.mean,
        images.std,
        [tuple(view) for view in views],
        device.type,
        str(precision),
        torch.__version__,
        torch.get_num_threads(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _build(
    path: Path,
    shape: tuple[int, ...],
    store: ImageStore,
    encoder: nn.Module,
    images: Augmentation,
    views: Sequence[EncodedView],
    device: torch.device,
    precision: torch.dtype,
    on_progress: Callable[[int, int], None] | None,
    name: str,
) -> None:
    """Encode block by block into a file beside the final one, from the block on that a killed build had reached."""
    partial, note = path.with_suffix(".partial"), path.with_suffix(".json")
    rows = np.flatnonzero(store.valid)
    with cache_errors():
        done = processes.from_first(lambda: _begun(path, partial, note, shape))
        target = np.load(partial, mmap_mode="r+")
        while done < len(rows):
            if on_progress is not None:
                on_progress(done, len(rows))
            first = done + processes.rank() * _BLOCK
            block, bad = rows[first : first + _BLOCK], shape[0]
            if len(block):
                found = np.concatenate(
                    list(_encoded(store, block, encoder, images, views, device, precision))
                )
                bad = min((int(row) for row in block[~_is_finite(found)]), default=bad)
                target[block] = found
                target.flush()
            bad = processes.least(bad)  # waits for all
            if bad < shape[0]:
                raise InputError(
                    f"{name}: what it gives for the image of row {bad} is not finite, or too large for 16 bits; leave"
                    " that image out, or take another encoder"
                )
            done = min(done + processes.count() * _BLOCK, len(rows))
            if not processes.rank():
                write_json(note, {"rows_done": done})
        if on_progress is not None:
            on_progress(done, len(rows))
        del target
        if not processes.rank():
            os.replace(partial, path)
            note.unlink(missing_ok=True)
            flush(path.parent)


def _is_finite(found: np.ndarray) -> np.ndarray:
    """(B,) bool: rows of features (B, ...) all of which are finite."""
    return np.asarray(np.isfinite(found).reshape(len(found), -1).all(axis=1))


def _begun(path: Path, partial: Path, note: Path, shape: tuple[int, ...]) -> int:
    """How many rows a killed build has done; where there is none, place is made for a new one."""
    done = _rows_done(partial, note, shape)
    if done is not None:
        return done
    for left in (path, partial, note):
        left.unlink(missing_ok=True)
    check_space(
        int(np.prod(shape)) * _TYPE.itemsize,
        path.parent,
        f"the features of {shape[0]} images",
        "take fewer --rows",
    )
    reserve(partial, _TYPE, shape)
    return 0


def _rows_done(partial: Path, note: Path, shape: tuple[int, ...]) -> int | None:
    """How far a killed build of this very array had come; None where there is none."""
    if not (is_ours(partial, stat.S_ISREG) and is_ours(note, stat.S_ISREG)):
        return None
    with suppress(OSError, ValueError, RecursionError):
        map_array(partial, _TYPE, shape)
        found = json.loads(note.read_text(encoding="utf-8"))
        done = found.get("rows_done") if isinstance(found, dict) else None
        if isinstance(done, int) and 0 <= done <= shape[0]:
            return done
    return None


@torch.inference_mode()
def _encoded(
    store: ImageStore,
    rows: np.ndarray,
    encoder: nn.Module,
    images: Augmentation,
    views: Sequence[EncodedView],
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[np.ndarray]:
    """Features (B, V, D) or (B, V, D, h, w) float16 of some rows, batch by batch."""
    size = _BATCH.get(device.type, _BATCH_ON_GPU)
    for first in range(0, len(rows), size):
        pixels = to_device(store.images[rows[first : first + size]], device)
        squares = (images.normalise(seen(pixels, images.image_size, view)) for view in views)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision is torch.bfloat16):
            found = [forward_in_parts(encoder, square, size)[0] for square in squares]
        yield torch.stack(found, dim=1).half().cpu().numpy()


def bytes_per_image(shape: tuple[int, ...], num_views: int) -> int:
    """What the features of an image take in the cache: `num_views` of this shape."""
    return int(np.prod(shape)) * num_views * _TYPE.itemsize


@torch.inference_mode()
def seconds_per_image(
    encoder: nn.Module, image_size: int, num_views: int, device: torch.device, precision: torch.dtype
) -> float:
    """Seconds to encode one image in all its views, from a few batches of noise."""
    images = torch.randn(_BATCH.get(device.type, _BATCH_ON_GPU), 3, image_size, image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(_TIMED_BATCHES + 1):
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision is torch.bfloat16):
            encoder(images).sum().item()  # waits for the device
        seconds.append(time.monotonic() - started)
    return float(np.median(seconds[1:])) * num_views / len(images)


def seen(pixels: torch.Tensor, size: int, view: EncodedView) -> torch.Tensor:
    """What a view shows of stored squares: (B, 3, S, S) to (B, 3, size, size)."""
    margin = pixels.shape[-1] - size
    top, left = int(margin * view.top), int(margin * view.left)
    square = pixels[:, :, top : top + size, left : left + size]
    return square.flip(3) if view.mirrored else square
