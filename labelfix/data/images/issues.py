"""What is wrong with images by their looks alone: empty, dark, blown out, far smaller than the others, blurred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from labelfix.data.images.store import ImageStore

ISSUES = ("near-constant", "dark", "bright", "tiny", "blurred")
_CONSTANT_BELOW = 2.0  # standard deviation of every channel, in grey levels
_DARK_BELOW, _BRIGHT_ABOVE = 40.0, 225.0  # grey levels that all but a few pixels lie under, or over
_TINY_SHARE = 0.25  # of the median shorter side of the data set
# Of photographs of 165 px that were blurred by a Gaussian of 3 px 90 of 100 are found, of 2,100 as they were none.
_BLURRED_BELOW = -3.5  # spreads from the median of the log of the sharpness
_LEAST_SPREAD = 0.3  # however alike the images are: blurred means a third of the detail at most
_BLURRED_FROM_SIDE = 32  # pixels: a smaller image has no detail that could be lost
_LEAST_ROWS = 100
_STEP = 4  # of all pixels a sixteenth says how light an image is
_BLOCK_BYTES = 16 << 20


def image_issues(store: ImageStore) -> np.ndarray:
    """The first of `ISSUES` that each image has.

    Near-constant: no channel varies by more than two grey levels. Dark, bright: nearly all of it is (mean and twice the
    standard deviation). Tiny: a quarter of the median shorter side of the data set. Blurred: of far less fine detail
    than the images of the data set have, from 100 images of 32 px on.

    Returns:
        (N,) int64 places in `ISSUES`, -1 for none, and where a row is not valid.
    """
    rows = np.flatnonzero(store.valid)
    found = np.full(len(store.valid), -1)
    if not len(rows) or store.facts is None:
        return found
    looks = np.concatenate([_looks(store.images[some]) for some in _blocks(rows, store.images[:1].nbytes)])
    varies, mean, spread, detail = looks.T
    shorter = np.minimum(store.facts["width"], store.facts["height"])[rows].astype(np.float64)
    has = (
        varies < _CONSTANT_BELOW,
        mean + 2 * spread < _DARK_BELOW,
        mean - 2 * spread > _BRIGHT_ABOVE,
        shorter < _TINY_SHARE * np.median(shorter),
        _is_blurred(detail, varies >= _CONSTANT_BELOW, store.stored_size),
    )
    found[rows] = np.where(np.any(has, axis=0), np.argmax(has, axis=0), -1)
    return found


def _blocks(rows: np.ndarray, bytes_of_one: int) -> list[np.ndarray]:
    return np.array_split(rows, max(1, len(rows) * bytes_of_one // _BLOCK_BYTES))


def _looks(images: np.ndarray) -> np.ndarray:
    """(B, 4): the largest deviation of a channel, mean and deviation of the grey levels, and the fine detail."""
    some = images[:, :, ::_STEP, ::_STEP] if images.shape[-1] >= _BLURRED_FROM_SIDE else images
    grey = some.mean(axis=1, dtype=np.float32)
    varies = some.std(axis=(2, 3), dtype=np.float32).max(axis=1)
    green = images[:, 1].astype(np.int16)  # where cameras see most detail
    around = green[:, :-2, 1:-1] + green[:, 2:, 1:-1] + green[:, 1:-1, :-2] + green[:, 1:-1, 2:]
    change = np.abs(4 * green[:, 1:-1, 1:-1] - around)
    detail = change.mean(axis=(1, 2), dtype=np.float32) if change.size else np.zeros(len(images))
    return np.stack([varies, grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), detail], axis=1)


def _is_blurred(detail: np.ndarray, counts: np.ndarray, side: int) -> np.ndarray:
    """(R,) bool, by the detail (R,) of each image beside that of all which `counts` (R,) bool."""
    if side < _BLURRED_FROM_SIDE or counts.sum() < _LEAST_ROWS:
        return np.zeros(len(detail), dtype=bool)
    logs = np.log(detail + 0.1)
    middle, high = np.quantile(logs[counts], [0.5, 0.9])
    # The sharper half says how much images differ: blurred ones are in the other.
    spread = max(float(high - middle) / 1.2816, _LEAST_SPREAD)
    return counts & (logs - middle < _BLURRED_BELOW * spread)
