"""From the image store to batches of views on the device: order and residence, not meaning."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from labelfix.data.images.store import ImageStore
from labelfix.methods.batch import Batch, to_device
from labelfix.training.augmentation import Augmentation

_RESIDENT_SHARE = 0.5


def seed_of(*parts: int) -> int:
    """One 63-bit seed from whole numbers >= 0 (seed, phase, epoch, step): the same parts, the same seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def even_slices(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut a permutation (N,) into max(1, min(ceil(N / B), N // 2)) nearly equal slices; nothing is dropped."""
    count = max(1, min(-(-len(order) // batch_size), len(order) // 2))
    return np.array_split(order, count)


class Source:
    """Images of a store as batches; resident on the device when they fit, else streamed from the disk map.

    Args:
        store: the decoded images.
        augmentation: how they become views, on the device of the batches.
        device: where batches live.
        resident: None to decide by the free memory of the device.
    """

    def __init__(
        self,
        store: ImageStore,
        augmentation: Augmentation,
        device: torch.device,
        resident: bool | None = None,
    ) -> None:
        self.augmentation = augmentation
        self.device = device
        self.num_rows = len(store.images)
        self._images = store.images
        self.resident = _fits(store.images.nbytes, device) if resident is None else resident
        self._pixels = torch.from_numpy(np.array(store.images)).to(device) if self.resident else None
        self._generator = torch.Generator(device)

    def batches(
        self, slices: Iterable[np.ndarray], views: tuple[str, ...], seeds: Iterable[int]
    ) -> Iterator[Batch]:
        """One batch per slice of rows, its random draws seeded by the matching entry of `seeds`."""
        for (rows, pixels), seed in zip(self._loaded(slices), seeds, strict=False):
            self._generator.manual_seed(seed)
            rng = np.random.default_rng(seed)
            made = self.augmentation.views(views, pixels, self._generator, rng)
            yield Batch(rows, made, rng)

    def _loaded(self, slices: Iterable[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self._pixels is not None:
            for rows in slices:
                index = to_device(rows, self.device)
                yield index, self._pixels[index]
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
        return torch.from_numpy(self._images[rows])

    def _arrived(self, rows: np.ndarray, pixels: Future[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return to_device(rows, self.device), to_device(pixels.result(), self.device)


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
