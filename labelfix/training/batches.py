"""From stored images, or their features, to batches of views on the device: order and residence, not meaning."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from labelfix.methods.batch import Batch, to_device

_RESIDENT_SHARE = 0.5
_LARGE_ABOVE = 64  # pixels


def seed_of(*parts: int) -> int:
    """One 63-bit seed from whole numbers >= 0 (seed, phase, epoch, step): the same parts, the same seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def even_slices(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut a permutation (N,) into max(1, min(ceil(N / B), N // 2)) nearly equal slices; nothing is dropped."""
    count = max(1, min(-(-len(order) // batch_size), len(order) // 2))
    return np.array_split(order, count)


class Views(Protocol):
    """How what is stored becomes views.

    Attributes:
        mean: per channel, of pixel values in 0..1.
        std: per channel, of pixel values in 0..1.
        held_out: name of the view that rows are predicted by which a network never saw.
    """

    held_out: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def views(
        self, names: Sequence[str], stored: torch.Tensor, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Views (B, C, H, H) float32 of a batch (B, ...), in the order of their names."""


class Source:
    """Stored rows as batches; resident on the device when they fit, else streamed from the disk map.

    Args:
        stored: (N, ...), the decoded images (N, 3, S, S) uint8 or their features (N, V, D) float16.
        augmentation: how they become views, on the device of the batches.
        device: where batches live.
        resident: None to decide by the free memory of the device.
    """

    def __init__(
        self,
        stored: np.ndarray,
        augmentation: Views,
        device: torch.device,
        resident: bool | None = None,
    ) -> None:
        self.augmentation = augmentation
        self.device = device
        self.num_rows = len(stored)
        self._stored = stored
        self.resident = _fits(stored.nbytes, device) if resident is None else resident
        self._on_device = torch.from_numpy(np.array(stored)).to(device) if self.resident else None
        self._generator = torch.Generator(device)

    @property
    def has_large_images(self) -> bool:
        """Whether rows are images of more than 64 px."""
        return self._stored.ndim == 4 and self._stored.shape[3] > _LARGE_ABOVE

    @property
    def num_pixels(self) -> int:
        """Of a stored image; 1 for features."""
        return self._stored.shape[2] * self._stored.shape[3] if self._stored.ndim == 4 else 1

    def batches(
        self, slices: Iterable[np.ndarray], views: tuple[str, ...], seeds: Iterable[int]
    ) -> Iterator[Batch]:
        """One batch per slice of rows, its random draws seeded by the matching entry of `seeds`."""
        for (rows, stored), seed in zip(self._loaded(slices), seeds, strict=False):
            self._generator.manual_seed(seed)
            rng = np.random.default_rng(seed)
            made = self.augmentation.views(views, stored, self._generator, rng)
            yield Batch(rows, made, rng)

    def _loaded(self, slices: Iterable[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self._on_device is not None:
            for rows in slices:
                index = to_device(rows, self.device)
                yield index, self._on_device[index]
            return
        # One slice ahead: the disk is read while the device computes.
        with ThreadPoolExecutor(1) as reader:
            waiting: deque[tuple[np.ndarray, Future[torch.Tensor]]] = deque()
            for rows in slices:
                waiting.append((rows, reader.submit(self._read, rows)))
                if len(waiting) > 1:
                    yield self._arrived(*waiting.popleft())
            while waiting:
                yield self._arrived(*waiting.popleft())

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._stored[rows])

    def _arrived(self, rows: np.ndarray, stored: Future[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return to_device(rows, self.device), to_device(stored.result(), self.device)


def _fits(num_bytes: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return num_bytes < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    return num_bytes < _RESIDENT_SHARE * _free_memory()


def _free_memory() -> int:
    """Bytes of main memory that can be had without swapping; a cautious 2 GB where the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 2 << 30
    return 2 << 30
