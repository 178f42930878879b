"""From the image store to batches of views on the device: order and residence, not meaning."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from labelfix.store import ImageStore
from labelfix.transfer import to_device
from labelfix.views import Augmentation

_RESIDENT_SHARE = 0.5


@dataclass(frozen=True)
class Labels:
    """All that a method may know of the labels.

    Attributes:
        given: (N,) int64 on the device, -1 for rows that are not trained on.
        class_prior: (K,) float32 on the device, frequencies of the given labels with add-one smoothing.
        trusted: (N,) int64 in main memory, verified labels for methods that learn from them apart, -1 elsewhere.
    """

    given: torch.Tensor
    class_prior: torch.Tensor
    trusted: np.ndarray

    @classmethod
    def of(
        cls, given: np.ndarray, num_classes: int, device: torch.device, trusted: np.ndarray | None = None
    ) -> Labels:
        """From given labels (N,) int64 with -1 for rows that are not trained on, and trusted ones, default none."""
        counts = np.bincount(given[given >= 0], minlength=num_classes) + 1.0
        prior = torch.tensor(counts / counts.sum(), dtype=torch.float32, device=device)
        return cls(
            torch.tensor(given, device=device), prior, np.full_like(given, -1) if trusted is None else trusted
        )

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_prior)

    def prior(self, kind: str) -> torch.Tensor:
        """(K,) float32 class frequencies to hold to: `empirical`, those of the given labels, or `uniform`."""
        if kind == "uniform":
            return torch.full_like(self.class_prior, 1 / self.num_classes)
        return self.class_prior


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Attributes:
        rows: (B,) int64 on the device, indices into every per-row array.
        views: the requested views, each (B, 3, H, H) float32 on the device.
        rng: host generator of this step, for the draws of a method (mixup).
        trusted: the batch of trusted rows that goes with it, weak views; None for methods without.
    """

    rows: torch.Tensor
    views: tuple[torch.Tensor, ...]
    rng: np.random.Generator
    trusted: Batch | None = None


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
    """Bytes of main memory that can be had without swapping; a cautious 2 GB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 2 << 30
    return 2 << 30
