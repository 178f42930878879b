"""Predictions of a network for the rows of a source, batch by batch; whole arrays of them lie in main memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from labelfix.device_errors import is_too_little_memory
from labelfix.errors import InputError
from labelfix.training.batches import Source, seed_of

_BATCH = 500
# On a processor lite0 at 128 px predicts half as fast again as in batches of 400, in 0.9 GB, not 2.8.
_BATCH_OF_LARGE = 16
# Of a batch on a GPU in float32: 128 images of 224 px, for which ResNet-50 takes 1.3 GB.
_PIXELS = 128 * 224**2
_BLOCK_BYTES = 1 << 26  # of logits that wait on the device for one copy to main memory


@torch.no_grad()
def batch_logits(
    network: nn.Module,
    source: Source,
    rows: np.ndarray,
    *,
    view: str = "plain",
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    most_rows: int = _BATCH,
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Logits of some rows in evaluation mode, batch by batch; the network's mode is put back afterwards.

    On a GPU batches hold as many pixels as fit beside little else, and are halved where that is too many.

    Args:
        network: (B, 3, H, H) to logits (B, K), on the device of the source.
        source: of the images.
        rows: (R,) int64, the rows to predict.
        view: "plain", or "weak" for a random crop and mirror drawn from `seed`.
        seed: of the weak view.
        precision: torch.bfloat16 for automatic mixed precision.
        most_rows: of a batch on a GPU, whatever their pixels.

    Yields:
        Rows (B,) int64 in main memory and their logits (B, K) float32 on the device.
    """
    training = network.training
    network.eval()
    size = _rows_at_once(source, precision, most_rows)
    slices = [rows[k : k + size] for k in range(0, len(rows), size)]
    seeds = (seed_of(seed, k) for k in range(len(slices)))
    try:
        for some, batch in zip(slices, source.batches(slices, (view,), seeds), strict=True):
            with torch.autocast(source.device.type, torch.bfloat16, enabled=precision is torch.bfloat16):
                found, size = forward_in_parts(network, batch.views[0], size)
            yield some, found.float()
    finally:
        network.train(training)


def logits(
    network: nn.Module,
    source: Source,
    rows: np.ndarray,
    *,
    view: str = "plain",
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    most_rows: int = _BATCH,
) -> torch.Tensor:
    """Logits of some rows in evaluation mode, by the arguments of `batch_logits`.

    Returns:
        (N, K) float32 in main memory, N rows of the source; NaN for rows that were not asked for.
    """
    result: torch.Tensor | None = None
    waiting: list[tuple[np.ndarray, torch.Tensor]] = []
    batches = batch_logits(
        network, source, rows, view=view, seed=seed, precision=precision, most_rows=most_rows
    )
    for some, found in batches:
        if result is None:
            result = torch.full((source.num_rows, found.shape[1]), float("nan"))
        waiting.append((some, found))
        # Each copy waits for the device: so few of them, and no array of all rows there.
        if sum(part.nbytes for _, part in waiting) >= _BLOCK_BYTES:
            _collect(waiting, result)
    if result is None:
        raise InputError("there is no valid image to predict")
    _collect(waiting, result)
    return result


def forward_in_parts(network: nn.Module, images: torch.Tensor, size: int) -> tuple[torch.Tensor, int]:
    """What a network says of a batch, with fewer rows at once where the device has too little memory for all.

    Args:
        network: (B, ...) to (B, D), without a gradient.
        images: (B, ...).
        size: rows at once, as far as they fitted before.

    Returns:
        (B, D), and how many rows fitted.

    Raises:
        RuntimeError: as the network, also where there is too little memory for one row.
    """
    while True:
        try:
            parts = [network(part) for part in images.split(size)]
            return parts[0] if len(parts) == 1 else torch.cat(parts), size
        except (RuntimeError, MemoryError) as error:
            if not is_too_little_memory(error) or size == 1:
                raise
        # Here, where the error no longer keeps what the failed pass had made.
        size = -(-min(size, len(images)) // 2)
        if images.device.type == "cuda":
            torch.cuda.empty_cache()


def _rows_at_once(source: Source, precision: torch.dtype, most_rows: int) -> int:
    if source.device.type == "cpu":
        return _BATCH_OF_LARGE if source.has_large_images else _BATCH
    pixels = _PIXELS * (2 if precision is torch.bfloat16 else 1)
    return max(min(pixels // source.num_pixels, most_rows), 1)


def _collect(waiting: list[tuple[np.ndarray, torch.Tensor]], result: torch.Tensor) -> None:
    """Move what waits on the device to its rows of an array in main memory."""
    if waiting:
        rows = torch.from_numpy(np.concatenate([some for some, _ in waiting]))
        result[rows] = torch.cat([found for _, found in waiting]).cpu()
        waiting.clear()
