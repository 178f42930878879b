"""Rows of an array that lies on the disk, read where they are needed: several at a time, and only they.

A mapped file would do as well where it fits into memory. Where it does not, each row in turn would be waited for, by
all threads of Python, and with it the system would read many times as much as the row has. Of 1 GB of rows of 12 kB
that were not in memory, in batches of 128 drawn at random, 7,000 a second came through the map and 16,000 to 36,000
through eight readers.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from labelfix.errors import LabelfixError

_READERS = 8


class StoredRows:
    """Rows (N, ...) of any type, in memory or mapped from a file."""

    def __init__(self, stored: np.ndarray) -> None:
        self._stored = stored
        self._first_byte = _first_byte(stored)
        self._name = getattr(stored, "filename", None) or ""
        self._file: int | None = None
        self._readers: ThreadPoolExecutor | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, rows are read past the map, where there is one and the system can do it."""
        if self._first_byte is None or not hasattr(os, "preadv"):
            yield
            return
        try:
            self._file = os.open(self._name, os.O_RDONLY)
        except OSError:  # removed or renamed; its map holds it still
            yield
            return
        try:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
            with ThreadPoolExecutor(_READERS) as self._readers:
                yield
        finally:
            os.close(self._file)
            self._file = self._readers = None

    def read(self, rows: np.ndarray, *, pinned: bool) -> torch.Tensor:
        """The rows (B, ...), in pinned memory or not.

        Args:
            rows: (B,) int64.
            pinned: whether a GPU is to take them from there.

        Raises:
            LabelfixError: the file has become shorter.
        """
        if self._file is None or self._readers is None:
            values = torch.from_numpy(self._stored[rows])
            return values.pin_memory() if pinned else values
        kind = torch.from_numpy(np.empty(0, self._stored.dtype)).dtype
        found = torch.empty((len(rows), *self._stored.shape[1:]), dtype=kind)
        if pinned:
            found = found.pin_memory()
        # In the order of the file, so that each reader has its part of it.
        parts = np.array_split(np.argsort(rows, kind="stable"), _READERS)
        for _ in self._readers.map(lambda places: self._fill(found.numpy(), rows, places), parts):
            pass
        return found

    def _fill(self, target: np.ndarray, rows: np.ndarray, places: np.ndarray) -> None:
        """Read those rows that come to some places (n,) of the target; what lies together on both sides at once."""
        apart = np.flatnonzero((np.diff(rows[places]) != 1) | (np.diff(places) != 1)) + 1
        assert self._first_byte is not None
        row_bytes = self._stored[:1].nbytes
        for run in np.split(places, apart) if len(places) else []:
            first = self._first_byte + int(rows[run[0]]) * row_bytes
            self._fill_from(target[run[0] : run[0] + len(run)].reshape(-1).view(np.uint8), first)

    def _fill_from(self, target: np.ndarray, first: int) -> None:
        """Read the bytes of the file from `first` on."""
        assert self._file is not None
        done = 0
        while done < len(target):
            count = os.preadv(self._file, [target.data[done:]], first + done)
            if not count:
                raise LabelfixError(
                    f"{self._name} became shorter while it was read; give the same command again"
                )
            done += count


def _first_byte(stored: np.ndarray) -> int | None:
    """The byte of its file at which a mapped array begins; None for one that is no piece of a file."""
    if not (isinstance(stored, np.memmap) and stored.filename and stored.flags.c_contiguous):
        return None
    pages: Any = stored._mmap  # type: ignore[attr-defined]
    # A part of an array keeps the offset of the whole; the map begins at a whole page.
    begun = stored.offset - stored.offset % mmap.ALLOCATIONGRANULARITY
    return begun + stored.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data
