"""From stored images, or their features, to batches of views on the device: order and residence, not meaning."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from labelfix.main_memory import free_memory
from labelfix.methods.batch import Batch, to_device
from labelfix.training.shards import Shard
from labelfix.training.stored_rows import StoredRows

_RESIDENT_SHARE = 0.5
_SLICE_BYTES = 1 << 26
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
        stored: (N, ...), the decoded images (N, 3, S, S) uint8 or their features (N, V, D)
            float16, as maps (N, V, D, h, w).
        augmentation: how they become views, on the device of the batches.
        device: where batches live.
        resident: None to decide by the free memory.
        beside: another source that has its place already: both together must leave room for the training.
        shard: the rows of this process, whose batches it gives, counted from 0; None for all rows.
    """

    def __init__(
        self,
        stored: np.ndarray,
        augmentation: Views,
        device: torch.device,
        resident: bool | None = None,
        beside: Source | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.augmentation = augmentation
        self.device = device
        self.shard = shard
        self._rows = None if shard is None else shard.rows
        self.num_rows = len(stored) if self._rows is None else len(self._rows)
        self._stored = stored
        self._on_disk = StoredRows(stored)
        taken = 0 if beside is None else beside.resident_bytes
        # The processes of a machine share its memory, but each has a GPU of its own.
        held = stored[:1].nbytes * self.num_rows if device.type == "cuda" else stored.nbytes
        self.resident = _fits(held, taken, device) if resident is None else resident
        self.resident_bytes: int = taken + (held if self.resident else 0)
        self._on_device = _moved(stored, device, self._rows) if self.resident else None
        self._generator = torch.Generator(device)

    def of_all_rows(self) -> Source:
        """The same images, those of all processes, and none of them on the device."""
        return Source(self._stored, self.augmentation, self.device, resident=False)

    @property
    def has_large_images(self) -> bool:
        """Whether rows are images of more than 64 px."""
        return self._stored.ndim == 4 and self._stored.shape[3] > _LARGE_ABOVE

    @property
    def features(self) -> Callable[[slice | np.ndarray], np.ndarray] | None:
        """What gives the features (n, D) float32 of some rows, the mean over their views and places; None of images."""
        stored = self._stored
        if stored.ndim == 4:
            return None
        # Of maps also the mean over all places.
        others = (1, *range(3, stored.ndim))
        return lambda rows: stored[rows].mean(axis=others, dtype=np.float32)

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
        # Two slices ahead: the disk is read while the device computes.
        with self._on_disk.opened() as opened, ThreadPoolExecutor(1) as reader:
            waiting: deque[tuple[np.ndarray, Future[torch.Tensor]]] = deque()
            for rows in slices:
                waiting.append((rows, reader.submit(self._read, opened, rows)))
                if len(waiting) > 2:
                    yield self._arrived(*waiting.popleft())
            while waiting:
                yield self._arrived(*waiting.popleft())

    def _read(self, opened: StoredRows, rows: np.ndarray) -> torch.Tensor:
        chosen = rows if self._rows is None else self._rows[rows]
        # Pinned here, where nothing waits for it.
        return opened.read(chosen, pinned=self.device.type == "cuda")

    def _arrived(self, rows: np.ndarray, stored: Future[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return to_device(rows, self.device), to_device(stored.result(), self.device)


def _fits(num_bytes: int, taken: int, device: torch.device) -> bool:
    """Whether there is room for so many bytes beside those that are taken, in half of what was free before both."""
    return free_memory() > _SLICE_BYTES and num_bytes + taken < _RESIDENT_SHARE * (_free_on(device) + taken)


def _free_on(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return free_memory()


def _moved(stored: np.ndarray, device: torch.device, chosen: np.ndarray | None) -> torch.Tensor:
    """A copy of the chosen rows (n,) int64, None for all, on the device, slice by slice.

    Of the main memory it takes a slice, and on the CPU the copy.
    """
    rows = max(_SLICE_BYTES // max(stored[:1].nbytes, 1), 1)
    kind = torch.from_numpy(np.empty(0, stored.dtype)).dtype
    count = len(stored) if chosen is None else len(chosen)
    copy = torch.empty((count, *stored.shape[1:]), dtype=kind, device=device)
    for first in range(0, count, rows):
        part = slice(first, first + rows)
        copy[part] = torch.from_numpy(np.array(stored[part if chosen is None else chosen[part]]))
        _let_go(stored)
    return copy


def _let_go(stored: np.ndarray) -> None:
    """Give back the main memory that looking at a mapped file has taken; what is looked at again is read again."""
    pages = getattr(stored, "_mmap", None)
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)
